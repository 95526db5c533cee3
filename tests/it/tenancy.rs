//! Two tenants cannot see each other: everything of the other one answers exactly as if it had
//! never been.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Tenant, World, eventually};

/// What two answers must have in common to be told apart by nobody: all but the headers that
/// differ between any two answers.
fn shape(answer: &Answer) -> (u16, Vec<(String, String)>, String) {
    let mut headers: Vec<(String, String)> = answer
        .headers
        .iter()
        .filter(|(name, _)| !["date", "x-request-id"].contains(&name.as_str()))
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    headers.sort();
    (
        answer.status,
        headers,
        String::from_utf8(answer.body.clone()).unwrap(),
    )
}

async fn every_way_of_asking(tenant: &Tenant, id: &str) -> Vec<(String, Answer)> {
    let patch = json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
        "Operations": [{ "op": "replace", "path": "active", "value": false }]
    })
    .to_string();
    let put = json!({ "userName": "taken-over" }).to_string();
    let url = format!("/Users/{id}");
    let mut answers = Vec::new();
    for (method, body) in [
        (Method::GET, ""),
        (Method::PUT, put.as_str()),
        (Method::PATCH, patch.as_str()),
        (Method::DELETE, ""),
    ] {
        answers.push((
            method.to_string(),
            tenant.send(method.clone(), &url, body).await,
        ));
        // A precondition must not tell more: 404 comes before 412 and 304.
        let request = tenant
            .request(method.clone(), &url)
            .header("if-match", "W/\"1\"")
            .header("content-type", "application/scim+json")
            .body(body.to_owned());
        answers.push((format!("{method} If-Match"), Answer::of(request).await));
    }
    let projected = tenant.get(&format!("{url}?attributes=userName")).await;
    answers.push(("GET attributes".to_owned(), projected));
    answers
}

#[tokio::test]
async fn another_tenants_id_answers_as_one_that_never_was() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    let umbrella = world.tenant("umbrella", "us").await;
    let user = acme
        .create_user(json!({ "userName": "bjensen", "title": "Guide" }))
        .await;
    let theirs = user["id"].as_str().unwrap();
    let nobodys = "3f2504e0-4f89-41d3-9a0c-0305e82c3301";

    let about_theirs = every_way_of_asking(&umbrella, theirs).await;
    let about_nobodys = every_way_of_asking(&umbrella, nobodys).await;
    for ((how, theirs), (_, nobodys)) in about_theirs.iter().zip(&about_nobodys) {
        assert_eq!(theirs.status, 404, "{how}: {theirs:?}");
        assert_eq!(shape(theirs), shape(nobodys), "{how}");
    }
    assert_eq!(
        acme.get(&format!("/Users/{theirs}")).await.json(),
        user,
        "untouched"
    );
}

#[tokio::test]
async fn no_filter_and_no_list_reaches_across() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    let umbrella = world.tenant("umbrella", "us").await;
    let user = acme
        .create_user(json!({
            "userName": "bjensen", "externalId": "e1", "displayName": "Barbara",
            "emails": [{ "value": "b@example.com", "type": "work" }]
        }))
        .await;
    umbrella.create_user(json!({ "userName": "own" })).await;
    let id = user["id"].as_str().unwrap();

    for filter in [
        format!("id eq \"{id}\""),
        "userName eq \"bjensen\"".to_owned(),
        "userName sw \"b\"".to_owned(),
        "externalId eq \"e1\"".to_owned(),
        "displayName eq \"Barbara\"".to_owned(),
        "emails.value eq \"b@example.com\"".to_owned(),
        "emails[type eq \"work\"].value eq \"b@example.com\"".to_owned(),
        "userName co \"jens\"".to_owned(),
    ] {
        assert!(umbrella.find(&filter).await.is_empty(), "{filter}");
        assert_eq!(acme.find(&filter).await, ["bjensen"], "{filter}");
    }
    for filter in [
        "userName pr",
        "not (userName eq \"own\") or userName pr",
        "userName eq \"own\" or userName eq \"bjensen\"",
        "active eq true or active eq false",
    ] {
        assert_eq!(umbrella.find(filter).await, ["own"], "{filter}");
    }
    let list = umbrella.get("/Users").await.json();
    assert_eq!(list["totalResults"], json!(1));
}

#[tokio::test]
async fn names_are_unique_in_a_tenant_and_free_in_the_next() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    let umbrella = world.tenant("umbrella", "us").await;
    for tenant in [&acme, &umbrella] {
        tenant
            .create_user(json!({ "userName": "bjensen", "externalId": "e1" }))
            .await;
        let again = tenant
            .post("/Users", &json!({ "userName": "BJENSEN" }))
            .await;
        again.scim_error(409, Some("uniqueness"));
    }
}

#[tokio::test]
async fn one_connection_can_carry_two_tenants() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    let umbrella = world.tenant("umbrella", "us").await;
    acme.create_user(json!({ "userName": "of-acme" })).await;
    umbrella
        .create_user(json!({ "userName": "of-umbrella" }))
        .await;
    // The same client, so the same pooled connection: identity goes by request.
    for _ in 0..50 {
        for (tenant, name) in [(&acme, "of-acme"), (&umbrella, "of-umbrella")] {
            let list: Value = acme
                .region
                .get_as(&tenant.token.secret, "/Users")
                .await
                .json();
            assert_eq!(list["Resources"][0]["userName"], name);
            assert_eq!(list["totalResults"], json!(1));
        }
    }
}

#[tokio::test]
async fn a_suspended_tenant_is_told_so_and_loses_nothing() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    acme.create_user(json!({ "userName": "bjensen" })).await;

    world.meridian(&["tenant", "suspend", &acme.id]);
    acme.get("/Users").await.scim_error(403, None);
    acme.post("/Users", &json!({ "userName": "x" }))
        .await
        .scim_error(403, None);

    world.meridian(&["tenant", "resume", &acme.id]);
    eventually(200, || acme.get("/Users")).await;
    assert_eq!(acme.find("userName pr").await, ["bjensen"]);

    world.meridian(&["tenant", "delete", &acme.id]);
    acme.get("/Users").await.scim_error(401, None);
}

#[tokio::test]
async fn an_admin_token_does_not_provision() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    let admin = world
        .token("us", &acme.id, json!({ "scope": "admin" }))
        .await;
    acme.region
        .get_as(&admin.secret, "/Users")
        .await
        .scim_error(403, None);
}
