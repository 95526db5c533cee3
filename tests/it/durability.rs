//! Acknowledged writes survive `kill -9`.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::support::history::Load;
use crate::support::{Answer, Tenant, World, scale};

const CLIENTS: usize = 8;
/// After how many kills what is there is compared with what was promised.
const CHECK_EVERY: usize = 10;
/// Writes that a stop waits for: the commits are in full flow.
const BEFORE_STOP: usize = 60;

/// Users come, change and go and are members in between, and every few dozen answers the process
/// is killed, at a different moment each time: hardly started, or in full flow.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_there_after_kill_9() {
    let kills = scale("MERIDIAN_TEST_KILLS", 8);
    let mut world = World::restartable(&["us"], "info");
    let mut load = Load::on(world.tenant("acme", "us").await, None).await;
    let told = load.told.clone();
    for round in 0..kills {
        let clients = load.start(round, CLIENTS);
        told.wait_for(1 + 37 * round % 80).await;
        world.kill();
        told.ended(clients).await;
        world.restart();
        load = load.reconnected();
        if round % CHECK_EVERY == 0 || round + 1 == kills {
            told.history()
                .check_service(&load.tenant, &load.group)
                .await;
        }
    }
    // The data is still good to write on.
    let clients = load.start(kills, CLIENTS);
    told.wait_for(BEFORE_STOP).await;
    told.enough(clients).await;
    world.kill();
    told.history().check_stored(&world, &load.tenant.id);
    assert!(told.acknowledged() >= kills);
}

/// Creates users until the other side is gone.
async fn write(tenant: Tenant, name: String, acknowledged: Arc<Mutex<BTreeSet<String>>>) {
    for n in 0.. {
        let user = format!("{name}n{n}");
        let body = json!({ "userName": user }).to_string();
        let request = tenant
            .request(reqwest::Method::POST, "/Users")
            .header("content-type", "application/scim+json")
            .body(body);
        match Answer::try_of(request).await {
            Ok(answer) if answer.status == 201 => {
                acknowledged.lock().unwrap().insert(user);
            }
            // The node may go before the gateway does: that is 503, and no promise.
            Ok(answer) if answer.status == 503 => return,
            Ok(answer) => panic!("{user}: {answer:?}"),
            Err(_) => return,
        }
    }
}

/// The userNames of all pages.
async fn everybody(tenant: &Tenant) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    loop {
        let start = names.len() + 1;
        let url = format!("/Users?startIndex={start}&count=200&attributes=userName");
        let list = tenant.get(&url).await.json();
        let Some(users) = list["Resources"]
            .as_array()
            .filter(|users| !users.is_empty())
        else {
            return names;
        };
        for user in users {
            let new = names.insert(user["userName"].as_str().unwrap().to_owned());
            assert!(new, "{user} is there twice");
        }
    }
}

#[tokio::test]
async fn tokens_and_tenants_survive_too() {
    let mut world = World::restartable(&["us"], "info");
    let acme = world.tenant("acme", "us").await;
    let revoked = world.token("us", &acme.id, json!({})).await;
    world.meridian(&["token", "revoke", &revoked.id]);
    let user = acme.create_user(json!({ "userName": "bjensen" })).await;

    world.kill_and_restart();
    let acme = acme.reconnected();
    assert_eq!(acme.find("userName pr").await, ["bjensen"]);
    acme.region
        .get_as(&revoked.secret, "/Users")
        .await
        .scim_error(401, None);
    let read = acme
        .get(&format!("/Users/{}", user["id"].as_str().unwrap()))
        .await
        .json();
    assert_eq!(read, user, "byte for byte, its version too");
}

#[tokio::test]
async fn a_polite_stop_finishes_what_is_under_way() {
    let mut world = World::restartable(&["us"], "info");
    let acme = world.tenant("acme", "us").await;
    let acknowledged: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let writers: Vec<_> = (0..CLIENTS)
        .map(|n| tokio::spawn(write(acme.clone(), format!("w{n}"), acknowledged.clone())))
        .collect();
    while acknowledged.lock().unwrap().len() < BEFORE_STOP {
        tokio::task::yield_now().await;
    }
    let address = world.address();
    let status = tokio::task::spawn_blocking(move || {
        let status = world.stop();
        (world, status)
    });
    let (mut world, status) = status.await.unwrap();
    assert!(status.success(), "{status}");
    for writer in writers {
        writer.await.unwrap();
    }
    assert!(!world.data_dir().join("local.json").exists());

    world.restart();
    assert_eq!(world.address(), address);
    let names = acknowledged.lock().unwrap().clone();
    let present = everybody(&acme.reconnected()).await;
    assert!(names.is_subset(&present));
}
