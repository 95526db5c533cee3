//! The thread that moves pages from the write-ahead log into the file.
//!
//! Checkpoints are off in the connections that serve, so that no write has to pay for one. A
//! passive one regularly, which waits for nobody; a restarting one when readers have kept the
//! log from beginning anew for too long.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;

use super::writer::Counters;

const PERIOD: Duration = Duration::from_millis(500);
/// 64 MiB of pages: the log should begin anew.
const LARGE_LOG_PAGES: i64 = 16 * 1024;
/// 256 MiB of pages: the log must be cut.
const HUGE_LOG_PAGES: i64 = 64 * 1024;

/// Stops its thread when dropped.
pub(super) struct Checkpointer {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// Starts the thread; `written` tells it whether there can be anything to do.
    pub(super) fn start(connection: Connection, written: Arc<Counters>) -> std::io::Result<Self> {
        let (stop, stopped) = channel();
        let thread = std::thread::Builder::new()
            .name("sqlite-checkpoint".to_owned())
            .spawn(move || run(&connection, &written, &stopped))?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

/// What SQLite says after a checkpoint.
struct Progress {
    log_pages: i64,
    moved_pages: i64,
}

fn run(connection: &Connection, written: &Counters, stopped: &Receiver<()>) {
    // The log may hold what was written before the start.
    let mut seen = None;
    let mut failing = false;
    while stopped.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
        let present = Some(written.commits());
        if present == seen {
            continue;
        }
        match checkpoint_as_needed(connection) {
            Ok(complete) => {
                failing = false;
                if complete {
                    seen = present;
                }
            }
            // The log only grows until it works again: worth one line, not one every period.
            Err(error) if !failing => {
                failing = true;
                tracing::warn!(
                    error = &error as &(dyn std::error::Error + 'static),
                    "the write-ahead log could not be moved into the file"
                );
            }
            Err(_) => {}
        }
    }
}

/// Answers whether the whole log is in the file.
fn checkpoint_as_needed(connection: &Connection) -> rusqlite::Result<bool> {
    let progress = checkpoint(connection, "PRAGMA wal_checkpoint(PASSIVE)")?;
    let progress = if progress.log_pages > HUGE_LOG_PAGES {
        checkpoint(connection, "PRAGMA wal_checkpoint(TRUNCATE)")?
    } else if progress.log_pages > LARGE_LOG_PAGES {
        checkpoint(connection, "PRAGMA wal_checkpoint(RESTART)")?
    } else {
        progress
    };
    Ok(progress.moved_pages == progress.log_pages)
}

fn checkpoint(connection: &Connection, sql: &str) -> rusqlite::Result<Progress> {
    connection.query_row(sql, [], |row| {
        Ok(Progress {
            log_pages: row.get(1)?,
            moved_pages: row.get(2)?,
        })
    })
}
