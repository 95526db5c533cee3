//! [`Region`]: one region as this gateway sees it. The way to its nodes is in `link`.

use std::sync::Arc;

use shared::RegionId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::{Bucket, Rate};
use crate::link::RegionLink;

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
