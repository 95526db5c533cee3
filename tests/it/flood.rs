//! A flood of tokens that are well-formed and unknown costs little and harms nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::json;
use shared::{ApiToken, RegionId};

use crate::support::World;

const FLOODERS: usize = 16;
/// More would mean that something grows with every stranger. A debug build with one region
/// starts at some 30 MiB.
const GROWTH_KIB: u64 = 64 * 1024;

/// `MERIDIAN_TEST_FLOOD=100000` asks for the figure of the promise.
fn strangers() -> u64 {
    std::env::var("MERIDIAN_TEST_FLOOD")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(10_000)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_tenant_is_served_and_memory_stays_bounded() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    acme.create_user(json!({ "userName": "bjensen" })).await;
    let before = world.resident_kib();

    let started = std::time::Instant::now();
    let left = Arc::new(AtomicU64::new(strangers()));
    let over = Arc::new(AtomicBool::new(false));
    let region = world.region("us");
    let flooders: Vec<_> = (0..FLOODERS)
        .map(|_| {
            let (left, region) = (left.clone(), region.clone());
            tokio::spawn(async move {
                let us = RegionId::parse("us").unwrap();
                while left
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
                    .is_ok()
                {
                    let stranger = ApiToken::generate(&us).unwrap();
                    let answer = region.get_as(stranger.reveal(), "/Users").await;
                    // Refused, or not looked up at all: never served, never an error of ours.
                    assert!([401, 429, 503].contains(&answer.status), "{answer:?}");
                    let body = answer.json();
                    assert_eq!(body["status"], json!(answer.status.to_string()));
                    if answer.status != 401 {
                        let wait = answer.header("retry-after").unwrap();
                        assert!(wait.parse::<u32>().is_ok(), "{wait}");
                    }
                }
            })
        })
        .collect();
    // From the same address, because identity providers share theirs among their customers.
    let live = {
        let (acme, over) = (acme.clone(), over.clone());
        tokio::spawn(async move {
            let mut served = 0_u64;
            while !over.load(Ordering::SeqCst) {
                let answer = acme.get("/Users").await;
                assert_eq!(answer.status, 200, "{answer:?}");
                served += 1;
            }
            served
        })
    };
    for flooder in flooders {
        flooder.await.unwrap();
    }
    over.store(true, Ordering::SeqCst);
    assert!(live.await.unwrap() > 0);

    // A gateway asks a region about 400 strangers at once and 200 a second, all addresses
    // together; the rest was refused without asking.
    let allowed = 400 + 200 * (started.elapsed().as_secs() + 1);
    let log = world.log();
    let lookups = log
        .lines()
        .filter(|line| line.contains("/internal/v1/resolve"))
        .count();
    assert!(
        lookups > 0,
        "the log must show look-ups, or this proves nothing"
    );
    assert!(
        lookups as u64 <= allowed,
        "{lookups} look-ups, and no more than {allowed} were due"
    );

    let growth = world.resident_kib().saturating_sub(before);
    assert!(growth < GROWTH_KIB, "{growth} KiB more after the flood");
    assert_eq!(acme.find("userName pr").await, ["bjensen"]);
}

#[tokio::test]
async fn what_is_no_token_is_never_looked_up() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    acme.get("/Users").await;
    for n in 0..300 {
        let mut text = acme.token.secret.clone().into_bytes();
        let at = 7 + n % (text.len() - 7);
        text[at] = if text[at] == b'x' { b'y' } else { b'x' };
        let damaged = String::from_utf8(text).unwrap();
        // 429 would mean that it was counted as a look-up that failed.
        acme.region
            .get_as(&damaged, "/Users")
            .await
            .scim_error(401, None);
    }
    assert_eq!(acme.get("/Users").await.status, 200);
}

#[tokio::test]
async fn a_tenant_that_asks_for_too_much_is_asked_to_wait() {
    let world = World::start();
    // DESIGN section 5: never under 25 requests a second.
    let limits = r#"{"limits":{"requests_per_s":25,"burst":25,"in_flight":100}}"#;
    let greedy = world.tenant_with("greedy", "us", limits).await;
    let modest = world.tenant("modest", "us").await;
    let mut refused = None;
    for _ in 0..500 {
        let answer = greedy.get("/Users?count=0").await;
        if answer.status == 429 {
            refused = Some(answer);
            break;
        }
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let refused = refused.expect("500 requests in a row are more than 25 a second");
    refused.scim_error(429, None);
    let wait: u32 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(modest.get("/Users").await.status, 200, "nobody else waits");
}
