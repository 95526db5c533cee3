//! Whose token is it, how often is that asked, and what a client is told.

use std::time::Duration;

use reqwest::Method;
use shared::link::{Refusal, TenantLimits};
use shared::{ApiToken, Scope};

use crate::support::{World, region, scim_error};

#[tokio::test]
async fn a_token_is_looked_up_once_and_then_known() {
    let world = World::start().await;
    let token = world.token("us");
    for _ in 0..10 {
        let answer = world.get("us", "/Users", &token).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    assert_eq!(world.end("us").lookups(), 1);
}

#[tokio::test]
async fn many_that_ask_at_once_wait_for_one_look_up() {
    let world = World::start().await;
    let token = world.token("us");
    world.end("us").close_gate();
    let waiting: Vec<_> = (0..50)
        .map(|_| tokio::spawn(world.get("us", "/Users", &token).send()))
        .collect();
    world.end("us").wait_for_lookups(1).await;
    world.end("us").open_gate();
    for request in waiting {
        assert_eq!(request.await.unwrap().unwrap().status(), 200);
    }
    assert_eq!(world.end("us").lookups(), 1);
}

#[tokio::test]
async fn a_client_that_hangs_up_does_not_end_the_look_up_for_the_others() {
    let world = World::start().await;
    let token = world.token("us");
    world.end("us").close_gate();
    let first = tokio::spawn(world.get("us", "/Users", &token).send());
    world.end("us").wait_for_lookups(1).await;
    first.abort();
    assert!(first.await.is_err());
    let second = tokio::spawn(world.get("us", "/Users", &token).send());
    world.end("us").open_gate();
    assert_eq!(second.await.unwrap().unwrap().status(), 200);
    assert_eq!(world.end("us").lookups(), 1);
}

#[tokio::test]
async fn a_bad_token_is_remembered_for_a_moment() {
    let world = World::start().await;
    for (reason, status) in [
        (Refusal::Unknown, 401),
        (Refusal::Expired, 401),
        (Refusal::Revoked, 401),
    ] {
        let before = world.end("us").lookups();
        let token = world.token("us");
        world.refuse(&token, reason);
        for _ in 0..3 {
            let answer = world.get("us", "/Users", &token).send().await.unwrap();
            scim_error(answer, status).await;
        }
        assert_eq!(world.end("us").lookups(), before + 1, "{reason:?}");
        world.clock.advance(Duration::from_secs(5));
        let answer = world.get("us", "/Users", &token).send().await.unwrap();
        scim_error(answer, status).await;
        assert_eq!(world.end("us").lookups(), before + 2, "{reason:?}");
    }
    assert!(world.end("us").calls().is_empty());
}

#[tokio::test]
async fn a_resumed_tenant_is_served_a_second_later() {
    let world = World::start().await;
    let token = world.token("us");
    world.refuse(&token, Refusal::TenantSuspended);
    for _ in 0..2 {
        let answer = world.get("us", "/Users", &token).send().await.unwrap();
        scim_error(answer, 403).await;
    }
    assert_eq!(
        world.end("us").lookups(),
        1,
        "a suspended tenant's client asks nobody anew"
    );
    world.resume(&token);
    world.clock.advance(Duration::from_secs(1));
    let answer = world.get("us", "/Users", &token).send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn what_the_region_does_not_say_is_503_and_not_remembered() {
    let world = World::start().await;
    let token = world.token("us");
    for status in [500, 503, 401, 403, 404, 302] {
        *world.end("us").resolve_status.lock().unwrap() = Some(status);
        let before = world.end("us").lookups();
        let answer = world.get("us", "/Users", &token).send().await.unwrap();
        scim_error(answer, 503).await;
        assert_eq!(world.end("us").lookups(), before + 1);
    }
    *world.end("us").resolve_status.lock().unwrap() = None;
    let answer = world.get("us", "/Users", &token).send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn a_grant_in_use_is_renewed_before_it_ends() {
    let world = World::start().await;
    let token = world.token("us");
    let get = async || {
        world
            .get("us", "/Users", &token)
            .send()
            .await
            .unwrap()
            .status()
    };
    assert_eq!(get().await, 200);
    world.clock.advance(Duration::from_secs(250));
    // Answered from what is known, while the new grant is fetched.
    assert_eq!(get().await, 200);
    world.end("us").wait_for_lookups(2).await;
    assert_eq!(get().await, 200);
    // Past the first grant's end: the second one is there.
    world.clock.advance(Duration::from_secs(100));
    assert_eq!(get().await, 200);
    assert_eq!(world.end("us").lookups(), 2);
    // A region that cannot be asked leaves the old grant in use until it ends, and no longer.
    *world.end("us").resolve_status.lock().unwrap() = Some(503);
    world.clock.advance(Duration::from_secs(150));
    assert_eq!(get().await, 200);
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(get().await, 503);
}

#[tokio::test]
async fn a_refused_grant_is_resolved_again_and_the_call_sent_again() {
    let world = World::start().await;
    let token = world.token("us");
    let post = async || {
        let request = world.request(Method::POST, "us", "/Users");
        let request = request.bearer_auth(token.reveal()).body("{}");
        request.send().await.unwrap()
    };
    assert_eq!(post().await.status(), 200);
    world.end("us").refuse_current_grant(&token);
    assert_eq!(post().await.status(), 200);
    assert_eq!(world.end("us").lookups(), 2);
    let calls = world.end("us").calls();
    assert_eq!(calls.len(), 3);
    let key = |call: usize| calls[call].header("idempotency-key").unwrap();
    assert_eq!(key(1), key(2), "one call, one key");
    assert_ne!(key(0), key(1), "another call, another key");
    assert_ne!(
        calls[1].header("authorization"),
        calls[2].header("authorization")
    );
    assert_eq!(calls[2].body, "{}");
}

#[tokio::test]
async fn a_revoked_token_is_refused_though_it_is_cached() {
    let world = World::start().await;
    let token = world.token("us");
    assert_eq!(
        world
            .get("us", "/Users", &token)
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    world.end("us").refuse_current_grant(&token);
    world.refuse(&token, Refusal::Revoked);
    let answer = world.get("us", "/Users", &token).send().await.unwrap();
    assert!(scim_error(answer, 401).await.contains("revoked"));
    // The region does not know at the moment: never 401.
    let other = world.token("us");
    assert_eq!(
        world
            .get("us", "/Users", &other)
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    world.end("us").refuse_current_grant(&other);
    *world.end("us").resolve_status.lock().unwrap() = Some(500);
    let answer = world.get("us", "/Users", &other).send().await.unwrap();
    scim_error(answer, 503).await;
}

#[tokio::test]
async fn many_refused_grants_of_one_token_cost_one_look_up() {
    let world = World::start().await;
    let token = world.token("us");
    assert_eq!(
        world
            .get("us", "/Users", &token)
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    world.end("us").refuse_current_grant(&token);
    world.end("us").close_gate();
    let waiting: Vec<_> = (0..20)
        .map(|_| tokio::spawn(world.get("us", "/Users", &token).send()))
        .collect();
    world.end("us").wait_for_lookups(2).await;
    world.end("us").open_gate();
    for request in waiting {
        assert_eq!(request.await.unwrap().unwrap().status(), 200);
    }
    assert_eq!(world.end("us").lookups(), 2);
}

#[tokio::test]
async fn a_token_of_another_region_is_told_its_base_url_if_it_is_genuine() {
    let world = World::start().await;
    let genuine = world.token("de");
    let get =
        async |path: &str, token: &ApiToken| world.get("us", path, token).send().await.unwrap();
    let base = format!(
        "http://global-de.localhost:{}/api/v1/scim",
        world.gateway.port()
    );
    let detail = scim_error(get("/Users", &genuine).await, 401).await;
    assert!(detail.ends_with(&base), "{detail}");
    let detail = scim_error(get("/v2/Users", &genuine).await, 401).await;
    assert!(detail.ends_with(&format!("{base}/v2")), "{detail}");

    let forged = ApiToken::generate(&region("de")).unwrap();
    let expected = "The API token is not valid at this base URL.";
    assert_eq!(
        scim_error(get("/Users", &forged).await, 401).await,
        expected
    );
    let unknown_region = ApiToken::generate(&region("jp")).unwrap();
    assert_eq!(
        scim_error(get("/Users", &unknown_region).await, 401).await,
        expected
    );
    // And no more is told about a token of this region.
    let unknown = ApiToken::generate(&region("us")).unwrap();
    assert_eq!(
        scim_error(get("/Users", &unknown).await, 401).await,
        expected
    );
    // The home cannot be asked: it is certain all the same that the token is of no use here.
    world.de.stop().await;
    let other = world.token("de");
    assert_eq!(scim_error(get("/Users", &other).await, 401).await, expected);
    assert!(world.end("us").calls().is_empty());
    assert!(world.end("de").calls().is_empty());
}

#[tokio::test]
async fn a_region_that_is_not_served_is_421_without_a_look_up() {
    let world = World::start_with(|settings| settings.serves = Some(vec![region("us")])).await;
    let (us, de) = (world.token("us"), world.token("de"));
    assert_eq!(
        world
            .get("us", "/Users", &us)
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    for token in [&de, &us] {
        let request = world.request(Method::POST, "de", "/Users");
        let request = request.bearer_auth(token.reveal()).body("{}");
        scim_error(request.send().await.unwrap(), 421).await;
    }
    // Its tokens are not looked up here either.
    let answer = world.get("us", "/Users", &de).send().await.unwrap();
    scim_error(answer, 401).await;
    assert_eq!(world.end("de").lookups(), 0);
}

#[tokio::test]
async fn an_admin_token_is_not_for_provisioning() {
    let world = World::start().await;
    let token = world.token_with("us", |resolved| resolved.scope = Scope::Admin);
    let answer = world.get("us", "/Users", &token).send().await.unwrap();
    scim_error(answer, 403).await;
    assert!(world.end("us").calls().is_empty());
}

#[tokio::test]
async fn what_cannot_be_a_token_is_refused_without_a_look_up() {
    let world = World::start().await;
    let good = world.token("us");
    let damaged = good.reveal().replace('_', "-");
    for authorization in [
        "",
        "Bearer",
        "Bearer ",
        "undefined",
        "Bearer undefined",
        "non-token",
        "Basic YWJjOmRlZg==",
        "Bearer mrd_us_0123456789012345678901234567890123456789",
        damaged.as_str(),
    ] {
        let request = world.request(Method::GET, "us", "/Users");
        let answer = request.header("authorization", authorization).send().await;
        scim_error(answer.unwrap(), 401).await;
    }
    let answer = world.request(Method::GET, "us", "/Users").send().await;
    scim_error(answer.unwrap(), 401).await;
    // In the URL or a cookie it is not looked for.
    let path = format!("/Users?access_token={}", good.reveal());
    let request = world.request(Method::GET, "us", &path);
    let request = request.header("cookie", format!("token={}", good.reveal()));
    scim_error(request.send().await.unwrap(), 401).await;
    // Two different ones.
    let other = world.token("us");
    let both = format!("Bearer {} {}", good.reveal(), other.reveal());
    let request = world.request(Method::GET, "us", "/Users");
    let answer = request.header("authorization", both).send().await.unwrap();
    scim_error(answer, 400).await;
    assert_eq!(world.end("us").lookups(), 0);
}

#[tokio::test]
async fn a_tenant_that_asks_too_much_is_429_and_others_go_on() {
    let world = World::start().await;
    let noisy = world.token_with("us", |resolved| {
        resolved.limits = TenantLimits {
            requests_per_s: 25,
            burst: 30,
            in_flight: 100,
        };
    });
    let quiet = world.token("us");
    let mut refused = 0;
    for _ in 0..40 {
        let answer = world.get("us", "/Users", &noisy).send().await.unwrap();
        if answer.status() != 200 {
            scim_error(answer, 429).await;
            refused += 1;
        }
    }
    assert_eq!(refused, 10);
    assert_eq!(
        world
            .get("us", "/Users", &quiet)
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(
        world
            .get("us", "/Users", &noisy)
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
}
