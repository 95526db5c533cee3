//! Logs, metrics and traces hold no token, body, query string, resource id or user attribute: every
//! one of them carries a canary, everything is exercised at the most verbose level, and the log, the
//! figures and what a collector received are searched.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use reqwest::Method;
use serde_json::json;

use crate::support::collector::Collector;
use crate::support::raw::exchange;
use crate::support::{Answer, Beside, World, encode};

const ENTERPRISE: &str = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";

/// Words that occur nowhere else.
fn canary(name: &str) -> String {
    format!("Canary{name}Zq7x")
}

/// The ways in which a word may hide in a log.
fn encodings(word: &str) -> Vec<String> {
    let mut forms = vec![word.to_lowercase(), encode(word).to_lowercase()];
    forms.push(hex::encode(word));
    forms.push(encode(&encode(word)).to_lowercase());
    // Base64 at each of the three places at which a word can begin; the ends depend on their
    // neighbours and are left out.
    for offset in 0..3 {
        let shifted = format!("{}{word}", "-".repeat(offset));
        for text in [
            STANDARD_NO_PAD.encode(&shifted),
            URL_SAFE_NO_PAD.encode(&shifted),
        ] {
            let inner = &text[offset + 1..text.len() - 3];
            forms.push(inner.to_lowercase());
        }
    }
    // The bytes as Rust's `Debug` shows them.
    let bytes: Vec<String> = word.bytes().map(|b| b.to_string()).collect();
    forms.push(bytes.join(", "));
    forms
}

#[tokio::test]
async fn the_most_verbose_log_tells_nothing_of_anybody() {
    let collector = Collector::of("traces");
    let beside = Beside {
        collector: Some(collector.url()),
        ..Beside::default()
    };
    let mut world = World::restartable_beside(&["us", "de"], "trace", beside);
    let acme = world.tenant("acme", "us").await;
    let german = world.tenant("acme", "de").await;
    let names = [
        "UserName",
        "ExternalId",
        "Given",
        "Family",
        "Display",
        "Email",
        "Phone",
        "Street",
        "Password",
        "Title",
        "Department",
        "Query",
        "PathId",
        "PatchValue",
        "Unknown",
        "Body",
        "Operator",
        "Basic",
        "AttributeList",
    ];
    let words: std::collections::BTreeMap<&str, String> =
        names.iter().map(|name| (*name, canary(name))).collect();
    let word = |name: &str| words[name].clone();
    let email = format!("{}@example.com", word("Email"));

    // Success.
    let user = acme
        .create_user(json!({
            "userName": word("UserName"), "externalId": word("ExternalId"),
            "name": { "givenName": word("Given"), "familyName": word("Family") },
            "displayName": word("Display"), "password": word("Password"), "title": word("Title"),
            "emails": [{ "value": email, "type": "work" }],
            "phoneNumbers": [{ "value": word("Phone"), "type": "work" }],
            "addresses": [{ "streetAddress": word("Street"), "type": "work" }],
            ENTERPRISE: { "department": word("Department") }, "unknown": word("Unknown")
        }))
        .await;
    let id = user["id"].as_str().unwrap().to_owned();
    let url = format!("/Users/{id}");
    acme.get(&url).await;
    acme.query(&format!("userName eq \"{}\"", word("UserName")))
        .await;
    acme.query(&format!("emails.value co \"{email}\"")).await;
    acme.get(&format!("/Users?nonsense={}", word("Query")))
        .await;
    acme.get(&format!("{url}?attributes={}", word("AttributeList")))
        .await;
    acme.patch(
        &url,
        &json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
            "Operations": [{ "op": "replace", "path": "nickName", "value": word("PatchValue") }]
        }),
    )
    .await;
    acme.put(
        &url,
        &json!({ "userName": word("UserName"), "title": word("Title") }),
    )
    .await;

    let session = crate::console::look_around(&world, &acme, &id, &word("Query")).await;

    // The client's mistakes.
    acme.post("/Users", &json!({ "userName": word("UserName") }))
        .await
        .scim_error(409, Some("uniqueness"));
    acme.send(
        Method::POST,
        "/Users",
        format!("{{\"userName\": {} ", word("Body")),
    )
    .await;
    acme.post(
        "/Users",
        &json!({ "userName": "x", "active": word("Body") }),
    )
    .await;
    acme.post(
        "/Users",
        &json!({ "userName": "x", "timezone": word("Body") }),
    )
    .await;
    acme.query(&format!("{} eq \"x\"", word("Query"))).await;
    acme.query(&format!("userName is \"{}\"", word("Query")))
        .await;
    acme.get(&format!("/Users/{}", word("PathId"))).await;
    acme.get(&format!("/{}", word("PathId"))).await;
    acme.delete(&format!("/Users/{}?x={}", word("PathId"), word("Query")))
        .await;
    acme.patch(&url, &json!({
        "Operations": [{ "op": word("Body"), "path": word("PatchValue"), "value": word("PatchValue") }]
    })).await;
    acme.get(&format!("/Users?startIndex={}", word("Query")))
        .await;

    // Credentials that are bad, elsewhere, or in other clothes.
    let basic = base64::engine::general_purpose::STANDARD.encode(format!(
        "{}:{}",
        word("Basic"),
        acme.token.secret
    ));
    let request = acme
        .region
        .request(Method::GET, "/Users")
        .header("authorization", format!("Basic {basic}"));
    assert_eq!(Answer::of(request).await.status, 200);
    acme.region
        .get_as(&word("Basic"), "/Users")
        .await
        .scim_error(401, None);
    acme.region
        .get_as(&german.token.secret, &format!("/Users/{}", word("PathId")))
        .await
        .scim_error(401, None);
    let revoked = world.token("us", &acme.id, json!({ "name": "x" })).await;
    acme.region.get_as(&revoked.secret, "/Users").await;
    world.meridian(&["token", "revoke", &revoked.id]);
    acme.region
        .get_as(&revoked.secret, "/Users")
        .await
        .scim_error(401, None);
    acme.region
        .get_as(
            &acme.token.secret,
            &format!("/Users?access_token={}", revoked.secret),
        )
        .await;

    // Access tokens.
    let client = crate::oauth::exchanged(&acme).await;
    client.get("/Users").await;
    let origin = acme.region.base_url.strip_suffix("/api/v1/scim").unwrap();
    let request = acme
        .region
        .client
        .post(format!("{origin}/oauth2/token?{}", word("Query")))
        .basic_auth(word("Basic"), Some(&revoked.secret));
    let form = [("grant_type", "client_credentials"), ("x", &word("Body"))];
    let answer = Answer::of(crate::oauth::with_form(request, &form)).await;
    assert_eq!(answer.status, 401);

    // Requests that are not HTTP, and a host of nobody.
    for request in [
        format!(
            "GET /{} HTTP/1.1\r\nHost: {}\r\n\r\n",
            word("PathId"),
            "example.com"
        ),
        format!(
            "GET /api/v1/scim/Users/{} HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            word("PathId")
        ),
        format!(
            "BREW /{0} HTTP/1.1\r\nHost: {0}.example.com\r\nConnection: close\r\n\r\n",
            word("PathId")
        ),
        format!("nonsense {} {}\r\n\r\n", word("Body"), word("Query")),
        format!(
            "GET /{} HTTP/1.1\r\n{}: x y\r\nbad header\r\n\r\n",
            word("PathId"),
            word("Body")
        ),
    ] {
        let request = request.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
        exchange(world.address(), request.as_bytes()).await;
    }
    acme.delete(&url).await;

    let figures = world.metrics().await.concat();
    assert!(figures.contains(&acme.id) && figures.contains("http_server_request_duration"));
    // Spans are of what is over: the last ones are of the last request.
    let deleted = |text: &str| text.contains("DELETE /scim/v2/Users/{id}").then_some(());
    collector.until(deleted).await;

    // The end of a process, and a new one.
    world.kill_and_restart();
    let acme = acme.reconnected();
    acme.get(&format!("/Users/{}", word("PathId"))).await;
    assert!(world.stop().success());

    let log = world.log();
    assert!(
        log.lines().count() > 40,
        "at `trace` there is something to search:\n{log}"
    );
    assert!(
        log.contains(&acme.id),
        "tenant ids may be logged, and the search must find them"
    );
    // Grants are JWTs, and their headers begin like this.
    for beginning in ["eyJhbGci", "eyJ0eXAi", "eyJraWQi"] {
        assert!(!log.contains(beginning), "a grant is in the log");
    }
    let log = [log, figures, collector.received()].join("\n");
    let log = log.to_lowercase();
    let mut secrets: Vec<(String, String)> = words
        .iter()
        .map(|(name, word)| ((*name).to_owned(), word.clone()))
        .collect();
    secrets.push(("the user's id".to_owned(), id.clone()));
    secrets.push((
        "the user's id, without hyphens".to_owned(),
        id.replace('-', ""),
    ));
    for (name, token) in [
        ("acme", &acme.token),
        ("german", &german.token),
        ("revoked", &revoked),
        ("an access token", &client.token),
    ] {
        // Without its prefix and its checksum: no part of the secret may be there.
        secrets.push((
            format!("the token of {name}"),
            token.secret[7..39].to_owned(),
        ));
    }
    secrets.push((
        "a session of the console".to_owned(),
        session[7..39].to_owned(),
    ));
    for region in ["us", "de"] {
        for key in ["link.key", "operator.key", "grant.key"] {
            let path = world.data_dir().join(region).join("keys").join(key);
            let key_text = std::fs::read_to_string(&path).unwrap();
            secrets.push((format!("{key} of {region}"), key_text.trim().to_owned()));
        }
    }
    for (name, secret) in secrets {
        for form in encodings(&secret) {
            let hit = log.lines().find(|line| line.contains(&form));
            assert!(
                hit.is_none(),
                "{name} is in the log, the figures or the traces as {form}: {}",
                hit.unwrap_or_default()
            );
        }
    }
}

#[tokio::test]
async fn the_search_finds_what_is_there() {
    let word = canary("Control");
    let hidden = [
        format!("x{word}y"),
        encode(&format!("a b {word} c")),
        hex::encode(format!("..{word}..")),
        STANDARD_NO_PAD.encode(format!("some text {word} and more")),
        STANDARD_NO_PAD.encode(format!("some text, {word} and more")),
        URL_SAFE_NO_PAD.encode(format!("some text., {word} and more")),
    ];
    for text in hidden {
        let text = text.to_lowercase();
        assert!(
            encodings(&word).iter().any(|form| text.contains(form)),
            "{text}"
        );
    }
}

#[tokio::test]
async fn errors_do_not_repeat_what_they_were_told() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    let word = canary("Echo");
    for answer in [
        acme.get(&format!("/Users/{word}")).await,
        acme.get(&format!("/{word}")).await,
        acme.post("/Users", &json!({ "userName": "a", "active": word }))
            .await,
        acme.send(Method::POST, "/Users", format!("{{{word}")).await,
        acme.region.get_as(&word, "/Users").await,
    ] {
        assert!((400..500).contains(&answer.status), "{answer:?}");
        assert!(
            !String::from_utf8_lossy(&answer.body).contains(&word),
            "{answer:?}"
        );
    }
}
