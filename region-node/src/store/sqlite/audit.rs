//! Statements on the chain of audit records.

use rusqlite::{Connection, Row};
use shared::{TenantId, Timestamp};

use super::connection::{all, execute, first};
use super::tenants;
use crate::store::StoreError;
use crate::store::audit::{AuditHead, AuditKind, AuditNote, AuditRange, AuditRecord, Author, link};

/// Records that one step of a pruning removes at most.
const PRUNED_AT_ONCE: i64 = 500;

/// How a chain ends, for whoever is about to add to it.
pub(super) struct ChainEnd {
    /// The tenant's number in the file.
    pub(super) key: i64,
    pub(super) tenant: TenantId,
    pub(super) number: i64,
    pub(super) hash: Vec<u8>,
}

/// Adds a record. Who calls is in the transaction that read the end.
pub(super) fn chain(
    connection: &Connection,
    end: &ChainEnd,
    at: Timestamp,
    kind: AuditKind,
    by: &Author,
    subject: &str,
    names: &str,
) -> Result<(), StoreError> {
    let number = end.number + 1;
    let parts = [kind.as_str(), &by.actor, &by.request, subject, names];
    let hash = link(&end.hash, &end.tenant, number, at, parts);
    execute(
        connection,
        "UPDATE tenant SET audit_number = ?2, audit_hash = ?3 WHERE tenant = ?1",
        (end.key, number, hash.as_slice()),
    )?;
    let record = AuditRecord {
        number,
        at,
        kind: kind.as_str().to_owned(),
        actor: by.actor.clone(),
        request: by.request.clone(),
        subject: subject.to_owned(),
        names: names.to_owned(),
        hash: hash.to_vec(),
    };
    insert(connection, end.key, &record)
}

/// Writes a record as it is, of a backup or of the chain's own making.
pub(super) fn insert(
    connection: &Connection,
    key: i64,
    record: &AuditRecord,
) -> Result<(), StoreError> {
    execute(
        connection,
        "INSERT INTO audit (tenant, number, at, kind, actor, request, subject, names, hash)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        (
            key,
            record.number,
            record.at.as_millis(),
            &record.kind,
            &record.actor,
            &record.request,
            &record.subject,
            &record.names,
            &record.hash,
        ),
    )?;
    Ok(())
}

/// Records something that is no write to a resource.
pub(super) fn note(
    connection: &Connection,
    key: i64,
    at: Timestamp,
    note: &AuditNote,
) -> Result<(), StoreError> {
    let end = first(
        connection,
        "SELECT id, audit_number, audit_hash FROM tenant WHERE tenant = ?1",
        [key],
        |row| {
            Ok(ChainEnd {
                key,
                tenant: tenants::read_id(row, 0)?,
                number: row.get(1)?,
                hash: row.get(2)?,
            })
        },
    )?
    .ok_or(StoreError::NotFound)?;
    let names = note.names_json()?;
    chain(
        connection,
        &end,
        at,
        note.kind,
        &note.by,
        &note.subject,
        &names,
    )
}

/// Records several things of a tenant.
pub(super) fn note_all(
    connection: &Connection,
    tenant: &TenantId,
    at: Timestamp,
    notes: &[AuditNote],
) -> Result<(), StoreError> {
    let key = tenants::key(connection, tenant)?.ok_or(StoreError::NotFound)?;
    notes
        .iter()
        .try_for_each(|it| note(connection, key, at, it))
}

pub(super) fn head(connection: &Connection, key: i64) -> Result<AuditHead, StoreError> {
    let head = first(
        connection,
        "SELECT audit_number, audit_hash, audit_base_number, audit_base_hash
         FROM tenant WHERE tenant = ?1",
        [key],
        |row| {
            Ok(AuditHead {
                number: row.get(0)?,
                hash: row.get(1)?,
                base_number: row.get(2)?,
                base_hash: row.get(3)?,
            })
        },
    )?;
    head.ok_or(StoreError::NotFound)
}

/// Says how the chain of a tenant begins and ends that a restore brings in.
pub(super) fn set_head(
    connection: &Connection,
    key: i64,
    head: &AuditHead,
) -> Result<(), StoreError> {
    execute(
        connection,
        "UPDATE tenant SET audit_number = ?2, audit_hash = ?3, audit_base_number = ?4,
                audit_base_hash = ?5
         WHERE tenant = ?1",
        (
            key,
            head.number,
            &head.hash,
            head.base_number,
            &head.base_hash,
        ),
    )?;
    Ok(())
}

/// Some records, and how the chain ends in the same snapshot.
pub(super) fn list(
    connection: &Connection,
    tenant: &TenantId,
    range: AuditRange,
    limit: u32,
) -> Result<(AuditHead, Vec<AuditRecord>), StoreError> {
    let key = tenants::key(connection, tenant)?.ok_or(StoreError::NotFound)?;
    let records = match range {
        AuditRange::Behind(number) => behind(connection, key, number, limit)?,
        AuditRange::Before(number) => all(
            connection,
            "SELECT number, at, kind, actor, request, subject, names, hash FROM audit
             WHERE tenant = ?1 AND number < ?2 ORDER BY number DESC LIMIT ?3",
            (key, number, limit),
            read,
        )?,
    };
    Ok((head(connection, key)?, records))
}

/// Records behind a number, oldest first.
pub(super) fn behind(
    connection: &Connection,
    key: i64,
    number: i64,
    limit: u32,
) -> Result<Vec<AuditRecord>, StoreError> {
    all(
        connection,
        "SELECT number, at, kind, actor, request, subject, names, hash FROM audit
         WHERE tenant = ?1 AND number > ?2 ORDER BY number LIMIT ?3",
        (key, number, limit),
        read,
    )
}

fn read(row: &Row<'_>) -> Result<AuditRecord, StoreError> {
    Ok(AuditRecord {
        number: row.get(0)?,
        at: Timestamp(row.get(1)?),
        kind: row.get(2)?,
        actor: row.get(3)?,
        request: row.get(4)?,
        subject: row.get(5)?,
        names: row.get(6)?,
        hash: row.get(7)?,
    })
}

/// Removes some of the oldest records, all of them from before a time, and records that; answers
/// whether these were the last. The newest record always stays.
pub(super) fn prune(
    connection: &Connection,
    tenant: &TenantId,
    since: Timestamp,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let Some(key) = tenants::key(connection, tenant)? else {
        return Ok(true);
    };
    let head = head(connection, key)?;
    // Up to the first that is to be kept: a clock that went back keeps more, never less.
    let end = head
        .base_number
        .saturating_add(PRUNED_AT_ONCE)
        .min(head.number - 1);
    let kept = first(
        connection,
        "SELECT number FROM audit
         WHERE tenant = ?1 AND number > ?2 AND number <= ?3 AND at >= ?4 ORDER BY number LIMIT 1",
        (key, head.base_number, end, since.as_millis()),
        |row| Ok(row.get::<_, i64>(0)?),
    )?;
    let last = kept.map_or(end, |kept| kept - 1);
    if last <= head.base_number {
        return Ok(true);
    }
    let hash: Vec<u8> = first(
        connection,
        "SELECT hash FROM audit WHERE tenant = ?1 AND number = ?2",
        (key, last),
        |row| Ok(row.get(0)?),
    )?
    // One that somebody removed: pruning must not hide it.
    .ok_or(StoreError::Corrupt("an audit record is missing"))?;
    execute(
        connection,
        "DELETE FROM audit WHERE tenant = ?1 AND number <= ?2",
        (key, last),
    )?;
    execute(
        connection,
        "UPDATE tenant SET audit_base_number = ?2, audit_base_hash = ?3 WHERE tenant = ?1",
        (key, last, &hash),
    )?;
    note(connection, key, now, &AuditNote::pruned(last, &hash))?;
    Ok(kept.is_some() || last - head.base_number < PRUNED_AT_ONCE)
}

/// Gives a restored tenant the chain that the region has of it, in place of what the backup has: a
/// chain never goes back in time.
pub(super) fn outlive_restore(
    connection: &Connection,
    present: i64,
    staged: i64,
) -> Result<(), StoreError> {
    execute(connection, "DELETE FROM audit WHERE tenant = ?1", [staged])?;
    execute(
        connection,
        "UPDATE audit SET tenant = ?2 WHERE tenant = ?1",
        (present, staged),
    )?;
    set_head(connection, staged, &head(connection, present)?)
}
