//! From where a token may be used, and from where a request comes.

use reqwest::{Method, RequestBuilder};
use shared::{ApiToken, Network, Networks};

use crate::support::{World, region, scim_error};

fn networks(text: &[&str]) -> Networks {
    let parsed = text.iter().map(|text| text.parse().unwrap());
    Networks::new(parsed.collect()).unwrap()
}

/// A world behind proxies on this machine.
async fn behind_proxies() -> World {
    World::start_with(|settings| {
        settings.trusted_proxies = vec![Network::parse("127.0.0.0/8").unwrap()];
        settings.limits.failures_per_s = 1;
        settings.limits.failures_burst = 3;
    })
    .await
}

/// A request that a proxy passes on for an address.
fn for_address(request: RequestBuilder, address: &str) -> RequestBuilder {
    request.header(
        "x-forwarded-for",
        format!("192.0.2.66, {address}, 127.0.0.9"),
    )
}

#[tokio::test]
async fn a_token_is_refused_elsewhere_and_nothing_of_the_body_is_read() {
    let world = World::start().await;
    let inside = world.token_with("us", |resolved| {
        resolved.networks = networks(&["198.51.100.0/24", "127.0.0.0/8"]);
    });
    let outside = world.token_with("us", |resolved| {
        resolved.networks = networks(&["198.51.100.0/24", "::/0"]);
    });
    let answer = world.get("us", "/Users", &inside).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let told = scim_error(
        world.get("us", "/Users", &outside).send().await.unwrap(),
        403,
    )
    .await;
    assert!(told.contains("127.0.0.1"), "{told}");
    // No header talks the gateway into it.
    for (name, value) in [
        ("x-forwarded-for", "198.51.100.7"),
        ("forwarded", "for=198.51.100.7"),
        ("x-real-ip", "198.51.100.7"),
    ] {
        let request = world.get("us", "/Users", &outside).header(name, value);
        scim_error(request.send().await.unwrap(), 403).await;
    }
    assert_eq!(world.end("us").calls().len(), 1);

    // The body is announced and never sent: the answer comes all the same.
    let request = format!(
        "POST /api/v1/scim/Users HTTP/1.1\r\nhost: global-us.localhost\r\n\
         authorization: Bearer {}\r\ncontent-length: 1000\r\n\r\n",
        outside.reveal()
    );
    let answer = world.raw(request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
}

#[tokio::test]
async fn behind_a_trusted_proxy_the_address_is_what_it_says() {
    let world = behind_proxies().await;
    let token = world.token_with("us", |resolved| {
        resolved.networks = networks(&["198.51.100.0/24", "2001:db8::/32"]);
    });
    for (address, status) in [
        ("198.51.100.7", 200),
        ("::ffff:198.51.100.7", 200),
        ("2001:db8::1", 200),
        ("203.0.113.7", 403),
        ("unknown", 403),
    ] {
        let request = for_address(world.get("us", "/Users", &token), address);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status, "{address}");
    }
    // What the client wrote before the proxy did counts for nothing.
    let request = world.get("us", "/Users", &token);
    let request = request.header("x-forwarded-for", "198.51.100.7, 203.0.113.7");
    scim_error(request.send().await.unwrap(), 403).await;
}

#[tokio::test]
async fn bad_tokens_count_for_the_address_behind_the_proxy() {
    let world = behind_proxies().await;
    let stranger = async |address: &str| {
        let token = ApiToken::generate(&region("us")).unwrap();
        let request = for_address(world.get("us", "/Users", &token), address);
        request.send().await.unwrap().status().as_u16()
    };
    for status in [401, 401, 401, 429] {
        assert_eq!(stranger("203.0.113.7").await, status);
    }
    assert_eq!(stranger("203.0.113.8").await, 401, "another one goes on");
}

#[tokio::test]
async fn an_api_token_makes_no_access_token_elsewhere() {
    let world = World::start().await;
    let mut id = None;
    let token = world.token_with("us", |resolved| {
        resolved.networks = networks(&["198.51.100.0/24"]);
        id = Some(resolved.token_id.clone());
    });
    let form = format!(
        "grant_type=client_credentials&client_id={}&client_secret={}",
        id.unwrap(),
        token.reveal()
    );
    let answer = world
        .http
        .request(
            Method::POST,
            format!("http://{}/oauth2/token", world.gateway),
        )
        .header("host", "global-us.localhost")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 403);
    let body: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(body["error"], "unauthorized_client");
    assert!(world.end("us").access_tokens().is_empty());
}

#[tokio::test]
async fn whoever_is_elsewhere_is_not_shown_the_way_either() {
    let world = World::start().await;
    let german = world.token_with("de", |resolved| {
        resolved.networks = networks(&["198.51.100.0/24"]);
    });
    let answer = world.get("us", "/Users", &german).send().await.unwrap();
    let told = scim_error(answer, 401).await;
    assert!(!told.contains("global-"), "{told}");
}
