//! Discovery: what the service says of itself is complete, and true.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Tenant, World, encode};

const USER: &str = "urn:ietf:params:scim:schemas:core:2.0:User";
const ENTERPRISE: &str = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";

async fn tenant() -> (World, Tenant) {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    (world, acme)
}

#[tokio::test]
async fn the_service_says_what_it_can_do() {
    let (_world, acme) = tenant().await;
    let answer = acme.get("/ServiceProviderConfig").await;
    assert_eq!(answer.status, 200);
    let config = answer.json();
    let schema = "urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig";
    assert_eq!(config["schemas"], json!([schema]));
    for feature in ["patch", "bulk", "filter", "changePassword", "sort", "etag"] {
        assert!(
            config[feature]["supported"].is_boolean(),
            "{feature}: {config}"
        );
    }
    assert_eq!(config["patch"]["supported"], json!(true));
    assert_eq!(config["filter"]["supported"], json!(true));
    assert!(config["filter"]["maxResults"].as_i64().unwrap() >= 100);
    assert!(config["bulk"]["maxOperations"].is_i64() && config["bulk"]["maxPayloadSize"].is_i64());
    let schemes = config["authenticationSchemes"].as_array().unwrap();
    assert!(
        schemes
            .iter()
            .any(|scheme| scheme["type"] == "oauthbearertoken"),
        "{config}"
    );
    for scheme in schemes {
        assert!(
            scheme["name"].is_string() && scheme["description"].is_string(),
            "{scheme}"
        );
    }
    assert_eq!(config["meta"]["resourceType"], "ServiceProviderConfig");
    let location = format!("{}/ServiceProviderConfig", acme.region.base_url);
    assert_eq!(config["meta"]["location"], json!(location));
}

#[tokio::test]
async fn every_entry_of_a_list_is_also_there_by_itself() {
    let (_world, acme) = tenant().await;
    for endpoint in ["/Schemas", "/ResourceTypes"] {
        let list = acme.get(endpoint).await.json();
        let entries = list["Resources"].as_array().unwrap();
        assert_eq!(list["totalResults"], json!(entries.len()));
        for entry in entries {
            let id = entry["id"].as_str().unwrap();
            for id in [id.to_owned(), encode(id)] {
                let single = acme.get(&format!("{endpoint}/{id}")).await;
                assert_eq!(single.status, 200, "{endpoint}/{id}");
                assert_eq!(&single.json(), entry);
            }
            let location = format!("{}{endpoint}/{id}", acme.region.base_url);
            assert_eq!(entry["meta"]["location"], json!(location));
        }
        acme.get(&format!("{endpoint}/nothing"))
            .await
            .scim_error(404, None);
    }
}

#[tokio::test]
async fn users_are_described_with_their_extension() {
    let (_world, acme) = tenant().await;
    let user = acme.get("/ResourceTypes/User").await.json();
    assert_eq!(user["endpoint"], "/Users");
    assert_eq!(user["schema"], USER);
    let extension = json!({ "schema": ENTERPRISE, "required": false });
    assert_eq!(user["schemaExtensions"], json!([extension]));
    let list = acme.get("/Schemas").await.json();
    let ids: BTreeSet<&str> = list["Resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["id"].as_str().unwrap())
        .collect();
    assert!(ids.contains(USER) && ids.contains(ENTERPRISE), "{ids:?}");
}

#[tokio::test]
async fn schemas_write_every_characteristic_out_and_hold_no_nulls() {
    let (_world, acme) = tenant().await;
    let list = acme.get("/Schemas").await.json();
    let mut open: Vec<(String, Value)> = Vec::new();
    for schema in list["Resources"].as_array().unwrap() {
        assert!(schema["name"].is_string() && schema["description"].is_string());
        for attribute in schema["attributes"].as_array().unwrap() {
            open.push((schema["id"].as_str().unwrap().to_owned(), attribute.clone()));
        }
    }
    while let Some((path, attribute)) = open.pop() {
        let path = format!("{path}:{}", attribute["name"]);
        for text in ["name", "type", "description", "mutability", "returned"] {
            assert!(attribute[text].is_string(), "{path} lacks {text}");
        }
        for yes_or_no in ["multiValued", "required"] {
            assert!(
                attribute[yes_or_no].is_boolean(),
                "{path} lacks {yes_or_no}"
            );
        }
        if attribute["type"] == "complex" {
            for sub_attribute in attribute["subAttributes"].as_array().unwrap() {
                open.push((path.clone(), sub_attribute.clone()));
            }
        } else {
            assert!(
                attribute["caseExact"].is_boolean(),
                "{path} lacks caseExact"
            );
            assert!(
                attribute["uniqueness"].is_string(),
                "{path} lacks uniqueness"
            );
        }
        let nulls: Vec<_> = attribute
            .as_object()
            .unwrap()
            .iter()
            .filter(|(_, v)| v.is_null())
            .collect();
        assert!(nulls.is_empty(), "{path}: {nulls:?}");
    }
}

#[tokio::test]
async fn answers_hold_nothing_that_the_schemas_do_not_declare() {
    let (_world, acme) = tenant().await;
    let user = acme
        .create_user(json!({
            "userName": "a", "name": { "givenName": "A" }, "unknown": 1,
            "emails": [{ "value": "a@example.com", "type": "work", "unknown": 1 }],
            ENTERPRISE: { "department": "D", "unknown": 1 }
        }))
        .await;
    let declared = async |urn: &str| {
        let schema = acme.get(&format!("/Schemas/{urn}")).await.json();
        let attributes = schema["attributes"].as_array().unwrap().clone();
        attributes
            .iter()
            .map(|a| a["name"].as_str().unwrap().to_owned())
            .collect::<BTreeSet<_>>()
    };
    let common = ["schemas", "id", "externalId", "meta", ENTERPRISE].map(str::to_owned);
    let core = declared(USER).await;
    for name in user.as_object().unwrap().keys() {
        assert!(
            core.contains(name) || common.contains(name),
            "{name} is not declared"
        );
    }
    assert_eq!(user[ENTERPRISE], json!({ "department": "D" }));
    assert_eq!(
        user["emails"],
        json!([{ "value": "a@example.com", "type": "work" }])
    );
}

#[tokio::test]
async fn discovery_is_for_reading_alone() {
    let (_world, acme) = tenant().await;
    for endpoint in [
        "/ServiceProviderConfig",
        "/Schemas",
        "/ResourceTypes",
        "/ResourceTypes/User",
    ] {
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            acme.send(method, endpoint, "test")
                .await
                .scim_error(405, None);
        }
    }
    // RFC 7644 section 4: a filter on these endpoints is refused.
    for endpoint in ["/ServiceProviderConfig", "/Schemas", "/ResourceTypes"] {
        let answer = acme
            .get(&format!("{endpoint}?filter=name%20eq%20%22User%22"))
            .await;
        answer.scim_error(403, None);
    }
}

#[tokio::test]
async fn what_is_not_offered_says_so() {
    let (_world, acme) = tenant().await;
    for path in ["/Nothing", "/", "/Users/a/b", "/users2"] {
        acme.get(path).await.scim_error(404, None);
    }
    for method in [
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
    ] {
        acme.send(method, "/Me", "{}").await.scim_error(501, None);
    }
    let user = acme.create_user(json!({ "userName": "a" })).await;
    let path = format!("/Users/{}", user["id"].as_str().unwrap());
    acme.send(Method::POST, &path, "{}")
        .await
        .scim_error(405, None);
    acme.send(Method::DELETE, "/Users", "")
        .await
        .scim_error(405, None);
}

#[tokio::test]
async fn discovery_needs_no_credential_but_takes_no_wrong_one() {
    let (_world, acme) = tenant().await;
    for endpoint in ["/ServiceProviderConfig", "/Schemas", "/ResourceTypes"] {
        let wrong = acme.region.get_as("mrd_us_wrong", endpoint).await;
        wrong.scim_error(401, None);
        // RFC 7644 section 4 lets it be open or closed; either way it is no error of ours.
        let none = Answer::of(acme.region.request(Method::GET, endpoint)).await;
        assert!([200, 401].contains(&none.status), "{none:?}");
    }
}
