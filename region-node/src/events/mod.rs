//! Events for the application behind: what changed in a tenant, told to whoever wants to hear.
//!
//! Events are made of the change feed, which is written in the transaction of the change, so none is
//! told that did not happen and none that happened is missed. [`event`] says what an event is,
//! [`endpoints`] who gets them, [`delivery`] sends them, [`signature`] signs them, [`egress`] is the
//! one way out of the node, [`token`] makes security event tokens of them. What never lives here:
//! SQL, the admin's HTTP.

pub mod delivery;
pub mod egress;
pub mod endpoints;
pub mod event;
pub mod signature;
pub mod token;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// How often a node looks whether another one has written.
pub const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Longest time that a call waits for events.
pub const LONGEST_WAIT: Duration = Duration::from_secs(20);

/// Tells those who wait for changes, in this node, that there may be some. Ringing costs next to
/// nothing when nobody waits.
#[derive(Clone)]
pub struct Bell(Arc<watch::Sender<()>>);

impl Bell {
    /// A bell that nobody waits for.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(())))
    }

    /// A write was committed.
    pub fn ring(&self) {
        self.0.send_replace(());
    }

    /// Hears every ring from now on.
    #[must_use]
    pub fn listen(&self) -> Rings {
        Rings(self.0.subscribe())
    }
}

/// What one who waits hears of a [`Bell`]. A ring between two waits is heard in the second one.
pub struct Rings(watch::Receiver<()>);

impl Rings {
    /// Waits for a ring; ends for good when there is no bell any more.
    pub async fn next(&mut self) {
        let _is_there = self.0.changed().await;
    }

    /// Waits for a ring, for the time to look at what other nodes may have written, or for `end`.
    pub async fn next_or_look(&mut self, end: Instant) {
        let next_look = end.min(Instant::now() + LOOK_EVERY);
        let _rung_or_late = timeout_at(next_look, self.next()).await;
    }
}

impl Default for Bell {
    fn default() -> Self {
        Self::new()
    }
}
