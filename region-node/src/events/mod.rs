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

use tokio::sync::watch;

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
    pub fn listen(&self) -> watch::Receiver<()> {
        self.0.subscribe()
    }
}

impl Default for Bell {
    fn default() -> Self {
        Self::new()
    }
}
