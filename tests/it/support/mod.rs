//! [`World`]: the real `meridian up` on a data directory of its own; clients that use the real
//! hostnames; the operator's command.

pub mod admin;
pub mod authority;
pub mod balancer;
pub mod browser;
pub mod collector;
pub mod consumer;
pub mod conversation;
pub mod disk;
pub mod expect;
pub mod fleet;
pub mod history;
pub mod link;
pub mod postgres;
pub mod prometheus;
pub mod raw;
pub mod redis;
pub mod residency;
pub mod shape;
pub mod soak;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use tempfile::TempDir;

use self::disk::Disk;

/// Ready takes well under two seconds in a release build; a debug build on a busy machine with
/// many tests at once takes longer.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// No single call takes longer than this unless something hangs.
const ANSWER_WITHIN: Duration = Duration::from_secs(40);

/// Limits that no test runs into by accident.
pub const NO_LIMITS: &str =
    r#"{"limits":{"requests_per_s":1000000,"burst":1000000,"in_flight":10000}}"#;

/// Where the regions keep their data.
#[derive(Clone)]
pub enum Store {
    /// SQLite files in the data directory.
    File,
    /// The same, and for region `us` on a disk that the test has in its hand.
    Disk(Arc<Disk>),
    /// Databases on a server, whose names begin as the URL says.
    Postgres(String),
}

impl Store {
    /// What the tests are to run on, in databases that no other world has.
    fn of_this_run() -> Self {
        let server = postgres_of_this_run();
        server.map_or(Self::File, |url| Self::Postgres(databases_of_its_own(&url)))
    }
}

/// The data of one region.
pub enum Stored {
    /// A SQLite file. To be opened when the process is gone, and not before.
    File(PathBuf),
    /// The URL of a database.
    Database(String),
}

/// What runs beside it.
#[derive(Clone, Default)]
pub struct Beside {
    /// The URL of a Redis.
    pub redis: Option<String>,
    /// The URL of a collector of traces and metrics.
    pub collector: Option<String>,
}

/// A running Meridian.
pub struct World {
    process: Child,
    folder: TempDir,
    listen: String,
    regions: Vec<&'static str>,
    log_level: &'static str,
    store: Store,
    beside: Beside,
    /// What `meridian up --json` said when it was ready.
    pub ready: Value,
}

impl World {
    /// One region, `us`: all that most tests need.
    pub fn start() -> Self {
        Self::with(&["us"], "info")
    }

    /// Several regions.
    pub fn with_regions(regions: &[&'static str]) -> Self {
        Self::with(regions, "info")
    }

    /// Several regions, and as much in the log as asked for.
    pub fn with(regions: &[&'static str], log_level: &'static str) -> Self {
        Self::listening(
            new_folder(),
            "127.0.0.1:0".to_owned(),
            regions,
            log_level,
            Store::of_this_run(),
        )
    }

    /// As [`World::with`], at an address that is the same after a restart.
    pub fn restartable(regions: &[&'static str], log_level: &'static str) -> Self {
        Self::listening(
            new_folder(),
            address_to_come_back_to(),
            regions,
            log_level,
            Store::of_this_run(),
        )
    }

    /// What both programs answer at `/metrics`, the gateway and each region's node.
    pub async fn metrics(&self) -> Vec<String> {
        let state = fs::read(self.data_dir().join("local.json")).unwrap();
        let state: Value = serde_json::from_slice(&state).unwrap();
        let regions = state["regions"].as_object().unwrap().values();
        let managements = std::iter::once(&state["management"])
            .chain(regions.map(|region| &region["management"]));
        let mut texts = Vec::new();
        for management in managements {
            let url = format!("{}/metrics", management.as_str().unwrap());
            let answer = Answer::of(plain_client().get(url)).await;
            assert_eq!(answer.status, 200);
            texts.push(String::from_utf8(answer.body).unwrap());
        }
        texts
    }

    /// One region, `us`, on a store that the test has in its hand; at an address that is the same
    /// after a restart.
    pub fn on(store: Store) -> Self {
        Self::in_folder(new_folder(), store)
    }

    /// As [`World::on`], in a folder that the test has prepared.
    pub fn in_folder(folder: TempDir, store: Store) -> Self {
        Self::listening(folder, address_to_come_back_to(), &["us"], "info", store)
    }

    /// One region, `us`, and a gateway with a Redis; at an address that is the same after a
    /// restart.
    pub fn with_redis(url: &str) -> Self {
        let redis = Some(url.to_owned());
        Self::with_beside(Beside {
            redis,
            ..Beside::default()
        })
    }

    /// One region, `us`, with something beside it; at an address that is the same after a restart.
    pub fn with_beside(beside: Beside) -> Self {
        let (folder, listen) = (new_folder(), address_to_come_back_to());
        let store = Store::of_this_run();
        Self::starting(folder, listen, &["us"], "info", store, beside)
    }

    fn listening(
        folder: TempDir,
        listen: String,
        regions: &[&'static str],
        log_level: &'static str,
        store: Store,
    ) -> Self {
        let beside = Beside::default();
        Self::starting(folder, listen, regions, log_level, store, beside)
    }

    fn starting(
        folder: TempDir,
        listen: String,
        regions: &[&'static str],
        log_level: &'static str,
        store: Store,
        beside: Beside,
    ) -> Self {
        let regions = regions.to_vec();
        let (process, ready) = up(folder.path(), &listen, &regions, log_level, &store, &beside);
        Self {
            process,
            folder,
            listen,
            regions,
            log_level,
            store,
            beside,
            ready,
        }
    }

    /// Another world with the same keys whose region `us` has these files.
    pub fn with_files(&self, files: &BTreeMap<String, Vec<u8>>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let region = folder.path().join("us");
        let keys = region.join("keys");
        fs::create_dir_all(&keys).unwrap();
        for key in fs::read_dir(self.data_dir().join("us/keys")).unwrap() {
            let key = key.unwrap();
            fs::copy(key.path(), keys.join(key.file_name())).unwrap();
        }
        fs::write(region.join("demo-made"), b"").unwrap();
        for (name, content) in files {
            fs::write(region.join(name), content).unwrap();
        }
        Self::in_folder(folder, Store::File)
    }

    /// All that a region has stored, as it lies in its files or its database.
    pub fn stored(&self, region: &str) -> Vec<u8> {
        if let Stored::Database(url) = self.store(region) {
            return postgres::dump(&url);
        }
        let files = fs::read_dir(self.folder.path().join(region)).unwrap();
        let files = files.map(|file| file.unwrap().path());
        files
            .filter(|path| path.is_file())
            .flat_map(|path| fs::read(path).unwrap())
            .collect()
    }

    /// Ends the process as a power cut would, and starts another one on the same data.
    pub fn kill_and_restart(&mut self) {
        self.kill();
        self.restart();
    }

    /// Starts another process on the same data.
    pub fn restart(&mut self) {
        (self.process, self.ready) = up(
            self.folder.path(),
            &self.listen,
            &self.regions,
            self.log_level,
            &self.store,
            &self.beside,
        );
    }

    /// Where a region's data is.
    pub fn store(&self, region: &str) -> Stored {
        match &self.store {
            Store::Postgres(url) => Stored::Database(format!("{url}_{region}")),
            _ => Stored::File(self.folder.path().join(region).join("meridian.db")),
        }
    }

    /// Runs a statement on what region `us` has stored; no process has it open.
    pub fn meddle(&self, sql: &str) {
        match self.store("us") {
            Stored::File(file) => {
                let connection = rusqlite::Connection::open(file).unwrap();
                connection.execute_batch(sql).unwrap();
            }
            Stored::Database(url) => drop(postgres::query(&url, sql)),
        }
    }

    /// Waits until the process ends by itself.
    pub fn ended(&mut self) -> std::process::ExitStatus {
        self.process.wait().unwrap()
    }

    /// Ends the process as `kill -9` does.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Asks the process to stop, as a service manager does, and waits until it has.
    pub fn stop(&mut self) -> std::process::ExitStatus {
        self.stop_by("TERM")
    }

    /// The same, by a signal of the test's choice.
    pub fn stop_by(&mut self, signal: &str) -> std::process::ExitStatus {
        let pid = self.process.id().to_string();
        let told = Command::new("kill")
            .args([format!("-{signal}"), pid])
            .status();
        assert!(told.unwrap().success());
        self.process.wait().unwrap()
    }

    /// Whether the process lives.
    pub fn is_running(&mut self) -> bool {
        self.process.try_wait().unwrap().is_none()
    }

    /// The process's id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Resident memory of the process, in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// The data directory.
    pub fn data_dir(&self) -> &Path {
        self.folder.path()
    }

    /// Everything that the processes have logged.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(log_path(self.folder.path())).unwrap()).into_owned()
    }

    /// Where the gateway listens.
    pub fn address(&self) -> SocketAddr {
        let url = self.ready["gateway"].as_str().unwrap();
        url.strip_prefix("http://").unwrap().parse().unwrap()
    }

    /// A region as its provisioning clients see it.
    pub fn region(&self, name: &str) -> Region {
        let base_url = self.ready["regions"][name]["base_url"].as_str().unwrap();
        Region::new(name, base_url, self.address())
    }

    /// A new tenant in a region, with one provisioning token and no limits to run into.
    pub async fn tenant(&self, name: &str, region: &str) -> Tenant {
        self.tenant_with(name, region, NO_LIMITS).await
    }

    /// A new tenant with settings.
    pub async fn tenant_with(&self, name: &str, region: &str, settings: &str) -> Tenant {
        let settings: Value = serde_json::from_str(settings).unwrap();
        let body = json!({ "name": name, "settings": settings });
        let tenant = self
            .operator(region, Method::POST, "/tenants", Some(body))
            .await;
        let id = tenant["id"].as_str().unwrap();
        let token = self.token(region, id, json!({})).await;
        Tenant {
            id: id.to_owned(),
            token,
            region: self.region(region),
        }
    }

    /// A new token for a tenant.
    pub async fn token(&self, region: &str, tenant: &str, body: Value) -> Token {
        let path = format!("/tenants/{tenant}/tokens");
        let token = self.operator(region, Method::POST, &path, Some(body)).await;
        Token {
            id: token["id"].as_str().unwrap().to_owned(),
            secret: token["token"].as_str().unwrap().to_owned(),
        }
    }

    /// A call of a region's operator API, which must succeed.
    pub async fn operator(
        &self,
        region: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Value {
        let region = &self.ready["regions"][region];
        let key = fs::read_to_string(region["operator_key_file"].as_str().unwrap()).unwrap();
        let node = region["node"].as_str().unwrap();
        operator_call(node, &key, method, path, body).await
    }

    /// Runs `meridian … --json` on this world's data directory; it must succeed.
    pub fn meridian(&self, arguments: &[&str]) -> Value {
        let output = self.try_meridian(arguments);
        assert!(
            output.status.success(),
            "meridian {arguments:?}: {output:?}"
        );
        one_json_value(&output.stdout)
    }

    /// Runs `meridian … --json` on this world's data directory.
    pub fn try_meridian(&self, arguments: &[&str]) -> Output {
        meridian_command()
            .args(arguments)
            .arg("--json")
            .arg("--data-dir")
            .arg(self.folder.path())
            .output()
            .unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            let log = log_of(self.folder.path());
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!("---- the last lines of the log ----");
            for line in tail.iter().rev() {
                eprintln!("{line}");
            }
        }
    }
}

/// A call of the operator API of a region-node, which must succeed.
pub async fn operator_call(
    node: &str,
    key: &str,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> Value {
    let request = plain_client()
        .request(method.clone(), format!("{node}/internal/v1/operator{path}"))
        .header("x-meridian-operator-key", key.trim());
    let request = match body {
        Some(body) => request.json(&body),
        None => request,
    };
    let answer = Answer::of(request).await;
    assert!(answer.status < 300, "{method} {path}: {answer:?}");
    if answer.body.is_empty() {
        Value::Null
    } else {
        answer.json()
    }
}

/// One JSON value and nothing else.
pub fn one_json_value(text: &[u8]) -> Value {
    serde_json::from_slice(text).unwrap_or_else(|e| {
        panic!(
            "not one JSON value ({e}): {}",
            String::from_utf8_lossy(text)
        )
    })
}

/// The `meridian` program that stands beside this test, without anything from the environment
/// that would change what it does.
pub fn meridian_command() -> Command {
    let mut command = Command::new(program("meridian"));
    for name in [
        "MERIDIAN_DATA_DIR",
        "MERIDIAN_ENDPOINT",
        "MERIDIAN_OPERATOR_KEY_FILE",
        "MERIDIAN_POSTGRES_URL",
        "MERIDIAN_REDIS_URL",
        "MERIDIAN_OTLP_ENDPOINT",
    ] {
        command.env_remove(name);
    }
    command
}

/// A program that stands beside this test.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let beside = test.parent().and_then(Path::parent).unwrap();
    let path = beside.join(name);
    assert!(
        path.exists(),
        "{} is missing: build it with `cargo build --workspace`, or run everything with tests/run",
        path.display()
    );
    path
}

fn new_folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn log_path(data_dir: &Path) -> PathBuf {
    data_dir.join("stderr.log")
}

/// What has been logged, if the log is a file.
fn log_of(data_dir: &Path) -> String {
    let path = log_path(data_dir);
    let is_file = path.metadata().is_ok_and(|log| log.is_file());
    let log = is_file.then(|| fs::read(path).unwrap_or_default());
    String::from_utf8_lossy(&log.unwrap_or_default()).into_owned()
}

/// The PostgreSQL server of this run, if the tests are to run on that engine: all tests run once
/// on each engine, and `MERIDIAN_TEST_ENGINE` says which it is (`sqlite`, if it is not set).
pub fn postgres_of_this_run() -> Option<String> {
    match std::env::var("MERIDIAN_TEST_ENGINE").as_deref() {
        Err(_) | Ok("sqlite") => None,
        Ok("postgres") => Some(
            std::env::var("MERIDIAN_TEST_POSTGRES")
                .expect("MERIDIAN_TEST_POSTGRES names no server: use tests/run"),
        ),
        Ok(other) => panic!("MERIDIAN_TEST_ENGINE={other}: sqlite or postgres"),
    }
}

/// A URL under which no other world has databases.
fn databases_of_its_own(server: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let (server, _) = server.rsplit_once('/').unwrap();
    format!("{server}/w{}_{number}", std::process::id())
}

/// A free port below those that the system gives to connections, so that none of them can take it
/// while nobody listens there. The process's id keeps tests that run side by side apart.
pub fn address_to_come_back_to() -> String {
    const FIRST: u32 = 12_000;
    const COUNT: u32 = 20_000;
    static ASKED: AtomicU32 = AtomicU32::new(0);
    let start = (std::process::id() + 7 * ASKED.fetch_add(1, Ordering::Relaxed)) % COUNT;
    let candidates = (0..COUNT).map(|n| FIRST + (start + 31 * n) % COUNT);
    let mut addresses = candidates.map(|port| format!("127.0.0.1:{port}"));
    addresses
        .find(|address| std::net::TcpListener::bind(address).is_ok())
        .unwrap()
}

/// Starts `meridian up` and waits for the line that says that it is ready.
fn up(
    data_dir: &Path,
    listen: &str,
    regions: &[&str],
    log_level: &str,
    store: &Store,
    beside: &Beside,
) -> (Child, Value) {
    let log = File::options()
        .create(true)
        .append(true)
        .open(log_path(data_dir))
        .unwrap();
    let mut command = meridian_command();
    // Applications behind are on this machine.
    command.env("MERIDIAN_WEBHOOK_NETWORKS", "127.0.0.0/8");
    match store {
        Store::File => {}
        Store::Disk(disk) => drop(command.envs(disk.environment(&data_dir.join("us")))),
        Store::Postgres(url) => drop(command.env("MERIDIAN_POSTGRES_URL", url)),
    }
    command.arg("up");
    for (argument, url) in [("--redis", &beside.redis), ("--otlp", &beside.collector)] {
        if let Some(url) = url {
            command.args([argument, url]);
        }
    }
    let mut process = command
        .args(["--json", "--listen", listen, "--log-level", log_level])
        .args(["--regions", &regions.join(",")])
        .arg("--data-dir")
        .arg(data_dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .unwrap();
    let stdout = process.stdout.take().unwrap();
    let (say, hear) = mpsc::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let _ = BufReader::new(stdout).read_line(&mut line);
        let _ = say.send(line);
    });
    let line = hear.recv_timeout(READY_WITHIN).unwrap_or_default();
    match serde_json::from_str::<Value>(&line) {
        Ok(ready) if ready.get("gateway").is_some() => (process, ready),
        _ => {
            let _ = process.kill();
            let _ = process.wait();
            let log = log_of(data_dir);
            panic!("`meridian up` is not ready; it said {line:?} and logged:\n{log}");
        }
    }
}

/// A client without any resolution of names.
pub fn plain_client() -> Client {
    client_builder().build().unwrap()
}

fn client_builder() -> reqwest::ClientBuilder {
    Client::builder()
        .tls_backend_preconfigured(shared::tls::trusting_nobody().unwrap())
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(ANSWER_WITHIN)
}

/// Asks until an answer has this status. Some states are reached within seconds, not at once: a
/// gateway remembers a refusal for up to five.
pub async fn eventually<F>(status: u16, ask: impl Fn() -> F) -> Answer
where
    F: Future<Output = Answer>,
{
    let patience = std::time::Instant::now();
    loop {
        let answer = ask().await;
        if answer.status == status {
            return answer;
        }
        assert!(
            patience.elapsed() < Duration::from_secs(7),
            "still {answer:?}, not {status}"
        );
    }
}

/// A region as its provisioning clients see it: a hostname, a base URL.
#[derive(Clone)]
pub struct Region {
    pub name: String,
    /// `http://global-us.localhost:12345/api/v1/scim`
    pub base_url: String,
    pub address: SocketAddr,
    pub client: Client,
}

impl Region {
    pub fn new(name: &str, base_url: &str, address: SocketAddr) -> Self {
        let host = format!("global-{name}.localhost");
        let client = client_builder().resolve(&host, address).build().unwrap();
        Self {
            name: name.to_owned(),
            base_url: base_url.to_owned(),
            address,
            client,
        }
    }

    /// The value of the `Host` header.
    pub fn host(&self) -> String {
        format!("global-{}.localhost:{}", self.name, self.address.port())
    }

    /// A request, without credentials.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client
            .request(method, format!("{}{path}", self.base_url))
    }

    /// `GET`, with a credential.
    pub async fn get_as(&self, token: &str, path: &str) -> Answer {
        let request = self.request(Method::GET, path);
        Answer::of(request.header(AUTHORIZATION, format!("Bearer {token}"))).await
    }
}

/// An API token and its id.
#[derive(Clone)]
pub struct Token {
    pub id: String,
    pub secret: String,
}

/// A tenant as its provisioning client sees it.
#[derive(Clone)]
pub struct Tenant {
    pub id: String,
    pub token: Token,
    pub region: Region,
}

impl Tenant {
    /// The same tenant, through a client without any open connection: those of before do not
    /// outlive the end of the process on the other side.
    pub fn reconnected(&self) -> Self {
        let region = Region::new(
            &self.region.name,
            &self.region.base_url,
            self.region.address,
        );
        Self {
            region,
            ..self.clone()
        }
    }

    /// The same tenant in another world.
    pub fn in_world(&self, world: &World) -> Self {
        let region = world.region(&self.region.name);
        Self {
            region,
            ..self.clone()
        }
    }

    /// A request with the tenant's token.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.region
            .request(method, path)
            .header(AUTHORIZATION, format!("Bearer {}", self.token.secret))
    }

    pub async fn get(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::GET, path)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::DELETE, path)).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, body.to_string()).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PUT, path, body.to_string()).await
    }

    pub async fn patch(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PATCH, path, body.to_string()).await
    }

    /// A request with any body at all.
    pub async fn send(&self, method: Method, path: &str, body: impl Into<Vec<u8>>) -> Answer {
        let request = self
            .request(method, path)
            .header(CONTENT_TYPE, "application/scim+json");
        Answer::of(request.body(body.into())).await
    }

    /// Creates a user, which must succeed, and returns it.
    pub async fn create_user(&self, user: Value) -> Value {
        let answer = self.post("/Users", &user).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()
    }

    /// Creates a group, which must succeed, and returns it.
    pub async fn create_group(&self, group: Value) -> Value {
        let answer = self.post("/Groups", &group).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()
    }

    /// Creates users by name, many with each call of `/Bulk`, and returns their ids in order.
    pub async fn create_many_users(&self, names: impl Iterator<Item = String>) -> Vec<String> {
        let names: Vec<String> = names.collect();
        let mut ids = Vec::with_capacity(names.len());
        for some in names.chunks(500) {
            let operations: Vec<Value> = some
                .iter()
                .map(|name| {
                    json!({
                        "method": "POST", "path": "/Users", "bulkId": name,
                        "data": { "userName": name },
                    })
                })
                .collect();
            let answer = self.bulk(&json!(operations)).await;
            let outcomes = answer["Operations"].as_array().unwrap();
            assert_eq!(outcomes.len(), some.len());
            for outcome in outcomes {
                assert_eq!(outcome["status"], "201", "{outcome}");
                ids.push(last_segment(&outcome["location"]));
            }
        }
        ids
    }

    /// `POST /Bulk`, which must be understood, and its answer.
    pub async fn bulk(&self, operations: &Value) -> Value {
        let schema = "urn:ietf:params:scim:api:messages:2.0:BulkRequest";
        let body = json!({ "schemas": [schema], "Operations": operations });
        let answer = self.post("/Bulk", &body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    /// The userNames that a filter finds, in list order.
    pub async fn find(&self, filter: &str) -> Vec<String> {
        let answer = self.query(filter).await;
        assert_eq!(answer.status, 200, "{filter}: {answer:?}");
        let list = answer.json();
        let names: Vec<String> = list["Resources"]
            .as_array()
            .map(|found| {
                found
                    .iter()
                    .map(|u| u["userName"].as_str().unwrap().to_owned())
                    .collect()
            })
            .unwrap_or_default();
        assert_eq!(list["totalResults"], json!(names.len()), "{filter}: {list}");
        names
    }

    /// `GET /Users?filter=…`
    pub async fn query(&self, filter: &str) -> Answer {
        self.get(&format!("/Users?filter={}", encode(filter))).await
    }
}

/// The path of a resource, below the base URL.
pub fn path(resource: &Value) -> String {
    let kind = resource["meta"]["resourceType"].as_str().unwrap();
    format!("/{kind}s/{}", id(resource))
}

/// The id of a resource.
pub fn id(resource: &Value) -> &str {
    resource["id"].as_str().unwrap()
}

/// What follows the last slash of a URL.
pub fn last_segment(url: &Value) -> String {
    let url = url.as_str().unwrap();
    url.rsplit('/').next().unwrap().to_owned()
}

/// A PATCH request with these operations.
pub fn patch(operations: &Value) -> Value {
    let schema = "urn:ietf:params:scim:api:messages:2.0:PatchOp";
    json!({ "schemas": [schema], "Operations": operations })
}

/// How large a test is: an environment variable, or what suits a minute of patience.
pub fn scale(variable: &str, ordinary: usize) -> usize {
    let asked = std::env::var(variable).ok();
    asked.and_then(|n| n.parse().ok()).unwrap_or(ordinary)
}

/// A request with a form as its body.
pub fn with_form(request: RequestBuilder, parameters: &[(&str, &str)]) -> RequestBuilder {
    let parameters: Vec<String> = parameters
        .iter()
        .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
        .collect();
    request
        .header("content-type", "application/x-www-form-urlencoded")
        .body(parameters.join("&"))
}

/// Percent-encodes everything but letters and digits.
pub fn encode(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// An answer, read to its end.
#[derive(Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    /// Sends a request and reads its answer.
    pub async fn of(request: RequestBuilder) -> Self {
        Self::try_of(request).await.unwrap()
    }

    /// Sends a request and reads its answer, if one comes.
    pub async fn try_of(request: RequestBuilder) -> reqwest::Result<Self> {
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await?.to_vec();
        Ok(Self {
            status,
            headers,
            body,
        })
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub fn json(&self) -> Value {
        one_json_value(&self.body)
    }

    /// Checks that this is a SCIM error (RFC 7644 section 3.12) of that status, and returns its
    /// `detail`.
    #[track_caller]
    pub fn scim_error(&self, status: u16, scim_type: Option<&str>) -> String {
        assert_eq!(self.status, status, "{self:?}");
        let body = self.json();
        let schemas = json!(["urn:ietf:params:scim:api:messages:2.0:Error"]);
        assert_eq!(body["schemas"], schemas, "{self:?}");
        assert_eq!(body["status"], json!(status.to_string()), "{self:?}");
        assert_eq!(
            body.get("scimType").and_then(Value::as_str),
            scim_type,
            "{self:?}"
        );
        let content_type = self.header("content-type").unwrap_or_default();
        assert!(
            content_type.starts_with("application/scim+json"),
            "{self:?}"
        );
        body["detail"]
            .as_str()
            .unwrap_or_else(|| panic!("no detail: {self:?}"))
            .to_owned()
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.status, String::from_utf8_lossy(&self.body))
    }
}
