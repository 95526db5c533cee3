//! The one thread that writes, and its group commit.
//!
//! Jobs that wait while a commit is under way share the next one. Each runs under a savepoint of
//! its own, so a job that fails takes back only what it did itself; nobody is answered before
//! the commit is on the disk, and if the commit fails, nothing of the batch is acknowledged, not
//! even a failure that rested on what another job of the batch had written.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::connection::execute;
use crate::store::{CommitCounts, StoreError};

/// Most jobs that share one commit.
const LARGEST_BATCH: usize = 256;

/// Opens the writer's connection, at start and after a failure.
pub(super) type Opener = Box<dyn Fn() -> rusqlite::Result<Connection> + Send>;

/// Why a write was not even tried, or not kept.
#[derive(Clone, Debug, thiserror::Error)]
enum WriteError {
    #[error("too many writes are waiting")]
    QueueFull,
    #[error("the writer has stopped")]
    Stopped,
    #[error("the commit failed, and nothing of it was kept")]
    CommitFailed(#[source] Arc<StoreError>),
    #[error("SQLite rolled the transaction back")]
    RolledBack,
}

impl WriteError {
    fn unavailable(self) -> StoreError {
        StoreError::Unavailable(Box::new(self))
    }
}

/// The handle by which jobs reach the writer's thread. Dropping it waits until all accepted jobs
/// are done.
pub(super) struct Writer {
    queue: Option<SyncSender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
    counters: Arc<CommitCounts>,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(
        connection: Connection,
        reopen: Opener,
        queue_length: usize,
        counters: Arc<CommitCounts>,
    ) -> std::io::Result<Self> {
        let (queue, jobs) = sync_channel(queue_length);
        let mut state = State {
            connection: Some(connection),
            reopen,
            counters: Arc::clone(&counters),
        };
        let thread = std::thread::Builder::new()
            .name("sqlite-writer".to_owned())
            .spawn(move || state.run(&jobs))?;
        Ok(Self {
            queue: Some(queue),
            thread: Some(thread),
            counters,
        })
    }

    /// What the thread has done so far.
    pub(super) fn counts(&self) -> &CommitCounts {
        &self.counters
    }

    /// Runs `work` in a transaction and answers when it is durable. A caller that gives up before
    /// the job begins takes it back; later, it only misses the answer.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        self.write_or_refuse(work).await
    }

    /// The same for work that can fail in ways of its own; a failure takes back what it did.
    pub(super) async fn write_or_refuse<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let task = Task {
            work: Some(work),
            result: None,
            answer,
        };
        let queue = self
            .queue
            .as_ref()
            .ok_or_else(|| WriteError::Stopped.unavailable())?;
        queue
            .try_send(Box::new(task))
            .map_err(|error| match error {
                TrySendError::Full(_) => WriteError::QueueFull.unavailable(),
                TrySendError::Disconnected(_) => WriteError::Stopped.unavailable(),
            })?;
        answered
            .await
            .unwrap_or_else(|_| Err(WriteError::Stopped.unavailable().into()))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // The thread catches what its jobs do; there is nothing to learn from its end.
            let _ended = thread.join();
        }
    }
}

/// A write that waits for its turn.
trait Job: Send {
    /// Whether nobody waits for the answer any more.
    fn abandoned(&self) -> bool;
    /// Does the work; answers whether what it wrote is to be kept.
    fn run(&mut self, connection: &Connection) -> bool;
    /// Gives the result to whoever waits for it; `lost` is why the commit did not happen.
    fn answer(self: Box<Self>, lost: Option<&WriteError>);
}

struct Task<T, E, F> {
    work: Option<F>,
    result: Option<Result<T, E>>,
    answer: oneshot::Sender<Result<T, E>>,
}

impl<T, E, F> Job for Task<T, E, F>
where
    T: Send,
    E: From<StoreError> + Send,
    F: FnOnce(&Connection) -> Result<T, E> + Send,
{
    fn abandoned(&self) -> bool {
        self.answer.is_closed()
    }

    fn run(&mut self, connection: &Connection) -> bool {
        let Some(work) = self.work.take() else {
            return false;
        };
        // What a panic leaves half done in the database is rolled back by the caller, and the
        // work itself is consumed: nothing that is broken can be seen afterwards.
        let result = catch_unwind(AssertUnwindSafe(|| work(connection)))
            .unwrap_or_else(|_panic| Err(StoreError::Corrupt("a write panicked").into()));
        let keep = result.is_ok();
        self.result = Some(result);
        keep
    }

    fn answer(self: Box<Self>, lost: Option<&WriteError>) {
        let result = match (lost, self.result) {
            (Some(error), _) => Err(error.clone().unavailable().into()),
            (None, Some(result)) => result,
            (None, None) => Err(WriteError::Stopped.unavailable().into()),
        };
        // Whoever asked may have gone away; the write stands all the same.
        let _undelivered = self.answer.send(result);
    }
}

/// What the thread owns.
struct State {
    connection: Option<Connection>,
    reopen: Opener,
    counters: Arc<CommitCounts>,
}

impl State {
    fn run(&mut self, jobs: &Receiver<Box<dyn Job>>) {
        while let Ok(first) = jobs.recv() {
            let mut batch = vec![first];
            batch.extend(jobs.try_iter().take(LARGEST_BATCH - 1));
            batch.retain(|job| !job.abandoned());
            if !batch.is_empty() {
                self.commit(batch);
            }
        }
    }

    fn commit(&mut self, mut batch: Vec<Box<dyn Job>>) {
        let begun = Instant::now();
        let lost = match self.try_commit(&mut batch) {
            Ok(kept) => {
                self.counters.committed(batch.len(), kept, begun.elapsed());
                None
            }
            Err(error) => {
                // A fresh connection knows nothing of what went wrong with this one.
                self.connection = None;
                let error = Arc::new(error);
                self.counters.failed(&*error);
                Some(WriteError::CommitFailed(error))
            }
        };
        for job in batch {
            job.answer(lost.as_ref());
        }
    }

    /// Answers how many of the jobs were kept.
    fn try_commit(&mut self, batch: &mut [Box<dyn Job>]) -> Result<u64, StoreError> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            closed => closed.insert((self.reopen)()?),
        };
        execute(connection, "BEGIN IMMEDIATE", [])?;
        let mut kept = 0;
        for job in batch {
            execute(connection, "SAVEPOINT job", [])?;
            let keep = job.run(connection);
            // On a full disk and the like SQLite may take the whole transaction back.
            if connection.is_autocommit() {
                return Err(WriteError::RolledBack.unavailable());
            }
            if keep {
                kept += 1;
            } else {
                execute(connection, "ROLLBACK TO job", [])?;
            }
            execute(connection, "RELEASE job", [])?;
        }
        execute(connection, "COMMIT", [])?;
        Ok(kept)
    }
}
