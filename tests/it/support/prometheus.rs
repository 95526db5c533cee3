//! [`Prometheus`]: a real Prometheus of a test's own on a free port, which looks at the programs of a
//! [`World`] with the rules of `deploy/prometheus`.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::Client;
use serde_json::Value;
use tempfile::TempDir;

use super::{World, plain_client};

/// Loading the rules and a few looks take a second or two, and longer on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running server. It is stopped and its folder removed when this is dropped.
pub struct Prometheus {
    folder: TempDir,
    url: String,
    process: Child,
    http: Client,
}

impl Prometheus {
    /// Starts a server that looks at both programs of a world.
    pub fn of(world: &World) -> Self {
        let authority = |url: &Value| {
            let url = url.as_str().unwrap();
            url.strip_prefix("http://").unwrap().to_owned()
        };
        let gateway = authority(&world.ready["management"]);
        let state = fs::read(world.data_dir().join("local.json")).unwrap();
        let state: Value = serde_json::from_slice(&state).unwrap();
        let node = authority(&state["regions"]["us"]["management"]);
        Self::at(&[gateway], &[node])
    }

    /// Starts a server that looks several times a second at the management listeners of these
    /// gateways and nodes.
    ///
    /// # Panics
    /// If `prometheus` is not installed or does not start.
    pub fn at(gateways: &[String], nodes: &[String]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let rules = deployed("prometheus");
        let settings = format!(
            "global:\n  scrape_interval: 200ms\n  scrape_timeout: 200ms\n  evaluation_interval: 200ms\n\
             rule_files: ['{rules}/rules.yml', '{rules}/alerts.yml']\n\
             scrape_configs:\n\
             - job_name: meridian-gateway\n  static_configs: [{{targets: {gateways:?}}}]\n\
             - job_name: meridian-region-node\n  static_configs: [{{targets: {nodes:?}}}]\n",
            rules = rules.display(),
        );
        let file = folder.path().join("prometheus.yml");
        fs::write(&file, settings).unwrap();
        let log = File::create(folder.path().join("log")).unwrap();
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("prometheus is missing: install it with tests/run");
        Self {
            folder,
            url: format!("http://{address}"),
            process,
            http: plain_client(),
        }
    }

    /// What a query answers at this moment; `None` while the server cannot be asked.
    pub async fn query(&self, query: &str) -> Option<Vec<Value>> {
        let url = format!("{}/api/v1/query?query={}", self.url, super::encode(query));
        let answer = self.http.get(url).send().await.ok()?;
        let answer: Value = answer.json().await.ok()?;
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        Some(answer["data"]["result"].as_array().unwrap().clone())
    }

    /// Waits until a query answers something.
    pub async fn until(&self, query: &str) -> Vec<Value> {
        let patience = Instant::now();
        loop {
            match self.query(query).await {
                Some(answer) if !answer.is_empty() => return answer,
                _ if patience.elapsed() > PATIENCE => {
                    let log = fs::read_to_string(self.folder.path().join("log"));
                    panic!("nothing answers {query}\n{}", log.unwrap_or_default());
                }
                _ => tokio::task::yield_now().await,
            }
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The dashboards and their panels: `deploy/grafana/panels.json`.
pub fn panels() -> Value {
    let file = deployed("grafana").join("panels.json");
    serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

/// What the panels ask for, of those that show something only where there is TLS or of the others.
pub fn queries(needs_tls: bool) -> Vec<String> {
    let panels = panels();
    let panels = panels.as_array().unwrap().iter();
    panels
        .flat_map(|of| of["panels"].as_array().unwrap())
        .filter(|panel| (panel["needs_tls"] == true) == needs_tls)
        .flat_map(|panel| panel["queries"].as_array().unwrap())
        .map(|query| {
            query["expr"]
                .as_str()
                .unwrap()
                .replace("$region", ".*")
                .replace("$tenant", ".*")
                .replace("$__rate_interval", "1m")
        })
        .collect()
}

/// A folder of what is deployed.
pub fn deployed(folder: &str) -> PathBuf {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    deploy.join(folder).canonicalize().unwrap()
}

/// Runs `promtool`; panics with what it says if it is not content.
pub fn promtool(arguments: &[&str], input: Option<&str>) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("input");
    fs::write(&file, input.unwrap_or_default()).unwrap();
    let output = Command::new("promtool")
        .args(arguments)
        .stdin(File::open(file).unwrap())
        .output()
        .expect("promtool is missing: install it with tests/run");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
}
