//! [`RegionLink`]: the way to a region's nodes. Which node gets a call, how long a region that is
//! away is waited for, and how often a call may be sent again.
//!
//! What never lives here: what a call says (`forward`, `resolver::region_node`), and what a client
//! is told (`error`).

mod answer;
mod beat;
mod health;
mod node;
mod pool;
mod tls;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::header::HeaderValue;
use rustls::ClientConfig;
use telemetry::Counter;
use tokio::time::{Instant, sleep};

use crate::turns::Busy;

pub use self::answer::{AnswerHead, MalformedAnswer};
pub use self::health::{Looks, Readiness, Trouble, keep_watch, readiness};
pub use self::node::{Node, UnderWay};
pub use self::pool::{Answer, AnswerError};
pub use self::tls::LinkTls;

/// How long a call that got no answer waits until it is sent again. A process that ends takes all
/// its connections with it, those that are kept here for later calls too, and the listener a few
/// milliseconds after them: sent at once, the call would meet the same end over another one.
const PAUSE_BEFORE_AGAIN: Duration = Duration::from_millis(100);
/// While a region is given up, one call in so long finds out whether it is back.
const TRIED_EVERY: Duration = Duration::from_millis(500);

/// Why a region gave no answer. Never holds a URL.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No node could be reached: nothing was sent.
    #[error("no node of the region can be reached")]
    Unreachable(#[source] Option<NodeError>),
    /// The call was sent, and the connection ended without an answer.
    #[error("the node did not answer")]
    NoAnswer(#[source] NodeError),
    /// The time was over.
    #[error("the node did not answer in time")]
    Deadline,
    /// The region has more to do than it can.
    #[error("the region has no turn for this call")]
    Busy(#[source] Busy),
    /// Too many calls of the region had to be sent again already.
    #[error("too many calls are being sent again")]
    OverBudget,
}

/// What went wrong with one node. Never holds a URL.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// No connection.
    #[error("the node cannot be connected to")]
    Connect(#[source] std::io::Error),
    /// The connection did not come up in time.
    #[error("the node takes no connection in time")]
    ConnectTimeout,
    /// The connection broke.
    #[error("the connection to the node broke")]
    Broken(#[source] std::io::Error),
    /// What came is no answer that could be passed on.
    #[error("the node's answer is malformed")]
    Malformed(#[source] MalformedAnswer),
    /// The node stopped answering anybody.
    #[error("the node answers nobody any more")]
    Lost,
    /// A call of the management kind failed.
    #[error("the call to the node failed")]
    Call(#[source] reqwest::Error),
}

/// How one attempt at one node ended without an answer.
#[derive(Debug)]
pub enum Attempt {
    /// Nothing was sent.
    NotSent(NodeError),
    /// It was sent, and nobody knows what became of it.
    Unanswered(NodeError),
    /// It was not its turn in time.
    Busy(Busy),
    /// The time was over.
    Deadline,
}

/// The nodes of a region.
#[derive(Debug)]
pub struct RegionLink {
    /// Its nodes.
    pub nodes: Vec<Arc<Node>>,
    /// Proves that we are a gateway of this region.
    pub key: HeaderValue,
    /// How long a region that cannot be reached is tried again.
    pub hold: Duration,
    /// How long a connection may take to come up.
    pub connect_timeout: Duration,
    /// How long a connection is kept without a call.
    pub idle_timeout: Duration,
    looks: Looks,
    tls: Option<Arc<LinkTls>>,
    budget: Budget,
    next: AtomicUsize,
    /// When a call may next try a region that is given up, in milliseconds of [`node::now_ms`].
    next_try: AtomicI64,
    /// What became of calls that did not go through at once.
    pub counts: LinkCounts,
}

/// Calls that did not go through at once.
#[derive(Debug, Default)]
pub struct LinkCounts {
    /// They waited for a node to come back.
    pub held: Counter,
    /// Nothing was sent, and another attempt was made.
    pub retried: Counter,
    /// They were sent, got no answer, and were sent again.
    pub resent: Counter,
}

impl RegionLink {
    /// A link to these nodes.
    #[must_use]
    pub fn new(
        nodes: Vec<Node>,
        key: HeaderValue,
        hold: Duration,
        (connect_timeout, idle_timeout): (Duration, Duration),
        looks: Looks,
    ) -> Self {
        Self {
            nodes: nodes.into_iter().map(Arc::new).collect(),
            key,
            hold,
            connect_timeout,
            idle_timeout,
            looks,
            tls: None,
            budget: Budget::default(),
            next: AtomicUsize::new(0),
            next_try: AtomicI64::new(0),
            counts: LinkCounts::default(),
        }
    }

    /// The same link, which is encrypted.
    #[must_use]
    pub fn with_tls(self, tls: Option<Arc<LinkTls>>) -> Self {
        Self { tls, ..self }
    }

    /// How it is encrypted, if it is.
    #[must_use]
    pub fn tls(&self) -> Option<&Arc<LinkTls>> {
        self.tls.as_ref()
    }

    /// For the calls that are not forwarded.
    #[must_use]
    pub fn client(&self) -> &reqwest::Client {
        &self.looks.kept
    }

    /// How many nodes can be reached.
    #[must_use]
    pub fn nodes_up(&self) -> usize {
        self.nodes.iter().filter(|node| node.is_up()).count()
    }

    /// Hands a call to `attempt` with one node after the other, until one takes it: the less busy
    /// of two; when none can be reached, goes round again, with pauses, until the region has been
    /// away for the hold time or the deadline comes, so that a node's restart is invisible. A call
    /// that was sent is not sent to another node.
    ///
    /// # Errors
    /// [`LinkError`] when there is no answer.
    pub async fn send<T, A: Future<Output = Result<T, Attempt>>>(
        &self,
        deadline: Instant,
        mut attempt: impl FnMut(Arc<Node>) -> A,
    ) -> Result<T, LinkError> {
        self.budget.earn();
        let mut round = 0;
        let mut last = None;
        loop {
            while let Some(node) = self.choose(round > 0) {
                match attempt(Arc::clone(node)).await {
                    Ok(answer) => {
                        node.answered();
                        return Ok(answer);
                    }
                    Err(Attempt::NotSent(error)) => {
                        node.is_away();
                        self.counts.retried.increment();
                        last = Some(error);
                        if round > 0 && self.away_since().is_some() {
                            break;
                        }
                    }
                    Err(Attempt::Unanswered(error)) => return Err(LinkError::NoAnswer(error)),
                    Err(Attempt::Busy(busy)) => return Err(LinkError::Busy(busy)),
                    Err(Attempt::Deadline) => return Err(LinkError::Deadline),
                }
            }
            round += 1;
            let pause = pause_before_round(round);
            let until = self
                .away_since()
                .map_or(deadline, |since| deadline.min(since + self.hold));
            if Instant::now() + pause >= until {
                return Err(LinkError::Unreachable(last));
            }
            if round == 1 {
                self.counts.held.increment();
            }
            sleep(pause).await;
        }
    }

    /// As [`RegionLink::send`], for a call that was sent and got no answer.
    ///
    /// # Errors
    /// [`LinkError`] when there is no answer again, or when too many calls were sent again lately.
    pub async fn send_again<T, A: Future<Output = Result<T, Attempt>>>(
        &self,
        deadline: Instant,
        attempt: impl FnMut(Arc<Node>) -> A,
    ) -> Result<T, LinkError> {
        if !self.budget.spend() {
            return Err(LinkError::OverBudget);
        }
        self.counts.resent.increment();
        sleep(PAUSE_BEFORE_AGAIN).await;
        self.send(deadline, attempt).await
    }

    /// The node for the next attempt: of two that are up the one with less to do; one that is
    /// stopping only where there is no other. Where all are away, one of them when the caller has
    /// waited for it, or when it is time to look whether the region is back.
    fn choose(&self, has_waited: bool) -> Option<&Arc<Node>> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let count = self.nodes.len();
        let first = self.nodes.get(turn.checked_rem(count)?)?;
        if count == 1 && first.is_up() {
            return Some(first);
        }
        let behind = 1 + (turn / count).checked_rem(count - 1).unwrap_or(0);
        let second = self.nodes.get((turn + behind) % count)?;
        match (first.is_welcome(), second.is_welcome()) {
            (true, true) if second.in_flight() < first.in_flight() => return Some(second),
            (true, _) => return Some(first),
            (false, true) => return Some(second),
            (false, false) => {}
        }
        let in_turn = || {
            let (behind, before) = self.nodes.split_at(turn % count);
            before.iter().chain(behind)
        };
        in_turn()
            .find(|node| node.is_welcome())
            .or_else(|| in_turn().find(|node| node.is_up()))
            .or_else(|| (has_waited || self.claim_try()).then_some(first))
    }

    /// Since when no node can be reached; `None` while one can.
    fn away_since(&self) -> Option<Instant> {
        let mut latest = None;
        for node in &self.nodes {
            latest = latest.max(Some(node.away_since()?));
        }
        latest
    }

    /// Whether the caller may try a region that is given up. Says yes to one at a time.
    fn claim_try(&self) -> bool {
        let now = node::now_ms();
        let next = self.next_try.load(Ordering::Relaxed);
        let then = now.saturating_add(i64::try_from(TRIED_EVERY.as_millis()).unwrap_or(i64::MAX));
        now >= next
            && self
                .next_try
                .compare_exchange(next, then, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

impl Looks {
    /// The clients for the calls that are not forwarded: token look-ups and looks at the nodes'
    /// health.
    ///
    /// # Errors
    /// When an HTTP client cannot be built.
    pub fn new(
        tls: &ClientConfig,
        (connect_timeout, idle_timeout): (Duration, Duration),
        every: Duration,
    ) -> Result<Self, reqwest::Error> {
        let client = || http_client(tls.clone(), connect_timeout);
        Ok(Self {
            kept: client().pool_idle_timeout(idle_timeout).build()?,
            anew: client().pool_max_idle_per_host(0).build()?,
            every,
        })
    }
}

/// Follows no redirect, uses no proxy and tries nothing again by itself.
fn http_client(tls: ClientConfig, connect_timeout: Duration) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        // The environment of an operator's shell must not reroute calls (failure class 43).
        .no_proxy()
        .connect_timeout(connect_timeout)
        .tcp_nodelay(true)
}

/// 50, 100, 200, then 400 ms: quick for a restart, light for an outage.
fn pause_before_round(round: u32) -> Duration {
    Duration::from_millis(50 << round.saturating_sub(1).min(3))
}

/// How many calls may be sent again: one in ten, and some that are saved up for the moment in
/// which a node ends with all that it had under way. So a region in trouble never gets much more
/// than it was asked for (failure class 95).
#[derive(Debug)]
struct Budget(AtomicI64);

impl Budget {
    /// What one call earns, and what sending one again costs.
    const EARNED: i64 = 1;
    const COST: i64 = 10;
    /// The most that is saved up: 500 calls sent again.
    const MOST: i64 = 5_000;

    fn earn(&self) {
        // That the bound is passed by a few when many come at once is no matter.
        if self.0.load(Ordering::Relaxed) < Self::MOST {
            self.0.fetch_add(Self::EARNED, Ordering::Relaxed);
        }
    }

    fn spend(&self) -> bool {
        let spent = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |saved| {
                (saved >= Self::COST).then_some(saved - Self::COST)
            });
        spent.is_ok()
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self(AtomicI64::new(Self::MOST))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::future::ready;

    use futures_util::future::join_all;

    use super::*;

    fn link(nodes: usize) -> RegionLink {
        let nodes = (0..nodes).map(|number| {
            let url = format!("http://127.0.0.1:{}", 9000 + number);
            Node::new(reqwest::Url::parse(&url).unwrap()).unwrap()
        });
        let time = Duration::from_secs(1);
        RegionLink::new(
            nodes.collect(),
            HeaderValue::from_static("key"),
            Duration::from_millis(200),
            (time, time),
            looks(),
        )
    }

    /// Of nobody in particular.
    pub(crate) fn looks() -> Looks {
        let (tls, time) = (
            shared::tls::trusting_nobody().unwrap(),
            Duration::from_secs(1),
        );
        Looks::new(&tls, (time, time), time).unwrap()
    }

    fn not_sent() -> Attempt {
        Attempt::NotSent(NodeError::ConnectTimeout)
    }

    fn in_a_minute() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[tokio::test]
    async fn a_node_that_is_away_is_passed_over_until_it_answers() {
        let link = link(2);
        let [gone, _] = link.nodes.as_slice() else {
            panic!()
        };
        let mut asked = Vec::new();
        for _ in 0..10 {
            let answer = link
                .send(in_a_minute(), |node| {
                    asked.push(node.number());
                    let is_gone = node.number() == gone.number();
                    ready(if is_gone { Err(not_sent()) } else { Ok(()) })
                })
                .await;
            answer.unwrap();
        }
        let times = asked.iter().filter(|one| **one == gone.number()).count();
        assert_eq!((times, asked.len()), (1, 11));
        gone.answered();
        assert!(link.away_since().is_none());
    }

    #[tokio::test]
    async fn the_less_busy_of_two_is_chosen() {
        let link = link(3);
        let [busy, ..] = link.nodes.as_slice() else {
            panic!()
        };
        let _calls: Vec<_> = (0..10).map(|_| UnderWay::begin(Arc::clone(busy))).collect();
        for _ in 0..50 {
            let chosen = link.choose(false).unwrap();
            assert_ne!(chosen.number(), busy.number());
        }
    }

    #[tokio::test]
    async fn a_region_that_is_away_is_held_for_a_while_and_then_given_up() {
        let link = link(2);
        let mut tries = 0;
        let first = link
            .send(in_a_minute(), |_| {
                tries += 1;
                ready(Err::<(), _>(not_sent()))
            })
            .await;
        assert!(matches!(first, Err(LinkError::Unreachable(_))));
        assert!(tries > 2, "{tries}");
        // From now on nobody waits, and few try.
        let mut tries = 0;
        for _ in 0..1000 {
            let answer = link
                .send(in_a_minute(), |_| {
                    tries += 1;
                    ready(Err::<(), _>(not_sent()))
                })
                .await;
            assert!(matches!(answer, Err(LinkError::Unreachable(_))));
        }
        assert!(tries < 10, "{tries}");
        // It is back when a look finds it.
        let found = link.nodes.first().unwrap();
        found.looks_well(false);
        for _ in 0..10 {
            let answer = link.send(in_a_minute(), |node| ready(Ok(node.number())));
            assert_eq!(answer.await.unwrap(), found.number());
        }
    }

    #[tokio::test]
    async fn a_restart_is_waited_for() {
        let link = link(1);
        let mut tries = 0;
        let answer = link
            .send(in_a_minute(), |_| {
                tries += 1;
                ready(if tries < 3 { Err(not_sent()) } else { Ok(()) })
            })
            .await;
        answer.unwrap();
        assert_eq!(tries, 3);
    }

    #[tokio::test]
    async fn one_call_in_ten_may_be_sent_again() {
        let link = link(1);
        // Many at once: each waits a little before it is sent. A call that is sent again is a call.
        let sent_again = async || {
            let mut all_sent = 0;
            loop {
                let again = || link.send_again(in_a_minute(), |_| ready(Ok(())));
                let all = join_all((0..1_000).map(|_| again())).await;
                match all.iter().filter(|sent| sent.is_ok()).count() {
                    0 => return all_sent,
                    sent => all_sent += sent,
                }
            }
        };
        let saved_up = sent_again().await;
        assert!((500..=600).contains(&saved_up), "{saved_up}");
        for _ in 0..100 {
            link.send(in_a_minute(), |_| ready(Ok(()))).await.unwrap();
        }
        let more = sent_again().await;
        assert!((9..=12).contains(&more), "{more}");
    }
}
