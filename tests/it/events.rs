//! Events: the application behind hears of every change, in order, whatever happens in between.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Method;
use ring::signature::{ED25519, UnparsedPublicKey};
use serde_json::{Value, json};

use crate::support::admin::Admin;
use crate::support::consumer::{Consumer, Delivery, Mood};
use crate::support::fleet::{Fleet, Plan};
use crate::support::history::Load;
use crate::support::postgres::Postgres;
use crate::support::{Store, Token, World, patch, path, postgres_of_this_run, scale};

impl Admin {
    async fn act(&self, path: &str) -> Value {
        let answer = self.post(path, &json!({})).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.json()
    }

    async fn webhook(&self, body: Value) -> Value {
        let answer = self.post("/webhooks", &body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()
    }

    /// The webhook, once it is as it should be.
    async fn once(&self, id: &str, so: impl Fn(&Value) -> bool) -> Value {
        loop {
            let webhook = self.get(&format!("/webhooks/{id}")).await;
            if so(&webhook) {
                return webhook;
            }
            tokio::task::yield_now().await;
        }
    }

    /// All events from the beginning.
    async fn all_events(&self) -> Vec<Value> {
        let mut all = Vec::new();
        self.each_event(50, |event| all.push(event.clone())).await;
        all
    }
}

/// What has to hold of all that came: every event of the feed, each resource's in order, and every
/// one signed.
fn check(deliveries: &[Delivery], feed: &[Value], secret: &str) {
    let of = |event: &Value| {
        let data = &event["data"];
        (
            data["sequence"].as_i64().unwrap(),
            data["id"].as_str().unwrap().to_owned(),
        )
    };
    let told: BTreeSet<(i64, String)> = deliveries.iter().map(Delivery::of).collect();
    let happened: BTreeSet<(i64, String)> = feed.iter().map(of).collect();
    assert_eq!(told, happened);
    let mut ids: BTreeMap<(i64, String), &str> = BTreeMap::new();
    let mut newest: BTreeMap<String, i64> = BTreeMap::new();
    for delivery in deliveries {
        assert!(delivery.is_signed_with(secret), "{delivery:?}");
        let (sequence, id) = delivery.of();
        // The same event has the same id, however often it comes.
        let known = ids
            .entry((sequence, id.clone()))
            .or_insert(&delivery.headers["webhook-id"]);
        assert_eq!(*known, delivery.headers["webhook-id"]);
        // An event comes for the first time only when all before it of the resource have come.
        let before = newest.entry(id.clone()).or_insert(0);
        if sequence > *before {
            let skipped = happened
                .range((*before + 1, String::new())..(sequence, String::new()))
                .any(|(_, other)| *other == id);
            assert!(!skipped, "an event of {id} before {sequence} was left out");
            *before = sequence;
        }
    }
}

#[tokio::test]
async fn the_application_hears_of_what_happens() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    let admin = Admin::of(&world, &acme).await;
    let consumer = Consumer::start().await;
    acme.create_user(json!({ "userName": "before" })).await;
    let webhook = admin
        .webhook(json!({ "url": consumer.url(), "description": "HR" }))
        .await;
    let (id, secret) = (
        webhook["id"].as_str().unwrap(),
        webhook["secret"].as_str().unwrap(),
    );
    let ann = acme
        .create_user(json!({ "userName": "ann", "title": "boss" }))
        .await;
    let team = acme.create_group(json!({ "displayName": "team" })).await;
    let set = |path: &str, value: Value| {
        patch(&json!([{ "op": "replace", "path": path, "value": value }]))
    };
    let user = path(&ann);
    acme.patch(&user, &set("title", json!("chief"))).await;
    acme.patch(&user, &set("active", json!(false))).await;
    acme.patch(&user, &set("active", json!(true))).await;
    let join =
        patch(&json!([{ "op": "add", "path": "members", "value": [{ "value": ann["id"] }] }]));
    acme.patch(&path(&team), &join).await;
    acme.patch(&path(&team), &set("displayName", json!("crew")))
        .await;
    acme.delete(&user).await;
    acme.delete(&path(&team)).await;

    let came = consumer.once(|came| came.len() >= 10).await;
    let kinds: Vec<&str> = came.iter().map(Delivery::kind).collect();
    assert_eq!(
        kinds,
        [
            "user.created",
            "group.created",
            "user.updated",
            "user.disabled",
            "user.enabled",
            "group.members_changed",
            "group.updated",
            "user.deleted",
            "group.members_changed",
            "group.deleted",
        ]
    );
    let feed = admin.all_events().await;
    assert_eq!(feed.len(), 11, "the one before the webhook too");
    check(&came, &feed[1..], secret);
    let first = &came[0].body;
    assert_eq!(first["data"]["id"], ann["id"]);
    assert_eq!(first["data"]["resourceType"], "User");
    assert_eq!(came[2].body["data"]["changed"], json!(["title"]));
    assert_eq!(came[7].body["data"]["resource"], Value::Null);
    assert_eq!(feed[1]["id"], json!(came[0].headers["webhook-id"]));

    // It is shown how far it is, and the secret is not shown again.
    let shown = admin.once(id, |webhook| webhook["lag"] == 0).await;
    assert_eq!(
        (&shown["state"], &shown["deadLetters"]),
        (&json!("active"), &json!(0))
    );
    assert!(shown.get("secret").is_none());
    // Only what is asked for, and with both secrets after a rotation.
    let only = json!({ "events": ["user.deleted"] });
    let changed = admin
        .send(Method::PATCH, &format!("/webhooks/{id}"), &only)
        .await;
    assert_eq!(changed.status, 200);
    let rotated = admin.act(&format!("/webhooks/{id}/rotate")).await;
    let bob = acme.create_user(json!({ "userName": "bob" })).await;
    acme.delete(&path(&bob)).await;
    let came = consumer.once(|came| came.len() >= 11).await;
    let last = came.last().unwrap();
    assert_eq!((came.len(), last.kind()), (11, "user.deleted"));
    for secret in [secret, rotated["secret"].as_str().unwrap()] {
        assert!(last.is_signed_with(secret));
    }
    assert!(!came[0].is_signed_with(rotated["secret"].as_str().unwrap()));
    let test = admin.act(&format!("/webhooks/{id}/test")).await;
    assert_eq!(test, json!({ "delivered": true, "error": null }));
    assert_eq!(
        consumer.deliveries().last().unwrap().kind(),
        "endpoint.test"
    );

    let this = format!("/webhooks/{id}");
    let deleted = admin.send(Method::DELETE, &this, &json!({})).await;
    assert_eq!(deleted.status, 204);
    let gone = admin.ask(&this).await;
    gone.scim_error(404, None);
    let audit = admin.get("/audit?kind=endpoint").await;
    assert_eq!(audit["records"].as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn addresses_of_ours_are_not_called() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    let admin = Admin::of(&world, &acme).await;
    for url in [
        "http://10.0.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]:8080/",
        "http://[::ffff:10.0.0.1]/",
        "http://user:secret@example.com/",
        "ftp://example.com/",
        "nothing",
    ] {
        let new = json!({ "url": url });
        let answer = admin.post("/webhooks", &new).await;
        answer.scim_error(400, Some("invalidValue"));
    }
    let unknown = json!({ "url": "https://example.com/", "events": ["user.exploded"] });
    let answer = admin.post("/webhooks", &unknown).await;
    answer.scim_error(400, Some("invalidValue"));
    assert_eq!(admin.get("/webhooks").await, json!({ "webhooks": [] }));
}

/// Whoever comes for events finds them all, can wait for the next, and is told what it cannot have.
#[tokio::test]
async fn the_application_can_come_for_events() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    let admin = Admin::of(&world, &acme).await;
    for name in ["ann", "bob", "cem"] {
        acme.create_user(json!({ "userName": name })).await;
    }
    let all = admin.all_events().await;
    let sequences: Vec<i64> = all
        .iter()
        .map(|event| event["data"]["sequence"].as_i64().unwrap())
        .collect();
    assert_eq!(sequences, [1, 2, 3]);
    assert_eq!(all[0]["data"]["resource"]["userName"], "ann");
    let latest = admin.get("/events?after=latest").await;
    assert_eq!(latest["events"], json!([]));
    let cursor = latest["nextCursor"].as_str().unwrap();
    // One who waits is told at once.
    let path = format!("/events?after={cursor}&wait=20");
    let waiting = admin.get(&path);
    let writing = acme.create_user(json!({ "userName": "dan" }));
    let (page, _) = tokio::join!(waiting, writing);
    assert_eq!(page["events"][0]["data"]["resource"]["userName"], "dan");
    for (wrong, status) in [
        ("/events?after=x", 400),
        ("/events?after=0.99", 400),
        ("/events?before=1", 400),
        ("/events?after=7.1", 410),
    ] {
        let answer = admin.ask(wrong).await;
        assert_eq!(answer.status, status, "{wrong}: {answer:?}");
    }
}

/// Writers write, the consumer takes, and every now and then the process is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_out_when_the_node_is_killed() {
    let kills = scale("MERIDIAN_TEST_KILLS", 6);
    let mut world = World::restartable(&["us"], "info");
    let acme = world.tenant("acme", "us").await;
    let consumer = Consumer::start().await;
    let mut admin = Admin::of(&world, &acme).await;
    let webhook = admin.webhook(json!({ "url": consumer.url() })).await;
    let (id, secret) = (
        webhook["id"].as_str().unwrap(),
        webhook["secret"].as_str().unwrap(),
    );
    let mut load = Load::on(acme, None).await;
    let told = load.told.clone();
    for round in 0..kills {
        let clients = load.start(round, 4);
        told.wait_for(1 + 29 * round % 60).await;
        world.kill();
        told.ended(clients).await;
        world.restart();
        load = load.reconnected();
    }
    admin = admin.in_world(&world);
    admin.once(id, |webhook| webhook["lag"] == 0).await;
    let feed = admin.all_events().await;
    assert!(feed.len() >= told.acknowledged());
    check(&consumer.deliveries(), &feed, secret);
    world.kill();
    told.history().check_stored(&world, &load.tenant.id);
}

/// Two nodes on one database deliver in turn: whichever is killed, the other one goes on where it
/// stopped. PostgreSQL whichever engine the run is on: no other is shared by nodes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_nodes_each_goes_on_where_the_other_was_killed() {
    // Each takes as long as the lease of the node that was killed.
    let kills = 2 + scale("MERIDIAN_TEST_KILLS", 6) / 25;
    let server = Postgres::start();
    let url = server.url().replace("/postgres", "/meridian");
    let mut worlds = [(); 2].map(|()| World::on(Store::Postgres(url.clone())));
    let acme = worlds[0].tenant("acme", "us").await;
    let consumer = Consumer::start().await;
    let admin = Admin::of(&worlds[0], &acme).await;
    let webhook = admin.webhook(json!({ "url": consumer.url() })).await;
    let (id, secret) = (
        webhook["id"].as_str().unwrap(),
        webhook["secret"].as_str().unwrap(),
    );
    let load = Load::on(acme.clone(), None).await;
    let told = load.told.clone();
    for round in 0..kills {
        let (killed, left) = (round % 2, (round + 1) % 2);
        let beside = |world: &World| Load {
            tenant: acme.in_world(world),
            ..load.clone()
        };
        // Both take writes, and whichever node delivers is told of its neighbour's too.
        let writers = [killed, left].map(|at| beside(&worlds[at]).start(2 * round + at, 3));
        told.wait_for(1 + 29 * round % 60).await;
        let seen = consumer.deliveries().len();
        consumer.once(|came| came.len() > seen).await;
        worlds[killed].kill();
        let [of_killed, of_left] = writers;
        told.ended(of_killed).await;
        told.wait_for(10).await;
        told.enough(of_left).await;
        // What was written last is delivered by the node that is left, and all before it.
        let admin = admin.in_world(&worlds[left]);
        admin.once(id, |webhook| webhook["lag"] == 0).await;
        check(&consumer.deliveries(), &admin.all_events().await, secret);
        worlds[killed].restart();
    }
    assert!(admin.all_events().await.len() >= told.acknowledged());
}

/// A webhook that is paused for longer than changes are kept is told what it has missed, and goes
/// on behind it.
#[tokio::test]
async fn what_is_forgotten_before_a_receiver_had_it_is_told_as_a_gap() {
    let mut world = World::restartable(&["us"], "info");
    let mut acme = world.tenant("acme", "us").await;
    let mut admin = Admin::of(&world, &acme).await;
    let consumer = Consumer::start().await;
    let webhook = admin
        .webhook(json!({ "url": consumer.url(), "events": ["user.created"] }))
        .await;
    let id = webhook["id"].as_str().unwrap();
    let this = format!("/webhooks/{id}");
    acme.create_user(json!({ "userName": "ann" })).await;
    consumer.once(|came| came.len() == 1).await;
    // What it has not noted yet, a node that is killed sends again.
    admin.once(id, |webhook| webhook["lag"] == 0).await;
    admin.act(&format!("{this}/pause")).await;
    for name in ["bob", "cem"] {
        acme.create_user(json!({ "userName": name })).await;
    }
    // 91 days ago: longer than changes are kept for anybody.
    world.kill();
    world.meddle("UPDATE change SET at = at - 7862400000");
    world.restart();
    (acme, admin) = (acme.in_world(&world), admin.in_world(&world));
    while admin.ask("/events?after=0.1").await.status != 410 {}
    acme.create_user(json!({ "userName": "dan" })).await;
    admin.act(&format!("{this}/resume")).await;
    let came = consumer.once(|came| came.len() >= 3).await;
    let kinds: Vec<&str> = came.iter().map(Delivery::kind).collect();
    assert_eq!(kinds, ["user.created", "events.gap", "user.created"]);
    let gap = &came[1].body["data"];
    assert_eq!((&gap["from"], &gap["to"]), (&json!(2), &json!(3)), "{gap}");
    assert_eq!(came[2].body["data"]["resource"]["userName"], "dan");
    let secret = webhook["secret"].as_str().unwrap();
    assert!(came.iter().all(|delivery| delivery.is_signed_with(secret)));
    admin.once(id, |webhook| webhook["lag"] == 0).await;
    let lost = admin.get("/audit?kind=events").await;
    assert_eq!(lost["records"][0]["names"], json!(["2", "3"]), "{lost}");
}

/// A webhook that takes nothing for a day is left alone, and nothing is lost by it.
#[tokio::test]
async fn a_receiver_that_fails_for_long_is_paused_and_goes_on_where_it_stopped() {
    let mut world = World::restartable(&["us"], "info");
    let mut acme = world.tenant("acme", "us").await;
    let mut admin = Admin::of(&world, &acme).await;
    let consumer = Consumer::start().await;
    let webhook = admin.webhook(json!({ "url": consumer.url() })).await;
    let id = webhook["id"].as_str().unwrap();
    acme.create_user(json!({ "userName": "ann" })).await;
    consumer.once(|came| came.len() == 1).await;
    consumer.is(Mood::Answers(500));
    acme.create_user(json!({ "userName": "bob" })).await;
    let failing = admin
        .once(id, |webhook| webhook["failingSince"].is_string())
        .await;
    assert_eq!(failing["state"], "active");
    // It began a day ago.
    world.kill();
    world.meddle(
        "UPDATE event_endpoint SET failing_since = failing_since - 86400000, next_attempt = 0",
    );
    world.restart();
    (acme, admin) = (acme.in_world(&world), admin.in_world(&world));
    let paused = admin.once(id, |webhook| webhook["state"] == "paused").await;
    let reason = paused["reason"].as_str().unwrap();
    assert!(
        reason.contains("too long") && reason.contains("500"),
        "{reason}"
    );
    let audit = admin.get("/audit?kind=endpoint.paused").await;
    assert_eq!(audit["records"].as_array().unwrap().len(), 1, "{audit}");
    // It works again, and is not asked.
    consumer.is(Mood::Answers(204));
    let before = consumer.deliveries().len();
    acme.create_user(json!({ "userName": "cem" })).await;
    let other = Consumer::start().await;
    let witness = admin.webhook(json!({ "url": other.url() })).await;
    acme.create_user(json!({ "userName": "dan" })).await;
    let witness = witness["id"].as_str().unwrap();
    admin.once(witness, |webhook| webhook["lag"] == 0).await;
    assert_eq!(consumer.deliveries().len(), before);
    admin.act(&format!("/webhooks/{id}/resume")).await;
    let came = consumer.once(|came| came.len() >= before + 3).await;
    let sequences: Vec<i64> = came[before..].iter().map(Delivery::sequence).collect();
    assert_eq!(sequences, [2, 3, 4]);
    let again = admin.once(id, |webhook| webhook["lag"] == 0).await;
    assert_eq!(
        (
            &again["state"],
            &again["deadLetters"],
            &again["failingSince"]
        ),
        (&json!("active"), &json!(0), &Value::Null)
    );
}

const IMPATIENT: &str = "[events]\nallow_http = true\nallowed_networks = [\"127.0.0.0/8\"]\n\
                         attempts = 2\nfirst_retry_ms = 10\ntimeout_ms = 300\n";

/// A receiver that fails, in all the ways that there are: nothing is lost, and nobody else suffers.
#[tokio::test]
async fn what_a_receiver_does_not_take_is_kept_for_it() {
    let server = postgres_of_this_run();
    let fleet = Fleet::start(Plan {
        of_nodes: IMPATIENT,
        postgres: server.as_deref(),
        ..Plan::default()
    })
    .await;
    let acme = fleet.tenant("acme", "us").await;
    let body = json!({ "scope": "admin" });
    let token = fleet
        .operator("us", &format!("/tenants/{}/tokens", acme.id), body)
        .await;
    let admin = Admin {
        tenant: acme.clone(),
        token: Token {
            id: token["id"].as_str().unwrap().to_owned(),
            secret: token["token"].as_str().unwrap().to_owned(),
        },
    };
    let (bad, good) = (Consumer::start().await, Consumer::start().await);
    let elsewhere = Consumer::start().await;
    let webhook = admin.webhook(json!({ "url": bad.url() })).await;
    let id = webhook["id"].as_str().unwrap();
    admin.webhook(json!({ "url": good.url() })).await;
    let letters = format!("/webhooks/{id}/dead-letters");
    let moods = [
        (Mood::Answers(500), "500"),
        (Mood::Redirects(elsewhere.url()), "307"),
        (Mood::Silent, "time"),
    ];
    for (number, (mood, reason)) in moods.into_iter().enumerate() {
        bad.is(mood);
        acme.create_user(json!({ "userName": format!("u{number}") }))
            .await;
        admin
            .once(id, |webhook| webhook["deadLetters"] == json!(number + 1))
            .await;
        let all = admin.get(&letters).await;
        let last = &all["deadLetters"][number];
        assert!(last["reason"].as_str().unwrap().contains(reason), "{last}");
        assert_eq!(
            (&last["attempts"], &last["type"]),
            (&json!(2), &json!("user.created"))
        );
    }
    assert!(elsewhere.deliveries().is_empty(), "redirects lead nowhere");
    // The other one had everything at once.
    good.once(|came| came.len() >= 3).await;
    // A body without an end is an answer all the same, and not waited for.
    bad.is(Mood::Endless);
    acme.create_user(json!({ "userName": "endless" })).await;
    admin.once(id, |webhook| webhook["lag"] == 0).await;
    // Once it works again it gets what it did not take.
    bad.is(Mood::Answers(200));
    let before = bad.deliveries().len();
    assert_eq!(
        admin.act(&format!("/webhooks/{id}/replay")).await,
        json!({ "replayed": 3 })
    );
    let came = bad.once(|came| came.len() >= before + 3).await;
    let again: Vec<i64> = came[before..].iter().map(Delivery::sequence).collect();
    assert_eq!(again, [1, 2, 3]);
    admin.once(id, |webhook| webhook["deadLetters"] == 0).await;

    // One that is gone for good is left alone, and goes on when it is told to.
    bad.is(Mood::Answers(410));
    acme.create_user(json!({ "userName": "gone" })).await;
    let paused = admin.once(id, |webhook| webhook["state"] == "paused").await;
    assert!(
        paused["reason"].as_str().unwrap().contains("410"),
        "{paused}"
    );
    bad.is(Mood::Answers(204));
    let before = bad.deliveries().len();
    admin.act(&format!("/webhooks/{id}/resume")).await;
    let came = bad.once(|came| came.len() > before).await;
    assert_eq!(came.last().unwrap().sequence(), 5);
}

/// The claims of a security event token, once its signature was verified with the region's key.
fn claims(token: &str, jwks: &Value) -> Value {
    let parts: Vec<&str> = token.split('.').collect();
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap();
    let header: Value = serde_json::from_slice(&decode(parts[0])).unwrap();
    let key = &jwks["keys"][0];
    assert_eq!(header["typ"], "secevent+jwt");
    assert_eq!(
        (&header["alg"], &header["kid"]),
        (&json!("EdDSA"), &key["kid"])
    );
    let public = decode(key["x"].as_str().unwrap());
    let signed = format!("{}.{}", parts[0], parts[1]);
    UnparsedPublicKey::new(&ED25519, public)
        .verify(signed.as_bytes(), &decode(parts[2]))
        .unwrap();
    serde_json::from_slice(&decode(parts[1])).unwrap()
}

/// RFC 9967: the same events as signed tokens, pushed (RFC 8935) and for whoever comes (RFC 8936).
#[tokio::test]
async fn security_event_tokens_are_pushed_and_polled() {
    let mut world = World::restartable(&["us"], "info");
    let acme = world.tenant("acme", "us").await;
    let mut admin = Admin::of(&world, &acme).await;
    let consumer = Consumer::start().await;
    let no_audience = json!({ "kind": "set-push", "url": consumer.url() });
    let answer = admin.post("/webhooks", &no_audience).await;
    answer.scim_error(400, Some("invalidValue"));
    let aud = "https://app.example.com";
    let push = json!({ "kind": "set-push", "url": consumer.url(), "audience": aud });
    let pushed_to = admin.webhook(push).await;
    assert!(pushed_to.get("secret").is_none());
    let polled = admin
        .webhook(json!({ "kind": "set-poll", "audience": aud }))
        .await;
    let poll = format!("/webhooks/{}/poll", polled["id"].as_str().unwrap());

    let ann = acme
        .create_user(json!({ "userName": "ann", "title": "canary" }))
        .await;
    let user = path(&ann);
    let disable = patch(&json!([{ "op": "replace", "path": "active", "value": false }]));
    acme.patch(&user, &disable).await;
    acme.delete(&user).await;
    let jwks = admin.get("/events/jwks").await;
    let came = consumer.once(|came| came.len() >= 3).await;
    let tokens: Vec<Value> = came.iter().map(|it| claims(&it.text, &jwks)).collect();
    assert_eq!(came[0].headers["content-type"], "application/secevent+jwt");
    let events: Vec<Vec<&str>> = tokens
        .iter()
        .map(|token| {
            token["events"]
                .as_object()
                .unwrap()
                .keys()
                .map(String::as_str)
                .collect()
        })
        .collect();
    let urn = |name: &str| format!("urn:ietf:params:scim:event:prov:{name}");
    assert_eq!(
        events,
        [
            vec![urn("create:notice")],
            vec![urn("patch:notice"), urn("deactivate")],
            vec![urn("delete")],
        ]
    );
    for token in &tokens {
        assert_eq!(token["aud"], aud);
        assert_eq!(token["sub_id"], json!({ "format": "scim", "uri": user }));
        assert!(
            !token.to_string().contains("canary"),
            "names, and no values"
        );
    }
    let changed = &tokens[1]["events"][urn("patch:notice")]["attributes"];
    assert_eq!(changed, &json!(["active"]));

    // Whoever comes gets the same, again and again until it says that it has them.
    let ask = async |admin: &Admin, body: Value| {
        let answer = admin.post(&poll, &body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    };
    let two = json!({ "maxEvents": 2, "returnImmediately": true });
    let first = ask(&admin, two.clone()).await;
    assert_eq!(first["moreAvailable"], true);
    let sets = first["sets"].as_object().unwrap();
    let ids: Vec<&String> = sets.keys().collect();
    let expected: Vec<&str> = tokens
        .iter()
        .map(|token| token["jti"].as_str().unwrap())
        .collect();
    assert_eq!(ids, expected[..2]);
    // Which attributes a user was created with is read off the user, who may be gone by now.
    let kinds = |token: &Value| {
        let events = token["events"].as_object().unwrap();
        events.keys().cloned().collect::<Vec<_>>()
    };
    let fetched = claims(sets[ids[0]].as_str().unwrap(), &jwks);
    assert_eq!(kinds(&fetched), kinds(&tokens[0]));
    // Also after a crash, and with the same key.
    world.kill_and_restart();
    admin = admin.in_world(&world);
    assert_eq!(admin.get("/events/jwks").await, jwks);
    let again = ask(&admin, two).await;
    assert_eq!(
        again["sets"]
            .as_object()
            .unwrap()
            .keys()
            .collect::<Vec<_>>(),
        ids
    );
    let rest = json!({ "ack": ids, "returnImmediately": true });
    let rest = ask(&admin, rest).await;
    assert_eq!(
        rest["sets"].as_object().unwrap().keys().collect::<Vec<_>>(),
        [expected[2]]
    );
    // One that it cannot use is a dead letter.
    let error = json!({ "err": "jwtParse", "description": "what is this" });
    let refuses = json!({ "setErrs": { expected[2]: error }, "returnImmediately": true });
    assert_eq!(
        ask(&admin, refuses).await,
        json!({ "sets": {}, "moreAvailable": false })
    );
    let letters = admin.get(&poll.replace("/poll", "/dead-letters")).await;
    assert_eq!(
        letters["deadLetters"][0]["reason"],
        "jwtParse: what is this"
    );
    // And it can wait for the next.
    let acme = acme.reconnected();
    let (next, _) = tokio::join!(
        ask(&admin, json!({})),
        acme.create_user(json!({ "userName": "bob" }))
    );
    assert_eq!(next["sets"].as_object().unwrap().len(), 1);
}
