//! [`Collector`]: a real collector of OpenTelemetry, Rotel, of a test's own on free ports. It shows
//! what it receives, and [`Collector::spans`] reads that.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A start takes well under a second, and longer on a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// The version that `tests/install.sh` installs.
const VERSION: &str = "0.0.1a15";

/// A running collector. It is stopped and its folder removed when this is dropped.
pub struct Collector {
    folder: TempDir,
    port: u16,
    process: Child,
}

/// A span as the collector received it.
#[derive(Clone, Debug, Default)]
pub struct Span {
    /// The program that made it.
    pub service: String,
    /// The trace.
    pub trace: String,
    /// Its own id.
    pub id: String,
    /// The id of the span above; empty for none.
    pub parent: String,
    /// Its name.
    pub name: String,
    /// `SPAN_KIND_SERVER` and so on.
    pub kind: String,
    /// From when until when, in nanoseconds since 1970.
    pub times: (u64, u64),
    /// What stands in it.
    pub attributes: BTreeMap<String, String>,
}

impl Collector {
    /// Starts a collector that keeps nothing but a list of what came, of `traces` or `metrics`.
    ///
    /// # Panics
    /// If the collector is not installed or does not start.
    pub fn of(signal: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [port, other] = [(); 2].map(|()| free_port());
        let output = File::create(folder.path().join("received")).unwrap();
        let process = Command::new(program())
            .arg("start")
            .args(["--otlp-http-endpoint", &format!("127.0.0.1:{port}")])
            .args(["--otlp-grpc-endpoint", &format!("127.0.0.1:{other}")])
            .args(["--exporter", "blackhole", "--debug-log", signal])
            .args(["--debug-log-verbosity", "detailed"])
            .arg("--pid-file")
            .arg(folder.path().join("pid"))
            .arg("--log-file")
            .arg(folder.path().join("log"))
            .stdin(Stdio::null())
            .stderr(output.try_clone().unwrap())
            .stdout(output)
            .spawn()
            .unwrap();
        let this = Self {
            folder,
            port,
            process,
        };
        let patience = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let received = this.received();
            assert!(
                patience.elapsed() < READY_WITHIN,
                "no collector: {received}"
            );
            std::thread::yield_now();
        }
        this
    }

    /// Where it listens for OTLP over HTTP.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// All that it has received, as it shows it.
    pub fn received(&self) -> String {
        let bytes = fs::read(self.folder.path().join("received")).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until what was received is as a test wants it.
    pub async fn until<T>(&self, look: impl Fn(&str) -> Option<T>) -> T {
        let patience = Instant::now();
        loop {
            let received = self.received();
            if let Some(found) = look(&received) {
                return found;
            }
            assert!(patience.elapsed() < READY_WITHIN, "received:\n{received}");
            tokio::task::yield_now().await;
        }
    }

    /// The spans of a text that the collector showed. One that is not shown whole yet is left out.
    pub fn spans(text: &str) -> Vec<Span> {
        let (mut spans, mut service) = (Vec::<Span>::new(), String::new());
        let mut is_span = false;
        for line in text.lines() {
            let Some((name, value)) = line.split_once(':') else {
                is_span = line.starts_with("Span #") || (is_span && !line.contains('#'));
                if line.starts_with("Span #") {
                    spans.push(Span {
                        service: service.clone(),
                        ..Span::default()
                    });
                }
                continue;
            };
            let value = value.trim();
            if let Some(key) = name.trim().strip_prefix("-> ") {
                let value = value
                    .split_once('(')
                    .and_then(|(_, rest)| rest.strip_suffix(')'))
                    .unwrap_or(value);
                match spans.last_mut().filter(|_| is_span) {
                    Some(span) => drop(span.attributes.insert(key.to_owned(), value.to_owned())),
                    None if key == "service.name" => value.clone_into(&mut service),
                    None => {}
                }
                continue;
            }
            let Some(span) = spans.last_mut().filter(|_| is_span) else {
                continue;
            };
            match name.trim() {
                "Trace ID" => value.clone_into(&mut span.trace),
                "Parent ID" => value.clone_into(&mut span.parent),
                "ID" => value.clone_into(&mut span.id),
                "Name" => value.clone_into(&mut span.name),
                "Kind" => value.clone_into(&mut span.kind),
                "Start time" => span.times.0 = value.parse().unwrap_or_default(),
                "End time" => span.times.1 = value.parse().unwrap_or_default(),
                _ => {}
            }
        }
        spans.retain(|span| !span.kind.is_empty());
        spans
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// `tests/run` installs it beside the build.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let target = test.ancestors().nth(3).unwrap();
    let path = target.join(format!("tests-venv/rotel-{VERSION}/rotel/rotel-agent"));
    assert!(
        path.exists(),
        "{} is missing: install it with tests/run",
        path.display()
    );
    path
}
