//! A revoked token is over at the moment at which the revocation has been answered, however warm
//! the gateway's cache is and whoever is just using it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use reqwest::Method;
use serde_json::json;

use crate::oauth::exchanged;
use crate::support::{Tenant, World, eventually};

const WRITERS: usize = 16;

/// How often a token is revoked: enough to meet a race in every run. `MERIDIAN_TEST_ROUNDS=1000`
/// asks for the figure of the promise.
fn rounds() -> usize {
    std::env::var("MERIDIAN_TEST_ROUNDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(100)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_read_or_written_after_a_revocation_was_answered() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    for round in 0..rounds() {
        let token = world.token("us", &acme.id, json!({})).await;
        let mut victim = Tenant {
            token: token.clone(),
            ..acme.clone()
        };
        if round % 4 == 3 {
            // An access token ends with its API token, at the same moment.
            victim = exchanged(&victim).await;
        }
        let revoked = Arc::new(AtomicBool::new(false));
        let warm = Arc::new(AtomicU64::new(0));
        let writers: Vec<_> = (0..WRITERS)
            .map(|n| {
                let writer = Writer {
                    tenant: victim.clone(),
                    name: format!("r{round}w{n}"),
                    revoked: revoked.clone(),
                    warm: warm.clone(),
                };
                tokio::spawn(writer.work())
            })
            .collect();
        // Every writer has had an answer: the cache is warm and calls are under way.
        while warm.load(Ordering::SeqCst) < WRITERS as u64 {
            tokio::task::yield_now().await;
        }
        world
            .operator(
                "us",
                Method::POST,
                &format!("/tokens/{}/revoke", token.id),
                None,
            )
            .await;
        revoked.store(true, Ordering::SeqCst);
        for writer in writers {
            writer.await.unwrap();
        }
    }
}

struct Writer {
    tenant: Tenant,
    name: String,
    revoked: Arc<AtomicBool>,
    warm: Arc<AtomicU64>,
}

impl Writer {
    /// Writes and reads until it is refused. What begins after the revocation was answered must
    /// be refused; what was under way may go either way.
    async fn work(self) {
        let mut successes = 0;
        for n in 0_u64.. {
            let is_over = self.revoked.load(Ordering::SeqCst);
            let answer = if n % 2 == 0 {
                let user = json!({ "userName": format!("{}n{n}", self.name) });
                self.tenant.post("/Users", &user).await
            } else {
                self.tenant.get("/Users?count=1").await
            };
            match answer.status {
                200 | 201 => {
                    assert!(
                        !is_over,
                        "{} was served after the revocation: {answer:?}",
                        self.name
                    );
                    successes += 1;
                    if successes == 1 {
                        self.warm.fetch_add(1, Ordering::SeqCst);
                    }
                }
                401 if is_over => return,
                // Refused a moment before the revocation's answer reached us.
                401 if successes > 0 => tokio::task::yield_now().await,
                _ => panic!("{}: {answer:?}", self.name),
            }
        }
    }
}

#[tokio::test]
async fn rotation_needs_no_outage() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    acme.get("/Users").await;

    let rotated = world.meridian(&["token", "rotate", &acme.token.id, "--overlap", "72h"]);
    let new = rotated["token"].as_str().unwrap();
    assert_eq!(acme.get("/Users").await.status, 200, "the old one lives on");
    assert_eq!(acme.region.get_as(new, "/Users").await.status, 200);

    world.meridian(&["token", "revoke", &acme.token.id]);
    acme.get("/Users").await.scim_error(401, None);
    assert_eq!(
        acme.region.get_as(new, "/Users").await.status,
        200,
        "the new one is untouched"
    );
}

#[tokio::test]
async fn a_token_ends_when_it_was_to_end() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    let brief = world.token("us", &acme.id, json!({ "expires_s": 1 })).await;
    // It is accepted, or its second was over already; then it is refused for good. The loop ends
    // when the clock has moved on, so nothing sleeps here.
    loop {
        let answer = acme.region.get_as(&brief.secret, "/Users?count=0").await;
        match answer.status {
            200 => {}
            401 => break,
            _ => panic!("{answer:?}"),
        }
    }
    acme.region
        .get_as(&brief.secret, "/Users")
        .await
        .scim_error(401, None);
}

#[tokio::test]
async fn a_refusal_is_forgotten_within_seconds() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    world
        .operator(
            "us",
            Method::POST,
            &format!("/tenants/{}/suspend", acme.id),
            None,
        )
        .await;
    acme.get("/Users").await.scim_error(403, None);
    world
        .operator(
            "us",
            Method::POST,
            &format!("/tenants/{}/resume", acme.id),
            None,
        )
        .await;
    eventually(200, || acme.get("/Users")).await;
}
