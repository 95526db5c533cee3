//! `Idempotency-Key`: a request that a client sends again is carried out once, and answered as
//! the first time.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Tenant, World, id, patch, path};

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
