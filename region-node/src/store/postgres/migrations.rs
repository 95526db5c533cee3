//! The schema's history, embedded in the binary and applied at start, under a lock that all nodes
//! of the database share. Rules and table are those of the SQLite engine: expand first, contract
//! in a later release, and say which is the oldest program that can still serve beside it.

use deadpool_postgres::ClientWrapper;

use super::connection::{SCHEMA, SERVING_ROLE};
use super::error::PostgresError;

/// One step of the schema.
pub(super) struct Migration {
    pub(super) version: i64,
    pub(super) name: &'static str,
    /// The oldest schema version whose programs can still use the database after this step.
    pub(super) serves_since: i64,
    pub(super) sql: &'static str,
}

pub(super) const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "tables",
        serves_since: 1,
        sql: include_str!("../migrations/postgres/0001_tables.sql"),
    },
    Migration {
        version: 2,
        name: "writes",
        serves_since: 1,
        sql: include_str!("../migrations/postgres/0002_writes.sql"),
    },
    Migration {
        version: 3,
        name: "access_tokens",
        // An older program does not know them: it calls one unknown, and leaves their rows to a
        // newer one.
        serves_since: 1,
        sql: include_str!("../migrations/postgres/0003_access_tokens.sql"),
    },
    Migration {
        version: 4,
        name: "networks",
        // An older program looks at nobody's network, and its rotations lose them.
        serves_since: 1,
        sql: include_str!("../migrations/postgres/0004_networks.sql"),
    },
    Migration {
        version: 5,
        name: "meant_life",
        // An older program leaves it empty: what it makes is succeeded as before.
        serves_since: 1,
        sql: include_str!("../migrations/postgres/0005_meant_life.sql"),
    },
    Migration {
        version: 6,
        name: "activity",
        // An older program writes none, and leaves a deleted tenant's to the tenant's number, which
        // nobody gets again.
        serves_since: 1,
        sql: include_str!("../migrations/postgres/0006_activity.sql"),
    },
    Migration {
        version: 7,
        name: "audit_events",
        // What an older program writes to a resource is recorded, and nobody is named; what it
        // does to tokens and tenants is not.
        serves_since: 1,
        sql: include_str!("../migrations/postgres/0007_audit_events.sql"),
    },
    Migration {
        version: 8,
        name: "event_policies",
        // One that knows no receivers of events misses nothing. One that stops at 7 finds none, and
        // delivers again when it is replaced.
        serves_since: 1,
        sql: include_str!("../migrations/postgres/0008_event_policies.sql"),
    },
];

/// Of all advisory locks, the one that stands for the schema.
const LOCK: i64 = 0x006d_6572_6964_6961;

/// Why the schema could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// The database was contracted by a newer release.
    #[error(
        "the database is at schema version {database}, which this program (schema version {program}) can no longer use; start a newer release"
    )]
    Newer {
        /// The database's version.
        database: i64,
        /// The newest one that this program knows.
        program: i64,
    },
    /// PostgreSQL failed; nothing was changed.
    #[error("PostgreSQL could not apply the schema (SQLSTATE {0})")]
    Postgres(String),
    /// The connection broke; nothing was changed.
    #[error("the connection to PostgreSQL broke while the schema was applied")]
    Connection,
}

impl From<tokio_postgres::Error> for MigrationError {
    fn from(error: tokio_postgres::Error) -> Self {
        match PostgresError::of(&error) {
            PostgresError::State(state) => Self::Postgres(state),
            _ => Self::Connection,
        }
    }
}

/// Whether statements have to leave the role that connects, because row-level security does not
/// bind it: a superuser, or one that may bypass it.
pub(super) async fn is_above_security(client: &ClientWrapper) -> Result<bool, MigrationError> {
    let row = client
        .query_one(
            "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user",
            &[],
        )
        .await?;
    Ok(row.try_get(0)?)
}

/// Brings the schema up to date, all steps in one transaction that excludes every other node.
pub(super) async fn apply(
    client: &mut ClientWrapper,
    steps: &[Migration],
    serving_role: bool,
) -> Result<(), MigrationError> {
    let transaction = client.transaction().await?;
    // Held to the end of the transaction: another node that starts waits here.
    transaction
        .query_one("SELECT pg_advisory_xact_lock($1)", &[&LOCK])
        .await?;
    transaction
        .batch_execute(&format!(
            "CREATE SCHEMA IF NOT EXISTS {SCHEMA};
             SET LOCAL search_path = {SCHEMA};
             CREATE TABLE IF NOT EXISTS schema_migration (
                 version      bigint PRIMARY KEY,
                 name         text   NOT NULL,
                 serves_since bigint NOT NULL
             )"
        ))
        .await?;
    let row = transaction
        .query_one(
            "SELECT coalesce(max(version), 0), coalesce(max(serves_since), 0)
               FROM schema_migration",
            &[],
        )
        .await?;
    let (database, serves_since): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    let program = steps.last().map_or(0, |newest| newest.version);
    if serves_since > program {
        return Err(MigrationError::Newer { database, program });
    }
    for step in steps.iter().filter(|step| step.version > database) {
        transaction.batch_execute(step.sql).await?;
        transaction
            .execute(
                "INSERT INTO schema_migration (version, name, serves_since) VALUES ($1, $2, $3)",
                &[&step.version, &step.name, &step.serves_since],
            )
            .await?;
    }
    if serving_role {
        grant_to_serving_role(&transaction).await?;
    }
    transaction.commit().await?;
    Ok(())
}

/// A role belongs to all databases of a server, and two that start at once may both make it.
async fn grant_to_serving_role(
    transaction: &deadpool_postgres::Transaction<'_>,
) -> Result<(), MigrationError> {
    transaction
        .batch_execute(&format!(
            "DO $$ BEGIN
                 CREATE ROLE {SERVING_ROLE} NOLOGIN;
             EXCEPTION WHEN duplicate_object OR unique_violation THEN
                 NULL;
             END $$;
             GRANT USAGE ON SCHEMA {SCHEMA} TO {SERVING_ROLE};
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {SCHEMA} TO {SERVING_ROLE}"
        ))
        .await?;
    Ok(())
}
