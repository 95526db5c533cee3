//! Acknowledged writes survive `kill -9`.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::support::{Answer, Tenant, World};

const WRITERS: usize = 8;
const KILLS: usize = 5;
/// Writes that a round waits for before it kills: the commits are in full flow.
const BEFORE_KILL: usize = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_user_is_there_after_kill_9() {
    let mut world = World::restartable(&["us"], "info");
    let mut acme = world.tenant("acme", "us").await;
    let acknowledged: Arc<Mutex<BTreeSet<String>>> = Arc::default();

    for round in 0..KILLS {
        let writers: Vec<_> = (0..WRITERS)
            .map(|n| {
                tokio::spawn(write(
                    acme.clone(),
                    format!("r{round}w{n}"),
                    acknowledged.clone(),
                ))
            })
            .collect();
        while acknowledged.lock().unwrap().len() < (round + 1) * BEFORE_KILL {
            tokio::task::yield_now().await;
        }
        world.kill();
        for writer in writers {
            writer.await.unwrap();
        }
        world.kill_and_restart();
        acme = acme.reconnected();

        let names = acknowledged.lock().unwrap().clone();
        let present = everybody(&acme).await;
        let lost: Vec<_> = names.difference(&present).collect();
        assert!(lost.is_empty(), "lost after kill {round}: {lost:?}");
        // What was not acknowledged may be there or not, but never twice or in halves.
        let total = acme.get("/Users?count=0").await.json()["totalResults"].clone();
        assert_eq!(total, json!(present.len()));
    }
    // The data is still good to write on.
    acme.create_user(json!({ "userName": "afterwards" })).await;
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
    let writers: Vec<_> = (0..WRITERS)
        .map(|n| tokio::spawn(write(acme.clone(), format!("w{n}"), acknowledged.clone())))
        .collect();
    while acknowledged.lock().unwrap().len() < BEFORE_KILL {
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
