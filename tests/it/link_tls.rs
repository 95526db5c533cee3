//! Gateway, region-node and the operator's command as they are deployed, with TLS and a certificate
//! on both sides between them.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use shared::tls::IdentityFiles;

use crate::support::authority::Authority;
use crate::support::fleet::{Fleet, OPERATOR_KEY, Plan};
use crate::support::{Answer, Tenant, Token, eventually, plain_client, program};

/// Gateways look at nodes and at their certificates more often than they do elsewhere.
const QUICK_GATEWAY: &str = "[timeouts]\nnode_look_ms = 200\ncertificates_look_ms = 50\n";

fn settings_of(table: &str, identity: &IdentityFiles, authorities: &str, file: &Path) -> String {
    format!(
        "[{table}]\ncertificate_file = {:?}\nkey_file = {:?}\n{authorities} = {file:?}\n",
        identity.certificate_file, identity.key_file
    )
}

/// A region whose link is encrypted, and a tenant of it that the operator's command has made.
struct Secured {
    fleet: Fleet,
    tenant: Tenant,
    authority: Authority,
    folder: tempfile::TempDir,
}

impl Secured {
    /// With a gateway whose certificate is of this authority, or of the right one.
    async fn start(of_gateway: Option<&Authority>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let authority = Authority::new();
        let file = authority.file(path);
        let node = authority.identity(path, "node", &["127.0.0.1"]);
        let gateway = of_gateway.unwrap_or(&authority);
        let gateway_identity = gateway.identity(path, "gateway", &["gateway.example"]);
        authority.identity(path, "operator", &["operator.example"]);
        std::fs::write(path.join("operator-key"), OPERATOR_KEY).unwrap();
        let of_nodes = settings_of("link_tls", &node, "client_ca_file", &file);
        let of_gateways = settings_of("link_tls", &gateway_identity, "ca_file", &file);
        let mut fleet = Fleet::prepare(Plan {
            of_nodes: &of_nodes,
            of_gateways: &format!("{of_gateways}{QUICK_GATEWAY}"),
            scheme: "https",
            links: true,
            ..Plan::default()
        })
        .await;
        start(&mut fleet, of_gateway.is_none()).await;
        let tenant = tenant(&fleet, "us", path);
        Self {
            fleet,
            tenant,
            authority,
            folder,
        }
    }

    /// How ready the gateway says it is.
    async fn readiness(&self) -> Answer {
        readiness(&self.fleet).await
    }
}

async fn readiness(fleet: &Fleet) -> Answer {
    let management = &fleet.gateways[0].management;
    Answer::of(plain_client().get(format!("http://{management}/readyz"))).await
}

/// Starts all of it, and waits until it can serve; but for gateways that nodes do not know.
async fn start(fleet: &mut Fleet, are_known: bool) {
    for program in fleet.programs() {
        program.start();
    }
    for node in fleet.nodes.values().flatten() {
        node.program.ready().await;
    }
    for gateway in &fleet.gateways {
        match are_known {
            true => gateway.ready().await,
            false => gateway.alive().await,
        }
    }
}

/// A tenant that the operator's command makes in a region, with the certificate of a folder.
fn tenant(fleet: &Fleet, region: &'static str, folder: &Path) -> Tenant {
    let run = |arguments: &[&str]| {
        let (succeeded, answer) = meridian(fleet, region, folder, arguments);
        assert!(succeeded, "{answer}");
        answer
    };
    let text = |value: &Value, member: &str| value[member].as_str().unwrap().to_owned();
    let tenant = run(&["tenant", "create", "--region", region, "--name", "acme"]);
    let id = text(&tenant, "id");
    let token = run(&["token", "create", "--region", region, "--tenant", &id]);
    Tenant {
        id,
        token: Token {
            id: text(&token, "id"),
            secret: text(&token, "token"),
        },
        region: fleet.region(region),
    }
}

/// The operator's command, with the certificate that the folder has for it.
fn meridian(fleet: &Fleet, region: &str, folder: &Path, arguments: &[&str]) -> (bool, Value) {
    let file = |name: &str| folder.join(name).display().to_string();
    let output = Command::new(program("meridian"))
        .args(arguments)
        .args(["--json", "--endpoint", &fleet.endpoint(region)])
        .args(["--operator-key", &file("operator-key")])
        .args(["--ca-file", &file("authority.pem")])
        .args(["--certificate-file", &file("operator.pem")])
        .args(["--key-file", &file("operator.key")])
        .output()
        .unwrap();
    let answer = match output.status.success() {
        true => output.stdout,
        false => [output.stdout, output.stderr].concat(),
    };
    let text = String::from_utf8(answer).unwrap();
    let value = serde_json::from_str(&text).unwrap_or_else(|_| json!(text));
    (output.status.success(), value)
}

#[tokio::test]
async fn calls_and_commands_pass_and_connections_are_kept() {
    let secured = Secured::start(None).await;
    let tenant = &secured.tenant;
    let user = tenant.create_user(json!({ "userName": "ada" })).await;
    let path = format!("/Users/{}", user["id"].as_str().unwrap());
    for _ in 0..20 {
        assert_eq!(tenant.get(&path).await.status, 200);
    }
    let link = &secured.fleet.nodes["us"][0].link;
    let opened = link.opened();
    for _ in 0..100 {
        assert_eq!(tenant.get(&path).await.status, 200);
    }
    // Looks at the node's health, and at the gateway's by the balancer, open some too.
    let more = link.opened() - opened;
    assert!(more < 50, "{more} connections for 100 calls");

    // A command without the right certificate is told nothing, and says so.
    let foreign = Authority::new();
    foreign.identity(secured.folder.path(), "operator", &["operator.example"]);
    let folder = secured.folder.path();
    let (succeeded, answer) = meridian(&secured.fleet, "us", folder, &["tenant", "list"]);
    assert!(!succeeded, "{answer}");
    assert!(answer.to_string().contains("does not answer"), "{answer}");
    // Nor is one that speaks plain HTTP, or has no certificate at all.
    let endpoint = secured.fleet.endpoint("us");
    for (endpoint, complaint) in [
        (endpoint.replace("https://", "http://"), "does not answer"),
        (endpoint, "--ca-file"),
    ] {
        let output = Command::new(program("meridian"))
            .args(["tenant", "list", "--endpoint", &endpoint, "--operator-key"])
            .arg(secured.folder.path().join("operator-key"))
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && told.contains(complaint),
            "{told}"
        );
    }
}

#[tokio::test]
async fn a_gateway_that_nodes_do_not_know_says_that_the_region_is_away() {
    let foreign = Authority::new();
    let secured = Secured::start(Some(&foreign)).await;
    for _ in 0..3 {
        let answer = secured.tenant.get("/Users").await;
        answer.scim_error(503, None);
        let wait = answer.header("retry-after").unwrap();
        assert!(wait.parse::<u32>().unwrap() >= 1);
    }
    let not_ready = eventually_troubled(&secured.fleet, "us", OURS).await;
    assert_eq!(not_ready.status, 503);
    let log = secured.fleet.gateways[0].log();
    assert!(!log.contains(&secured.tenant.token.secret));
    assert!(log.contains(&format!("a node {OURS}")), "{log}");
}

const OURS: &str = "refuses this gateway's certificate";
const ITS: &str = "has a certificate that this gateway refuses";

/// Waits until the gateway says that this is the trouble with the first node of a region.
async fn eventually_troubled(fleet: &Fleet, region: &str, trouble: &str) -> Answer {
    let node = format!("{region} {}", fleet.nodes[region][0].link.address);
    let patience = std::time::Instant::now();
    loop {
        let answer = readiness(fleet).await;
        let told = answer.json();
        if told["trouble"][&node] == trouble {
            assert_eq!(told["regions"][region], false, "{told}");
            return answer;
        }
        assert!(patience.elapsed().as_secs() < 20, "{told}");
    }
}

#[tokio::test]
async fn a_gateway_that_nodes_know_no_more_is_not_ready_though_its_connections_are() {
    let secured = Secured::start(None).await;
    let tenant = &secured.tenant;
    assert_eq!(tenant.get("/Users").await.status, 200);
    let management = &secured.fleet.gateways[0].management;
    let metrics = Answer::of(plain_client().get(format!("http://{management}/metrics"))).await;
    let metrics = String::from_utf8(metrics.body).unwrap();
    let ends = metrics
        .lines()
        .find_map(|line| {
            line.strip_prefix("meridian_gateway_link_certificate_ends_seconds{region=\"us\"} ")
        })
        .unwrap();
    assert!(ends.parse::<i64>().unwrap() > 0, "{metrics}");

    // As good as one that has run out: it was good when the connections were made.
    let path = secured.folder.path();
    Authority::new().identity(path, "gateway", &["gateway.example"]);
    let not_ready = eventually_troubled(&secured.fleet, "us", OURS).await;
    assert_eq!(not_ready.status, 503);
    secured
        .authority
        .identity(path, "gateway", &["gateway.example"]);
    let ready = eventually(200, async || secured.readiness().await).await;
    assert!(ready.json().get("trouble").is_none());
    assert_eq!(tenant.get("/Users").await.status, 200);
}

#[tokio::test]
async fn each_region_has_its_own_authority_and_gateway_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let regions = ["us", "de"];
    let mut of_gateways = QUICK_GATEWAY.to_owned();
    let authorities = regions.map(|region| {
        let path = folder.path().join(region);
        std::fs::create_dir(&path).unwrap();
        let authority = Authority::new();
        let file = authority.file(&path);
        authority.identity(&path, "node", &["127.0.0.1"]);
        authority.identity(&path, "operator", &["operator.example"]);
        std::fs::write(path.join("operator-key"), OPERATOR_KEY).unwrap();
        let gateway = authority.identity(&path, "gateway", &["gateway.example"]);
        let table = format!("regions.{region}.link_tls");
        of_gateways.push_str(&settings_of(&table, &gateway, "ca_file", &file));
        authority
    });
    let of_region = |name: &str| folder.path().join("{region}").join(name);
    let node = IdentityFiles {
        certificate_file: of_region("node.pem"),
        key_file: of_region("node.key"),
    };
    let file = of_region("authority.pem");
    let of_nodes = settings_of("link_tls", &node, "client_ca_file", &file);
    let mut fleet = Fleet::prepare(Plan {
        regions: &regions,
        of_nodes: &of_nodes,
        of_gateways: &of_gateways,
        scheme: "https",
        links: true,
        ..Plan::default()
    })
    .await;
    start(&mut fleet, true).await;
    let [us, de] = regions.map(|region| tenant(&fleet, region, &folder.path().join(region)));
    for tenant in [&us, &de] {
        // Its look-up and the call itself go different ways.
        let user = tenant.create_user(json!({ "userName": "ada" })).await;
        let path = format!("/Users/{}", user["id"].as_str().unwrap());
        assert_eq!(tenant.get(&path).await.status, 200);
    }
    let told = readiness(&fleet).await.json();
    assert_eq!(told["regions"], json!({ "us": true, "de": true }), "{told}");

    // What de's authority signs is no node of us.
    let [_, of_de] = authorities;
    of_de.identity(&folder.path().join("us"), "node", &["127.0.0.1"]);
    let answer = eventually_troubled(&fleet, "us", ITS).await;
    assert_eq!(answer.status, 200);
    let told = answer.json();
    assert_eq!(
        told["regions"],
        json!({ "us": false, "de": true }),
        "{told}"
    );
    assert_eq!(de.get("/Users").await.status, 200);
}
