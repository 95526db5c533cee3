//! What reaches a node, what comes back, and what happens when a node does not behave.

use reqwest::Method;
use serde_json::{Value, json};
use shared::link;

use crate::support::{LINK_KEY, Manner, Node, World, scim_error};

#[tokio::test]
async fn a_call_reaches_its_region_with_the_grant_in_the_tokens_place() {
    let world = World::start().await;
    let token = world.token("us");
    let answer = world
        .request(Method::POST, "us", "//Users/?attributes=userName&")
        .bearer_auth(token.reveal())
        .header("content-type", "application/scim+json; charset=utf-8")
        .header("accept", "application/scim+json")
        .header("if-match", "W/\"7\"")
        .body(r#"{"userName":"a"}"#)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["etag"], "W/\"1\"");
    assert_eq!(answer.headers()["location"], "https://x/Users/1");
    assert_eq!(answer.headers()["content-type"], "application/scim+json");
    assert_eq!(answer.headers()["cache-control"], "no-store");
    assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
    assert!(answer.headers().get("x-meridian-secret").is_none());
    assert!(answer.headers().get("server").is_none());
    let request_id = answer.headers()["x-request-id"]
        .to_str()
        .unwrap()
        .to_owned();
    assert_eq!(answer.text().await.unwrap(), r#"{"id":"1"}"#);

    let call = world.end("us").last_call();
    assert_eq!(call.method, "POST");
    assert_eq!(call.target, "/scim/v2/Users?attributes=userName&");
    assert_eq!(call.body, r#"{"userName":"a"}"#);
    assert!(
        call.header("authorization")
            .unwrap()
            .starts_with("Bearer grant-")
    );
    assert_eq!(call.header(link::LINK_KEY), Some(LINK_KEY));
    assert_eq!(call.header(link::REQUEST_ID), Some(request_id.as_str()));
    let base = format!(
        "http://global-us.localhost:{}/api/v1/scim",
        world.gateway.port()
    );
    assert_eq!(call.header(link::BASE_URL), Some(base.as_str()));
    let left: u64 = call.header(link::DEADLINE_MS).unwrap().parse().unwrap();
    assert!((1..=30_000).contains(&left));
    assert_eq!(call.header("if-match"), Some("W/\"7\""));
    assert_eq!(call.header("traceparent").unwrap().len(), 55);
    assert_eq!(call.header(link::IDEMPOTENCY_KEY).unwrap().len(), 32);
    assert!(!format!("{call:?}").contains(token.reveal()));
    assert!(world.end("de").calls().is_empty());
}

#[tokio::test]
async fn the_base_path_that_was_used_is_the_one_in_links() {
    let world = World::start().await;
    let token = world.token("us");
    let port = world.gateway.port();
    for (path, target, host, base) in [
        (
            "/v2/Users",
            "/scim/v2/Users",
            "GLOBAL-US.localhost.:99",
            format!("http://global-us.localhost:{port}/api/v1/scim/v2"),
        ),
        (
            "/v1/Users",
            "/scim/v1/Users",
            "global-us.localhost",
            format!("http://global-us.localhost:{port}/api/v1/scim/v1"),
        ),
        (
            "/Users/a%2Db?",
            "/scim/v2/Users/a-b",
            "scim.customer.example",
            format!("http://scim.customer.example:{port}/api/v1/scim"),
        ),
    ] {
        let answer = world
            .http
            .get(format!("http://{}/api/v1/scim{path}", world.gateway))
            .header("host", host)
            .bearer_auth(token.reveal())
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        let call = world.end("us").last_call();
        assert_eq!(call.target, target);
        assert_eq!(call.header(link::BASE_URL), Some(base.as_str()));
    }
}

#[tokio::test]
async fn a_trace_goes_on_where_clients_are_believed() {
    let world = World::start_with(|settings| settings.telemetry.trust_traceparent = true).await;
    let token = world.token("us");
    let (trace, span) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    for flags in ["00", "01"] {
        let traceparent = format!("00-{trace}-{span}-{flags}");
        let request = world.get("us", "/Users", &token);
        let answer = request.header("traceparent", traceparent).send().await;
        assert_eq!(answer.unwrap().status(), 200);
        let call = world.end("us").last_call();
        let told = call.header("traceparent").unwrap();
        assert!(told.starts_with(&format!("00-{trace}-")), "{told}");
        assert!(told.ends_with(&format!("-{flags}")), "{told}");
        assert!(!told.contains(span), "{told}");
    }
}

#[tokio::test]
async fn only_listed_headers_travel_and_ours_cannot_be_given() {
    let world = World::start().await;
    let token = world.token("us");
    let mut request = world.get("us", "/Users", &token);
    for (name, value) in [
        ("x-meridian-link-key", "forged"),
        ("x-meridian-base-url", "https://evil.example"),
        ("x-meridian-deadline-ms", "1"),
        ("x-meridian-operator-key", "forged"),
        ("x-meridian-resent", "forged"),
        ("x_meridian_link_key", "forged"),
        ("x-request-id", "mine"),
        ("forwarded", "host=evil.example"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-for", "192.0.2.1"),
        ("cookie", "session=forged"),
        ("te", "trailers"),
        ("keep-alive", "timeout=5"),
        ("proxy-authorization", "Bearer forged"),
        (
            "connection",
            "keep-alive, x-meridian-link-key, authorization, if-match",
        ),
        ("x-http-method-override", "DELETE"),
        ("accept-encoding", "gzip"),
        ("user-agent", "Okta SCIM Client 1.0.0"),
        (
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ),
    ] {
        request = request.header(name, value);
    }
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_ne!(answer.headers()["x-request-id"], "mine");
    let call = world.end("us").last_call();
    assert_eq!(call.method, "GET");
    let shown = format!("{call:?}");
    for gone in [
        "forged",
        "evil.example",
        "mine",
        "192.0.2.1",
        "trailers",
        "gzip",
        "DELETE",
    ] {
        assert!(!shown.contains(gone), "{gone}: {shown}");
    }
    assert_eq!(call.header("user-agent"), Some("Okta SCIM Client 1.0.0"));
    // Whoever named a trace could put requests under somebody else's.
    let trace = call.header("traceparent").unwrap();
    assert!(!trace.contains("0af7651916cd43dd8448eb211c80319c"));
    assert!(trace.ends_with("-00"), "{trace}");
    let mut names: Vec<_> = call.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "accept",
            "authorization",
            "host",
            "traceparent",
            "user-agent",
            "x-meridian-base-url",
            "x-meridian-deadline-ms",
            "x-meridian-link-key",
            "x-request-id",
        ]
    );
}

#[tokio::test]
async fn head_is_a_get_without_a_body() {
    let world = World::start().await;
    let token = world.token("us");
    let answer = world
        .request(Method::HEAD, "us", "/Users/1")
        .bearer_auth(token.reveal())
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.text().await.unwrap(), "");
    assert_eq!(world.end("us").last_call().method, "GET");
}

#[tokio::test]
async fn statuses_of_the_node_come_back_as_they_are() {
    let world = World::start().await;
    let token = world.token("us");
    for status in [
        200, 201, 204, 304, 400, 403, 404, 409, 412, 413, 429, 500, 501, 503,
    ] {
        let extra = vec![("content-type", "application/scim+json")];
        let body = if matches!(status, 204 | 304) {
            ""
        } else {
            "{}"
        };
        world.end("us").behave(Manner::Status(status, extra, body));
        let answer = world.get("us", "/Users/1", &token).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status);
        assert_eq!(answer.headers().contains_key("retry-after"), status == 503);
        assert_eq!(answer.text().await.unwrap(), body);
    }
}

#[tokio::test]
async fn an_answer_that_no_node_gives_is_not_passed_on() {
    let world = World::start().await;
    let token = world.token("us");
    let scim = ("content-type", "application/scim+json");
    for (manner, expected) in [
        (Manner::WrongEcho, 503),
        (Manner::NoEcho, 503),
        (
            Manner::Status(307, vec![("location", "http://127.0.0.1:9/"), scim], "{}"),
            502,
        ),
        (
            Manner::Status(302, vec![("location", "/elsewhere"), scim], "{}"),
            502,
        ),
        (
            Manner::Status(200, vec![("content-type", "text/html")], "<p>"),
            502,
        ),
        (Manner::Status(200, vec![], "bare"), 502),
        // The node refuses the gateway, which says nothing about the client.
        (Manner::Status(401, vec![scim], "{}"), 503),
    ] {
        world.end("us").behave(manner.clone());
        let answer = world.get("us", "/Users", &token).send().await.unwrap();
        let detail = scim_error(answer, expected).await;
        assert!(!detail.contains("another tenant"), "{manner:?}");
    }
}

#[tokio::test]
async fn a_large_answer_is_streamed_and_an_endless_one_is_cut() {
    let world = World::start_with(|settings| settings.limits.answer_max_mib = 8).await;
    let token = world.token("us");
    world.end("us").behave(Manner::Large(8 * 1024 * 1024));
    let answer = world.get("us", "/Users", &token).send().await.unwrap();
    assert_eq!(answer.bytes().await.unwrap().len(), 8 * 1024 * 1024);
    world.end("us").behave(Manner::Large(8 * 1024 * 1024 + 1));
    let answer = world.get("us", "/Users", &token).send().await.unwrap();
    scim_error(answer, 502).await;
}

#[tokio::test]
async fn a_body_may_be_as_large_as_its_route_allows() {
    let world = World::start().await;
    let token = world.token("us");
    let mib = 1024 * 1024;
    for (method, path, size, expected) in [
        (Method::POST, "/Users", mib, 200),
        (Method::POST, "/Users", mib + 1, 413),
        (Method::PUT, "/Groups/1", 16 * mib, 200),
        (Method::PUT, "/Groups/1", 16 * mib + 1, 413),
        (Method::PATCH, "/Groups/1", mib + 1, 413),
    ] {
        for chunked in [false, true] {
            let body = vec![b'x'; size];
            let body = if chunked {
                let parts = body
                    .chunks(64 * 1024)
                    .map(|part| Ok::<_, std::io::Error>(part.to_vec()));
                reqwest::Body::wrap_stream(futures_util::stream::iter(parts.collect::<Vec<_>>()))
            } else {
                body.into()
            };
            let before = world.end("us").calls().len();
            let sent = world
                .request(method.clone(), "us", path)
                .bearer_auth(token.reveal())
                .body(body)
                .send()
                .await;
            // A client that is still sending may find the connection closed; what counts is that
            // nothing reached the node.
            match sent {
                Ok(answer) if expected == 413 => drop(scim_error(answer, 413).await),
                Ok(answer) => assert_eq!(answer.status().as_u16(), expected),
                Err(error) => assert!(expected == 413, "{method} {path} {size} {error}"),
            }
            let reached = world.end("us").calls().len() - before;
            assert_eq!(
                reached,
                usize::from(expected == 200),
                "{method} {path} {size}"
            );
        }
    }
}

#[tokio::test]
async fn a_node_that_cannot_be_reached_is_503_and_other_regions_go_on() {
    let world = World::start().await;
    let (us, de) = (world.token("us"), world.token("de"));
    world.us.stop().await;
    // Nothing is known of the token: its look-up fails.
    let answer = world.get("us", "/Users", &us).send().await.unwrap();
    scim_error(answer, 503).await;
    let answer = world.get("de", "/Users", &de).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    // Known, and the call fails.
    world.de.stop().await;
    let answer = world.get("de", "/Users", &de).send().await.unwrap();
    scim_error(answer, 503).await;
}

#[tokio::test]
async fn a_nodes_restart_is_invisible() {
    let world = World::start_with(|settings| settings.timeouts.node_hold_ms = 10_000).await;
    let token = world.token("us");
    world.us.stop().await;
    let request = world
        .request(Method::POST, "us", "/Users")
        .bearer_auth(token.reveal())
        .body("{}");
    let held = tokio::spawn(request.send());
    let restarted = Node::start(world.us.address, world.us.state.clone());
    let answer = held.await.unwrap().unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(restarted.state.calls().len(), 1);
}

#[tokio::test]
async fn another_node_of_the_region_takes_over() {
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = dead.local_addr().unwrap();
    drop(dead);
    let world = World::start_with(|settings| {
        for region in settings.regions.values_mut() {
            region.nodes.insert(0, format!("http://{gone}"));
        }
    })
    .await;
    let token = world.token("us");
    for _ in 0..4 {
        let answer = world.get("us", "/Users", &token).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }
}

#[tokio::test]
async fn a_node_that_does_not_answer_in_time_is_503() {
    let world = World::start_with(|settings| settings.timeouts.request_ms = 300).await;
    let token = world.token("us");
    assert_eq!(
        world
            .get("us", "/Users", &token)
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    world.end("us").close_gate();
    world.end("us").behave(Manner::Silent);
    let answer = world.get("us", "/Users", &token).send().await.unwrap();
    scim_error(answer, 503).await;
}

#[tokio::test]
async fn a_slow_region_takes_nothing_from_the_others() {
    let world = World::start_with(|settings| {
        settings.limits.node_in_flight = 2;
        settings.limits.region_waiting = 0;
    })
    .await;
    let (us, de) = (world.token("us"), world.token("de"));
    assert_eq!(
        world
            .get("us", "/Users", &us)
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    world.end("us").close_gate();
    world.end("us").behave(Manner::Silent);
    let slow: Vec<_> = (0..2)
        .map(|_| tokio::spawn(world.get("us", "/Users", &us).send()))
        .collect();
    let arrived = async {
        loop {
            let notified = world.end("us").arrived.notified();
            if world.end("us").calls().len() == 3 {
                return;
            }
            notified.await;
        }
    };
    tokio::time::timeout(crate::support::PATIENCE, arrived)
        .await
        .unwrap();
    let answer = world.get("us", "/Users", &us).send().await.unwrap();
    scim_error(answer, 503).await;
    assert_eq!(
        world
            .get("de", "/Users", &de)
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    world.end("us").open_gate();
    for request in slow {
        assert_eq!(request.await.unwrap().unwrap().status(), 200);
    }
    assert_eq!(
        world
            .get("us", "/Users", &us)
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
}

#[tokio::test]
async fn a_request_under_way_finishes_when_the_gateway_stops() {
    let mut world = World::start().await;
    let token = world.token("us");
    assert_eq!(
        world
            .get("us", "/Users", &token)
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    world.end("us").close_gate();
    world.end("us").behave(Manner::Silent);
    let under_way = tokio::spawn(world.get("us", "/Users", &token).send());
    let arrived = async {
        while world.end("us").calls().len() < 2 {
            world.end("us").arrived.notified().await;
        }
    };
    tokio::time::timeout(crate::support::PATIENCE, arrived)
        .await
        .unwrap();
    world.stop();
    // It accepts nothing more, sooner or later; then the node answers.
    while tokio::net::TcpStream::connect(world.gateway).await.is_ok() {
        tokio::task::yield_now().await;
    }
    world.end("us").open_gate();
    assert_eq!(under_way.await.unwrap().unwrap().status(), 200);
    world.ended.await.unwrap().unwrap();
}

#[tokio::test]
async fn readiness_tells_which_regions_can_be_reached() {
    let world = World::start_with(|settings| settings.timeouts.node_look_ms = 100).await;
    let ready = |ready: bool, us: bool, de: bool, trouble: Value| {
        let mut expected = json!({
            "ready": ready,
            "stopping": false,
            "regions": { "de": de, "us": us },
        });
        if trouble != json!({}) {
            expected["trouble"] = trouble;
        }
        (if ready { 200 } else { 503 }, expected)
    };
    // From the first answer on: a node that was not looked at yet is looked at now.
    assert_eq!(world.readiness().await, ready(true, true, true, json!({})));

    let [us, de] = [&world.us, &world.de];
    let [us_name, de_name] = [format!("us {}", us.address), format!("de {}", de.address)];
    let key = "refuses the link key";
    for status in [401, 403] {
        *us.state.health_status.lock().unwrap() = Some(status);
        let (status, expected) = ready(true, false, true, json!({ &us_name: key }));
        world.ready_so(status, expected).await;
        *us.state.health_status.lock().unwrap() = None;
        let (status, expected) = ready(true, true, true, json!({}));
        world.ready_so(status, expected).await;
    }
    // A node of before this call existed, and one that is about to stop, serve.
    for status in [404, 503] {
        *us.state.health_status.lock().unwrap() = Some(status);
        assert_eq!(world.readiness().await, ready(true, true, true, json!({})));
    }

    let away = "cannot be connected to";
    world.us.stop().await;
    let (status, expected) = ready(true, false, true, json!({ &us_name: away }));
    world.ready_so(status, expected).await;
    *de.state.health_status.lock().unwrap() = Some(401);
    let trouble = json!({ &us_name: away, &de_name: key });
    let (status, expected) = ready(false, false, false, trouble);
    world.ready_so(status, expected).await;
    let live = format!("http://{}/livez", world.management);
    assert_eq!(world.http.get(live).send().await.unwrap().status(), 200);
}
