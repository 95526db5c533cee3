//! A tenant's own extension schemas: made by its administrator, and then as good as any other
//! attribute, in bodies, paths, filters and discovery, until they are removed.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::admin::Admin;
use crate::support::{Answer, World};

const ACME: &str = "urn:acme:params:scim:schemas:extension:staff:2.0:User";

fn staff() -> Value {
    json!({
        "resourceType": "User",
        "schema": {
            "id": ACME, "name": "Staff", "attributes": [
                {"name": "badge", "type": "string", "caseExact": true},
                {"name": "remote", "type": "boolean"},
                {"name": "sites", "type": "complex", "multiValued": true, "subAttributes": [
                    {"name": "value", "type": "string"}, {"name": "type", "type": "string"},
                ]},
            ],
        },
        "indexed": ["Badge"],
    })
}

#[tokio::test]
async fn an_extension_is_as_good_as_any_other_attribute_until_it_is_removed() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    let admin = Admin::of(&world, &acme).await;
    let before = acme
        .create_user(json!({"userName": "before", ACME: {"badge": "lost"}}))
        .await;
    assert!(
        before.get(ACME).is_none(),
        "unknown yet, so dropped: {before}"
    );

    let created = admin.send(Method::POST, "/schemas", &staff()).await;
    assert_eq!(created.status, 201, "{}", created.json());
    assert_eq!(created.json()["indexed"], json!(["badge"]));

    // In bodies, in discovery, in `schemas`.
    let ann = json!({"userName": "ann", ACME: {"BADGE": "B7", "remote": "True", "unknown": 1}});
    let ann = acme.create_user(ann).await;
    assert_eq!(ann[ACME], json!({"badge": "B7", "remote": true}));
    assert!(ann["schemas"].as_array().unwrap().contains(&json!(ACME)));
    let path = format!("/Users/{}", ann["id"].as_str().unwrap());
    let shown = acme.get(&format!("/Schemas/{ACME}")).await;
    assert_eq!((shown.status, &shown.json()["id"]), (200, &json!(ACME)));
    let types = acme.get("/ResourceTypes/User").await.json();
    assert!(
        types["schemaExtensions"].to_string().contains(ACME),
        "{types}"
    );

    // In PATCH paths and filters.
    let patch = json!({"Operations": [
        {"op": "add", "path": format!("{ACME}:sites[type eq \"home\"].value"), "value": "Berlin"},
        {"op": "replace", "value": {format!("{ACME}:badge"): "B8"}},
    ]});
    let patched = acme.patch(&path, &patch).await.json();
    let expected =
        json!({"badge": "B8", "remote": true, "sites": [{"type": "home", "value": "Berlin"}]});
    assert_eq!(patched[ACME], expected);
    for (filter, found) in [
        (format!("{ACME}:badge eq \"B8\""), vec!["ann"]),
        (format!("{ACME}:badge eq \"b8\""), vec![]),
        (format!("{ACME}:badge eq \"B7\""), vec![]),
        (format!("{ACME}:sites.value eq \"berlin\""), vec!["ann"]),
        (format!("{ACME}:remote eq true"), vec!["ann"]),
    ] {
        assert_eq!(acme.find(&filter).await, found, "{filter}");
    }
    let wrong = json!({"Operations": [
        {"op": "replace", "path": format!("{ACME}:remote"), "value": "perhaps"},
    ]});
    acme.patch(&path, &wrong)
        .await
        .scim_error(400, Some("invalidValue"));

    // Gone: out of sight, out of the data, and the URN is free again.
    let removed = admin
        .send(Method::DELETE, &format!("/schemas/{ACME}"), &json!(null))
        .await;
    assert_eq!(removed.status, 204);
    let left = acme.get(&path).await.json();
    assert!(!left.to_string().contains(ACME), "{left}");
    assert_eq!(acme.get(&format!("/Schemas/{ACME}")).await.status, 404);
    acme.query(&format!("{ACME}:badge eq \"B8\""))
        .await
        .scim_error(400, Some("invalidFilter"));
    assert_eq!(
        admin.send(Method::POST, "/schemas", &staff()).await.status,
        201
    );
    assert!(
        acme.get(&path).await.json().get(ACME).is_none(),
        "its values do not come back"
    );
}

#[tokio::test]
async fn an_extension_is_one_tenants_and_its_administrators() {
    let world = World::start();
    let (acme, umbrella) = (
        world.tenant("acme", "us").await,
        world.tenant("umbrella", "us").await,
    );
    let admin = Admin::of(&world, &acme).await;
    assert_eq!(
        admin.send(Method::POST, "/schemas", &staff()).await.status,
        201
    );
    admin
        .send(Method::POST, "/schemas", &staff())
        .await
        .scim_error(409, Some("uniqueness"));
    assert_eq!(umbrella.get(&format!("/Schemas/{ACME}")).await.status, 404);
    let bob = umbrella
        .create_user(json!({"userName": "bob", ACME: {"badge": "B"}}))
        .await;
    assert!(bob.get(ACME).is_none());

    // A provisioning token administers nothing, and an administrator's provisions nobody.
    let base_url = acme
        .region
        .base_url
        .replace("/api/v1/scim", "/api/v1/admin");
    let with =
        |url: String, token: &str| Answer::of(acme.region.client.get(url).bearer_auth(token));
    let denied = with(format!("{base_url}/schemas"), &acme.token.secret).await;
    denied.scim_error(403, None);
    let denied = with(
        format!("{}/Users", acme.region.base_url),
        &admin.token.secret,
    )
    .await;
    denied.scim_error(403, None);
    for odd in [
        json!({}),
        json!({"resourceType": "Printer", "schema": {}}),
        json!({"resourceType": "User", "schema": {"id": "urn:ietf:params:scim:schemas:core:2.0:User", "attributes": [{"name": "a"}]}}),
    ] {
        let answer = admin.send(Method::POST, "/schemas", &odd).await;
        assert_eq!(answer.status, 400, "{odd}");
    }
}
