//! A short soak: `support/soak` says what it is, and `tests/bench/run soak` takes its time.

use std::time::Duration;

use crate::support::scale;
use crate::support::soak::{Length, Scope, soak};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_of_four_regions_lose_nothing_while_parts_are_taken_away() {
    let seconds = scale("MERIDIAN_TEST_SOAK_S", 0);
    let length = match u64::try_from(seconds).unwrap() {
        0 => Length::Faults {
            count: 5,
            writes: 10,
        },
        seconds => Length::Time {
            total: Duration::from_secs(seconds),
            between: Duration::from_secs(5),
        },
    };
    let scope = Scope {
        tenants: 12,
        length,
    };
    let mut outcome = soak(scope, |how| eprintln!("{how}")).await;
    // What has not run for long is not warm.
    if seconds > 100 {
        outcome.check_growth();
    }
    assert_eq!(outcome.wrong, Vec::<String>::new());
    assert!(outcome.acknowledged > 0 && outcome.events.1 >= outcome.acknowledged);
}
