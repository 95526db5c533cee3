//! The real `meridian-region-node`, alone: started on free ports with keys of its own, asked by
//! the kernel's files what it used, and stopped.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use shared::link::{LINK_KEY, OPERATOR_KEY, OPERATOR_PATH, RESOLVE_PATH};

use crate::common::client::Connection;
use crate::common::cpu::{self, Threads};
use crate::common::program::{Program, beside};
use crate::pgbench;

const LINK: &str = "link-0123456789abcdefghijklmnopqrstuv";
const OPERATOR: &str = "oper-0123456789abcdefghijklmnopqrstuv";
const GRANT: &str = "gran-0123456789abcdefghijklmnopqrstuv";
/// The public address of the region, of which the node makes links.
const BASE_URL: &str = "https://global-us.example.com/api/v1/scim";

/// A node that serves.
pub(crate) struct Node {
    process: Program,
    pub(crate) link: SocketAddr,
    management: SocketAddr,
    /// The file of its store, with SQLite.
    pub(crate) database: PathBuf,
    /// The process of the database server, with PostgreSQL.
    server: Option<u32>,
}

impl Node {
    /// Starts a node on a folder, or on a PostgreSQL database, which keeps activity or not.
    pub(crate) fn start(folder: &Path, url: Option<&str>, activity: bool) -> Self {
        let database = folder.join("meridian.db");
        let settings = folder.join("node.toml");
        let mut keys = String::new();
        for (name, key) in [("link", LINK), ("operator", OPERATOR), ("grant", GRANT)] {
            let file = folder.join(name);
            fs::write(&file, key).expect("a folder of our own");
            keys.push_str(&format!("{name}_files = [{file:?}]\n"));
        }
        let store = match url {
            None => format!("engine = \"sqlite\"\npath = {database:?}\n"),
            Some(url) => format!("engine = \"postgres\"\nurl = {url:?}\n"),
        };
        let text = format!(
            "region = \"us\"\nlink_listen = \"127.0.0.1:0\"\nmanagement_listen = \"127.0.0.1:0\"\n\
             production = true\n[store]\n{store}[activity]\nenabled = {activity}\n[keys]\n{keys}"
        );
        fs::write(&settings, text).expect("a folder of our own");
        let mut command = Command::new(beside("meridian-region-node"));
        let mut process = Program::start(command.arg(&settings).stderr(Stdio::piped()));
        let mut log = BufReader::new(process.child().stderr.take().expect("it is piped"));
        let ready = wait_until_ready(&mut log);
        // Somebody has to read the log, as a machine's log service would.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        let address = |name: &str| {
            let text = ready[name].as_str().expect("an address");
            text.parse().expect("an address")
        };
        Self {
            link: address("link"),
            management: address("management"),
            process,
            database,
            server: url.map(pgbench::server),
        }
    }

    /// Asks the node to stop and waits until it has.
    pub(crate) fn stop(mut self) {
        let ended = self.process.stop();
        assert!(ended.success(), "the node did not stop well: {ended}");
    }

    /// A tenant with limits that nothing runs into, and a token for it.
    pub(crate) async fn tenant(&self, name: &str) -> Tenant {
        let mut connection = Connection::open(self.link).await;
        let limits = json!({"requests_per_s": 1_000_000, "burst": 1_000_000, "in_flight": 10_000});
        let body = json!({"name": name, "settings": {"limits": limits}});
        let tenant = operate(&mut connection, "/tenants", &body).await;
        let id = text(&tenant, "id");
        let path = format!("/tenants/{id}/tokens");
        let token = operate(&mut connection, &path, &json!({"name": "bench"})).await;
        Tenant {
            token: text(&token, "token"),
        }
    }

    /// What a gateway puts in front of each call of a tenant's client, less the request line and
    /// what belongs to the call alone.
    pub(crate) async fn headers(&self, tenant: &Tenant) -> String {
        let token = shared::ApiToken::parse(&tenant.token).expect("a token of the node's");
        let body = json!({"digest": token.digest()}).to_string();
        let request = format!(
            "POST {RESOLVE_PATH} HTTP/1.1\r\nhost: node\r\n{LINK_KEY}: {LINK}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut connection = Connection::open(self.link).await;
        let answer = connection.call(request.as_bytes()).await;
        let answer: Value = serde_json::from_slice(answer.body).expect("an answer in JSON");
        let grant = text(&answer, "grant");
        format!(
            "host: node\r\nauthorization: Bearer {grant}\r\n{LINK_KEY}: {LINK}\r\n\
             {}: {BASE_URL}\r\n{}: 30000\r\naccept: application/scim+json\r\n\
             user-agent: bench\r\n",
            shared::link::BASE_URL,
            shared::link::DEADLINE_MS,
        )
    }

    /// What the node has used until now.
    pub(crate) async fn usage(&self) -> Usage {
        let metrics = self.metrics().await;
        let count = |name: &str| {
            let line = metrics.lines().find(|line| line.starts_with(name));
            let count = line.and_then(|line| line.rsplit_once(' '));
            count.and_then(|(_, count)| count.parse().ok())
        };
        Usage {
            threads: cpu::threads(self.process.pid()),
            server: self.server.map(cpu::family).unwrap_or_default(),
            commits: count("meridian_store_commits_total"),
            writes: count("meridian_store_writes_total"),
        }
    }

    async fn metrics(&self) -> String {
        let mut connection = Connection::open(self.management).await;
        let request = "GET /metrics HTTP/1.1\r\nhost: node\r\n\r\n";
        let answer = connection.call(request.as_bytes()).await;
        if answer.status == 200 {
            String::from_utf8_lossy(answer.body).into_owned()
        } else {
            String::new()
        }
    }

    /// Memory that the node holds at this moment, in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.process.pid());
        let status = fs::read_to_string(path).expect("a running child");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kib.expect("a size in kB") * 1024
    }

    /// Size of the store's file once what was written has been moved into it.
    pub(crate) async fn stored_bytes(&self) -> u64 {
        let size = || fs::metadata(&self.database).map_or(0, |file| file.len());
        let mut before = size();
        loop {
            tokio::time::sleep(Duration::from_secs(2)).await;
            let after = size();
            if after == before {
                return after;
            }
            before = after;
        }
    }
}

/// What a node had used at a moment.
pub(crate) struct Usage {
    threads: Threads,
    server: Threads,
    commits: Option<u64>,
    writes: Option<u64>,
}

impl Usage {
    /// CPU microseconds since an earlier moment, less those of threads that have ended since: those
    /// of the blocking pool end when they have been idle for ten seconds.
    pub(crate) fn cpu_us_since(&self, before: &Self) -> f64 {
        cpu::us_since(&self.threads, &before.threads)
    }

    /// The same of the database server's processes, where it is another program.
    pub(crate) fn server_us_since(&self, before: &Self) -> f64 {
        cpu::us_since(&self.server, &before.server)
    }

    /// Writes and commits since an earlier moment, if the node tells.
    pub(crate) fn commits_since(&self, before: &Self) -> Option<(u64, u64)> {
        let writes = self.writes?.checked_sub(before.writes?)?;
        Some((writes, self.commits?.checked_sub(before.commits?)?))
    }
}

/// A tenant and the token of its client.
pub(crate) struct Tenant {
    token: String,
}

async fn operate(connection: &mut Connection, path: &str, body: &Value) -> Value {
    let body = body.to_string();
    let request = format!(
        "POST {OPERATOR_PATH}{path} HTTP/1.1\r\nhost: node\r\n{OPERATOR_KEY}: {OPERATOR}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = connection.call(request.as_bytes()).await;
    assert_eq!(
        answer.status,
        201,
        "{}",
        String::from_utf8_lossy(answer.body)
    );
    serde_json::from_slice(answer.body).expect("an answer in JSON")
}

fn text(value: &Value, name: &str) -> String {
    let text = value[name].as_str();
    text.unwrap_or_else(|| panic!("no {name} in {value}"))
        .to_owned()
}

fn wait_until_ready(log: &mut impl BufRead) -> Value {
    let mut line = String::new();
    while log.read_line(&mut line).expect("the node's log") > 0 {
        match serde_json::from_str::<Value>(&line) {
            Ok(said) if said["message"] == "ready" => return said,
            _ => eprint!("{line}"),
        }
        line.clear();
    }
    panic!("the node ended before it was ready");
}
