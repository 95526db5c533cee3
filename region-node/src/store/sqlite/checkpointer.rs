//! The thread that moves pages from the write-ahead log into the file.
//!
//! Checkpoints are off in the connections that serve, so that no write has to pay for one. A
//! passive one regularly, which waits for nobody; a restarting one when readers have kept the
//! log from beginning anew for too long.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::store::CommitCounts;

const PERIOD: Duration = Duration::from_millis(250);
/// 64 MiB of pages: the log should begin anew.
const LARGE_LOG_PAGES: i64 = 16 * 1024;
/// 256 MiB of pages: the log must be cut.
const HUGE_LOG_PAGES: i64 = 64 * 1024;
/// How often it is tried to cut the log, when that is asked for: each waits half a second for
/// readers that are in the way.
const CUT_ATTEMPTS: usize = 4;

/// Asks for the log to be cut, and is answered when it was tried.
type Request = oneshot::Sender<()>;

/// Stops its thread when dropped.
pub(super) struct Checkpointer {
    requests: Option<Arc<Sender<Request>>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// Starts the thread; `written` tells it whether there can be anything to do, `long_reads`
    /// how many readers there are that it must not wait for.
    pub(super) fn start(
        connection: Connection,
        written: Arc<CommitCounts>,
        long_reads: Arc<AtomicUsize>,
    ) -> std::io::Result<Self> {
        let (requests, received) = channel();
        let thread = std::thread::Builder::new()
            .name("sqlite-checkpoint".to_owned())
            .spawn(move || run(&connection, &written, &long_reads, &received))?;
        Ok(Self {
            requests: Some(Arc::new(requests)),
            thread: Some(thread),
        })
    }

    /// What cuts the log; it does not keep the thread from ending.
    pub(super) fn cutter(&self) -> Cutter {
        Cutter(
            self.requests
                .as_ref()
                .map(Arc::downgrade)
                .unwrap_or_default(),
        )
    }
}

/// Cuts the write-ahead log.
#[derive(Clone)]
pub(super) struct Cutter(Weak<Sender<Request>>);

impl Cutter {
    /// Moves the whole log into the file and cuts it: then nothing that was erased is left in it.
    /// What readers keep from being cut is overwritten later, as everything in the log.
    pub(super) async fn cut(&self) {
        let (answer, answered) = oneshot::channel();
        let asked = self
            .0
            .upgrade()
            .is_some_and(|requests| requests.send(answer).is_ok());
        if asked {
            // If the thread ends instead, the store closes, and the log is cut by that.
            drop(answered.await);
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

/// What SQLite says after a checkpoint.
struct Progress {
    is_busy: bool,
    log_pages: i64,
    moved_pages: i64,
}

fn run(
    connection: &Connection,
    written: &CommitCounts,
    long_reads: &AtomicUsize,
    requests: &Receiver<Request>,
) {
    // The log may hold what was written before the start.
    let mut seen = None;
    let mut failing = false;
    loop {
        match requests.recv_timeout(PERIOD) {
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {}
            Ok(answer) => {
                let waits = long_reads.load(Ordering::SeqCst) == 0;
                let attempts = if waits { CUT_ATTEMPTS } else { 0 };
                // What fails here fails below too, and is said there.
                let _cut = (0..attempts).any(|_| cut(connection).unwrap_or(false));
                let _gone = answer.send(());
            }
        }
        let present = Some(written.commits.get());
        if present == seen {
            continue;
        }
        match checkpoint_as_needed(connection, long_reads) {
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
fn checkpoint_as_needed(
    connection: &Connection,
    long_reads: &AtomicUsize,
) -> rusqlite::Result<bool> {
    let progress = checkpoint(connection, "PRAGMA wal_checkpoint(PASSIVE)")?;
    // Whoever waits for a reader holds up the writes meanwhile; a backup reads for long.
    let may_wait = long_reads.load(Ordering::SeqCst) == 0;
    let progress = if !may_wait {
        progress
    } else if progress.log_pages > HUGE_LOG_PAGES {
        checkpoint(connection, "PRAGMA wal_checkpoint(TRUNCATE)")?
    } else if progress.log_pages > LARGE_LOG_PAGES {
        checkpoint(connection, "PRAGMA wal_checkpoint(RESTART)")?
    } else {
        progress
    };
    Ok(progress.moved_pages == progress.log_pages)
}

/// Answers whether the log is cut.
fn cut(connection: &Connection) -> rusqlite::Result<bool> {
    Ok(!checkpoint(connection, "PRAGMA wal_checkpoint(TRUNCATE)")?.is_busy)
}

fn checkpoint(connection: &Connection, sql: &str) -> rusqlite::Result<Progress> {
    connection.query_row(sql, [], |row| {
        Ok(Progress {
            is_busy: row.get(0)?,
            log_pages: row.get(1)?,
            moved_pages: row.get(2)?,
        })
    })
}
