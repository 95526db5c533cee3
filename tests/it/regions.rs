//! Two regions cannot see each other, and a token that is presented at the wrong one says where
//! it belongs only to whoever really holds it.

use reqwest::Method;
use reqwest::header::HOST;
use serde_json::json;
use shared::{ApiToken, RegionId};

use crate::support::{Answer, World, plain_client};

#[tokio::test]
async fn a_genuine_token_at_the_wrong_host_is_shown_the_way() {
    let world = World::with_regions(&["us", "de"]);
    let german = world.tenant("acme", "de").await;
    german.create_user(json!({ "userName": "bjensen" })).await;
    let us = world.region("us");

    let wrong = us.get_as(&german.token.secret, "/Users").await;
    let detail = wrong.scim_error(401, None);
    assert!(detail.contains(&german.region.base_url), "{detail}");
    let challenge = wrong.header("www-authenticate").unwrap();
    assert!(challenge.starts_with("Bearer"), "{challenge}");

    // Writing is refused before the body counts.
    let body = json!({ "userName": "leaked" }).to_string();
    let request = us
        .request(Method::POST, "/Users")
        .header("authorization", format!("Bearer {}", german.token.secret))
        .header("content-type", "application/scim+json")
        .body(body);
    Answer::of(request).await.scim_error(401, None);
    assert_eq!(german.find("userName pr").await, ["bjensen"]);
}

#[tokio::test]
async fn a_forged_or_dead_token_learns_nothing() {
    let world = World::with_regions(&["us", "de"]);
    let german = world.tenant("acme", "de").await;
    let us = world.region("us");
    let unknown = us
        .get_as(&forged("us"), "/Users")
        .await
        .scim_error(401, None);

    let revoked = world.token("de", &german.id, json!({})).await;
    world.meridian(&["token", "revoke", &revoked.id]);
    for secret in [forged("de"), forged("jp"), forged("zz"), revoked.secret] {
        let detail = us.get_as(&secret, "/Users").await.scim_error(401, None);
        assert!(!detail.contains("global-"), "{detail}");
        assert_eq!(detail, unknown, "the same words as for any unknown token");
    }
}

#[tokio::test]
async fn regions_share_no_data() {
    let world = World::with_regions(&["us", "de"]);
    let american = world.tenant("acme", "us").await;
    let german = world.tenant("acme", "de").await;
    let user = american
        .create_user(json!({ "userName": "bjensen-canary-7f3a" }))
        .await;
    german
        .create_user(json!({ "userName": "bjensen-canary-7f3a" }))
        .await;
    let url = format!("/Users/{}", user["id"].as_str().unwrap());
    german.get(&url).await.scim_error(404, None);

    let location = user["meta"]["location"].as_str().unwrap();
    assert!(
        location.starts_with("http://global-us.localhost:"),
        "{location}"
    );
    let only_american = american
        .create_user(json!({ "userName": "only-us-canary-91b2" }))
        .await;
    assert!(only_american["id"].is_string());
    let found = |region: &str| contains(&world.stored(region), b"only-us-canary-91b2");
    assert!(found("us"), "the search itself must work");
    assert!(!found("de"));
}

#[tokio::test]
async fn a_host_that_is_not_ours_is_misdirected() {
    let world = World::with_regions(&["us", "de"]);
    let acme = world.tenant("acme", "us").await;
    let url = format!("http://{}/api/v1/scim/Users", world.address());
    for host in [
        "example.com",
        "localhost",
        "127.0.0.1",
        "global-jp.localhost",
        "global-.localhost",
        "global-us.example.com",
        "global-us.localhost.example.com",
        "xglobal-us.localhost",
    ] {
        let request = plain_client()
            .get(&url)
            .header(HOST, host)
            .header("authorization", format!("Bearer {}", acme.token.secret));
        Answer::of(request).await.scim_error(421, None);
    }
    for host in [
        "GLOBAL-US.LOCALHOST",
        "global-us.localhost:80",
        "global-us.localhost.",
    ] {
        let request = plain_client()
            .get(&url)
            .header(HOST, host)
            .header("authorization", format!("Bearer {}", acme.token.secret));
        assert_eq!(Answer::of(request).await.status, 200, "{host}");
    }
    // Only `Host` says where a request belongs.
    let request = plain_client()
        .get(&url)
        .header(HOST, "example.com")
        .header("x-forwarded-host", "global-us.localhost")
        .header("forwarded", "host=global-us.localhost")
        .header("authorization", format!("Bearer {}", acme.token.secret));
    Answer::of(request).await.scim_error(421, None);
}

#[tokio::test]
async fn credentials_come_in_many_forms_but_never_two_at_once() {
    use base64::Engine as _;
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    let other = world.token("us", &acme.id, json!({})).await;
    let token = &acme.token.secret;
    let basic = |text: String| {
        format!(
            "Basic {}",
            base64::engine::general_purpose::STANDARD.encode(text)
        )
    };
    let with = async |values: &[String]| {
        let mut request = acme.region.request(Method::GET, "/Users?count=0");
        for value in values {
            request = request.header("authorization", value);
        }
        Answer::of(request).await
    };
    for good in [
        format!("Bearer {token}"),
        format!("bearer   {token}"),
        token.clone(),
        format!("Token {token}"),
        basic(format!("anything:{token}")),
        basic(format!(":{token}")),
    ] {
        let answer = with(std::slice::from_ref(&good)).await;
        assert_eq!(answer.status, 200, "{good}: {answer:?}");
    }
    for bad in [
        "Bearer".to_owned(),
        "Bearer null".to_owned(),
        format!("Bearer {token}x"),
        format!("Bearer {}", token.to_uppercase()),
        "Basic not-base64!".to_owned(),
        basic("no colon".to_owned()),
    ] {
        with(std::slice::from_ref(&bad)).await.scim_error(401, None);
    }
    let two = [
        format!("Bearer {token}"),
        format!("Bearer {}", other.secret),
    ];
    with(&two).await.scim_error(400, None);
    let none = with(&[]).await;
    none.scim_error(401, None);
    assert!(
        none.header("www-authenticate")
            .unwrap()
            .starts_with("Bearer")
    );
    // Never in the URL.
    let url = format!("/Users?access_token={token}&token={token}");
    Answer::of(acme.region.request(Method::GET, &url))
        .await
        .scim_error(401, None);
}

fn forged(region: &str) -> String {
    ApiToken::generate(&RegionId::parse(region).unwrap())
        .unwrap()
        .reveal()
        .to_owned()
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}
