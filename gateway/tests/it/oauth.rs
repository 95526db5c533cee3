//! OAuth 2.0 client credentials: what a client is told, and what its region is asked.

use std::time::Duration;

use reqwest::{Method, Response};
use serde_json::{Value, json};
use shared::link::{AccessTokenAnswer, Refusal, TenantLimits};
use shared::{ApiToken, Scope, TokenId};

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::{World, region};

/// An API token and its id, both as a client says them.
struct Client {
    id: TokenId,
    token: ApiToken,
}

fn client(world: &World) -> Client {
    let id = TokenId::generate().unwrap();
    let token = world.token_with("us", |resolved| resolved.token_id = id.clone());
    Client { id, token }
}

impl Client {
    fn form(&self) -> String {
        let (id, secret) = (&self.id, self.token.reveal());
        format!("grant_type=client_credentials&client_id={id}&client_secret={secret}")
    }
}

async fn ask(world: &World, region: &str, form: String) -> Response {
    let request = request(world, Method::POST, region, "/oauth2/token");
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    request.body(form).send().await.unwrap()
}

fn request(world: &World, method: Method, region: &str, path: &str) -> reqwest::RequestBuilder {
    let url = format!("http://{}{path}", world.gateway);
    let host = format!("global-{region}.localhost");
    world.http.request(method, url).header("host", host)
}

/// Asserts that an answer is an error of RFC 6749, section 5.2; gives its description.
async fn oauth_error(answer: Response, status: u16, code: &str) -> String {
    let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "application/json");
    assert_eq!(header("cache-control"), "no-store");
    assert_eq!(header("pragma"), "no-cache");
    if status == 401 {
        assert_eq!(header("www-authenticate"), r#"Basic realm="Meridian""#);
    }
    if matches!(status, 429 | 503) {
        assert!(header("retry-after").parse::<u32>().unwrap() >= 1);
    }
    let found = answer.status().as_u16();
    let body: Value = answer.json().await.unwrap();
    assert_eq!((found, body["error"].as_str().unwrap()), (status, code));
    body["error_description"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_api_token_is_exchanged_for_an_access_token() {
    let world = World::start().await;
    let client = client(&world);
    let answer = ask(&world, "us", client.form()).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["cache-control"], "no-store");
    assert_eq!(answer.headers()["pragma"], "no-cache");
    let body: Value = answer.json().await.unwrap();
    let access_token = body["access_token"].as_str().unwrap().to_owned();
    let expected = json!({
        "access_token": access_token, "token_type": "Bearer", "expires_in": 3600, "scope": "scim",
    });
    assert_eq!(body, expected);
    let access_token = ApiToken::parse(&access_token).unwrap();
    assert_eq!(*access_token.region(), region("us"));

    // The region hears digests, and the id.
    let asked = world.end("us").access_tokens();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].digest, client.token.digest());
    assert_eq!(asked[0].token_id, client.id);
    assert_eq!(asked[0].access_digest, access_token.digest());

    // As Basic, with a scope.
    let answer = request(&world, Method::POST, "us", "/oauth2/token")
        .basic_auth(&client.id, Some(client.token.reveal()))
        .header(
            "content-type",
            "application/x-www-form-urlencoded; charset=UTF-8",
        )
        .body("grant_type=client_credentials&scope=scim")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(world.end("us").access_tokens().len(), 2);
    // A live token is known. Each access token is looked up when it is made.
    assert_eq!(world.end("us").lookups(), 3);
    let answer = world.get("us", "/Users", &access_token).send().await;
    assert_eq!(answer.unwrap().status(), 200);
    assert_eq!(world.end("us").lookups(), 3);
}

async fn issued(answer: Response) -> ApiToken {
    assert_eq!(answer.status(), 200);
    let body: Value = answer.json().await.unwrap();
    ApiToken::parse(body["access_token"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn a_flood_of_bad_tokens_keeps_no_new_access_token_out() {
    let world = World::start_with(|settings| {
        settings.limits.failures_per_s = 1;
        settings.limits.failures_burst = 3;
        settings.limits.lookups_per_s = 1;
        settings.limits.lookups_burst = 4;
    })
    .await;
    let client = client(&world);
    assert_eq!(ask(&world, "us", client.form()).await.status(), 200);
    let mut statuses = Vec::new();
    for _ in 0..4 {
        let token = ApiToken::generate(&region("us")).unwrap();
        let answer = world.get("us", "/Users", &token).send().await.unwrap();
        statuses.push(answer.status().as_u16());
    }
    assert_eq!(statuses, [401, 401, 401, 429]);
    let token = issued(ask(&world, "us", client.form()).await).await;
    let answer = world.get("us", "/Users", &token).send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn access_tokens_in_the_making_have_seats_of_their_own() {
    let world = World::start_with(|settings| {
        settings.limits.known_lookups_in_flight = 1;
        settings.limits.issuing_in_flight = 5;
        settings.timeouts.lookup_ms = 20_000;
    })
    .await;
    let end = world.end("us");
    let (first, second, third) = (client(&world), client(&world), client(&world));
    for client in [&first, &second, &third] {
        assert_eq!(ask(&world, "us", client.form()).await.status(), 200);
    }

    let spawn = |client: &Client| {
        let request = request(&world, Method::POST, "us", "/oauth2/token")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(client.form());
        tokio::spawn(request.send())
    };

    // The one seat for look-ups of known tokens is taken.
    let known = world.token_with("us", |resolved| resolved.keep_s = 10);
    let answer = world.get("us", "/Users", &known).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    world.clock.advance(Duration::from_secs(11));
    end.close_gate();
    let look_up = tokio::spawn(world.get("us", "/Users", &known).send());
    end.wait_for_lookups(8).await;
    let issuing = spawn(&first);
    end.wait_for_lookups(9).await;
    end.open_gate();
    assert_eq!(look_up.await.unwrap().unwrap().status(), 200);
    assert_eq!(issuing.await.unwrap().unwrap().status(), 200);

    // A tenant has two of five, so the fifth is for a third tenant, and the sixth for nobody.
    let before = end.access_tokens().len();
    end.close_issue_gate();
    let mut under_way = Vec::new();
    for (number, client) in [&first, &first, &second, &second, &third]
        .into_iter()
        .enumerate()
    {
        if number == 2 {
            let answer = ask(&world, "us", first.form()).await;
            oauth_error(answer, 429, "temporarily_unavailable").await;
        }
        under_way.push(spawn(client));
        end.wait_for_issues(before + number + 1).await;
    }
    let answer = ask(&world, "us", third.form()).await;
    oauth_error(answer, 503, "temporarily_unavailable").await;
    end.open_issue_gate();
    for answer in under_way {
        assert_eq!(answer.await.unwrap().unwrap().status(), 200);
    }
}

#[tokio::test]
async fn what_is_no_client_gets_none_and_the_region_is_not_asked_for_one() {
    let world = World::start().await;
    let (good, other) = (client(&world), client(&world));
    let with = |client_id: &TokenId, secret: &ApiToken| {
        let secret = secret.reveal();
        format!("grant_type=client_credentials&client_id={client_id}&client_secret={secret}")
    };
    let stranger = ApiToken::generate(&region("us")).unwrap();
    let refused = |reason| {
        let token = world.token("us");
        world.refuse(&token, reason);
        token
    };
    let (revoked, expired) = (refused(Refusal::Revoked), refused(Refusal::Expired));
    let access_token = world.token_with("us", |resolved| {
        resolved.token_id = good.id.clone();
        resolved.is_access_token = true;
    });
    for form in [
        with(&good.id, &stranger),
        with(&good.id, &revoked),
        with(&good.id, &expired),
        with(&good.id, &other.token),
        with(&other.id, &good.token),
        with(&good.id, &access_token),
        format!("grant_type=client_credentials&client_id={}", good.id),
        "grant_type=client_credentials".to_owned(),
    ] {
        oauth_error(ask(&world, "us", form).await, 401, "invalid_client").await;
    }
    let form = format!("{}&scope=admin", good.form());
    oauth_error(ask(&world, "us", form).await, 400, "invalid_scope").await;
    let form = good.form().replace("client_credentials", "password");
    oauth_error(ask(&world, "us", form).await, 400, "unsupported_grant_type").await;
    let form = format!("{}&client_id=x", good.form());
    oauth_error(ask(&world, "us", form).await, 400, "invalid_request").await;
    let suspended = refused(Refusal::TenantSuspended);
    let form = with(&good.id, &suspended);
    oauth_error(ask(&world, "us", form).await, 403, "unauthorized_client").await;
    assert!(world.end("us").access_tokens().is_empty());

    // The region has the last word: it knows of what ended a moment ago.
    let gone = AccessTokenAnswer::Refused {
        reason: Refusal::Revoked,
    };
    *world.end("us").issue_answer.lock().unwrap() = Some(gone);
    let answer = ask(&world, "us", good.form()).await;
    oauth_error(answer, 401, "invalid_client").await;
}

#[tokio::test]
async fn a_request_that_is_no_form_is_refused_before_anybody_is_asked() {
    let world = World::start().await;
    let client = client(&world);
    let path = "/oauth2/token";
    let post = || request(&world, Method::POST, "us", path);
    for media_type in ["application/json", "text/plain", "multipart/form-data"] {
        let answer = post()
            .header("content-type", media_type)
            .body(client.form());
        oauth_error(answer.send().await.unwrap(), 400, "invalid_request").await;
    }
    let answer = post().body(client.form()).send().await.unwrap();
    oauth_error(answer, 400, "invalid_request").await;
    // Nor is a body waited for where the header holds no client.
    let raw = format!(
        "POST {path} HTTP/1.1\r\nhost: global-us.localhost\r\nauthorization: Basic eDp5\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: 100\r\n\r\n"
    );
    let answer = world.raw(raw.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    assert!(answer.contains("invalid_client"), "{answer}");
    let large = format!("{}&x={}", client.form(), "x".repeat(16 * 1024));
    oauth_error(ask(&world, "us", large).await, 413, "invalid_request").await;
    for method in [Method::GET, Method::PUT, Method::DELETE, Method::OPTIONS] {
        let answer = request(&world, method, "us", path).send().await.unwrap();
        assert_eq!(answer.headers()["allow"], "POST");
        oauth_error(answer, 405, "invalid_request").await;
    }
    let answer = request(&world, Method::POST, "jp", path).send();
    oauth_error(answer.await.unwrap(), 421, "invalid_request").await;
    // A token in the URL is not looked for.
    let answer = request(
        &world,
        Method::POST,
        "us",
        &format!("{path}?{}", client.form()),
    )
    .header("content-type", "application/x-www-form-urlencoded")
    .body("grant_type=client_credentials");
    oauth_error(answer.send().await.unwrap(), 401, "invalid_client").await;
    assert_eq!(world.end("us").lookups(), 0);
}

#[tokio::test]
async fn forms_that_do_not_end_take_no_room_from_other_bodies() {
    let world = World::start_with(|settings| settings.limits.body_memory_mib = 1).await;
    let client = client(&world);
    // More of them than that memory holds, each without its end.
    let head = "POST /oauth2/token HTTP/1.1\r\nhost: global-us.localhost\r\n\
                content-type: application/x-www-form-urlencoded\r\n\
                content-length: 16384\r\n\r\n";
    let mut open = Vec::new();
    for _ in 0..70 {
        let mut socket = TcpStream::connect(world.gateway).await.unwrap();
        let form = format!("{head}{}", "x".repeat(16_383));
        socket.write_all(form.as_bytes()).await.unwrap();
        open.push(socket);
    }
    let body = format!("{{\"x\":\"{}\"}}", "x".repeat(200 * 1024));
    let post = world
        .request(Method::POST, "us", "/Users")
        .bearer_auth(client.token.reveal())
        .body(body);
    assert_eq!(post.send().await.unwrap().status(), 200);
    assert_eq!(ask(&world, "us", client.form()).await.status(), 200);
}

#[tokio::test]
async fn trouble_of_the_region_is_never_the_clients_fault() {
    let world = World::start().await;
    let client = client(&world);
    // While it resolves, and then while it stores.
    for known in [false, true] {
        for status in [500, 503, 401, 403, 404] {
            *world.end("us").resolve_status.lock().unwrap() = (!known).then_some(status);
            *world.end("us").issue_status.lock().unwrap() = known.then_some(status);
            let answer = ask(&world, "us", client.form()).await;
            oauth_error(answer, 503, "temporarily_unavailable").await;
        }
    }
    *world.end("us").issue_status.lock().unwrap() = None;
    assert_eq!(ask(&world, "us", client.form()).await.status(), 200);
    world.us.stop().await;
    let answer = ask(&world, "us", client.form()).await;
    oauth_error(answer, 503, "temporarily_unavailable").await;
}

#[tokio::test]
async fn a_call_without_an_answer_is_sent_again_for_the_same_access_token() {
    let world = World::start().await;
    let client = client(&world);
    world.end("us").drop_next_issue();
    assert_eq!(ask(&world, "us", client.form()).await.status(), 200);
    let asked = world.end("us").access_tokens();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0].access_digest, asked[1].access_digest);
}

#[tokio::test]
async fn the_limits_of_tenant_and_source_hold() {
    let world = World::start_with(|settings| {
        settings.limits.failures_per_s = 1;
        settings.limits.failures_burst = 3;
    })
    .await;
    let id = TokenId::generate().unwrap();
    let token = world.token_with("us", |resolved| {
        resolved.token_id = id.clone();
        resolved.limits = TenantLimits {
            requests_per_s: 25,
            burst: 25,
            in_flight: 10,
        };
    });
    let client = Client { id, token };
    for _ in 0..25 {
        assert_eq!(ask(&world, "us", client.form()).await.status(), 200);
    }
    let answer = ask(&world, "us", client.form()).await;
    oauth_error(answer, 429, "temporarily_unavailable").await;

    let mut statuses = Vec::new();
    for _ in 0..5 {
        let token = ApiToken::generate(&region("us")).unwrap();
        let stranger = Client {
            id: TokenId::generate().unwrap(),
            token,
        };
        let answer = ask(&world, "us", stranger.form()).await;
        statuses.push(answer.status().as_u16());
    }
    assert_eq!(statuses, [401, 401, 401, 429, 429]);
}

#[tokio::test]
async fn a_client_of_another_region_is_shown_the_way_if_it_is_one() {
    let world = World::start().await;
    let german = world.token("de");
    let form = |token: &ApiToken| {
        let (id, secret) = (TokenId::generate().unwrap(), token.reveal());
        format!("grant_type=client_credentials&client_id={id}&client_secret={secret}")
    };
    let answer = ask(&world, "us", form(&german)).await;
    let told = oauth_error(answer, 401, "invalid_client").await;
    assert!(told.contains("http://global-de.localhost:"), "{told}");
    let forged = ApiToken::generate(&region("de")).unwrap();
    let answer = ask(&world, "us", form(&forged)).await;
    let told = oauth_error(answer, 401, "invalid_client").await;
    assert!(!told.contains("global-"), "{told}");
    assert!(world.end("us").access_tokens().is_empty());
}

#[tokio::test]
async fn the_metadata_are_the_configurations() {
    let world = World::start().await;
    let port = world.gateway.port();
    let path = "/.well-known/oauth-authorization-server";
    for (host, origin) in [
        ("global-us.localhost", "http://global-us.localhost"),
        ("global-de.localhost:1", "http://global-de.localhost"),
        ("SCIM.customer.example", "http://scim.customer.example"),
    ] {
        let answer = world
            .http
            .get(format!("http://{}{path}", world.gateway))
            .header("host", host)
            .header("x-forwarded-host", "evil.example")
            .header("x-forwarded-proto", "https")
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        let body: Value = answer.json().await.unwrap();
        let expected = json!({
            "issuer": format!("{origin}:{port}"),
            "token_endpoint": format!("{origin}:{port}/oauth2/token"),
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "grant_types_supported": ["client_credentials"],
            "scopes_supported": [Scope::Scim, Scope::Admin],
            "response_types_supported": ["token"],
        });
        assert_eq!(body, expected);
    }
    let answer = request(&world, Method::POST, "us", path)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.headers()["allow"], "GET, HEAD");
    assert_eq!(answer.status(), 405);
    let answer = request(&world, Method::HEAD, "us", path)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(world.end("us").lookups(), 0);
}
