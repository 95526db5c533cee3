//! [`Metrics`]: what the gateway counts, and each figure's name.
//!
//! What each request counts is kept by `telemetry` without a lock; the rest is read where it is when
//! somebody asks. What never lives here: a name, an address or a path of a request.

use std::time::Duration;

use actix_web::http::StatusCode;
use shared::RegionId;
use telemetry::{
    Label, Metric, Requests, ShardedCounter, Snapshot, TopTenants, Unit, Words, export, process,
    requests,
};

use crate::console::Door;
use crate::error::REASONS;
use crate::limits::OUTCOMES;
use crate::oauth::OAuthEndpoint;
use crate::resolver::redis::Redis;
use crate::routes;
use crate::serve::Edge;
use crate::telemetry::RequestRecord;

static FAILURES: Metric = Metric::counter(
    "meridian.gateway.failures",
    Unit::Of("{request}"),
    "Requests that the gateway itself answered with an error, by reason: what was refused, limited, \
     shed, or could not be sent on.",
    &["region", "reason"],
);
static TENANT_REQUESTS: Metric = Metric::counter(
    "meridian.gateway.tenant.requests",
    Unit::Of("{request}"),
    "Requests of the tenants that ask for most, and of all others together (other): answered, \
     refused (4xx), limited (429) or failed (5xx, or no answer).",
    &["tenant.id", "outcome"],
);
static BODY_BYTES: Metric = Metric::counter(
    "meridian.gateway.body.transferred",
    Unit::Bytes,
    "Bytes of bodies that were read from clients (in) and written to them (out).",
    &["direction"],
);
static BODY_MEMORY: Metric = Metric::gauge(
    "meridian.gateway.body.memory",
    Unit::Bytes,
    "Memory that bodies of requests take up at the moment, by region.",
    &["region"],
);
static CONNECTIONS: Metric = Metric::gauge(
    "meridian.gateway.connections",
    Unit::Of("{connection}"),
    "Connections of clients that are open.",
    &[],
);
static TOKEN_LOOKUPS: Metric = Metric::counter(
    "meridian.gateway.token.lookups",
    Unit::Of("{lookup}"),
    "Questions whose a token is, by who was asked (live and refused: this gateway's memory; \
     region: the region-node) and what came of it.",
    &["region", "layer", "outcome"],
);
static LOOKUP_DURATION: Metric = Metric::histogram(
    "meridian.gateway.token.lookup.duration",
    Unit::Seconds,
    "How long a region took to say whose a token is, by what it said.",
    &["region", "outcome"],
);
static REDIS_ENTRIES: Metric = Metric::counter(
    "meridian.gateway.redis.lookups",
    Unit::Of("{lookup}"),
    "Look-ups in Redis, by what came of them. rejected: an entry that does not open, because \
     somebody else writes there. spared: not asked, because Redis fails.",
    &["outcome"],
);
static REDIS_RESTING: Metric = Metric::gauge(
    "meridian.gateway.redis.resting",
    Unit::Of("1"),
    "1 while Redis is left alone because it fails.",
    &[],
);
static CALLS: Metric = Metric::gauge(
    "meridian.gateway.calls",
    Unit::Of("{call}"),
    "Calls of a region that are under way, and that wait for their turn.",
    &["region", "state"],
);
static CALLS_DELAYED: Metric = Metric::counter(
    "meridian.gateway.calls.delayed",
    Unit::Of("{call}"),
    "Calls that did not go through at once: held while no node could be reached, retried because \
     nothing was sent, resent because no answer came.",
    &["region", "how"],
);
static NODES: Metric = Metric::gauge(
    "meridian.gateway.nodes",
    Unit::Of("{node}"),
    "Nodes of a region: up, unwelcome (stopping, or it refuses this gateway), away.",
    &["region", "state"],
);
static NODES_LOST: Metric = Metric::counter(
    "meridian.gateway.nodes.lost",
    Unit::Of("{node}"),
    "How often a node of a region stopped answering and was given no more calls.",
    &["region"],
);
static NOTICES: Metric = Metric::counter(
    "meridian.gateway.notices",
    Unit::Of("{notice}"),
    "Refused requests that the region was told of, for the administrators of its tenants.",
    &[],
);
static NOTICES_LOST: Metric = Metric::counter(
    "meridian.gateway.notices.lost",
    Unit::Of("{notice}"),
    "Refused requests that the region could not be told of.",
    &[],
);
static HANDSHAKES: Metric = Metric::counter(
    "meridian.gateway.tls.handshakes",
    Unit::Of("{handshake}"),
    "TLS handshakes of clients that succeeded.",
    &[],
);
static HANDSHAKES_FAILED: Metric = Metric::counter(
    "meridian.gateway.tls.handshakes.failed",
    Unit::Of("{handshake}"),
    "TLS handshakes of clients that did not succeed, by reason.",
    &["reason"],
);
static CERTIFICATE_ENDS: Metric = Metric::gauge(
    "meridian.gateway.tls.certificate.ends",
    Unit::Seconds,
    "When the first certificate of the edge ends, in seconds since 1970.",
    &[],
);
static LINK_CERTIFICATE_ENDS: Metric = Metric::gauge(
    "meridian.gateway.link.certificate.ends",
    Unit::Seconds,
    "When this gateway's certificate on the link to a region ends, in seconds since 1970.",
    &["region"],
);
static STOPPING: Metric = Metric::gauge(
    "meridian.gateway.stopping",
    Unit::Of("1"),
    "1 once the gateway is about to stop.",
    &[],
);

static OWN: [&Metric; 20] = [
    &requests::DURATION,
    &FAILURES,
    &TENANT_REQUESTS,
    &BODY_BYTES,
    &BODY_MEMORY,
    &CONNECTIONS,
    &TOKEN_LOOKUPS,
    &LOOKUP_DURATION,
    &REDIS_ENTRIES,
    &REDIS_RESTING,
    &CALLS,
    &CALLS_DELAYED,
    &NODES,
    &NODES_LOST,
    &NOTICES,
    &NOTICES_LOST,
    &HANDSHAKES,
    &HANDSHAKES_FAILED,
    &CERTIFICATE_ENDS,
    &LINK_CERTIFICATE_ENDS,
];

/// Every metric that a gateway has.
pub fn all() -> impl Iterator<Item = &'static Metric> {
    let own = OWN.into_iter().chain([&STOPPING]);
    own.chain(export::METRICS).chain(process::METRICS)
}

/// What requests count.
#[derive(Debug)]
pub struct Metrics {
    requests: Requests,
    failures: Words,
    tenants: TopTenants<4>,
    bytes_in: ShardedCounter,
    bytes_out: ShardedCounter,
}

impl Metrics {
    /// Of these regions. So many tenants have figures of their own.
    #[must_use]
    pub fn new(regions: &[RegionId], tenants: usize) -> Self {
        let doors = [Door::SignIn.template(), Door::ASSETS];
        let oauth = OAuthEndpoint::ALL.map(OAuthEndpoint::template);
        let templates = routes::templates().chain(doors).chain(oauth);
        Self {
            requests: Requests::new(regions.iter().cloned(), templates),
            failures: Words::new(regions.iter().cloned(), &REASONS),
            tenants: TopTenants::new(tenants),
            bytes_in: ShardedCounter::default(),
            bytes_out: ShardedCounter::default(),
        }
    }

    /// Counts a request that has ended.
    pub fn note(&self, record: &RequestRecord, duration: Duration, bytes_out: usize) {
        let region = record.region.as_ref();
        let status = record.status.map_or(0, |status| status.as_u16());
        self.requests
            .record(region, record.route, record.method, status, duration);
        if let Some(failure) = &record.failure {
            self.failures.count(region, failure.reason);
        }
        if let Some(client) = &record.client {
            client.gate.counts.count(record.status);
        }
        if record.bytes_in > 0 {
            self.bytes_in.add(record.bytes_in as u64);
        }
        if bytes_out > 0 {
            self.bytes_out.add(bytes_out as u64);
        }
    }
}

/// All figures of a gateway at this moment.
#[must_use]
pub fn snapshot(edge: &Edge) -> Snapshot {
    let mut snapshot = Snapshot::default();
    let Metrics {
        requests,
        failures,
        tenants,
        bytes_in,
        bytes_out,
    } = &*edge.metrics;
    requests.observe(&mut snapshot);
    failures.observe(&mut snapshot, &FAILURES);
    let (news, gone) = edge.resolver.tenants().take_counts();
    for (tenant, figures) in tenants.add(news, gone) {
        for (outcome, count) in OUTCOMES.into_iter().zip(figures) {
            let labels = [tenant.clone(), Label::word(outcome)];
            snapshot.add(&TENANT_REQUESTS, labels, count);
        }
    }
    for (direction, bytes) in [("in", bytes_in), ("out", bytes_out)] {
        snapshot.add(&BODY_BYTES, [Label::word(direction)], bytes.get());
    }
    snapshot.add(&CONNECTIONS, [], edge.seats.taken());
    snapshot.add(&STOPPING, [], edge.is_draining());
    observe_regions(&mut snapshot, edge);
    if let Some(redis) = edge.resolver.redis() {
        observe_redis(&mut snapshot, redis);
    }
    let (told, lost) = edge.notices.counts();
    snapshot.add(&NOTICES, [], told);
    snapshot.add(&NOTICES_LOST, [], lost);
    if let Some(tls) = &edge.tls {
        let (done, failed) = tls.handshakes();
        snapshot.add(&HANDSHAKES, [], done);
        for (reason, count) in failed {
            snapshot.add(&HANDSHAKES_FAILED, [Label::word(reason)], count);
        }
        snapshot.add(&CERTIFICATE_ENDS, [], seconds(tls.ends()));
    }
    edge.export.observe(&mut snapshot);
    process::observe(&mut snapshot);
    snapshot
}

fn observe_regions(snapshot: &mut Snapshot, edge: &Edge) {
    for region in &edge.regions {
        let labels = |word| [Label::from(&region.id), Label::word(word)];
        let (under_way, waiting) = region.turns.load();
        snapshot.add(&CALLS, labels("under_way"), under_way);
        snapshot.add(&CALLS, labels("waiting"), waiting);
        let taken = region.body_memory.taken_bytes();
        snapshot.add(&BODY_MEMORY, [Label::from(&region.id)], taken);
        let counts = &region.link.counts;
        for (how, count) in [
            ("held", &counts.held),
            ("retried", &counts.retried),
            ("resent", &counts.resent),
        ] {
            snapshot.add(&CALLS_DELAYED, labels(how), count);
        }
        let nodes = region.link.nodes.iter();
        let states = nodes.map(|node| (node.is_up(), node.is_welcome()));
        let states: Vec<(bool, bool)> = states.collect();
        let in_state = |state| states.iter().filter(|it| **it == state).count();
        for (word, state) in [
            ("up", (true, true)),
            ("unwelcome", (true, false)),
            ("away", (false, false)),
        ] {
            snapshot.add(&NODES, labels(word), in_state(state));
        }
        let lost: u64 = region.link.nodes.iter().map(|node| node.losses()).sum();
        snapshot.add(&NODES_LOST, [Label::from(&region.id)], lost);
        let counts = &region.counts;
        let took = [
            ("live", &counts.region_live),
            ("refused", &counts.region_refused),
            ("unavailable", &counts.region_unavailable),
        ];
        let memory = [
            ("live", "hit", counts.live.get()),
            ("refused", "hit", counts.refused.get()),
            ("refused", "miss", counts.missed.get()),
        ];
        let asked = took.map(|(outcome, took)| ("region", outcome, took.total().count()));
        for (layer, outcome, count) in memory.into_iter().chain(asked) {
            let labels = [
                Label::from(&region.id),
                Label::word(layer),
                Label::word(outcome),
            ];
            snapshot.add(&TOKEN_LOOKUPS, labels, count);
        }
        for (outcome, took) in took {
            snapshot.add(&LOOKUP_DURATION, labels(outcome), took);
        }
        if let Some(tls) = region.link.tls() {
            let ends = seconds(tls.not_after().as_seconds());
            snapshot.add(&LINK_CERTIFICATE_ENDS, [Label::from(&region.id)], ends);
        }
    }
}

fn observe_redis(snapshot: &mut Snapshot, redis: &Redis) {
    for (outcome, count) in redis.counts() {
        snapshot.add(&REDIS_ENTRIES, [Label::word(outcome)], count);
    }
    snapshot.add(&REDIS_RESTING, [], redis.is_resting());
}

fn seconds(since_1970: i64) -> u64 {
    u64::try_from(since_1970).unwrap_or(0)
}

/// Whether a request's status is the gateway's or its region's fault.
#[must_use]
pub fn is_failure(status: Option<StatusCode>) -> bool {
    status.is_none_or(|status| status.is_server_error())
}
