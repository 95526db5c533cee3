//! The operator API and the management listener.

use std::time::Duration;

use region_node::startup::{Application, StartupError};
use reqwest::Method;
use serde_json::{Value, json};
use shared::link::OPERATOR_KEY;

use crate::support::{LINK, Node, answer, settings};

const TENANTS: &str = "/internal/v1/operator/tenants";

#[tokio::test]
async fn only_the_operator_gets_in() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&folder).await;
    let calls = [
        (Method::GET, TENANTS),
        (Method::POST, TENANTS),
        (Method::PUT, TENANTS),
        (Method::DELETE, "/internal/v1/operator/tenants/x"),
        (Method::GET, "/internal/v1/operator/nothing"),
        (Method::GET, "/internal/v1/operator/region"),
        (Method::GET, "/internal/v1/operator/node"),
        (Method::GET, "/internal/v1/operator/backup"),
        (Method::POST, "/internal/v1/operator/restore"),
        (Method::GET, "/internal/v1/operator/tenants/x/export"),
    ];
    for (method, path) in calls {
        let request = || node.request(method.clone(), path);
        let refused = [
            request(),
            request().header(OPERATOR_KEY, ""),
            request().header(OPERATOR_KEY, LINK),
            request().header(shared::link::LINK_KEY, LINK),
            request()
                .header(OPERATOR_KEY, crate::support::OPERATOR)
                .header(OPERATOR_KEY, crate::support::OPERATOR),
        ];
        for request in refused {
            let (status, body) = answer(request).await;
            assert_eq!(status, 401, "{method} {path}");
            assert_eq!(body["status"], "401");
        }
    }
    node.stop().await;
}

#[tokio::test]
async fn a_tenant_is_created_changed_suspended_and_erased() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&folder).await;
    let body = json!({"name": " Acme ", "settings": {"user_name": "email"}});
    let (status, tenant) = node.operator(Method::POST, "/tenants", body).await;
    assert_eq!(status, 201);
    let expected = json!({
        "id": tenant["id"],
        "region": "us",
        "name": "Acme",
        "state": "active",
        "users": 0,
        "groups": 0,
        "settings": {
            "user_name": "email",
            "groups": "on",
            "limits": {"requests_per_s": 100, "burst": 500, "in_flight": 100},
            "extensions": [], "removed_extensions": [],
        },
        "created": "2023-11-14T22:13:20.000Z",
    });
    assert_eq!(tenant, expected);
    let path = format!("/tenants/{}", tenant["id"].as_str().unwrap());

    let (status, read) = node.operator(Method::GET, &path, Value::Null).await;
    assert_eq!((status, read), (200, expected.clone()));
    let (status, listed) = node.operator(Method::GET, "/tenants", Value::Null).await;
    assert_eq!((status, listed), (200, json!({"tenants": [expected]})));

    let action = |name: &str| format!("{path}/{name}");
    let (status, suspended) = node
        .operator(Method::POST, &action("suspend"), Value::Null)
        .await;
    assert_eq!((status, &suspended["state"]), (200, &json!("suspended")));
    let (status, resumed) = node
        .operator(Method::POST, &action("resume"), Value::Null)
        .await;
    assert_eq!((status, &resumed["state"]), (200, &json!("active")));
    let settings = json!({"groups": "off", "limits": {"requests_per_s": 50, "burst": 60}});
    let (status, changed) = node
        .operator(Method::PUT, &action("settings"), settings)
        .await;
    assert_eq!(status, 200);
    let expected = json!({
        "user_name": "any",
        "groups": "off",
        "limits": {"requests_per_s": 50, "burst": 60, "in_flight": 100},
        "extensions": [], "removed_extensions": [],
    });
    assert_eq!(changed["settings"], expected);

    let (status, body) = node.operator(Method::DELETE, &path, Value::Null).await;
    let nothing = json!({
        "tokens": 0, "users": 0, "groups": 0, "members": 0, "index_rows": 0, "changes": 0,
        "outcomes": 0, "activity": 0, "audit": 4,
                "endpoints": 0, "dead_letters": 0,
    });
    let expected = json!({
        "id": tenant["id"], "deleted": true, "erased": nothing, "left": 0,
    });
    assert_eq!((status, body), (200, expected));
    for (method, path) in [
        (Method::GET, path.clone()),
        (Method::DELETE, path.clone()),
        (Method::POST, action("suspend")),
        (Method::POST, action("tokens")),
        (Method::GET, action("tokens")),
        (Method::GET, action("export")),
        (Method::GET, "/tenants/undefined".to_owned()),
        (Method::GET, "/tokens/undefined".to_owned()),
    ] {
        let (status, body) = node.operator(method, &path, Value::Null).await;
        assert_eq!((status, &body["status"]), (404, &json!("404")), "{path}");
    }
    node.stop().await;
}

#[tokio::test]
async fn what_is_not_right_is_refused_with_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&folder).await;
    let tenant = node.tenant().await;
    let settings = format!("/tenants/{tenant}/settings");
    let tokens = format!("/tenants/{tenant}/tokens");
    let cases = [
        (Method::POST, "/tenants", json!({}), "name"),
        (Method::POST, "/tenants", json!({"name": ""}), "name"),
        (Method::POST, "/tenants", json!({"name": "a\u{7}"}), "name"),
        (
            Method::POST,
            "/tenants",
            json!({"name": "a".repeat(201)}),
            "name",
        ),
        (
            Method::POST,
            "/tenants",
            json!({"name": "a", "plan": 1}),
            "plan",
        ),
        (Method::POST, "/tenants", json!([1]), "body"),
        (
            Method::PUT,
            &settings,
            json!({"userName": "email"}),
            "userName",
        ),
        (Method::PUT, &settings, json!({"user_name": "mail"}), "mail"),
        (Method::PUT, &settings, json!({"limits": {"rps": 1}}), "rps"),
        (
            Method::PUT,
            &settings,
            json!({"limits": {"requests_per_s": 24}}),
            "25",
        ),
        (
            Method::PUT,
            &settings,
            json!({"limits": {"in_flight": 0}}),
            "in_flight",
        ),
        (Method::POST, &tokens, json!({"scope": "all"}), "scim"),
        (Method::POST, &tokens, json!({"expires_s": 0}), "expires_s"),
        (
            Method::POST,
            &tokens,
            json!({"expires_s": u64::MAX}),
            "expires_s",
        ),
        (Method::POST, &tokens, json!({"expires_s": -1}), "body"),
        (Method::POST, &tokens, json!({"expires": "1d"}), "expires"),
    ];
    for (method, path, body, names) in cases {
        let (status, answer) = node.operator(method, path, body.clone()).await;
        assert_eq!(status, 400, "{body}");
        let detail = answer["detail"].as_str().unwrap();
        assert!(detail.contains(names), "{body}: {detail}");
    }
    let (status, _) = node
        .operator(
            Method::POST,
            "/tenants",
            json!({"name": "a".repeat(70_000)}),
        )
        .await;
    assert_eq!(status, 413);
    let (status, body) = node.operator(Method::PATCH, "/tenants", Value::Null).await;
    assert_eq!((status, &body["status"]), (405, &json!("405")));
    let (status, _) = node.operator(Method::GET, "/nothing", Value::Null).await;
    assert_eq!(status, 404);
    node.stop().await;
}

#[tokio::test]
async fn a_token_is_shown_once_and_has_a_life() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&folder).await;
    let tenant = node.tenant().await;
    let path = format!("/tenants/{tenant}/tokens");
    let body = json!({"name": "Okta", "expires_s": 1000});
    let (status, created) = node.operator(Method::POST, &path, body).await;
    assert_eq!(status, 201);
    let secret = created["token"].as_str().unwrap().to_owned();
    assert!(secret.starts_with("mrd_us_"));
    let id = created["id"].as_str().unwrap().to_owned();
    let expected = json!({
        "id": id,
        "token": secret,
        "tenant": tenant,
        "name": "Okta",
        "scope": "scim", "dialect": "2.0",
        "created": "2023-11-14T22:13:20.000Z",
        "created_by": "operator",
        "expires": "2023-11-14T22:30:00.000Z",
        "networks": [],
    });
    assert_eq!(created, expected);

    let (_, read) = node
        .operator(Method::GET, &format!("/tokens/{id}"), Value::Null)
        .await;
    assert_eq!(read["state"], "live");
    assert_eq!(read["last_used"], Value::Null);
    assert!(!read.to_string().contains(&secret));
    let (_, listed) = node.operator(Method::GET, &path, Value::Null).await;
    assert_eq!(listed, json!({"tokens": [read]}));

    let rotate = format!("/tokens/{id}/rotate");
    let (status, rotated) = node
        .operator(Method::POST, &rotate, json!({"overlap_s": 60}))
        .await;
    assert_eq!(status, 201);
    assert_ne!(rotated["id"], json!(id));
    assert_eq!(rotated["name"], "Okta");
    assert_eq!(rotated["expires"], "2023-11-14T22:30:00.000Z");
    let (_, before) = node
        .operator(Method::GET, &format!("/tokens/{id}"), Value::Null)
        .await;
    assert_eq!(before["expires"], "2023-11-14T22:14:20.000Z");

    node.clock.advance(Duration::from_secs(60));
    let (_, before) = node
        .operator(Method::GET, &format!("/tokens/{id}"), Value::Null)
        .await;
    assert_eq!(before["state"], "expired");
    let (status, _) = node.operator(Method::POST, &rotate, Value::Null).await;
    assert_eq!(status, 400);

    let revoke = format!("/tokens/{}/revoke", rotated["id"].as_str().unwrap());
    let (status, revoked) = node.operator(Method::POST, &revoke, Value::Null).await;
    assert_eq!((status, &revoked["state"]), (200, &json!("revoked")));
    assert_eq!(revoked["revoked"], "2023-11-14T22:14:20.000Z");
    let unknown = "/tokens/tok_0123456789012345678901/revoke";
    let (status, _) = node.operator(Method::POST, unknown, Value::Null).await;
    assert_eq!(status, 404);
    node.stop().await;
}

#[tokio::test]
async fn a_token_that_is_rotated_twice_is_succeeded_as_it_was_meant() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&folder).await;
    let tenant = node.tenant().await;
    for (body, ends) in [
        (json!({}), Value::Null),
        (
            json!({"expires_s": 1_000_000}),
            json!("2023-11-26T12:00:00.000Z"),
        ),
    ] {
        let (id, _) = node.token(&tenant, body).await;
        let rotate = format!("/tokens/{id}/rotate");
        for overlap_s in [600, 60] {
            let overlap = json!({"overlap_s": overlap_s});
            let (status, successor) = node.operator(Method::POST, &rotate, overlap).await;
            assert_eq!((status, &successor["expires"]), (201, &ends));
            // And so is the successor.
            let again = format!("/tokens/{}/rotate", successor["id"].as_str().unwrap());
            let (_, second) = node.operator(Method::POST, &again, Value::Null).await;
            assert_eq!(second["expires"], ends);
        }
    }
    node.stop().await;
}

#[tokio::test]
async fn a_token_that_is_in_use_and_ends_soon_carries_a_warning() {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&folder).await;
    let tenant = node.tenant().await;
    let body = json!({"expires_s": 100 * DAY.as_secs()});
    let (id, secret) = node.token(&tenant, body).await;
    let (eternal, _) = node.token(&tenant, json!({})).await;
    let read = async |node: &Node, id: &str| {
        let path = format!("/tokens/{id}");
        node.operator(Method::GET, &path, Value::Null).await.1
    };
    let token = read(&node, &eternal).await;
    assert_eq!(token["expires_in_days"], Value::Null);
    node.clock.advance(DAY * 15);
    let token = read(&node, &id).await;
    assert_eq!(token["expires_in_days"], 85);
    assert_eq!(token["warning"], Value::Null, "nobody uses it");

    let grant = node.resolve(&secret).await["grant"].clone();
    let used = node
        .request(Method::GET, "/scim/v2/Me")
        .header(shared::link::LINK_KEY, LINK)
        .header(shared::link::BASE_URL, "http://x/api/v1/scim")
        .bearer_auth(grant.as_str().unwrap());
    assert_eq!(answer(used).await.0, 501);
    // Whatever waits is written before a node ends, and a new one begins at its clock's start.
    node.stop().await;
    let node = Node::start(&folder).await;
    node.clock.advance(DAY * 15);
    let token = read(&node, &id).await;
    let warning = token["warning"].as_str().unwrap();
    assert!(warning.starts_with("ends in 85 days "), "{warning}");
    assert!(warning.ends_with(&id), "{warning}");
    node.clock.advance(DAY * 90);
    let token = read(&node, &id).await;
    let ended = (
        &token["state"],
        &token["expires_in_days"],
        &token["warning"],
    );
    assert_eq!(ended, (&json!("expired"), &Value::Null, &Value::Null));
    node.stop().await;
}

#[tokio::test]
async fn a_tokens_networks_are_kept_and_told_to_gateways() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&folder).await;
    let tenant = node.tenant().await;
    let path = format!("/tenants/{tenant}/tokens");
    let networks = json!(["203.0.113.0/24", "2001:db8::/32"]);
    let (id, secret) = node.token(&tenant, json!({"networks": networks})).await;
    assert_eq!(node.resolve(&secret).await["networks"], networks);
    let (_, listed) = node.operator(Method::GET, &path, Value::Null).await;
    assert_eq!(listed["tokens"][0]["networks"], networks);

    // A rotation keeps them, or brings new ones; an empty list is anywhere.
    let rotate = format!("/tokens/{id}/rotate");
    let moved = json!(["198.51.100.7/32"]);
    for (body, expected) in [
        (json!({}), networks),
        (json!({"networks": ["198.51.100.7"]}), moved),
        (json!({"networks": []}), json!([])),
    ] {
        let (status, rotated) = node.operator(Method::POST, &rotate, body).await;
        assert_eq!((status, &rotated["networks"]), (201, &expected));
        let resolved = node.resolve(rotated["token"].as_str().unwrap()).await;
        let told = resolved.get("networks").cloned().unwrap_or(json!([]));
        assert_eq!(told, expected);
    }
    for (networks, why) in [
        (json!(["203.0.113.5/24"]), "203.0.113.0/24"),
        (json!(["everywhere"]), "2001:db8::/32"),
        (json!(vec!["10.0.0.0/8"; 51]), "at most 50"),
    ] {
        let body = json!({"networks": networks});
        let (status, refused) = node.operator(Method::POST, &path, body).await;
        assert_eq!(status, 400);
        assert!(
            refused["detail"].as_str().unwrap().contains(why),
            "{refused}"
        );
    }
    node.stop().await;
}

#[tokio::test]
async fn what_the_operator_made_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&folder).await;
    let tenant = node.tenant().await;
    let (_, secret) = node.token(&tenant, json!({})).await;
    node.stop().await;

    let node = Node::start(&folder).await;
    assert_eq!(node.resolve(&secret).await["tenant_id"], json!(tenant));
    node.stop().await;
}

#[tokio::test]
async fn the_node_counts_its_writes_and_commits() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&folder).await;
    let before = node.metrics().await;
    node.tenant().await;
    node.tenant().await;
    // Housekeeping may have written too.
    let after = node.metrics().await;
    for counter in [
        "meridian_store_commits_total",
        "meridian_store_writes_total",
    ] {
        let grown = after[counter] - before[counter];
        assert!((2..10).contains(&grown), "{counter}: {grown}");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_node_is_alive_and_ready_and_has_its_store_alone() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&folder).await;
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(
            node.get(&format!("{}{path}", node.management_url)).await,
            200
        );
        assert_eq!(node.get(&format!("{}{path}", node.url)).await, 404);
    }
    let clock = std::sync::Arc::new(node.clock.clone());
    let second = Application::build(settings(&folder), clock).await;
    assert!(matches!(second, Err(StartupError::Sqlite(_))));
    node.stop().await;
}
