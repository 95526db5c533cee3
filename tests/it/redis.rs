//! `meridian up --redis`: one look-up serves all gateways, a Redis that fails or lies changes no
//! answer, and whoever reads it learns nothing.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use shared::ApiToken;

use crate::support::fleet::{Fleet, Plan};
use crate::support::link::{Link, State};
use crate::support::redis::{Redis, Reply};
use crate::support::{Answer, Tenant, World, meridian_command, plain_client};

async fn status(world: &World) -> Value {
    status_at(world.ready["management"].as_str().unwrap()).await
}

/// What a gateway says about its Redis.
async fn status_at(management: &str) -> Value {
    let answer = Answer::of(plain_client().get(format!("{management}/readyz"))).await;
    answer.json()["redis"].take()
}

/// Looks until Redis is said to be as wanted. What a request brings about is told after its
/// answer.
async fn until(world: &World, wanted: impl Fn(&Value) -> bool) -> Value {
    let looking = async {
        loop {
            let status = status(world).await;
            if wanted(&status) {
                return status;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), looking)
        .await
        .unwrap()
}

fn count(status: &Value, name: &str) -> u64 {
    status[name].as_u64().unwrap()
}

/// How many calls of Redis have come to an end, good or bad: a look-up is one, and what it brings
/// about are one or two more.
fn ended(status: &Value) -> u64 {
    [
        "hits", "misses", "rejected", "stored", "removed", "failures", "spared",
    ]
    .iter()
    .map(|name| count(status, name))
    .sum()
}

/// A tenant with a user, whose token Redis knows.
async fn told(redis: &Redis) -> (World, Tenant) {
    let world = World::with_redis(&redis.url());
    let mut acme = world.tenant("acme", "us").await;
    // On a busy machine the first connection may take longer than a look-up waits.
    loop {
        let before = status(&world).await;
        acme.token = world.token("us", &acme.id, json!({})).await;
        assert_eq!(acme.get("/Users").await.status, 200);
        let after = until(&world, |status| ended(status) >= ended(&before) + 2).await;
        if count(&after, "stored") > count(&before, "stored") {
            break;
        }
    }
    acme.create_user(json!({ "userName": "bjensen@example.com" }))
        .await;
    (world, acme)
}

/// What `meridian doctor` says about Redis.
fn doctor(world: &World) -> (String, String) {
    let told = world.meridian(&["doctor"]);
    assert_eq!(told["ok"], true, "{told}");
    let checks = told["checks"].as_array().unwrap();
    let found = checks.iter().find(|check| check["check"] == "redis");
    let text = |name: &str| found.unwrap()[name].as_str().unwrap().to_owned();
    (text("status"), text("detail"))
}

#[tokio::test]
async fn a_gateway_that_starts_again_knows_its_clients_from_redis() {
    let redis = Redis::start();
    let (mut world, acme) = told(&redis).await;
    // Unless an answer was too slow, on a busy machine.
    assert!((0..200).any(|_| doctor(&world).0 == "ok"));
    world.kill_and_restart();
    let acme = acme.in_world(&world);
    assert_eq!(acme.find("userName sw \"bjensen\"").await.len(), 1);
    let status = status(&world).await;
    // A busy machine may have been too slow for the budget; then the region was asked.
    assert_eq!(
        count(&status, "hits") + count(&status, "failures").min(1),
        1,
        "{status}"
    );
}

#[tokio::test]
async fn whoever_reads_redis_learns_nothing() {
    let redis = Redis::start();
    let (world, acme) = told(&redis).await;
    let dump = redis.dump();
    assert!(dump.len() > 400, "there is an entry");
    let token = ApiToken::parse(&acme.token.secret).unwrap();
    let (_, random) = token.reveal().rsplit_once('_').unwrap();
    let digest = token.digest();
    let secrets: [&[u8]; 9] = [
        token.reveal().as_bytes(),
        random.as_bytes(),
        digest.as_bytes(),
        &String::from(digest).into_bytes(),
        acme.id.as_bytes(),
        acme.token.id.as_bytes(),
        b"bjensen",
        // What every grant begins with.
        b"eyJ",
        b"grant",
    ];
    for secret in secrets {
        let found = dump.windows(secret.len()).any(|part| part == secret);
        assert!(!found, "{}", secret.escape_ascii());
    }
    // The words are there to be found where they belong.
    let stored = world.stored("us");
    assert!(stored.windows(7).any(|part| part == b"bjensen"));
}

#[tokio::test]
async fn redis_may_end_hang_and_come_back_without_a_failed_call() {
    let mut redis = Redis::start();
    let (world, acme) = told(&redis).await;
    let new_tokens_work = async |count: usize| {
        for _ in 0..count {
            let mut acme = acme.clone();
            acme.token = world.token("us", &acme.id, json!({})).await;
            assert_eq!(acme.get("/Users").await.status, 200);
        }
    };
    redis.freeze();
    new_tokens_work(12).await;
    let status = until(&world, |status| status["resting"] == true).await;
    assert_eq!(status["reachable"], false);
    let (how, detail) = doctor(&world);
    assert_eq!(how, "warning");
    let hangs = ["in time", "waiting for answers"];
    assert!(hangs.iter().any(|text| detail.contains(text)), "{detail}");
    redis.thaw();
    redis.kill();
    new_tokens_work(12).await;
    assert_eq!(acme.get("/Users").await.status, 200);
    // Found out by the next call that tries it.
    let is_gone = |status: &Value| status["trouble"].to_string().contains("cannot be reached");
    until(&world, is_gone).await;
    let (how, detail) = doctor(&world);
    assert_eq!(how, "warning");
    assert!(detail.contains("cannot be reached"), "{detail}");

    redis.start_again();
    while redis.keys().is_empty() {
        // One call in each pause tries it.
        until(&world, |status| status["resting"] == false).await;
        new_tokens_work(1).await;
    }
    assert!(!world.log().contains("redis://"));
}

#[tokio::test]
async fn what_was_in_redis_before_a_revocation_opens_nothing_after_it() {
    let redis = Redis::start();
    let (mut world, acme) = told(&redis).await;
    let keys = redis.keys();
    let old: Vec<_> = keys.iter().map(|key| redis.get(key).unwrap()).collect();
    world.meridian(&["token", "revoke", &acme.token.id]);
    let before = ended(&status(&world).await);
    acme.get("/Users").await.scim_error(401, None);
    // It is taken away twice: when the grant is refused, and when the region has said why.
    until(&world, |status| ended(status) >= before + 2).await;
    // The whole of Redis goes back in time, and the gateway forgets what it knew.
    for _ in 0..2 {
        for (key, value) in keys.iter().zip(&old) {
            redis.set(key, value);
        }
        world.kill_and_restart();
        let acme = acme.in_world(&world);
        acme.get("/Users").await.scim_error(401, None);
        let was_tried = |status: &Value| count(status, "hits") == 1;
        let status = until(&world, |status| {
            ended(status) >= if was_tried(status) { 3 } else { 1 }
        })
        .await;
        assert_eq!(count(&status, "rejected"), 0, "{status}");
        // Unless the look-up was too slow, on a busy machine.
        if count(&status, "failures") == 0 {
            assert!(was_tried(&status), "{status}");
            assert!(redis.keys().is_empty());
        }
    }
    // Another token of the tenant works.
    let mut other = acme.in_world(&world);
    other.token = world.token("us", &acme.id, json!({})).await;
    assert_eq!(other.get("/Users").await.status, 200);
}

#[tokio::test]
async fn what_others_put_into_redis_is_counted_and_ignored() {
    let redis = Redis::start();
    let (mut world, acme) = told(&redis).await;
    for key in redis.keys() {
        redis.set(&key, br#"{"outcome":"granted"}"#);
    }
    world.kill_and_restart();
    let acme = acme.in_world(&world);
    assert_eq!(acme.get("/Users").await.status, 200);
    let status = status(&world).await;
    if count(&status, "failures") == 0 {
        assert_eq!(count(&status, "rejected"), 1, "{status}");
        let told = world.meridian(&["doctor"]).to_string();
        assert!(told.contains("did not open"), "{told}");
    }
    assert_eq!(redis.command(&[b"PING"]), Reply::Status("PONG".to_owned()));
}

#[test]
fn a_url_that_is_none_stops_the_start_and_is_shown_to_nobody() {
    let folder = tempfile::tempdir().unwrap();
    for url in ["redis://:a-password@", "http://:a-password@127.0.0.1:6379"] {
        let stopped = meridian_command()
            .args(["up", "--regions", "us", "--listen", "127.0.0.1:0"])
            .args(["--redis", url, "--data-dir"])
            .arg(folder.path())
            .output()
            .unwrap();
        assert!(!stopped.status.success());
        let said = [stopped.stdout, stopped.stderr].concat();
        let said = String::from_utf8(said).unwrap();
        assert!(said.contains("redis.url"), "{said}");
        assert!(!said.contains("a-password"), "{said}");
    }
}

/// Three gateways before one node. Connections come to them in turn.
async fn three_gateways(url: &str, budget_ms: u32) -> Fleet {
    // New tokens come without a pause here, and what is tried is not how they are held back.
    let of_gateways = format!(
        "[limits]\nlookups_per_s = 100000\nlookups_burst = 100000\n\
         [redis]\nurl = \"{url}\"\nbudget_ms = {budget_ms}\nbreaker_ms = 200\n"
    );
    let plan = Plan {
        gateways: 3,
        of_gateways: &of_gateways,
        ..Plan::default()
    };
    Fleet::start(plan).await
}

/// One call at each gateway, over connections that are new.
async fn at_each(fleet: &Fleet, tenant: &Tenant, status: u16) {
    for _ in &fleet.gateways {
        let answer = tenant.reconnected().get("/Users").await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
}

async fn sum(fleet: &Fleet, name: &str) -> u64 {
    let mut sum = 0;
    for gateway in &fleet.gateways {
        let status = status_at(&format!("http://{}", gateway.management)).await;
        sum += count(&status, name);
    }
    sum
}

/// How often the node was asked whose a token is.
fn look_ups(fleet: &Fleet) -> usize {
    let log = fleet.nodes["us"][0].program.log();
    log.matches("/internal/v1/resolve").count()
}

#[tokio::test]
async fn three_gateways_look_a_token_up_once() {
    let redis = Redis::start();
    let fleet = three_gateways(&redis.url(), 5_000).await;
    let acme = fleet.tenant("acme", "us").await;
    assert_eq!(acme.reconnected().get("/Users").await.status, 200);
    while sum(&fleet, "stored").await == 0 {}
    at_each(&fleet, &acme, 200).await;
    at_each(&fleet, &acme, 200).await;
    // A gateway that has only just started gets no connections until it was seen to be ready.
    while sum(&fleet, "hits").await < 2 {
        at_each(&fleet, &acme, 200).await;
    }
    at_each(&fleet, &acme, 200).await;
    assert_eq!(sum(&fleet, "hits").await, 2);
    // A node's lines are gathered for a moment before they are written.
    while look_ups(&fleet) == 0 {}
    assert_eq!(look_ups(&fleet), 1);
}

#[tokio::test]
async fn a_revocation_is_effective_at_once_at_every_gateway() {
    let redis = Redis::start();
    let fleet = three_gateways(&redis.url(), 20).await;
    let mut acme = fleet.tenant("acme", "us").await;
    for _ in 0..crate::support::scale("MERIDIAN_TEST_ROUNDS", 10).min(200) {
        at_each(&fleet, &acme, 200).await;
        let revoke = format!("/tokens/{}/revoke", acme.token.id);
        fleet.operator("us", &revoke, json!({})).await;
        at_each(&fleet, &acme, 401).await;
        at_each(&fleet, &acme, 401).await;
        let path = format!("/tenants/{}/tokens", acme.id);
        let token = fleet.operator("us", &path, json!({})).await;
        acme.token.id = token["id"].as_str().unwrap().to_owned();
        acme.token.secret = token["token"].as_str().unwrap().to_owned();
    }
    assert_eq!(sum(&fleet, "rejected").await, 0);
}

#[tokio::test]
async fn whatever_happens_on_the_way_to_redis_no_call_fails() {
    let redis = Redis::start();
    let link = Link::to(SocketAddr::from(([127, 0, 0, 1], redis.port()))).await;
    let fleet = three_gateways(&format!("redis://{}", link.address), 20).await;
    let acme = fleet.tenant("acme", "us").await;
    let new_token = async || {
        let path = format!("/tenants/{}/tokens", acme.id);
        let token = fleet.operator("us", &path, json!({})).await;
        let mut acme = acme.clone();
        acme.token.secret = token["token"].as_str().unwrap().to_owned();
        acme
    };
    for fault in [
        State::Slow(Duration::from_millis(60)),
        State::Silent,
        State::Hangs,
        State::ResetAfter(0),
        State::ResetAfter(3),
        State::ResetAfter(40),
        State::ResetAfter(300),
        State::CutAfter(0),
        State::CutAfter(40),
        State::CutAfter(300),
        State::Broken,
    ] {
        // From a Redis that is in use.
        link.breaks();
        link.works();
        let stored = sum(&fleet, "stored").await;
        while sum(&fleet, "stored").await == stored {
            at_each(&fleet, &new_token().await, 200).await;
        }
        link.is(fault);
        for _ in 0..4 {
            at_each(&fleet, &new_token().await, 200).await;
        }
        at_each(&fleet, &acme, 200).await;
    }
    assert!(sum(&fleet, "failures").await > 0);
    assert_eq!(sum(&fleet, "rejected").await, 0);
}
