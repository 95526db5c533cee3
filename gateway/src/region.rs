//! [`Region`]: one region as this gateway sees it, and [`RegionLink`], the way to its nodes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::header::HeaderValue;
use reqwest::{Client, RequestBuilder, Response, Url};
use shared::RegionId;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};

use crate::limits::{Bucket, Rate};

/// How long a probe of a node may take.
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);

/// A region that is served here.
#[derive(Debug)]
pub struct Region {
    /// Its name.
    pub id: RegionId,
    /// The base URL of its own hostname.
    pub base_url: String,
    /// The way to its nodes.
    pub link: RegionLink,
    /// How many look-ups it may be asked for.
    pub lookups: LookupLimits,
    /// How many requests may be under way.
    pub in_flight: Arc<Semaphore>,
}

impl Region {
    /// Leave to send one request to the region, or `None` when too many are under way: a slow
    /// region takes nothing from the others (DESIGN section 5).
    #[must_use]
    pub fn admit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.in_flight).try_acquire_owned().ok()
    }
}

/// How many look-ups may be under way, for strangers and for tokens that were live here before.
/// Two budgets, so that a flood of strangers cannot keep out who is known.
#[derive(Debug)]
pub struct LookupLimits {
    /// How often strangers may be looked up.
    pub rate: Rate,
    /// What is left of it.
    pub bucket: Bucket,
    /// Look-ups of strangers under way.
    pub strangers: Arc<Semaphore>,
    /// Look-ups of known tokens under way.
    pub known: Arc<Semaphore>,
}

/// How long a call that got no answer waits until it is sent again. A process that ends takes all
/// its connections with it, those that are kept here for later calls too, and the listener a few
/// milliseconds after them: sent at once, the call would meet the same end over another one.
const PAUSE_BEFORE_AGAIN: Duration = Duration::from_millis(100);

/// Why a region gave no answer. Never holds a URL.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No node could be reached: nothing was sent.
    #[error("no node of the region can be reached")]
    Unreachable(#[source] reqwest::Error),
    /// The call was sent, and the connection ended without an answer.
    #[error("the node did not answer")]
    NoAnswer(#[source] reqwest::Error),
    /// The time was over.
    #[error("the node did not answer in time")]
    Deadline,
}

/// The nodes of a region, used in turn.
#[derive(Debug)]
pub struct RegionLink {
    /// Their link listeners.
    pub nodes: Vec<Url>,
    /// Proves that we are a gateway of this region.
    pub key: HeaderValue,
    /// How long a region that cannot be reached is tried again.
    pub hold: Duration,
    client: Client,
    next: AtomicUsize,
}

impl RegionLink {
    /// A link over a client that is shared by all regions.
    #[must_use]
    pub fn new(client: Client, nodes: Vec<Url>, key: HeaderValue, hold: Duration) -> Self {
        Self {
            nodes,
            key,
            hold,
            client,
            next: AtomicUsize::new(0),
        }
    }

    /// Whether any node accepts a connection.
    pub async fn is_reachable(&self) -> bool {
        let probes = self.nodes.iter().map(|node| async move {
            let (Some(host), Some(port)) = (node.host_str(), node.port_or_known_default()) else {
                return false;
            };
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let connecting = TcpStream::connect((host, port));
            matches!(timeout(PROBE_TIMEOUT, connecting).await, Ok(Ok(_)))
        });
        join_all(probes).await.contains(&true)
    }

    /// Sends a call to the next node, and to the others when that one cannot be reached; goes
    /// round again, with pauses, until the hold time or the deadline ends, so that a node's
    /// restart is invisible. `build` makes the call for a node; it is sent to one node only.
    ///
    /// # Errors
    /// [`LinkError`] when there is no answer.
    pub async fn send(
        &self,
        deadline: Instant,
        build: impl Fn(&Client, Url) -> RequestBuilder,
    ) -> Result<Response, LinkError> {
        let hold_until = deadline.min(Instant::now() + self.hold);
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let mut tried = 0;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let node = self
                .nodes
                .get(first.wrapping_add(tried) % self.nodes.len().max(1))
                .ok_or(LinkError::Deadline)?;
            let call = build(&self.client, node.clone()).timeout(left);
            let error = match call.send().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error.without_url(),
            };
            if !error.is_connect() {
                return Err(if error.is_timeout() {
                    LinkError::Deadline
                } else {
                    LinkError::NoAnswer(error)
                });
            }
            tried += 1;
            if tried.is_multiple_of(self.nodes.len()) {
                let pause = pause_before_round(tried / self.nodes.len());
                if Instant::now() + pause >= hold_until {
                    return Err(LinkError::Unreachable(error));
                }
                sleep(pause).await;
            }
        }
    }

    /// As [`RegionLink::send`], for a call that was sent and got no answer.
    ///
    /// # Errors
    /// [`LinkError`] when there is no answer again.
    pub async fn send_again(
        &self,
        deadline: Instant,
        build: impl Fn(&Client, Url) -> RequestBuilder,
    ) -> Result<Response, LinkError> {
        sleep(PAUSE_BEFORE_AGAIN).await;
        self.send(deadline, build).await
    }
}

/// 50, 100, 200, then 400 ms: quick for a restart, light for an outage.
fn pause_before_round(round: usize) -> Duration {
    let doublings = u32::try_from(round.saturating_sub(1)).unwrap_or(3).min(3);
    Duration::from_millis(50 << doublings)
}
