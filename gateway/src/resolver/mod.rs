//! From a token to a [`ProvisioningClient`]: memory, then the region-node. (A shared level in
//! Redis fits between the two.)
//!
//! The region is the only authority; what is kept here only saves work. Errors are never kept.
//! For each token at most one look-up is under way, in a task of its own: a client that hangs up
//! ends its waiting and not the look-up, on which others may wait.

pub mod memory;
pub mod region_node;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::Client;
use shared::link::{Refusal, ResolveAnswer};
use shared::{Clock, TokenDigest};
use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::config::Settings;
use crate::limits::{Rate, SourceFailures, Tenants};
use crate::provisioning_client::ProvisioningClient;
use crate::region::Region;
use memory::{Key, Known, Live, Memory};
use region_node::LookupError;

/// Why a token was not resolved.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ResolveError {
    /// The region says that it is bad. The only variant that knows anything about the token.
    #[error("the region refuses the token")]
    Refused(Refusal),
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
    /// The look-ups under way. Bounded, because each holds a permit of its region.
    flights: Mutex<HashMap<Key, Flight>>,
    failures: SourceFailures,
    tenants: Tenants,
    timeout: Duration,
    client: Client,
    clock: Arc<dyn Clock>,
}

/// On whose account a look-up goes.
#[derive(Clone, Copy, Debug)]
enum Standing {
    /// The token is live, or was.
    Known,
    /// Nothing is known of it.
    Stranger,
}

impl Resolver {
    /// A resolver that knows nothing yet, and asks through this client.
    #[must_use]
    pub fn new(settings: &Settings, client: Client, clock: Arc<dyn Clock>) -> Self {
        Self {
            memory: Memory::new(&settings.cache),
            flights: Mutex::default(),
            failures: SourceFailures::new(Rate {
                per_s: settings.limits.failures_per_s,
                burst: settings.limits.failures_burst,
            }),
            tenants: Tenants::default(),
            timeout: Duration::from_millis(settings.timeouts.lookup_ms),
            client,
            clock,
        }
    }

    /// Whose token is this, at this region?
    ///
    /// # Errors
    /// [`ResolveError`]; only `Refused` says that the token is bad.
    pub async fn resolve(
        self: &Arc<Self>,
        region: &Arc<Region>,
        digest: TokenDigest,
        source: IpAddr,
    ) -> Outcome {
        let key = Key {
            region: region.id.clone(),
            digest,
        };
        match self.memory.get(&key, self.clock.now()) {
            Known::Live(live) => {
                if live.claim_refresh(self.clock.now()) {
                    // Whether it can start or not, this request has what it needs.
                    let _flight = self.board(region, key, Standing::Known, source);
                }
                Ok(Arc::clone(&live.client))
            }
            Known::Refused(reason) => Err(ResolveError::Refused(reason)),
            Known::Formerly => self.look_up(region, key, Standing::Known, source).await,
            Known::Nothing => self.look_up(region, key, Standing::Stranger, source).await,
        }
    }

    /// The region refused a grant: forgets it and asks again.
    ///
    /// # Errors
    /// As [`Resolver::resolve`].
    pub async fn resolve_again(
        self: &Arc<Self>,
        region: &Arc<Region>,
        digest: TokenDigest,
        stale: &Arc<ProvisioningClient>,
        source: IpAddr,
    ) -> Outcome {
        let key = Key {
            region: region.id.clone(),
            digest,
        };
        self.memory.forget(&key, stale);
        match self.memory.get(&key, self.clock.now()) {
            // Another request of this token was faster.
            Known::Live(live) => Ok(Arc::clone(&live.client)),
            Known::Refused(reason) => Err(ResolveError::Refused(reason)),
            Known::Formerly | Known::Nothing => {
                self.look_up(region, key, Standing::Known, source).await
            }
        }
    }

    async fn look_up(
        self: &Arc<Self>,
        region: &Arc<Region>,
        key: Key,
        standing: Standing,
        source: IpAddr,
    ) -> Outcome {
        let mut flight = self.board(region, key, standing, source)?;
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
        key: Key,
        standing: Standing,
        source: IpAddr,
    ) -> Result<Flight, ResolveError> {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(&key) {
            return Ok(flight.clone());
        }
        let permit = self.admit(region, standing, source)?;
        let (landing, flight) = watch::channel(None);
        flights.insert(key.clone(), flight.clone());
        let takeoff = TakenOff {
            resolver: Arc::clone(self),
            key,
        };
        let region = Arc::clone(region);
        tokio::spawn(async move {
            let outcome = takeoff.fly(&region, standing, source).await;
            // First out of the list of flights, then the news: who hears it and asks again finds
            // the memory filled.
            drop(takeoff);
            drop(permit);
            landing.send_replace(Some(outcome));
        });
        Ok(flight)
    }

    fn admit(
        &self,
        region: &Region,
        standing: Standing,
        source: IpAddr,
    ) -> Result<OwnedSemaphorePermit, ResolveError> {
        let overloaded = |retry_after| ResolveError::Overloaded { retry_after };
        let lookups = &region.lookups;
        let seats = match standing {
            Standing::Known => &lookups.known,
            Standing::Stranger => {
                let now = self.clock.now();
                self.failures.check(source, now).map_err(|too_many| {
                    ResolveError::SourceLimited {
                        retry_after: too_many.0,
                    }
                })?;
                lookups
                    .bucket
                    .take(lookups.rate, now)
                    .map_err(|too_many| overloaded(too_many.0))?;
                &lookups.strangers
            }
        };
        Arc::clone(seats)
            .try_acquire_owned()
            .map_err(|_| overloaded(Duration::from_secs(1)))
    }
}

/// A look-up that is under way. Takes itself off the list when it ends, however it ends.
struct TakenOff {
    resolver: Arc<Resolver>,
    key: Key,
}

impl TakenOff {
    async fn fly(&self, region: &Arc<Region>, standing: Standing, source: IpAddr) -> Outcome {
        let Resolver {
            memory,
            clock,
            client,
            tenants,
            ..
        } = &*self.resolver;
        // The time of asking, not of the answer: what is kept may only end too early.
        let asked = clock.now();
        let answer = region_node::ask(client, region, self.key.digest, self.resolver.timeout).await;
        let unavailable = |error: LookupError| {
            let error = Arc::new(error);
            tracing::warn!(
                region = %region.id,
                error = %chain(&*error),
                "region {} cannot be asked about a token",
                region.id
            );
            Err(ResolveError::Unavailable(error))
        };
        match answer {
            Ok(ResolveAnswer::Granted(resolved)) => {
                let keep = memory.keep_at_most(Duration::from_secs(resolved.keep_s.into()));
                let Some(client) =
                    ProvisioningClient::new(region, self.key.digest, resolved, tenants)
                else {
                    return unavailable(LookupError::Grant);
                };
                let client = Arc::new(client);
                let live = Live::new(Arc::clone(&client), &self.key, asked, keep);
                memory.keep(&self.key, Arc::new(live));
                Ok(client)
            }
            Ok(ResolveAnswer::Refused { reason }) => {
                memory.refuse(&self.key, reason, clock.now());
                if let (Standing::Stranger, true) = (standing, reason != Refusal::TenantSuspended) {
                    self.resolver.failures.record(source, clock.now());
                }
                Err(ResolveError::Refused(reason))
            }
            Err(error) => unavailable(error),
        }
    }
}

impl Drop for TakenOff {
    fn drop(&mut self) {
        let flights = self.resolver.flights.lock();
        flights
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.key);
    }
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
