//! From a token to a [`ProvisioningClient`]: memory, then Redis if there is one, then the
//! region-node.
//!
//! The region is the only authority; what is kept here only saves work. Errors are never kept.
//! For each token at most one look-up is under way, in a task of its own: a client that hangs up
//! ends its waiting and not the look-up, on which others may wait.

pub mod memory;
pub mod redis;
pub mod region_node;
pub mod sealed;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shared::link::{
    ACCESS_TOKENS_PATH, AccessTokenAnswer, AccessTokenRequest, RESOLVE_PATH, Refusal,
    ResolveAnswer, ResolveRequest, Resolved,
};
use shared::{ApiToken, Clock, TenantId, Timestamp};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, timeout};

use crate::config::{ConfigError, Settings};
use crate::limits::{ISSUING_WAIT, IssuingPass, Rate, SourceFailures, Tenants};
use crate::provisioning_client::ProvisioningClient;
use crate::region::Region;
use memory::{Key, Known, Live, Memory};
use redis::Redis;
use region_node::LookupError;
use sealed::{Entry, Sealing};

/// A region's word that a token is bad.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadToken {
    /// Why.
    pub reason: Refusal,
    /// Whose it is. `None` for nobody's, and where the region's node is of a release that does not
    /// say it.
    pub tenant_id: Option<TenantId>,
}

impl BadToken {
    /// Nobody's token.
    pub const UNKNOWN: Self = Self {
        reason: Refusal::Unknown,
        tenant_id: None,
    };

    /// What of this is said at a hostname of one tenant: nothing about the tokens of others, not
    /// even that there are such. An older node does not say whose a token is; then only a suspension
    /// is told, because the tenant's own clients must not take it for a bad token.
    #[must_use]
    pub fn told_at(self, tenant: &TenantId) -> Self {
        match (&self.tenant_id, self.reason) {
            (Some(whose), _) if whose == tenant => self,
            (None, Refusal::TenantSuspended) => self,
            _ => Self::UNKNOWN,
        }
    }
}

/// Why a token was not resolved.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ResolveError {
    /// The region says that it is bad. The only variant that knows anything about the token.
    #[error("the region refuses the token")]
    Refused(BadToken),
    /// The region did not say.
    #[error("the region cannot be asked")]
    Unavailable(#[source] Arc<LookupError>),
    /// The look-up ended without a result: this program is stopping, or has a bug.
    #[error("the look-up was given up")]
    GivenUp,
    /// Too many look-ups of strangers at this region.
    #[error("too many tokens are being looked up")]
    Overloaded {
        /// When to try again.
        retry_after: Duration,
    },
    /// This source address presented too many bad tokens.
    #[error("too many bad tokens from one address")]
    SourceLimited {
        /// When to try again.
        retry_after: Duration,
    },
}

type Outcome = Result<Arc<ProvisioningClient>, ResolveError>;
type Flight = watch::Receiver<Option<Outcome>>;

/// Finds out whose a token is.
#[derive(Debug)]
pub struct Resolver {
    memory: Memory,
    redis: Option<Arc<Redis>>,
    /// The look-ups under way. Bounded, because each holds a permit of its region.
    flights: Mutex<HashMap<Boarding, Flight>>,
    failures: SourceFailures,
    tenants: Tenants,
    timeout: Duration,
    clock: Arc<dyn Clock>,
}

/// On whose account a look-up goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// The token is live, or was.
    Known,
    /// Nothing is known of it.
    Stranger,
}

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Redis, and the region if that knows nothing.
    Nearest,
    /// The region.
    Region,
    /// The region, because it refused what is known. What Redis has is as old as that.
    RegionAgain,
}

/// A question about a token. It has the token itself, and so lives no longer than the request
/// that asks; what a look-up takes along is derived from it.
struct Question<'a> {
    token: &'a ApiToken,
    key: Key,
    standing: Standing,
    way: Way,
    source: IpAddr,
}

/// Leave for a look-up. It ends when this is dropped.
struct Leave {
    _seat: OwnedSemaphorePermit,
    /// Where the look-up is part of the making of an access token.
    _issuing: Option<IssuingPass>,
}

/// Which look-up is meant. One that must not ask Redis cannot join one that may.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Boarding {
    key: Key,
    past_redis: bool,
}

impl Resolver {
    /// A resolver that knows nothing yet.
    ///
    /// # Errors
    /// [`ConfigError`] when the settings of Redis cannot be used.
    pub fn new(settings: &Settings, clock: Arc<dyn Clock>) -> Result<Self, ConfigError> {
        Ok(Self {
            memory: Memory::new(&settings.cache),
            redis: Redis::build(&settings.redis, Arc::clone(&clock))?.map(Arc::new),
            flights: Mutex::default(),
            failures: SourceFailures::new(Rate {
                per_s: settings.limits.failures_per_s,
                burst: settings.limits.failures_burst,
            }),
            tenants: Tenants::new(settings.limits.tenant_body_mib()),
            timeout: Duration::from_millis(settings.timeouts.lookup_ms),
            clock,
        })
    }

    /// What is known of tenants whose tokens were looked up.
    #[must_use]
    pub fn tenants(&self) -> &Tenants {
        &self.tenants
    }

    /// The Redis that is shared with other gateways, if there is one.
    #[must_use]
    pub fn redis(&self) -> Option<&Redis> {
        self.redis.as_deref()
    }

    /// Whose token is this, at this region?
    ///
    /// # Errors
    /// [`ResolveError`]; only `Refused` says that the token is bad.
    pub async fn resolve(
        self: &Arc<Self>,
        region: &Arc<Region>,
        token: &ApiToken,
        source: IpAddr,
    ) -> Outcome {
        let key = Key {
            region: region.id.clone(),
            digest: token.digest(),
        };
        let question = |key, standing, way| Question {
            token,
            key,
            standing,
            way,
            source,
        };
        let now = self.clock.now();
        match self.memory.get(&key, now) {
            Known::Live(live) => {
                region.counts.live.increment();
                if live.claim_refresh(now) {
                    // Whether it can start or not, this request has what it needs. What is in
                    // Redis is about as old as what we know, so the region is asked.
                    let refresh = question(key, Standing::Known, Way::Region);
                    let _flight = self.board(region, refresh);
                }
                Ok(live.client)
            }
            Known::Refused(bad) => {
                region.counts.refused.increment();
                Err(ResolveError::Refused(bad))
            }
            Known::Formerly => {
                region.counts.missed.increment();
                let question = question(key, Standing::Known, Way::Nearest);
                self.look_up(region, question).await
            }
            Known::Nothing => {
                region.counts.missed.increment();
                let question = question(key, Standing::Stranger, Way::Nearest);
                self.look_up(region, question).await
            }
        }
    }

    /// The region refused a grant: forgets it, here and in Redis, and asks the region again.
    ///
    /// # Errors
    /// As [`Resolver::resolve`].
    pub async fn resolve_again(
        self: &Arc<Self>,
        region: &Arc<Region>,
        token: &ApiToken,
        stale: &ProvisioningClient,
        source: IpAddr,
    ) -> Outcome {
        let key = Key {
            region: region.id.clone(),
            digest: stale.digest,
        };
        self.memory.forget(&key, stale);
        match self.memory.get(&key, self.clock.now()) {
            // Another request of this token was faster.
            Known::Live(live) => Ok(live.client),
            Known::Refused(bad) => Err(ResolveError::Refused(bad)),
            Known::Formerly | Known::Nothing => {
                let question = Question {
                    token,
                    key,
                    standing: Standing::Known,
                    way: Way::RegionAgain,
                    source,
                };
                self.look_up(region, question).await
            }
        }
    }

    /// Has a region store an access token for the holder of an API token; answers how many seconds
    /// it lives.
    ///
    /// The token is looked up before it is handed out, so that its first use is not a stranger's,
    /// whom a flood of bad tokens may keep out. That takes one more answer of a region that has
    /// just given one; it is waited for, so that what is under way for a tenant is what its clients
    /// wait for. A look-up that fails keeps no token back.
    ///
    /// # Errors
    /// [`ResolveError::Refused`], [`ResolveError::Unavailable`] or [`ResolveError::Overloaded`].
    pub async fn issue(
        self: &Arc<Self>,
        client: &ProvisioningClient,
        question: &AccessTokenRequest,
        access_token: &ApiToken,
        source: IpAddr,
        issuing: IssuingPass,
    ) -> Result<u32, ResolveError> {
        let region = &client.region;
        let seats = Arc::clone(&region.lookups.issuing);
        let leave = match timeout(ISSUING_WAIT, seats.acquire_owned()).await {
            Ok(Ok(seat)) => Leave {
                _seat: seat,
                _issuing: Some(issuing),
            },
            _ => return Err(OVERLOADED),
        };
        match region_node::ask(region, ACCESS_TOKENS_PATH, question, self.timeout).await {
            Ok(AccessTokenAnswer::Issued { expires_in_s }) => {
                let question = Question {
                    token: access_token,
                    key: Key {
                        region: region.id.clone(),
                        digest: question.access_digest,
                    },
                    standing: Standing::Known,
                    way: Way::Region,
                    source,
                };
                let mut flight = {
                    let flights = self.flights.lock();
                    let mut flights = flights.unwrap_or_else(PoisonError::into_inner);
                    self.take_off(&mut flights, region, question, leave)
                };
                let _landed = flight.wait_for(Option::is_some).await;
                Ok(expires_in_s)
            }
            // Of a token that was resolved a moment ago, so it is told as it is.
            Ok(AccessTokenAnswer::Refused { reason }) => Err(ResolveError::Refused(BadToken {
                reason,
                tenant_id: Some(client.tenant_id.clone()),
            })),
            Err(error) => Err(unavailable(region, error)),
        }
    }

    async fn look_up(self: &Arc<Self>, region: &Arc<Region>, question: Question<'_>) -> Outcome {
        let mut flight = self.board(region, question)?;
        let landed = flight.wait_for(Option::is_some).await;
        match landed.ok().as_deref() {
            Some(Some(outcome)) => outcome.clone(),
            _ => Err(ResolveError::GivenUp),
        }
    }

    /// Joins the look-up that is under way for a token, or starts one.
    fn board(
        self: &Arc<Self>,
        region: &Arc<Region>,
        mut question: Question<'_>,
    ) -> Result<Flight, ResolveError> {
        let boarding = |past_redis| Boarding {
            key: question.key.clone(),
            past_redis,
        };
        let (to_region, nearest) = (boarding(true), boarding(false));
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        // The region's own word is good for everybody.
        if let Some(flight) = flights.get(&to_region) {
            return Ok(flight.clone());
        }
        if question.way == Way::Nearest
            && let Some(flight) = flights.get(&nearest)
        {
            return Ok(flight.clone());
        }
        // One that landed since the memory was asked has filled it.
        if question.way == Way::Nearest
            && let Known::Live(live) = self.memory.get(&question.key, self.clock.now())
        {
            let (_landed, flight) = watch::channel(Some(Ok(live.client)));
            return Ok(flight);
        }
        let leave = self.admit(region, &mut question)?;
        Ok(self.take_off(&mut flights, region, question, leave))
    }

    /// Starts a look-up.
    fn take_off(
        self: &Arc<Self>,
        flights: &mut HashMap<Boarding, Flight>,
        region: &Arc<Region>,
        question: Question<'_>,
        leave: Leave,
    ) -> Flight {
        let boarding = Boarding {
            key: question.key,
            past_redis: question.way != Way::Nearest,
        };
        let (landing, flight) = watch::channel(None);
        flights.insert(boarding.clone(), flight.clone());
        let takeoff = TakenOff {
            resolver: Arc::clone(self),
            boarding,
            standing: question.standing,
            way: question.way,
            source: question.source,
            shared: self.redis.as_ref().and_then(|redis| {
                let key = region.link.key.as_bytes();
                let sealing = Sealing::of(question.token, &region.id, key)?;
                Some((Arc::clone(redis), sealing))
            }),
        };
        let region = Arc::clone(region);
        tokio::spawn(async move {
            takeoff.fly(&region, leave, landing).await;
        });
        flight
    }

    /// Leave for a look-up. Where strangers are too many for Redis, it goes past it.
    fn admit(&self, region: &Region, question: &mut Question<'_>) -> Result<Leave, ResolveError> {
        let lookups = &region.lookups;
        let seats = match question.standing {
            Standing::Known => &lookups.known,
            Standing::Stranger => {
                let asks_redis = question.way == Way::Nearest
                    && self
                        .redis
                        .as_ref()
                        .is_some_and(|redis| redis.admits_stranger());
                if !asks_redis {
                    question.way = Way::Region;
                    self.admit_to_region(region, question.source)?;
                }
                &lookups.strangers
            }
        };
        Ok(Leave {
            _seat: seat(seats)?,
            _issuing: None,
        })
    }

    /// Whether a region may be asked about a stranger, which then counts. Only here the failures of
    /// its address matter: what Redis knows is no stranger to other gateways, and behind one
    /// address there may be good clients beside a bad one.
    fn admit_to_region(&self, region: &Region, source: IpAddr) -> Result<(), ResolveError> {
        let (now, lookups) = (self.clock.now(), &region.lookups);
        self.failures
            .check(source, now)
            .map_err(|too_many| ResolveError::SourceLimited {
                retry_after: too_many.0,
            })?;
        lookups
            .bucket
            .take(lookups.rate, now)
            .map_err(|too_many| ResolveError::Overloaded {
                retry_after: too_many.0,
            })
    }
}

/// A seat, if there is one.
fn seat(seats: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, ResolveError> {
    Arc::clone(seats)
        .try_acquire_owned()
        .map_err(|_| OVERLOADED)
}

/// All seats are taken.
const OVERLOADED: ResolveError = ResolveError::Overloaded {
    retry_after: Duration::from_secs(1),
};

/// A look-up that is under way. Takes itself off the list when it ends, however it ends.
struct TakenOff {
    resolver: Arc<Resolver>,
    boarding: Boarding,
    standing: Standing,
    way: Way,
    source: IpAddr,
    /// Redis, and what the token is called there.
    shared: Option<(Arc<Redis>, Sealing)>,
}

/// What Redis is to be told.
enum News {
    Live(Box<Entry>),
    Dead,
}

impl TakenOff {
    /// Finds out, tells who waits, and then Redis.
    async fn fly(
        mut self,
        region: &Arc<Region>,
        leave: Leave,
        landing: watch::Sender<Option<Outcome>>,
    ) {
        let shared = self.shared.take();
        let removing = match (&shared, self.way) {
            (Some((redis, sealing)), Way::RegionAgain) => {
                let (redis, name) = (Arc::clone(redis), sealing.name().to_owned());
                Some(tokio::spawn(async move { redis.remove(&name).await }))
            }
            _ => None,
        };
        let (outcome, news) = match &shared {
            Some((redis, sealing)) if self.way == Way::Nearest => {
                match self.ask_redis(redis, sealing, region).await {
                    Some(client) => (Ok(client), None),
                    None => self.ask_region_after_redis(region).await,
                }
            }
            _ => self.ask_region(region).await,
        };
        // First out of the list of flights, then the news: who hears it and asks again finds the
        // memory filled.
        drop(self);
        drop(leave);
        landing.send_replace(Some(outcome));

        // Nobody waits for what follows. What is taken away goes before what comes in its place.
        if let Some(removing) = removing {
            drop(removing.await);
        }
        match (shared, news) {
            (Some((redis, sealing)), Some(News::Live(entry))) => redis.put(&sealing, &entry).await,
            (Some((redis, sealing)), Some(News::Dead)) => redis.remove(sealing.name()).await,
            _ => {}
        }
    }

    /// Another gateway's look-up, if it has time left.
    async fn ask_redis(
        &self,
        redis: &Redis,
        sealing: &Sealing,
        region: &Arc<Region>,
    ) -> Option<Arc<ProvisioningClient>> {
        let found = redis.get(sealing).await?;
        let keep = self.resolver.memory.keep_at_most(found.keep);
        if found.asked.after(keep) <= self.resolver.clock.now() {
            return None;
        }
        self.keep(region, found.asked, keep, found.resolved)
    }

    async fn ask_region_after_redis(&self, region: &Arc<Region>) -> (Outcome, Option<News>) {
        if self.standing == Standing::Stranger
            && let Err(error) = self.resolver.admit_to_region(region, self.source)
        {
            return (Err(error), None);
        }
        self.ask_region(region).await
    }

    async fn ask_region(&self, region: &Arc<Region>) -> (Outcome, Option<News>) {
        let Resolver { memory, clock, .. } = &*self.resolver;
        let key = &self.boarding.key;
        // The time of asking, not of the answer: what is kept may only end too early.
        let asked = clock.now();
        let question = ResolveRequest { digest: key.digest };
        let timeout = self.resolver.timeout;
        let begun = Instant::now();
        let answer = region_node::ask(region, RESOLVE_PATH, &question, timeout).await;
        let counts = &region.counts;
        let took = match &answer {
            Ok(ResolveAnswer::Granted(_)) => &counts.region_live,
            Ok(ResolveAnswer::Refused { .. }) => &counts.region_refused,
            Err(_) => &counts.region_unavailable,
        };
        took.record_duration(begun.elapsed());
        let unavailable = |error: LookupError| Err(unavailable(region, error));
        match answer {
            Ok(ResolveAnswer::Granted(resolved)) => {
                let keep = memory.keep_at_most(Duration::from_secs(resolved.keep_s.into()));
                let news = Entry {
                    asked,
                    keep_ms: u64::try_from(keep.as_millis()).unwrap_or(u64::MAX),
                    resolved: resolved.clone(),
                };
                match self.keep(region, asked, keep, resolved) {
                    Some(client) => (Ok(client), Some(News::Live(Box::new(news)))),
                    None => (unavailable(LookupError::Grant), None),
                }
            }
            Ok(ResolveAnswer::Refused { reason, tenant_id }) => {
                let bad = BadToken { reason, tenant_id };
                memory.refuse(key, bad.clone(), clock.now());
                if self.standing == Standing::Stranger && reason != Refusal::TenantSuspended {
                    self.resolver.failures.record(self.source, clock.now());
                }
                // Redis was asked about a stranger, or a flood goes past it.
                let news = (self.standing == Standing::Known).then_some(News::Dead);
                (Err(ResolveError::Refused(bad)), news)
            }
            Err(error) => (unavailable(error), None),
        }
    }

    /// Keeps a region's answer in memory; `None` when its grant cannot travel in a header.
    fn keep(
        &self,
        region: &Arc<Region>,
        asked: Timestamp,
        keep: Duration,
        resolved: Resolved,
    ) -> Option<Arc<ProvisioningClient>> {
        let key = &self.boarding.key;
        let client = Arc::new(ProvisioningClient::new(
            region,
            key.digest,
            resolved,
            &self.resolver.tenants,
        )?);
        let live = Live::new(Arc::clone(&client), key, asked, keep);
        self.resolver.memory.keep(key, live);
        Some(client)
    }
}

impl Drop for TakenOff {
    fn drop(&mut self) {
        let flights = self.resolver.flights.lock();
        flights
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.boarding);
    }
}

/// Notes that a region did not answer.
fn unavailable(region: &Region, error: LookupError) -> ResolveError {
    tracing::warn!(
        region = %region.id,
        error = %chain(&error),
        "region {} cannot be asked about a token",
        region.id
    );
    ResolveError::Unavailable(Arc::new(error))
}

/// An error and its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
