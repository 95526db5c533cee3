//! [`Node`]: one region-node as this gateway sees it: where it is, what it has to do, whether it
//! can be reached.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use reqwest::Url;
use reqwest::header::HeaderValue;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};
use tokio_rustls::client::TlsStream;

use super::health::Trouble;
use super::tls::NodeTls;

/// So often a call that waits looks whether its node still answers anybody.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(250);
/// So many looks in a row without an answer, and a node counts as away.
const MOST_MISSED: u32 = 3;

/// A connection to a node.
#[derive(Debug)]
pub enum NodeStream {
    /// As it is.
    Plain(TcpStream),
    /// Within TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

/// A region-node.
#[derive(Debug)]
pub struct Node {
    number: usize,
    url: Url,
    host: String,
    port: u16,
    authority: HeaderValue,
    tls: Option<NodeTls>,
    in_flight: AtomicUsize,
    /// Since when it cannot be reached, by [`now_ms`]; [`UP`] while it can.
    away_since: AtomicI64,
    is_stopping: AtomicBool,
    /// Whether it wants nothing to do with us.
    is_unwilling: AtomicBool,
    looks: AtomicU32,
    /// When it was looked at last, and what was wrong.
    last_look: Mutex<Option<(Instant, Option<Trouble>)>>,
    missed: AtomicU32,
    losses: AtomicU64,
}

const UP: i64 = -1;

/// Milliseconds since this program first asked.
pub(super) fn now_ms() -> i64 {
    i64::try_from(epoch().elapsed().as_millis()).unwrap_or(i64::MAX)
}

fn epoch() -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    *EPOCH.get_or_init(Instant::now)
}

impl Node {
    /// The node whose link listener has this URL; `None` where that is no place to connect to.
    #[must_use]
    pub fn new(url: Url) -> Option<Self> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let host = url.host_str()?;
        let port = url.port_or_known_default()?;
        let authority = HeaderValue::from_str(&format!("{host}:{port}")).ok()?;
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        Some(Self {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            url,
            host,
            port,
            authority,
            tls: None,
            in_flight: AtomicUsize::new(0),
            away_since: AtomicI64::new(UP),
            is_stopping: AtomicBool::new(false),
            is_unwilling: AtomicBool::new(false),
            looks: AtomicU32::new(0),
            last_look: Mutex::new(None),
            missed: AtomicU32::new(0),
            losses: AtomicU64::new(0),
        })
    }

    /// The same node, to be connected to by TLS.
    #[must_use]
    pub fn with_tls(self, tls: NodeTls) -> Self {
        Self {
            tls: Some(tls),
            ..self
        }
    }

    /// Its number, which no other node of this process has.
    #[must_use]
    pub fn number(&self) -> usize {
        self.number
    }

    /// Where it is, for calls of the management kind.
    #[must_use]
    pub fn url(&self) -> Url {
        self.url.clone()
    }

    /// Its `Host`.
    #[must_use]
    pub fn authority(&self) -> &HeaderValue {
        &self.authority
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// As the operating system says, or because the node does not prove to be the one.
    pub async fn connect(&self) -> std::io::Result<NodeStream> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        Ok(match &self.tls {
            Some(tls) => NodeStream::Tls(Box::new(tls.over(stream).await?)),
            None => NodeStream::Plain(stream),
        })
    }

    /// Calls under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Whether it can be reached, as far as is known.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.away_since.load(Ordering::Relaxed) == UP
    }

    /// Whether it is up and takes new work of ours.
    #[must_use]
    pub fn is_welcome(&self) -> bool {
        self.is_up()
            && !self.is_stopping.load(Ordering::Relaxed)
            && !self.is_unwilling.load(Ordering::Relaxed)
    }

    /// Since when it cannot be reached.
    #[must_use]
    pub fn away_since(&self) -> Option<Instant> {
        let since = self.away_since.load(Ordering::Relaxed);
        let since = u64::try_from(since).ok()?;
        Some(epoch() + Duration::from_millis(since))
    }

    /// It answered a call.
    pub fn answered(&self) {
        if !self.is_up() {
            self.away_since.store(UP, Ordering::Relaxed);
        }
    }

    /// It could not be connected to.
    pub fn is_away(&self) {
        let since = now_ms();
        let _known_before =
            self.away_since
                .compare_exchange(UP, since, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// A look at it begins. Answers the number of those before.
    pub fn begin_look(&self) -> u32 {
        self.looks.fetch_add(1, Ordering::Relaxed)
    }

    /// Notes what a look found wrong, and answers what the one before did.
    pub fn note_look(&self, trouble: Option<Trouble>) -> Option<Trouble> {
        let before = self.last_look().replace((Instant::now(), trouble));
        before.and_then(|(_, trouble)| trouble)
    }

    /// Whether it was not looked at for so long.
    #[must_use]
    pub fn is_look_older_than(&self, age: Duration) -> bool {
        self.last_look().is_none_or(|(at, _)| at.elapsed() > age)
    }

    /// Whether the last look found nothing wrong.
    #[must_use]
    pub fn was_well(&self) -> bool {
        matches!(*self.last_look(), Some((_, None)))
    }

    /// Whether the last look, or more of them, got no answer.
    #[must_use]
    pub fn has_missed(&self) -> bool {
        self.missed.load(Ordering::Relaxed) > 0
    }

    /// What is wrong with it, as far as is known.
    #[must_use]
    pub fn trouble(&self) -> Option<Trouble> {
        let found = self.last_look().and_then(|(_, trouble)| trouble);
        // A call may have learnt more since.
        found.or_else(|| (!self.is_up()).then_some(Trouble::Unreachable))
    }

    fn last_look(&self) -> MutexGuard<'_, Option<(Instant, Option<Trouble>)>> {
        self.last_look
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// It answered a look at it.
    pub fn looks_well(&self, is_stopping: bool) {
        self.missed.store(0, Ordering::Relaxed);
        self.is_unwilling.store(false, Ordering::Relaxed);
        self.is_stopping.store(is_stopping, Ordering::Relaxed);
        self.answered();
    }

    /// It is there, and does not let us in. It gets calls only where there is no other node: they
    /// fail, unless they find a connection of before.
    pub fn looks_unwilling(&self) {
        self.missed.store(0, Ordering::Relaxed);
        self.is_unwilling.store(true, Ordering::Relaxed);
    }

    /// It did not answer a look at it in time. After several of these it counts as away, and
    /// calls that wait for it give up: a process that hangs keeps its connections open. Answers
    /// whether that is news.
    pub fn looks_lost(&self) -> bool {
        let missed = self.missed.fetch_add(1, Ordering::Relaxed) + 1;
        let is_news = missed == MOST_MISSED;
        if missed >= MOST_MISSED {
            self.is_away();
            self.losses.fetch_add(1, Ordering::Relaxed);
        }
        is_news
    }

    /// How often it was lost. A call that sees this move waits for nothing.
    #[must_use]
    pub fn losses(&self) -> u64 {
        self.losses.load(Ordering::Relaxed)
    }

    /// Waits until the node is lost, or a moment longer.
    pub async fn lost(&self) {
        let before = self.losses();
        while self.losses() == before {
            sleep(LOOK_EVERY).await;
        }
    }
}

/// A call under way at a node.
#[derive(Debug)]
pub struct UnderWay(Arc<Node>);

impl UnderWay {
    /// Counts for its node, until the answer is dropped.
    #[must_use]
    pub fn begin(node: Arc<Node>) -> Self {
        node.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(node)
    }

    /// Where it is under way.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.0
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_lost_after_several_looks_and_found_by_one() {
        let node = Node::new(Url::parse("http://node.example:9001").unwrap()).unwrap();
        assert_eq!(node.authority(), "node.example:9001");
        assert!(!node.looks_lost() && !node.looks_lost());
        assert!(node.is_up() && node.losses() == 0);
        assert!(node.looks_lost());
        assert!(!node.is_up() && node.losses() > 0);
        assert!(!node.looks_lost());
        node.looks_well(false);
        assert!(node.is_welcome() && node.away_since().is_none());
        node.looks_well(true);
        assert!(node.is_up() && !node.is_welcome());
        node.looks_well(false);
        node.looks_unwilling();
        assert!(node.is_up() && !node.is_welcome());
        node.looks_well(false);
        assert!(node.is_welcome());
    }

    #[test]
    fn what_the_last_look_found_is_known() {
        let node = Node::new(Url::parse("http://node.example:9001").unwrap()).unwrap();
        let hour = Duration::from_secs(3600);
        assert!(node.is_look_older_than(hour) && node.trouble().is_none());
        assert_eq!(node.note_look(Some(Trouble::LinkKey)), None);
        assert!(!node.is_look_older_than(hour));
        assert_eq!(node.trouble(), Some(Trouble::LinkKey));
        assert_eq!(node.note_look(None), Some(Trouble::LinkKey));
        assert_eq!(node.trouble(), None);
        node.is_away();
        assert_eq!(node.trouble(), Some(Trouble::Unreachable));
    }
}
