//! `Idempotency-Key`: a request that a client sends again is carried out once, and answered as
//! the first time.

use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::disk::Disk;
use crate::support::{Answer, Store, Tenant, World, id, patch, path, scale};

const KEY: &str = "idempotency-key";

async fn tenant() -> (World, Tenant) {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    (world, acme)
}

async fn send(tenant: &Tenant, method: Method, path: &str, key: &str, body: &Value) -> Answer {
    let request = tenant.request(method, path).header(KEY, key);
    Answer::of(request.body(body.to_string())).await
}

/// Sends a request twice under one key; both answers must be the same.
async fn twice(tenant: &Tenant, method: Method, path: &str, key: &str, body: &Value) -> Answer {
    let first = send(tenant, method.clone(), path, key, body).await;
    let second = send(tenant, method, path, key, body).await;
    assert_eq!(first.status, second.status, "{first:?} {second:?}");
    assert_eq!(first.body, second.body);
    for name in ["etag", "location"] {
        assert_eq!(first.header(name), second.header(name), "{name}");
    }
    first
}

#[tokio::test]
async fn a_repeated_request_is_carried_out_once() {
    let (_world, acme) = tenant().await;
    let anna = json!({ "userName": "anna" });
    let created = twice(&acme, Method::POST, "/Users", "create", &anna).await;
    assert_eq!(created.status, 201, "{created:?}");
    let anna = created.json();
    assert_eq!(acme.find("userName eq \"anna\"").await.len(), 1);

    // It would fail the second time: there is nothing left to remove.
    let role = json!([{"op": "add", "path": "roles", "value": [{"value": "guide"}]}]);
    assert_eq!(acme.patch(&path(&anna), &patch(&role)).await.status, 200);
    let remove = patch(&json!([{"op": "remove", "path": "roles[value eq \"guide\"]"}]));
    let removed = twice(&acme, Method::PATCH, &path(&anna), "remove", &remove).await;
    assert_eq!(removed.status, 200, "{removed:?}");

    let put = json!({ "userName": "anna", "title": "Lead" });
    let replaced = twice(&acme, Method::PUT, &path(&anna), "put", &put).await;
    assert_eq!(replaced.status, 200, "{replaced:?}");

    let group = json!({ "displayName": "Team", "members": [{ "value": id(&anna) }] });
    let group = twice(&acme, Method::POST, "/Groups", "group", &group)
        .await
        .json();
    let leave = patch(&json!([{"op": "remove", "path": "members"}]));
    let left = twice(&acme, Method::PATCH, &path(&group), "leave", &leave).await;
    assert_eq!(left.json()["members"], json!([]), "{left:?}");

    let deleted = twice(&acme, Method::DELETE, &path(&anna), "delete", &Value::Null).await;
    assert_eq!(deleted.status, 204, "{deleted:?}");
    assert_eq!(acme.get(&path(&anna)).await.status, 404);
}

#[tokio::test]
async fn a_repeated_bulk_request_goes_on_where_it_was_cut_off() {
    let (_world, acme) = tenant().await;
    let operations: Vec<Value> = (0..5)
        .map(|number| {
            json!({ "method": "POST", "path": "/Users", "bulkId": format!("b{number}"),
                "data": { "userName": format!("user{number}") } })
        })
        .collect();
    let bulk = json!({ "schemas": ["urn:ietf:params:scim:api:messages:2.0:BulkRequest"],
        "Operations": operations });
    let answer = twice(&acme, Method::POST, "/Bulk", "bulk", &bulk).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    for operation in answer.json()["Operations"].as_array().unwrap() {
        assert_eq!(operation["status"], "201", "{answer:?}");
    }
    assert_eq!(acme.get("/Users?count=0").await.json()["totalResults"], 5);
}

#[tokio::test]
async fn a_key_stands_for_one_request_of_one_tenant() {
    let (world, acme) = tenant().await;
    let other = world.tenant("other", "us").await;
    let anna = json!({ "userName": "anna" });
    let created = send(&acme, Method::POST, "/Users", "k", &anna).await;
    assert_eq!(created.status, 201, "{created:?}");
    let elsewhere = send(&other, Method::POST, "/Users", "k", &anna).await;
    assert_eq!(elsewhere.status, 201, "{elsewhere:?}");
    assert_ne!(id(&created.json()), id(&elsewhere.json()));

    let bob = json!({ "userName": "bob" });
    let reused = send(&acme, Method::POST, "/Users", "k", &bob).await;
    reused.scim_error(422, None);
    assert!(acme.find("userName eq \"bob\"").await.is_empty());

    // What failed is not kept: it may be tried again.
    let taken = send(&acme, Method::POST, "/Users", "l", &anna).await;
    taken.scim_error(409, Some("uniqueness"));
    let gone = acme.delete(&path(&created.json())).await;
    assert_eq!(gone.status, 204);
    let again = send(&acme, Method::POST, "/Users", "l", &anna).await;
    assert_eq!(again.status, 201, "{again:?}");
}

#[tokio::test]
async fn what_has_changed_or_gone_since_is_shown_as_it_is() {
    let (_world, acme) = tenant().await;
    let anna = json!({ "userName": "anna" });
    let created = send(&acme, Method::POST, "/Users", "k", &anna).await.json();
    let title = patch(&json!([{"op": "replace", "path": "title", "value": "Lead"}]));
    assert_eq!(acme.patch(&path(&created), &title).await.status, 200);
    let again = send(&acme, Method::POST, "/Users", "k", &anna).await;
    assert_eq!((again.status, id(&again.json())), (201, id(&created)));
    assert_eq!(again.json()["title"], "Lead");

    assert_eq!(acme.delete(&path(&created)).await.status, 204);
    let again = send(&acme, Method::POST, "/Users", "k", &anna).await;
    assert_eq!((again.status, id(&again.json())), (201, id(&created)));
    assert_eq!(acme.get("/Users?count=0").await.json()["totalResults"], 0);
}

/// Sends a request under a key; the process ends between its commit and its answer. Then sends it
/// again, to the next process.
async fn twice_over_a_crash(
    world: &mut World,
    disk: &Disk,
    acme: &mut Tenant,
    (method, path, body): (Method, &str, &Value),
    key: &str,
    mut look: impl AsyncFnMut(&Tenant),
) -> Answer {
    disk.kills_at_next_commit();
    let request = acme.request(method.clone(), path).header(KEY, key);
    let first = Answer::try_of(request.body(body.to_string())).await;
    assert!(first.is_err(), "{first:?}");
    world.ended();
    world.restart();
    *acme = acme.reconnected();
    look(acme).await;
    send(acme, method, path, key, body).await
}

#[tokio::test]
async fn a_crash_between_commit_and_answer_leaves_one_row() {
    let rounds = scale("MERIDIAN_TEST_CRASHES", 3);
    let disk = Arc::new(Disk::new());
    let mut world = World::on(Store::Disk(disk.clone()));
    let mut acme = world.tenant("acme", "us").await;
    // Another commit may come before ours: of the time when a token was used, of activity.
    let mut hits = 0;
    for round in 0..rounds {
        let name = format!("user{round}");
        let filter = format!("userName eq \"{name}\"");
        let body = json!({ "userName": name });
        let mut found = Vec::new();
        let again = twice_over_a_crash(
            &mut world,
            &disk,
            &mut acme,
            (Method::POST, "/Users", &body),
            &format!("create{round}"),
            async |acme| found = ids(&acme.query(&filter).await),
        )
        .await;
        assert_eq!(again.status, 201, "{again:?}");
        let user = again.json();
        assert_eq!(ids(&acme.query(&filter).await), [id(&user)]);
        if let [there] = &found[..] {
            assert_eq!(there, id(&user), "another one than the first time");
            hits += 1;
        }

        // It can be done once only: the second time there is nothing to remove.
        let add = json!([{"op": "add", "path": "roles", "value": [{"value": "guide"}]}]);
        assert_eq!(acme.patch(&path(&user), &patch(&add)).await.status, 200);
        let remove = patch(&json!([{"op": "remove", "path": "roles[value eq \"guide\"]"}]));
        let mut gone = false;
        let again = twice_over_a_crash(
            &mut world,
            &disk,
            &mut acme,
            (Method::PATCH, &path(&user), &remove),
            &format!("remove{round}"),
            async |acme| gone = acme.get(&path(&user)).await.json().get("roles").is_none(),
        )
        .await;
        assert_eq!(again.status, 200, "{again:?}");
        assert!(again.json().get("roles").is_none(), "{again:?}");
        hits += usize::from(gone);
    }
    println!(
        "{hits} of {} crashes were between commit and answer",
        2 * rounds
    );
    assert!(hits > rounds / 2, "{hits}");
    assert_eq!(
        acme.get("/Users?count=0").await.json()["totalResults"],
        rounds
    );
}

#[tokio::test]
async fn a_bulk_request_that_a_crash_cut_off_is_finished_by_the_next() {
    let disk = Arc::new(Disk::new());
    let mut world = World::on(Store::Disk(disk.clone()));
    let mut acme = world.tenant("acme", "us").await;
    let operations: Vec<Value> = (0..5)
        .map(|n| {
            json!({ "method": "POST", "path": "/Users", "bulkId": format!("b{n}"),
                "data": { "userName": format!("user{n}") } })
        })
        .collect();
    let bulk = json!({ "schemas": ["urn:ietf:params:scim:api:messages:2.0:BulkRequest"],
        "Operations": operations });
    let mut found = Vec::new();
    let again = twice_over_a_crash(
        &mut world,
        &disk,
        &mut acme,
        (Method::POST, "/Bulk", &bulk),
        "bulk",
        async |acme| found = ids(&acme.get("/Users").await),
    )
    .await;
    assert_eq!(again.status, 200, "{again:?}");
    for operation in again.json()["Operations"].as_array().unwrap() {
        assert_eq!(operation["status"], "201", "{again:?}");
    }
    let all = ids(&acme.get("/Users").await);
    assert_eq!(all.len(), 5);
    assert!(found.iter().all(|id| all.contains(id)));
}

fn ids(list: &Answer) -> Vec<String> {
    assert_eq!(list.status, 200, "{list:?}");
    let list = list.json();
    let found = list["Resources"].as_array().into_iter().flatten();
    found.map(|resource| id(resource).to_owned()).collect()
}
