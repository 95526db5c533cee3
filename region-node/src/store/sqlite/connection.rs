//! How a connection to the file is opened, and the few calls that all statements go through.
//!
//! Every connection of the process is opened here, so that none can miss a setting.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Params, Row};

use crate::store::StoreError;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The only one that changes anything.
    Writer,
    /// One of many that only read.
    Reader,
    /// Moves pages from the write-ahead log into the file.
    Checkpointer,
}

/// Statements kept prepared on each connection; more than there are in the program.
const PREPARED_STATEMENTS: usize = 96;
/// Where the write-ahead log is cut back to after it has grown. Above the size at which the
/// checkpointer lets it begin anew: a log that is cut and grows again costs more than one that is
/// overwritten.
const WAL_KEEP_BYTES: i64 = 128 * 1024 * 1024;

/// Opens the file for a role.
pub(super) fn open(path: &Path, role: Role, cache_kib: i64) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(match role {
        Role::Writer | Role::Reader => Duration::from_secs(5),
        // It may only hold the others up for a short while, and comes again.
        Role::Checkpointer => Duration::from_millis(500),
    })?;
    // Without the planner's stability guarantee, cached statements are prepared again whenever a
    // bound value could have changed the plan: measured at six times the cost of a look-up.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    if role == Role::Writer {
        connection.pragma_update(None, "page_size", 4096)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "journal_size_limit", WAL_KEEP_BYTES)?;
        // What is deleted is overwritten where that costs no extra write.
        connection.pragma_update(None, "secure_delete", "FAST")?;
    }
    // A commit is on the disk before anybody is told of it.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "mmap_size", 0)?;
    connection.pragma_update(None, "foreign_keys", false)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "cache_size", -cache_kib)?;
    if role == Role::Reader {
        connection.pragma_update(None, "query_only", true)?;
    }
    connection.set_prepared_statement_cache_capacity(PREPARED_STATEMENTS);
    Ok(connection)
}

/// The first row of a query, if there is one.
pub(super) fn first<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    read: impl FnOnce(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Option<T>, StoreError> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    rows.next()?.map(read).transpose()
}

/// All rows of a query.
pub(super) fn all<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    read: impl Fn(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}

/// A column that counts something.
pub(super) fn count(row: &Row<'_>, at: usize) -> Result<u64, StoreError> {
    u64::try_from(row.get::<_, i64>(at)?).map_err(|_| StoreError::Corrupt("a count below zero"))
}

/// Runs a statement that gives no rows; answers how many rows it changed.
pub(super) fn execute(
    connection: &Connection,
    sql: &str,
    params: impl Params,
) -> Result<usize, StoreError> {
    Ok(connection.prepare_cached(sql)?.execute(params)?)
}
