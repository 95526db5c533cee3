//! A bug in one request is that request's trouble.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use shared::{Clock, Timestamp};

use crate::support::{START, World, scim_error};

/// A clock that breaks on demand: the only part that is handed in, and so the only one through
/// which a test can bring about a bug.
#[derive(Debug, Default)]
struct Breakable(AtomicBool);

impl Clock for Breakable {
    fn now(&self) -> Timestamp {
        assert!(!self.0.load(Ordering::SeqCst), "the clock is broken");
        START
    }
}

#[tokio::test]
async fn a_panic_is_a_500_and_the_connection_goes_on() {
    let clock = Arc::new(Breakable::default());
    let world = World::start_on(Arc::clone(&clock) as Arc<dyn Clock>, |_| {}).await;
    let token = world.token("us");
    for broken in [false, true, true, false] {
        clock.0.store(broken, Ordering::SeqCst);
        let answer = world.get("us", "/Users", &token).send().await.unwrap();
        match broken {
            true => drop(scim_error(answer, 500).await),
            false => assert_eq!(answer.status(), 200),
        }
    }
}

#[tokio::test]
async fn a_look_up_that_panics_leaves_nobody_waiting() {
    let clock = Arc::new(Breakable::default());
    let world = World::start_on(Arc::clone(&clock) as Arc<dyn Clock>, |_| {}).await;
    // What is refused is written down with the time of the answer.
    let token = world.token("us");
    world.refuse(&token, shared::link::Refusal::Unknown);
    world.end("us").close_gate();
    let waiting = tokio::spawn(world.get("us", "/Users", &token).send());
    world.end("us").wait_for_lookups(1).await;
    clock.0.store(true, Ordering::SeqCst);
    world.end("us").open_gate();
    scim_error(waiting.await.unwrap().unwrap(), 503).await;
    // And the next one is looked up.
    clock.0.store(false, Ordering::SeqCst);
    let answer = world.get("us", "/Users", &token).send().await.unwrap();
    scim_error(answer, 401).await;
    assert_eq!(world.end("us").lookups(), 2);
}
