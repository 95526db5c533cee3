//! Statements on tenants and their head rows.

use rusqlite::{Connection, OptionalExtension as _, Row};
use shared::{TenantId, Timestamp};

use super::audit::{self, ChainEnd};
use super::connection::{all, execute, first};
use crate::scim::ResourceKind;
use crate::store::position::{self, TENANT_KEYS};
use crate::store::staging::RESTORING;
use crate::store::{
    Access, AuditKind, AuditNote, Author, Erased, StoreError, Tenant, TenantSettings, TenantState,
};

/// State of a tenant that is gone for everybody and whose rows are being removed.
const ERASING: &str = "erasing";
/// Rows that one step of an erasure removes: few enough that other writes hardly wait.
const ERASED_AT_ONCE: i64 = 500;

/// The region has had as many tenants as one file can number.
#[derive(Debug, thiserror::Error)]
#[error("the store has no number left for another tenant")]
struct TenantsExhausted;

/// What a write knows of its tenant after it has moved the head row.
pub(super) struct Head {
    /// The tenant's number in the file.
    pub(super) key: i64,
    /// The number of this write.
    pub(super) seq: i64,
    /// How the chain of its audit records ends.
    pub(super) chain: ChainEnd,
}

pub(super) fn create(
    connection: &Connection,
    id: &TenantId,
    name: &str,
    settings: &TenantSettings,
    now: Timestamp,
) -> Result<Tenant, StoreError> {
    execute(
        connection,
        "INSERT INTO tenant
            (id, name, state, credential_version, seq, users, groups, settings, created)
         VALUES (?1, ?2, 'active', 1, 0, 0, 0, ?3, ?4)",
        (id.as_str(), name, settings_json(settings)?, now.as_millis()),
    )?;
    if connection.last_insert_rowid() >= TENANT_KEYS {
        return Err(StoreError::Unavailable(Box::new(TenantsExhausted)));
    }
    let note = AuditNote::new(AuditKind::TenantCreated, Author::operator(), "");
    audit::note(connection, connection.last_insert_rowid(), now, &note)?;
    get(connection, id)?.ok_or(StoreError::Corrupt("a tenant vanished as it was created"))
}

/// Columns of a tenant, in the order in which [`read`] takes them.
macro_rules! tenant_columns {
    () => {
        "t.id, t.name, t.state, t.credential_version, t.seq, t.users, t.groups, t.settings, t.created"
    };
}
pub(super) use tenant_columns;

/// Reads the columns of `tenant_columns`, the first of which is number `at`.
pub(super) fn read(row: &Row<'_>, at: usize) -> Result<Tenant, StoreError> {
    let settings: String = row.get(at + 7)?;
    Ok(Tenant {
        id: read_id(row, at)?,
        name: row.get(at + 1)?,
        state: match row.get_ref(at + 2)?.as_str() {
            Ok("active") => TenantState::Active,
            Ok("suspended") => TenantState::Suspended,
            _ => return Err(StoreError::Corrupt("a tenant in an unknown state")),
        },
        credential_version: row.get(at + 3)?,
        seq: row.get(at + 4)?,
        users: row.get(at + 5)?,
        groups: row.get(at + 6)?,
        settings: serde_json::from_str(&settings)
            .map_err(|_| StoreError::Corrupt("a tenant with unreadable settings"))?,
        created: Timestamp(row.get(at + 8)?),
    })
}

/// Reads a tenant's id.
pub(super) fn read_id(row: &Row<'_>, at: usize) -> Result<TenantId, StoreError> {
    const ODD: StoreError = StoreError::Corrupt("a tenant with an odd id");
    TenantId::parse(row.get_ref(at)?.as_str().map_err(|_| ODD)?).map_err(|_| ODD)
}

pub(super) fn get(connection: &Connection, id: &TenantId) -> Result<Option<Tenant>, StoreError> {
    first(
        connection,
        concat!(
            "SELECT ",
            tenant_columns!(),
            " FROM tenant t WHERE t.id = ?1 AND t.state IN ('active', 'suspended')"
        ),
        [id.as_str()],
        |row| read(row, 0),
    )
}

pub(super) fn list(connection: &Connection) -> Result<Vec<Tenant>, StoreError> {
    all(
        connection,
        concat!(
            "SELECT ",
            tenant_columns!(),
            " FROM tenant t WHERE t.state IN ('active', 'suspended') ORDER BY t.tenant"
        ),
        [],
        |row| read(row, 0),
    )
}

/// The same, each with its number in the file.
pub(super) fn list_with_keys(connection: &Connection) -> Result<Vec<(i64, Tenant)>, StoreError> {
    all(
        connection,
        concat!(
            "SELECT t.tenant, ",
            tenant_columns!(),
            " FROM tenant t WHERE t.state IN ('active', 'suspended') ORDER BY t.tenant"
        ),
        [],
        |row| Ok((row.get(0)?, read(row, 1)?)),
    )
}

/// Stores a tenant that nobody sees yet, under an id that is none; answers its number.
pub(super) fn stage(connection: &Connection, tenant: &Tenant) -> Result<i64, StoreError> {
    execute(
        connection,
        "INSERT INTO tenant
            (id, name, state, credential_version, seq, users, groups, settings, created)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        (
            format!("{RESTORING} {}", tenant.id),
            &tenant.name,
            RESTORING,
            tenant.credential_version,
            tenant.seq,
            tenant.users,
            tenant.groups,
            settings_json(&tenant.settings)?,
            tenant.created.as_millis(),
        ),
    )?;
    let key = connection.last_insert_rowid();
    if key >= TENANT_KEYS {
        return Err(StoreError::Unavailable(Box::new(TenantsExhausted)));
    }
    Ok(key)
}

pub(super) fn set_state(
    connection: &Connection,
    id: &TenantId,
    state: TenantState,
    by: &Author,
    now: Timestamp,
) -> Result<Tenant, StoreError> {
    let key = first(
        connection,
        "UPDATE tenant SET state = ?2, credential_version = credential_version + 1
         WHERE id = ?1 AND state IN ('active', 'suspended') RETURNING tenant",
        (id.as_str(), state.as_str()),
        |row| Ok(row.get(0)?),
    )?
    .ok_or(StoreError::NotFound)?;
    let note = AuditNote::new(state.into(), by.clone(), "");
    audit::note(connection, key, now, &note)?;
    get(connection, id)?.ok_or(StoreError::NotFound)
}

pub(super) fn set_settings(
    connection: &Connection,
    id: &TenantId,
    settings: &TenantSettings,
    expected: Option<i64>,
    note: &AuditNote,
    now: Timestamp,
) -> Result<Tenant, StoreError> {
    let key = first(
        connection,
        "UPDATE tenant SET settings = ?2, credential_version = credential_version + 1
         WHERE id = ?1 AND state IN ('active', 'suspended')
            AND (?3 IS NULL OR (state = 'active' AND credential_version = ?3))
         RETURNING tenant",
        (id.as_str(), settings_json(settings)?, expected),
        |row| Ok(row.get(0)?),
    )?;
    let tenant = get(connection, id)?.ok_or(StoreError::NotFound)?;
    let key = key.ok_or(StoreError::Refused)?;
    audit::note(connection, key, now, note)?;
    Ok(tenant)
}

fn settings_json(settings: &TenantSettings) -> Result<String, StoreError> {
    serde_json::to_string(settings)
        .map_err(|_| StoreError::Corrupt("settings that cannot be written as JSON"))
}

/// The tenant's number in the file.
pub(super) fn key(connection: &Connection, id: &TenantId) -> Result<Option<i64>, StoreError> {
    first(
        connection,
        "SELECT tenant FROM tenant WHERE id = ?1 AND state IN ('active', 'suspended')",
        [id.as_str()],
        |row| Ok(row.get(0)?),
    )
}

/// Moves a tenant's credential version: grants that were minted before are refused from now on.
pub(super) fn move_credential_version(connection: &Connection, key: i64) -> Result<(), StoreError> {
    execute(
        connection,
        "UPDATE tenant SET credential_version = credential_version + 1 WHERE tenant = ?1",
        [key],
    )?;
    Ok(())
}

/// Makes a tenant invisible and takes its tokens; its rows are left for [`erase_some`]. Answers
/// the tenant's number and how many tokens it had.
pub(super) fn begin_erasure(
    connection: &Connection,
    id: &TenantId,
) -> Result<(i64, u64), StoreError> {
    let key = key(connection, id)?.ok_or(StoreError::NotFound)?;
    Ok((key, retire(connection, key)?))
}

/// The same for a tenant by its number. Its id is free again: a restore may bring it back.
pub(super) fn retire(connection: &Connection, key: i64) -> Result<u64, StoreError> {
    overwriting(connection, || {
        execute(
            connection,
            "UPDATE tenant SET id = ?2 || ' ' || tenant, state = ?2, name = '', settings = '{}',
                    credential_version = credential_version + 1
             WHERE tenant = ?1",
            (key, ERASING),
        )?;
        let sql = "DELETE FROM access_token WHERE tenant = ?1";
        execute(connection, sql, [key])?;
        let tokens = execute(connection, "DELETE FROM api_token WHERE tenant = ?1", [key])?;
        Ok(tokens as u64)
    })
}

/// Runs statements that overwrite what they remove, pages that are given free too, where the
/// connection's setting overwrites only what costs nothing.
fn overwriting<T>(
    connection: &Connection,
    work: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    connection.pragma_update(None, "secure_delete", true)?;
    let done = work();
    connection.pragma_update(None, "secure_delete", "FAST")?;
    done
}

/// Tenants whose erasure was cut short.
pub(super) fn unfinished_erasures(connection: &Connection) -> rusqlite::Result<Vec<i64>> {
    connection
        .prepare("SELECT tenant FROM tenant WHERE state = ?1")?
        .query_map([ERASING], |row| row.get(0))?
        .collect()
}

/// Removes some rows of a tenant that is being erased; none were left if it removes none, and
/// then the tenant's own row is gone too.
pub(super) fn erase_some(connection: &Connection, key: i64) -> Result<Erased, StoreError> {
    overwriting(connection, || erase_rows(connection, key))
}

fn erase_rows(connection: &Connection, key: i64) -> Result<Erased, StoreError> {
    let index_rows = execute(
        connection,
        "DELETE FROM attribute_index WHERE (tenant, attribute, value, position) IN
            (SELECT tenant, attribute, value, position FROM attribute_index
             WHERE tenant = ?1 LIMIT ?2)",
        (key, ERASED_AT_ONCE),
    )?;
    let resources = |kind| {
        let (begin, end) = position::of_kind(key, kind);
        execute(
            connection,
            "DELETE FROM resource WHERE position IN
                (SELECT position FROM resource WHERE position > ?1 AND position <= ?2
                 ORDER BY position LIMIT ?3)",
            (begin, end, ERASED_AT_ONCE),
        )
    };
    let (users, groups) = (
        resources(ResourceKind::User)?,
        resources(ResourceKind::Group)?,
    );
    let (begin, end) = position::of_tenant(key);
    let members = execute(
        connection,
        "DELETE FROM member WHERE (group_position, member_position) IN
            (SELECT group_position, member_position FROM member
             WHERE group_position > ?1 AND group_position <= ?2 LIMIT ?3)",
        (begin, end, ERASED_AT_ONCE),
    )?;
    let changes = execute(
        connection,
        "DELETE FROM change WHERE (tenant, seq, position) IN
            (SELECT tenant, seq, position FROM change WHERE tenant = ?1 LIMIT ?2)",
        (key, ERASED_AT_ONCE),
    )?;
    let audit = execute(
        connection,
        "DELETE FROM audit WHERE (tenant, number) IN
            (SELECT tenant, number FROM audit WHERE tenant = ?1 LIMIT ?2)",
        (key, ERASED_AT_ONCE),
    )?;
    let dead_letters = execute(
        connection,
        "DELETE FROM event_dead_letter WHERE letter IN
            (SELECT letter FROM event_dead_letter WHERE tenant = ?1 LIMIT ?2)",
        (key, ERASED_AT_ONCE),
    )?;
    let endpoints = execute(
        connection,
        "DELETE FROM event_endpoint WHERE tenant = ?1",
        [key],
    )?;
    let outcomes = execute(
        connection,
        "DELETE FROM idempotency WHERE (tenant, origin, key) IN
            (SELECT tenant, origin, key FROM idempotency WHERE tenant = ?1 LIMIT ?2)",
        (key, ERASED_AT_ONCE),
    )?;
    let erased = Erased {
        tokens: 0,
        users: users as u64,
        groups: groups as u64,
        members: members as u64,
        index_rows: index_rows as u64,
        changes: changes as u64,
        outcomes: outcomes as u64,
        activity: super::activity::erase_some(connection, key, ERASED_AT_ONCE)?,
        audit: audit as u64,
        endpoints: endpoints as u64,
        dead_letters: dead_letters as u64,
        left: 0,
    };
    if erased.rows() == 0 {
        execute(connection, "DELETE FROM tenant WHERE tenant = ?1", [key])?;
    }
    Ok(erased)
}

/// The head row of an access, if the access still holds: for reads.
pub(super) fn held(connection: &Connection, access: &Access) -> Result<HeldHead, StoreError> {
    connection
        .prepare_cached(
            "SELECT tenant, users, groups FROM tenant
             WHERE id = ?1 AND state = 'active' AND credential_version = ?2",
        )?
        .query_row((access.tenant.as_str(), access.credential_version), |row| {
            Ok(HeldHead {
                key: row.get(0)?,
                users: row.get(1)?,
                groups: row.get(2)?,
            })
        })
        .optional()?
        .ok_or(StoreError::Refused)
}

/// Refuses what is done to a tenant under an access that does not hold for it.
pub(super) fn check_held(
    connection: &Connection,
    under: Option<&Access>,
    key: i64,
) -> Result<(), StoreError> {
    match under {
        Some(access) if held(connection, access)?.key != key => Err(StoreError::Refused),
        _ => Ok(()),
    }
}

/// What a list knows of its tenant.
pub(super) struct HeldHead {
    pub(super) key: i64,
    pub(super) users: i64,
    pub(super) groups: i64,
}

impl HeldHead {
    pub(super) fn count(&self, kind: ResourceKind) -> i64 {
        match kind {
            ResourceKind::User => self.users,
            ResourceKind::Group => self.groups,
        }
    }
}

/// The whole tenant of an access, if the access still holds.
pub(super) fn head(connection: &Connection, access: &Access) -> Result<Tenant, StoreError> {
    let tenant = get(connection, &access.tenant)?.ok_or(StoreError::Refused)?;
    if tenant.state == TenantState::Active && tenant.credential_version == access.credential_version
    {
        Ok(tenant)
    } else {
        Err(StoreError::Refused)
    }
}

/// What a write does to the number of a tenant's resources.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Creates,
    Keeps,
    Deletes,
}

/// Moves the head row on for a write, if the access still holds: the first statement of every
/// write to a resource.
pub(super) fn move_head(
    connection: &Connection,
    access: &Access,
    kind: ResourceKind,
    effect: Effect,
) -> Result<Head, StoreError> {
    let change: i64 = match effect {
        Effect::Creates => 1,
        Effect::Keeps => 0,
        Effect::Deletes => -1,
    };
    let (users, groups) = match kind {
        ResourceKind::User => (change, 0),
        ResourceKind::Group => (0, change),
    };
    first(
        connection,
        "UPDATE tenant SET seq = seq + 1, users = users + ?3, groups = groups + ?4
         WHERE id = ?1 AND state = 'active' AND credential_version = ?2
         RETURNING tenant, seq, audit_number, audit_hash",
        (
            access.tenant.as_str(),
            access.credential_version,
            users,
            groups,
        ),
        |row| {
            Ok(Head {
                key: row.get(0)?,
                seq: row.get(1)?,
                chain: ChainEnd {
                    key: row.get(0)?,
                    tenant: access.tenant.clone(),
                    number: row.get(2)?,
                    hash: row.get(3)?,
                },
            })
        },
    )?
    .ok_or(StoreError::Refused)
}
