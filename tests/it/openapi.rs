//! The description of the admin API, held against its routes and against what they answer.

use std::collections::{BTreeMap, BTreeSet};

use gateway::routes::admin_endpoints;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::admin::Admin;
use crate::support::{Answer, World, id, patch};

/// The document, and which of its operations have been held against an answer.
struct Description {
    document: Value,
    seen: BTreeSet<String>,
}

impl Description {
    /// Sends a call and checks that its answer is as described.
    async fn hold(
        &mut self,
        admin: &Admin,
        method: Method,
        template: &str,
        path: &str,
        body: &Value,
    ) -> Answer {
        let answer = match method {
            Method::GET => admin.ask(path).await,
            _ => admin.send(method.clone(), path, body).await,
        };
        let verb = method.as_str().to_lowercase();
        let operation = &self.document["paths"][template][&verb];
        assert!(
            operation.is_object(),
            "{method} {template} is not described"
        );
        let status = answer.status.to_string();
        let described = match operation["responses"].get(&status) {
            Some(described) => {
                self.seen.insert(format!("{method} {template}"));
                described
            }
            None => {
                assert!(answer.status >= 400, "{method} {path}: {answer:?}");
                &self.document["components"]["responses"]["Error"]
            }
        };
        let Some(content) = described.get("content") else {
            assert!(answer.body.is_empty(), "{method} {path}: {answer:?}");
            return answer;
        };
        let media_type = answer.header("content-type").unwrap_or_default();
        let schema = &content[media_type]["schema"];
        assert!(
            schema.is_object(),
            "{method} {path}: {media_type} is not described"
        );
        if media_type.ends_with("json") {
            self.check(schema, &answer.json(), &format!("{method} {path}"));
        }
        answer
    }

    /// Checks a value against a schema of the document.
    fn check(&self, schema: &Value, value: &Value, of: &str) {
        // Where the schema refers to, beside it.
        let schema = json!({ "allOf": [schema], "components": self.document["components"] });
        let validator = jsonschema::validator_for(&schema).unwrap();
        let errors: Vec<String> = validator
            .iter_errors(value)
            .map(|error| format!("{} at {}", error, error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{of}: {errors:?} in {value}");
    }
}

#[tokio::test]
async fn what_is_described_is_what_is_there() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    let admin = Admin::of(&world, &acme).await;
    let document = admin.get("/openapi.json").await;
    assert_eq!(document["openapi"], "3.1.0");
    let described: BTreeMap<String, BTreeSet<String>> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(path, item)| {
            let item = item.as_object().unwrap();
            let methods = item.keys().filter(|key| *key != "parameters");
            (
                path.clone(),
                methods.map(|key| key.to_uppercase()).collect(),
            )
        })
        .collect();
    let offered: BTreeMap<String, BTreeSet<String>> = admin_endpoints()
        .iter()
        .map(|endpoint| {
            let methods = endpoint.methods.iter().map(ToString::to_string);
            // HEAD goes with GET, and needs no words.
            let methods = methods.filter(|name| name != "HEAD").collect();
            (format!("/{}", endpoint.template), methods)
        })
        .collect();
    assert_eq!(described, offered);
}

#[tokio::test]
async fn answers_are_as_described() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    let admin = Admin::of(&world, &acme).await;
    let document = admin.get("/openapi.json").await;
    let seen = BTreeSet::new();
    let mut description = Description { document, seen };
    let user = json!({ "userName": "ann@example.com", "displayName": "Ann", "externalId": "a" });
    let user = acme.create_user(user).await;
    let group = json!({ "displayName": "Team", "members": [{ "value": id(&user) }] });
    let group = acme.create_group(group).await;
    let change = patch(&json!([{ "op": "replace", "path": "title", "value": "Countess" }]));
    acme.patch(&format!("/Users/{}", id(&user)), &change).await;
    acme.get("/Users?filter=unknown+eq+1").await;

    let activity = admin.get("/activity").await;
    let number = activity["activity"][0]["number"]
        .as_str()
        .unwrap()
        .to_owned();

    let (get, post) = (Method::GET, Method::POST);
    let none = json!({});
    let made = json!({ "name": "Okta", "expiresInDays": 90, "networks": ["127.0.0.0/8"] });
    let made = description
        .hold(&admin, post.clone(), "/tokens", "/tokens", &made)
        .await;
    let made = made.json();
    // Nobody is there: what it does not take is described too.
    let webhook = json!({ "url": "http://127.0.0.1:9/", "description": "HR" });
    let webhook = description
        .hold(&admin, post.clone(), "/webhooks", "/webhooks", &webhook)
        .await;
    let webhook = webhook.json();
    let receiver = json!({ "kind": "set-poll", "audience": "hr" });
    let receiver = description
        .hold(&admin, post.clone(), "/webhooks", "/webhooks", &receiver)
        .await;
    let receiver = receiver.json();
    acme.create_user(json!({ "userName": "bob@example.com" }))
        .await;
    let renamed = json!({ "description": "Payroll" });
    let urn = "urn:acme:params:scim:schemas:extension:staff:2.0:User";
    let schema = json!({
        "resourceType": "User",
        "schema": { "id": urn, "name": "Staff", "attributes": [{ "name": "badge", "type": "string" }] },
    });
    let settings = json!({ "userName": "email" });
    for (method, template, value, body) in [
        (post.clone(), "/schemas", "", &schema),
        (get.clone(), "/schemas", "", &none),
        (Method::DELETE, "/schemas/{urn}", urn, &none),
        (Method::DELETE, "/schemas/{urn}", urn, &none),
        (get.clone(), "/tokens", "", &none),
        (get.clone(), "/tokens/{id}", id(&made), &none),
        (get.clone(), "/tokens/{id}", "tok_x", &none),
        (post.clone(), "/tokens/{id}/rotate", id(&made), &none),
        (post.clone(), "/tokens/{id}/revoke", id(&made), &none),
        (get.clone(), "/tokens", "", &none),
        (get.clone(), "/settings", "", &none),
        (Method::PATCH, "/settings", "", &settings),
        (Method::PATCH, "/settings", "", &schema),
        (get.clone(), "/users", "", &none),
        (get.clone(), "/users/{id}", id(&user), &none),
        (get.clone(), "/users/{id}", "x", &none),
        (get.clone(), "/users/{id}/history", id(&user), &none),
        (get.clone(), "/groups", "", &none),
        (get.clone(), "/groups/{id}", id(&group), &none),
        (get.clone(), "/groups/{id}/history", id(&group), &none),
        (get.clone(), "/groups/{id}/members", id(&group), &none),
        (get.clone(), "/activity", "", &none),
        (get.clone(), "/doctor", "", &none),
        (get.clone(), "/activity/cycles", "", &none),
        (get.clone(), "/activity/overview", "", &none),
        (get.clone(), "/activity/{id}", &number, &none),
        (get.clone(), "/activity/{id}", "1", &none),
        (get.clone(), "/export", "", &none),
        (get.clone(), "/audit", "", &none),
        (get.clone(), "/audit/verify", "", &none),
        (get.clone(), "/events", "", &none),
        (get.clone(), "/events/jwks", "", &none),
        (get.clone(), "/webhooks", "", &none),
        (get.clone(), "/webhooks/{id}", id(&webhook), &none),
        (Method::PATCH, "/webhooks/{id}", id(&webhook), &renamed),
        (post.clone(), "/webhooks/{id}/test", id(&webhook), &none),
        (post.clone(), "/webhooks/{id}/poll", id(&receiver), &none),
        (
            get.clone(),
            "/webhooks/{id}/dead-letters",
            id(&webhook),
            &none,
        ),
        (post.clone(), "/webhooks/{id}/rotate", id(&webhook), &none),
        (post.clone(), "/webhooks/{id}/replay", id(&webhook), &none),
        (post.clone(), "/webhooks/{id}/pause", id(&webhook), &none),
        (post.clone(), "/webhooks/{id}/resume", id(&webhook), &none),
        (Method::DELETE, "/webhooks/{id}", id(&webhook), &none),
        (Method::DELETE, "/webhooks/{id}", id(&webhook), &none),
        (get.clone(), "/openapi.json", "", &none),
    ] {
        let path = template.replace("{id}", value).replace("{urn}", value);
        description
            .hold(&admin, method, template, &path, body)
            .await;
    }
    let page = description
        .hold(&admin, get, "/users", "/users?count=1&search=a", &none)
        .await;
    assert_eq!(page.json()["total"], 1);

    let paths = description.document["paths"].as_object().unwrap();
    let all: BTreeSet<String> = paths
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().keys();
            let methods = methods.filter(|key| *key != "parameters");
            methods.map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect();
    let missing: Vec<&String> = all.difference(&description.seen).collect();
    assert!(missing.is_empty(), "nobody has looked at {missing:?}");
}
