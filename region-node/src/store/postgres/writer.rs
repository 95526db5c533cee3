//! Group commit: writes that arrive while a commit is under way share the next one.
//!
//! A tenant's writes all go through one lane of the node, because they wait for one row anyway;
//! several lanes serve different tenants at the same time. Each write is one call of a function
//! that keeps to a savepoint of its own, so one that cannot be done takes back only itself. The
//! whole batch is sent at once: one round trip, one commit, however many writes there are.
//! Nobody is answered before the commit is; if it fails, nothing of the batch is acknowledged.

use std::sync::Arc;
use std::time::{Duration, Instant};

use deadpool_postgres::ClientWrapper;
use futures_util::future::{join, join_all};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::connection::Connections;
use super::error::{PostgresError, of_state};
use crate::scim::{ResourceId, ResourceKind, Version};
use crate::store::position::kind_of;
use crate::store::{ChangeKind, CommitCounts, Outcome, Position, StoreError};
use shared::Timestamp;

/// Most writes that share one commit: PostgreSQL keeps the savepoints of a transaction at hand up
/// to this number.
const LARGEST_BATCH: usize = 64;
/// Writes that touch more rows than this get a transaction of their own, on connections of their
/// own, so that others need not wait for them.
pub(super) const LARGE: usize = 1000;

/// A function of `0007_audit_events.sql`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Create,
    Replace,
    Delete,
    ChangeMembers,
}

impl Function {
    fn sql(self) -> &'static str {
        match self {
            Self::Create => {
                "SELECT * FROM create_resource($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11,
                 $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23)"
            }
            Self::Replace => {
                "SELECT * FROM replace_resource($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11,
                 $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25)"
            }
            Self::Delete => {
                "SELECT * FROM delete_resource($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
            }
            Self::ChangeMembers => {
                "SELECT * FROM change_members($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12,
                 $13, $14)"
            }
        }
    }
}

/// A write: which function, with what.
pub(super) struct Call {
    pub(super) tenant: i64,
    pub(super) function: Function,
    pub(super) parameters: Vec<Box<dyn ToSql + Sync + Send>>,
    /// About how many rows it touches beside its own.
    pub(super) rows: usize,
}

/// What a write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) position: i64,
    pub(super) version: i64,
    pub(super) created: Option<i64>,
}

struct Job {
    call: Call,
    answer: oneshot::Sender<Result<Written, StoreError>>,
}

/// The handle by which writes reach their lanes.
pub(super) struct Writer {
    lanes: Vec<mpsc::Sender<Job>>,
    /// Where writes that are too large for a lane are done.
    large: Commits,
}

/// What lanes and large writes have in common.
#[derive(Clone)]
struct Commits {
    connections: Connections,
    longest: Duration,
    counters: Arc<CommitCounts>,
}

impl Commits {
    /// Does the calls in one transaction, within the time; one row for each. An error is the loss
    /// of them all, or of the knowledge whether they were kept.
    async fn commit(&self, calls: &[Call]) -> Result<Vec<Row>, StoreError> {
        let begun = Instant::now();
        let committed = tokio::time::timeout(self.longest, commit(&self.connections, calls)).await;
        let rows = committed.unwrap_or_else(|_| Err(PostgresError::Slow.into()))?;
        let kept = rows.iter().filter(|row| is_done(row)).count();
        self.counters
            .committed(calls.len(), kept as u64, begun.elapsed());
        Ok(rows)
    }
}

impl Writer {
    /// Starts the lanes on a runtime. Together they hold at most `queue` writes that wait.
    pub(super) fn start(
        connections: &Connections,
        large: &Connections,
        lanes: usize,
        queue: usize,
        longest: Duration,
        runtime: &Handle,
    ) -> Self {
        let lanes = lanes.max(1);
        let commits = Commits {
            connections: connections.clone(),
            longest,
            counters: Arc::default(),
        };
        let start = |_| {
            let (lane, jobs) = mpsc::channel((queue / lanes).max(1));
            runtime.spawn(run_lane(commits.clone(), jobs));
            lane
        };
        Self {
            lanes: (0..lanes).map(start).collect(),
            large: Commits {
                connections: large.clone(),
                ..commits
            },
        }
    }

    /// What was written since the start.
    pub(super) fn counts(&self) -> &CommitCounts {
        &self.large.counters
    }

    /// Does a write and answers when it is durable. A caller that gives up before the write is
    /// sent takes it back; later, it only misses the answer.
    pub(super) async fn write(&self, call: Call) -> Result<Written, StoreError> {
        if call.rows > LARGE {
            return self.write_alone(call).await;
        }
        let lanes = self.lanes.len() as u64;
        let number = usize::try_from(call.tenant.unsigned_abs() % lanes).unwrap_or(0);
        let lane = self.lanes.get(number).ok_or(PostgresError::Stopped)?;
        let (answer, answered) = oneshot::channel();
        lane.try_send(Job { call, answer })
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => PostgresError::QueueFull,
                mpsc::error::TrySendError::Closed(_) => PostgresError::Stopped,
            })?;
        answered
            .await
            .unwrap_or_else(|_| Err(PostgresError::Stopped.into()))
    }

    async fn write_alone(&self, call: Call) -> Result<Written, StoreError> {
        let commits = self.large.clone();
        // In a task of its own: a caller that gives up must not break off a commit half-way, or
        // nobody would know what became of it.
        let writing = tokio::spawn(async move {
            let rows = commits.commit(&[call]).await?;
            rows.first().map_or_else(|| Err(NO_ROW), read)
        });
        writing
            .await
            .unwrap_or_else(|_| Err(PostgresError::Stopped.into()))
    }
}

const NO_ROW: StoreError = StoreError::Corrupt("a write answered no row");

/// One lane: takes what waits, commits it, and again.
async fn run_lane(commits: Commits, mut jobs: mpsc::Receiver<Job>) {
    let mut batch = Vec::with_capacity(LARGEST_BATCH);
    while jobs.recv_many(&mut batch, LARGEST_BATCH).await > 0 {
        batch.retain(|job: &Job| !job.answer.is_closed());
        if !batch.is_empty() {
            commit_batch(&commits, std::mem::take(&mut batch)).await;
        }
    }
}

async fn commit_batch(commits: &Commits, mut batch: Vec<Job>) {
    // Head rows are locked in one order by all nodes, so that two batches never wait for each
    // other. Writes of one tenant keep theirs.
    batch.sort_by_key(|job| job.call.tenant);
    let (calls, answers): (Vec<Call>, Vec<_>) =
        batch.into_iter().map(|job| (job.call, job.answer)).unzip();
    match commits.commit(&calls).await {
        Ok(rows) => {
            for (row, answer) in rows.iter().zip(answers) {
                // Whoever asked may have gone away; the write stands all the same.
                drop(answer.send(read(row)));
            }
        }
        Err(error) => {
            let error = Arc::new(error);
            commits.counters.failed(&*error);
            for answer in answers {
                let lost = PostgresError::CommitFailed(Arc::clone(&error));
                drop(answer.send(Err(lost.into())));
            }
        }
    }
}

/// Begins, calls and commits in one round trip.
async fn commit(connections: &Connections, calls: &[Call]) -> Result<Vec<Row>, StoreError> {
    let mut lease = connections.take().await?;
    let client: &ClientWrapper = lease.client()?;
    let mut statements = Vec::with_capacity(calls.len());
    for call in calls {
        statements.push(client.prepare_cached(call.function.sql()).await?);
    }
    // Polled for the first time in this order, they are sent in this order, without waiting for
    // each other's answers.
    let begun = client.batch_execute("BEGIN");
    let done = join_all(calls.iter().zip(&statements).map(|(call, statement)| {
        let parameters: Vec<&(dyn ToSql + Sync)> = call
            .parameters
            .iter()
            .map(|parameter| &**parameter as &(dyn ToSql + Sync))
            .collect();
        async move { client.query_one(statement, &parameters).await }
    }));
    let committed = client.batch_execute("COMMIT");
    let (begun, (done, committed)) = join(begun, join(done, committed)).await;
    begun?;
    // A call that fails instead of answering has spoilt the transaction: then the COMMIT was a
    // ROLLBACK, though it says nothing of it.
    let rows = done.into_iter().collect::<Result<Vec<Row>, _>>()?;
    committed?;
    // What PostgreSQL could not do now may be wrong with this connection only: it could lead to a
    // server that has become a standby.
    let is_sound = !rows
        .iter()
        .any(|row| matches!(read(row), Err(StoreError::Unavailable(_))));
    if is_sound {
        lease.give_back();
    }
    Ok(rows)
}

fn is_done(row: &Row) -> bool {
    row.try_get("status")
        .is_ok_and(|status: &str| status == "done")
}

/// What a write ended in.
fn read(row: &Row) -> Result<Written, StoreError> {
    let status: &str = row.try_get("status")?;
    match status {
        "done" => Ok(Written {
            position: row.try_get("position")?,
            version: row.try_get("version")?,
            created: row.try_get("created")?,
        }),
        "refused" => Err(StoreError::Refused),
        "not_found" => Err(StoreError::NotFound),
        "stale" => Err(StoreError::Stale {
            current: Version(row.try_get("version")?),
        }),
        "taken" => Err(StoreError::Taken {
            attribute: match row.try_get("attribute")? {
                Some("userName") => "userName",
                Some("displayName") => "displayName",
                _ => "id",
            },
        }),
        "repeated" => Err(StoreError::Repeated(outcome(row)?)),
        "key_reused" => Err(StoreError::KeyReused),
        state => Err(of_state(state)),
    }
}

/// An outcome, from the columns `what`, `position`, `id`, `version`, `at`.
pub(super) fn outcome(row: &Row) -> Result<Outcome, StoreError> {
    let position = row.try_get("position")?;
    Ok(Outcome {
        what: change_kind(row.try_get("what")?)?,
        kind: kind_of(position),
        id: resource_id(row.try_get("id")?),
        position: Position(position),
        version: Version(row.try_get("version")?),
        at: Timestamp(row.try_get("at")?),
    })
}

pub(super) fn change_kind(name: &str) -> Result<ChangeKind, StoreError> {
    ChangeKind::from_stored(name).ok_or(StoreError::Corrupt("a change of an unknown kind"))
}

pub(super) fn resource_id(id: uuid::Uuid) -> ResourceId {
    ResourceId::from_stored(id.into_bytes())
}

pub(super) fn uuid(id: ResourceId) -> uuid::Uuid {
    uuid::Uuid::from_bytes(*id.as_bytes())
}

/// The number of a kind as PostgreSQL keeps it.
pub(super) fn kind_column(kind: ResourceKind) -> i16 {
    match kind {
        ResourceKind::User => 0,
        ResourceKind::Group => 1,
    }
}
