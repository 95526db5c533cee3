//! What administrators of a tenant see of its provisioning requests.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::admin::Admin;
use crate::support::conversation::{Conversation, Work};
use crate::support::{self, Answer, Store, Tenant, Token, World, patch};

/// Some members of each request, newest first.
async fn shown(admin: &Admin, query: &str, members: &[&str]) -> Vec<Vec<Value>> {
    let page = admin.get(&format!("/activity{query}")).await;
    let of = |entry: &Value| members.iter().map(|name| entry[*name].clone()).collect();
    page["activity"]
        .as_array()
        .unwrap()
        .iter()
        .map(of)
        .collect()
}

fn rows(value: Value) -> Vec<Vec<Value>> {
    serde_json::from_value(value).unwrap()
}

#[tokio::test]
async fn every_request_is_kept_with_what_it_asked_for_and_what_it_did() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    let admin = Admin::of(&world, &acme).await;
    let user = acme.create_user(json!({"userName": "bjensen"})).await;
    let (id, path) = (support::id(&user), support::path(&user));
    acme.get(&path).await;
    let title = patch(&json!([{"op": "replace", "path": "title", "value": "T"}]));
    acme.patch(&path, &title).await;
    acme.patch(&path, &title).await;
    acme.query("userName eq \"bjensen\"").await;
    let refused = acme.query("userName eq").await;
    acme.post("/Users", &json!({"userName": "BJensen"})).await;
    let group = json!({"displayName": "Staff", "members": [{"value": id}]});
    let group = acme.create_group(group).await;
    let join = patch(&json!([{"op": "add", "path": "members", "value": [{"value": id}]}]));
    acme.patch(&support::path(&group), &join).await;
    let leave = patch(&json!([{"op": "remove", "path": "members"}]));
    acme.patch(&support::path(&group), &leave).await;
    acme.get("/Schemas").await;
    acme.delete(&path).await;
    acme.delete(&path).await;
    acme.bulk(&json!([
        {"method": "POST", "path": "/Users", "bulkId": "a", "data": {"userName": "a"}},
        {"method": "POST", "path": "/Users", "bulkId": "b", "data": {"userName": "a"}},
        {"method": "POST", "path": "/Users", "bulkId": "c", "data": {"userName": "c"}},
    ]))
    .await;

    let what = ["operation", "resourceType", "display", "status"];
    let mut expected = rows(json!([
        ["create", "User", "bjensen", 201],
        ["get", "User", "bjensen", 200],
        ["patch", "User", "bjensen", 200],
        ["patch", "User", "bjensen", 200],
        ["query", "User", null, 200],
        ["query", "User", null, 400],
        ["create", "User", null, 409],
        ["create", "Group", "Staff", 201],
        ["patch", "Group", "Staff", 200],
        ["patch", "Group", "Staff", 200],
        ["discovery", null, null, 200],
        ["delete", "User", null, 204],
        ["delete", "User", null, 404],
        ["bulk", null, null, 200],
    ]));
    expected.reverse();
    assert_eq!(shown(&admin, "", &what).await, expected);

    let done = ["created", "updated", "unchanged", "deleted"];
    let writes = async |operation: &str| {
        let query = format!("?operation={operation}");
        shown(&admin, &query, &done).await
    };
    let patches = json!([[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0], [0, 1, 0, 0]]);
    assert_eq!(writes("patch").await, rows(patches));
    let creates = json!([[1, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]]);
    assert_eq!(writes("create").await, rows(creates));
    assert_eq!(
        writes("delete").await,
        rows(json!([[0, 0, 0, 0], [0, 0, 0, 1]]))
    );
    assert_eq!(writes("bulk").await, rows(json!([[2, 0, 0, 0]])));

    // The request that was refused is found by the id that its client was told.
    let request_id = refused.header("x-request-id").unwrap();
    let found = admin
        .get(&format!("/activity?requestId={request_id}"))
        .await;
    let found = &found["activity"][0];
    assert_eq!(found["outcome"], "failed");
    assert_eq!(found["scimType"], "invalidFilter");
    assert_eq!(found["detail"], refused.json()["detail"]);
    assert_eq!(found["filterShape"], "userName eq");
    assert_eq!(found["tokenId"], json!(acme.token.id));
    let number = found["number"].as_str().unwrap();
    assert_eq!(admin.get(&format!("/activity/{number}")).await, *found);

    let filters = shown(
        &admin,
        "?operation=query&outcome=ok",
        &["filter", "filterShape"],
    )
    .await;
    let expected = json!([["userName eq \"bjensen\"", "userName eq ?"]]);
    assert_eq!(filters, rows(expected));
    let of_one = shown(&admin, &format!("?resourceId={id}"), &["operation"]).await;
    assert_eq!(of_one.len(), 6);
    let failed = shown(&admin, "?outcome=failed", &["status"]).await;
    assert_eq!(failed, rows(json!([[404], [409], [400]])));

    // Page after page, each once.
    let all = admin.get("/activity").await["activity"].clone();
    let (mut cursor, mut paged) = (String::new(), Vec::new());
    loop {
        let page = admin.get(&format!("/activity?count=4{cursor}")).await;
        paged.extend(page["activity"].as_array().unwrap().iter().cloned());
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(Value::from(paged), all);

    // The administrator's own calls are none of the provisioning, and nobody else sees any of it.
    assert_eq!(shown(&admin, "", &what).await.len(), 14);
    let umbrella = world.tenant("umbrella", "us").await;
    let other = Admin::of(&world, &umbrella).await;
    assert!(shown(&other, "", &what).await.is_empty());
    assert_eq!(other.ask(&format!("/activity/{number}")).await.status, 404);
}

#[tokio::test]
async fn what_is_asked_of_activity_is_checked() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    let admin = Admin::of(&world, &acme).await;
    for (query, says) in [
        ("client=nobody", "client"),
        ("outcome=maybe", "outcome"),
        ("operation=merge", "operation"),
        ("resourceId=x", "resourceId"),
        ("from=yesterday", "from"),
        ("to=2026", "to"),
        ("cursor=x", "cursor"),
        ("count=-1", "count"),
        ("colour=blue", "cursor"),
    ] {
        let answer = admin.ask(&format!("/activity?{query}")).await;
        let detail = answer.scim_error(400, Some("invalidValue"));
        assert!(detail.contains(says), "{query}: {detail}");
    }
    for path in [
        "/activity/0",
        "/activity/x",
        "/activity/9223372036854775807",
    ] {
        admin.ask(path).await.scim_error(404, None);
    }
    let answer = admin.send(Method::POST, "/activity", &json!({})).await;
    assert_eq!(answer.status, 405);
    // A provisioning token sees none of it.
    let url = acme.region.base_url.replace("/scim", "/admin/activity");
    let request = acme.region.client.get(url).bearer_auth(&acme.token.secret);
    Answer::of(request).await.scim_error(403, None);
}

async fn creates(tenant: &Tenant, names: std::ops::Range<u32>) {
    for name in names {
        tenant
            .create_user(json!({"userName": format!("u{name}")}))
            .await;
    }
}

#[tokio::test]
async fn a_stop_loses_nothing_and_a_sudden_end_is_told() {
    let mut world = World::on(Store::File);
    let acme = world.tenant("acme", "us").await;
    let admin = Admin::of(&world, &acme).await;
    creates(&acme, 0..20).await;
    assert!(world.stop().success());
    world.restart();
    let (acme, admin) = (acme.in_world(&world), admin.in_world(&world));
    let page = admin.get("/activity").await;
    assert_eq!(page["activity"].as_array().unwrap().len(), 20);
    assert_eq!(page["gaps"], json!([]));

    creates(&acme, 20..30).await;
    world.kill_and_restart();
    let admin = admin.in_world(&world);
    let page = admin.get("/activity").await;
    let kept = page["activity"].as_array().unwrap().len();
    assert!((20..=30).contains(&kept), "{kept}");
    let gaps = page["gaps"].as_array().unwrap();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!(gaps[0]["reason"], "ended");
    assert_eq!(gaps[0]["lost"], Value::Null);
}

/// The recorded conversations of a folder.
fn conversations(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("data")
        .join(folder);
    let files = folder.read_dir().unwrap();
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

#[tokio::test]
async fn clients_are_recognised_and_their_cycles_counted() {
    let world = World::start();
    let folders = [
        ("okta", "okta"),
        ("entra", "entra"),
        ("pingone", "pingone"),
        ("onelogin", "onelogin"),
        ("jumpcloud", "jumpcloud"),
        ("authentik", "authentik"),
        ("rfc7644", "other"),
    ];
    let mut talks: Vec<(PathBuf, &str)> = folders
        .iter()
        .flat_map(|(folder, client)| {
            conversations(folder)
                .into_iter()
                .map(|file| (file, *client))
        })
        .collect();
    let of_11 = ["okta", "pingone", "onelogin", "other"];
    talks.extend(conversations("scim11").into_iter().zip(of_11));
    for (file, client) in talks {
        let name = file.display();
        let tenant = world.tenant("replay", "us").await;
        let admin = Admin::of(&world, &tenant).await;
        let talk = Conversation::read(&file);
        talk.replay(&tenant).await.unwrap();
        let cycles = admin.get("/activity/cycles").await["cycles"].clone();
        assert_eq!(cycles.as_array().unwrap().len(), 1, "{name}: {cycles}");
        let cycle = &cycles[0];
        let count = |name: &str| usize::try_from(cycle[name].as_u64().unwrap()).unwrap();
        let done = Work {
            requests: count("requests"),
            failed: count("failed"),
            created: count("created"),
            written: count("updated") + count("unchanged"),
            deleted: count("deleted"),
        };
        assert_eq!(done, talk.work(), "{name}");
        assert_eq!(cycle["client"], client, "{name}");
        let overview = admin.get("/activity/overview").await;
        assert_eq!(overview["clients"][0]["client"], client, "{name}");
        assert_eq!(overview["clients"][0]["alarm"], Value::Null, "{name}");
        let today = overview["hours"].as_array().unwrap().iter();
        let requests: u64 = today.map(|hour| hour["requests"].as_u64().unwrap()).sum();
        assert_eq!(requests, talk.work().requests as u64, "{name}");
        let by_client = admin
            .get(&format!("/activity?client={client}&count=1000"))
            .await;
        let by_client = by_client["activity"].as_array().unwrap().len();
        assert_eq!(by_client, talk.work().requests, "{name}");
    }
}

/// What was tolerated of a conversation, each once: name and subject.
async fn tolerated(world: &World, conversation: &str) -> Vec<String> {
    let tenant = world.tenant("replay", "us").await;
    let admin = Admin::of(world, &tenant).await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
    let talk = Conversation::read(&folder.join(conversation));
    talk.replay(&tenant).await.unwrap();
    let page = admin.get("/activity?count=1000").await;
    let notes = page["activity"].as_array().unwrap().iter();
    let notes = notes.flat_map(|entry| entry["tolerated"].as_array().unwrap().clone());
    let all: BTreeSet<String> = notes
        .map(|note| {
            let text = |name: &str| note[name].as_str().unwrap().to_owned();
            assert!(text("sentence").ends_with('.'), "{note}");
            format!("{} {}", text("code"), text("subject"))
        })
        .collect();
    all.into_iter().collect()
}

#[tokio::test]
async fn what_was_tolerated_is_listed() {
    let world = World::start();
    for (conversation, expected) in [
        (
            "rfc7644/3.3-create.http",
            &["readOnly id", "timeZoneDefault "][..],
        ),
        (
            "okta/02-create-and-update-by-put.http",
            &[
                "password ",
                "readOnly groups",
                "readOnly id",
                "readOnly meta",
                "timeZoneDefault ",
            ],
        ),
        (
            "entra/03-default-dialect.http",
            &[
                "blank title",
                "elementMade addresses[type eq \"work\"].streetAddress",
                "elementMade emails[type eq \"other\"].value",
                "elementMade emails[type eq \"work\"].value",
                "elementMade phoneNumbers[type eq \"mobile\"].value",
                "elementMade roles[primary eq true].display",
                "listForOne displayName",
                "noOperations ",
                "operationCase Add",
                "operationCase Remove",
                "operationCase Replace",
                "textFalse active",
                "textTrue active",
                "timeZoneDefault ",
            ],
        ),
        (
            "pingone/01-matching.http",
            &[
                "alias email",
                "alias workEmail",
                "bareLiteral ",
                "timeZoneDefault ",
            ],
        ),
        (
            "onelogin/01-oddities.http",
            &["oneForList emails", "timeZoneDefault "],
        ),
        (
            "authentik/01-oddities.http",
            &[
                "bareLiteral ",
                "noSchemas ",
                "timeZoneDefault ",
                "unknownAttribute favouriteColour",
                "unknownSchema urn:example:custom:1.0",
            ],
        ),
        (
            "scim11/02-pingone.http",
            &["readOnly id", "scim11Body ", "timeZoneDefault "],
        ),
    ] {
        assert_eq!(
            tolerated(&world, conversation).await,
            expected,
            "{conversation}"
        );
    }
}

/// Asks the doctor until it has found all that is expected. Gateways tell a moment later.
async fn findings(admin: &Admin, expected: &[&str]) -> Vec<Value> {
    let patience = Instant::now();
    loop {
        let answer = admin.ask("/doctor").await;
        let findings = match answer.status {
            // The tenant asks for too much.
            429 => Vec::new(),
            _ => answer.json()["findings"].as_array().unwrap().clone(),
        };
        let is_found = |kind: &&str| findings.iter().any(|finding| finding["kind"] == **kind);
        if expected.iter().all(is_found) {
            return findings;
        }
        assert!(
            patience.elapsed() < Duration::from_secs(5),
            "{expected:?}: {findings:?}"
        );
    }
}

async fn ask(world: &World, region: &str, token: &Token, path: &str) -> Answer {
    let region = world.region(region);
    region.get_as(&token.secret, path).await
}

#[tokio::test]
async fn each_mistake_in_a_set_up_is_found_and_has_its_sentence() {
    let world = World::with_regions(&["us", "de"]);
    let limits = r#"{"user_name":"email","groups":"off","limits":{"requests_per_s":25,"burst":200,"in_flight":100}}"#;
    let acme = world.tenant_with("acme", "us", limits).await;
    let umbrella = world.tenant("umbrella", "us").await;
    let admin = Admin::of(&world, &acme).await;
    let other = Admin::of(&world, &umbrella).await;
    let token = async |body: Value| world.token("us", &acme.id, body).await;
    let say = async |request: reqwest::RequestBuilder| Answer::of(request).await.status;
    let operate = async |path: String| {
        world
            .operator("us", Method::POST, &path, Some(json!({})))
            .await
    };

    // What the region-node refuses, or has to drop.
    let user = json!({"userName": "b@example.com", "shoeSize": 44, "urn:acme:hr": {"badge": 1}});
    let made = acme.post("/Users", &user).await.json();
    let statuses = [
        acme.post("/Users", &json!({"userName": "B@example.com"}))
            .await
            .status,
        acme.post("/Users", &json!({"userName": "bjensen"}))
            .await
            .status,
        acme.post("/Users", &json!({"displayName": "B"}))
            .await
            .status,
        acme.post("/Groups", &json!({"displayName": "Staff"}))
            .await
            .status,
        acme.query("mail eq \"b@example.com\"").await.status,
        acme.query("userName is b").await.status,
        acme.patch(
            "/Users/0b5bf3c5-58ae-4b1d-8f4b-8e9b2e6e0a11",
            &patch(&json!([])),
        )
        .await
        .status,
        acme.patch(
            &support::path(&made),
            &patch(&json!([{"op": "replace", "path": "active", "value": "maybe"}])),
        )
        .await
        .status,
        acme.patch(
            &support::path(&made),
            &patch(&json!([{"op": "replace", "path": "id", "value": "x"}])),
        )
        .await
        .status,
        acme.send(Method::POST, "/Users", "no JSON").await.status,
        say(acme
            .request(Method::POST, "/Users")
            .header("content-type", "text/xml")
            .body("<x/>"))
        .await,
        acme.post(
            "/Users",
            &json!({"schemas": ["urn:scim:schemas:core:1.0"], "userName": "c@example.com"}),
        )
        .await
        .status,
    ];
    let expected = [409, 400, 400, 501, 400, 400, 404, 400, 400, 400, 415, 201];
    assert_eq!(statuses, expected);

    // What the gateway refuses.
    assert_eq!(ask(&world, "de", &acme.token, "/Users").await.status, 401);
    assert_eq!(
        ask(&world, "us", &acme.token, "/v3/Users").await.status,
        404
    );
    assert_eq!(
        ask(&world, "us", &acme.token, "/ServiceProviderConfigs")
            .await
            .status,
        404
    );
    assert_eq!(ask(&world, "us", &admin.token, "/Users").await.status, 403);
    assert_eq!(acme.send(Method::PATCH, "/Users", "{}").await.status, 405);
    let url = acme.region.base_url.replace("/scim", "/admin/activity");
    let as_admin = acme.region.client.get(url).bearer_auth(&acme.token.secret);
    assert_eq!(say(as_admin).await, 403);
    let elsewhere = token(json!({"networks": ["203.0.113.0/24"]})).await;
    assert_eq!(ask(&world, "us", &elsewhere, "/Users").await.status, 403);
    let packed = acme
        .request(Method::POST, "/Users")
        .header("content-encoding", "gzip");
    assert_eq!(say(packed.body("x")).await, 415);
    let revoked = token(json!({})).await;
    operate(format!("/tokens/{}/revoke", revoked.id)).await;
    assert_eq!(ask(&world, "us", &revoked, "/Users").await.status, 401);
    let short = token(json!({"expires_s": 1})).await;
    support::eventually(401, || ask(&world, "us", &short, "/Users")).await;
    let url = acme
        .region
        .base_url
        .replace("/api/v1/scim", "/oauth2/token");
    let form = format!(
        "grant_type=client_credentials&client_id={}&client_secret={}",
        revoked.id, acme.token.secret
    );
    let form = acme.region.client.post(url).body(form);
    let form = form.header("content-type", "application/x-www-form-urlencoded");
    assert_eq!(say(form).await, 401);
    operate(format!("/tenants/{}/suspend", acme.id)).await;
    support::eventually(403, || acme.get("/Users")).await;
    operate(format!("/tenants/{}/resume", acme.id)).await;
    support::eventually(200, || acme.get("/Users")).await;
    support::eventually(429, || acme.get("/Users")).await;

    let kinds = [
        "valueTaken",
        "userNameNotEmail",
        "missingAttribute",
        "groupsOff",
        "unknownFilterAttribute",
        "filter",
        "unknownResource",
        "invalidValue",
        "readOnly",
        "invalidSyntax",
        "mediaType",
        "scim11Body",
        "unknownAttribute",
        "unknownSchema",
        "wrongRegion",
        "unknownPath",
        "scim11Path",
        "adminTokenForProvisioning",
        "provisioningTokenForAdministration",
        "wrongMethod",
        "networkRefused",
        "compressedBody",
        "revokedToken",
        "expiredToken",
        "clientId",
        "tenantSuspended",
        "tooManyRequests",
    ];
    let found = findings(&admin, &kinds).await;
    let each = |member: &str| -> BTreeSet<&str> {
        let texts = found.iter().map(|finding| finding[member].as_str());
        texts.map(Option::unwrap).collect()
    };
    assert_eq!(each("kind"), BTreeSet::from(kinds));
    assert_eq!(each("sentence").len(), kinds.len());
    let of = |kind: &str| {
        found
            .iter()
            .find(|finding| finding["kind"] == kind)
            .unwrap()
    };
    let base_url = &acme.region.base_url;
    let wrong_region = of("wrongRegion")["sentence"].as_str().unwrap();
    assert!(wrong_region.contains("'de'") && wrong_region.ends_with(base_url.as_str()));
    let path = of("unknownPath")["sentence"].as_str().unwrap();
    assert!(path.contains(&format!("{base_url} with nothing")), "{path}");
    assert_eq!(of("unknownAttribute")["subject"], "shoeSize");
    assert_eq!(of("unknownSchema")["subject"], "urn:acme:hr");
    assert_eq!(of("valueTaken")["subject"], "userName");
    assert_eq!(of("revokedToken")["tokenId"], json!(revoked.id));
    assert_eq!(of("networkRefused")["times"], 1);
    assert_eq!(of("wrongMethod")["route"], "PATCH Users");

    // Nothing of it is anybody else's business.
    assert_eq!(other.get("/doctor").await["findings"], json!([]));
}
