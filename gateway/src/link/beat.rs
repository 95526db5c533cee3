//! A timer that each worker's runtime has while calls are under way there.
//!
//! tokio wakes a runtime by a call of the system whenever a timer is set that ends before all
//! others do, also from within that runtime. The timers of calls would do that over and over on a
//! worker that has little to do. While this one ends sooner, none of them does.

use std::cell::Cell;

use tokio::time::{Duration, sleep};

/// Sooner than any timer of a call, the soonest of which is `LOOK_EVERY`.
const EVERY: Duration = Duration::from_millis(60);
/// It ends when so many went by without a call.
const MOST_UNUSED: u32 = 16;

thread_local! {
    /// How many went by since the last call; none where there is no such timer.
    static UNUSED: Cell<Option<u32>> = const { Cell::new(None) };
}

/// A call begins on this thread.
pub(super) fn keep() {
    if UNUSED.replace(Some(0)).is_none() {
        tokio::spawn(beat());
    }
}

async fn beat() {
    loop {
        sleep(EVERY).await;
        let unused = UNUSED.get().unwrap_or(MOST_UNUSED) + 1;
        UNUSED.set((unused < MOST_UNUSED).then_some(unused));
        if unused >= MOST_UNUSED {
            return;
        }
    }
}
