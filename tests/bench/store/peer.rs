//! What SQLite itself can do: a bare loop that writes the rows of a create into the same file, with
//! the same statements and pragmas, 64 a commit, and nothing around it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, params};

use crate::common::numbers::mix;
use crate::users::{email, external_id, user_name};

const A_COMMIT: usize = 64;
/// Users of the peer have numbers that none of the node's has.
const FIRST: u64 = 1 << 40;

/// Adds users to the file of a node that has stopped; answers how many a second.
pub(crate) fn creates_per_s(database: &Path, count: usize) -> f64 {
    let mut connection = open(database);
    let (tenant, documents) = existing(&connection);
    let checkpoints = Checkpoints::start(database.to_owned());
    let began = Instant::now();
    for commit in 0..count.div_ceil(A_COMMIT) {
        let transaction = connection
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
            .expect("a file of our own");
        for at in 0..A_COMMIT {
            let number = commit * A_COMMIT + at;
            let document = &documents[number % documents.len()];
            create(&transaction, tenant, FIRST + number as u64, document)
                .expect("a create of the peer");
        }
        transaction.commit().expect("a commit of the peer");
    }
    let took = began.elapsed();
    checkpoints.stop();
    (count.div_ceil(A_COMMIT) * A_COMMIT) as f64 / took.as_secs_f64()
}

fn open(database: &Path) -> Connection {
    let connection = Connection::open(database).expect("the node's file");
    let set = || {
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)?;
        connection.pragma_update(None, "secure_delete", "FAST")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        connection.pragma_update(None, "mmap_size", 0)?;
        connection.pragma_update(None, "foreign_keys", false)?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        connection.pragma_update(None, "cache_size", -16 * 1024)
    };
    set().expect("the node's pragmas");
    connection.set_prepared_statement_cache_capacity(64);
    connection
}

/// The number of the large tenant, and some of its documents.
fn existing(connection: &Connection) -> (i64, Vec<String>) {
    let read = || {
        let tenant = connection.query_row(
            "SELECT tenant FROM tenant ORDER BY users DESC LIMIT 1",
            [],
            |row| row.get(0),
        )?;
        let mut some = connection
            .prepare("SELECT document FROM resource WHERE tenant = ?1 AND kind = 0 LIMIT 1000")?;
        let documents = some.query_map([tenant], |row| row.get(0))?;
        Ok((tenant, documents.collect::<rusqlite::Result<_>>()?))
    };
    read().unwrap_or_else(|error: rusqlite::Error| panic!("{error}"))
}

fn create(
    connection: &Connection,
    tenant: i64,
    number: u64,
    document: &str,
) -> rusqlite::Result<()> {
    let now = 1_700_000_000_000_i64;
    let seq: i64 = connection
        .prepare_cached(
            "UPDATE tenant SET seq = seq + 1, users = users + 1, groups = groups + 0
             WHERE tenant = ?1 AND state = 'active' RETURNING seq",
        )?
        .query_row([tenant], |row| row.get(0))?;
    let position = (tenant << 41) + seq;
    let mut id = [0; 16];
    id[..8].copy_from_slice(&mix(number).to_be_bytes());
    id[8..].copy_from_slice(&mix(number ^ 0x1d).to_be_bytes());
    let mut key = [0; 16];
    key[..8].copy_from_slice(&(now as u64 + number).to_be_bytes());
    key[8..].copy_from_slice(&mix(number ^ 0x6e).to_be_bytes());
    connection
        .prepare_cached(
            "INSERT INTO idempotency
                (tenant, origin, key, fingerprint, what, position, id, version, at)
             VALUES (?1, 0, ?2, NULL, 'created', ?3, ?4, ?5, ?6)",
        )?
        .execute(params![tenant, key, position, id, seq, now])?;
    connection
        .prepare_cached(
            "INSERT INTO change (tenant, seq, position, id, what, at, attributes)
             VALUES (?1, ?2, ?3, ?4, 'created', ?5, '[]')",
        )?
        .execute(params![tenant, seq, position, id, now])?;
    let (name, email) = (user_name(number), email(number));
    connection
        .prepare_cached(
            "INSERT INTO resource
                (position, tenant, kind, id, version, created, modified, active,
                 user_name, external_id, display_name, attributes, document)
             VALUES (?1, ?2, 0, ?3, ?4, ?5, ?5, 1, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            position,
            tenant,
            id,
            seq,
            now,
            name,
            external_id(number),
            "display name",
            format!("[[\"emails.value\",\"{email}\"]]"),
            document,
        ])?;
    connection
        .prepare_cached(
            "INSERT INTO attribute_index (tenant, attribute, value, position)
             VALUES (?1, 'emails.value', ?2, ?3)",
        )?
        .execute(params![tenant, email, position])?;
    Ok(())
}

/// Moves the log into the file beside the loop, as the node does.
struct Checkpoints {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Checkpoints {
    fn start(database: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let connection = open(&database);
            while !stopped.load(Ordering::Relaxed) {
                std::thread::park_timeout(Duration::from_millis(500));
                let ran = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
                ran.expect("a checkpoint of the peer");
            }
        });
        Self { stop, thread }
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        self.thread.join().expect("the checkpoints of the peer");
    }
}
