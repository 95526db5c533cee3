//! PostgreSQL goes away, comes back, hangs, or falls silent; two nodes share one database, and one
//! of them is killed. Nothing that was acknowledged is lost, and what is not known is 503.
//!
//! Each test has a server of its own, whichever engine the run is on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::Method;
use serde_json::json;

use crate::support::history::Load;
use crate::support::link::Link;
use crate::support::postgres::Postgres;
use crate::support::{Answer, Store, Tenant, World, eventually, id, scale};

const CLIENTS: usize = 8;
/// Refused writes that are enough to believe that all are.
const ENOUGH: usize = 20;

/// A server, and the URL of databases on it.
fn server() -> (Postgres, String) {
    let server = Postgres::start();
    let url = server.url().replace("/postgres", "/meridian");
    (server, url)
}

fn on(url: &str) -> World {
    World::on(Store::Postgres(url.to_owned()))
}

/// What a tenant is told while the store is away: to come again, and nothing else.
async fn all_is_503(acme: &Tenant) {
    for url in ["/Users?count=1", "/Users?filter=userName%20eq%20%22x%22"] {
        let answer = acme.get(url).await;
        answer.scim_error(503, None);
        let after = answer.header("retry-after").unwrap_or_default();
        assert!(after.parse::<u32>().is_ok(), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_postgresql_stops_and_starts_again() {
    let stops = scale("MERIDIAN_TEST_STOPS", 2);
    let (mut server, url) = server();
    let world = on(&url);
    let load = Load::on(world.tenant("acme", "us").await, None).await;
    let told = load.told.clone();
    for round in 0..stops {
        let clients = load.start(round, CLIENTS);
        told.wait_for(40).await;
        let refused = told.refused();
        if round % 2 == 0 {
            server.stop_immediately();
        } else {
            server.stop_orderly();
        }
        told.store_fails();
        told.wait_until(|| told.refused() > refused + ENOUGH).await;
        all_is_503(&load.tenant).await;

        told.store_works();
        server.start_again();
        told.wait_for(40).await;
        told.enough(clients).await;
        told.history()
            .check_service(&load.tenant, &load.group)
            .await;
    }
    told.history().check_stored(&world, &load.tenant.id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_starts_without_postgresql_and_is_ready_when_it_is_there() {
    let (mut server, url) = server();
    let mut world = on(&url);
    let load = Load::on(world.tenant("acme", "us").await, None).await;
    let told = load.told.clone();
    world.kill();
    server.stop_immediately();
    world.restart();
    let load = load.reconnected();
    all_is_503(&load.tenant).await;
    server.start_again();
    let clients = load.start(0, CLIENTS);
    told.wait_for(20).await;
    told.enough(clients).await;
    told.history()
        .check_service(&load.tenant, &load.group)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgresql_that_hangs_is_503_at_the_deadline() {
    let (server, url) = server();
    let world = on(&url);
    let load = Load::on(world.tenant("acme", "us").await, None).await;
    let told = load.told.clone();
    let clients = load.start(0, CLIENTS);
    told.wait_for(40).await;
    let refused = told.refused();
    server.freeze();
    told.store_fails();
    told.wait_until(|| told.refused() > refused).await;
    told.store_works();
    server.thaw();
    told.wait_for(40).await;
    told.enough(clients).await;
    told.history()
        .check_service(&load.tenant, &load.group)
        .await;
    told.history().check_stored(&world, &load.tenant.id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_nodes_that_share_a_database_one_makes_a_name() {
    const EACH: usize = 25;
    let rounds = scale("MERIDIAN_TEST_RACES", 10);
    let (_server, url) = server();
    let (one, other) = (on(&url), on(&url));
    let acme = one.tenant("acme", "us").await;
    let faces = [acme.clone(), acme.in_world(&other)];
    for round in 0..rounds {
        let made = Arc::new(AtomicUsize::new(0));
        let attempts = (0..2 * EACH).map(|n| {
            let (face, made) = (faces[n % 2].clone(), made.clone());
            tokio::spawn(async move {
                let name = format!("{}{round}", if n % 3 == 0 { "ANNA" } else { "anna" });
                let answer = face.post("/Users", &json!({ "userName": name })).await;
                if answer.status == 201 {
                    made.fetch_add(1, Ordering::Relaxed);
                } else {
                    answer.scim_error(409, Some("uniqueness"));
                }
            })
        });
        let attempts: Vec<_> = attempts.collect();
        for attempt in attempts {
            attempt.await.unwrap();
        }
        assert_eq!(made.load(Ordering::Relaxed), 1);
        for face in &faces {
            let found = face.find(&format!("userName eq \"anna{round}\"")).await;
            assert_eq!(found.len(), 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_nodes_is_killed_and_the_other_goes_on() {
    let kills = scale("MERIDIAN_TEST_KILLS", 4) / 2;
    let (_server, url) = server();
    let (one, mut other) = (on(&url), on(&url));
    let load = Load::on(one.tenant("acme", "us").await, None).await;
    let told = load.told.clone();
    let clients = load.start(0, CLIENTS);
    let mut beside = Load {
        tenant: load.tenant.in_world(&other),
        ..load.clone()
    };
    for round in 1..=kills {
        let killed = beside.start(round, CLIENTS);
        told.wait_for(1 + 37 * round % 80).await;
        other.kill();
        told.ended(killed).await;
        let refused = told.refused();
        told.wait_for(10).await;
        assert_eq!(told.refused(), refused, "the other node does not notice");
        other.restart();
        beside = beside.reconnected();
    }
    told.enough(clients).await;
    for face in [&load.tenant, &beside.tenant] {
        told.history().check_service(face, &load.group).await;
    }
    told.history().check_stored(&one, &load.tenant.id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_revoked_at_one_node_is_revoked_at_the_other() {
    let (_server, url) = server();
    let (one, other) = (on(&url), on(&url));
    let acme = one.tenant("acme", "us").await;
    let beside = acme.in_world(&other);
    for _ in 0..20 {
        let token = one.token("us", &acme.id, json!({})).await;
        let url = "/Users?count=1";
        assert_eq!(beside.region.get_as(&token.secret, url).await.status, 200);
        let path = format!("/tokens/{}/revoke", token.id);
        one.operator("us", Method::POST, &path, None).await;
        let answer = beside.region.get_as(&token.secret, url).await;
        answer.scim_error(401, None);
    }
}

/// The commit reaches PostgreSQL and its answer does not come back: whoever asked is told that it
/// is not known, or nothing at all if the node is killed meanwhile; asked again under the same
/// key, it is the first outcome.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_in_doubt_is_503_and_is_found_when_asked_again() {
    let (_server, url) = server();
    let server: SocketAddr = url["postgres://meridian@".len()..]
        .split('/')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let link = Link::to(server).await;
    let witness = on(&url);
    let mut world = on(&url.replace(&server.to_string(), &link.address.to_string()));
    let mut acme = world.tenant("acme", "us").await;
    let beside = acme.in_world(&witness);
    let create = |acme: &Tenant, name: &str| {
        let request = acme.request(Method::POST, "/Users");
        let request = request.header("idempotency-key", name);
        request.body(json!({ "userName": name }).to_string())
    };
    let mut names = (0..).map(|number| format!("anna{number}"));
    for kill in [false, true] {
        let (name, asked) = loop {
            let name = names.next().unwrap();
            // The way to the row is warm, and the next thing that is asked of PostgreSQL is the
            // write; unless that takes another connection, which has to be prepared first. Then
            // it never arrives, and the call ends with its time.
            let warm = format!("warm{name}");
            eventually(201, || Answer::of(create(&acme, &warm))).await;
            link.goes_silent();
            let asked = tokio::spawn(Answer::try_of(create(&acme, &name)));
            let filter = format!("userName eq \"{name}\"");
            while beside.find(&filter).await.is_empty() && !asked.is_finished() {}
            if !beside.find(&filter).await.is_empty() {
                break (name, asked);
            }
            link.breaks();
            asked.await.unwrap().unwrap().scim_error(503, None);
            link.works();
        };
        let filter = format!("userName eq \"{name}\"");
        if kill {
            world.kill();
            assert!(asked.await.unwrap().is_err());
            link.works();
            world.restart();
            acme = acme.reconnected();
        } else {
            link.breaks();
            let answer = asked.await.unwrap().unwrap();
            answer.scim_error(503, None);
            assert!(answer.header("retry-after").is_some());
            link.works();
        }
        let first = beside.query(&filter).await.json()["Resources"][0].clone();
        let again = || Answer::of(create(&acme, &name));
        let again = eventually(201, again).await;
        assert_eq!(id(&again.json()), id(&first));
        assert_eq!(beside.find(&filter).await.len(), 1);
    }
}
