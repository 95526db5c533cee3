//! The production example of `deploy/example`, as an operator starts it: two gateways, two regions
//! with two nodes each, PostgreSQL, Redis, and TLS with certificates everywhere.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use shared::tls::{authorities, client_config};

use crate::support::conversation::Conversation;
use crate::support::prometheus::{Prometheus, queries};
use crate::support::{Region, Tenant, Token, program};

/// What `deploy/example` says, and the test shifts.
const PORTS: [u16; 14] = [
    8443, 8444, 8081, 8082, 9001, 9002, 9101, 9102, 9011, 9012, 9111, 9112, 5442, 6389,
];
const GATEWAYS: [u16; 2] = [8443, 8444];
const MANAGEMENT_OF_GATEWAYS: [u16; 2] = [8081, 8082];
const MANAGEMENT_OF_NODES: [u16; 4] = [9101, 9102, 9111, 9112];
/// Those of the identity providers; what else is replayed is about one program.
const CLIENTS: [&str; 5] = ["okta", "entra", "pingone", "onelogin", "jumpcloud"];

/// The example, which is taken down when this is dropped.
struct Example {
    folder: tempfile::TempDir,
    shift: u16,
}

impl Example {
    fn up() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // PostgreSQL runs as another user where this is root, and has to reach its files.
        let open = std::fs::Permissions::from_mode(0o711);
        std::fs::set_permissions(folder.path(), open).unwrap();
        let this = Self {
            folder,
            shift: free_shift(),
        };
        let output = this.run("up");
        assert!(output.status.success(), "{output:?}");
        this
    }

    fn run(&self, what: &str) -> Output {
        let script = root().join("deploy/example/run");
        let programs = program("meridian").parent().unwrap().to_owned();
        Command::new(script)
            .arg(what)
            .arg(self.place(""))
            .env("MERIDIAN_BIN", programs)
            .env("MERIDIAN_EXAMPLE_SHIFT", self.shift.to_string())
            .output()
            .unwrap()
    }

    fn place(&self, below: &str) -> PathBuf {
        self.folder.path().join("example").join(below)
    }

    /// A command, and its answer.
    fn meridian(&self, region: Option<&str>, arguments: &[&str]) -> (bool, Value) {
        let mut command = Command::new(program("meridian"));
        command.arg("--json").args(arguments);
        if let Some(region) = region {
            let file = self.place(&format!("etc/operator-{region}.env"));
            let text = std::fs::read_to_string(file).unwrap();
            command.envs(text.lines().map(|line| line.split_once('=').unwrap()));
        }
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{output:?}"));
        (output.status.success(), value)
    }

    /// A tenant that a client reaches through one of the gateways.
    fn tenant(&self, region: &'static str, gateway: u16) -> Tenant {
        let made = |arguments: &[&str]| {
            let (succeeded, made) = self.meridian(Some(region), arguments);
            assert!(succeeded, "{made}");
            made
        };
        let text = |value: &Value, member: &str| value[member].as_str().unwrap().to_owned();
        let id = text(
            &made(&["tenant", "create", "--region", region, "--name", "acme"]),
            "id",
        );
        let token = made(&["token", "create", "--region", region, "--tenant", &id]);
        let address = SocketAddr::from(([127, 0, 0, 1], gateway + self.shift));
        let host = format!("global-{region}.localhost");
        let trusted = authorities(&self.place("etc/edge-ca.pem")).unwrap();
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(client_config(trusted, None).unwrap())
            .no_proxy()
            .resolve(&host, address);
        Tenant {
            id,
            token: Token {
                id: text(&token, "id"),
                secret: text(&token, "token"),
            },
            region: Region {
                name: region.to_owned(),
                base_url: format!("https://{host}:{}/api/v1/scim", address.port()),
                address,
                client: client.build().unwrap(),
            },
        }
    }

    /// Where the management listeners of the gateways and of the nodes are.
    fn management(&self) -> [Vec<String>; 2] {
        let place = |port: &u16| format!("127.0.0.1:{}", port + self.shift);
        [
            MANAGEMENT_OF_GATEWAYS.iter().map(place).collect(),
            MANAGEMENT_OF_NODES.iter().map(place).collect(),
        ]
    }

    fn pids(&self) -> Vec<String> {
        let files = std::fs::read_dir(self.place("run")).unwrap();
        let pids = files.map(|file| file.unwrap().path());
        let pids = pids.filter(|path| path.extension().is_some_and(|end| end == "pid"));
        pids.map(|path| std::fs::read_to_string(path).unwrap().trim().to_owned())
            .collect()
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let output = self.run("down");
        if !output.status.success() {
            eprintln!("the example is not down: {output:?}");
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// What can be added to all ports of the example so that they are free, and stay below those that the
/// system gives to connections.
fn free_shift() -> u16 {
    let start = std::process::id() % 1000;
    let shifts = (0..1000).map(|n| u16::try_from(4000 + (start + 31 * n) % 1000 * 18).unwrap());
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let mut free = shifts.filter(|shift| PORTS.iter().all(|port| is_free(port + shift)));
    free.next().unwrap()
}

fn conversations() -> Vec<PathBuf> {
    let mut files: Vec<_> = CLIENTS
        .iter()
        .flat_map(|client| root().join("tests/data").join(client).read_dir().unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|file| file.extension().is_some_and(|end| end == "http"))
        .collect();
    files.sort();
    files
}

/// Every conversation through one gateway; what went wrong.
async fn replay(example: &Example, region: &'static str, gateway: u16) -> Vec<String> {
    let mut failures = Vec::new();
    for file in conversations() {
        let tenant = example.tenant(region, gateway);
        let replayed = Conversation::read(&file).replay(&tenant).await;
        failures.extend(replayed.err());
    }
    failures
}

#[tokio::test]
async fn the_example_serves_identity_providers_through_both_gateways() {
    let example = Example::up();
    let deployment = example.place("etc/deployment.toml").display().to_string();
    let (is_well, told) = example.meridian(None, &["doctor", "--deployment", &deployment]);
    assert!(is_well, "{told}");
    let checks = told["checks"].as_array().unwrap();
    assert!(checks.iter().all(|check| check["status"] == "ok"), "{told}");
    for said in [
        "the certificate of its edge",
        "its certificate for nodes of us",
        "its certificate for gateways",
        "postgres, schema version",
        "its nodes have the same keys",
        "served by 2 of 2 gateways",
        "the gateway reaches it",
        "operator key",
    ] {
        assert!(told.to_string().contains(said), "{said}: {told}");
    }

    let [gateways, nodes] = example.management();
    let prometheus = Prometheus::at(&gateways, &nodes);
    prometheus.until("meridian_gateway_connections").await;
    let [first, second] = GATEWAYS;
    let (of_first, of_second) = tokio::join!(
        replay(&example, "de", first),
        replay(&example, "us", second)
    );
    let failures = [of_first, of_second].concat();
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n\n"));

    // The panels of TLS show something, also of a client that speaks none.
    let mut plain = TcpStream::connect(("127.0.0.1", first + example.shift)).unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let queries = queries(true);
    assert!(queries.len() > 3, "{queries:?}");
    for query in queries {
        prometheus.until(&query).await;
    }
    let failed = "sum(meridian_gateway_tls_handshakes_failed_total) > 0";
    prometheus.until(failed).await;

    // A node less: nobody notices but the doctor.
    let pid = std::fs::read_to_string(example.place("run/node-us-2.pid")).unwrap();
    let killed = Command::new("kill").args(["-KILL", pid.trim()]).status();
    assert!(killed.unwrap().success());
    let tenant = example.tenant("us", first);
    assert_eq!(tenant.get("/Users").await.status, 200);
    let (is_well, told) = example.meridian(None, &["doctor", "--deployment", &deployment]);
    assert!(!is_well, "{told}");
    let failed = told["checks"].as_array().unwrap().iter();
    let failed: Vec<_> = failed.filter(|check| check["status"] == "failed").collect();
    let node = (9012 + example.shift).to_string();
    assert!(!failed.is_empty(), "{told}");
    assert!(
        failed.iter().all(|check| check.to_string().contains(&node)),
        "{failed:?}"
    );

    // Started again it is made whole, and everything ends orderly.
    let output = example.run("up");
    assert!(output.status.success(), "{output:?}");
    let patience = std::time::Instant::now();
    loop {
        let (is_well, told) = example.meridian(None, &["doctor", "--deployment", &deployment]);
        if is_well {
            break;
        }
        // The gateways look once a second.
        assert!(patience.elapsed().as_secs() < 20, "{told}");
    }
    let pids = example.pids();
    assert_eq!(pids.len(), 7);
    let ours = example.place("etc").display().to_string();
    // One that has ended and was not waited for has no command line.
    let runs = |pid: &String| {
        let line = std::fs::read_to_string(Path::new("/proc").join(pid).join("cmdline"));
        line.is_ok_and(|line| line.contains(&ours))
    };
    assert!(pids.iter().all(runs), "{pids:?}");
    let output = example.run("down");
    assert!(output.status.success(), "{output:?}");
    assert!(!pids.iter().any(runs), "{pids:?}");
    for node in ["node-de-1", "node-de-2", "node-us-1", "node-us-2"] {
        let log = std::fs::read_to_string(example.place(&format!("log/{node}.log"))).unwrap();
        let last = log.lines().last().unwrap_or_default();
        assert!(last.contains("\"stopped\""), "{node}: {last}");
    }
}

#[test]
fn what_is_wrong_with_settings_is_said_before_they_are_used() {
    let folder = tempfile::tempdir().unwrap();
    let node = folder.path().join("node.toml");
    let text =
        "region = \"de\"\nproduction = true\n[keys]\nlink_files = [\"/nonexistent/link.key\"]\n";
    std::fs::write(&node, text).unwrap();
    let check = |json: bool| {
        let mut command = Command::new(program("meridian"));
        command.args(["config", "check"]).arg(&node);
        if json {
            command.arg("--json");
        }
        command.output().unwrap()
    };
    let output = check(false);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    for said in ["/nonexistent/link.key", "keys.operator", "keys.grant"] {
        assert!(text.contains(said), "{text}");
    }
    let told: Value = serde_json::from_slice(&check(true).stdout).unwrap();
    assert_eq!(told["ok"], false);
    assert_eq!(told["checks"].as_array().unwrap().len(), 3, "{told}");

    // Nothing runs with these settings, and the look says so.
    let health = Command::new(program("meridian-region-node"))
        .arg("--health")
        .arg(&node)
        .env("MERIDIAN_NODE__MANAGEMENT_LISTEN", "127.0.0.1:1")
        .output()
        .unwrap();
    assert_eq!(health.status.code(), Some(1));
    let said = String::from_utf8(health.stderr).unwrap();
    assert!(said.contains("management_listen"), "{said}");
}
