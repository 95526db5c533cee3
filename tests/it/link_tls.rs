//! Gateway, region-node and the operator's command as they are deployed, with TLS and a certificate
//! on both sides between them.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use shared::tls::IdentityFiles;

use crate::support::authority::Authority;
use crate::support::fleet::{Fleet, OPERATOR_KEY, Plan};
use crate::support::{Tenant, Token, program};

fn settings_of(identity: &IdentityFiles, authorities: &str, file: &Path) -> String {
    format!(
        "[link_tls]\ncertificate_file = {:?}\nkey_file = {:?}\n{authorities} = {file:?}\n",
        identity.certificate_file, identity.key_file
    )
}

/// A region whose link is encrypted, and a tenant of it that the operator's command has made.
struct Secured {
    fleet: Fleet,
    tenant: Tenant,
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
        let gateway = gateway.identity(path, "gateway", &["gateway.example"]);
        authority.identity(path, "operator", &["operator.example"]);
        std::fs::write(path.join("operator-key"), OPERATOR_KEY).unwrap();
        let fleet = Fleet::start(Plan {
            of_nodes: &settings_of(&node, "client_ca_file", &file),
            of_gateways: &settings_of(&gateway, "ca_file", &file),
            scheme: "https",
            links: true,
            ..Plan::default()
        })
        .await;
        let meridian = |arguments: &[&str]| {
            let (succeeded, answer) = meridian(&fleet, path, arguments);
            assert!(succeeded, "{answer}");
            answer
        };
        let text = |value: &Value, member: &str| value[member].as_str().unwrap().to_owned();
        let tenant = meridian(&["tenant", "create", "--region", "us", "--name", "acme"]);
        let id = text(&tenant, "id");
        let token = meridian(&["token", "create", "--region", "us", "--tenant", &id]);
        let tenant = Tenant {
            id,
            token: Token {
                id: text(&token, "id"),
                secret: text(&token, "token"),
            },
            region: fleet.region("us"),
        };
        Self {
            fleet,
            tenant,
            folder,
        }
    }
}

/// The operator's command, with the certificate that the folder has for it.
fn meridian(fleet: &Fleet, folder: &Path, arguments: &[&str]) -> (bool, Value) {
    let file = |name: &str| folder.join(name).display().to_string();
    let output = Command::new(program("meridian"))
        .args(arguments)
        .args(["--json", "--endpoint", &fleet.endpoint("us")])
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
    let (succeeded, answer) = meridian(&secured.fleet, secured.folder.path(), &["tenant", "list"]);
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
    let log = secured.fleet.gateways[0].log();
    assert!(!log.contains(&secured.tenant.token.secret));
}
