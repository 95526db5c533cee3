//! The schema's history, embedded in the binary and applied when the file is opened.
//!
//! Migrations expand first and contract in a later release. Each says which is the oldest
//! program that can still serve beside it, so that an older binary keeps working on a file that
//! was only expanded, and refuses one that was contracted.

use rusqlite::{Connection, TransactionBehavior};

use super::connection::first;
use crate::store::StoreError;

/// One step of the schema.
struct Migration {
    version: i64,
    name: &'static str,
    /// The oldest schema version whose programs can still use the file after this step.
    serves_since: i64,
    sql: &'static str,
}

const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "tenants_tokens_resources",
        serves_since: 1,
        sql: include_str!("../migrations/sqlite/0001_tenants_tokens_resources.sql"),
    },
    Migration {
        version: 2,
        name: "changes_idempotency",
        // An older program would write and leave a gap in the change feed.
        serves_since: 2,
        sql: include_str!("../migrations/sqlite/0002_changes_idempotency.sql"),
    },
    Migration {
        version: 3,
        name: "access_tokens",
        // An older program does not know them: it calls one unknown, and leaves their rows to a
        // newer one.
        serves_since: 2,
        sql: include_str!("../migrations/sqlite/0003_access_tokens.sql"),
    },
    Migration {
        version: 4,
        name: "networks",
        // An older program looks at nobody's network, and its rotations lose them.
        serves_since: 2,
        sql: include_str!("../migrations/sqlite/0004_networks.sql"),
    },
    Migration {
        version: 5,
        name: "meant_life",
        // An older program leaves it empty: what it makes is succeeded as before.
        serves_since: 2,
        sql: include_str!("../migrations/sqlite/0005_meant_life.sql"),
    },
    Migration {
        version: 6,
        name: "activity",
        // An older program writes none, and leaves a deleted tenant's to the tenant's number, which
        // nobody gets again.
        serves_since: 2,
        sql: include_str!("../migrations/sqlite/0006_activity.sql"),
    },
    Migration {
        version: 7,
        name: "audit_events",
        // What an older program writes is in no audit record; the chain stays whole.
        serves_since: 2,
        sql: include_str!("../migrations/sqlite/0007_audit_events.sql"),
    },
    Migration {
        version: 8,
        name: "event_policies",
        serves_since: 2,
        sql: include_str!("../migrations/sqlite/0008_event_policies.sql"),
    },
];

/// Why the schema could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// The file was contracted by a newer release.
    #[error(
        "the file is at schema version {file}, which this program (schema version {program}) can no longer use; start a newer release"
    )]
    Newer {
        /// The file's version.
        file: i64,
        /// The newest one that this program knows.
        program: i64,
    },
    /// SQLite failed; the step was rolled back.
    #[error("SQLite could not apply the schema")]
    Sqlite(#[from] rusqlite::Error),
}

/// The newest step that this program knows.
pub(super) fn newest() -> i64 {
    MIGRATIONS.last().map_or(0, |newest| newest.version)
}

/// The newest step that has been applied.
pub(super) fn applied(connection: &Connection) -> Result<i64, StoreError> {
    let sql = "SELECT max(version) FROM schema_migration";
    let found = first(connection, sql, [], |row| Ok(row.get(0)?))?;
    found.ok_or(StoreError::Corrupt("a file without a schema"))
}

/// Brings the schema up to date, all steps in one transaction that excludes every other writer.
pub(super) fn apply(connection: &mut Connection) -> Result<(), MigrationError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(
        "CREATE TABLE IF NOT EXISTS schema_migration (
            version      INTEGER PRIMARY KEY,
            name         TEXT    NOT NULL,
            serves_since INTEGER NOT NULL
        ) STRICT",
    )?;
    let (file, serves_since): (i64, i64) = transaction.query_row(
        "SELECT coalesce(max(version), 0), coalesce(max(serves_since), 0) FROM schema_migration",
        [],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let program = newest();
    if serves_since > program {
        return Err(MigrationError::Newer { file, program });
    }
    for migration in MIGRATIONS.iter().filter(|step| step.version > file) {
        transaction.execute_batch(migration.sql)?;
        transaction.execute(
            "INSERT INTO schema_migration (version, name, serves_since) VALUES (?1, ?2, ?3)",
            (migration.version, migration.name, migration.serves_since),
        )?;
    }
    Ok(transaction.commit()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_apply_once_and_in_order() {
        let mut connection = Connection::open_in_memory().unwrap();
        apply(&mut connection).unwrap();
        apply(&mut connection).unwrap();
        let steps: Vec<i64> = MIGRATIONS.iter().map(|step| step.version).collect();
        let expected: Vec<i64> = (1..).take(MIGRATIONS.len()).collect();
        assert_eq!(steps, expected);
        let applied: i64 = connection
            .query_row("SELECT count(*) FROM schema_migration", [], |row| {
                row.get(0)
            })
            .unwrap();
        assert_eq!(applied, i64::try_from(MIGRATIONS.len()).unwrap());
    }

    #[test]
    fn an_expanded_file_serves_and_a_contracted_one_is_refused() {
        let mut connection = Connection::open_in_memory().unwrap();
        apply(&mut connection).unwrap();
        let newer =
            "INSERT INTO schema_migration (version, name, serves_since) VALUES (?1, 'x', ?2)";
        connection.execute(newer, (1000, 2)).unwrap();
        apply(&mut connection).unwrap();
        connection.execute(newer, (1001, 1001)).unwrap();
        assert!(matches!(
            apply(&mut connection),
            Err(MigrationError::Newer { file: 1001, .. })
        ));
    }
}
