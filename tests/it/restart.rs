//! A region-node is killed and started again behind a gateway that stays: no client notices. What
//! was sent and not answered is sent again, and the node knows what it has done already.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::history::{Load, Present};
use crate::support::{
    Answer, NO_LIMITS, Region, Tenant, Token, address_to_come_back_to, operator_call, plain_client,
    program, scale,
};

const CLIENTS: usize = 8;
const OPERATOR_KEY: &str = "operator-0123456789abcdefghijklmnop";
const LINK_KEY: &str = "link-0123456789abcdefghijklmnopqrst";
const GRANT_KEY: &str = "grant-0123456789abcdefghijklmnopqrs";

/// A gateway and a region-node as they are deployed: two programs.
struct Apart {
    folder: TempDir,
    gateway: Child,
    node: Child,
    gateway_address: SocketAddr,
    link: String,
    management: [String; 2],
}

impl Apart {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [listen, link, management, of_gateway] = [(); 4].map(|()| address_to_come_back_to());
        let store = folder.path().join("meridian.db");
        let node = format!(
            "region = \"us\"\nlink_listen = \"{link}\"\nmanagement_listen = \"{management}\"\n\
             [store]\npath = {store:?}\n\
             [keys]\nlink = [\"{LINK_KEY}\"]\noperator = [\"{OPERATOR_KEY}\"]\n\
             grant = [\"{GRANT_KEY}\"]\n"
        );
        let gateway = format!(
            "listen = \"{listen}\"\nmanagement_listen = \"{of_gateway}\"\npublic_port = 0\n\
             [regions.us]\nnodes = [\"http://{link}\"]\nlink_key = \"{LINK_KEY}\"\n"
        );
        fs::write(folder.path().join("meridian-region-node"), node).unwrap();
        fs::write(folder.path().join("meridian-gateway"), gateway).unwrap();
        let this = Self {
            node: run(&folder, "meridian-region-node"),
            gateway: run(&folder, "meridian-gateway"),
            gateway_address: listen.parse().unwrap(),
            link,
            management: [management, of_gateway],
            folder,
        };
        for management in &this.management {
            ready(management).await;
        }
        this
    }

    async fn operator(&self, path: &str, body: Value) -> Value {
        let link = format!("http://{}", self.link);
        operator_call(&link, OPERATOR_KEY, Method::POST, path, Some(body)).await
    }

    async fn tenant(&self) -> Tenant {
        let settings: Value = serde_json::from_str(NO_LIMITS).unwrap();
        let body = json!({ "name": "acme", "settings": settings });
        let tenant = self.operator("/tenants", body).await;
        let id = tenant["id"].as_str().unwrap().to_owned();
        let path = format!("/tenants/{id}/tokens");
        let token = self.operator(&path, json!({})).await;
        let base_url = format!(
            "http://global-us.localhost:{}/api/v1/scim",
            self.gateway_address.port()
        );
        let text = |member: &str| token[member].as_str().unwrap().to_owned();
        Tenant {
            id,
            token: Token {
                id: text("id"),
                secret: text("token"),
            },
            region: Region::new("us", &base_url, self.gateway_address),
        }
    }

    fn kill_node(&mut self) {
        self.node.kill().unwrap();
        self.node.wait().unwrap();
    }

    fn database(&self) -> PathBuf {
        self.folder.path().join("meridian.db")
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        for program in [&mut self.gateway, &mut self.node] {
            let _ = program.kill();
            let _ = program.wait();
        }
    }
}

/// Starts a program with the settings in the folder that have its name.
fn run(folder: &TempDir, name: &str) -> Child {
    Command::new(program(name))
        .arg(folder.path().join(name))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Waits until a program says that it can serve.
async fn ready(management: &str) {
    let client = plain_client();
    let patience = std::time::Instant::now();
    loop {
        let request = client.get(format!("http://{management}/readyz"));
        if matches!(Answer::try_of(request).await, Ok(answer) if answer.status == 200) {
            return;
        }
        assert!(
            patience.elapsed().as_secs() < 60,
            "a program does not start"
        );
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_notices_that_a_node_was_killed() {
    let kills = scale("MERIDIAN_TEST_KILLS", 6) / 2;
    let mut apart = Apart::start().await;
    let load = Load::on(apart.tenant().await, None).await;
    let told = load.told.clone();
    let clients = load.start(0, CLIENTS);
    for round in 0..kills {
        // Long enough that what was sent again has been answered: twice in a row is too much.
        told.wait_for(40 + 37 * round % 40).await;
        apart.kill_node();
        apart.node = run(&apart.folder, "meridian-region-node");
    }
    told.wait_for(40).await;
    told.enough(clients).await;
    assert_eq!(told.refused(), 0);
    told.history()
        .check_service(&load.tenant, &load.group)
        .await;
    apart.kill_node();
    let present = Present::of_file(&apart.database(), &load.tenant.id);
    let wrong = told.history().check(&present);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
