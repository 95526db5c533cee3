//! Reads that take the whole region or a whole tenant, from one snapshot each.
//!
//! They have a connection of their own, outside the pool, and walk by key, some rows at a time:
//! so memory does not grow with the region, and however long they take, others find a connection.

use std::time::Duration;

use serde_json::value::RawValue;
use shared::{TenantId, Timestamp, TokenDigest};
use tokio::runtime::Handle;
use tokio::sync::mpsc::Sender;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, IsolationLevel, Row, Transaction};

use super::connection::{Parameters, session};
use super::writer::{change_kind, kind_column, resource_id};
use super::{Server, audit, events, resources, tenants, tokens};
use crate::scim::ResourceKind;
use crate::store::backup::{
    ChangeRow, MEMBERS_IN_A_ROW, MembersRow, OutcomeRow, ResourceRow, TokenRow, hand_on,
};
use crate::store::position::{kind_of, of_kind, of_tenant, place};
use crate::store::{BackupRow, ExportRow, KeyOrigin, Position, Related, StoreError, Stored};

/// Longest time for one statement, and for a receiver between two: these work on all there is.
const LONGEST_STATEMENT: Duration = Duration::from_secs(15 * 60);
/// Resources that are read at once.
const RESOURCES_AT_ONCE: i64 = 200;
/// Small rows that are read at once.
const ROWS_AT_ONCE: i64 = 2000;

/// How to reach PostgreSQL outside the pools.
#[derive(Clone)]
pub(super) struct Aside {
    server: Server,
    session: String,
    runtime: Handle,
}

impl Aside {
    pub(super) fn new(server: &Server, serving_role: bool, runtime: &Handle) -> Self {
        Self {
            server: server.clone(),
            session: session(LONGEST_STATEMENT, serving_role),
            runtime: runtime.clone(),
        }
    }

    /// A connection of one's own. It ends, with whatever is under way on it, when it is dropped.
    pub(super) async fn connect(&self) -> Result<Client, StoreError> {
        let client = self.server.connect(&self.runtime).await?;
        client.batch_execute(&self.session).await?;
        Ok(client)
    }
}

/// From here on the transaction is after this tenant's rows.
pub(super) async fn scope(transaction: &Transaction<'_>, tenant: i64) -> Result<(), StoreError> {
    transaction
        .query(
            "SELECT set_config('meridian.tenant', $1::bigint::text, true)",
            &[&tenant],
        )
        .await?;
    Ok(())
}

async fn snapshot(client: &mut Client) -> Result<Transaction<'_>, StoreError> {
    Ok(client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await?)
}

/// Every row of the region.
pub(super) async fn send_region(aside: &Aside, rows: &Sender<BackupRow>) -> Result<(), StoreError> {
    let mut client = aside.connect().await?;
    let transaction = snapshot(&mut client).await?;
    for (number, tenant) in tenants::list_with_numbers(&transaction).await? {
        scope(&transaction, number).await?;
        hand_on(rows, BackupRow::Tenant(Box::new(tenant))).await?;
        send_tokens(&transaction, number, rows).await?;
        send_resources(&transaction, number, rows).await?;
        send_members(&transaction, number, rows).await?;
        send_changes(&transaction, number, rows).await?;
        send_outcomes(&transaction, number, rows).await?;
        send_audit(&transaction, number, rows).await?;
        for endpoint in events::rows_of(&transaction, number).await? {
            hand_on(rows, BackupRow::Endpoint(Box::new(endpoint))).await?;
        }
    }
    transaction.commit().await?;
    Ok(())
}

async fn send_tokens(
    transaction: &Transaction<'_>,
    tenant: i64,
    rows: &Sender<BackupRow>,
) -> Result<(), StoreError> {
    let sql = concat!(
        "SELECT k.digest, ",
        tokens::token_columns!(),
        " FROM api_token k JOIN tenant t ON t.tenant = k.tenant
          WHERE k.tenant = $1 ORDER BY k.token"
    );
    for row in &transaction.query(sql, &[&tenant]).await? {
        let digest = hex::encode(row.try_get::<_, &[u8]>("digest")?);
        let token = TokenRow {
            digest: TokenDigest::try_from(digest)
                .map_err(|_| StoreError::Corrupt("a token with an odd digest"))?,
            token: tokens::read(row)?,
        };
        hand_on(rows, BackupRow::Token(Box::new(token))).await?;
    }
    Ok(())
}

/// The rows behind the last ones, and how many are asked for at once.
async fn some_more(
    transaction: &Transaction<'_>,
    sql: &str,
    parameters: Parameters<'_>,
) -> Result<Vec<Row>, StoreError> {
    let statement = transaction.prepare(sql).await?;
    Ok(transaction.query(&statement, parameters).await?)
}

async fn send_resources(
    transaction: &Transaction<'_>,
    tenant: i64,
    rows: &Sender<BackupRow>,
) -> Result<(), StoreError> {
    let sql = transaction
        .prepare(concat!(
            "SELECT ",
            resources::resource_columns!(),
            ", ",
            resources::key_columns!(),
            " FROM resource r WHERE r.tenant = $1 AND r.position > $2 AND r.position <= $3
              ORDER BY r.position LIMIT $4"
        ))
        .await?;
    let (mut after, end) = of_tenant(tenant);
    loop {
        let parameters: [&(dyn ToSql + Sync); 4] = [&tenant, &after, &end, &RESOURCES_AT_ONCE];
        let some = transaction.query(&sql, &parameters).await?;
        let Some(last) = some.last() else {
            return Ok(());
        };
        after = last.try_get("position")?;
        for row in &some {
            let position: i64 = row.try_get("position")?;
            let document = RawValue::from_string(row.try_get("document")?)
                .map_err(|_| StoreError::Corrupt("a document that is no JSON"))?;
            let resource = ResourceRow {
                kind: kind_of(position),
                place: place(position),
                id: resource_id(row.try_get("id")?),
                version: row.try_get("version")?,
                created: Timestamp(row.try_get("created")?),
                modified: Timestamp(row.try_get("modified")?),
                keys: resources::read_keys(row)?,
                document,
            };
            hand_on(rows, BackupRow::Resource(Box::new(resource))).await?;
        }
    }
}

async fn send_members(
    transaction: &Transaction<'_>,
    tenant: i64,
    rows: &Sender<BackupRow>,
) -> Result<(), StoreError> {
    let sql = "SELECT m.group_position, m.member_position FROM member m
                WHERE (m.group_position, m.member_position) > ($1, $2) AND m.group_position <= $3
                ORDER BY m.group_position, m.member_position LIMIT $4";
    let (begin, end) = of_tenant(tenant);
    let (mut after, mut some) = ((begin, i64::MAX), MembersRow::default());
    let mut count = 0;
    loop {
        let parameters: [&(dyn ToSql + Sync); 4] = [&after.0, &after.1, &end, &ROWS_AT_ONCE];
        let found = some_more(transaction, sql, &parameters).await?;
        let Some(last) = found.last() else {
            break;
        };
        after = (last.try_get(0)?, last.try_get(1)?);
        for row in &found {
            let (group, member): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
            if count > 0 && (place(group) != some.group || count == MEMBERS_IN_A_ROW) {
                hand_on(rows, BackupRow::Members(std::mem::take(&mut some))).await?;
                count = 0;
            }
            some.group = place(group);
            match kind_of(member) {
                ResourceKind::User => some.users.push(place(member)),
                ResourceKind::Group => some.groups.push(place(member)),
            }
            count += 1;
        }
    }
    if count > 0 {
        hand_on(rows, BackupRow::Members(some)).await?;
    }
    Ok(())
}

async fn send_changes(
    transaction: &Transaction<'_>,
    tenant: i64,
    rows: &Sender<BackupRow>,
) -> Result<(), StoreError> {
    let sql = "SELECT c.seq, c.at, c.what, c.position, c.id, c.attributes, c.active FROM change c
                WHERE c.tenant = $1 AND (c.seq, c.position) > ($2, $3)
                ORDER BY c.seq, c.position LIMIT $4";
    let mut after = (i64::MIN, i64::MIN);
    loop {
        let parameters: [&(dyn ToSql + Sync); 4] = [&tenant, &after.0, &after.1, &ROWS_AT_ONCE];
        let some = some_more(transaction, sql, &parameters).await?;
        let Some(last) = some.last() else {
            return Ok(());
        };
        after = (last.try_get("seq")?, last.try_get("position")?);
        for row in &some {
            let position: i64 = row.try_get("position")?;
            let change = ChangeRow {
                seq: row.try_get("seq")?,
                at: Timestamp(row.try_get("at")?),
                what: change_kind(row.try_get("what")?)?,
                kind: kind_of(position),
                place: place(position),
                id: resource_id(row.try_get("id")?),
                attributes: serde_json::from_str(row.try_get("attributes")?)
                    .map_err(|_| StoreError::Corrupt("a change with unreadable names"))?,
                active: row.try_get("active")?,
            };
            hand_on(rows, BackupRow::Change(Box::new(change))).await?;
        }
    }
}

async fn send_outcomes(
    transaction: &Transaction<'_>,
    tenant: i64,
    rows: &Sender<BackupRow>,
) -> Result<(), StoreError> {
    const ODD: StoreError = StoreError::Corrupt("an outcome with an odd key");
    let sql = "SELECT i.origin, i.key, i.fingerprint, i.what, i.position, i.id, i.version, i.at
                 FROM idempotency i
                WHERE i.tenant = $1 AND (i.origin, i.key) > ($2, $3)
                ORDER BY i.origin, i.key LIMIT $4";
    let mut after: (i16, Vec<u8>) = (-1, Vec::new());
    loop {
        let parameters: [&(dyn ToSql + Sync); 4] = [&tenant, &after.0, &after.1, &ROWS_AT_ONCE];
        let some = some_more(transaction, sql, &parameters).await?;
        let Some(last) = some.last() else {
            return Ok(());
        };
        after = (last.try_get("origin")?, last.try_get("key")?);
        for row in &some {
            let position: i64 = row.try_get("position")?;
            let fingerprint: Option<&[u8]> = row.try_get("fingerprint")?;
            let fingerprint = fingerprint.map(<[u8; 8]>::try_from).transpose();
            let outcome = OutcomeRow {
                origin: match row.try_get::<_, i16>("origin")? {
                    0 => KeyOrigin::Gateway,
                    _ => KeyOrigin::Client,
                },
                key: row
                    .try_get::<_, &[u8]>("key")?
                    .try_into()
                    .map_err(|_| ODD)?,
                fingerprint: fingerprint.map_err(|_| ODD)?,
                what: change_kind(row.try_get("what")?)?,
                kind: kind_of(position),
                place: place(position),
                id: resource_id(row.try_get("id")?),
                version: row.try_get("version")?,
                at: Timestamp(row.try_get("at")?),
            };
            hand_on(rows, BackupRow::Outcome(Box::new(outcome))).await?;
        }
    }
}

async fn send_audit(
    transaction: &Transaction<'_>,
    tenant: i64,
    rows: &Sender<BackupRow>,
) -> Result<(), StoreError> {
    let head = some_more(transaction, audit::HEAD, &[&tenant]).await?;
    let head = audit::read_head(head.first().ok_or(StoreError::NotFound)?)?;
    let mut last = head.base_number;
    hand_on(rows, BackupRow::AuditHead(Box::new(head))).await?;
    loop {
        let some = some_more(transaction, audit::BEHIND, &[&tenant, &last, &ROWS_AT_ONCE]).await?;
        if some.is_empty() {
            return Ok(());
        }
        for row in &some {
            let record = audit::read(row)?;
            last = record.number;
            hand_on(rows, BackupRow::Audit(Box::new(record))).await?;
        }
    }
}

/// A tenant and its resources, with what is derived of others.
pub(super) async fn send_tenant(
    aside: &Aside,
    id: &TenantId,
    rows: &Sender<ExportRow>,
) -> Result<(), StoreError> {
    let mut client = aside.connect().await?;
    let transaction = snapshot(&mut client).await?;
    let all = tenants::list_with_numbers(&transaction).await?;
    let found = all.into_iter().find(|(_, tenant)| tenant.id == *id);
    let (number, tenant) = found.ok_or(StoreError::NotFound)?;
    scope(&transaction, number).await?;
    hand_on(rows, ExportRow::Tenant(Box::new(tenant))).await?;
    for kind in [ResourceKind::User, ResourceKind::Group] {
        let (mut after, end) = of_kind(number, kind);
        loop {
            let sql = concat!(
                "SELECT ",
                resources::resource_columns!(),
                resources::may_be_member!(),
                " FROM resource r WHERE r.tenant = $1 AND r.kind = $2
                     AND r.position > $3 AND r.position <= $4 ORDER BY r.position LIMIT $5"
            );
            let kind_column = kind_column(kind);
            let parameters: [&(dyn ToSql + Sync); 5] =
                [&number, &kind_column, &after, &end, &RESOURCES_AT_ONCE];
            let some = resources::stored(&some_more(&transaction, sql, &parameters).await?)?;
            let Some(last) = some.last() else {
                break;
            };
            after = last.position.0;
            for stored in some {
                let row = match kind {
                    ResourceKind::User => {
                        let groups = if stored.may_be_member {
                            groups_of(&transaction, number, stored.position).await?
                        } else {
                            Vec::new()
                        };
                        ExportRow::User(stored, groups)
                    }
                    ResourceKind::Group => {
                        let members = members_of(&transaction, number, stored.position).await?;
                        ExportRow::Group(stored, members)
                    }
                };
                hand_on(rows, row).await?;
            }
        }
    }
    transaction.commit().await?;
    Ok(())
}

async fn groups_of(
    transaction: &Transaction<'_>,
    tenant: i64,
    member: Position,
) -> Result<Vec<Stored>, StoreError> {
    let sql = concat!(
        "SELECT ",
        resources::resource_columns!(),
        ", true AS may_be_member FROM member m JOIN resource r ON r.position = m.group_position AND r.tenant = $1
          WHERE m.member_position = $2 ORDER BY r.position"
    );
    resources::stored(&some_more(transaction, sql, &[&tenant, &member.0]).await?)
}

async fn members_of(
    transaction: &Transaction<'_>,
    tenant: i64,
    group: Position,
) -> Result<Vec<Related>, StoreError> {
    let sql = "SELECT r.position, r.id FROM member m
                 JOIN resource r ON r.position = m.member_position AND r.tenant = $1
                WHERE m.group_position = $2 ORDER BY r.position";
    let rows = some_more(transaction, sql, &[&tenant, &group.0]).await?;
    rows.iter()
        .map(|row| {
            let position = row.try_get("position")?;
            Ok(Related {
                id: resource_id(row.try_get("id")?),
                position: Position(position),
                kind: kind_of(position),
            })
        })
        .collect()
}
