//! The real program, at its most talkative: what it writes holds nothing of a request but what
//! DESIGN section 8 allows.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use actix_web::web::Data;
use serde_json::Value;
use shared::link::Refusal;

use crate::support::{FarEnd, LINK_KEY, Manner, Node, PATIENCE, World};

/// The program with its standard error; killed when dropped.
struct Program {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStderr>>,
    address: SocketAddr,
}

impl Program {
    fn start(node: SocketAddr) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_meridian-gateway"))
            .env_clear()
            .env("MERIDIAN_GATEWAY__LISTEN", "127.0.0.1:0")
            .env("MERIDIAN_GATEWAY__MANAGEMENT_LISTEN", "127.0.0.1:0")
            .env(
                "MERIDIAN_GATEWAY__REGIONS__US__NODES",
                format!("[\"http://{node}\"]"),
            )
            .env("MERIDIAN_GATEWAY__REGIONS__US__LINK_KEY", LINK_KEY)
            .env("MERIDIAN_GATEWAY__TIMEOUTS__NODE_HOLD_MS", "100")
            .env("MERIDIAN_GATEWAY__TELEMETRY__LEVEL", "trace")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let first: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        let address = first["listen"].as_str().unwrap().parse().unwrap();
        Self {
            child,
            lines,
            address,
        }
    }

    /// Asks the program to stop, and gives the rest of what it wrote.
    fn stop(mut self) -> Vec<String> {
        let pid = self.child.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        assert!(asked.success());
        let lines = self.lines.by_ref().map(Result::unwrap).collect();
        assert!(self.child.wait().unwrap().success());
        lines
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _already_gone = self.child.kill();
    }
}

#[tokio::test]
async fn a_program_whose_log_nobody_reads_serves_and_ends_when_it_is_told_to() {
    let world = World::start().await;
    let mut program = Program::start(world.us.address);
    let live = world.token_with("us", |resolved| {
        resolved.limits.requests_per_s = 10_000;
        resolved.limits.burst = 10_000;
    });
    // Many times what a pipe holds.
    for _ in 0..1000 {
        let request = world
            .http
            .get(format!("http://{}/api/v1/scim/Users", program.address))
            .header("host", "global-us.localhost")
            .bearer_auth(live.reveal());
        assert_eq!(request.send().await.unwrap().status(), 200);
    }
    let pid = program.child.id().to_string();
    let asked = Command::new("kill").args(["-TERM", &pid]).status().unwrap();
    assert!(asked.success());
    let ended = async {
        loop {
            if let Some(status) = program.child.try_wait().unwrap() {
                return status;
            }
            tokio::task::yield_now().await;
        }
    };
    let ended = tokio::time::timeout(PATIENCE, ended).await;
    assert!(ended.expect("it goes on").success());
}

#[tokio::test]
async fn the_log_holds_no_secret_and_nobodys_name() {
    // For its tokens; the requests go to the program.
    let world = World::start().await;
    let node = Node::start(
        "127.0.0.1:0".parse().unwrap(),
        Data::<FarEnd>::clone(&world.us.state),
    );
    let program = Program::start(node.address);
    let live = world.token("us");
    let revoked = world.token("us");
    world.refuse(&revoked, Refusal::Revoked);
    let damaged = format!("{}x", live.reveal());

    let send = async |method: &str, path: &str, token: &str| {
        let request = world
            .http
            .request(
                method.parse().unwrap(),
                format!("http://{}{path}", program.address),
            )
            .header("host", "global-us.localhost")
            .header("authorization", format!("Bearer {token}"))
            .header("user-agent", "canary-agent")
            .header("x-canary", "canary-header")
            .header("x-request-id", "canary-request-id")
            .body(r#"{"userName":"canary-body@example.com"}"#);
        request.send().await.map(|answer| answer.status().as_u16())
    };
    let scim = "/api/v1/scim";
    let users = format!("{scim}/Users?filter=userName%20eq%20%22canary-filter%40example.com%22");
    let user = format!("{scim}/Users/canary-id");
    for (method, path, token, expected) in [
        ("POST", users.as_str(), live.reveal(), 200),
        ("PATCH", user.as_str(), live.reveal(), 200),
        ("GET", user.as_str(), live.reveal(), 200),
        ("GET", user.as_str(), revoked.reveal(), 401),
        ("GET", user.as_str(), damaged.as_str(), 401),
        ("GET", "/api/v1/scim/canary-path", live.reveal(), 404),
        ("CANARY", user.as_str(), live.reveal(), 405),
    ] {
        assert_eq!(
            send(method, path, token).await.unwrap(),
            expected,
            "{method} {path}"
        );
    }
    world.us.state.behave(Manner::Status(
        307,
        vec![("location", "http://canary-location.example/")],
        "canary-answer",
    ));
    assert_eq!(send("GET", &user, live.reveal()).await.unwrap(), 502);
    world.us.state.behave(Manner::WrongEcho);
    assert_eq!(send("GET", &user, live.reveal()).await.unwrap(), 503);
    *world.us.state.resolve_status.lock().unwrap() = Some(500);
    assert_eq!(
        send("GET", &user, world.token("us").reveal())
            .await
            .unwrap(),
        503
    );
    node.stop().await;
    assert_eq!(send("POST", &users, live.reveal()).await.unwrap(), 503);
    assert_eq!(
        send("POST", &users, world.token("us").reveal())
            .await
            .unwrap(),
        503
    );

    let lines = program.stop();
    let log = lines.join("\n");
    // The search is not blind: what may be there is there.
    for allowed in [
        "Users/{id}",
        "\"tenant_id\":\"ten_",
        "\"token_id\":\"tok_",
        "ALARM",
        "\"status\":502",
    ] {
        assert!(log.contains(allowed), "{allowed} in {log}");
    }
    let digest = String::from(live.digest());
    let secrets = [
        live.reveal(),
        revoked.reveal(),
        LINK_KEY,
        "grant-ten",
        &digest,
        "mrd_",
    ];
    for forbidden in secrets
        .into_iter()
        .chain(["canary", "Canary", "CANARY", "example.com"])
    {
        assert!(!log.contains(forbidden), "{forbidden} in {log}");
    }
    // The address of a node is the operator's business, but not in every line.
    assert!(!log.contains(&node.address.to_string()), "{log}");
    for line in &lines {
        let line: Value = serde_json::from_str(line).unwrap();
        let target = line["target"].as_str().unwrap();
        assert!(
            target.starts_with("gateway") || target.starts_with("meridian"),
            "{line}"
        );
    }
    let requests = lines
        .iter()
        .filter(|line| line.contains("\"duration_ms\":"));
    assert_eq!(requests.count(), 12);
}

#[test]
fn a_start_without_a_region_ends_with_a_sentence_that_names_it() {
    let output = Command::new(env!("CARGO_BIN_EXE_meridian-gateway"))
        .env_clear()
        .output()
        .unwrap();
    assert!(!output.status.success());
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(
        complaint.starts_with("meridian-gateway: setting `regions`"),
        "{complaint}"
    );
}

#[test]
fn a_start_with_an_unknown_setting_ends_with_its_name() {
    let output = Command::new(env!("CARGO_BIN_EXE_meridian-gateway"))
        .env_clear()
        .env("MERIDIAN_GATEWAY__LIMITS__LOOKUPS_PER_SECOND", "5")
        .output()
        .unwrap();
    assert!(!output.status.success());
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(complaint.contains("lookups_per_second"), "{complaint}");
}
