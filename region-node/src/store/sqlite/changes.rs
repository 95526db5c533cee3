//! Statements on the change feed and on the outcomes of requests.

use rusqlite::{Connection, Row};
use shared::{TenantId, Timestamp};

use super::audit;
use super::connection::{all, execute, first};
use super::tenants::{self, Head};
use crate::scim::{ResourceId, Version};
use crate::store::audit::subject_of;
use crate::store::backup::{ChangeRow, OutcomeRow};
use crate::store::position::kind_of;
use crate::store::{
    Access, Change, ChangeKind, KeyOrigin, MOST_HISTORY, Outcome, Position, RequestKey, Retention,
    StoreError, WriteContext,
};

/// Rows of each kind that one step of a pruning looks at.
const PRUNED_AT_ONCE: i64 = 500;

/// What a write did to the resource that it is about.
pub(super) struct Deed<'d> {
    pub(super) what: ChangeKind,
    pub(super) position: i64,
    pub(super) id: ResourceId,
    /// Names of the attributes that changed.
    pub(super) attributes: &'d [&'d str],
    /// Whether a user is active after it.
    pub(super) active: Option<bool>,
}

/// Writes what a request did into the change feed, as its outcome, and as an audit record.
pub(super) fn record(
    connection: &Connection,
    head: &Head,
    write: &WriteContext,
    deed: &Deed<'_>,
) -> Result<(), StoreError> {
    if let Some(key) = write.request {
        keep_outcome(connection, head, write.now, key, deed)?;
    }
    let attributes = names_json(deed.attributes)?;
    insert_change(connection, head.key, head.seq, write.now, deed, &attributes)?;
    let subject = subject_of(kind_of(deed.position), deed.id);
    let (end, kind) = (&head.chain, deed.what.into());
    audit::chain(
        connection,
        end,
        write.now,
        kind,
        &write.by,
        &subject,
        &attributes,
    )
}

fn names_json(names: &[&str]) -> Result<String, StoreError> {
    serde_json::to_string(names)
        .map_err(|_| StoreError::Corrupt("names that cannot be written as JSON"))
}

fn insert_change(
    connection: &Connection,
    tenant: i64,
    seq: i64,
    at: Timestamp,
    deed: &Deed<'_>,
    attributes: &str,
) -> Result<(), StoreError> {
    execute(
        connection,
        "INSERT INTO change (tenant, seq, position, id, what, at, attributes, active)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        (
            tenant,
            seq,
            deed.position,
            deed.id.as_bytes(),
            deed.what.as_str(),
            at.as_millis(),
            attributes,
            deed.active,
        ),
    )?;
    Ok(())
}

fn keep_outcome(
    connection: &Connection,
    head: &Head,
    now: Timestamp,
    key: RequestKey,
    deed: &Deed<'_>,
) -> Result<(), StoreError> {
    let rows = execute(
        connection,
        "INSERT OR IGNORE INTO idempotency
            (tenant, origin, key, fingerprint, what, position, id, version, at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        (
            head.key,
            origin_number(key.origin),
            key.key,
            key.fingerprint,
            deed.what.as_str(),
            deed.position,
            deed.id.as_bytes(),
            head.seq,
            now.as_millis(),
        ),
    )?;
    if rows > 0 {
        return Ok(());
    }
    Err(match find_outcome(connection, head.key, key)? {
        Some(outcome) => StoreError::Repeated(outcome),
        None => StoreError::Corrupt("an outcome vanished"),
    })
}

/// What came of a request, if the access still holds.
pub(super) fn outcome(
    connection: &Connection,
    access: &Access,
    key: RequestKey,
) -> Result<Option<Outcome>, StoreError> {
    let tenant = tenants::held(connection, access)?.key;
    find_outcome(connection, tenant, key)
}

fn find_outcome(
    connection: &Connection,
    tenant: i64,
    key: RequestKey,
) -> Result<Option<Outcome>, StoreError> {
    first(
        connection,
        "SELECT fingerprint, what, position, id, version, at FROM idempotency
         WHERE tenant = ?1 AND origin = ?2 AND key = ?3",
        (tenant, origin_number(key.origin), key.key),
        |row| {
            if row.get::<_, Option<[u8; 8]>>(0)? != key.fingerprint {
                return Err(StoreError::KeyReused);
            }
            Ok(Outcome {
                what: what(row, 1)?,
                kind: kind_of(row.get(2)?),
                id: ResourceId::from_stored(row.get(3)?),
                position: Position(row.get(2)?),
                version: Version(row.get(4)?),
                at: Timestamp(row.get(5)?),
            })
        },
    )
}

/// Writes a change that a backup holds.
pub(super) fn insert(
    connection: &Connection,
    tenant: i64,
    position: i64,
    row: &ChangeRow,
) -> Result<(), StoreError> {
    let names: Vec<&str> = row.attributes.iter().map(String::as_str).collect();
    let deed = Deed {
        what: row.what,
        position,
        id: row.id,
        attributes: &names,
        active: row.active,
    };
    insert_change(
        connection,
        tenant,
        row.seq,
        row.at,
        &deed,
        &names_json(&names)?,
    )
}

/// Writes an outcome that a backup holds.
pub(super) fn insert_outcome(
    connection: &Connection,
    tenant: i64,
    position: i64,
    row: &OutcomeRow,
) -> Result<(), StoreError> {
    execute(
        connection,
        "INSERT INTO idempotency
            (tenant, origin, key, fingerprint, what, position, id, version, at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        (
            tenant,
            origin_number(row.origin),
            row.key,
            row.fingerprint,
            row.what.as_str(),
            position,
            row.id.as_bytes(),
            row.version,
            row.at.as_millis(),
        ),
    )?;
    Ok(())
}

pub(super) fn what(row: &Row<'_>, at: usize) -> Result<ChangeKind, StoreError> {
    let name = row.get_ref(at)?.as_str().unwrap_or_default();
    ChangeKind::from_stored(name).ok_or(StoreError::Corrupt("a change of an unknown kind"))
}

fn origin_number(origin: KeyOrigin) -> i64 {
    match origin {
        KeyOrigin::Gateway => 0,
        KeyOrigin::Client => 1,
    }
}

/// The groups that hold a resource lose it as a member with this write: they move to its version.
pub(super) fn record_lost_member(
    connection: &Connection,
    head: &Head,
    now: Timestamp,
    member: i64,
) -> Result<(), StoreError> {
    execute(
        connection,
        "INSERT INTO change (tenant, seq, position, id, what, at, attributes)
         SELECT ?1, ?2, g.position, g.id, 'changed', ?3, '[\"members\"]'
         FROM member m JOIN resource g ON g.position = m.group_position
         WHERE m.member_position = ?4 AND m.group_position <> ?4",
        (head.key, head.seq, now.as_millis(), member),
    )?;
    Ok(())
}

/// The changes behind a write, in commit order.
pub(super) fn list(
    connection: &Connection,
    tenant: &TenantId,
    after: i64,
    limit: u32,
) -> Result<Vec<Change>, StoreError> {
    let tenant = tenants::key(connection, tenant)?.ok_or(StoreError::NotFound)?;
    // Up to the end of the write that the last row of the run belongs to.
    let last = first(
        connection,
        "SELECT seq FROM change WHERE tenant = ?1 AND seq > ?2
         ORDER BY seq, position LIMIT 1 OFFSET ?3",
        (tenant, after, i64::from(limit.max(1)) - 1),
        |row| Ok(row.get::<_, i64>(0)?),
    )?;
    all(
        connection,
        "SELECT seq, at, what, position, id, attributes, active FROM change
         WHERE tenant = ?1 AND seq > ?2 AND seq <= ?3 ORDER BY seq, position",
        (tenant, after, last.unwrap_or(i64::MAX)),
        read,
    )
}

/// The changes of one resource before a write, newest first, if the access still holds.
pub(super) fn history(
    connection: &Connection,
    access: &Access,
    id: ResourceId,
    before: Option<i64>,
    limit: u32,
) -> Result<Vec<Change>, StoreError> {
    let tenant = tenants::held(connection, access)?.key;
    all(
        connection,
        "SELECT seq, at, what, position, id, attributes, active FROM change
         WHERE tenant = ?1 AND id = ?2 AND seq < ?3
            AND seq > (SELECT seq FROM tenant WHERE tenant = ?1) - ?4
         ORDER BY seq DESC LIMIT ?5",
        (
            tenant,
            id.as_bytes(),
            before.unwrap_or(i64::MAX),
            MOST_HISTORY,
            limit,
        ),
        read,
    )
}

/// Reads `seq, at, what, position, id, attributes, active`.
pub(super) fn read(row: &Row<'_>) -> Result<Change, StoreError> {
    Ok(Change {
        seq: row.get(0)?,
        at: Timestamp(row.get(1)?),
        what: what(row, 2)?,
        kind: kind_of(row.get(3)?),
        id: ResourceId::from_stored(row.get(4)?),
        attributes: serde_json::from_str(&row.get::<_, String>(5)?)
            .map_err(|_| StoreError::Corrupt("a change with unreadable names"))?,
        active: row.get(6)?,
    })
}

/// Forgets some of what is too old; answers whether that was the last of it.
pub(super) fn prune(
    connection: &Connection,
    tenant: &TenantId,
    keep: Retention,
) -> Result<bool, StoreError> {
    let Some(tenant) = tenants::key(connection, tenant)? else {
        return Ok(true);
    };
    // Oldest first, and no further than the first that is to be kept: there is no index by time.
    let changes = execute(
        connection,
        "DELETE FROM change WHERE tenant = ?1 AND at < ?2 AND seq <= ?4 AND (seq, position) IN
            (SELECT seq, position FROM change WHERE tenant = ?1
             ORDER BY seq, position LIMIT ?3)",
        (
            tenant,
            keep.changes_since.as_millis(),
            PRUNED_AT_ONCE,
            keep.changes_behind,
        ),
    )?;
    let gateways = execute(
        connection,
        "DELETE FROM idempotency WHERE tenant = ?1 AND origin = 0 AND key IN
            (SELECT key FROM idempotency WHERE tenant = ?1 AND origin = 0 AND key < ?2
             ORDER BY key LIMIT ?3)",
        (
            tenant,
            RequestKey::least_since(keep.gateway_keys_since),
            PRUNED_AT_ONCE,
        ),
    )?;
    let clients = execute(
        connection,
        "DELETE FROM idempotency WHERE tenant = ?1 AND origin = 1 AND key IN
            (SELECT key FROM idempotency WHERE tenant = ?1 AND origin = 1 AND at < ?2
             LIMIT ?3)",
        (tenant, keep.client_keys_since.as_millis(), PRUNED_AT_ONCE),
    )?;
    Ok(changes + gateways + clients == 0)
}
