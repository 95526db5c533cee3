//! The audit: every write is in it, and whoever meddles with it in the store is found out.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Tenant, Token, World, patch, path};

/// A call of the tenant admin's API.
async fn admin(tenant: &Tenant, token: &Token, path: &str) -> Answer {
    let base = tenant
        .region
        .base_url
        .replace("/api/v1/scim", "/api/v1/admin");
    let request = tenant
        .region
        .client
        .request(Method::GET, format!("{base}{path}"))
        .header("authorization", format!("Bearer {}", token.secret));
    Answer::of(request).await
}

fn kinds(page: &Value) -> Vec<&str> {
    let records = page["records"].as_array().unwrap();
    records
        .iter()
        .map(|it| it["kind"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn the_admin_reads_who_did_what_and_no_values() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    let other = world.tenant("other", "us").await;
    let token = world
        .token("us", &acme.id, json!({ "scope": "admin" }))
        .await;
    let user = acme
        .create_user(json!({ "userName": "canary-bjensen", "title": "canary-title" }))
        .await;
    other.create_user(json!({ "userName": "other" })).await;
    let change = patch(&json!([{ "op": "replace", "path": "title", "value": "canary-boss" }]));
    let request = acme
        .request(Method::PATCH, &path(&user))
        .header("content-type", "application/scim+json")
        .header("x-request-id", "req-of-the-test")
        .body(change.to_string());
    let answer = Answer::of(request).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let request_id = answer.header("x-request-id").unwrap().to_owned();
    acme.delete(&path(&user)).await;

    let id = user["id"].as_str().unwrap();
    let of_user = admin(&acme, &token, &format!("/audit?resourceId={id}")).await;
    assert_eq!(of_user.status, 200, "{of_user:?}");
    let page = of_user.json();
    assert_eq!(
        kinds(&page),
        ["resource.deleted", "resource.changed", "resource.created"]
    );
    let changed = &page["records"][1];
    assert_eq!(changed["actor"], json!(acme.token.id));
    assert_eq!(changed["requestId"], json!(request_id));
    assert_eq!(changed["subject"], json!(format!("User/{id}")));
    assert_eq!(changed["names"], json!(["title"]));
    let all = admin(&acme, &token, "/audit").await;
    assert!(
        !String::from_utf8(all.body.clone())
            .unwrap()
            .contains("canary")
    );
    let tokens = admin(&acme, &token, "/audit?kind=token.created")
        .await
        .json();
    assert_eq!(kinds(&tokens), ["token.created", "token.created"]);
    let by_client = format!("/audit?kind=resource&actor={}", acme.token.id);
    assert_eq!(
        kinds(&admin(&acme, &token, &by_client).await.json()).len(),
        3
    );

    // Page by page it is the same.
    let (mut numbers, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = admin(&acme, &token, &format!("/audit?limit=2{cursor}"))
            .await
            .json();
        let records = page["records"].as_array().unwrap().clone();
        numbers.extend(records.iter().map(|it| it["number"].as_i64().unwrap()));
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let newest = numbers[0];
    assert_eq!(numbers, (1..=newest).rev().collect::<Vec<_>>());

    let verified = admin(&acme, &token, "/audit/verify").await.json();
    assert_eq!(verified["whole"], json!(true));
    assert!(verified["last"].as_i64().unwrap() >= newest);
    admin(&acme, &token, "/audit?kinds=x")
        .await
        .scim_error(400, Some("invalidValue"));
    let wrong_scope = admin(&acme, &acme.token, "/audit").await;
    assert_eq!(wrong_scope.status, 403);
}

#[tokio::test]
async fn what_is_altered_removed_moved_or_cut_off_is_found() {
    let mut world = World::restartable(&["us"], "info");
    let acme = world.tenant("acme", "us").await;
    for number in 0..5 {
        acme.create_user(json!({ "userName": format!("u{number}") }))
            .await;
    }
    let find = |world: &World| {
        let output = world.try_meridian(&["audit", "verify", "--tenant", &acme.id]);
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        let damage = found["chains"][0]["damage"].clone();
        assert_eq!(output.status.success(), damage.is_null(), "{output:?}");
        damage
    };
    assert_eq!(find(&world), Value::Null);
    let of_acme = format!("(SELECT tenant FROM tenant WHERE id = '{}')", acme.id);
    let at = |number: u32| format!("tenant = {of_acme} AND number = {number}");
    // Each with what undoes it.
    let keep = "CREATE TABLE kept AS SELECT * FROM audit".to_owned();
    let undo = "DELETE FROM audit; INSERT INTO audit SELECT * FROM kept".to_owned();
    world.stop();
    world.meddle(&keep);
    for (meddling, record, what) in [
        // One letter of a name, of an actor, of a hash.
        (
            format!("UPDATE audit SET kind = 'resource.deleted' WHERE {}", at(4)),
            4,
            "altered",
        ),
        (
            format!("UPDATE audit SET actor = 'operator' WHERE {}", at(5)),
            5,
            "altered",
        ),
        (
            format!("UPDATE audit SET at = at + 1 WHERE {}", at(1)),
            1,
            "altered",
        ),
        (
            format!(
                "UPDATE audit SET hash = (SELECT hash FROM kept WHERE {}) WHERE {}",
                at(2),
                at(3)
            ),
            3,
            "altered",
        ),
        (format!("DELETE FROM audit WHERE {}", at(1)), 1, "missing"),
        (format!("DELETE FROM audit WHERE {}", at(4)), 4, "missing"),
        // Two that change places.
        (
            format!(
                "UPDATE audit SET number = 100 WHERE {};
                 UPDATE audit SET number = 3 WHERE {};
                 UPDATE audit SET number = 4 WHERE {}",
                at(3),
                at(4),
                at(100)
            ),
            3,
            "altered",
        ),
        // One in between, and all behind it a place further.
        (
            format!(
                "UPDATE audit SET number = number + 100 WHERE tenant = {of_acme} AND number > 3;
                 UPDATE audit SET number = number - 99 WHERE tenant = {of_acme} AND number > 100;
                 INSERT INTO audit SELECT tenant, 4, at, kind, actor, request, subject, names, hash
                   FROM audit WHERE {}",
                at(3)
            ),
            4,
            "altered",
        ),
        (
            format!("DELETE FROM audit WHERE tenant = {of_acme} AND number > 5"),
            6,
            "cut_off",
        ),
    ] {
        world.meddle(&meddling);
        world.restart();
        assert_eq!(
            find(&world),
            json!({ "record": record, "what": what }),
            "{meddling}"
        );
        world.stop();
        world.meddle(&undo);
    }
    world.restart();
    assert_eq!(find(&world), Value::Null);
}
