//! [`Fleet`]: Meridian as it is deployed: gateways and region-nodes, each a program of its own,
//! a load balancer before them, and a [`Link`] before every node that the test has in its hand. Each
//! program can be killed, frozen, stopped orderly and started again, at the same address.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::admin::Admin;
use super::balancer::Balancer;
use super::link::Link;
use super::{
    Answer, NO_LIMITS, Region, Tenant, Token, address_to_come_back_to, operator_call, plain_client,
    program,
};

pub const OPERATOR_KEY: &str = "operator-0123456789abcdefghijklmnop";
pub const LINK_KEY: &str = "link-0123456789abcdefghijklmnopqrst";
pub const GRANT_KEY: &str = "grant-0123456789abcdefghijklmnopqrs";

/// What is deployed.
pub struct Plan<'p> {
    pub regions: &'p [&'static str],
    pub gateways: usize,
    /// Nodes of each region. Several of them need PostgreSQL.
    pub nodes: usize,
    /// A PostgreSQL server; without one each node has a file.
    pub postgres: Option<&'p str>,
    /// More for every gateway's settings file.
    pub of_gateways: &'p str,
    /// More for every node's, in which `{region}` is its region.
    pub of_nodes: &'p str,
    /// `https` where `of_gateways` and `of_nodes` say how the link is encrypted.
    pub scheme: &'static str,
    /// Whether gateways reach the nodes over links that the test has in its hand. They are there
    /// when a node is not, as a load balancer may be: nobody is refused a connection.
    pub links: bool,
    /// Another build of the gateway than the one beside the test.
    pub gateway: Option<&'p Path>,
}

impl Default for Plan<'_> {
    fn default() -> Self {
        Self {
            regions: &["us"],
            gateways: 1,
            nodes: 1,
            postgres: None,
            of_gateways: "",
            of_nodes: "",
            scheme: "http",
            links: false,
            gateway: None,
        }
    }
}

/// A deployed Meridian.
pub struct Fleet {
    pub gateways: Vec<Program>,
    pub nodes: BTreeMap<&'static str, Vec<Node>>,
    balancer: Balancer,
    folder: TempDir,
    scheme: &'static str,
    postgres: Option<String>,
}

/// A region-node and the way to it.
pub struct Node {
    pub program: Program,
    pub link: Link,
    address: String,
}

/// A running program.
pub struct Program {
    name: &'static str,
    program: PathBuf,
    settings: PathBuf,
    log: PathBuf,
    pub management: String,
    process: Option<Child>,
}

impl Fleet {
    /// Starts all of it and waits until it can serve.
    pub async fn start(plan: Plan<'_>) -> Self {
        let mut this = Self::prepare(plan).await;
        for program in this.programs() {
            program.start();
        }
        for program in this.programs() {
            program.ready().await;
        }
        this
    }

    /// The same, without starting anything.
    pub async fn prepare(plan: Plan<'_>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut nodes = BTreeMap::new();
        for region in plan.regions {
            let mut of_region = Vec::new();
            for number in 0..plan.nodes {
                of_region.push(node(folder.path(), region, number, &plan).await);
            }
            nodes.insert(*region, of_region);
        }
        let regions: String = nodes
            .iter()
            .map(|(region, nodes)| {
                let nodes = nodes.iter().map(|node| match plan.links {
                    true => format!("{}://{}", plan.scheme, node.link.address),
                    false => format!("{}://{}", plan.scheme, node.address),
                });
                let nodes: Vec<_> = nodes.collect();
                format!("[regions.{region}]\nnodes = {nodes:?}\nlink_key = \"{LINK_KEY}\"\n")
            })
            .collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let public_port = listener.local_addr().unwrap().port();
        let mut gateways = Vec::new();
        let mut addresses: Vec<(SocketAddr, String)> = Vec::new();
        for number in 0..plan.gateways {
            let [listen, management] = [(); 2].map(|()| address_to_come_back_to());
            let settings = format!(
                "listen = \"{listen}\"\nmanagement_listen = \"{management}\"\n\
                 public_port = {public_port}\n{}\n{regions}",
                plan.of_gateways
            );
            addresses.push((listen.parse().unwrap(), management.clone()));
            let mut gateway = Program::new(
                "meridian-gateway",
                folder.path(),
                &format!("gateway{number}"),
                &settings,
                management,
            );
            if let Some(other) = plan.gateway {
                gateway.program = other.to_owned();
            }
            gateways.push(gateway);
        }
        Self {
            gateways,
            nodes,
            balancer: Balancer::before(addresses, listener),
            folder,
            scheme: plan.scheme,
            postgres: plan.postgres.map(str::to_owned),
        }
    }

    /// All programs, the nodes first.
    pub fn programs(&mut self) -> impl Iterator<Item = &mut Program> {
        let nodes = self.nodes.values_mut().flatten();
        nodes
            .map(|node| &mut node.program)
            .chain(&mut self.gateways)
    }

    /// A tenant without limits.
    pub async fn tenant(&self, name: &str, region: &'static str) -> Tenant {
        let settings: Value = serde_json::from_str(NO_LIMITS).unwrap();
        self.tenant_with(name, region, settings).await
    }

    /// A tenant with settings.
    pub async fn tenant_with(&self, name: &str, region: &'static str, settings: Value) -> Tenant {
        let body = json!({ "name": name, "settings": settings });
        let tenant = self.operator(region, "/tenants", body).await;
        let id = tenant["id"].as_str().unwrap().to_owned();
        let path = format!("/tenants/{id}/tokens");
        let token = self.operator(region, &path, json!({})).await;
        Tenant {
            id,
            token: token_of(&token),
            region: self.region(region),
        }
    }

    /// A call of the operator, at the first node of a region.
    pub async fn operator(&self, region: &str, path: &str, body: Value) -> Value {
        let link = self.endpoint(region);
        operator_call(&link, OPERATOR_KEY, Method::POST, path, Some(body)).await
    }

    /// An administrator of a tenant.
    pub async fn admin(&self, tenant: &Tenant) -> Admin {
        let body = json!({ "scope": "admin" });
        let path = format!("/tenants/{}/tokens", tenant.id);
        let token = self.operator(&tenant.region.name, &path, body).await;
        Admin {
            tenant: tenant.clone(),
            token: token_of(&token),
        }
    }

    /// Where the operator reaches the first node of a region.
    pub fn endpoint(&self, region: &str) -> String {
        format!("{}://{}", self.scheme, self.nodes[region][0].address)
    }

    /// A region as a client sees it, through the balancer.
    pub fn region(&self, name: &str) -> Region {
        let balancer = self.balancer.address;
        let base_url = format!(
            "http://global-{name}.localhost:{}/api/v1/scim",
            balancer.port()
        );
        Region::new(name, &base_url, balancer)
    }

    /// The file of a region's only node.
    pub fn database(&self, region: &str) -> PathBuf {
        self.folder.path().join(format!("{region}0.db"))
    }

    /// The database of a region on a PostgreSQL server.
    pub fn url(&self, region: &str) -> String {
        let server = self.postgres.as_deref().unwrap();
        database_on(server, region)
    }

    /// Where all that the programs write is.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// All files there.
    pub fn files(&self) -> Vec<PathBuf> {
        let (mut files, mut folders) = (Vec::new(), vec![self.folder().to_owned()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    &mut folders
                } else {
                    &mut files
                }
                .push(path);
            }
        }
        files
    }
}

/// The token in an answer of the operator API.
pub fn token_of(made: &Value) -> Token {
    let text = |member: &str| made[member].as_str().unwrap().to_owned();
    Token {
        id: text("id"),
        secret: text("token"),
    }
}

/// A database that no other test has.
fn database_on(server: &str, region: &str) -> String {
    let (server, _) = server.rsplit_once('/').unwrap();
    format!("{server}/fleet{}_{region}", std::process::id())
}

async fn node(folder: &Path, region: &str, number: usize, plan: &Plan<'_>) -> Node {
    let [address, management] = [(); 2].map(|()| address_to_come_back_to());
    let name = format!("{region}{number}");
    let store = match plan.postgres {
        Some(server) => {
            let url = database_on(server, region);
            format!("engine = \"postgres\"\nurl = \"{url}\"\n")
        }
        None => format!("path = {:?}\n", folder.join(format!("{name}.db"))),
    };
    // An only node has nobody who could take its calls meanwhile.
    let drain_ms = if plan.nodes > 1 { 300 } else { 0 };
    let settings = format!(
        "region = \"{region}\"\nlink_listen = \"{address}\"\nmanagement_listen = \"{management}\"\n\
         [limits]\ndrain_ms = {drain_ms}\ncertificates_look_ms = 50\n[store]\n{store}[keys]\nlink = [\"{LINK_KEY}\"]\n\
         operator = [\"{OPERATOR_KEY}\"]\n\
         grant = [\"{GRANT_KEY}\"]\n{}",
        plan.of_nodes.replace("{region}", region)
    );
    Node {
        program: Program::new("meridian-region-node", folder, &name, &settings, management),
        link: Link::to(address.parse().unwrap()).await,
        address,
    }
}

impl Program {
    fn new(
        name: &'static str,
        folder: &Path,
        own: &str,
        settings: &str,
        management: String,
    ) -> Self {
        let file = folder.join(format!("{own}.toml"));
        fs::write(&file, settings).unwrap();
        Self {
            name,
            program: program(name),
            settings: file,
            log: folder.join(format!("{own}.log")),
            management,
            process: None,
        }
    }

    /// Starts it; waits for nothing.
    pub fn start(&mut self) {
        assert!(self.process.is_none(), "{} runs", self.name);
        let log = File::options().create(true).append(true).open(&self.log);
        let mut command = Command::new(&self.program);
        command
            .arg(&self.settings)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        self.process = Some(command.stderr(log.unwrap()).spawn().unwrap());
    }

    /// Waits until it says that it can serve.
    pub async fn ready(&self) {
        self.answers("/readyz").await;
    }

    /// Waits until it says that it runs.
    pub async fn alive(&self) {
        self.answers("/livez").await;
    }

    async fn answers(&self, path: &str) {
        let client = plain_client();
        let patience = std::time::Instant::now();
        loop {
            let request = client.get(format!("http://{}{path}", self.management));
            if matches!(Answer::try_of(request).await, Ok(answer) if answer.status == 200) {
                return;
            }
            assert!(
                patience.elapsed().as_secs() < 60,
                "{} does not start",
                self.name
            );
            tokio::task::yield_now().await;
        }
    }

    pub fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Asks it to stop, and waits on a thread of its own until it has.
    pub async fn stop(&mut self) {
        self.signal("TERM");
        let mut process = self.process.take().unwrap();
        let ended = tokio::task::spawn_blocking(move || process.wait().unwrap()).await;
        let ended = ended.unwrap();
        assert!(ended.success(), "{} did not stop well: {ended}", self.name);
    }

    pub fn freeze(&self) {
        self.signal("STOP");
    }

    pub fn thaw(&self) {
        self.signal("CONT");
    }

    /// Asks it to read its files again.
    pub fn hang_up(&self) {
        self.signal("HUP");
    }

    /// Adds to its settings file.
    pub fn add_settings(&self, more: &str) {
        let settings = fs::read_to_string(&self.settings).unwrap();
        fs::write(&self.settings, settings + more).unwrap();
    }

    /// Puts another text for one in its settings file, for when it starts again.
    pub fn change_settings(&self, from: &str, to: &str) {
        let settings = fs::read_to_string(&self.settings).unwrap();
        assert!(settings.contains(from), "{from}");
        fs::write(&self.settings, settings.replace(from, to)).unwrap();
    }

    fn signal(&self, name: &str) {
        let pid = self.process.as_ref().unwrap().id().to_string();
        let told = Command::new("kill")
            .args([format!("-{name}"), pid])
            .status();
        assert!(told.unwrap().success());
    }

    /// The process's id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(15).collect();
            eprintln!("---- the last lines of {} ----", self.log.display());
            for line in tail.iter().rev() {
                eprintln!("{line}");
            }
        }
    }
}
