//! Statements on the chain of audit records. Hashes are made by `chain_audit` of the migrations,
//! under the lock of the tenant's row.

use shared::Timestamp;
use tokio_postgres::{Row, Transaction};

use super::backup::scope;
use super::connection::{Connections, Parameters};
use crate::store::{AuditHead, AuditNote, AuditRange, AuditRecord, StoreError};

/// Records that one step of a pruning removes at most.
const PRUNED_AT_ONCE: i64 = 500;

/// How the chain of the tenant `$1` begins and ends.
pub(super) const HEAD: &str =
    "SELECT h.audit_number, h.audit_hash, t.audit_base_number, t.audit_base_hash
  FROM tenant t
  JOIN LATERAL (SELECT h.audit_number, h.audit_hash FROM head h
                 WHERE h.tenant = t.tenant ORDER BY h.seq DESC LIMIT 1) h ON true
 WHERE t.tenant = $1";
/// Its records behind `$2`, at most `$3`, oldest first.
pub(super) const BEHIND: &str =
    "SELECT a.number, a.at, a.kind, a.actor, a.request, a.subject, a.names, a.hash FROM audit a
      WHERE a.tenant = $1 AND a.number > $2 ORDER BY a.number LIMIT $3";

/// Reads [`HEAD`].
pub(super) fn read_head(row: &Row) -> Result<AuditHead, StoreError> {
    Ok(AuditHead {
        number: row.try_get("audit_number")?,
        hash: row.try_get("audit_hash")?,
        base_number: row.try_get("audit_base_number")?,
        base_hash: row.try_get("audit_base_hash")?,
    })
}

/// Reads a record.
pub(super) fn read(row: &Row) -> Result<AuditRecord, StoreError> {
    Ok(AuditRecord {
        number: row.try_get("number")?,
        at: Timestamp(row.try_get("at")?),
        kind: row.try_get("kind")?,
        actor: row.try_get("actor")?,
        request: row.try_get("request")?,
        subject: row.try_get("subject")?,
        names: row.try_get("names")?,
        hash: row.try_get("hash")?,
    })
}

/// Records something that is no write to a resource.
pub(super) async fn note(
    transaction: &Transaction<'_>,
    tenant: i64,
    at: Timestamp,
    note: &AuditNote,
) -> Result<(), StoreError> {
    transaction
        .query(
            "SELECT note_audit($1, $2, $3, $4, $5, $6, $7)",
            &[
                &tenant,
                &at.as_millis(),
                &note.kind.as_str(),
                &note.by.actor,
                &note.by.request,
                &note.subject,
                &note.names_json()?,
            ],
        )
        .await?;
    Ok(())
}

/// Records several things of a tenant, or none of them.
pub(super) async fn note_all(
    connections: &Connections,
    tenant: i64,
    at: Timestamp,
    notes: &[AuditNote],
) -> Result<(), StoreError> {
    let mut lease = connections.take().await?;
    let transaction = lease.client()?.transaction().await?;
    for it in notes {
        note(&transaction, tenant, at, it).await?;
    }
    transaction.commit().await?;
    lease.give_back();
    Ok(())
}

/// Some records, and how the chain ends in the same snapshot: one statement.
pub(super) async fn list(
    connections: &Connections,
    tenant: i64,
    range: AuditRange,
    limit: u32,
) -> Result<(AuditHead, Vec<AuditRecord>), StoreError> {
    macro_rules! records {
        ($range:literal) => {
            concat!(
                "SELECT h.audit_number, h.audit_hash, t.audit_base_number, t.audit_base_hash, x.*
                   FROM tenant t
                   JOIN LATERAL (SELECT h.audit_number, h.audit_hash FROM head h
                                  WHERE h.tenant = t.tenant ORDER BY h.seq DESC LIMIT 1) h ON true
                   LEFT JOIN LATERAL (
                       SELECT a.number, a.at, a.kind, a.actor, a.request, a.subject, a.names, a.hash
                         FROM audit a WHERE a.tenant = $1 AND ",
                $range,
                " LIMIT $3) x ON true WHERE t.tenant = $1"
            )
        };
    }
    let (sql, number) = match range {
        AuditRange::Behind(number) => (records!("a.number > $2 ORDER BY a.number"), number),
        AuditRange::Before(number) => (records!("a.number < $2 ORDER BY a.number DESC"), number),
    };
    let parameters: Parameters<'_> = &[&tenant, &number, &i64::from(limit)];
    let rows = connections.query_scoped(tenant, sql, parameters).await?;
    let head = read_head(rows.first().ok_or(StoreError::NotFound)?)?;
    let mut records = Vec::with_capacity(rows.len());
    for row in &rows {
        // A chain without such records is one row without a record.
        if row.try_get::<_, Option<i64>>("number")?.is_some() {
            records.push(read(row)?);
        }
    }
    Ok((head, records))
}

/// Removes some of the oldest records, and records that; answers whether these were the last. The
/// newest record always stays.
pub(super) async fn prune(
    connections: &Connections,
    tenant: i64,
    since: Timestamp,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let mut lease = connections.take().await?;
    let transaction = lease.client()?.transaction().await?;
    scope(&transaction, tenant).await?;
    // Other nodes prune too, and writes go on: one at a time.
    let lock = "SELECT FROM tenant t WHERE t.tenant = $1 FOR NO KEY UPDATE";
    transaction.query(lock, &[&tenant]).await?;
    let head = transaction.query(HEAD, &[&tenant]).await?;
    let Some(head) = head.first().map(read_head).transpose()? else {
        return Ok(true);
    };
    // Up to the first that is to be kept: a clock that went back keeps more, never less.
    let end = head
        .base_number
        .saturating_add(PRUNED_AT_ONCE)
        .min(head.number - 1);
    let kept = transaction
        .query_opt(
            "SELECT a.number FROM audit a
              WHERE a.tenant = $1 AND a.number > $2 AND a.number <= $3 AND a.at >= $4
              ORDER BY a.number LIMIT 1",
            &[&tenant, &head.base_number, &end, &since.as_millis()],
        )
        .await?;
    let kept: Option<i64> = kept.map(|row| row.try_get(0)).transpose()?;
    let last = kept.map_or(end, |kept| kept - 1);
    if last <= head.base_number {
        transaction.rollback().await?;
        lease.give_back();
        return Ok(true);
    }
    let sql = "SELECT a.hash FROM audit a WHERE a.tenant = $1 AND a.number = $2";
    let row = transaction.query_opt(sql, &[&tenant, &last]).await?;
    // One that somebody removed: pruning must not hide it.
    let row = row.ok_or(StoreError::Corrupt("an audit record is missing"))?;
    let hash: Vec<u8> = row.try_get(0)?;
    transaction
        .execute(
            "DELETE FROM audit a WHERE a.tenant = $1 AND a.number <= $2",
            &[&tenant, &last],
        )
        .await?;
    transaction
        .execute(
            "UPDATE tenant t SET audit_base_number = $2, audit_base_hash = $3 WHERE t.tenant = $1",
            &[&tenant, &last, &hash],
        )
        .await?;
    note(&transaction, tenant, now, &AuditNote::pruned(last, &hash)).await?;
    transaction.commit().await?;
    lease.give_back();
    Ok(kept.is_some() || last - head.base_number < PRUNED_AT_ONCE)
}

/// Says how the chain of a tenant begins and ends that a restore brings in.
pub(super) async fn set_head(
    transaction: &Transaction<'_>,
    tenant: i64,
    head: &AuditHead,
) -> Result<(), StoreError> {
    transaction
        .execute(
            "WITH h AS (UPDATE head h SET audit_number = $2, audit_hash = $3 WHERE h.tenant = $1)
             UPDATE tenant t SET audit_base_number = $4, audit_base_hash = $5 WHERE t.tenant = $1",
            &[
                &tenant,
                &head.number,
                &head.hash,
                &head.base_number,
                &head.base_hash,
            ],
        )
        .await?;
    Ok(())
}

/// Gives a restored tenant the chain that the region has of it, in place of what the backup has: a
/// chain never goes back in time. A transaction sees one tenant at a time, so records go from one
/// to the other in runs.
pub(super) async fn outlive_restore(
    transaction: &Transaction<'_>,
    present: i64,
    staged: i64,
) -> Result<(), StoreError> {
    const AT_ONCE: i64 = 5000;
    scope(transaction, staged).await?;
    let sql = "DELETE FROM audit a WHERE a.tenant = $1";
    transaction.execute(sql, &[&staged]).await?;
    let head = transaction.query_one(HEAD, &[&present]).await?;
    let head = read_head(&head)?;
    let mut last = head.base_number;
    loop {
        scope(transaction, present).await?;
        let rows = transaction
            .query(BEHIND, &[&present, &last, &AT_ONCE])
            .await?;
        if rows.is_empty() {
            break;
        }
        let records: Result<Vec<AuditRecord>, StoreError> = rows.iter().map(read).collect();
        let records = records?;
        last = records.last().map_or(last, |record| record.number);
        scope(transaction, staged).await?;
        insert(transaction, staged, &records).await?;
    }
    set_head(transaction, staged, &head).await
}

/// Writes records as they are.
pub(super) async fn insert(
    transaction: &Transaction<'_>,
    tenant: i64,
    records: &[AuditRecord],
) -> Result<(), StoreError> {
    fn column<'r, T>(records: &'r [AuditRecord], of: impl Fn(&'r AuditRecord) -> T) -> Vec<T> {
        records.iter().map(of).collect()
    }
    transaction
        .execute(
            "INSERT INTO audit (tenant, number, at, kind, actor, request, subject, names, hash)
             SELECT $1, u.* FROM unnest($2::bigint[], $3::bigint[], $4::text[], $5::text[],
                                        $6::text[], $7::text[], $8::text[], $9::bytea[]) AS u",
            &[
                &tenant,
                &column(records, |record| record.number),
                &column(records, |record| record.at.as_millis()),
                &column(records, |record| record.kind.as_str()),
                &column(records, |record| record.actor.as_str()),
                &column(records, |record| record.request.as_str()),
                &column(records, |record| record.subject.as_str()),
                &column(records, |record| record.names.as_str()),
                &column(records, |record| record.hash.as_slice()),
            ],
        )
        .await?;
    Ok(())
}
