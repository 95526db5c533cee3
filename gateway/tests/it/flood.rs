//! Floods of well-formed tokens that nobody issued.

use futures_util::StreamExt as _;
use shared::ApiToken;
use shared::link::TenantLimits;

use crate::support::{World, region};

const TOKENS: usize = 20_000;
const AT_ONCE: usize = 32;

/// Sends the flood and, between, calls of a live tenant; gives how often each status came.
async fn flood(world: &World, live: &ApiToken) -> std::collections::BTreeMap<u16, usize> {
    let us = region("us");
    let statuses: Vec<u16> = futures_util::stream::iter(0..TOKENS)
        .map(|number| {
            let us = us.clone();
            async move {
                if number % 100 == 0 {
                    let answer = world.get("us", "/Users", live).send().await.unwrap();
                    assert_eq!(answer.status(), 200, "the live tenant is refused");
                }
                let stranger = ApiToken::generate(&us).unwrap();
                let answer = world.get("us", "/Users", &stranger).send().await.unwrap();
                answer.status().as_u16()
            }
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let mut counts = std::collections::BTreeMap::new();
    for status in statuses {
        *counts.entry(status).or_insert(0) += 1;
    }
    counts
}

fn tireless(world: &World) -> ApiToken {
    world.token_with("us", |resolved| {
        resolved.limits = TenantLimits {
            requests_per_s: 10_000,
            burst: 10_000,
            in_flight: 1_000,
        };
    })
}

#[tokio::test]
async fn one_address_is_stopped_after_its_failures() {
    let world = World::start().await;
    let live = tireless(&world);
    assert_eq!(
        world
            .get("us", "/Users", &live)
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    let counts = flood(&world, &live).await;
    // The clock stands still, so nothing fills up again: the burst, and those that were under way
    // when it was spent.
    let lookups = world.end("us").lookups() - 1;
    assert!((100..=100 + AT_ONCE).contains(&lookups), "{lookups}");
    assert_eq!(counts.get(&401), Some(&lookups), "{counts:?}");
    assert_eq!(counts.get(&429), Some(&(TOKENS - lookups)), "{counts:?}");
    assert!(world.end("us").calls().len() > TOKENS / 100);
}

#[tokio::test]
async fn many_addresses_are_stopped_at_the_regions_limit() {
    // To the gateway, many addresses are one that may fail without end.
    let world = World::start_with(|settings| {
        settings.limits.failures_burst = 1_000_000;
        settings.limits.failures_per_s = 1_000_000;
    })
    .await;
    let live = tireless(&world);
    assert_eq!(
        world
            .get("us", "/Users", &live)
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    let counts = flood(&world, &live).await;
    let lookups = world.end("us").lookups() - 1;
    // The live tenant's own first look-up took one of the 400.
    assert_eq!(lookups, 399);
    assert_eq!(counts.get(&401), Some(&lookups), "{counts:?}");
    assert_eq!(counts.get(&503), Some(&(TOKENS - lookups)), "{counts:?}");

    // A token that was live here before is no stranger, even when its grant has ended.
    world.end("us").refuse_current_grant(&live);
    assert_eq!(
        world
            .get("us", "/Users", &live)
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
}
