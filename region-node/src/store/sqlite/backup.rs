//! Reads that take the whole region or a whole tenant, from one snapshot each.
//!
//! They run on a connection of their own, so that however long they take, reads of the pool find
//! theirs; rows go out one by one, so that memory does not grow with the region.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rusqlite::{Connection, Params, Row};
use serde_json::value::RawValue;
use shared::{TenantId, Timestamp};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{Sender, error::TrySendError};

use super::connection::{Role, all, count, open};
use super::readers::snapshot;
use super::{audit, changes, events, members, resources, tenants, tokens};
use crate::scim::{ResourceId, ResourceKind};
use crate::store::backup::{
    ChangeRow, LongReadError, MEMBERS_IN_A_ROW, MembersRow, OutcomeRow, ResourceRow, hand_on,
};
use crate::store::position::{kind_of, of_kind, of_tenant, place};
use crate::store::{BackupRow, ExportRow, KeyOrigin, StoreError};

/// Page cache of a connection that reads everything once.
const CACHE_KIB: i64 = 1024;
/// Resources that an export reads at once.
const EXPORTED_AT_ONCE: i64 = 100;
/// Audit records that are read at once.
const RECORDS_AT_ONCE: u32 = 1000;

/// Long reads under way. While there are any, checkpoints wait for no reader: the log grows, and
/// no write waits.
pub(super) type LongReads = Arc<AtomicUsize>;

/// One long read; counted until it is dropped.
struct Counted(LongReads);

impl Counted {
    fn begin(reads: &LongReads) -> Self {
        reads.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(reads))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Runs a long read on the blocking pool, on a connection and a snapshot of its own.
pub(super) async fn read_long(
    path: &Path,
    reads: &LongReads,
    read: impl FnOnce(&Connection) -> Result<(), StoreError> + Send + 'static,
) -> Result<(), StoreError> {
    let (path, counted) = (path.to_owned(), Counted::begin(reads));
    tokio::task::spawn_blocking(move || {
        let _counted = counted;
        let connection = open(&path, Role::Reader, CACHE_KIB)?;
        snapshot(&connection, || read(&connection))
    })
    .await
    .unwrap_or_else(|_| Err(LongReadError::Ended.into()))
}

/// Hands a row on, from a thread that may wait.
fn send<T: Send>(rows: &Sender<T>, row: T) -> Result<(), StoreError> {
    match rows.try_send(row) {
        Ok(()) => Ok(()),
        Err(TrySendError::Closed(_)) => Err(LongReadError::NobodyThere.into()),
        Err(TrySendError::Full(row)) => Handle::current().block_on(hand_on(rows, row)),
    }
}

/// Calls `take` with each row of a query, as it comes.
fn each(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    mut take: impl FnMut(&Row<'_>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    while let Some(row) = rows.next()? {
        take(row)?;
    }
    Ok(())
}

/// Every row of the region.
pub(super) fn send_region(
    connection: &Connection,
    rows: &Sender<BackupRow>,
) -> Result<(), StoreError> {
    for (key, tenant) in tenants::list_with_keys(connection)? {
        send(rows, BackupRow::Tenant(Box::new(tenant)))?;
        for token in tokens::list_with_digests(connection, key)? {
            send(rows, BackupRow::Token(Box::new(token)))?;
        }
        send_resources(connection, key, rows)?;
        send_members(connection, key, rows)?;
        send_changes(connection, key, rows)?;
        send_outcomes(connection, key, rows)?;
        send_audit(connection, key, rows)?;
        for endpoint in events::rows_of(connection, key)? {
            send(rows, BackupRow::Endpoint(Box::new(endpoint)))?;
        }
    }
    Ok(())
}

fn send_resources(
    connection: &Connection,
    tenant: i64,
    rows: &Sender<BackupRow>,
) -> Result<(), StoreError> {
    let (begin, end) = of_tenant(tenant);
    each(
        connection,
        concat!(
            "SELECT r.position, r.id, r.version, r.created, r.modified, r.document, ",
            resources::key_columns!(),
            " FROM resource r WHERE r.position > ?1 AND r.position <= ?2 ORDER BY r.position"
        ),
        (begin, end),
        |row| {
            let position: i64 = row.get(0)?;
            let document = RawValue::from_string(row.get(5)?)
                .map_err(|_| StoreError::Corrupt("a document that is no JSON"))?;
            let resource = ResourceRow {
                kind: kind_of(position),
                place: place(position),
                id: ResourceId::from_stored(row.get(1)?),
                version: row.get(2)?,
                created: Timestamp(row.get(3)?),
                modified: Timestamp(row.get(4)?),
                keys: resources::read_keys(row, 6)?,
                document,
            };
            send(rows, BackupRow::Resource(Box::new(resource)))
        },
    )
}

fn send_members(
    connection: &Connection,
    tenant: i64,
    rows: &Sender<BackupRow>,
) -> Result<(), StoreError> {
    let (begin, end) = of_tenant(tenant);
    let mut some = MembersRow::default();
    let mut count = 0;
    each(
        connection,
        "SELECT group_position, member_position FROM member
         WHERE group_position > ?1 AND group_position <= ?2
         ORDER BY group_position, member_position",
        (begin, end),
        |row| {
            let (group, member): (i64, i64) = (row.get(0)?, row.get(1)?);
            if count > 0 && (place(group) != some.group || count == MEMBERS_IN_A_ROW) {
                send(rows, BackupRow::Members(std::mem::take(&mut some)))?;
                count = 0;
            }
            some.group = place(group);
            match kind_of(member) {
                ResourceKind::User => some.users.push(place(member)),
                ResourceKind::Group => some.groups.push(place(member)),
            }
            count += 1;
            Ok(())
        },
    )?;
    if count > 0 {
        send(rows, BackupRow::Members(some))?;
    }
    Ok(())
}

fn send_changes(
    connection: &Connection,
    tenant: i64,
    rows: &Sender<BackupRow>,
) -> Result<(), StoreError> {
    each(
        connection,
        "SELECT seq, at, what, position, id, attributes, active FROM change
         WHERE tenant = ?1 ORDER BY seq, position",
        [tenant],
        |row| {
            let position: i64 = row.get(3)?;
            let change = changes::read(row)?;
            let row = ChangeRow {
                seq: change.seq,
                at: change.at,
                what: change.what,
                kind: change.kind,
                place: place(position),
                id: change.id,
                attributes: change.attributes,
                active: change.active,
            };
            send(rows, BackupRow::Change(Box::new(row)))
        },
    )
}

fn send_outcomes(
    connection: &Connection,
    tenant: i64,
    rows: &Sender<BackupRow>,
) -> Result<(), StoreError> {
    each(
        connection,
        "SELECT origin, key, fingerprint, what, position, id, version, at FROM idempotency
         WHERE tenant = ?1 ORDER BY origin, key",
        [tenant],
        |row| {
            let position: i64 = row.get(4)?;
            let outcome = OutcomeRow {
                origin: match row.get::<_, i64>(0)? {
                    0 => KeyOrigin::Gateway,
                    _ => KeyOrigin::Client,
                },
                key: row.get(1)?,
                fingerprint: row.get(2)?,
                what: changes::what(row, 3)?,
                kind: kind_of(position),
                place: place(position),
                id: ResourceId::from_stored(row.get(5)?),
                version: row.get(6)?,
                at: Timestamp(row.get(7)?),
            };
            send(rows, BackupRow::Outcome(Box::new(outcome)))
        },
    )
}

fn send_audit(
    connection: &Connection,
    tenant: i64,
    rows: &Sender<BackupRow>,
) -> Result<(), StoreError> {
    let head = audit::head(connection, tenant)?;
    let mut last = head.base_number;
    send(rows, BackupRow::AuditHead(Box::new(head)))?;
    loop {
        let some = audit::behind(connection, tenant, last, RECORDS_AT_ONCE)?;
        let Some(newest) = some.last() else {
            return Ok(());
        };
        last = newest.number;
        for record in some {
            send(rows, BackupRow::Audit(Box::new(record)))?;
        }
    }
}

/// A tenant and its resources, with what is derived of others.
pub(super) fn send_tenant(
    connection: &Connection,
    id: &TenantId,
    rows: &Sender<ExportRow>,
) -> Result<(), StoreError> {
    let key = tenants::key(connection, id)?.ok_or(StoreError::NotFound)?;
    let tenant = tenants::get(connection, id)?.ok_or(StoreError::NotFound)?;
    let tenant_has_groups = tenant.groups > 0;
    send(rows, ExportRow::Tenant(Box::new(tenant)))?;
    for kind in [ResourceKind::User, ResourceKind::Group] {
        let (_, end) = of_kind(key, kind);
        let mut after = None;
        loop {
            let some = resources::behind_position(
                connection,
                (key, tenant_has_groups),
                kind,
                after,
                0,
                EXPORTED_AT_ONCE,
            )?;
            let Some(last) = some.last().map(|last| last.position) else {
                break;
            };
            for stored in some {
                let position = stored.position;
                let row = match kind {
                    ResourceKind::User => {
                        let groups = if stored.may_be_member {
                            members::groups_of(connection, key, &[position])?.groups
                        } else {
                            Vec::new()
                        };
                        ExportRow::User(stored, groups)
                    }
                    ResourceKind::Group => {
                        let members = members::of_group(connection, key, position, None)?;
                        ExportRow::Group(stored, members)
                    }
                };
                send(rows, row)?;
            }
            after = (last.0 < end).then_some(last);
            if after.is_none() {
                break;
            }
        }
    }
    Ok(())
}

/// How many rows of any kind name a tenant.
pub(super) fn count_rows(connection: &Connection, tenant: i64) -> Result<u64, StoreError> {
    let (begin, end) = of_tenant(tenant);
    let counts = all(
        connection,
        "SELECT count(*) FROM tenant WHERE tenant = ?1
         UNION ALL SELECT count(*) FROM api_token WHERE tenant = ?1
         UNION ALL SELECT count(*) FROM access_token WHERE tenant = ?1
         UNION ALL SELECT count(*) FROM resource WHERE tenant = ?1
         UNION ALL SELECT count(*) FROM resource WHERE position > ?2 AND position <= ?3
         UNION ALL SELECT count(*) FROM attribute_index WHERE tenant = ?1
         UNION ALL SELECT count(*) FROM member WHERE group_position > ?2 AND group_position <= ?3
         UNION ALL SELECT count(*) FROM member WHERE member_position > ?2 AND member_position <= ?3
         UNION ALL SELECT count(*) FROM change WHERE tenant = ?1
         UNION ALL SELECT count(*) FROM idempotency WHERE tenant = ?1
         UNION ALL SELECT count(*) FROM activity WHERE tenant = ?1
         UNION ALL SELECT count(*) FROM sync_cycle WHERE tenant = ?1
         UNION ALL SELECT count(*) FROM activity_hour WHERE tenant = ?1
         UNION ALL SELECT count(*) FROM activity_gap WHERE tenant = ?1
         UNION ALL SELECT count(*) FROM finding WHERE tenant = ?1
         UNION ALL SELECT count(*) FROM audit WHERE tenant = ?1
         UNION ALL SELECT count(*) FROM event_endpoint WHERE tenant = ?1
         UNION ALL SELECT count(*) FROM event_dead_letter WHERE tenant = ?1",
        (tenant, begin, end),
        |row| count(row, 0),
    )?;
    Ok(counts.into_iter().sum())
}
