//! The proof that no personal byte leaves its region: a deployment of real programs in two regions,
//! a canary in every personal value and in every secret, everything that can be asked of it, also
//! while programs are killed, links hang and there is too much to do; and then a search of all that
//! the programs have written, wherever that is.

mod canary;
mod exercise;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use futures_util::future::join_all;
use serde_json::{Value, json};

use self::canary::{Book, Canary, Keep, Search};
use self::exercise::Cast;
use super::admin::Admin;
use super::consumer::Consumer;
use super::fleet::{Fleet, GRANT_KEY, LINK_KEY, OPERATOR_KEY, Plan, token_of};
use super::link::State;
use super::redis::{Redis, Reply};
use super::{Answer, Tenant, Token, encode, meridian_command, patch, path, plain_client, postgres};

const REGIONS: [&str; 2] = ["us", "de"];
/// Whose keys and grants they are: nobody may write them anywhere.
const NOBODY: &str = "no region";
/// The client's address, as a proxy tells it to the gateways.
const ADDRESS: &str = "198.51.100.177";

/// How it is looked at.
#[derive(Clone, Copy)]
pub struct Scope<'s> {
    /// Writes between two faults.
    pub writes: usize,
    /// Another build of the gateway.
    pub gateway: Option<&'s Path>,
    /// A PostgreSQL server for the stores; without one they are files.
    pub postgres: Option<&'s str>,
}

/// What was found where.
pub struct Findings {
    places: Vec<Looked>,
    canaries: usize,
    forms: usize,
    /// Of each region: canaries that must be in its store, and those of them that were found.
    at_home: Vec<(&'static str, BTreeSet<String>, usize)>,
    /// Forms of canaries that were put into the gateways' log, and those of them that were found.
    planted: (usize, usize),
    /// What clients were answered while programs were killed and links hung, by status.
    under_load: BTreeMap<u16, usize>,
}

/// A place that was searched.
struct Looked {
    name: String,
    files: usize,
    bytes: usize,
    /// How many canaries have no business there.
    sought: usize,
    hits: BTreeSet<String>,
}

/// A place to search.
struct Place {
    name: String,
    /// Whose data is at home there.
    home: Option<&'static str>,
    files: usize,
    bytes: Vec<u8>,
}

impl Place {
    fn new(name: impl Into<String>, home: Option<&'static str>) -> Self {
        Self {
            name: name.into(),
            home,
            files: 0,
            bytes: Vec::new(),
        }
    }

    fn add(&mut self, bytes: impl AsRef<[u8]>) {
        self.files += 1;
        self.bytes.extend(bytes.as_ref());
        // Nothing begins in one file and ends in the next.
        self.bytes.push(b'\n');
    }

    /// Whether a canary, written in this way, has no business here.
    fn must_not_have(&self, canary: &Canary, way: &str) -> bool {
        self.home != Some(canary.region) || !canary.may_be_at_home(way)
    }
}

/// Two regions, and what is at hand of them.
struct Deployed {
    fleet: Fleet,
    redis: Redis,
    collector: Consumer,
    application: Consumer,
    /// What is neither a log nor a store: figures, what commands say.
    figures: Place,
    commands: Place,
    stores: BTreeMap<&'static str, Place>,
    copies: BTreeMap<&'static str, Place>,
    postgres: Option<String>,
}

/// One region's tenants and their canaries.
struct Home {
    book: Arc<Book>,
    acme: Tenant,
    admin: Admin,
    revoked: Token,
    greedy: Tenant,
}

/// Does everything and searches everything.
pub async fn prove(scope: Scope<'_>) -> Findings {
    let mut deployed = Deployed::start(scope).await;
    let mut homes = Vec::new();
    for region in REGIONS {
        homes.push(Home::make(&mut deployed, region).await);
    }
    deployed.restore_elsewhere();
    for (home, other) in [(0, 1), (1, 0)] {
        let cast = Cast {
            book: &homes[home].book,
            acme: &homes[home].acme,
            admin: &homes[home].admin,
            revoked: &homes[home].revoked,
            foreign: &homes[other].acme,
            consumer: &deployed.application,
        };
        exercise::everything(&cast).await;
    }
    let under_load = deployed.under_load(&homes, scope.writes).await;
    for (region, home) in REGIONS.into_iter().zip(&homes) {
        deployed.back_up(region, "last");
        deployed.export(region, &home.acme.id);
    }
    deployed.note_figures().await;
    let keys = Book::of(NOBODY);
    for (what, key) in [
        ("link key", LINK_KEY),
        ("operator key", OPERATOR_KEY),
        ("grant key", GRANT_KEY),
    ] {
        keys.note(what, Keep::Nowhere, key, key);
    }
    // Grants are JWTs, and their headers begin like this.
    for beginning in ["eyJhbGciOi", "eyJ0eXAiOi", "eyJraWQiOi"] {
        keys.note(beginning, Keep::Nowhere, beginning, beginning);
    }
    keys.note("client's address", Keep::Nowhere, ADDRESS, ADDRESS);
    let books = homes.iter().map(|home| &*home.book).chain([&keys]);
    let search = Search::of(books.flat_map(Book::canaries).collect());
    let places = deployed.places().await;
    Findings::of(&search, places, under_load)
}

impl Deployed {
    async fn start(scope: Scope<'_>) -> Self {
        let redis = Redis::start_with(&["--rdbcompression", "no"], &[]);
        let (collector, application) = (Consumer::start().await, Consumer::start().await);
        let telemetry = format!(
            "[telemetry]\nlevel = \"trace\"\nsample_ratio = 1.0\notlp_metrics_ms = 200\n\
             otlp_endpoint = \"http://{}\"\n",
            collector.address
        );
        // Times and queues that can run out within a test.
        let of_gateways = format!(
            "trusted_proxies = [\"127.0.0.0/8\"]\n[redis]\nurl = \"{}\"\n{telemetry}\
             [timeouts]\nnode_look_ms = 300\nnode_hold_ms = 500\nrequest_ms = 3000\n\
             body_read_ms = 1000\nheader_read_ms = 1000\n\
             [limits]\nnode_in_flight = 4\nregion_waiting = 8\nfailures_per_s = 1000\n",
            redis.url()
        );
        let of_nodes = format!(
            "{telemetry}[events]\nallow_http = true\nallowed_networks = [\"127.0.0.0/8\"]\n\
             [activity]\nflush_ms = 50\n"
        );
        let fleet = Fleet::start(Plan {
            regions: &REGIONS,
            gateways: 2,
            links: true,
            postgres: scope.postgres,
            of_gateways: &of_gateways,
            of_nodes: &of_nodes,
            gateway: scope.gateway,
            ..Plan::default()
        })
        .await;
        fs::write(fleet.folder().join("operator.key"), OPERATOR_KEY).unwrap();
        let each = |what: &str| {
            let place = |region| {
                (
                    region,
                    Place::new(format!("{what} of {region}"), Some(region)),
                )
            };
            REGIONS.map(place).into()
        };
        Self {
            fleet,
            redis,
            collector,
            application,
            figures: Place::new("/metrics, /readyz of all programs", None),
            commands: Place::new("what `meridian` said", None),
            stores: each("store"),
            copies: each("backups"),
            postgres: scope.postgres.map(str::to_owned),
        }
    }

    /// Runs a command of the operator in a region; answers whether it did what it was to do.
    fn meridian(&mut self, region: &str, arguments: &[&str]) -> bool {
        let mut command: Command = meridian_command();
        command
            .args(arguments)
            .args(["--endpoint", &self.fleet.endpoint(region)]);
        command
            .arg("--operator-key")
            .arg(self.fleet.folder().join("operator.key"));
        let output = command.output().unwrap();
        self.commands.add([output.stdout, output.stderr].concat());
        output.status.success()
    }

    fn copy(&self, region: &str, name: &str) -> PathBuf {
        self.fleet.folder().join(format!("{region}-{name}.jsonl"))
    }

    fn back_up(&mut self, region: &'static str, name: &str) {
        let file = self.copy(region, name);
        assert!(self.meridian(region, &["backup", "--to", file.to_str().unwrap()]));
        self.copies
            .get_mut(region)
            .unwrap()
            .add(fs::read(file).unwrap());
    }

    fn export(&mut self, region: &'static str, tenant: &str) {
        let file = self.copy(region, "export");
        let to = file.to_str().unwrap();
        assert!(self.meridian(region, &["tenant", "export", tenant, "--to", to]));
        self.copies
            .get_mut(region)
            .unwrap()
            .add(fs::read(file).unwrap());
    }

    fn restore(&mut self, region: &str, of: &str) -> bool {
        let file = self.copy(of, "first");
        self.meridian(
            region,
            &["restore", "--from", file.to_str().unwrap(), "--replace"],
        )
    }

    /// A backup of one region is none of another's.
    fn restore_elsewhere(&mut self) {
        for (region, of) in [("us", "de"), ("de", "us")] {
            assert!(
                !self.restore(region, of),
                "{region} has taken what is of {of}"
            );
        }
    }

    /// What all programs show of themselves.
    async fn note_figures(&mut self) {
        let client = plain_client();
        let addresses: Vec<String> = self
            .fleet
            .programs()
            .map(|one| one.management.clone())
            .collect();
        for (address, path) in addresses
            .iter()
            .flat_map(|a| [(a, "metrics"), (a, "readyz")])
        {
            let shown = Answer::of(client.get(format!("http://{address}/{path}"))).await;
            self.figures.add(&shown.body);
        }
    }

    /// What a region has stored, as it is now: with SQLite's log, if a program was just killed.
    fn note_store(&mut self, region: &'static str) {
        let place = self.stores.get_mut(region).unwrap();
        match &self.postgres {
            Some(_) => place.add(postgres::dump(&self.fleet.url(region))),
            None => {
                for file in self.fleet.files() {
                    if name_of(&file).starts_with(&format!("{region}0.db")) {
                        place.add(fs::read(&file).unwrap());
                    }
                }
            }
        }
    }

    /// People come, change and go in both regions while nodes and gateways are killed, links hang
    /// and break, and there is more to do than can be done. Answers what clients were told.
    async fn under_load(&mut self, homes: &[Home], writes: usize) -> BTreeMap<u16, usize> {
        let told = Arc::new(Told::default());
        let mut clients = Vec::new();
        for (home, lane) in homes.iter().flat_map(|home| [(home, 0), (home, 1)]) {
            let work = work(
                home.acme.clone(),
                Arc::clone(&home.book),
                lane,
                Arc::clone(&told),
            );
            clients.push(tokio::spawn(work));
        }
        for region in REGIONS {
            told.more(201, writes).await;
            self.note_figures().await;
            let node = &mut self.fleet.nodes.get_mut(region).unwrap()[0].program;
            node.kill();
            self.note_store(region);
            let node = &mut self.fleet.nodes.get_mut(region).unwrap()[0].program;
            node.start();
            node.ready().await;
        }
        for number in 0..self.fleet.gateways.len() {
            told.more(201, writes).await;
            let gateway = &mut self.fleet.gateways[number];
            gateway.kill();
            gateway.start();
            gateway.ready().await;
        }
        let link = &self.fleet.nodes["de"][0].link;
        for fault in [
            State::Hangs,
            State::Silent,
            State::ResetAfter(100),
            State::Broken,
        ] {
            told.more(201, writes).await;
            link.is(fault);
            told.more(503, 1).await;
            link.breaks();
            link.works();
        }
        for home in homes {
            let burst = |tenant: &Tenant| {
                let tenant = tenant.clone();
                let filter = format!("title eq \"{}\"", home.book.passing("filter in a flood"));
                async move { tenant.query(&filter).await.status }
            };
            for (tenant, wanted) in [(&home.greedy, 429), (&home.acme, 503)] {
                let patience = Instant::now();
                while !join_all((0..100).map(|_| burst(tenant)))
                    .await
                    .contains(&wanted)
                {
                    assert!(patience.elapsed().as_secs() < 60, "nobody is told {wanted}");
                }
                told.note(wanted);
            }
        }
        told.more(201, writes).await;
        told.enough.store(true, Ordering::Relaxed);
        for client in clients {
            client.await.unwrap();
        }
        told.statuses.lock().unwrap().clone()
    }

    /// Stops the programs and collects all that they have left behind.
    async fn places(mut self) -> Vec<Place> {
        let mut redis = Place::new("Redis: live keys and values, RDB file, log", None);
        assert!(!self.redis.keys().is_empty(), "gateways share nothing");
        redis.add(self.redis.dump());
        assert_eq!(
            self.redis.command(&[b"SAVE"]),
            Reply::Status("OK".to_owned())
        );
        for file in ["dump.rdb", "log"] {
            redis.add(fs::read(self.redis.file(file)).unwrap());
        }
        for region in REGIONS {
            self.note_store(region);
        }
        for program in self.fleet.programs() {
            program.stop().await;
        }
        for region in REGIONS {
            self.note_store(region);
        }
        let mut places = Vec::new();
        for (name, beginning) in [
            ("gateways", "gateway"),
            ("node of us", "us"),
            ("node of de", "de"),
        ] {
            let mut log = Place::new(format!("log of {name}, level trace"), None);
            for file in self.fleet.files() {
                if name_of(&file).starts_with(beginning) && name_of(&file).ends_with(".log") {
                    log.add(fs::read(file).unwrap());
                }
            }
            assert!(
                log.bytes.len() > 10_000,
                "there is something to search in the {}",
                log.name
            );
            places.push(log);
        }
        let mut otlp = Place::new("OTLP: spans and figures", None);
        for delivery in self.collector.deliveries() {
            assert!(
                !delivery.headers.contains_key("content-encoding"),
                "it is compressed"
            );
            otlp.add(&delivery.bytes);
        }
        assert!(otlp.files > 10, "there is something to search");
        let mut other = Place::new("any other file", None);
        let known = |name: &str| {
            let is_of_region = REGIONS.iter().any(|region| {
                name.starts_with(&format!("{region}0.db"))
                    || name.starts_with(&format!("{region}-"))
            });
            let is_known = [".log", ".toml", ".key"]
                .iter()
                .any(|end| name.ends_with(end));
            is_of_region || is_known
        };
        for file in self
            .fleet
            .files()
            .iter()
            .filter(|file| !known(&name_of(file)))
        {
            other.add(fs::read(file).unwrap());
        }
        places.extend([self.figures, otlp, redis, self.commands, other]);
        places.extend(self.stores.into_values());
        places.extend(self.copies.into_values());
        places
    }
}

impl Home {
    async fn make(deployed: &mut Deployed, region: &'static str) -> Self {
        let book = Arc::new(Book::of(region));
        let fleet = &deployed.fleet;
        let mut acme = fleet.tenant(&book.stored("tenant's name"), region).await;
        acme.region.client = through_a_proxy(&acme);
        book.secret("tenant's token", &acme.token.secret);
        let tokens = format!("/tenants/{}/tokens", acme.id);
        let token = async |what: &str, body: Value| {
            let made = fleet.operator(region, &tokens, body).await;
            let token = token_of(&made);
            book.secret(what, &token.secret);
            token
        };
        let body = json!({ "scope": "admin", "name": book.stored("admin token's name") });
        let admin = Admin {
            tenant: acme.clone(),
            token: token("admin's token", body).await,
        };
        let revoked = token("revoked token", json!({})).await;
        assert_eq!(
            acme.region.get_as(&revoked.secret, "/Users").await.status,
            200
        );
        let path = format!("/tokens/{}/revoke", revoked.id);
        fleet.operator(region, &path, json!({})).await;
        let limits = json!({ "requests_per_s": 25, "burst": 25, "in_flight": 10 });
        let mut greedy = fleet
            .tenant_with("greedy", region, json!({ "limits": limits }))
            .await;
        greedy.region.client = acme.region.client.clone();
        book.secret("limited tenant's token", &greedy.token.secret);

        let user = json!({ "userName": book.stored("user of the first backup") });
        acme.create_user(user).await;
        deployed.back_up(region, "first");
        assert!(
            deployed.restore(region, region),
            "a region takes its own backup"
        );
        Self {
            book,
            acme,
            admin,
            revoked,
            greedy,
        }
    }
}

/// A client whose address is that of a person, as a proxy would tell it.
fn through_a_proxy(tenant: &Tenant) -> reqwest::Client {
    let region = &tenant.region;
    let told = [("x-forwarded-for", ADDRESS)].map(|(name, value)| {
        let name = reqwest::header::HeaderName::from_static(name);
        (name, reqwest::header::HeaderValue::from_static(value))
    });
    let host = format!("global-{}.localhost", region.name);
    let client = super::client_builder().resolve(&host, region.address);
    client
        .default_headers(told.into_iter().collect())
        .build()
        .unwrap()
}

/// What clients were told under load.
#[derive(Default)]
struct Told {
    statuses: Mutex<BTreeMap<u16, usize>>,
    enough: AtomicBool,
}

impl Told {
    fn note(&self, status: u16) {
        *self.statuses.lock().unwrap().entry(status).or_default() += 1;
    }

    fn count(&self, status: u16) -> usize {
        let statuses = self.statuses.lock().unwrap();
        statuses.get(&status).copied().unwrap_or(0)
    }

    /// Waits until so many more clients were told this.
    async fn more(&self, status: u16, more: usize) {
        let (goal, patience) = (self.count(status) + more, Instant::now());
        while self.count(status) < goal {
            assert!(patience.elapsed().as_secs() < 60, "nobody is told {status}");
            tokio::task::yield_now().await;
        }
    }
}

/// One client after the other, until it is enough.
async fn work(tenant: Tenant, book: Arc<Book>, lane: usize, told: Arc<Told>) {
    let word = |what: &str| book.stored(&format!("{what} under load"));
    for number in 0.. {
        if told.enough.load(Ordering::Relaxed) {
            return;
        }
        // A connection may end with the gateway that it leads to.
        let ask = async |method: reqwest::Method, path: &str, body: Value| {
            let request = tenant
                .request(method, path)
                .header("content-type", "application/scim+json");
            let answer = Answer::try_of(request.body(body.to_string())).await.ok()?;
            told.note(answer.status);
            assert!(![401, 403, 500].contains(&answer.status), "{answer:?}");
            Some(answer)
        };
        let name = format!("{}-{lane}-{number}", word("userName"));
        let user = json!({ "userName": name, "title": word("title") });
        let made = ask(reqwest::Method::POST, "/Users", user).await;
        let Some(made) = made.filter(|made| made.status == 201) else {
            continue;
        };
        let url = path(&made.json());
        let filter = encode(&format!(
            "userName eq \"{name}\" and title eq \"{}\"",
            word("filter")
        ));
        ask(
            reqwest::Method::GET,
            &format!("/Users?filter={filter}"),
            Value::Null,
        )
        .await;
        let change =
            patch(&json!([{ "op": "replace", "path": "nickName", "value": word("PATCH") }]));
        ask(reqwest::Method::PATCH, &url, change).await;
        if number % 2 == 0 {
            ask(reqwest::Method::DELETE, &url, Value::Null).await;
        }
    }
}

fn name_of(file: &Path) -> String {
    file.file_name().unwrap().to_string_lossy().into_owned()
}

impl Findings {
    fn of(search: &Search, places: Vec<Place>, under_load: BTreeMap<u16, usize>) -> Self {
        let canaries = search.canaries();
        let mut at_home = Vec::new();
        let mut looked = Vec::new();
        let log_of_gateways = &places[0].bytes;
        let planted = search.finds_what_is_put_into(log_of_gateways);
        for place in places {
            let found = search.find(&place.bytes);
            let hits = found
                .iter()
                .filter(|(number, way)| place.must_not_have(&canaries[*number], way));
            let hits = hits.map(|(number, way)| {
                let Canary { what, region, .. } = &canaries[*number];
                format!("{what} of {region} ({way})")
            });
            looked.push(Looked {
                hits: hits.collect(),
                sought: canaries
                    .iter()
                    .filter(|one| place.must_not_have(one, "plain"))
                    .count(),
                files: place.files,
                bytes: place.bytes.len(),
                name: place.name.clone(),
            });
            let Some(region) = place.home.filter(|_| place.name.starts_with("store")) else {
                continue;
            };
            let has = |number: usize| found.iter().any(|(one, _)| *one == number);
            let stored = canaries.iter().enumerate();
            let stored = stored.filter(|(_, one)| one.region == region && one.keep == Keep::Stored);
            let (there, missing): (Vec<_>, Vec<_>) = stored.partition(|(number, _)| has(*number));
            let missing = missing.into_iter().map(|(_, one)| one.what.clone());
            at_home.push((region, missing.collect(), there.len()));
        }
        Self {
            places: looked,
            canaries: canaries.len(),
            forms: search.forms(),
            at_home,
            planted,
            under_load,
        }
    }

    /// How often something personal is where it must not be.
    fn hits(&self) -> usize {
        self.places.iter().map(|place| place.hits.len()).sum()
    }

    /// What makes the search worthless, or what it has found, in sentences.
    pub fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for place in &self.places {
            wrong.extend(
                place
                    .hits
                    .iter()
                    .map(|hit| format!("{hit} is in the {}", place.name)),
            );
        }
        for (region, missing, there) in &self.at_home {
            if *there == 0 || !missing.is_empty() {
                wrong.push(format!("not found in the store of {region}: {missing:?}"));
            }
        }
        let (found, of) = self.planted;
        if found < of {
            wrong.push(format!(
                "of {of} forms that were put into a log, {found} were found"
            ));
        }
        for status in [201, 429, 503] {
            if !self.under_load.contains_key(&status) {
                wrong.push(format!("nobody was told {status} under load"));
            }
        }
        wrong
    }

    /// For an auditor.
    pub fn markdown(&self) -> String {
        let mut text = String::from(
            "| where | files | bytes | canaries sought | hits |\n| --- | ---: | ---: | ---: | ---: |\n",
        );
        for Looked {
            name,
            files,
            bytes,
            sought,
            hits,
        } in &self.places
        {
            let _ = writeln!(
                text,
                "| {name} | {files} | {bytes} | {sought} | {} |",
                hits.len()
            );
        }
        let _ = writeln!(
            text,
            "\n{} canaries and secrets, each sought in {} forms together: {} hits.\n",
            self.canaries,
            self.forms,
            self.hits()
        );
        for (region, missing, there) in &self.at_home {
            let _ = writeln!(
                text,
                "Control: of {} values that region {region} has to store, {there} were found in its store.",
                there + missing.len()
            );
        }
        let (found, of) = self.planted;
        let _ = writeln!(
            text,
            "Control: of {of} forms that were put into a copy of the gateways' log, {found} were found."
        );
        let told: Vec<String> = self
            .under_load
            .iter()
            .map(|(status, count)| format!("{count} x {status}"))
            .collect();
        let _ = writeln!(
            text,
            "Answered while programs were killed, links hung and there was too much to do: {}.",
            told.join(", ")
        );
        for wrong in self.wrong() {
            let _ = writeln!(text, "WRONG: {wrong}");
        }
        text
    }

    /// For machines.
    pub fn json(&self) -> Value {
        let places = self.places.iter().map(|place| {
            json!({
                "where": place.name, "files": place.files, "bytes": place.bytes,
                "canaries": place.sought, "hits": place.hits,
            })
        });
        let at_home = self.at_home.iter().map(|(region, missing, there)| {
            json!({ "region": region, "found": there, "missing": missing })
        });
        json!({
            "canaries": self.canaries, "forms": self.forms, "hits": self.hits(),
            "places": places.collect::<Vec<_>>(),
            "controls": {
                "stores": at_home.collect::<Vec<_>>(),
                "planted": { "forms": self.planted.1, "found": self.planted.0 },
            },
            "underLoad": self.under_load.iter().map(|(status, count)| (status.to_string(), json!(count)))
                .collect::<serde_json::Map<_, _>>(),
            "wrong": self.wrong(),
        })
    }
}
