//! Everything that nobody should send gets a SCIM error and harms nothing.

use std::net::SocketAddr;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::raw::{body, exchange, read_to_end, status};
use crate::support::{Tenant, World};

/// The answer is an error of the caller, in SCIM's form.
#[track_caller]
fn assert_refused(what: &str, answer: &str) {
    let code = status(answer);
    assert!(
        (400..500).contains(&code) || code == 501,
        "{what}: {answer}"
    );
    let error: Value = serde_json::from_str(body(answer).trim())
        .unwrap_or_else(|_| panic!("{what}: no SCIM error: {answer}"));
    assert_eq!(
        error["schemas"],
        json!(["urn:ietf:params:scim:api:messages:2.0:Error"]),
        "{what}"
    );
    assert_eq!(error["status"], json!(code.to_string()), "{what}");
}

async fn assert_well(world: &mut World, acme: &Tenant) {
    assert!(world.is_running());
    assert_eq!(acme.get("/Users?count=0").await.status, 200);
}

#[tokio::test]
async fn bodies_that_are_not_json_as_it_should_be() {
    let mut world = World::start();
    let acme = world.tenant("acme", "us").await;
    let nested = |open: &str, close: &str, depth: usize| {
        format!(
            "{{\"userName\":\"a\",\"name\":{}1{}}}",
            open.repeat(depth),
            close.repeat(depth)
        )
    };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", b"".to_vec()),
        ("blank", b"   ".to_vec()),
        ("text", b"hello".to_vec()),
        ("unfinished", b"{\"userName\":\"a\"".to_vec()),
        ("two values", b"{\"userName\":\"a\"}{}".to_vec()),
        ("an array", b"[{\"userName\":\"a\"}]".to_vec()),
        ("a string", b"\"userName\"".to_vec()),
        ("null", b"null".to_vec()),
        ("a comma too many", b"{\"userName\":\"a\",}".to_vec()),
        ("a comment", b"{\"userName\":\"a\"/*x*/}".to_vec()),
        ("single quotes", b"{'userName':'a'}".to_vec()),
        ("NaN", b"{\"userName\":\"a\",\"x\":NaN}".to_vec()),
        (
            "a number without end",
            b"{\"userName\":\"a\",\"x\":1e999}".to_vec(),
        ),
        (
            "a duplicate key",
            b"{\"userName\":\"a\",\"userName\":\"b\"}".to_vec(),
        ),
        (
            "a duplicate key in another case",
            b"{\"userName\":\"a\",\"USERNAME\":\"b\"}".to_vec(),
        ),
        (
            "a duplicate key below",
            b"{\"userName\":\"a\",\"name\":{\"givenName\":\"x\",\"givenName\":\"y\"}}".to_vec(),
        ),
        (
            "a duplicate key by escape",
            b"{\"userName\":\"a\",\"user\\u004eame\":\"b\"}".to_vec(),
        ),
        ("NUL escaped", b"{\"userName\":\"a\\u0000b\"}".to_vec()),
        ("NUL as it is", b"{\"userName\":\"a\0b\"}".to_vec()),
        ("a control character", b"{\"userName\":\"a\x01b\"}".to_vec()),
        ("a lone surrogate", b"{\"userName\":\"a\\ud800b\"}".to_vec()),
        (
            "surrogates the wrong way round",
            b"{\"userName\":\"\\udc00\\ud800\"}".to_vec(),
        ),
        ("no UTF-8", b"{\"userName\":\"a\xff\xfe\"}".to_vec()),
        ("overlong UTF-8", b"{\"userName\":\"a\xc0\xaf\"}".to_vec()),
        (
            "a surrogate in UTF-8",
            b"{\"userName\":\"a\xed\xa0\x80\"}".to_vec(),
        ),
        (
            "UTF-16",
            "{\"userName\":\"a\"}"
                .encode_utf16()
                .flat_map(u16::to_le_bytes)
                .collect(),
        ),
        ("an unknown escape", b"{\"userName\":\"\\x61\"}".to_vec()),
        ("arrays too deep", nested("[", "]", 40).into_bytes()),
        ("objects too deep", nested("{\"a\":", "}", 40).into_bytes()),
        (
            "arrays far too deep",
            nested("[", "]", 200_000).into_bytes(),
        ),
        ("brackets that never close", b"[".repeat(500_000)),
        ("objects that never close", b"{\"a\":".repeat(100_000)),
    ];
    let user = acme.create_user(json!({ "userName": "present" })).await;
    let user = format!("/Users/{}", user["id"].as_str().unwrap());
    for (what, bytes) in cases {
        for (method, path) in [
            (Method::POST, "/Users"),
            (Method::PUT, &user),
            (Method::PATCH, &user),
        ] {
            let answer = acme.send(method.clone(), path, bytes.clone()).await;
            assert_eq!(answer.status, 400, "{what} by {method}: {answer:?}");
            assert_eq!(
                answer.json()["scimType"],
                "invalidSyntax",
                "{what} by {method}: {answer:?}"
            );
        }
    }
    assert_eq!(acme.find("userName pr").await, ["present"]);
    assert_well(&mut world, &acme).await;
}

#[tokio::test]
async fn a_byte_order_mark_changes_nothing_or_is_refused() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    let answer = acme
        .send(Method::POST, "/Users", "\u{feff}{\"userName\":\"a\"}")
        .await;
    assert!([201, 400].contains(&answer.status), "{answer:?}");
}

#[tokio::test]
async fn identifiers_with_invisible_characters() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    for name in [
        "a\u{202e}b",
        "a\u{7}b",
        "\u{200b}",
        "a\nb",
        " ",
        "a\u{feff}",
    ] {
        let answer = acme.post("/Users", &json!({ "userName": name })).await;
        answer.scim_error(400, Some("invalidValue"));
    }
}

#[tokio::test]
async fn bodies_over_the_limit() {
    let mut world = World::start();
    let acme = world.tenant("acme", "us").await;
    let fits = json!({ "userName": "fits", "title": "x".repeat(100_000) });
    acme.post("/Users", &fits).await;
    let large = json!({ "userName": "large", "title": "x".repeat(1024 * 1024) });
    acme.post("/Users", &large).await.scim_error(413, None);

    // A length that promises too much is refused before the body comes.
    let token = &acme.token.secret;
    let host = acme.region.host();
    let head = format!(
        "POST /api/v1/scim/Users HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/scim+json\r\nContent-Length: 99999999999\r\n\r\n"
    );
    assert_eq!(
        status(&exchange(world.address(), head.as_bytes()).await),
        413
    );

    // Without a length, as soon as it has gone too far.
    let mut request = head.replace("Content-Length: 99999999999", "Transfer-Encoding: chunked");
    for _ in 0..40 {
        request.push_str(&format!("10000\r\n{}\r\n", "x".repeat(0x10000)));
    }
    request.push_str("0\r\n\r\n");
    let answer = exchange(world.address(), request.as_bytes()).await;
    // The connection may be cut before the answer can be read.
    assert!(answer.is_empty() || status(&answer) == 413, "{answer}");
    assert_well(&mut world, &acme).await;
}

#[tokio::test]
async fn filters_that_are_bombs() {
    let mut world = World::start();
    let acme = world.tenant("acme", "us").await;
    acme.create_user(json!({ "userName": "bjensen" })).await;
    let term = "userName eq \"x\"";
    for (what, filter) in [
        (
            "parentheses",
            format!("{}{term}{}", "(".repeat(1000), ")".repeat(1000)),
        ),
        ("parentheses that never close", "(".repeat(7000)),
        (
            "not",
            format!("{}{term}{}", "not (".repeat(1000), ")".repeat(1000)),
        ),
        ("not, unfinished", "not (".repeat(1500)),
        ("terms", vec!["a eq 1"; 1000].join(" or ")),
        ("101 terms", vec![term; 101].join(" or ")),
        (
            "value paths in value paths",
            format!("{}value pr{}", "emails[".repeat(500), "]".repeat(500)),
        ),
        (
            "a path of many segments",
            format!("name{} eq 1", ".givenName".repeat(500)),
        ),
        (
            "over 8 KiB",
            format!("userName eq \"{}\"", "x".repeat(9000)),
        ),
        ("a NUL", "userName eq \"a\0\"".to_owned()),
        ("escapes", format!("userName eq \"{}", "\\".repeat(4000))),
        (
            "SQL",
            "userName eq \"x\" ; DROP TABLE resource --".to_owned(),
        ),
        ("SQL in a name", "userName\" OR 1=1 -- eq \"x\"".to_owned()),
    ] {
        let url = format!("/Users?filter={}", crate::support::encode(&filter));
        let answer = acme.get(&url).await;
        // The gateway may say that the URL is too long.
        if answer.status != 414 && answer.status != 431 {
            assert_eq!(answer.status, 400, "{what}: {answer:?}");
            let keyword = answer.json()["scimType"].clone();
            assert_eq!(keyword, "invalidFilter", "{what}: {answer:?}");
        }
    }
    // Hostile, and well-formed: finds nobody.
    for filter in [
        "userName eq \"' OR '1'='1\"",
        "userName eq \"x'; DROP TABLE resource; --\"",
        "userName co \"%\"",
        "userName sw \"_\"",
        "userName eq \"\\\\\"",
    ] {
        assert!(acme.find(filter).await.is_empty(), "{filter}");
    }
    // Not UTF-8 once it is decoded.
    let answer = acme.get("/Users?filter=userName%20eq%20%22%ff%22").await;
    assert_eq!(answer.status, 400, "{answer:?}");
    let answer = acme.get("/Users?filter=userName%20eq%20%22%zz%22").await;
    assert!([200, 400].contains(&answer.status), "{answer:?}");
    assert_eq!(acme.find("userName pr").await, ["bjensen"]);
    assert_well(&mut world, &acme).await;
}

#[tokio::test]
async fn patches_that_are_bombs() {
    let mut world = World::start();
    let acme = world.tenant("acme", "us").await;
    let user = acme.create_user(json!({ "userName": "bjensen" })).await;
    let url = format!("/Users/{}", user["id"].as_str().unwrap());
    for path in [
        "__proto__",
        "emails[type eq \"work\"",
        "emails[type eq \"work\"]]",
        "emails[emails[value pr]]",
        "name..givenName",
        ".name",
        "name.",
        "name.givenName.x.y.z",
        "[type eq \"work\"]",
        "",
        "\u{0}",
        "userName; DROP TABLE resource",
    ] {
        let body = json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
            "Operations": [{ "op": "replace", "path": path, "value": "x" }]
        });
        let answer = acme.patch(&url, &body).await;
        assert_eq!(answer.status, 400, "{path:?}: {answer:?}");
    }
    // What no schema knows is as if it had not been said.
    for path in [
        "constructor.prototype",
        "toString",
        "name.constructor",
        "urn:example:x:y",
    ] {
        let body = json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
            "Operations": [{ "op": "replace", "path": path, "value": { "x": 1 } }]
        });
        let answer = acme.patch(&url, &body).await;
        assert!([200, 400].contains(&answer.status), "{path:?}: {answer:?}");
    }
    for path in ["(".repeat(5000), "emails[".repeat(1000), "a.".repeat(4000)] {
        let body = json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
            "Operations": [{ "op": "replace", "path": path, "value": "x" }]
        });
        assert_eq!(acme.patch(&url, &body).await.status, 400);
    }
    for body in [
        json!({}),
        json!({ "Operations": {} }),
        json!({ "Operations": "replace" }),
        json!({ "Operations": [7] }),
        json!({ "Operations": [{}] }),
        json!({ "Operations": [{ "op": 7, "path": "title", "value": "x" }] }),
        json!({ "Operations": [{ "op": "replace", "path": 7, "value": "x" }] }),
        json!({ "Operations": [{ "op": "replace" }] }),
        json!({ "Operations": [{ "op": "add", "value": "not an object" }] }),
    ] {
        let answer = acme.patch(&url, &body).await;
        assert_eq!(answer.status, 400, "{body}: {answer:?}");
    }
    let now = acme.get(&url).await.json();
    assert_eq!(now, user, "nothing of it happened");
    assert_well(&mut world, &acme).await;
}

#[tokio::test]
async fn ids_that_try_to_leave_their_place() {
    let mut world = World::start();
    let acme = world.tenant("acme", "us").await;
    let (host, token) = (acme.region.host(), acme.token.secret.clone());
    for path in [
        "/api/v1/scim/Users/..",
        "/api/v1/scim/Users/../Users",
        "/api/v1/scim/Users/%2e%2e",
        "/api/v1/scim/Users/%2e%2e/%2e%2e/internal/v1/operator/tenants",
        "/api/v1/scim/Users/%2e%2e%2f%2e%2e%2finternal%2fv1%2fresolve",
        "/api/v1/scim/Users/..%2f..%2f",
        "/api/v1/scim/Users/%252e%252e",
        "/api/v1/scim/Users/a%00b",
        "/api/v1/scim/Users/a%0d%0aX-Injected:%201",
        "/api/v1/scim/Users/%ff%fe",
        "/api/v1/scim/Users/a%5cb",
        "/api/v1/scim/Users/a;b",
        "/api/v1/scim/../../internal/v1/operator/tenants",
        "/internal/v1/operator/tenants",
        "/internal/v1/resolve",
        "/scim/v2/Users",
        "/livez",
        "/readyz",
        "/metrics",
        "/",
        "/api/v1/scim/%55sers/%2e%2e/",
        "/api/v1/scim/Users/bulkId:1",
    ] {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\
             Connection: close\r\n\r\n"
        );
        let answer = exchange(world.address(), request.as_bytes()).await;
        assert_refused(path, &answer);
        assert!(
            !answer.to_lowercase().contains("\r\nx-injected"),
            "{answer}"
        );
    }
    // An id of any length and form is an id that nobody has.
    for id in [
        "x".repeat(3000),
        "%F0%9F%98%80".to_owned(),
        "00919288221112222".to_owned(),
    ] {
        acme.get(&format!("/Users/{id}"))
            .await
            .scim_error(404, None);
    }
    assert_well(&mut world, &acme).await;
}

#[tokio::test]
async fn requests_that_are_not_http_as_it_should_be() {
    let mut world = World::start();
    let acme = world.tenant("acme", "us").await;
    let (host, token) = (acme.region.host(), acme.token.secret.clone());
    let users = "/api/v1/scim/Users";
    let auth = format!("Authorization: Bearer {token}\r\n");
    let close = "Connection: close\r\n\r\n";
    let cases = [
        (
            "two hosts",
            format!("GET {users} HTTP/1.1\r\nHost: {host}\r\nHost: {host}\r\n{auth}{close}"),
        ),
        (
            "two different hosts",
            format!("GET {users} HTTP/1.1\r\nHost: {host}\r\nHost: example.com\r\n{auth}{close}"),
        ),
        ("no host", format!("GET {users} HTTP/1.1\r\n{auth}{close}")),
        (
            "an empty host",
            format!("GET {users} HTTP/1.1\r\nHost:\r\n{auth}{close}"),
        ),
        (
            "two credentials",
            format!("GET {users} HTTP/1.1\r\nHost: {host}\r\n{auth}{auth}{close}"),
        ),
        (
            "TRACE",
            format!("TRACE {users} HTTP/1.1\r\nHost: {host}\r\n{auth}{close}"),
        ),
        (
            "CONNECT",
            format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n{auth}{close}"),
        ),
        (
            "an unknown method",
            format!("BREW {users} HTTP/1.1\r\nHost: {host}\r\n{auth}{close}"),
        ),
        (
            "OPTIONS *",
            format!("OPTIONS * HTTP/1.1\r\nHost: {host}\r\n{auth}{close}"),
        ),
        (
            "an upgrade to WebSocket",
            format!(
                "GET {users} HTTP/1.1\r\nHost: {host}\r\n{auth}Connection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            ),
        ),
        (
            "an upgrade to h2c",
            format!(
                "GET {users} HTTP/1.1\r\nHost: {host}\r\n{auth}Connection: Upgrade, HTTP2-Settings\r\n\
             Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
            ),
        ),
        (
            "length and chunks",
            format!(
                "POST {users} HTTP/1.1\r\nHost: {host}\r\n{auth}Content-Length: 5\r\n\
             Transfer-Encoding: chunked\r\n{close}0\r\n\r\n"
            ),
        ),
        (
            "two lengths",
            format!(
                "POST {users} HTTP/1.1\r\nHost: {host}\r\n{auth}Content-Length: 2\r\nContent-Length: 3\r\n{close}{{}}x"
            ),
        ),
        (
            "a negative length",
            format!("POST {users} HTTP/1.1\r\nHost: {host}\r\n{auth}Content-Length: -1\r\n{close}"),
        ),
        (
            "an unknown transfer encoding",
            format!(
                "POST {users} HTTP/1.1\r\nHost: {host}\r\n{auth}Transfer-Encoding: gzip\r\n{close}"
            ),
        ),
        (
            "a compressed body",
            format!(
                "POST {users} HTTP/1.1\r\nHost: {host}\r\n{auth}Content-Type: application/scim+json\r\n\
             Content-Encoding: gzip\r\nContent-Length: 2\r\n{close}{{}}"
            ),
        ),
        (
            "a blank in a header's name",
            format!("GET {users} HTTP/1.1\r\nHost: {host}\r\n{auth}Bad Header: x\r\n{close}"),
        ),
        ("a request of another protocol", "GET\r\n\r\n".to_owned()),
        (
            "HTTP/2 without asking",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        ),
        (
            "a header of 200 KiB",
            format!(
                "GET {users} HTTP/1.1\r\nHost: {host}\r\n{auth}X-Large: {}\r\n{close}",
                "x".repeat(200_000)
            ),
        ),
        (
            "a thousand headers",
            format!(
                "GET {users} HTTP/1.1\r\nHost: {host}\r\n{auth}{}{close}",
                "X-A: b\r\n".repeat(1000)
            ),
        ),
    ];
    for (what, request) in cases {
        let answer = exchange(world.address(), request.as_bytes()).await;
        // What is no HTTP may be hung up on; what is gets an answer.
        if answer.is_empty()
            && ["a request of another protocol", "HTTP/2 without asking"].contains(&what)
        {
            continue;
        }
        let code = status(&answer);
        assert!(
            (400..500).contains(&code) || [501, 505].contains(&code),
            "{what}: {answer}"
        );
        assert!(
            !answer.contains(&token),
            "{what}: the token came back: {answer}"
        );
        assert_refused(what, &answer);
    }
    assert_well(&mut world, &acme).await;
}

#[tokio::test]
async fn headers_of_our_own_are_not_taken_from_strangers() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    for (name, value) in [
        ("x-meridian-base-url", "http://evil.example.com"),
        ("x-meridian-link-key", "guess"),
        ("x-meridian-operator-key", "guess"),
        ("x-meridian-deadline-ms", "1"),
        ("x-meridian-tenant", "ten_0123456789012345678901"),
        ("x-forwarded-host", "evil.example.com"),
        ("connection", "authorization, x-meridian-link-key"),
    ] {
        let request = acme.request(Method::POST, "/Users").header(name, value);
        let request = request
            .header("content-type", "application/scim+json")
            .body(json!({ "userName": name }).to_string());
        let answer = crate::support::Answer::of(request).await;
        assert_eq!(answer.status, 201, "{name}: {answer:?}");
        assert!(
            !String::from_utf8_lossy(&answer.body).contains("evil"),
            "{name}: {answer:?}"
        );
    }
}

#[tokio::test]
async fn clients_that_are_slow_are_let_go() {
    let mut world = World::start();
    let acme = world.tenant("acme", "us").await;
    let (host, token) = (acme.region.host(), acme.token.secret.clone());
    let half_a_header = format!("GET /api/v1/scim/Users HTTP/1.1\r\nHost: {host}\r\nX-Slow: ");
    let half_a_body = format!(
        "POST /api/v1/scim/Users HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/scim+json\r\nContent-Length: 1000\r\n\r\n{{\"userName\":"
    );
    let slow = [half_a_header, half_a_body].map(|request| stall(world.address(), request));
    let answers = futures_util::future::join_all(slow).await;
    // Half a header may be answered or hung up on; half a body is answered.
    for (answer, must_speak) in answers.iter().zip([false, true]) {
        if must_speak || !answer.is_empty() {
            assert_refused("a slow client", answer);
            assert_eq!(status(answer), 408, "{answer}");
        }
    }
    assert_well(&mut world, &acme).await;
}

/// Sends the beginning of a request, then nothing, and hears what comes before the end.
async fn stall(address: SocketAddr, beginning: String) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(beginning.as_bytes()).await.unwrap();
    read_to_end(&mut stream).await
}

#[tokio::test]
async fn requests_behind_each_other_are_answered_in_order() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    for n in 0..3 {
        acme.create_user(json!({ "userName": format!("user{n}") }))
            .await;
    }
    let (host, token) = (acme.region.host(), &acme.token.secret);
    let mut request = String::new();
    for n in 0..3 {
        let last = if n == 2 { "Connection: close\r\n" } else { "" };
        request.push_str(&format!(
            "GET /api/v1/scim/Users?filter=userName%20eq%20%22user{n}%22 HTTP/1.1\r\nHost: {host}\r\n\
             Authorization: Bearer {token}\r\n{last}\r\n"
        ));
    }
    let answer = exchange(world.address(), request.as_bytes()).await;
    let places: Vec<_> = (0..3)
        .map(|n| answer.find(&format!("\"user{n}\"")).unwrap())
        .collect();
    assert!(places.is_sorted(), "{answer}");
}

#[tokio::test]
async fn a_refusal_leaves_nothing_behind_on_the_connection() {
    // The body of a refused request must never be read as the next request.
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    let (host, token) = (acme.region.host(), &acme.token.secret);
    let smuggled = format!(
        "DELETE /api/v1/scim/Users/x HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    let request = format!(
        "POST /api/v1/scim/Users HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer nonsense\r\n\
         Content-Type: application/scim+json\r\nContent-Length: {}\r\n\r\n{smuggled}",
        smuggled.len()
    );
    let mut stream = TcpStream::connect(world.address()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut first = vec![0_u8; 64 * 1024];
    let n = stream.read(&mut first).await.unwrap();
    let heard = String::from_utf8_lossy(&first[..n]).into_owned();
    assert_eq!(status(&heard), 401, "{heard}");
    stream.shutdown().await.unwrap();
    let rest = read_to_end(&mut stream).await;
    assert!(
        !rest.contains("HTTP/1.1 404") && !rest.contains("HTTP/1.1 204"),
        "{rest}"
    );
}
