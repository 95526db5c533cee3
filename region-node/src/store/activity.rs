//! What is kept of a tenant's provisioning requests: each of them for some days, the sync cycles
//! that they make, counts for each hour, what is missing, and what is wrong.
//!
//! One batch holds the requests of many tenants. What an engine has to read for it is little (the
//! newest cycle of a token, an hour, a finding), so each engine reads, [`Fold`] adds, and the engine
//! writes, in one transaction.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use shared::{Dialect, TenantId, Timestamp, TokenId};

use crate::coded::coded;
use crate::scim::client::{Client, Clues, recognise};
use crate::scim::{Notes, ResourceId, ResourceKind};

/// A client that was quiet for so long has ended its cycle. Entra's next begins after 20 to 40
/// minutes; within one, no client that is known pauses so long.
pub const QUIET: Duration = Duration::from_secs(10 * 60);
/// How many requests one page of them may look at. A page can hold fewer than asked for and still
/// not be the last.
pub const MOST_LOOKED_AT: u32 = 100_000;
/// A process whose mark is older has ended, where others write to the same store.
pub const LONGEST_SILENCE: Duration = Duration::from_secs(3 * 60);
/// Findings of one tenant that are kept; a new one beyond is not.
pub const MOST_FINDINGS: usize = 500;

/// The name of a request in its tenant: microseconds since the epoch when it was noted, and 11 bits
/// that tell apart the nodes which note at the same time. So requests are found by time and by name
/// in the same order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryNumber(pub i64);

impl EntryNumber {
    const NODE_BITS: u32 = 11;

    /// The number of a microsecond and a node.
    #[must_use]
    pub fn new(micros: i64, node: u16) -> Self {
        let node = i64::from(node) & ((1 << Self::NODE_BITS) - 1);
        Self(micros << Self::NODE_BITS | node)
    }

    /// Less than, or equal to, every number from a time on.
    #[must_use]
    pub fn least_at(at: Timestamp) -> Self {
        Self::new(at.as_millis().saturating_mul(1000), 0)
    }

    /// When the request was noted.
    #[must_use]
    pub fn at(self) -> Timestamp {
        Timestamp((self.0 >> Self::NODE_BITS) / 1000)
    }
}

coded! {
    /// What a request asks for (RFC 7644 section 3.2).
    Operation {
        /// A new resource.
        Create = "create",
        /// A resource by its id.
        Get = "get",
        /// A list, by GET or by a search.
        Query = "query",
        /// The whole of a resource anew.
        Replace = "replace",
        /// A part of one.
        Patch = "patch",
        /// A resource gone.
        Delete = "delete",
        /// Several of these in one request.
        Bulk = "bulk",
        /// What the service provider can do.
        Discovery = "discovery",
        /// Anything else.
        Other = "other",
    }
}

/// What requests did to resources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Resources that were created.
    pub created: u32,
    /// Resources that were changed.
    pub updated: u32,
    /// Resources that a write left as they were.
    pub unchanged: u32,
    /// Resources that were deleted.
    pub deleted: u32,
}

impl Effects {
    /// Adds what another request did.
    pub fn add(&mut self, other: Self) {
        self.created += other.created;
        self.updated += other.updated;
        self.unchanged += other.unchanged;
        self.deleted += other.deleted;
    }
}

/// One provisioning request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name, and when it ended.
    pub number: EntryNumber,
    /// The API token that it was made with.
    pub token: TokenId,
    /// What it shows of who sent it.
    pub clues: Clues,
    /// What it asked for.
    pub operation: Operation,
    /// Of which resource type; `None` where it is of none, or of both.
    pub kind: Option<ResourceKind>,
    /// Of which resource, where it is of one that could exist.
    pub resource: Option<ResourceId>,
    /// Its `userName` or `displayName`, where that was at hand.
    pub display: Option<Box<str>>,
    /// The filter, as it was sent, cut where it is long.
    pub filter: Option<Box<str>>,
    /// The filter without its values: `userName eq ?`.
    pub filter_shape: Option<Box<str>>,
    /// HTTP status of the answer; 0 where the client was gone before it.
    pub status: u16,
    /// Detail error keyword of the answer.
    pub scim_type: Option<Cow<'static, str>>,
    /// `detail` of the answer, where it is an error.
    pub detail: Option<Box<str>>,
    /// From the beginning of the request at the node to its answer.
    pub duration_us: u32,
    /// The request's id, as the client was told it.
    pub request_id: Box<str>,
    /// The protocol that was spoken.
    pub dialect: Dialect,
    /// What was tolerated.
    pub tolerated: Notes,
    /// What it did.
    pub effects: Effects,
}

impl Entry {
    /// Whether it was refused, failed, or was given up.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        !(200..400).contains(&self.status)
    }
}

/// A run of requests of one client, without a pause of [`QUIET`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cycle {
    /// The API token of the client.
    pub token: TokenId,
    /// When its first request ended.
    pub started: Timestamp,
    /// When its last one so far did.
    pub ended: Timestamp,
    /// What all requests of the token so far show of who sends them.
    pub clues: Clues,
    /// How many requests.
    pub requests: u64,
    /// How many of them failed.
    pub failed: u64,
    /// What they did.
    pub effects: Effects,
}

impl Cycle {
    /// Who made it.
    #[must_use]
    pub fn client(&self) -> Client {
        recognise(self.clues)
    }
}

/// How many requests took how long: each bucket is a fifth wider than the one before, or less.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latencies(BTreeMap<u8, u64>);

impl Latencies {
    /// Adds a request.
    pub fn add(&mut self, us: u32) {
        *self.0.entry(Self::bucket(us)).or_default() += 1;
    }

    /// Adds all of others.
    pub fn merge(&mut self, others: &Self) {
        for (bucket, count) in &others.0 {
            *self.0.entry(*bucket).or_default() += count;
        }
    }

    /// The duration in microseconds that `percent` of the requests did not exceed, exact to a fifth.
    #[must_use]
    pub fn percentile(&self, percent: u64) -> Option<u64> {
        let total: u64 = self.0.values().sum();
        let rank = (total * percent).div_ceil(100).max(1);
        let mut seen = 0;
        self.0.iter().find_map(|(bucket, count)| {
            seen += count;
            (seen >= rank).then(|| Self::end(*bucket))
        })
    }

    fn bucket(us: u32) -> u8 {
        let us = us.max(4);
        let octave = us.ilog2();
        let quarter = (us >> (octave - 2)) & 3;
        u8::try_from((octave - 2) * 4 + quarter).unwrap_or(u8::MAX)
    }

    /// Where a bucket ends, in microseconds.
    fn end(bucket: u8) -> u64 {
        let (octave, quarter) = (u32::from(bucket / 4), u64::from(bucket % 4));
        ((4 + quarter + 1) << octave) - 1
    }

    /// As the store keeps them.
    #[must_use]
    pub fn to_text(&self) -> String {
        let pairs: Vec<(u8, u64)> = self.0.iter().map(|(b, n)| (*b, *n)).collect();
        serde_json::to_string(&pairs).unwrap_or_default()
    }

    /// Reads what [`Self::to_text`] wrote.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        let pairs: Vec<(u8, u64)> = serde_json::from_str(text).unwrap_or_default();
        Self(pairs.into_iter().collect())
    }
}

/// Counts of one hour.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hour {
    /// Which: hours since the epoch.
    pub hour: i64,
    /// Requests.
    pub requests: u64,
    /// Of these, those that failed.
    pub failed: u64,
    /// How long they took.
    pub latencies: Latencies,
}

/// The hour of a time, in hours since the epoch.
#[must_use]
pub fn hour_of(at: Timestamp) -> i64 {
    at.as_millis().div_euclid(60 * 60 * 1000)
}

coded! {
    /// Why requests are missing.
    GapReason {
        /// More came than could be written.
        Overflow = "overflow",
        /// A node ended suddenly. How many it had not written, nobody knows: perhaps none.
        Ended = "ended",
    }
}

/// A time of which requests are missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// From when.
    pub from: Timestamp,
    /// Until when.
    pub to: Timestamp,
    /// How many; `None` where that is not known.
    pub lost: Option<u64>,
    /// Why.
    pub reason: GapReason,
}

impl Gap {
    /// The loss of a request because another node gave its number to another one.
    #[must_use]
    pub fn of_twin(entry: &Entry) -> Self {
        let at = entry.number.at();
        Self {
            from: at,
            to: at,
            lost: Some(1),
            reason: GapReason::Overflow,
        }
    }
}

/// Something that an administrator should put right, and where it showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong, by its name: see `provider::doctor`.
    pub kind: Cow<'static, str>,
    /// With which API token it happened.
    pub token: TokenId,
    /// What it is about, where the sentence needs it: an attribute, a URN, a status. May be blank.
    pub subject: Box<str>,
    /// When it happened first.
    pub first: Timestamp,
    /// When it happened last.
    pub last: Timestamp,
    /// How often.
    pub times: u64,
    /// The id of the last such request.
    pub request_id: Box<str>,
    /// Method and route template of the last such request.
    pub route: Box<str>,
}

impl Finding {
    /// Counts the same once more.
    pub fn add(&mut self, other: &Self) {
        self.times += other.times;
        self.first = self.first.min(other.first);
        if other.last >= self.last {
            self.last = other.last;
            self.request_id.clone_from(&other.request_id);
            self.route.clone_from(&other.route);
        }
    }

    /// Whether both are about the same.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.kind == other.kind && self.token == other.token && self.subject == other.subject
    }
}

/// What is new of one tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TenantActivity {
    /// Requests, in the order of their numbers.
    pub entries: Vec<Entry>,
    /// Findings, each once.
    pub findings: Vec<Finding>,
    /// What is missing.
    pub gaps: Vec<Gap>,
}

impl TenantActivity {
    /// Adds a finding, or counts it with one that is there.
    pub fn find(&mut self, finding: Finding) {
        let has_room = self.findings.len() < MOST_FINDINGS;
        match self.findings.iter_mut().find(|one| one.is_same(&finding)) {
            Some(same) => same.add(&finding),
            None if has_room => self.findings.push(finding),
            None => {}
        }
    }
}

/// What a node writes in one transaction.
#[derive(Debug)]
pub struct ActivityBatch {
    /// What is new, by tenant. One that is gone by now is passed over.
    pub tenants: BTreeMap<TenantId, TenantActivity>,
    /// The mark of the process that writes: it lived at `at`.
    pub writer: Box<str>,
    /// Its number among the batches of the process, from 1.
    pub number: i64,
    /// When it is written.
    pub at: Timestamp,
}

/// Adds new requests to the cycles and hours that an engine read, of one tenant.
#[derive(Debug, Default)]
pub struct Fold {
    /// The newest cycle of each token, and those that begin with the new requests.
    pub cycles: Vec<Cycle>,
    /// The hours that the new requests are of.
    pub hours: BTreeMap<i64, Hour>,
}

impl Fold {
    /// Adds a request.
    pub fn add(&mut self, entry: &Entry) {
        let at = entry.number.at();
        let hour = self.hours.entry(hour_of(at)).or_default();
        hour.hour = hour_of(at);
        hour.requests += 1;
        hour.failed += u64::from(entry.has_failed());
        hour.latencies.add(entry.duration_us);
        if entry.clues.has(Clues::TOOL) {
            // Somebody tries something. The client's cycles are not touched by it.
            return;
        }
        let newest = self
            .cycles
            .iter_mut()
            .filter(|cycle| cycle.token == entry.token)
            .max_by_key(|cycle| cycle.started);
        let cycle = match newest {
            Some(cycle) if at < cycle.ended.after(QUIET) => cycle,
            former => {
                let clues = former.map_or_else(Clues::default, |cycle| cycle.clues);
                self.cycles.push(Cycle {
                    token: entry.token.clone(),
                    started: at,
                    ended: at,
                    clues,
                    requests: 0,
                    failed: 0,
                    effects: Effects::default(),
                });
                match self.cycles.last_mut() {
                    Some(cycle) => cycle,
                    None => return,
                }
            }
        };
        cycle.ended = cycle.ended.max(at);
        cycle.clues.add(entry.clues);
        cycle.requests += 1;
        cycle.failed += u64::from(entry.has_failed());
        cycle.effects.add(entry.effects);
    }
}

/// Which requests are asked for.
#[derive(Clone, Debug)]
pub struct ActivityQuery {
    /// Those before this one, newest first.
    pub before: EntryNumber,
    /// Those from this one on.
    pub from: EntryNumber,
    /// At most so many.
    pub count: u32,
    /// Those of a client.
    pub client: Option<Client>,
    /// Those that failed, or those that did not.
    pub has_failed: Option<bool>,
    /// Those that asked for this.
    pub operation: Option<Operation>,
    /// Those of a resource.
    pub resource: Option<ResourceId>,
    /// The one with this id.
    pub request_id: Option<String>,
}

impl ActivityQuery {
    /// Whether a page may have to look at more requests than it shows.
    #[must_use]
    pub fn is_filtered(&self) -> bool {
        self.client.is_some()
            || self.has_failed.is_some()
            || self.operation.is_some()
            || self.resource.is_some()
            || self.request_id.is_some()
    }
}

/// Requests, newest first.
#[derive(Clone, Debug, Default)]
pub struct ActivityPage {
    /// The requests, each with who sent it.
    pub entries: Vec<(Entry, Client)>,
    /// Before which the next page goes on; `None` at the end.
    pub next: Option<EntryNumber>,
    /// What is missing in the time of the page.
    pub gaps: Vec<Gap>,
}

impl ActivityPage {
    /// Keeps as many requests as were asked for. An engine reads one more, to know whether there is.
    pub(super) fn cut_to(&mut self, count: u32) {
        let count = count as usize;
        if self.entries.len() > count {
            self.entries.truncate(count);
            self.next = self.entries.last().map(|(entry, _)| entry.number);
        }
    }

    /// The time that the page tells of.
    pub(super) fn time(&self, query: &ActivityQuery) -> (Timestamp, Timestamp) {
        (self.next.unwrap_or(query.from).at(), query.before.at())
    }
}

/// Who uses each token, as its newest cycle tells.
#[derive(Clone, Debug, Default)]
pub struct Clients(Vec<(TokenId, Clues)>);

impl Clients {
    /// From the clues of each token.
    #[must_use]
    pub fn new(tokens: Vec<(TokenId, Clues)>) -> Self {
        Self(tokens)
    }

    /// Who sent a request.
    #[must_use]
    pub fn of(&self, entry: &Entry) -> Client {
        if entry.clues.has(Clues::TOOL) {
            return Client::Tool;
        }
        let known = self.0.iter().find(|(token, _)| *token == entry.token);
        recognise(known.map_or(entry.clues, |(_, clues)| *clues))
    }

    /// The tokens of a client, as their ids.
    #[must_use]
    pub fn tokens_of(&self, client: Client) -> Vec<&str> {
        let of = self.0.iter();
        of.filter(|(_, clues)| recognise(*clues) == client)
            .map(|(token, _)| token.as_str())
            .collect()
    }
}

/// What of a tenant's activity is kept.
#[derive(Clone, Copy, Debug)]
pub struct ActivityRetention {
    /// From then on.
    pub since: Timestamp,
    /// At most about so many requests.
    pub most: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_exact_to_a_fifth() {
        for us in [0, 1, 4, 5, 7, 8, 100, 999, 1024, 30_000_000, u32::MAX] {
            let mut latencies = Latencies::default();
            latencies.add(us);
            let p50 = latencies.percentile(50).unwrap();
            let us = u64::from(us.max(4));
            assert!(us <= p50 && p50 * 4 < us * 5 + 4, "{us}: {p50}");
            assert_eq!(Latencies::from_text(&latencies.to_text()), latencies);
        }
        assert_eq!(Latencies::default().percentile(95), None);
        let mut latencies = Latencies::default();
        for us in 1..=100 {
            latencies.add(us * 1000);
        }
        assert!((50_000..62_500).contains(&latencies.percentile(50).unwrap()));
        assert!((95_000..119_000).contains(&latencies.percentile(95).unwrap()));
    }

    #[test]
    fn numbers_are_in_the_order_of_time() {
        let at = Timestamp(1_700_000_000_123);
        let number = EntryNumber::new(at.as_millis() * 1000 + 7, 2047);
        assert_eq!(number.at(), at);
        assert!(EntryNumber::least_at(at) <= number);
        assert!(number < EntryNumber::least_at(Timestamp(at.0 + 1)));
    }
}
