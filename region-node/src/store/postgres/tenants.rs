//! Statements on tenants and their head rows.

use shared::{TenantId, Timestamp};
use tokio_postgres::Row;

use super::connection::{Connections, Lease};
use crate::store::position::{TENANT_KEYS, of_tenant};
use crate::store::{Access, StoreError, Tenant, TenantSettings, TenantState};

/// Rows that one step of an erasure removes from each table: few enough that others hardly wait.
const ERASED_AT_ONCE: i64 = 2000;

/// The region has had as many tenants as can be numbered.
#[derive(Debug, thiserror::Error)]
#[error("the store has no number left for another tenant")]
struct TenantsExhausted;

/// The condition that an access holds, on the head row `t`; its parameters are always the first
/// three: number, id, credential version.
macro_rules! held {
    () => {
        "t.tenant = $1 AND t.id = $2 AND t.state = 'active' AND t.credential_version = $3"
    };
}
pub(super) use held;

/// Columns of a tenant, as [`read`] takes them.
macro_rules! tenant_columns {
    () => {
        "t.id AS tenant_id, t.name AS tenant_name, t.state, t.credential_version, t.seq, t.users,
         t.groups, t.settings, t.created AS tenant_created"
    };
}
pub(super) use tenant_columns;

/// Reads `tenant_columns`.
pub(super) fn read(row: &Row) -> Result<Tenant, StoreError> {
    let settings: &str = row.try_get("settings")?;
    Ok(Tenant {
        id: TenantId::parse(row.try_get("tenant_id")?)
            .map_err(|_| StoreError::Corrupt("a tenant with an odd id"))?,
        name: row.try_get("tenant_name")?,
        state: match row.try_get("state")? {
            "active" => TenantState::Active,
            "suspended" => TenantState::Suspended,
            _ => return Err(StoreError::Corrupt("a tenant in an unknown state")),
        },
        credential_version: row.try_get("credential_version")?,
        seq: row.try_get("seq")?,
        users: row.try_get("users")?,
        groups: row.try_get("groups")?,
        settings: serde_json::from_str(settings)
            .map_err(|_| StoreError::Corrupt("a tenant with unreadable settings"))?,
        created: Timestamp(row.try_get("tenant_created")?),
    })
}

fn only(rows: &[Row]) -> Result<Option<Tenant>, StoreError> {
    rows.first().map(read).transpose()
}

pub(super) async fn create(
    connections: &Connections,
    id: &TenantId,
    name: &str,
    settings: &TenantSettings,
    now: Timestamp,
) -> Result<Tenant, StoreError> {
    let rows = connections
        .query(
            concat!(
                "INSERT INTO tenant AS t
                    (id, name, state, credential_version, seq, users, groups, settings, created)
                 SELECT $1, $2, 'active', 1, 0, 0, 0, $3, $4
                  WHERE (SELECT coalesce(max(tenant), 0) FROM tenant) < $5::bigint - 1
                 RETURNING ",
                tenant_columns!()
            ),
            &[
                &id.as_str(),
                &name,
                &settings_json(settings)?,
                &now.as_millis(),
                &TENANT_KEYS,
            ],
        )
        .await?;
    only(&rows)?.ok_or_else(|| StoreError::Unavailable(Box::new(TenantsExhausted)))
}

pub(super) async fn get(
    connections: &Connections,
    id: &TenantId,
) -> Result<Option<Tenant>, StoreError> {
    let sql = concat!(
        "SELECT ",
        tenant_columns!(),
        " FROM tenant t WHERE t.id = $1 AND t.state <> 'erasing'"
    );
    only(&connections.query(sql, &[&id.as_str()]).await?)
}

pub(super) async fn list(connections: &Connections) -> Result<Vec<Tenant>, StoreError> {
    let sql = concat!(
        "SELECT ",
        tenant_columns!(),
        " FROM tenant t WHERE t.state <> 'erasing' ORDER BY t.tenant"
    );
    connections
        .query(sql, &[])
        .await?
        .iter()
        .map(read)
        .collect()
}

pub(super) async fn set_state(
    connections: &Connections,
    id: &TenantId,
    state: TenantState,
) -> Result<Tenant, StoreError> {
    let sql = concat!(
        "UPDATE tenant t SET state = $2, credential_version = t.credential_version + 1
          WHERE t.id = $1 AND t.state <> 'erasing' RETURNING ",
        tenant_columns!()
    );
    let rows = connections
        .query(sql, &[&id.as_str(), &state.as_str()])
        .await?;
    only(&rows)?.ok_or(StoreError::NotFound)
}

pub(super) async fn set_settings(
    connections: &Connections,
    id: &TenantId,
    settings: &TenantSettings,
    expected: Option<i64>,
) -> Result<Tenant, StoreError> {
    let sql = concat!(
        "UPDATE tenant t SET settings = $2, credential_version = t.credential_version + 1
          WHERE t.id = $1 AND t.state <> 'erasing'
            AND ($3::bigint IS NULL OR (t.state = 'active' AND t.credential_version = $3))
         RETURNING ",
        tenant_columns!()
    );
    let rows = connections
        .query(sql, &[&id.as_str(), &settings_json(settings)?, &expected])
        .await?;
    match only(&rows)? {
        Some(tenant) => Ok(tenant),
        None => Err(match get(connections, id).await? {
            Some(_) => StoreError::Refused,
            None => StoreError::NotFound,
        }),
    }
}

fn settings_json(settings: &TenantSettings) -> Result<String, StoreError> {
    serde_json::to_string(settings)
        .map_err(|_| StoreError::Corrupt("settings that cannot be written as JSON"))
}

/// A tenant's number, which never changes; nothing if there is no such tenant.
pub(super) async fn number(
    connections: &Connections,
    id: &TenantId,
) -> Result<Option<i64>, StoreError> {
    let sql = "SELECT t.tenant FROM tenant t WHERE t.id = $1 AND t.state <> 'erasing'";
    let rows = connections.query(sql, &[&id.as_str()]).await?;
    Ok(rows.first().map(|row| row.try_get(0)).transpose()?)
}

/// The whole tenant of an access, if the access still holds.
pub(super) async fn head(connections: &Connections, access: &Access) -> Result<Tenant, StoreError> {
    let tenant = get(connections, &access.tenant)
        .await?
        .ok_or(StoreError::Refused)?;
    if tenant.state == TenantState::Active && tenant.credential_version == access.credential_version
    {
        Ok(tenant)
    } else {
        Err(StoreError::Refused)
    }
}

/// Makes a tenant invisible and takes its tokens; its rows are left for [`erase_some`].
pub(super) async fn begin_erasure(
    connections: &Connections,
    id: &TenantId,
) -> Result<i64, StoreError> {
    // One statement, and so one transaction.
    let sql = "WITH gone AS (
                   UPDATE tenant t SET state = 'erasing', name = '', settings = '{}',
                          credential_version = t.credential_version + 1
                    WHERE t.id = $1 AND t.state <> 'erasing' RETURNING t.tenant),
               tokens AS (DELETE FROM api_token k USING gone WHERE k.tenant = gone.tenant)
               SELECT tenant FROM gone";
    let rows = connections.query(sql, &[&id.as_str()]).await?;
    let row = rows.first().ok_or(StoreError::NotFound)?;
    Ok(row.try_get(0)?)
}

/// Tenants whose erasure was cut short.
pub(super) async fn unfinished_erasures(connections: &Connections) -> Result<Vec<i64>, StoreError> {
    let sql = "SELECT t.tenant FROM tenant t WHERE t.state = 'erasing'";
    let rows = connections.query(sql, &[]).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Removes some rows of a tenant that is being erased; answers whether that was the last of it.
pub(super) async fn erase_some(connections: &Connections, tenant: i64) -> Result<bool, StoreError> {
    const TABLES: [&str; 4] = ["attribute_index", "resource", "change", "idempotency"];
    let mut lease = connections.take().await?;
    let mut erased = 0;
    for table in TABLES {
        let sql = format!(
            "WITH gone AS (DELETE FROM {table} x WHERE x.ctid = ANY (ARRAY(
                 SELECT y.ctid FROM {table} y WHERE y.tenant = $1 LIMIT $2)) RETURNING 1)
             SELECT count(*) FROM gone"
        );
        erased += count(&mut lease, tenant, &sql, &[&tenant, &ERASED_AT_ONCE]).await?;
    }
    let (begin, end) = of_tenant(tenant);
    let sql = "WITH gone AS (DELETE FROM member x WHERE x.ctid = ANY (ARRAY(
                   SELECT y.ctid FROM member y
                    WHERE y.group_position > $1 AND y.group_position <= $2 LIMIT $3)) RETURNING 1)
               SELECT count(*) FROM gone";
    erased += count(&mut lease, tenant, sql, &[&begin, &end, &ERASED_AT_ONCE]).await?;
    lease.give_back();
    if erased > 0 {
        return Ok(false);
    }
    connections
        .query("DELETE FROM tenant WHERE tenant = $1", &[&tenant])
        .await?;
    Ok(true)
}

async fn count(
    lease: &mut Lease,
    tenant: i64,
    sql: &str,
    parameters: super::connection::Parameters<'_>,
) -> Result<i64, StoreError> {
    let rows = lease.query_scoped(tenant, sql, parameters).await?;
    let row = rows.first().ok_or(StoreError::Corrupt("no count"))?;
    Ok(row.try_get(0)?)
}
