//! Statements on the change feed and on the outcomes of requests.

use shared::Timestamp;
use tokio_postgres::Row;

use super::connection::Connections;
use super::resources::{Holder, origin_column};
use super::tenants::held;
use super::writer::{self, change_kind, resource_id};
use crate::scim::ResourceId;
use crate::store::position::kind_of;
use crate::store::{Change, MOST_HISTORY, Outcome, RequestKey, Retention, StoreError};

/// Rows of each kind that one step of a pruning looks at.
const PRUNED_AT_ONCE: i64 = 500;

/// What came of a request, if the access still holds.
pub(super) async fn outcome(
    connections: &Connections,
    access: Holder<'_>,
    key: RequestKey,
) -> Result<Option<Outcome>, StoreError> {
    let sql = concat!(
        "SELECT i.fingerprint, i.what, i.position, i.id, i.version, i.at
           FROM tenant t
           LEFT JOIN idempotency i ON i.tenant = $1 AND i.origin = $4 AND i.key = $5
          WHERE ",
        held!()
    );
    let origin = origin_column(key.origin);
    let rows = access
        .query(connections, sql, &[&origin, &key.key.as_slice()])
        .await?;
    let row = rows.first().ok_or(StoreError::Refused)?;
    if row.try_get::<_, Option<&str>>("what")?.is_none() {
        return Ok(None);
    }
    let fingerprint: Option<&[u8]> = row.try_get("fingerprint")?;
    if fingerprint != key.fingerprint.as_ref().map(<[u8; 8]>::as_slice) {
        return Err(StoreError::KeyReused);
    }
    writer::outcome(row).map(Some)
}

/// The changes behind a write, in commit order.
pub(super) async fn list(
    connections: &Connections,
    tenant: i64,
    after: i64,
    limit: u32,
) -> Result<Vec<Change>, StoreError> {
    // Up to the end of the write that the last row of the run belongs to.
    let sql = "SELECT x.* FROM tenant t LEFT JOIN LATERAL (
                   SELECT c.seq, c.at, c.what, c.position, c.id, c.attributes, c.active FROM change c
                    WHERE c.tenant = $1 AND c.seq > $2
                      AND c.seq <= (SELECT coalesce(
                          (SELECT c.seq FROM change c WHERE c.tenant = $1 AND c.seq > $2
                            ORDER BY c.seq, c.position LIMIT 1 OFFSET $3),
                          9223372036854775807))) x ON true
                WHERE t.tenant = $1 AND t.state IN ('active', 'suspended') ORDER BY x.seq, x.position";
    let offset = i64::from(limit.max(1)) - 1;
    let rows = connections
        .query_scoped(tenant, sql, &[&tenant, &after, &offset])
        .await?;
    if rows.is_empty() {
        return Err(StoreError::NotFound);
    }
    read_all(&rows)
}

/// The changes of one resource before a write, newest first, if the access still holds.
pub(super) async fn history(
    connections: &Connections,
    access: Holder<'_>,
    id: ResourceId,
    before: Option<i64>,
    limit: u32,
) -> Result<Vec<Change>, StoreError> {
    let sql = concat!(
        "SELECT x.* FROM tenant t LEFT JOIN LATERAL (
             SELECT c.seq, c.at, c.what, c.position, c.id, c.attributes, c.active FROM change c
              WHERE c.tenant = $1 AND c.id = $4 AND c.seq < $5
                AND c.seq > (SELECT max(h.seq) FROM head h WHERE h.tenant = $1) - $6
              ORDER BY c.seq DESC LIMIT $7) x ON true
          WHERE ",
        held!(),
        " ORDER BY x.seq DESC"
    );
    let rows = access
        .query(
            connections,
            sql,
            &[
                &writer::uuid(id),
                &before.unwrap_or(i64::MAX),
                &MOST_HISTORY,
                &i64::from(limit),
            ],
        )
        .await?;
    read_all(&rows)
}

/// Reads `seq, at, what, position, id, attributes, active`; a row of nothing is none.
fn read_all(rows: &[Row]) -> Result<Vec<Change>, StoreError> {
    let mut changes = Vec::with_capacity(rows.len());
    for row in rows {
        let Some(seq) = row.try_get("seq")? else {
            continue;
        };
        changes.push(Change {
            seq,
            at: Timestamp(row.try_get("at")?),
            what: change_kind(row.try_get("what")?)?,
            kind: kind_of(row.try_get("position")?),
            id: resource_id(row.try_get("id")?),
            attributes: serde_json::from_str(row.try_get("attributes")?)
                .map_err(|_| StoreError::Corrupt("a change with unreadable names"))?,
            active: row.try_get("active")?,
        });
    }
    Ok(changes)
}

/// Forgets some of what is too old; answers whether that was the last of it.
pub(super) async fn prune(
    connections: &Connections,
    tenant: i64,
    keep: Retention,
) -> Result<bool, StoreError> {
    // Oldest first, and no further than the first that is to be kept: there is no index by time.
    // Rows are named by their place, so that the plan is the same however many tenants there are.
    let sql = "WITH changes AS (
                   DELETE FROM change x WHERE x.ctid = ANY (ARRAY(
                          SELECT c.ctid FROM change c WHERE c.tenant = $1
                           ORDER BY c.seq, c.position LIMIT $5))
                      AND x.tenant = $1 AND x.at < $2 AND x.seq <= $6
                   RETURNING 1),
               gateways AS (
                   DELETE FROM idempotency x WHERE x.ctid = ANY (ARRAY(
                          SELECT i.ctid FROM idempotency i
                           WHERE i.tenant = $1 AND i.origin = 0 AND i.key < $3
                           ORDER BY i.key LIMIT $5))
                      AND x.tenant = $1
                   RETURNING 1),
               clients AS (
                   DELETE FROM idempotency x WHERE x.ctid = ANY (ARRAY(
                          SELECT i.ctid FROM idempotency i
                           WHERE i.tenant = $1 AND i.origin = 1 AND i.at < $4 LIMIT $5))
                      AND x.tenant = $1
                   RETURNING 1)
               SELECT (SELECT count(*) FROM changes) + (SELECT count(*) FROM gateways)
                    + (SELECT count(*) FROM clients)";
    let rows = connections
        .query_scoped(
            tenant,
            sql,
            &[
                &tenant,
                &keep.changes_since.as_millis(),
                &RequestKey::least_since(keep.gateway_keys_since).as_slice(),
                &keep.client_keys_since.as_millis(),
                &PRUNED_AT_ONCE,
                &keep.changes_behind,
            ],
        )
        .await?;
    let pruned: i64 = rows
        .first()
        .ok_or(StoreError::Corrupt("no count"))?
        .try_get(0)?;
    Ok(pruned == 0)
}
