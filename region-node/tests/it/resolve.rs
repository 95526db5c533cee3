//! Resolve, and the doors of the link.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use shared::link::{ACCESS_TOKENS_PATH, BASE_URL, LINK_KEY, REFUSED, REQUEST_ID, RESOLVE_PATH};
use shared::{ApiToken, RegionId};

use crate::support::{LINK, Node, OPERATOR, answer};

#[tokio::test]
async fn a_live_token_is_granted() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&folder).await;
    let tenant = node.tenant().await;
    let (id, secret) = node.token(&tenant, json!({"scope": "admin"})).await;
    let granted = node.resolve(&secret).await;
    let expected = json!({
        "outcome": "granted",
        "grant": granted["grant"],
        "grant_expires": 1_700_000_300_000_i64,
        "tenant_id": tenant,
        "token_id": id,
        "scope": "admin",
        "limits": {"requests_per_s": 100, "burst": 500, "in_flight": 100},
        "keep_s": 300,
    });
    assert_eq!(granted, expected);

    // A grant never outlives its token.
    let (_, short) = node.token(&tenant, json!({"expires_s": 20})).await;
    assert_eq!(node.resolve(&short).await["keep_s"], 20);
    node.stop().await;
}

#[tokio::test]
async fn what_is_no_live_token_is_refused_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&folder).await;
    let tenant = node.tenant().await;
    let refused =
        |reason: &str| json!({"outcome": "refused", "reason": reason, "tenant_id": tenant});
    let unknown = json!({"outcome": "refused", "reason": "unknown"});

    let stranger = ApiToken::generate(&RegionId::parse("us").unwrap()).unwrap();
    assert_eq!(node.resolve(stranger.reveal()).await, unknown);

    let (id, secret) = node.token(&tenant, json!({})).await;
    let revoke = format!("/tokens/{id}/revoke");
    node.operator(Method::POST, &revoke, Value::Null).await;
    assert_eq!(node.resolve(&secret).await, refused("revoked"));

    let (_, secret) = node.token(&tenant, json!({"expires_s": 10})).await;
    assert_eq!(node.resolve(&secret).await["outcome"], "granted");
    node.clock.advance(Duration::from_millis(9_999));
    assert_eq!(node.resolve(&secret).await["outcome"], "granted");
    node.clock.advance(Duration::from_millis(1));
    assert_eq!(node.resolve(&secret).await, refused("expired"));

    let (_, secret) = node.token(&tenant, json!({})).await;
    let suspend = format!("/tenants/{tenant}/suspend");
    node.operator(Method::POST, &suspend, Value::Null).await;
    assert_eq!(node.resolve(&secret).await, refused("tenant_suspended"));

    let path = format!("/tenants/{tenant}");
    node.operator(Method::DELETE, &path, Value::Null).await;
    assert_eq!(node.resolve(&secret).await, unknown);
    node.stop().await;
}

#[tokio::test]
async fn an_access_token_is_issued_and_ends_with_its_api_token() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&folder).await;
    let tenant = node.tenant().await;
    let refused = |reason: &str| json!({"outcome": "refused", "reason": reason});
    let ended = |reason: &str| json!({"outcome": "refused", "reason": reason, "tenant_id": tenant});
    let issued = |seconds: u32| json!({"outcome": "issued", "expires_in_s": seconds});
    let made = || ApiToken::generate(&RegionId::parse("us").unwrap()).unwrap();

    let (id, secret) = node.token(&tenant, json!({"scope": "admin"})).await;
    let access = made();
    for _ in 0..2 {
        let answer = node.access_token(&secret, &id, access.reveal()).await;
        assert_eq!(answer, issued(3600), "sent twice, it is the same");
    }
    let granted = node.resolve(access.reveal()).await;
    assert_eq!(granted["is_access_token"], true);
    assert_eq!(granted["token_id"], json!(id));
    assert_eq!(granted["scope"], "admin");
    assert_eq!(granted["keep_s"], 300);

    // It makes no other, and neither does a wrong pair of id and secret.
    let (other_id, other) = node.token(&tenant, json!({"expires_s": 20})).await;
    for (secret, id) in [
        (access.reveal(), &id),
        (secret.as_str(), &other_id),
        (made().reveal(), &id),
    ] {
        let answer = node.access_token(secret, id, made().reveal()).await;
        assert_eq!(answer, refused("unknown"));
    }

    // It ends after an hour, or with its API token.
    let brief = made();
    let answer = node.access_token(&other, &other_id, brief.reveal()).await;
    assert_eq!(answer, issued(20));
    assert_eq!(node.resolve(brief.reveal()).await["keep_s"], 20);
    node.clock.advance(Duration::from_secs(20));
    assert_eq!(node.resolve(brief.reveal()).await, ended("expired"));
    let answer = node.access_token(&other, &other_id, made().reveal()).await;
    assert_eq!(answer, refused("expired"));
    node.clock.advance(Duration::from_secs(3580));
    assert_eq!(node.resolve(access.reveal()).await, ended("expired"));

    let second = made();
    let answer = node.access_token(&secret, &id, second.reveal()).await;
    assert_eq!(answer, issued(3600));
    let suspend = format!("/tenants/{tenant}/suspend");
    node.operator(Method::POST, &suspend, Value::Null).await;
    assert_eq!(
        node.resolve(second.reveal()).await,
        ended("tenant_suspended")
    );
    let answer = node.access_token(&secret, &id, made().reveal()).await;
    assert_eq!(answer, refused("tenant_suspended"));
    let resume = format!("/tenants/{tenant}/resume");
    node.operator(Method::POST, &resume, Value::Null).await;
    assert_eq!(node.resolve(second.reveal()).await["outcome"], "granted");
    let revoke = format!("/tokens/{id}/revoke");
    node.operator(Method::POST, &revoke, Value::Null).await;
    assert_eq!(node.resolve(second.reveal()).await, ended("revoked"));
    let answer = node.access_token(&secret, &id, made().reveal()).await;
    assert_eq!(answer, refused("revoked"));

    // Nobody lists them.
    let path = format!("/tenants/{tenant}/tokens");
    let (_, listed) = node.operator(Method::GET, &path, Value::Null).await;
    assert_eq!(listed["tokens"].as_array().unwrap().len(), 2);
    node.stop().await;
}

#[tokio::test]
async fn only_a_gateway_may_ask() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&folder).await;
    let paths = [
        RESOLVE_PATH,
        ACCESS_TOKENS_PATH,
        "/scim/v2/Users",
        "/scim/v2",
        "/scim/v1/Users",
    ];
    for path in paths {
        let request = || node.request(Method::POST, path);
        for request in [
            request(),
            request().header(LINK_KEY, "wrong"),
            request().header(LINK_KEY, OPERATOR),
            request().header(LINK_KEY, LINK).header(LINK_KEY, LINK),
        ] {
            let (status, _) = answer(request).await;
            assert_eq!(status, 401, "{path}");
        }
    }
    for path in [RESOLVE_PATH, ACCESS_TOKENS_PATH] {
        let asked = |method| {
            node.request(method, path)
                .header(LINK_KEY, LINK)
                .body(r#"{"digest":"00"}"#)
        };
        assert_eq!(answer(asked(Method::POST)).await.0, 400);
        assert_eq!(answer(asked(Method::GET)).await.0, 405);
    }
    node.stop().await;
}

#[tokio::test]
async fn scim_needs_a_grant_of_this_region() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&folder).await;
    let tenant = node.tenant().await;
    let (_, secret) = node.token(&tenant, json!({})).await;
    let (_, admin) = node.token(&tenant, json!({"scope": "admin"})).await;
    let grant = |resolved: &Value| resolved["grant"].as_str().unwrap().to_owned();
    let good = grant(&node.resolve(&secret).await);
    let call = |path: &str, credential: &str| {
        node.request(Method::GET, path)
            .header(LINK_KEY, LINK)
            .header(BASE_URL, "http://global-us.localhost/api/v1/scim")
            .header(REQUEST_ID, "req-7")
            .header("authorization", credential)
    };

    let response = call("/scim/v2/Me", &format!("Bearer {good}"))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 501);
    assert_eq!(response.headers()[REQUEST_ID], "req-7");
    assert!(!response.headers().contains_key(REFUSED));
    let unknown = call("/scim/v2/Nothing", &format!("Bearer {good}"));
    assert_eq!(answer(unknown).await.0, 404);
    let (status, body) = answer(call("/scim/v1/Nothing", &format!("Bearer {good}"))).await;
    assert_eq!((status, &body["Errors"][0]["code"]), (404, &json!("404")));

    // The token itself opens nothing here, nor does anything that is no grant.
    for credential in [
        format!("Bearer {secret}"),
        format!("bearer {good}"),
        good.clone(),
        "Bearer ".to_owned(),
        format!("Bearer {good}x"),
    ] {
        let response = call("/scim/v2/Me", &credential).send().await.unwrap();
        assert_eq!(response.status(), 401);
        assert_eq!(response.headers()[REFUSED], "grant");
    }
    let admin = grant(&node.resolve(&admin).await);
    let response = call("/scim/v2/Me", &format!("Bearer {admin}"));
    assert_eq!(answer(response).await.0, 403);

    node.clock.advance(Duration::from_secs(305));
    let response = call("/scim/v2/Me", &format!("Bearer {good}"));
    assert_eq!(answer(response).await.0, 401);
    node.stop().await;
}

#[tokio::test]
async fn the_time_of_last_use_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&folder).await;
    let tenant = node.tenant().await;
    let (id, secret) = node.token(&tenant, json!({})).await;
    let grant = node.resolve(&secret).await["grant"]
        .as_str()
        .unwrap()
        .to_owned();
    node.clock.advance(Duration::from_secs(10));
    let used = node
        .request(Method::GET, "/scim/v2/Me")
        .header(LINK_KEY, LINK)
        .header(BASE_URL, "http://global-us.localhost/api/v1/scim")
        .bearer_auth(grant);
    assert_eq!(answer(used).await.0, 501);
    // Whatever waits is written before a node ends.
    node.stop().await;
    let node = Node::start(&folder).await;
    let path = format!("/tokens/{id}");
    let (_, token) = node.operator(Method::GET, &path, Value::Null).await;
    assert_eq!(token["last_used"], "2023-11-14T22:13:30.000Z");
    node.stop().await;
}
