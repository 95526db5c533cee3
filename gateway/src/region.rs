//! [`Region`]: one region as this gateway sees it. The way to its nodes is in `link`.

use std::sync::Arc;

use shared::RegionId;
use telemetry::{Counter, Histogram, ShardedCounter};
use tokio::sync::Semaphore;

use crate::limits::{BodyMemory, Bucket, Rate};
use crate::link::RegionLink;
use crate::turns::Turns;

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
    /// What the bodies for it may take of the memory.
    pub body_memory: BodyMemory,
    /// Whose call may be sent now: a slow region takes nothing from the others (DESIGN section 5).
    pub turns: Turns,
    /// What became of questions about its tokens.
    pub counts: LookupCounts,
}

/// What became of questions about tokens of a region.
#[derive(Debug)]
pub struct LookupCounts {
    /// The memory had them as live.
    pub live: ShardedCounter,
    /// The memory had them as bad.
    pub refused: Counter,
    /// The memory had nothing, or what it had was too old.
    pub missed: Counter,
    /// How long the region took to say that a token is live.
    pub region_live: Histogram,
    /// How long it took to say that one is bad.
    pub region_refused: Histogram,
    /// How long it took to say nothing of use.
    pub region_unavailable: Histogram,
}

impl Default for LookupCounts {
    fn default() -> Self {
        Self {
            live: ShardedCounter::default(),
            refused: Counter::default(),
            missed: Counter::default(),
            region_live: Histogram::of_durations(),
            region_refused: Histogram::of_durations(),
            region_unavailable: Histogram::of_durations(),
        }
    }
}

/// How many look-ups may be under way, for strangers and for tokens that were live here before, and
/// how many access tokens may be in the making. Budgets of their own, so that a flood of one kind
/// keeps out no other.
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
    /// Access tokens in the making, each until it was looked up for the first time.
    pub issuing: Arc<Semaphore>,
    /// How many of these may be one tenant's.
    pub issuing_of_tenant: u32,
}
