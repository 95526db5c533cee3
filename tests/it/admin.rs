//! The tenant admin's API, as an administrator uses it: tokens, settings, users and groups and what
//! happened to them, an export, and its description.

use gateway::routes::admin_endpoints;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::admin::Admin;
use crate::support::{Answer, World, encode, id, patch};

#[tokio::test]
async fn an_administrator_makes_rotates_and_revokes_tokens() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    let admin = Admin::of(&world, &acme).await;

    let asked = json!({ "name": "Okta", "expiresInDays": 30, "networks": ["127.0.0.0/8"] });
    let made = admin.post("/tokens", &asked).await;
    assert_eq!(made.status, 201, "{made:?}");
    let made = made.json();
    assert_eq!(made["scope"], "scim");
    assert_eq!(made["baseUrl"], acme.region.base_url);
    assert_eq!(made["createdBy"], admin.token.id);
    assert!(
        [29, 30].contains(&made["expiresInDays"].as_u64().unwrap()),
        "{made}"
    );
    let secret = made["token"].as_str().unwrap();
    assert_eq!(acme.region.get_as(secret, "/Users").await.status, 200);

    // It is an OAuth 2.0 client too.
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", id(&made)),
        ("client_secret", secret),
    ];
    let url = made["tokenUrl"].as_str().unwrap();
    let request = crate::support::with_form(acme.region.client.post(url), &form);
    assert_eq!(Answer::of(request).await.status, 200);

    // Its secret is shown this once.
    let listed = admin.get("/tokens").await;
    assert!(!listed.to_string().contains(secret));
    let names: Vec<&Value> = listed["tokens"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| &t["name"])
        .collect();
    assert_eq!(names.last(), Some(&&json!("Okta")));

    let path = format!("/tokens/{}", id(&made));
    let rotated = admin
        .post(&format!("{path}/rotate"), &json!({ "overlapHours": 1 }))
        .await;
    assert_eq!(rotated.status, 201, "{rotated:?}");
    let rotated = rotated.json();
    assert_eq!(rotated["name"], "Okta");
    assert_eq!(rotated["networks"], json!(["127.0.0.0/8"]));
    for secret in [secret, rotated["token"].as_str().unwrap()] {
        assert_eq!(acme.region.get_as(secret, "/Users").await.status, 200);
    }

    let revoked = admin.post(&format!("{path}/revoke"), &json!({})).await;
    assert_eq!(revoked.json()["state"], "revoked", "{revoked:?}");
    assert_eq!(admin.get(&path).await["state"], "revoked");
    acme.region
        .get_as(secret, "/Users")
        .await
        .scim_error(401, None);
    let ended = admin.post(&format!("{path}/rotate"), &json!({})).await;
    ended.scim_error(400, None);
}

#[tokio::test]
async fn what_is_not_right_is_refused_and_changes_nothing() {
    let world = World::start();
    let (acme, other) = (
        world.tenant("acme", "us").await,
        world.tenant("other", "us").await,
    );
    let admin = Admin::of(&world, &acme).await;
    let before = admin.get("/tokens").await;
    for (body, scim_type) in [
        (json!({ "nane": "x" }), Some("invalidSyntax")),
        (json!({ "scope": "root" }), Some("invalidSyntax")),
        (json!([]), Some("invalidSyntax")),
        (json!({ "expiresInDays": 0 }), Some("invalidValue")),
        (json!({ "expiresInDays": 99999 }), Some("invalidValue")),
        (json!({ "expiresInDays": -1 }), Some("invalidSyntax")),
        (json!({ "networks": ["everywhere"] }), Some("invalidSyntax")),
        (json!({ "name": "a\u{7}b" }), None),
    ] {
        let refused = admin.post("/tokens", &body).await;
        refused.scim_error(400, scim_type);
    }
    assert_eq!(admin.get("/tokens").await, before);

    // Another tenant's token is as one that there is not.
    let nobody = "tok_0123456789012345678901";
    for token in [other.token.id.as_str(), nobody, "x"] {
        let path = format!("/tokens/{token}");
        let answers = [
            admin.ask(&path).await,
            admin.post(&format!("{path}/rotate"), &json!({})).await,
            admin.post(&format!("{path}/revoke"), &json!({})).await,
        ];
        for answer in answers {
            answer.scim_error(404, None);
        }
    }
    assert_eq!(other.get("/Users").await.status, 200, "it lives");

    // A token of the other scope opens neither side.
    let url = acme.region.base_url.replace("/scim", "/admin");
    let request = acme
        .region
        .client
        .get(format!("{url}/tokens"))
        .bearer_auth(&acme.token.secret);
    Answer::of(request).await.scim_error(403, None);
    let refused = acme.region.get_as(&admin.token.secret, "/Users").await;
    refused.scim_error(403, None);
}

#[tokio::test]
async fn an_administrator_changes_the_settings_that_are_the_tenants() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    let admin = Admin::of(&world, &acme).await;
    let before = admin.get("/settings").await;
    assert_eq!(
        (&before["userName"], &before["groups"]),
        (&json!("any"), &json!("on"))
    );
    acme.create_user(json!({ "userName": "bjensen" })).await;

    let changed = admin
        .send(Method::PATCH, "/settings", &json!({ "userName": "email" }))
        .await;
    assert_eq!(changed.json()["userName"], "email", "{changed:?}");
    assert_eq!(changed.json()["limits"], before["limits"]);
    let refused = acme.post("/Users", &json!({ "userName": "ann" })).await;
    refused.scim_error(400, Some("invalidValue"));
    admin
        .send(Method::PATCH, "/settings", &json!({ "groups": "off" }))
        .await;
    let kept = json!({ "activityDays": 7 });
    admin.send(Method::PATCH, "/settings", &kept).await;
    assert_eq!(admin.get("/settings").await["activityDays"], 7);
    let kept = json!({ "activityDays": 0 });
    admin.send(Method::PATCH, "/settings", &kept).await;
    assert_eq!(admin.get("/settings").await["activityDays"], Value::Null);
    let off = acme
        .post("/Groups", &json!({ "displayName": "Team" }))
        .await;
    off.scim_error(501, None);
    let now = admin.get("/settings").await;
    assert_eq!(
        (&now["userName"], &now["groups"]),
        (&json!("email"), &json!("off"))
    );

    for body in [
        json!({ "limits": { "requestsPerS": 1 } }),
        json!({ "userName": "everybody" }),
        json!({ "groups": true }),
        json!({ "activityDays": -1 }),
    ] {
        let refused = admin.send(Method::PATCH, "/settings", &body).await;
        refused.scim_error(400, Some("invalidSyntax"));
    }
    assert_eq!(admin.get("/settings").await, now);
}

#[tokio::test]
async fn users_and_groups_are_found_by_how_their_names_begin() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    let admin = Admin::of(&world, &acme).await;
    let ann = acme
        .create_user(json!({
            "userName": "ann@example.com", "displayName": "Ann Byron", "externalId": "00uANN",
            "emails": [{ "value": "Countess@example.com", "type": "work" }],
        }))
        .await;
    let bob = acme
        .create_user(json!({ "userName": "bob@example.com", "displayName": "Bob" }))
        .await;
    let quoted = "\"quoted\" \\ name";
    acme.create_user(json!({ "userName": quoted })).await;
    let team = acme
        .create_group(json!({ "displayName": "Team", "members": [{ "value": id(&ann) }] }))
        .await;

    let find = async |search: &str| -> Vec<String> {
        let path = format!("/users?search={}", encode(search));
        let found = admin.get(&path).await;
        let users = found["users"].as_array().unwrap();
        assert_eq!(found["total"], json!(users.len()), "{found}");
        users
            .iter()
            .map(|user| user["userName"].as_str().unwrap().to_owned())
            .collect()
    };
    for (search, expected) in [
        ("ANN", vec!["ann@example.com"]),
        ("ann byr", vec!["ann@example.com"]),
        ("countess", vec!["ann@example.com"]),
        ("00uANN", vec!["ann@example.com"]),
        (id(&bob), vec!["bob@example.com"]),
        ("\"quoted\" \\", vec![quoted]),
        ("byron", vec![]),
        ("\" or userName pr or userName sw \"", vec![]),
    ] {
        assert_eq!(find(search).await, expected, "{search}");
    }
    assert_eq!(find("").await.len(), 3);

    // Page by page.
    let first = admin.get("/users?count=2").await;
    assert_eq!(
        (first["users"].as_array().unwrap().len(), &first["total"]),
        (2, &json!(3))
    );
    let next = first["next"].as_str().unwrap();
    let last = admin.get(&format!("/users?count=2&cursor={next}")).await;
    assert_eq!(last["users"][0]["userName"], quoted);
    assert!(last.get("next").is_none(), "{last}");
    admin
        .ask("/users?cursor=none")
        .await
        .scim_error(400, Some("invalidCursor"));
    admin
        .ask("/users?sortBy=x")
        .await
        .scim_error(400, Some("invalidValue"));

    let shown = admin.get(&format!("/users/{}", id(&ann))).await;
    assert_eq!(shown["groups"][0]["display"], "Team");
    let shown = admin.get("/groups?search=te").await;
    assert_eq!(shown["groups"][0]["id"], team["id"]);
    assert!(shown["groups"][0].get("members").is_none(), "{shown}");
    let members = admin.get(&format!("/groups/{}/members", id(&team))).await;
    assert_eq!(members["users"][0]["id"], ann["id"]);
    for path in ["/users/x", "/groups/x", "/groups/x/members"] {
        admin.ask(path).await.scim_error(404, None);
    }
}

#[tokio::test]
async fn what_happened_to_a_user_is_told_newest_first_and_after_its_end() {
    let world = World::start();
    let (acme, other) = (
        world.tenant("acme", "us").await,
        world.tenant("other", "us").await,
    );
    let admin = Admin::of(&world, &acme).await;
    let ann = acme.create_user(json!({ "userName": "ann" })).await;
    acme.create_user(json!({ "userName": "bob" })).await;
    let path = format!("/Users/{}", id(&ann));
    let title = patch(&json!([{ "op": "replace", "path": "title", "value": "Countess" }]));
    assert_eq!(acme.patch(&path, &title).await.status, 200);
    assert_eq!(acme.delete(&path).await.status, 204);

    let history = format!("/users/{}/history", id(&ann));
    let told = admin.get(&history).await;
    let told: Vec<Value> = told["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| json!([change["what"], change["attributes"]]))
        .collect();
    let expected = [
        json!(["deleted", []]),
        json!(["changed", ["title"]]),
        json!(["created", []]),
    ];
    assert_eq!(told, expected);
    let first = admin.get(&format!("{history}?count=1")).await;
    let number = &first["changes"][0]["number"];
    let rest = admin.get(&format!("{history}?before={number}")).await;
    assert_eq!(rest["changes"].as_array().unwrap().len(), 2);

    let stranger = Admin::of(&world, &other).await;
    let nothing = stranger.get(&history).await;
    assert_eq!(nothing, json!({ "changes": [] }));
}

#[tokio::test]
async fn an_export_holds_the_tenants_users_and_groups_and_nothing_else() {
    let world = World::start();
    let (acme, other) = (
        world.tenant("acme", "us").await,
        world.tenant("other", "us").await,
    );
    let admin = Admin::of(&world, &acme).await;
    let names = (0..300).map(|n| format!("user{n}"));
    acme.create_many_users(names).await;
    acme.create_group(json!({ "displayName": "Team" })).await;
    other.create_user(json!({ "userName": "stranger" })).await;

    let export = admin.ask("/export").await;
    assert_eq!(export.status, 200);
    assert_eq!(export.header("content-type"), Some("application/jsonl"));
    let text = String::from_utf8(export.body).unwrap();
    assert!(!text.contains("stranger") && !text.contains("mrd_us_"));
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 302);
    assert_eq!(lines[0]["tenant"]["id"], acme.id);
    assert_eq!(lines[301]["displayName"], "Team");
    let location = lines[1]["meta"]["location"].as_str().unwrap();
    assert!(location.starts_with(&acme.region.base_url), "{location}");
}

/// After the operator has revoked an admin token, it opens nothing.
#[tokio::test]
async fn a_revoked_admin_token_reads_and_changes_nothing() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    let admin = Admin::of(&world, &acme).await;
    admin.get("/tokens").await;
    world.meridian(&["token", "revoke", &admin.token.id]);
    for endpoint in admin_endpoints() {
        let path = endpoint
            .template
            .replace("{id}", &acme.token.id)
            .replace("{urn}", "urn:x");
        for method in endpoint.methods {
            let method = Method::from_bytes(method.as_str().as_bytes()).unwrap();
            let refused = admin
                .send(method.clone(), &format!("/{path}"), &json!({}))
                .await;
            assert_eq!(refused.status, 401, "{method} {path}");
        }
    }
    assert_eq!(acme.get("/Users").await.status, 200);
}
