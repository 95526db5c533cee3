//! Statements on tenants and their head rows.

use shared::{TenantId, Timestamp};
use tokio_postgres::{Row, Transaction};

use super::connection::{Connections, Parameters};
use crate::store::position::{TENANT_KEYS, of_tenant};
use crate::store::staging::RESTORING;
use crate::store::{
    Access, AuditKind, AuditNote, Author, Erased, StoreError, Tenant, TenantSettings, TenantState,
};

/// Rows that one step of an erasure removes from each table: few enough that others hardly wait.
const ERASED_AT_ONCE: i64 = 2000;
/// Of all advisory locks of two numbers, those that stand for the erasure of a tenant.
const ERASURE: i32 = 0x6572_6173;

/// The region has had as many tenants as can be numbered.
#[derive(Debug, thiserror::Error)]
#[error("the store has no number left for another tenant")]
struct TenantsExhausted;

/// The condition that an access holds, on the tenant's row `t`; its parameters are always the first
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
        "t.id AS tenant_id, t.name AS tenant_name, t.state, t.credential_version, h.seq, h.users,
         h.groups, t.settings, t.created AS tenant_created"
    };
}
pub(super) use tenant_columns;

/// Joins the other half of the head row, `h`.
macro_rules! with_head {
    () => {
        " JOIN LATERAL (SELECT h.seq, h.users, h.groups FROM head h
                         WHERE h.tenant = t.tenant ORDER BY h.seq DESC LIMIT 1) h ON true "
    };
}
pub(super) use with_head;

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
                "WITH t AS (
                    INSERT INTO tenant (id, name, state, credential_version, settings, created)
                    SELECT $1, $2, 'active', 1, $3, $4
                     WHERE (SELECT coalesce(max(tenant), 0) FROM tenant) < $5::bigint - 1
                    RETURNING *),
                 h AS (
                    INSERT INTO head (tenant, seq, users, groups)
                    SELECT t.tenant, 0, 0, 0 FROM t RETURNING *)
                 SELECT ",
                tenant_columns!(),
                ", note_audit(t.tenant, $4, $6, $7, '', '', '[]')
                   FROM t JOIN h ON h.tenant = t.tenant"
            ),
            &[
                &id.as_str(),
                &name,
                &settings_json(settings)?,
                &now.as_millis(),
                &TENANT_KEYS,
                &AuditKind::TenantCreated.as_str(),
                &Author::operator().actor,
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
        " FROM tenant t ",
        with_head!(),
        "WHERE t.id = $1 AND t.state IN ('active', 'suspended')"
    );
    only(&connections.query(sql, &[&id.as_str()]).await?)
}

pub(super) async fn list(connections: &Connections) -> Result<Vec<Tenant>, StoreError> {
    let sql = concat!(
        "SELECT ",
        tenant_columns!(),
        " FROM tenant t ",
        with_head!(),
        "WHERE t.state IN ('active', 'suspended') ORDER BY t.tenant"
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
    by: &Author,
    now: Timestamp,
) -> Result<Tenant, StoreError> {
    let sql = concat!(
        "WITH t AS (
            UPDATE tenant t SET state = $2, credential_version = t.credential_version + 1
             WHERE t.id = $1 AND t.state IN ('active', 'suspended') RETURNING t.*)
         SELECT ",
        tenant_columns!(),
        ", note_audit(t.tenant, $3, $4, $5, $6, '', '[]') FROM t ",
        with_head!()
    );
    let rows = connections
        .query(
            sql,
            &[
                &id.as_str(),
                &state.as_str(),
                &now.as_millis(),
                &AuditKind::from(state).as_str(),
                &by.actor,
                &by.request,
            ],
        )
        .await?;
    only(&rows)?.ok_or(StoreError::NotFound)
}

pub(super) async fn set_settings(
    connections: &Connections,
    id: &TenantId,
    settings: &TenantSettings,
    expected: Option<i64>,
    note: &AuditNote,
    now: Timestamp,
) -> Result<Tenant, StoreError> {
    let sql = concat!(
        "WITH t AS (
            UPDATE tenant t SET settings = $2, credential_version = t.credential_version + 1
             WHERE t.id = $1 AND t.state IN ('active', 'suspended')
               AND ($3::bigint IS NULL OR (t.state = 'active' AND t.credential_version = $3))
            RETURNING t.*)
         SELECT ",
        tenant_columns!(),
        ", note_audit(t.tenant, $4, $5, $6, $7, $8, $9) FROM t ",
        with_head!()
    );
    let rows = connections
        .query(
            sql,
            &[
                &id.as_str(),
                &settings_json(settings)?,
                &expected,
                &now.as_millis(),
                &note.kind.as_str(),
                &note.by.actor,
                &note.by.request,
                &note.subject,
                &note.names_json()?,
            ],
        )
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
    let sql =
        "SELECT t.tenant FROM tenant t WHERE t.id = $1 AND t.state IN ('active', 'suspended')";
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

/// What makes a tenant invisible and takes its tokens, in one statement; the condition says which.
/// Its id is free again: a restore may bring it back.
macro_rules! retire {
    ($condition:literal) => {
        concat!(
            "WITH gone AS (
                 UPDATE tenant t SET id = 'erasing ' || t.tenant, state = 'erasing', name = '',
                        settings = '{}', credential_version = t.credential_version + 1
                  WHERE ",
            $condition,
            " RETURNING t.tenant),
             access AS (DELETE FROM access_token a USING gone WHERE a.tenant = gone.tenant),
             tokens AS (DELETE FROM api_token k USING gone WHERE k.tenant = gone.tenant RETURNING 1)
             SELECT gone.tenant, (SELECT count(*) FROM tokens) FROM gone"
        )
    };
}

/// Makes a tenant invisible and takes its tokens; its rows are left for [`erase_some`]. Answers
/// its number and how many tokens it had.
pub(super) async fn begin_erasure(
    connections: &Connections,
    id: &TenantId,
) -> Result<(i64, u64), StoreError> {
    let sql = retire!("t.id = $1 AND t.state IN ('active', 'suspended')");
    let rows = connections.query(sql, &[&id.as_str()]).await?;
    let row = rows.first().ok_or(StoreError::NotFound)?;
    Ok((row.try_get(0)?, unsigned(row, 1)?))
}

/// The same for a tenant by its number, in a transaction.
pub(super) async fn retire(transaction: &Transaction<'_>, tenant: i64) -> Result<(), StoreError> {
    transaction
        .query(retire!("t.tenant = $1"), &[&tenant])
        .await?;
    Ok(())
}

/// A count that a row holds.
pub(super) fn unsigned(row: &Row, at: usize) -> Result<u64, StoreError> {
    u64::try_from(row.try_get::<_, i64>(at)?).map_err(|_| StoreError::Corrupt("a count below zero"))
}

/// All tenants that there are for clients, each with its number.
pub(super) async fn list_with_numbers(
    transaction: &Transaction<'_>,
) -> Result<Vec<(i64, Tenant)>, StoreError> {
    let sql = concat!(
        "SELECT t.tenant AS number, ",
        tenant_columns!(),
        " FROM tenant t ",
        with_head!(),
        "WHERE t.state IN ('active', 'suspended') ORDER BY t.tenant"
    );
    let rows = transaction.query(sql, &[]).await?;
    let with_number = |row: &Row| Ok((row.try_get("number")?, read(row)?));
    rows.iter().map(with_number).collect()
}

/// Stores a tenant that nobody sees yet, under an id that is none; answers its number.
pub(super) async fn stage(
    transaction: &Transaction<'_>,
    tenant: &Tenant,
) -> Result<i64, StoreError> {
    let row = transaction
        .query_one(
            "WITH t AS (
                INSERT INTO tenant (id, name, state, credential_version, settings, created)
                VALUES ($1, $2, $3, $4, $5, $6) RETURNING tenant)
             INSERT INTO head (tenant, seq, users, groups)
             SELECT t.tenant, $7, $8, $9 FROM t RETURNING tenant",
            &[
                &format!("{RESTORING} {}", tenant.id),
                &tenant.name,
                &RESTORING,
                &tenant.credential_version,
                &settings_json(&tenant.settings)?,
                &tenant.created.as_millis(),
                &tenant.seq,
                &tenant.users,
                &tenant.groups,
            ],
        )
        .await?;
    let number: i64 = row.try_get(0)?;
    if number >= TENANT_KEYS {
        return Err(StoreError::Unavailable(Box::new(TenantsExhausted)));
    }
    Ok(number)
}

/// Tenants whose erasure was cut short.
pub(super) async fn unfinished_erasures(connections: &Connections) -> Result<Vec<i64>, StoreError> {
    let sql = "SELECT t.tenant FROM tenant t WHERE t.state = 'erasing'";
    let rows = connections.query(sql, &[]).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Removes some rows of a tenant that is being erased; none were left if it removes none, and
/// then the tenant's own row is gone too.
pub(super) async fn erase_some(
    connections: &Connections,
    tenant: i64,
) -> Result<Erased, StoreError> {
    let mut lease = connections.take().await?;
    let transaction = lease.client()?.transaction().await?;
    // Two nodes that erase the same tenant take turns: what one of them finds none of is gone.
    let lock = "SELECT set_config('meridian.tenant', $1::bigint::text, true),
                       pg_advisory_xact_lock($2, $1::bigint::integer)";
    let lock = transaction.prepare_cached(lock).await?;
    transaction.query(&lock, &[&tenant, &ERASURE]).await?;
    let mut erased = Erased::default();
    let (mut requests, mut cycles, mut hours, mut gaps, mut findings) = (0, 0, 0, 0, 0);
    for (table, removed) in [
        ("attribute_index", &mut erased.index_rows),
        ("change", &mut erased.changes),
        ("idempotency", &mut erased.outcomes),
        ("activity", &mut requests),
        ("sync_cycle", &mut cycles),
        ("activity_hour", &mut hours),
        ("activity_gap", &mut gaps),
        ("finding", &mut findings),
        ("audit", &mut erased.audit),
        ("event_dead_letter", &mut erased.dead_letters),
        ("event_endpoint", &mut erased.endpoints),
    ] {
        let sql = format!(
            "WITH gone AS (DELETE FROM {table} x WHERE x.ctid = ANY (ARRAY(
                 SELECT y.ctid FROM {table} y WHERE y.tenant = $1 LIMIT $2)) RETURNING 1)
             SELECT count(*) FROM gone"
        );
        let parameters: Parameters<'_> = &[&tenant, &ERASED_AT_ONCE];
        *removed = unsigned(&counted(&transaction, &sql, parameters).await?, 0)?;
    }
    erased.activity = requests + cycles + hours + gaps + findings;
    let sql = "WITH gone AS (DELETE FROM resource x WHERE x.ctid = ANY (ARRAY(
                   SELECT y.ctid FROM resource y WHERE y.tenant = $1 LIMIT $2))
                   RETURNING x.kind)
               SELECT count(*) FILTER (WHERE kind = 0), count(*) FILTER (WHERE kind <> 0) FROM gone";
    let row = counted(&transaction, sql, &[&tenant, &ERASED_AT_ONCE]).await?;
    (erased.users, erased.groups) = (unsigned(&row, 0)?, unsigned(&row, 1)?);
    let (begin, end) = of_tenant(tenant);
    let sql = "WITH gone AS (DELETE FROM member x WHERE x.ctid = ANY (ARRAY(
                   SELECT y.ctid FROM member y
                    WHERE y.group_position > $1 AND y.group_position <= $2 LIMIT $3)) RETURNING 1)
               SELECT count(*) FROM gone";
    let parameters: Parameters<'_> = &[&begin, &end, &ERASED_AT_ONCE];
    erased.members = unsigned(&counted(&transaction, sql, parameters).await?, 0)?;
    // One that was made in the moment in which the tenant's tokens were taken.
    let sql = "WITH access AS (DELETE FROM access_token a WHERE a.tenant = $1),
                    gone AS (DELETE FROM api_token k WHERE k.tenant = $1 RETURNING 1)
               SELECT count(*) FROM gone";
    erased.tokens = unsigned(&counted(&transaction, sql, &[&tenant]).await?, 0)?;
    if erased.rows() == 0 {
        let sql = "WITH numbers AS (DELETE FROM head h WHERE h.tenant = $1 RETURNING 1),
                        gone AS (DELETE FROM tenant t WHERE t.tenant = $1 RETURNING 1)
                   SELECT (SELECT count(*) FROM gone) + (SELECT count(*) FROM numbers)";
        counted(&transaction, sql, &[&tenant]).await?;
    }
    transaction.commit().await?;
    lease.give_back();
    Ok(erased)
}

/// How many rows of any kind name a tenant.
pub(super) async fn count_rows(connections: &Connections, tenant: i64) -> Result<u64, StoreError> {
    let sql = "SELECT (SELECT count(*) FROM tenant t WHERE t.tenant = $1)
                    + (SELECT count(*) FROM head h WHERE h.tenant = $1)
                    + (SELECT count(*) FROM api_token k WHERE k.tenant = $1)
                    + (SELECT count(*) FROM access_token x WHERE x.tenant = $1)
                    + (SELECT count(*) FROM resource x WHERE x.tenant = $1)
                    + (SELECT count(*) FROM attribute_index x WHERE x.tenant = $1)
                    + (SELECT count(*) FROM member x
                        WHERE x.group_position > $2 AND x.group_position <= $3)
                    + (SELECT count(*) FROM change x WHERE x.tenant = $1)
                    + (SELECT count(*) FROM idempotency x WHERE x.tenant = $1)
                    + (SELECT count(*) FROM activity x WHERE x.tenant = $1)
                    + (SELECT count(*) FROM sync_cycle x WHERE x.tenant = $1)
                    + (SELECT count(*) FROM activity_hour x WHERE x.tenant = $1)
                    + (SELECT count(*) FROM activity_gap x WHERE x.tenant = $1)
                    + (SELECT count(*) FROM finding x WHERE x.tenant = $1)
                    + (SELECT count(*) FROM audit x WHERE x.tenant = $1)
                    + (SELECT count(*) FROM event_endpoint x WHERE x.tenant = $1)
                    + (SELECT count(*) FROM event_dead_letter x WHERE x.tenant = $1)";
    let (begin, end) = of_tenant(tenant);
    let parameters: Parameters<'_> = &[&tenant, &begin, &end];
    let rows = connections.query_scoped(tenant, sql, parameters).await?;
    unsigned(rows.first().ok_or(StoreError::Corrupt("no count"))?, 0)
}

async fn counted(
    transaction: &deadpool_postgres::Transaction<'_>,
    sql: &str,
    parameters: Parameters<'_>,
) -> Result<Row, StoreError> {
    let statement = transaction.prepare_cached(sql).await?;
    let rows = transaction.query(&statement, parameters).await?;
    rows.into_iter()
        .next()
        .ok_or(StoreError::Corrupt("no count"))
}
