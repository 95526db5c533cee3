//! What operators see: one trace of a request through both programs, as a real collector receives
//! it; figures as a real Prometheus reads them; dashboards and alerts that ask for what there is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};
use shared::{ApiToken, RegionId};
use telemetry::{Metric, MetricKind};

use crate::support::collector::{Collector, Span};
use crate::support::prometheus::{Prometheus, deployed, panels, promtool, queries};
use crate::support::redis::Redis;
use crate::support::{Answer, Beside, Tenant, Token, World, patch, path};

fn rename() -> Value {
    patch(&json!([{"op": "replace", "path": "displayName", "value": "Babs"}]))
}

/// The span of this name and program in a trace.
fn find<'s>(spans: &'s [Span], service: &str, name: &str) -> Option<&'s Span> {
    spans
        .iter()
        .find(|span| span.service == service && span.name == name)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_patch_is_one_trace_from_the_gateway_to_the_store() {
    let collector = Collector::of("traces");
    let world = World::with_beside(Beside {
        collector: Some(collector.url()),
        ..Beside::default()
    });
    let acme = world.tenant("acme", "us").await;
    let user = acme
        .create_user(json!({"userName": "canary-jensen@example.com"}))
        .await;
    let answer = acme.patch(&path(&user), &rename()).await;
    assert_eq!(answer.status, 200);
    let request_id = answer.header("x-request-id").unwrap();

    const GATEWAY: &str = "meridian-gateway";
    const NODE: &str = "meridian-region-node";
    const ENTRY: &str = "PATCH Users/{id}";
    const AT_NODE: &str = "PATCH /scim/v2/Users/{id}";
    let trace = collector
        .until(|text| {
            let spans = Collector::spans(text);
            let entry = find(&spans, GATEWAY, ENTRY)?;
            let trace = spans.iter().filter(|span| span.trace == entry.trace);
            let trace: Vec<Span> = trace.cloned().collect();
            find(&trace, NODE, AT_NODE)?;
            find(&trace, NODE, "commit")?;
            Some(trace)
        })
        .await;
    let span = |service, name| {
        find(&trace, service, name).unwrap_or_else(|| panic!("no {name}: {trace:#?}"))
    };
    let entry = span(GATEWAY, ENTRY);
    let forward = span(GATEWAY, "forward");
    let at_node = span(NODE, AT_NODE);
    assert_eq!(entry.parent, "", "{trace:#?}");
    for child in [span(GATEWAY, "resolve"), forward] {
        assert_eq!(child.parent, entry.id, "{trace:#?}");
    }
    assert_eq!(at_node.parent, forward.id, "{trace:#?}");
    for name in ["read", "plan", "commit"] {
        assert_eq!(span(NODE, name).parent, at_node.id, "{trace:#?}");
    }
    // Every part lies within what it is a part of.
    for span in &trace {
        assert!(span.times.0 <= span.times.1, "{span:?}");
    }
    assert!(forward.times.0 >= entry.times.0 && forward.times.1 <= entry.times.1);
    assert_eq!(entry.kind, "SPAN_KIND_SERVER");
    assert_eq!(forward.kind, "SPAN_KIND_CLIENT");
    assert_eq!(at_node.kind, "SPAN_KIND_SERVER");
    for (key, value) in [
        ("http.request.method", "PATCH"),
        ("http.route", "Users/{id}"),
        ("http.response.status_code", "200"),
        ("region", "us"),
        ("tenant.id", acme.id.as_str()),
        ("request.id", request_id),
    ] {
        assert_eq!(entry.attributes[key], value, "{entry:#?}");
    }
    // The log of both programs names the trace.
    let named = format!(r#""trace_id":"{}""#, entry.trace);
    let log = world.log();
    let lines = log.lines().filter(|line| line.contains(&named));
    let targets: BTreeSet<String> = lines
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|line| line["target"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        targets.into_iter().collect::<Vec<_>>(),
        ["gateway::telemetry", "region_node::telemetry"]
    );
    // Nothing of the user is in any span.
    let received = collector.received();
    for personal in ["canary", "jensen", "Babs", user["id"].as_str().unwrap()] {
        assert!(!received.contains(personal), "{personal}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_not_believed_names_no_trace() {
    let collector = Collector::of("traces");
    let world = World::with_beside(Beside {
        collector: Some(collector.url()),
        ..Beside::default()
    });
    let acme = world.tenant("acme", "us").await;
    let foreign = "0af7651916cd43dd8448eb211c80319c";
    let request = acme.request(Method::GET, "/Users");
    let traced = request.header("traceparent", format!("00-{foreign}-b7ad6b7169203331-01"));
    assert_eq!(Answer::of(traced).await.status, 200);
    collector
        .until(|text| {
            let spans = Collector::spans(text);
            find(&spans, "meridian-region-node", "GET /scim/v2/Users").map(drop)
        })
        .await;
    assert!(!collector.received().contains(foreign));
    assert!(!world.log().contains(foreign));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_go_to_the_collector_under_the_names_of_the_registry() {
    let collector = Collector::of("metrics");
    let world = World::with_beside(Beside {
        collector: Some(collector.url()),
        ..Beside::default()
    });
    let acme = world.tenant("acme", "us").await;
    acme.create_user(json!({"userName": "bjensen"})).await;
    let text = collector
        .until(|text| text.contains("meridian.store.up").then(|| text.to_owned()))
        .await;
    for name in ["meridian.gateway.connections", "meridian.store.commits"] {
        assert!(text.contains(name), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_away_is_one_line_in_the_log_and_nothing_else() {
    let world = World::with_beside(Beside {
        // Nobody listens there.
        collector: Some("http://127.0.0.1:9".to_owned()),
        ..Beside::default()
    });
    let acme = world.tenant("acme", "us").await;
    let patience = std::time::Instant::now();
    let complaint = "setting telemetry.otlp_endpoint";
    while world.log().matches(complaint).count() < 2 {
        let user = acme.get("/Users").await;
        assert_eq!(user.status, 200);
        assert!(patience.elapsed().as_secs() < 60, "{}", world.log());
    }
    // One of each program, however much is lost.
    for _ in 0..100 {
        assert_eq!(acme.get("/Users").await.status, 200);
    }
    assert_eq!(world.log().matches(complaint).count(), 2);
}

/// What a metric is at `/metrics`: `http_server_request_duration_seconds`.
fn names() -> BTreeMap<String, &'static Metric> {
    gateway::metrics::all()
        .chain(region_node::metrics::all())
        .map(|metric| (metric.prometheus_name(), metric))
        .collect()
}

#[test]
fn the_document_lists_every_metric() {
    let programs: [(&str, Vec<&Metric>); 2] = [
        ("gateway", gateway::metrics::all().collect()),
        ("region-node", region_node::metrics::all().collect()),
    ];
    let mut table = String::from(
        "| metric | kind | labels | of | meaning |\n| --- | --- | --- | --- | --- |\n",
    );
    for (name, metric) in names() {
        let of = programs.iter().filter(|(_, all)| all.contains(&metric));
        let of: Vec<&str> = of.map(|(program, _)| *program).collect();
        let labels = metric.labels.iter().map(|label| label.replace('.', "_"));
        let labels: Vec<String> = labels.map(|label| format!("`{label}`")).collect();
        table.push_str(&format!(
            "| `{name}` | {} | {} | {} | {} |\n",
            metric.kind.as_str(),
            labels.join(", "),
            of.join(", "),
            metric.help
        ));
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/OPERATIONS.md");
    let document = fs::read_to_string(&file).unwrap();
    let (before, rest) = document.split_once("<!-- metrics -->\n").unwrap();
    let (written, after) = rest.split_once("<!-- end of metrics -->").unwrap();
    if std::env::var_os("MERIDIAN_TEST_WRITE").is_some() {
        let document = format!("{before}<!-- metrics -->\n{table}<!-- end of metrics -->{after}");
        fs::write(&file, document).unwrap();
    } else {
        assert_eq!(
            written, table,
            "write it anew with MERIDIAN_TEST_WRITE=1 in the environment of this test"
        );
    }
}

#[test]
fn every_metric_says_what_it_is() {
    for (name, metric) in names() {
        assert!(metric.help.ends_with('.'), "{name}: {}", metric.help);
        let is_total = name.ends_with("_total");
        assert_eq!(is_total, metric.kind == MetricKind::Counter, "{name}");
    }
}

/// Requests of all kinds: good ones, refused ones, one too many.
async fn traffic(world: &World) {
    let limits = r#"{"limits":{"requests_per_s":25,"burst":25,"in_flight":10}}"#;
    let acme = world.tenant("acme", "us").await;
    let greedy = world.tenant_with("greedy", "us", limits).await;
    let user = acme.create_user(json!({"userName": "bjensen"})).await;
    assert_eq!(acme.patch(&path(&user), &rename()).await.status, 200);
    assert_eq!(acme.get(&path(&user)).await.status, 200);
    assert_eq!(acme.find(r#"userName eq "bjensen""#).await.len(), 1);
    assert_eq!(acme.get("/Users/nobody").await.status, 404);
    let made_up = ApiToken::generate(&RegionId::parse("us").unwrap()).unwrap();
    let stranger = Tenant {
        token: Token {
            secret: made_up.reveal().to_owned(),
            ..acme.token.clone()
        },
        ..acme.clone()
    };
    for _ in 0..2 {
        assert_eq!(stranger.get("/Users").await.status, 401);
    }
    let mut limited = false;
    for _ in 0..200 {
        limited |= greedy.get("/Users").await.status == 429;
    }
    assert!(limited);
    let revoked = world.token("us", &acme.id, json!({})).await;
    let revoke = format!("/tokens/{}/revoke", revoked.id);
    world.operator("us", Method::POST, &revoke, None).await;
    assert_eq!(acme.delete(&path(&user)).await.status, 204);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figures_are_what_was_done_and_name_nobody() {
    let world = World::start();
    traffic(&world).await;
    let metrics = world.metrics().await;
    let [edge, node] = metrics.as_slice() else {
        panic!("{metrics:?}")
    };
    let figure = |text: &str, start: &str| -> f64 {
        let line = text.lines().find(|line| line.starts_with(start));
        let line = line.unwrap_or_else(|| panic!("no {start} in {text}"));
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    };
    let patches = "http_server_request_duration_seconds_count{region=\"us\",\
                   http_route=\"Users/{id}\",http_request_method=\"PATCH\",\
                   http_response_status_code=\"200\"}";
    assert!(figure(edge, patches) >= 1.0);
    assert!(figure(node, &patches.replace("Users/", "/scim/v2/Users/")) >= 1.0);
    let failures = |reason: &str| {
        let name = format!("meridian_gateway_failures_total{{region=\"us\",reason=\"{reason}\"}}");
        figure(edge, &name)
    };
    assert!(failures("token_unknown") >= 2.0);
    assert!(failures("tenant_limit") >= 1.0);
    assert!(figure(node, "meridian_tokens_revoked_total") >= 1.0);
    assert!(figure(node, "meridian_store_up") >= 1.0);
    let steps = "meridian_provisioning_step_duration_seconds_count{region=\"us\",step=\"commit\"}";
    assert!(figure(node, steps) >= 3.0);
    for text in [edge, node] {
        promtool(&["check", "metrics"], Some(text));
        assert!(!text.contains("bjensen"));
        // Every route has its template: nothing that was answered well is `other`.
        let unnamed = text.lines().filter(|line| {
            line.contains("http_route=\"other\"") && line.contains("status_code=\"20")
        });
        assert_eq!(unnamed.collect::<Vec<_>>(), Vec::<&str>::new());
    }
}

/// A dashboard as Grafana reads it, of the list of panels.
fn dashboard(of: &Value) -> Value {
    let source = json!({"type": "prometheus", "uid": "${source}"});
    let mut panels = Vec::new();
    for (number, panel) in of["panels"].as_array().unwrap().iter().enumerate() {
        let targets = panel["queries"].as_array().unwrap().iter().enumerate();
        let targets: Vec<Value> = targets
            .map(|(place, query)| {
                json!({
                    "refId": (b'A' + u8::try_from(place).unwrap()) as char,
                    "datasource": source,
                    "expr": query["expr"],
                    "legendFormat": query["legend"],
                })
            })
            .collect();
        panels.push(json!({
            "id": number + 1,
            "title": panel["title"],
            "description": panel["description"],
            "type": panel.get("type").unwrap_or(&json!("timeseries")),
            "datasource": source,
            "gridPos": {"x": number % 2 * 12, "y": number / 2 * 8, "w": 12, "h": 8},
            "fieldConfig": {"defaults": {"unit": panel["unit"], "min": 0}, "overrides": []},
            "targets": targets,
        }));
    }
    let mut variables = vec![json!({
        "name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus",
    })];
    for variable in of["variables"].as_array().unwrap() {
        variables.push(json!({
            "name": variable["name"],
            "label": variable["label"],
            "type": "query",
            "datasource": source,
            "query": {"query": variable["query"], "refId": "variable"},
            "refresh": 2,
            "multi": true,
            "includeAll": true,
            "allValue": ".*",
            "current": {"text": "All", "value": "$__all"},
        }));
    }
    json!({
        "uid": of["uid"],
        "title": of["title"],
        "tags": ["meridian"],
        "schemaVersion": 39,
        "editable": true,
        "time": {"from": "now-3h", "to": "now"},
        "refresh": "30s",
        "templating": {"list": variables},
        "panels": panels,
    })
}

#[test]
fn dashboards_are_made_of_the_list_of_panels() {
    for of in panels().as_array().unwrap() {
        let name = of["file"].as_str().unwrap();
        let made = format!("{:#}\n", dashboard(of));
        let file = deployed("grafana").join(name);
        if std::env::var_os("MERIDIAN_TEST_WRITE").is_some() {
            fs::write(&file, &made).unwrap();
        }
        assert_eq!(
            fs::read_to_string(&file).unwrap_or_default(),
            made,
            "{name} is not what panels.json says: write it anew with MERIDIAN_TEST_WRITE=1"
        );
    }
}

#[test]
fn rules_and_alerts_are_sound() {
    for (name, what) in [
        ("rules.yml", "check"),
        ("alerts.yml", "check"),
        ("tests.yml", "test"),
    ] {
        let file = deployed("prometheus").join(name);
        promtool(&[what, "rules", file.to_str().unwrap()], None);
    }
}

/// What looks like a metric of ours in the text of a rule.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
    let words = text.split(|c| !is_part(c));
    let ours = ["meridian_", "http_server_", "process_"];
    words
        .filter(|word| ours.iter().any(|start| word.starts_with(start)))
        .map(str::to_owned)
        .collect()
}

#[test]
fn rules_alerts_and_panels_ask_for_metrics_that_there_are() {
    let names = names();
    let folder = deployed("prometheus");
    let [rules, alerts] = ["rules.yml", "alerts.yml"].map(|name| {
        let text = fs::read_to_string(folder.join(name)).unwrap();
        text.lines()
            .filter(|line| !line.trim_start().starts_with('#'))
            .collect::<Vec<_>>()
            .join("\n")
    });
    let mut asked = metrics_in(&rules);
    asked.extend(metrics_in(&alerts));
    asked.extend(metrics_in(&panels().to_string()));
    assert!(asked.len() > 20, "{asked:?}");
    for name in asked {
        let base = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix))
            .filter(|base| names.contains_key(*base));
        // Recorded names have colons, and are defined by the rules.
        let is_recorded = name.contains(':') || rules.contains(&format!("record: {name}"));
        assert!(
            base.is_some() || names.contains_key(&name) || is_recorded,
            "{name}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_panel_and_rule_shows_something() {
    let redis = Redis::start();
    let world = World::with_redis(&redis.url());
    let prometheus = Prometheus::of(&world);
    // Looked at once before, so that what grows is seen to grow.
    prometheus.until("meridian_store_up == 1").await;
    prometheus.until("meridian_gateway_connections").await;
    traffic(&world).await;
    traffic(&world).await;
    // Those of TLS are asked where the production example runs.
    let queries = queries(false);
    assert!(queries.len() > 20, "{queries:?}");
    for query in &queries {
        prometheus.until(query).await;
    }
    let rules = fs::read_to_string(deployed("prometheus").join("rules.yml")).unwrap();
    let recorded = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- record: "));
    let mut rules = 0;
    for name in recorded {
        prometheus.until(name).await;
        rules += 1;
    }
    assert!(rules > 5, "{rules}");
}
