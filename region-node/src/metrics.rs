//! [`Metrics`]: what a node counts, and each figure's name.
//!
//! What each request counts is kept by `telemetry` without a lock; the rest is read where it is when
//! somebody asks. What never lives here: anything of a user.

use std::time::Duration;

use shared::RegionId;
use telemetry::{Label, Metric, Requests, Snapshot, Unit, Value, export, process, requests};
use tokio::time::timeout;

use crate::routes;
use crate::startup::Parts;
use crate::store::events::Endpoint;

/// The store may take so long to say whether it is well.
const LONGEST_CHECK: Duration = Duration::from_secs(2);

static STEP_DURATION: Metric = Metric::histogram(
    "meridian.provisioning.step.duration",
    Unit::Seconds,
    "How long the steps of provisioning requests took: read (the store is read), plan (what is to \
     be written is worked out), commit (from the queue until it is durable).",
    &["region", "step"],
);
static STORE_UP: Metric = Metric::gauge(
    "meridian.store.up",
    Unit::Of("1"),
    "1 while the store reads and writes.",
    &["region"],
);
static COMMITS: Metric = Metric::counter(
    "meridian.store.commits",
    Unit::Of("{commit}"),
    "Transactions that the store made durable.",
    &["region"],
);
static WRITES: Metric = Metric::counter(
    "meridian.store.writes",
    Unit::Of("{write}"),
    "Writes that were kept by them.",
    &["region"],
);
static COMMIT_FAILURES: Metric = Metric::counter(
    "meridian.store.commit.failures",
    Unit::Of("{commit}"),
    "Transactions that the store did not make durable; nothing of them was acknowledged.",
    &["region"],
);
static COMMIT_SIZE: Metric = Metric::histogram(
    "meridian.store.commit.size",
    Unit::Of("{write}"),
    "How many writes shared a transaction (group commit).",
    &["region"],
);
static COMMIT_DURATION: Metric = Metric::histogram(
    "meridian.store.commit.duration",
    Unit::Seconds,
    "How long transactions took, from their begin until they were durable.",
    &["region"],
);
static EVENTS_LAG: Metric = Metric::gauge(
    "meridian.events.lag",
    Unit::Of("{write}"),
    "Writes that the receiver of events which is furthest behind has not had.",
    &["region"],
);
static EVENTS_ENDPOINTS: Metric = Metric::gauge(
    "meridian.events.endpoints",
    Unit::Of("{endpoint}"),
    "Receivers of events: active, failing (its last delivery was not taken), paused.",
    &["region", "state"],
);
static EVENTS_DEAD_LETTERS: Metric = Metric::gauge(
    "meridian.events.dead_letters",
    Unit::Of("{event}"),
    "Events that receivers did not take and that are kept for them.",
    &["region"],
);
static REVOCATIONS: Metric = Metric::counter(
    "meridian.tokens.revoked",
    Unit::Of("{token}"),
    "API tokens that this node revoked.",
    &["region"],
);
static ACTIVITY_LOST: Metric = Metric::counter(
    "meridian.activity.lost",
    Unit::Of("{request}"),
    "Requests that found no room to be kept as activity: their tenants see a gap.",
    &["region"],
);
static QUEUE: Metric = Metric::gauge(
    "meridian.queue.depth",
    Unit::Of("{item}"),
    "What waits to be written beside requests: activity, last_used (times of last use of tokens), \
     refusals (counts for the audit).",
    &["region", "queue"],
);
static STOPPING: Metric = Metric::gauge(
    "meridian.node.stopping",
    Unit::Of("1"),
    "1 once the node is about to stop.",
    &["region"],
);
static LINK_CERTIFICATE_ENDS: Metric = Metric::gauge(
    "meridian.region.node.link.certificate.ends",
    Unit::Seconds,
    "When this node's certificate on the link ends, in seconds since 1970.",
    &["region"],
);

static OWN: [&Metric; 16] = [
    &requests::DURATION,
    &STEP_DURATION,
    &STORE_UP,
    &COMMITS,
    &WRITES,
    &COMMIT_FAILURES,
    &COMMIT_SIZE,
    &COMMIT_DURATION,
    &EVENTS_LAG,
    &EVENTS_ENDPOINTS,
    &EVENTS_DEAD_LETTERS,
    &REVOCATIONS,
    &ACTIVITY_LOST,
    &QUEUE,
    &STOPPING,
    &LINK_CERTIFICATE_ENDS,
];

/// Every metric that a node has.
pub fn all() -> impl Iterator<Item = &'static Metric> {
    OWN.into_iter()
        .chain(export::METRICS)
        .chain(process::METRICS)
}

/// What requests count.
#[derive(Debug)]
pub struct Metrics {
    /// How long requests took.
    pub requests: Requests,
}

impl Metrics {
    /// Of a region.
    #[must_use]
    pub fn new(region: &RegionId) -> Self {
        Self {
            requests: Requests::new([region.clone()], routes::TEMPLATES),
        }
    }
}

/// All figures of a node at this moment.
pub async fn snapshot(parts: &Parts) -> Snapshot {
    let mut snapshot = Snapshot::default();
    parts.metrics.requests.observe(&mut snapshot);
    let region = || Label::from(&parts.region);
    for (step, total) in parts.resources.steps().totals() {
        snapshot.add(&STEP_DURATION, [region(), step], Value::Histogram(total));
    }
    let check = timeout(LONGEST_CHECK, parts.store.check()).await;
    snapshot.add(&STORE_UP, [region()], matches!(check, Ok(Ok(()))));
    if let Some(counts) = parts.store.commit_counts() {
        snapshot.add(&COMMITS, [region()], &counts.commits);
        snapshot.add(&WRITES, [region()], &counts.writes);
        snapshot.add(&COMMIT_FAILURES, [region()], &counts.failures);
        snapshot.add(&COMMIT_SIZE, [region()], &counts.sizes);
        snapshot.add(&COMMIT_DURATION, [region()], &counts.durations);
    }
    // A store that does not answer is told of above.
    if let Ok(Ok(endpoints)) = timeout(LONGEST_CHECK, parts.store.list_endpoints(None)).await {
        observe_events(&mut snapshot, &parts.region, &endpoints);
    }
    snapshot.add(&REVOCATIONS, [region()], parts.tokens.revoked());
    snapshot.add(&ACTIVITY_LOST, [region()], parts.activity.lost());
    for (queue, waiting) in [
        ("activity", parts.activity.waiting()),
        ("last_used", parts.last_used.waiting()),
        ("refusals", parts.refusals.waiting()),
    ] {
        snapshot.add(&QUEUE, [region(), Label::word(queue)], waiting);
    }
    snapshot.add(&STOPPING, [region()], parts.is_stopping());
    if let Some(identity) = &parts.link_identity {
        let ends = u64::try_from(identity.not_after().as_seconds()).unwrap_or(0);
        snapshot.add(&LINK_CERTIFICATE_ENDS, [region()], ends);
    }
    parts.export.observe(&mut snapshot);
    process::observe(&mut snapshot);
    snapshot
}

fn observe_events(snapshot: &mut Snapshot, region: &RegionId, endpoints: &[Endpoint]) {
    let running = || endpoints.iter().filter(|it| it.paused.is_none());
    let lag = running().map(Endpoint::lag).max().unwrap_or(0);
    let lag = u64::try_from(lag).unwrap_or(0);
    snapshot.add(&EVENTS_LAG, [Label::from(region)], lag);
    let failing = running()
        .filter(|it| it.progress.failing_since.is_some())
        .count();
    let active = running().count() - failing;
    for (state, count) in [
        ("active", active),
        ("failing", failing),
        ("paused", endpoints.len() - running().count()),
    ] {
        let labels = [Label::from(region), Label::word(state)];
        snapshot.add(&EVENTS_ENDPOINTS, labels, count);
    }
    let dead: i64 = endpoints.iter().map(|it| it.dead_letters).sum();
    let dead = u64::try_from(dead).unwrap_or(0);
    snapshot.add(&EVENTS_DEAD_LETTERS, [Label::from(region)], dead);
}
