//! OAuth 2.0 client credentials (RFC 6749 section 4.4), as an identity provider uses them: a token
//! from `/oauth2/token`, provisioning with it, and its end.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use shared::{ApiToken, RegionId};

use crate::support::{Answer, Region, Tenant, Token, World, with_form};

const CLIENT_CREDENTIALS: (&str, &str) = ("grant_type", "client_credentials");

/// The URL that a region's metadata names.
async fn token_endpoint(region: &Region) -> String {
    let origin = region.base_url.strip_suffix("/api/v1/scim").unwrap();
    let metadata = format!("{origin}/.well-known/oauth-authorization-server");
    let metadata = Answer::of(region.client.get(metadata)).await.json();
    assert_eq!(metadata["issuer"], origin);
    metadata["token_endpoint"].as_str().unwrap().to_owned()
}

/// Asks a region for an access token, with a form alone.
pub async fn ask(region: &Region, id: &str, secret: &str) -> Answer {
    let form = [
        CLIENT_CREDENTIALS,
        ("client_id", id),
        ("client_secret", secret),
    ];
    let endpoint = token_endpoint(region).await;
    Answer::of(with_form(region.client.post(endpoint), &form)).await
}

/// The access token of an answer.
fn issued(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("pragma"), Some("no-cache"));
    let body = answer.json();
    assert_eq!(body["token_type"], "Bearer");
    body["access_token"].as_str().unwrap().to_owned()
}

/// A tenant whose client presents an access token of its API token.
pub async fn exchanged(tenant: &Tenant) -> Tenant {
    let answer = ask(&tenant.region, &tenant.token.id, &tenant.token.secret).await;
    let token = Token {
        id: tenant.token.id.clone(),
        secret: issued(&answer),
    };
    Tenant {
        token,
        ..tenant.clone()
    }
}

/// Checks that an answer is an error of RFC 6749, section 5.2, and gives its description.
#[track_caller]
fn oauth_error(answer: &Answer, status: u16, code: &str) -> String {
    assert_eq!(answer.status, status, "{answer:?}");
    let body = answer.json();
    assert_eq!(body["error"], code, "{answer:?}");
    if status == 401 {
        let challenge = answer.header("www-authenticate").unwrap();
        assert_eq!(challenge, r#"Basic realm="Meridian""#);
    }
    body["error_description"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_client_gets_a_token_and_provisions_until_its_api_token_is_revoked() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    let answer = ask(&acme.region, &acme.token.id, &acme.token.secret).await;
    let access_token = issued(&answer);
    let body = answer.json();
    let expected = json!({
        "access_token": access_token, "token_type": "Bearer", "expires_in": 3600, "scope": "scim",
    });
    assert_eq!(body, expected);
    ApiToken::parse(&access_token).unwrap();

    let client = exchanged(&acme).await;
    let user = client.create_user(json!({ "userName": "bjensen" })).await;
    assert_eq!(acme.find("userName pr").await, ["bjensen"]);
    let listed = world.meridian(&["token", "list", "--tenant", &acme.id]);
    let ids: Vec<&Value> = listed["tokens"]
        .as_array()
        .unwrap()
        .iter()
        .map(|token| &token["id"])
        .collect();
    assert_eq!(ids, [&json!(acme.token.id)], "no access token is listed");

    world.meridian(&["token", "revoke", &acme.token.id]);
    let url = format!("/Users/{}", user["id"].as_str().unwrap());
    for secret in [&client.token.secret, &access_token] {
        let refused = acme.region.get_as(secret, &url).await;
        refused.scim_error(401, None);
    }
    let answer = ask(&acme.region, &acme.token.id, &acme.token.secret).await;
    oauth_error(&answer, 401, "invalid_client");
}

#[tokio::test]
async fn credentials_come_as_basic_too_and_must_fit_together() {
    let world = World::with_regions(&["us", "de"]);
    let (acme, other) = (
        world.tenant("acme", "us").await,
        world.tenant("x", "us").await,
    );
    let german = world.tenant("acme", "de").await;
    let admin = world
        .token("us", &acme.id, json!({ "scope": "admin" }))
        .await;
    let endpoint = token_endpoint(&acme.region).await;
    let basic = async |id: &str, secret: &str, form: &[(&str, &str)]| {
        let request = acme.region.client.post(&endpoint);
        Answer::of(with_form(request.basic_auth(id, Some(secret)), form)).await
    };
    let grant = [CLIENT_CREDENTIALS];
    let with_scope = |scope: &'static str| [CLIENT_CREDENTIALS, ("scope", scope)];

    let answer = basic(&acme.token.id, &acme.token.secret, &grant).await;
    let access_token = issued(&answer);
    let answer = basic(&admin.id, &admin.secret, &with_scope("admin")).await;
    assert_eq!(answer.json()["scope"], "admin");
    // An access token of an admin token is no provisioning token.
    let refused = acme.region.get_as(&issued(&answer), "/Users").await;
    refused.scim_error(403, None);

    let answer = basic(&acme.token.id, &acme.token.secret, &with_scope("admin")).await;
    oauth_error(&answer, 400, "invalid_scope");
    let forged = ApiToken::generate(&RegionId::parse("us").unwrap()).unwrap();
    for (id, secret) in [
        (&acme.token.id, &access_token),
        (&acme.token.id, &other.token.secret),
        (&other.token.id, &acme.token.secret),
        (&acme.token.id, &forged.reveal().to_owned()),
        (&"okta".to_owned(), &acme.token.secret),
    ] {
        let answer = basic(id, secret, &grant).await;
        oauth_error(&answer, 401, "invalid_client");
    }
    let form = [CLIENT_CREDENTIALS, ("client_id", &other.token.id)];
    let answer = basic(&acme.token.id, &acme.token.secret, &form).await;
    oauth_error(&answer, 400, "invalid_request");

    // Another region's client is shown the way, and nobody else is.
    let answer = basic(&german.token.id, &german.token.secret, &grant).await;
    let told = oauth_error(&answer, 401, "invalid_client");
    assert!(told.contains(&german.region.base_url), "{told}");
    let forged = ApiToken::generate(&RegionId::parse("de").unwrap()).unwrap();
    let answer = basic(&german.token.id, forged.reveal(), &grant).await;
    let told = oauth_error(&answer, 401, "invalid_client");
    assert!(!told.contains("global-"), "{told}");
    let refused = german.region.get_as(&access_token, "/Users").await;
    refused.scim_error(401, None);
}

#[tokio::test]
async fn an_access_token_ends_with_what_it_was_made_of() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    let client = exchanged(&acme).await;
    assert_eq!(client.get("/Users").await.status, 200);
    let tenant = |action: &str| format!("/tenants/{}/{action}", acme.id);
    let path = tenant("suspend");
    world.operator("us", Method::POST, &path, None).await;
    client.get("/Users").await.scim_error(403, None);
    let answer = ask(&acme.region, &acme.token.id, &acme.token.secret).await;
    oauth_error(&answer, 403, "unauthorized_client");
    let path = tenant("resume");
    world.operator("us", Method::POST, &path, None).await;
    crate::support::eventually(200, || client.get("/Users")).await;

    // Rotated away with no overlap: over at once, and the successor makes new ones.
    let path = format!("/tokens/{}/rotate", acme.token.id);
    let no_overlap = Some(json!({ "overlap_s": 0 }));
    let rotated = world.operator("us", Method::POST, &path, no_overlap).await;
    client.get("/Users").await.scim_error(401, None);
    let text = |name: &str| rotated[name].as_str().unwrap().to_owned();
    let successor = Tenant {
        token: Token {
            id: text("id"),
            secret: text("token"),
        },
        ..acme.clone()
    };
    let client = exchanged(&successor).await;
    assert_eq!(client.get("/Users").await.status, 200);

    // One that is short-lived makes none that lives longer.
    let brief = world.token("us", &acme.id, json!({ "expires_s": 2 })).await;
    let answer = ask(&acme.region, &brief.id, &brief.secret).await;
    match answer.status {
        200 => {
            assert!(answer.json()["expires_in"].as_u64().unwrap() <= 2);
            let access_token = issued(&answer);
            // The loop ends when the clock has moved on, so nothing sleeps here.
            loop {
                let answer = acme.region.get_as(&access_token, "/Users?count=0").await;
                match answer.status {
                    200 => {}
                    401 => break,
                    _ => panic!("{answer:?}"),
                }
            }
        }
        // Its time was over already.
        401 => {}
        _ => panic!("{answer:?}"),
    }
    let answer = ask(&acme.region, &brief.id, &brief.secret).await;
    oauth_error(&answer, 401, "invalid_client");

    world.meridian(&["tenant", "delete", &acme.id]);
    client.get("/Users").await.scim_error(401, None);
}

#[tokio::test]
async fn many_ask_at_once_and_each_gets_one_of_its_own() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    let clients = join_all((0..20).map(|_| exchanged(&acme))).await;
    let mut secrets: Vec<_> = clients.iter().map(|client| &client.token.secret).collect();
    secrets.sort();
    secrets.dedup();
    assert_eq!(secrets.len(), 20);
    let answers = join_all(clients.iter().map(|client| client.get("/Users?count=0"))).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    world.meridian(&["token", "revoke", &acme.token.id]);
    let answers = join_all(clients.iter().map(|client| client.get("/Users?count=0"))).await;
    assert!(answers.iter().all(|answer| answer.status == 401));
}
