//! Bytes that no honest client sends. Whatever comes, the answer is a 4xx SCIM error, the
//! connection ends, nothing reaches a node, and the next client is served.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{PATIENCE, World};

/// The status of each answer in a connection's bytes, after checking that each is a SCIM error.
fn statuses(answer: &str) -> Vec<u16> {
    let mut statuses = Vec::new();
    let mut rest = answer;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("HTTP/1.1 100 Continue\r\n\r\n") {
            rest = after;
            continue;
        }
        let (head, after) = rest.split_once("\r\n\r\n").unwrap();
        let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().unwrap());
        let (body, after) = after.split_at(length);
        if status >= 400 {
            let error: Value =
                serde_json::from_str(body).unwrap_or_else(|_| panic!("no SCIM error: {answer}"));
            assert_eq!(error["status"], status.to_string());
            for header in [
                "cache-control: no-store",
                "x-content-type-options: nosniff",
                "x-request-id: ",
            ] {
                assert!(head.contains(header), "{header} in {head}");
            }
        }
        statuses.push(status);
        rest = after;
    }
    statuses
}

#[tokio::test]
async fn every_odd_request_is_refused_before_it_reaches_a_node() {
    let world = World::start().await;
    let token = world.token("us");
    let auth = format!("Authorization: Bearer {}\r\n", token.reveal());
    let host = "Host: global-us.localhost\r\n";
    let users = "/api/v1/scim/Users";
    let close = "Connection: close\r\n";
    let get = |headers: &str| format!("GET {users} HTTP/1.1\r\n{headers}\r\n");
    let post = |headers: &str, body: &str| {
        format!("POST {users} HTTP/1.1\r\n{host}{auth}{headers}\r\n{body}")
    };
    let method = |name: &str| format!("{name} {users} HTTP/1.1\r\n{host}{auth}{close}\r\n");

    let cases: Vec<(&str, String, &[u16])> = vec![
        // Hosts.
        ("two hosts", get(&format!("{host}{host}{auth}")), &[400]),
        (
            "two different hosts",
            get(&format!("{host}Host: global-de.localhost\r\n{auth}")),
            &[400],
        ),
        ("no host", get(&auth), &[400]),
        (
            "no host, 1.0",
            format!("GET {users} HTTP/1.0\r\n{auth}\r\n"),
            &[400],
        ),
        (
            "empty host",
            get(&format!("Host: \r\n{auth}{close}")),
            &[421],
        ),
        (
            "unknown host",
            get(&format!("Host: evil.example\r\n{auth}{close}")),
            &[421],
        ),
        (
            "no domain",
            get(&format!("Host: global-us\r\n{auth}{close}")),
            &[421],
        ),
        (
            "suffix",
            get(&format!(
                "Host: global-us.localhost.evil.example\r\n{auth}{close}"
            )),
            &[421],
        ),
        (
            "prefix",
            get(&format!("Host: x.global-us.localhost\r\n{auth}{close}")),
            &[421],
        ),
        (
            "user info",
            get(&format!("Host: global-us.localhost@evil\r\n{auth}{close}")),
            &[421],
        ),
        (
            "host list",
            get(&format!("Host: global-us.localhost, evil\r\n{auth}{close}")),
            &[421],
        ),
        (
            "address",
            get(&format!("Host: 127.0.0.1\r\n{auth}{close}")),
            &[421],
        ),
        (
            "IPv6",
            get(&format!("Host: [::1]\r\n{auth}{close}")),
            &[421],
        ),
        (
            "unknown region",
            get(&format!("Host: global-xx.localhost\r\n{auth}{close}")),
            &[421],
        ),
        (
            "forwarded host",
            get(&format!(
                "Host: evil.example\r\nX-Forwarded-Host: global-us.localhost\r\nForwarded: host=global-us.localhost\r\n{auth}{close}"
            )),
            &[421],
        ),
        (
            "another host in the target",
            format!("GET http://global-de.localhost{users} HTTP/1.1\r\n{host}{auth}{close}\r\n"),
            &[400],
        ),
        // Credentials.
        (
            "two authorizations",
            get(&format!("{host}{auth}{auth}{close}")),
            &[400],
        ),
        ("no authorization", get(&format!("{host}{close}")), &[401]),
        (
            "folded authorization",
            get(&format!(
                "{host}Authorization: Bearer\r\n {}\r\n{close}",
                token.reveal()
            )),
            &[400],
        ),
        // Methods and protocols.
        (
            "TRACE",
            format!("TRACE {users} HTTP/1.1\r\n{host}{auth}{close}\r\n"),
            &[405],
        ),
        (
            "CONNECT",
            format!("CONNECT global-us.localhost:443 HTTP/1.1\r\n{host}{auth}{close}\r\n"),
            &[405],
        ),
        (
            "CONNECT with a path",
            format!("CONNECT {users} HTTP/1.1\r\n{host}{auth}{close}\r\n"),
            &[400, 405],
        ),
        ("unknown method", method("FROB"), &[405]),
        ("lower case method", method("get"), &[405]),
        ("OPTIONS", method("OPTIONS"), &[405]),
        (
            "OPTIONS *",
            format!("OPTIONS * HTTP/1.1\r\n{host}{auth}{close}\r\n"),
            &[404, 405],
        ),
        ("DELETE of all", method("DELETE"), &[405]),
        (
            "websocket",
            get(&format!(
                "{host}{auth}Upgrade: websocket\r\nConnection: Upgrade, close\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n"
            )),
            &[400],
        ),
        (
            "h2c",
            get(&format!(
                "{host}{auth}Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings, close\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"
            )),
            &[400],
        ),
        (
            "h2 preface",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
            &[400],
        ),
        ("HTTP/0.9", format!("GET {users}\r\n\r\n"), &[400]),
        (
            "HTTP/3.0",
            format!("GET {users} HTTP/3.0\r\n{host}\r\n"),
            &[400],
        ),
        (
            "TLS hello",
            "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\r\n\r\n".to_owned(),
            &[400],
        ),
        (
            "expectation",
            post("Expect: 200-ok\r\nContent-Length: 2\r\n", "{}"),
            &[417],
        ),
        // Framing.
        (
            "length and chunked",
            post(
                "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
                "0\r\n\r\n",
            ),
            &[400],
        ),
        (
            "chunked and length",
            post(
                "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
                "0\r\n\r\n",
            ),
            &[400],
        ),
        (
            "two lengths",
            post("Content-Length: 2\r\nContent-Length: 3\r\n", "{}x"),
            &[400],
        ),
        (
            "two equal lengths",
            post("Content-Length: 2\r\nContent-Length: 2\r\n", "{}"),
            &[400],
        ),
        (
            "length list",
            post("Content-Length: 2, 2\r\n", "{}"),
            &[400],
        ),
        (
            "length with a sign",
            post("Content-Length: +2\r\n", "{}"),
            &[400],
        ),
        (
            "negative length",
            post("Content-Length: -1\r\n", "{}"),
            &[400],
        ),
        (
            "length in hex",
            post("Content-Length: 0x2\r\n", "{}"),
            &[400],
        ),
        (
            "huge length",
            post("Content-Length: 99999999999999999999\r\n", "{}"),
            &[400],
        ),
        (
            "large length",
            post("Content-Length: 9999999999\r\n", "{}"),
            &[413],
        ),
        (
            "two encodings",
            post(
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                "0\r\n\r\n",
            ),
            &[400],
        ),
        (
            "encoding list",
            post("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"),
            &[400],
        ),
        (
            "unknown encoding",
            post("Transfer-Encoding: gzip\r\n", "0\r\n\r\n"),
            &[400],
        ),
        (
            "encoding with a tab",
            post("Transfer-Encoding: \tchunkedx\r\n", "0\r\n\r\n"),
            &[400],
        ),
        (
            "chunked in 1.0",
            format!(
                "POST {users} HTTP/1.0\r\n{host}{auth}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            ),
            &[400],
        ),
        (
            "blank before colon",
            post("Content-Length : 2\r\n", "{}"),
            &[400],
        ),
        (
            "folded header",
            get(&format!("{host}{auth}X-A: 1\r\n 2\r\n")),
            &[400],
        ),
        (
            "bad header name",
            get(&format!("{host}{auth}X A: 1\r\n")),
            &[400],
        ),
        (
            "header without a name",
            get(&format!("{host}{auth}: 1\r\n")),
            &[400],
        ),
        (
            "NUL in a header",
            get(&format!("{host}{auth}X-A: a\0b\r\n")),
            &[400],
        ),
        (
            "bare CR",
            get(&format!("{host}{auth}X-A: a\rX-B: b\r\n")),
            &[400],
        ),
        (
            "bad chunk size",
            post("Transfer-Encoding: chunked\r\n", "zz\r\n{}\r\n0\r\n\r\n"),
            &[400],
        ),
        (
            "negative chunk",
            post("Transfer-Encoding: chunked\r\n", "-1\r\n{}\r\n0\r\n\r\n"),
            &[400],
        ),
        (
            "huge chunk",
            post(
                "Transfer-Encoding: chunked\r\n",
                "fffffffffffffffff\r\n{}\r\n0\r\n\r\n",
            ),
            &[400],
        ),
        (
            "chunk without end",
            post("Transfer-Encoding: chunked\r\n", "2\r\n{}xx0\r\n\r\n"),
            &[400],
        ),
        // Bodies.
        (
            "gzip",
            post("Content-Encoding: gzip\r\nContent-Length: 2\r\n", "{}"),
            &[415],
        ),
        (
            "twice encoded",
            post(
                "Content-Encoding: identity\r\nContent-Encoding: br\r\nContent-Length: 2\r\n",
                "{}",
            ),
            &[415],
        ),
        // Sizes.
        (
            "long target",
            format!(
                "GET {users}?filter={} HTTP/1.1\r\n{host}{auth}{close}\r\n",
                "a".repeat(40_000)
            ),
            &[414],
        ),
        (
            "65 headers that fit together",
            get(&format!(
                "{host}{auth}{close}{}",
                "Accept: a\r\n".repeat(62)
            )),
            &[431],
        ),
        (
            "large header",
            get(&format!(
                "{host}{auth}X-A: {}\r\n{close}",
                "a".repeat(70_000)
            )),
            &[431],
        ),
        (
            "huge header",
            get(&format!("{host}{auth}X-A: {}\r\n", "a".repeat(140_000))),
            &[431],
        ),
        (
            "many headers",
            get(&format!("{host}{auth}{}", "X-A: 1\r\n".repeat(200))),
            &[431],
        ),
        // Paths.
        (
            "dot segments",
            format!("GET /api/v1/scim/../scim/Users HTTP/1.1\r\n{host}{auth}{close}\r\n"),
            &[404],
        ),
        (
            "encoded dot segments",
            format!("GET /api/v1/scim/Users/%2e%2e HTTP/1.1\r\n{host}{auth}{close}\r\n"),
            &[404],
        ),
        (
            "encoded slash",
            format!("GET /api/v1/scim/Users/..%2fGroups HTTP/1.1\r\n{host}{auth}{close}\r\n"),
            &[404],
        ),
        (
            "backslash",
            format!("GET /api/v1/scim/Users/a\\b HTTP/1.1\r\n{host}{auth}{close}\r\n"),
            &[400, 404],
        ),
        (
            "NUL",
            format!("GET /api/v1/scim/Users/a%00 HTTP/1.1\r\n{host}{auth}{close}\r\n"),
            &[404],
        ),
        (
            "line break",
            format!("GET /api/v1/scim/Users/a%0d%0aX: HTTP/1.1\r\n{host}{auth}{close}\r\n"),
            &[404],
        ),
        (
            "internal path",
            format!("POST /internal/v1/resolve HTTP/1.1\r\n{host}{auth}{close}\r\n"),
            &[404],
        ),
        (
            "operator path",
            format!("GET /internal/v1/operator/tenants HTTP/1.1\r\n{host}{auth}{close}\r\n"),
            &[404],
        ),
        (
            "management path",
            format!("GET /readyz HTTP/1.1\r\n{host}{auth}{close}\r\n"),
            &[404],
        ),
    ];
    for (name, request, expected) in cases {
        let answer = world.raw(request.as_bytes()).await;
        let got = statuses(&answer);
        let first = got.first().unwrap_or_else(|| panic!("{name}: no answer"));
        assert!(expected.contains(first), "{name}: {got:?}\n{answer}");
        assert!(got.iter().all(|status| *status >= 400), "{name}: {got:?}");
        assert!(world.end("us").calls().is_empty(), "{name} reached a node");
    }
    assert!(
        world.end("us").lookups() <= 1,
        "only a live token was ever presented"
    );
    let answer = world.get("us", "/Users", &token).send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn a_refusal_before_the_body_ends_the_connection() {
    let world = World::start().await;
    let smuggled = "GET /api/v1/scim/Users HTTP/1.1\r\nHost: global-us.localhost\r\n\r\n";
    for framing in [
        format!("Content-Length: {}\r\n\r\n{smuggled}", smuggled.len()),
        format!(
            "Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{smuggled}\r\n0\r\n\r\n",
            smuggled.len()
        ),
        format!(
            "Expect: 100-continue\r\nContent-Length: {}\r\n\r\n{smuggled}",
            smuggled.len()
        ),
        // A body that never comes, and one that never ends.
        "Content-Length: 1000\r\n\r\n".to_owned(),
        "Transfer-Encoding: chunked\r\n\r\n".to_owned(),
    ] {
        let request =
            format!("POST /api/v1/scim/Users HTTP/1.1\r\nHost: global-us.localhost\r\n{framing}");
        let answer = world.raw(request.as_bytes()).await;
        assert_eq!(statuses(&answer), [401], "{framing}");
        assert!(answer.contains("connection: close"), "{answer}");
    }
    // More after the refused request is not taken for another one.
    let request = format!(
        "POST /api/v1/scim/Users HTTP/1.1\r\nHost: global-us.localhost\r\nContent-Length: 3\r\n\r\nabc{smuggled}{smuggled}"
    );
    assert_eq!(statuses(&world.raw(request.as_bytes()).await), [401]);
}

#[tokio::test]
async fn a_client_may_ask_before_it_sends_its_body() {
    let world = World::start().await;
    let token = world.token("us");
    let mut socket = TcpStream::connect(world.gateway).await.unwrap();
    let head = format!(
        "POST /api/v1/scim/Users HTTP/1.1\r\nHost: global-us.localhost\r\nAuthorization: {}\r\nExpect: 100-Continue\r\nConnection: close\r\nContent-Length: 2\r\n\r\n",
        token.reveal()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut asked = [0; 25];
    timeout(PATIENCE, socket.read_exact(&mut asked))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
    socket.write_all(b"{}").await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, socket.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_eq!(world.end("us").last_call().body, "{}");
    assert!(world.end("us").last_call().header("expect").is_none());
}

#[tokio::test]
async fn slow_clients_are_cut_off() {
    let world = World::start_with(|settings| {
        settings.timeouts.header_read_ms = 1000;
        settings.timeouts.body_read_ms = 300;
        settings.timeouts.keep_alive_ms = 1000;
    })
    .await;
    let token = world.token("us");
    let head = format!(
        "POST /api/v1/scim/Users HTTP/1.1\r\nHost: global-us.localhost\r\nAuthorization: {}\r\n",
        token.reveal()
    );
    // A header that does not end; a body that does not come; one that does not end.
    for (request, expected) in [
        (head.clone(), &[408][..]),
        (String::new(), &[408]),
        (format!("{head}Content-Length: 10\r\n\r\n{{"), &[408]),
        (
            format!("{head}Transfer-Encoding: chunked\r\n\r\n1\r\n{{\r\n"),
            &[408],
        ),
    ] {
        assert_eq!(
            statuses(&world.raw(request.as_bytes()).await),
            expected,
            "{request}"
        );
    }
    // The second header of a connection has its limit too.
    let complete = format!(
        "GET /api/v1/scim/Users HTTP/1.1\r\nHost: global-us.localhost\r\nAuthorization: {}\r\n\r\n",
        token.reveal()
    );
    // So has the time until it begins.
    for second in [&b"GET /api/v1/scim/Users HTTP/1.1\r\nHo"[..], b""] {
        let mut socket = TcpStream::connect(world.gateway).await.unwrap();
        socket.write_all(complete.as_bytes()).await.unwrap();
        let mut part = [0; 4096];
        let mut first = String::new();
        while !first.ends_with(r#"{"id":"1"}"#) {
            let count = timeout(PATIENCE, socket.read(&mut part))
                .await
                .unwrap()
                .unwrap();
            assert!(count > 0, "{first}");
            first.push_str(std::str::from_utf8(&part[..count]).unwrap());
        }
        socket.write_all(second).await.unwrap();
        let mut rest = Vec::new();
        let ended = timeout(PATIENCE, socket.read_to_end(&mut rest)).await;
        ended.expect("the connection stays open").ok();
        assert!(rest.is_empty());
    }
    assert_eq!(world.end("us").calls().len(), 2);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off() {
    let world = World::start_with(|settings| settings.timeouts.write_stall_ms = 300).await;
    let token = world.token("us");
    world
        .end("us")
        .behave(crate::support::Manner::Large(60 * 1024 * 1024));
    let mut socket = TcpStream::connect(world.gateway).await.unwrap();
    let request = format!(
        "GET /api/v1/scim/Users HTTP/1.1\r\nHost: global-us.localhost\r\nAuthorization: {}\r\n\r\n",
        token.reveal()
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    // We read nothing until the gateway has given up: writing to it then fails.
    let cut = async {
        let mut tick = tokio::time::interval(Duration::from_millis(50));
        loop {
            tick.tick().await;
            if socket.write_all(b"x").await.is_err() {
                return;
            }
        }
    };
    timeout(PATIENCE, cut)
        .await
        .expect("the connection stays open");
}

#[tokio::test]
async fn one_address_has_so_many_connections_and_no_more() {
    let world = World::start_with(|settings| {
        settings.limits.connections_per_source = 2;
        // One worker takes connections in the order in which they came.
        settings.workers = Some(1);
    })
    .await;
    let token = world.token("us");
    let request = format!(
        "GET /api/v1/scim/Users HTTP/1.1\r\nHost: global-us.localhost\r\nAuthorization: {}\r\nConnection: close\r\n\r\n",
        token.reveal()
    );
    let (mut one, two) = (
        TcpStream::connect(world.gateway).await.unwrap(),
        TcpStream::connect(world.gateway).await.unwrap(),
    );
    assert_eq!(world.raw(request.as_bytes()).await, "");
    drop(two);
    // The gateway notices in its own time.
    let served = async {
        while world.raw(request.as_bytes()).await.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, served).await.unwrap();
    one.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, one.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn identity_belongs_to_the_request_and_not_to_the_connection() {
    let world = World::start().await;
    let (one, two) = (world.token("us"), world.token("us"));
    let request = |token: &str, last: &str| {
        format!(
            "GET /api/v1/scim/Users HTTP/1.1\r\nHost: global-us.localhost\r\nAuthorization: {token}\r\n{last}\r\n"
        )
    };
    let pipelined = [
        request(one.reveal(), ""),
        request(two.reveal(), ""),
        request("nothing", ""),
        request(one.reveal(), "Connection: close\r\n"),
    ]
    .concat();
    let answer = world.raw(pipelined.as_bytes()).await;
    assert_eq!(statuses(&answer), [200, 200, 401, 200]);
    let calls = world.end("us").calls();
    let grant = |call: usize| calls[call].header("authorization").unwrap();
    assert_eq!(calls.len(), 3);
    assert_ne!(grant(0), grant(1));
    assert_eq!(grant(0), grant(2));
}

#[tokio::test]
async fn errors_are_told_in_the_dialect_of_the_path() {
    let world = World::start().await;
    let get = async |path: &str| {
        let answer = world
            .request(reqwest::Method::GET, "us", path)
            .send()
            .await
            .unwrap();
        let media_type = answer.headers()["content-type"]
            .to_str()
            .unwrap()
            .to_owned();
        (media_type, answer.json::<Value>().await.unwrap())
    };
    for path in ["/v1/Users", "/v1/nothing", "/v1"] {
        let (media_type, body) = get(path).await;
        assert_eq!(media_type, "application/json");
        assert!(body["Errors"][0]["code"].is_string(), "{body}");
    }
    let (media_type, body) = get("/Users").await;
    assert_eq!(media_type, "application/scim+json");
    assert_eq!(body["status"], "401");
}

#[tokio::test]
async fn discovery_is_read_only() {
    let world = World::start().await;
    let token = world.token("us");
    for path in [
        "/ServiceProviderConfig",
        "/Schemas",
        "/ResourceTypes",
        "/ResourceTypes/User",
    ] {
        for method in ["POST", "PUT", "PATCH", "DELETE"] {
            let answer = world
                .request(method.parse().unwrap(), "us", path)
                .bearer_auth(token.reveal())
                .body("test")
                .send()
                .await
                .unwrap();
            assert_eq!(answer.headers()["allow"], "GET, HEAD", "{method} {path}");
            crate::support::scim_error(answer, 405).await;
        }
    }
}
