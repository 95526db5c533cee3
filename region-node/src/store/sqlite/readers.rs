//! The connections that read, and on which thread they do it.
//!
//! A look-up by an index costs microseconds, less than a hop to another thread, so it runs where
//! it is asked for. What can take longer runs on tokio's blocking pool, and may hold half of the
//! connections at most, so that look-ups always find one.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::connection::{Role, execute, open};
use crate::store::StoreError;

/// How long a read waits for a connection before it is refused.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Why a read was not tried.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("too many reads are under way")]
    Busy,
    #[error("the reading thread ended early")]
    Ended,
    #[error("nobody waits for the answer")]
    GivenUp,
}

impl ReadError {
    fn unavailable(self) -> StoreError {
        StoreError::Unavailable(Box::new(self))
    }
}

/// The end of a read whose asker is gone. Nobody sees it.
pub(super) fn given_up() -> StoreError {
    ReadError::GivenUp.unavailable()
}

/// A bounded pool of reading connections.
pub(super) struct Readers {
    path: PathBuf,
    cache_kib: i64,
    idle: Mutex<Vec<Connection>>,
    connections: Arc<Semaphore>,
    scans: Arc<Semaphore>,
}

impl Readers {
    /// A pool of at most `size` connections, which are opened as they are needed.
    pub(super) fn new(path: PathBuf, size: usize, cache_kib: i64) -> Self {
        let size = size.max(2);
        Self {
            path,
            cache_kib,
            idle: Mutex::new(Vec::with_capacity(size)),
            connections: Arc::new(Semaphore::new(size)),
            scans: Arc::new(Semaphore::new(size / 2)),
        }
    }

    /// A read of microseconds: runs on the calling thread.
    pub(super) async fn point<T>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, StoreError> + Send,
    ) -> Result<T, StoreError> {
        let _connection = wait_for(&self.connections).await?;
        let reader = self.take()?;
        read(reader.connection()?)
    }

    /// A read of any length: runs on the blocking pool.
    pub(super) async fn scan<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let scan = wait_for(&self.scans).await?;
        let connection = wait_for(&self.connections).await?;
        let readers = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            // Held here, so that a caller who gives up does not let more reads in than fit.
            let _permits = (scan, connection);
            let reader = readers.take()?;
            read(reader.connection()?)
        })
        .await
        .unwrap_or_else(|_| Err(ReadError::Ended.unavailable()))
    }

    fn take(&self) -> Result<Reader<'_>, StoreError> {
        let idle = self.lock().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => open(&self.path, Role::Reader, self.cache_kib)?,
        };
        Ok(Reader {
            connection: Some(connection),
            readers: self,
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn wait_for(semaphore: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, StoreError> {
    if let Ok(permit) = Arc::clone(semaphore).try_acquire_owned() {
        return Ok(permit);
    }
    let permit = Arc::clone(semaphore).acquire_owned();
    match tokio::time::timeout(LONGEST_WAIT, permit).await {
        Ok(Ok(permit)) => Ok(permit),
        _ => Err(ReadError::Busy.unavailable()),
    }
}

/// A connection on loan.
struct Reader<'a> {
    connection: Option<Connection>,
    readers: &'a Readers,
}

impl Reader<'_> {
    fn connection(&self) -> Result<&Connection, StoreError> {
        self.connection
            .as_ref()
            .ok_or(StoreError::Corrupt("a reader lost its connection"))
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        // One that is still in a transaction ended badly, and would show its old snapshot for ever.
        if connection.is_autocommit() {
            self.readers.lock().push(connection);
        }
    }
}

/// Runs several statements on one snapshot.
pub(super) fn snapshot<T>(
    connection: &Connection,
    read: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    execute(connection, "BEGIN", [])?;
    let result = read();
    execute(connection, "COMMIT", [])?;
    result
}
