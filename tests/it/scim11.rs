//! SCIM 1.1 by the token's setting: PingOne has one URL for both versions, and a GET carries no
//! hint of which it means.

use reqwest::Method;
use serde_json::json;

use crate::support::{Tenant, World};

const CORE_1: &str = "urn:scim:schemas:core:1.0";

#[tokio::test]
async fn a_token_that_is_set_to_1_1_is_answered_in_1_1_on_the_main_path() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    let token = world.token("us", &acme.id, json!({"dialect": "1.1"})).await;
    let old = Tenant {
        token,
        ..acme.clone()
    };
    let user = json!({"userName": "b", "urn:scim:schemas:extension:enterprise:1.0": {"manager": {"managerId": "7"}}});
    let created = old.create_user(user).await;
    assert_eq!(created["schemas"][0], json!(CORE_1), "{created}");
    let list = old
        .get("/Users?filter=userName%20eq%20%22b%22")
        .await
        .json();
    assert_eq!(
        (&list["schemas"], &list["totalResults"]),
        (&json!([CORE_1]), &json!(1))
    );
    let manager = &list["Resources"][0]["urn:scim:schemas:extension:enterprise:1.0"]["manager"];
    assert_eq!(manager["managerId"], json!("7"), "{list}");
    let missing = old.get("/Users/00000000-0000-4000-8000-000000000000").await;
    assert_eq!(missing.status, 404);
    assert_eq!(missing.json()["Errors"][0]["code"], json!("404"));

    let path = format!("/Users/{}", created["id"].as_str().unwrap());
    let patch = json!({"schemas": [CORE_1], "active": false}).to_string();
    let request = old
        .request(Method::POST, &path)
        .header("x-http-method-override", "PATCH");
    let request = request
        .header("content-type", "application/json")
        .body(patch);
    assert_eq!(request.send().await.unwrap().status(), 200);
    // The same user in 2.0, at once.
    let shown = acme.get(&path).await.json();
    assert_eq!(shown["active"], json!(false));
    assert!(
        shown["schemas"][0].as_str().unwrap().contains("2.0"),
        "{shown}"
    );
}
