//! [`CommitCounts`]: what an engine's group commit has done since it was opened.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use telemetry::metrics::SIZES;
use telemetry::{Counter, Histogram};

/// Counted by whoever commits, read by others.
#[derive(Debug)]
pub struct CommitCounts {
    /// Transactions that were made durable.
    pub commits: Counter,
    /// Writes that were kept by them.
    pub writes: Counter,
    /// Transactions that were not.
    pub failures: Counter,
    /// Writes that shared a transaction.
    pub sizes: Histogram,
    /// From a transaction's begin until it was durable.
    pub durations: Histogram,
    is_failing: AtomicBool,
}

impl Default for CommitCounts {
    fn default() -> Self {
        Self {
            commits: Counter::default(),
            writes: Counter::default(),
            failures: Counter::default(),
            sizes: Histogram::new(&SIZES),
            durations: Histogram::of_durations(),
            is_failing: AtomicBool::new(false),
        }
    }
}

impl CommitCounts {
    /// Notes a transaction that is durable, of so many writes, of which so many were kept. Says so
    /// where the one before was not.
    pub(super) fn committed(&self, writes: usize, kept: u64, took: Duration) {
        self.commits.increment();
        self.writes.add(kept);
        self.sizes.record(writes as u64);
        self.durations.record_duration(took);
        if self.is_failing.swap(false, Ordering::Relaxed) {
            tracing::info!("the store takes writes again");
        }
    }

    /// Notes a transaction that was lost. Says so where the one before was not.
    pub(super) fn failed(&self, error: &(dyn std::error::Error + 'static)) {
        self.failures.increment();
        if !self.is_failing.swap(true, Ordering::Relaxed) {
            tracing::error!(error, "the store takes no writes");
        }
    }
}
