//! How much is too much: token buckets, in-flight counts, failures for each source address.
//!
//! Everything here is bounded in memory and answers at once: nothing queues. What never lives
//! here: what a client is told (`error`).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use actix_web::http::StatusCode;
use moka::sync::Cache;
use shared::link::TenantLimits;
use shared::{TenantId, Timestamp};
use telemetry::Counter;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Microsoft asks 25 requests a second of every tenant; no setting goes below it (DESIGN
/// section 5).
const LEAST_REQUESTS_PER_S: u32 = 25;

/// Something was asked for too often. Try again after the time that is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many requests; room again in {} ms", .0.as_millis())]
pub struct TooMany(pub Duration);

/// How fast a bucket fills, and how much it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Sustained.
    pub per_s: u32,
    /// At once, after a pause.
    pub burst: u32,
}

/// A token bucket. It starts full.
#[derive(Debug)]
pub struct Bucket(Mutex<Level>);

#[derive(Debug)]
struct Level {
    tokens: f64,
    at: Option<Timestamp>,
}

impl Default for Bucket {
    fn default() -> Self {
        Self(Mutex::new(Level {
            tokens: 0.0,
            at: None,
        }))
    }
}

impl Bucket {
    /// Takes one token.
    ///
    /// # Errors
    /// [`TooMany`] when there is none.
    pub fn take(&self, rate: Rate, now: Timestamp) -> Result<(), TooMany> {
        self.spend(rate, now, 1.0)
    }

    /// Whether there is a token; takes none.
    ///
    /// # Errors
    /// [`TooMany`] when there is none.
    pub fn check(&self, rate: Rate, now: Timestamp) -> Result<(), TooMany> {
        self.spend(rate, now, 0.0)
    }

    fn spend(&self, rate: Rate, now: Timestamp, tokens: f64) -> Result<(), TooMany> {
        let (per_s, burst) = (f64::from(rate.per_s.max(1)), f64::from(rate.burst.max(1)));
        let mut level = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        level.tokens = match level.at {
            Some(at) => (level.tokens + now.since(at).as_secs_f64() * per_s).min(burst),
            None => burst,
        };
        // A clock that was set back gives nothing for the past and does not stop the future.
        level.at = Some(now);
        if level.tokens < 1.0 {
            let wait = (1.0 - level.tokens) / per_s;
            return Err(TooMany(Duration::from_secs_f64(wait)));
        }
        level.tokens -= tokens;
        Ok(())
    }
}

/// One tenant's bucket and in-flight counts. All of its tokens share it. What each request touches
/// lies in the first line of the processor's cache: of a hundred thousand tenants none is there.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct TenantGate {
    in_flight: AtomicU32,
    bucket: Bucket,
    /// What became of its requests.
    pub counts: TenantCounts,
    gone: Arc<TenantCounts>,
    /// Access tokens that may be in the making. Made with the first one.
    issuing: OnceLock<Arc<Semaphore>>,
    /// What the tenant's bodies may take of the memory.
    pub body_memory: BodyMemory,
}

/// What became of a tenant's requests since this was last asked, by [`OUTCOMES`].
#[derive(Debug, Default)]
pub struct TenantCounts([Counter; 4]);

/// What can become of a tenant's request: it is answered, refused, or refused because it is one too
/// many; or it fails.
pub const OUTCOMES: [&str; 4] = ["answered", "refused", "limited", "failed"];

impl TenantCounts {
    /// Counts a request that has ended; `None` is one that got no answer.
    pub fn count(&self, status: Option<StatusCode>) {
        let [answered, refused, limited, failed] = &self.0;
        let count = match status {
            Some(StatusCode::TOO_MANY_REQUESTS) => limited,
            Some(status) if status.is_client_error() => refused,
            Some(status) if !status.is_server_error() => answered,
            _ => failed,
        };
        count.increment();
    }

    fn take(&self) -> [u64; 4] {
        self.0.each_ref().map(Counter::take)
    }
}

impl Drop for TenantGate {
    /// What was counted and not asked for yet stays with those that are gone.
    fn drop(&mut self) {
        for (count, left) in self.gone.0.iter().zip(self.counts.take()) {
            count.add(left);
        }
    }
}

/// Leave to serve one request of a tenant. It ends when this is dropped.
#[derive(Debug)]
pub struct TenantPass<G: HasGate>(G);

impl<G: HasGate> Drop for TenantPass<G> {
    fn drop(&mut self) {
        self.0.gate().in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Something that keeps a tenant's gate.
pub trait HasGate {
    /// The gate.
    fn gate(&self) -> &TenantGate;
}

impl HasGate for Arc<TenantGate> {
    fn gate(&self) -> &TenantGate {
        self
    }
}

/// Leave to have one access token made for a tenant. It ends when this is dropped.
#[derive(Debug)]
pub struct IssuingPass {
    _seat: OwnedSemaphorePermit,
}

/// How long a request for an access token waits for its turn. Few wait: each is one of the tenant's
/// requests under way.
pub const ISSUING_WAIT: Duration = Duration::from_secs(2);

impl TenantGate {
    /// Admits one request for an access token, where at most `most` of the tenant's may be under
    /// way. The others wait: a client with many threads is not refused for asking at once.
    ///
    /// # Errors
    /// [`TooMany`] when its turn does not come within [`ISSUING_WAIT`].
    pub async fn admit_issuing(&self, most: u32) -> Result<IssuingPass, TooMany> {
        let seats = self
            .issuing
            .get_or_init(|| Arc::new(Semaphore::new(most as usize)));
        match timeout(ISSUING_WAIT, Arc::clone(seats).acquire_owned()).await {
            Ok(Ok(seat)) => Ok(IssuingPass { _seat: seat }),
            _ => Err(TooMany(Duration::from_secs(1))),
        }
    }

    /// How many requests of the tenant are under way.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Admits one request of the tenant, by whatever keeps its gate.
    ///
    /// # Errors
    /// [`TooMany`] when its bucket is empty or too many of its requests are under way.
    pub fn admit<G: HasGate>(
        keeper: G,
        limits: TenantLimits,
        now: Timestamp,
    ) -> Result<TenantPass<G>, TooMany> {
        let rate = Rate {
            per_s: limits.requests_per_s.max(LEAST_REQUESTS_PER_S),
            burst: limits.burst.max(LEAST_REQUESTS_PER_S),
        };
        let before = keeper.gate().in_flight.fetch_add(1, Ordering::Relaxed);
        let pass = TenantPass(keeper);
        if before >= limits.in_flight.max(1) {
            return Err(TooMany(Duration::from_secs(1)));
        }
        pass.0.gate().bucket.take(rate, now)?;
        Ok(pass)
    }
}

/// The gates of the tenants of which a token is known. Whoever knows one holds its gate, so that a
/// request need not look for it.
#[derive(Debug)]
pub struct Tenants {
    gates: Mutex<HashMap<TenantId, Weak<TenantGate>>>,
    gone: Arc<TenantCounts>,
    body_mib: u32,
}

impl Tenants {
    /// No gates yet. The bodies of each tenant may take so many MiB.
    #[must_use]
    pub fn new(body_mib: u32) -> Self {
        Self {
            gates: Mutex::default(),
            gone: Arc::default(),
            body_mib,
        }
    }

    /// The gate of a tenant.
    #[must_use]
    pub fn gate(&self, tenant: &TenantId) -> Arc<TenantGate> {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gate) = gates.get(tenant).and_then(Weak::upgrade) {
            return gate;
        }
        // Before the table grows, gates that nobody holds any more make room.
        if gates.len() == gates.capacity() {
            gates.retain(|_, gate| gate.strong_count() > 0);
        }
        let gate = Arc::new(TenantGate {
            counts: TenantCounts::default(),
            gone: Arc::clone(&self.gone),
            bucket: Bucket::default(),
            in_flight: AtomicU32::new(0),
            issuing: OnceLock::new(),
            body_memory: BodyMemory::new(self.body_mib),
        });
        gates.insert(tenant.clone(), Arc::downgrade(&gate));
        gate
    }

    /// What became of requests since this was last asked: of each tenant that is known, and of those
    /// that are not any more.
    #[must_use]
    pub fn take_counts(&self) -> (Vec<(TenantId, [u64; 4])>, [u64; 4]) {
        let gates: Vec<(TenantId, Arc<TenantGate>)> = {
            let gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
            let gates = gates.iter();
            gates
                .filter_map(|(tenant, gate)| Some((tenant.clone(), gate.upgrade()?)))
                .collect()
        };
        let gates = gates.into_iter();
        let news = gates.map(|(tenant, gate)| (tenant, gate.counts.take()));
        (news.collect(), self.gone.take())
    }
}

/// Failed look-ups for each source address. Only look-ups that a region answered with "bad" are
/// counted: many tenants of one identity provider share its addresses, and one wrong token that is
/// tried again and again costs one look-up in five seconds.
#[derive(Debug)]
pub struct SourceFailures {
    buckets: Cache<IpAddr, Arc<Bucket>>,
    rate: Rate,
}

impl SourceFailures {
    /// No failures yet.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        let buckets = Cache::builder()
            .max_capacity(100_000)
            .time_to_idle(Duration::from_secs(600))
            .build();
        Self { buckets, rate }
    }

    /// Whether an address may still cause look-ups.
    ///
    /// # Errors
    /// [`TooMany`] when it has failed too often.
    pub fn check(&self, source: IpAddr, now: Timestamp) -> Result<(), TooMany> {
        match self.buckets.get(&network(source)) {
            Some(bucket) => bucket.check(self.rate, now),
            None => Ok(()),
        }
    }

    /// Notes that a look-up for an address came back as bad.
    pub fn record(&self, source: IpAddr, now: Timestamp) {
        let bucket = self.buckets.get_with(network(source), Arc::default);
        // An empty bucket cannot get emptier: look-ups that were under way together end here.
        let _already_empty = bucket.take(self.rate, now);
    }
}

/// The address, or for IPv6 its /64: whoever has one address of it has them all.
#[must_use]
pub fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & !u128::from(u64::MAX)).into()),
        v4 => v4,
    }
}

/// Memory for request bodies, handed out in KiB.
#[derive(Clone, Debug)]
pub struct BodyMemory {
    free: Arc<Semaphore>,
    kib: usize,
}

impl BodyMemory {
    /// So many MiB.
    #[must_use]
    pub fn new(mib: u32) -> Self {
        Self::of_kib(mib as usize * 1024)
    }

    /// A part of so many MiB, as much as one of several that share it may have.
    #[must_use]
    pub fn part(mib: u32, of: usize) -> Self {
        Self::of_kib((mib as usize * 1024).div_ceil(of.max(1)))
    }

    fn of_kib(kib: usize) -> Self {
        let free = Arc::new(Semaphore::new(kib));
        Self { free, kib }
    }

    /// How many bytes are taken.
    #[must_use]
    pub fn taken_bytes(&self) -> usize {
        self.kib.saturating_sub(self.free.available_permits()) * 1024
    }
}

/// Why there is no room for a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom {
    /// Which of the memories is full: the place in what [`BodyRoom::new`] was given.
    pub memory: usize,
}

/// Room that a body takes up in each of several memories, until it is dropped.
#[derive(Debug)]
pub struct BodyRoom(Vec<(Arc<Semaphore>, Option<OwnedSemaphorePermit>)>);

impl BodyRoom {
    /// Room for a body of which nothing has arrived yet.
    #[must_use]
    pub fn new<'m>(memories: impl IntoIterator<Item = &'m BodyMemory>) -> Self {
        let memories = memories.into_iter();
        Self(
            memories
                .map(|memory| (Arc::clone(&memory.free), None))
                .collect(),
        )
    }

    /// Makes room for so many bytes in all.
    ///
    /// # Errors
    /// [`NoRoom`] when one of the memories has none left.
    pub fn grow(&mut self, bytes: usize) -> Result<(), NoRoom> {
        for (place, (memory, taken)) in self.0.iter_mut().enumerate() {
            let no_room = NoRoom { memory: place };
            let held = taken.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
            let missing = bytes.div_ceil(1024).saturating_sub(held);
            if missing == 0 {
                continue;
            }
            let missing = u32::try_from(missing).map_err(|_| no_room)?;
            let more = Arc::clone(memory).try_acquire_many_owned(missing);
            let more = more.map_err(|_| no_room)?;
            match taken {
                Some(taken) => taken.merge(more),
                None => *taken = Some(more),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const RATE: Rate = Rate {
        per_s: 10,
        burst: 5,
    };

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let bucket = Bucket::default();
        let start = Timestamp(1_000_000);
        for _ in 0..5 {
            bucket.take(RATE, start).unwrap();
        }
        assert_eq!(
            bucket.take(RATE, start),
            Err(TooMany(Duration::from_millis(100)))
        );
        let later = start.after(Duration::from_millis(100));
        bucket.check(RATE, later).unwrap();
        bucket.take(RATE, later).unwrap();
        assert!(bucket.check(RATE, later).is_err());
        // An hour fills it up to the burst, not beyond.
        let much_later = start.after(Duration::from_secs(3600));
        for _ in 0..5 {
            bucket.take(RATE, much_later).unwrap();
        }
        assert!(bucket.take(RATE, much_later).is_err());
    }

    #[test]
    fn a_clock_that_is_set_back_stops_nobody_for_long() {
        let bucket = Bucket::default();
        let start = Timestamp(1_000_000_000);
        for _ in 0..5 {
            bucket.take(RATE, start).unwrap();
        }
        let back = Timestamp(0);
        assert!(bucket.take(RATE, back).is_err());
        bucket
            .take(RATE, back.after(Duration::from_millis(100)))
            .unwrap();
    }

    #[test]
    fn no_tenant_gets_less_than_25_a_second() {
        let gate = Tenants::new(1).gate(&TenantId::generate().unwrap());
        let stingy = TenantLimits {
            requests_per_s: 1,
            burst: 1,
            in_flight: 1000,
        };
        let now = Timestamp(0);
        for second in 0..3 {
            let now = now.after(Duration::from_secs(second));
            let admitted = (0..100)
                .filter(|_| TenantGate::admit(Arc::clone(&gate), stingy, now).is_ok())
                .count();
            assert_eq!(admitted, 25);
        }
    }

    #[test]
    fn requests_under_way_are_counted_and_given_back() {
        let tenants = Tenants::new(1);
        let tenant = TenantId::generate().unwrap();
        let limits = TenantLimits {
            in_flight: 2,
            ..TenantLimits::default()
        };
        // Two tokens of one tenant.
        let (gate, same) = (tenants.gate(&tenant), tenants.gate(&tenant));
        let first = TenantGate::admit(Arc::clone(&gate), limits, Timestamp(0)).unwrap();
        let _second = TenantGate::admit(Arc::clone(&same), limits, Timestamp(0)).unwrap();
        assert!(TenantGate::admit(Arc::clone(&gate), limits, Timestamp(0)).is_err());
        let other = tenants.gate(&TenantId::generate().unwrap());
        assert!(TenantGate::admit(Arc::clone(&other), limits, Timestamp(0)).is_ok());
        drop(first);
        assert!(TenantGate::admit(Arc::clone(&same), limits, Timestamp(0)).is_ok());
    }

    #[tokio::test]
    async fn access_tokens_under_way_are_counted_and_given_back() {
        let gate = Tenants::new(1).gate(&TenantId::generate().unwrap());
        let first = gate.admit_issuing(2).await.unwrap();
        let _second = gate.admit_issuing(2).await.unwrap();
        let mut third = Box::pin(gate.admit_issuing(2));
        assert!((&mut third).now_or_never().is_none());
        drop(first);
        third.await.unwrap();
    }

    #[test]
    fn gates_that_nobody_holds_are_forgotten() {
        let tenants = Tenants::new(1);
        let held = TenantId::generate().unwrap();
        let gate = tenants.gate(&held);
        for _ in 0..10_000 {
            drop(tenants.gate(&TenantId::generate().unwrap()));
        }
        assert!(tenants.gates.lock().unwrap().len() < 100);
        assert!(Arc::ptr_eq(&gate, &tenants.gate(&held)));
    }

    #[test]
    fn failures_count_for_one_address_and_for_a_whole_ipv6_network() {
        let failures = SourceFailures::new(RATE);
        let now = Timestamp(0);
        let bad: IpAddr = "2001:db8:1:2:3:4:5:6".parse().unwrap();
        failures.check(bad, now).unwrap();
        for _ in 0..9 {
            failures.record(bad, now);
        }
        assert!(failures.check(bad, now).is_err());
        let neighbour: IpAddr = "2001:db8:1:2::1".parse().unwrap();
        assert!(failures.check(neighbour, now).is_err());
        for other in ["2001:db8:1:3::1", "192.0.2.1"] {
            failures.check(other.parse().unwrap(), now).unwrap();
        }
        failures
            .check(bad, now.after(Duration::from_secs(1)))
            .unwrap();
    }

    #[test]
    fn body_memory_is_bounded() {
        let memory = BodyMemory::new(1);
        let room = || BodyRoom::new([&memory]);
        let (mut one, mut other) = (room(), room());
        one.grow(512 * 1024).unwrap();
        one.grow(100).unwrap();
        other.grow(512 * 1024).unwrap();
        let full = other.grow(512 * 1024 + 1);
        assert_eq!(full, Err(NoRoom { memory: 0 }));
        drop(one);
        other.grow(1024 * 1024).unwrap();
    }

    #[test]
    fn nobody_takes_all_of_it() {
        let all = BodyMemory::new(8);
        let tenants = Tenants::new(1);
        let gates = [(); 9].map(|()| tenants.gate(&TenantId::generate().unwrap()));
        let mut rooms = Vec::new();
        for gate in &gates {
            let mut room = BodyRoom::new([&gate.body_memory, &all]);
            let grown = room.grow(1024 * 1024);
            // The ninth finds what is everybody's taken, none finds its own so.
            let expected = match rooms.len() {
                8 => Err(NoRoom { memory: 1 }),
                _ => Ok(()),
            };
            assert_eq!(grown, expected);
            let more = BodyRoom::new([&gate.body_memory, &all]).grow(1);
            assert_eq!(more, Err(NoRoom { memory: 0 }));
            rooms.push(room);
        }
    }
}
