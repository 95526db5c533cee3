//! What storage costs: CPU time of a region-node for each answer, latencies, writes a commit, bytes
//! on disk, and how these grow with the number of users of a tenant.
//!
//! `tests/bench/run store` builds and runs it; docs/benchmarks/README.md says how to read it. The
//! program starts the real `meridian-region-node` and speaks to its link as a gateway would.

mod arguments;
#[path = "../common/mod.rs"]
mod common;
mod node;
mod peer;
mod pgbench;
#[path = "../../it/support/postgres.rs"]
#[expect(dead_code, reason = "the tests do more with a server")]
mod postgres;
mod report;
mod session;
mod users;

use std::cell::RefCell;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use arguments::{Arguments, Engine};
use common::client::find;
use common::drive::{Driven, Turn};
use common::numbers::{grouped, mix};
use common::report::{circumstances, progress};
use node::{Node, Tenant};
use report::{Figure, Size};
use session::{Call, Session, drive};

/// Connections of a gateway that reads, and of one that writes.
const READING: usize = 16;
const WRITING: usize = 64;
/// Members that go into a group with one call.
const MEMBERS_AT_ONCE: usize = 5_000;
/// Users of each of the other tenants.
const USERS_BESIDE: usize = 5;
/// Pages of one walk.
const PAGES: usize = 50;

/// The 36 characters of a resource's id.
type Id = [u8; 36];

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = match Arguments::read(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(complaint) => {
            eprintln!("{complaint}\n{}", arguments::USAGE);
            return ExitCode::FAILURE;
        }
    };
    // Ended with this function, if it is ours.
    let server = match &arguments.engine {
        Engine::Postgres { url: None } => Some(postgres::Postgres::start()),
        _ => None,
    };
    let url = match &arguments.engine {
        Engine::Sqlite => None,
        Engine::Postgres { url } => url.clone().or(server.as_ref().map(postgres::Postgres::url)),
    };
    let mut sizes = Vec::new();
    for users in &arguments.users {
        // A database of its own for each size.
        let server = url.as_deref().and_then(|url| url.rsplit_once('/'));
        let database = server
            .map(|(server, _)| format!("{server}/meridian_bench_{}_{users}", std::process::id()));
        sizes.push(measure_size(&arguments, database.as_deref(), *users).await);
    }
    println!("{}", report::tables(&arguments.engine, &sizes));
    if !arguments.keep {
        let circumstances = circumstances("the node shares", "tests/bench/run store");
        report::write(&arguments.engine, &sizes, &circumstances);
    }
    ExitCode::SUCCESS
}

/// One node with a tenant of one size.
async fn measure_size(arguments: &Arguments, database: Option<&str>, users: u64) -> Size {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let node = Node::start(folder.path(), database);
    let tenants = arguments.tenants_beside(users);
    for number in 0..tenants {
        fill_other_tenant(&node, number, tenants).await;
    }
    let tenant = node.tenant("Acme").await;
    let bench = Bench {
        session: Rc::new(Session::begin(&node, &tenant).await),
        ids: RefCell::new(Vec::new()),
        answers: arguments.answers,
        node,
        tenant,
    };
    let loaded_per_s = bench.load(users as usize).await;
    let stored_bytes = match database {
        None => bench.node.stored_bytes().await,
        Some(url) => pgbench::stored_bytes(url),
    };
    let figures = bench.measure().await;
    let resident_bytes = bench.node.resident_bytes();
    let file = bench.node.database.clone();
    bench.node.stop();
    eprintln!("the peer");
    let peer = match database {
        None => (
            "A bare loop",
            peer::creates_per_s(&file, 4 * arguments.answers),
        ),
        Some(url) => (
            "pgbench",
            pgbench::creates_per_s(url, folder.path(), WRITING),
        ),
    };
    Size {
        users,
        tenants,
        loaded_per_s,
        bytes_per_user: stored_bytes as f64 / users as f64,
        resident_bytes,
        figures,
        peer,
    }
}

async fn fill_other_tenant(node: &Node, number: u64, of: u64) {
    let tenant = node.tenant(&format!("tenant {number}")).await;
    let session = Rc::new(Session::begin(node, &tenant).await);
    let first = 1_000_000_000 + number * USERS_BESIDE as u64;
    let create = |turn: Turn| create(first + turn.number as u64);
    drive(&session, USERS_BESIDE, USERS_BESIDE, 201, create, |_, _| {}).await;
    if number % 100 == 99 {
        eprintln!("{} of {} other tenants", grouped(number + 1), grouped(of));
    }
}

fn create(number: u64) -> Call {
    Call::with_body("POST", "/Users".to_owned(), users::body(number))
}

/// A node with a tenant, and what is known of its users.
struct Bench {
    node: Node,
    tenant: Tenant,
    session: Rc<Session>,
    /// The id of each user, by the user's number.
    ids: RefCell<Vec<Id>>,
    answers: usize,
}

impl Bench {
    /// Creates the users and shows how far it is; answers how many a second.
    async fn load(&self, users: usize) -> f64 {
        let began = Instant::now();
        let mut shown = Instant::now();
        let mut done = 0;
        self.ids.replace(vec![[0; 36]; users]);
        // In parts, because a grant does not live for ever.
        while done < users {
            self.session.renew(&self.node, &self.tenant).await;
            let some = (users - done).min(20_000);
            drive(
                &self.session,
                WRITING,
                some,
                201,
                |turn| create((done + turn.number) as u64),
                |turn, body| {
                    self.ids.borrow_mut()[done + turn.number] = id_in(body);
                    if shown.elapsed() > Duration::from_secs(1) {
                        shown = Instant::now();
                        progress("users", done + turn.number, users, began);
                    }
                },
            )
            .await;
            done += some;
        }
        progress("users", users, users, began);
        users as f64 / began.elapsed().as_secs_f64()
    }

    async fn measure(&self) -> Vec<Figure> {
        let users = self.ids.borrow().len();
        let any = |turn: Turn| mix(turn.number as u64) as usize % users;
        let by_id = |turn: Turn| Call::get(self.user(any(turn)));
        let by_name = |turn: Turn| filter("userName", &users::user_name(any(turn) as u64));
        let by_external_id =
            |turn: Turn| filter("externalId", &users::external_id(any(turn) as u64));
        let by_email = |turn: Turn| filter("emails.value", &users::email(any(turn) as u64));
        let first_page = |_: Turn| Call::get("/Users?startIndex=1&count=100".to_owned());
        let pages = PAGES.min(users / 100);
        let next_page = |turn: Turn| {
            let start = 100 * (turn.of_lane % pages) + 1;
            Call::get(format!("/Users?startIndex={start}&count=100"))
        };
        let (all, few) = (self.answers, self.answers / 5);
        let mut figures = vec![
            self.read(report::GET, all, by_id).await,
            self.read(report::USER_NAME, all, by_name).await,
            self.read(report::EXTERNAL_ID, all, by_external_id).await,
            self.read(report::EMAIL, all, by_email).await,
            self.read(report::FIRST_PAGE, few, first_page).await,
            self.read(report::NEXT_PAGE, few, next_page).await,
            self.patch_active().await,
            self.post().await,
        ];
        if users >= 10_000 {
            let large = (users / 10 * 9).min(100_000);
            figures.push(self.add_members(report::SMALL_GROUP, 1000).await);
            figures.push(self.add_members(report::LARGE_GROUP, large).await);
        }
        figures
    }

    async fn read(
        &self,
        operation: &'static str,
        count: usize,
        call: impl Fn(Turn) -> Call,
    ) -> Figure {
        // The first ones fill caches.
        drive(&self.session, READING, count / 10, 200, &call, |_, _| {}).await;
        let run = async || drive(&self.session, READING, count, 200, &call, |_, _| {}).await;
        self.measured(operation, READING, run).await
    }

    /// Each connection has users of its own, so that no two change the same one at a time.
    async fn patch_active(&self) -> Figure {
        let users = self.ids.borrow().len();
        let active = RefCell::new(vec![true; users]);
        let call = |turn: Turn| {
            let of_lane = users / WRITING;
            let user = turn.lane + WRITING * (mix(turn.number as u64) as usize % of_lane);
            let is_active = &mut active.borrow_mut()[user];
            *is_active = !*is_active;
            let operation = format!(r#"{{"op":"replace","path":"active","value":{is_active}}}"#);
            Call::with_body("PATCH", self.user(user), patch(&operation))
        };
        let run = async || drive(&self.session, WRITING, self.answers, 200, call, |_, _| {}).await;
        self.measured(report::PATCH, WRITING, run).await
    }

    /// In rounds, and what a round created is deleted behind it: the tenant keeps its size.
    async fn post(&self) -> Figure {
        let users = self.ids.borrow().len();
        let round = (users / 5).clamp(200, 10_000).min(self.answers);
        let mut all = Driven {
            latencies: Vec::new(),
            took: Duration::ZERO,
        };
        let (mut spent, mut commits) = ((0.0, 0.0), Some((0, 0)));
        for nth in 0..self.answers.div_ceil(round) {
            self.session.renew(&self.node, &self.tenant).await;
            let first = users + nth * round;
            let created = RefCell::new(Vec::with_capacity(round));
            let before = self.node.usage().await;
            let call = |turn: Turn| create((first + turn.number) as u64);
            let see = |_: Turn, body: &[u8]| created.borrow_mut().push(id_in(body));
            let driven = drive(&self.session, WRITING, round, 201, call, see).await;
            let after = self.node.usage().await;
            spent.0 += after.cpu_us_since(&before);
            spent.1 += after.server_us_since(&before);
            commits = commits
                .zip(after.commits_since(&before))
                .map(|((writes, commits), (w, c))| (writes + w, commits + c));
            all.latencies.extend(driven.latencies);
            all.took += driven.took;
            let delete = |turn: Turn| Call {
                method: "DELETE",
                path: path(&created.borrow()[turn.number]),
                body: None,
            };
            drive(&self.session, WRITING, round, 204, delete, |_, _| {}).await;
        }
        all.latencies.sort_unstable();
        figure(report::POST, WRITING, &all, spent, commits)
    }

    /// Fills a group and adds members to it one by one.
    async fn add_members(&self, operation: &'static str, size: usize) -> Figure {
        let body = format!(
            r#"{{"schemas":["urn:ietf:params:scim:schemas:core:2.0:Group"],"displayName":"{size}"}}"#
        );
        let group = RefCell::new(String::new());
        let call = |_: Turn| Call::with_body("POST", "/Groups".to_owned(), body.clone());
        drive(&self.session, 1, 1, 201, call, |_, body| {
            let id = id_in(body);
            group.replace(format!("/Groups/{}", String::from_utf8_lossy(&id)));
        })
        .await;
        let group = group.into_inner();
        let fill = |turn: Turn| {
            let ids = self.ids.borrow();
            let begin = turn.number * MEMBERS_AT_ONCE;
            let end = (begin + MEMBERS_AT_ONCE).min(size);
            add(&group, &ids[begin..end])
        };
        drive(
            &self.session,
            1,
            size.div_ceil(MEMBERS_AT_ONCE),
            200,
            fill,
            |_, _| {},
        )
        .await;
        let newcomers = self.ids.borrow().len() - size;
        let count = self.answers.min(newcomers);
        let call = |turn: Turn| add(&group, &self.ids.borrow()[size + turn.number..][..1]);
        let run = async || drive(&self.session, WRITING, count, 200, call, |_, _| {}).await;
        self.measured(operation, WRITING, run).await
    }

    async fn measured(
        &self,
        operation: &'static str,
        connections: usize,
        run: impl AsyncFnOnce() -> Driven,
    ) -> Figure {
        self.session.renew(&self.node, &self.tenant).await;
        let before = self.node.usage().await;
        let driven = run().await;
        let after = self.node.usage().await;
        let commits = after.commits_since(&before);
        let spent = (after.cpu_us_since(&before), after.server_us_since(&before));
        figure(operation, connections, &driven, spent, commits)
    }

    fn user(&self, number: usize) -> String {
        path(&self.ids.borrow()[number])
    }
}

fn figure(
    operation: &'static str,
    connections: usize,
    driven: &Driven,
    (cpu_us, server_us): (f64, f64),
    commits: Option<(u64, u64)>,
) -> Figure {
    let figure = Figure {
        operation,
        connections,
        answers: driven.answers(),
        cpu_us: cpu_us / driven.answers() as f64,
        server_us: (server_us > 0.0).then_some(server_us / driven.answers() as f64),
        p50_us: driven.percentile(50),
        p99_us: driven.percentile(99),
        per_s: driven.per_s(),
        writes_per_commit: commits
            .filter(|(writes, commits)| *commits > 0 && *writes > *commits)
            .map(|(writes, commits)| writes as f64 / commits as f64),
    };
    eprintln!(
        "{operation}: {:.1} us of CPU, {} answers at {}/s",
        figure.cpu_us,
        grouped(figure.answers as u64),
        grouped(figure.per_s as u64)
    );
    figure
}

fn path(id: &Id) -> String {
    format!("/Users/{}", String::from_utf8_lossy(id))
}

/// The id of the resource in an answer.
fn id_in(body: &[u8]) -> Id {
    const NAME: &[u8] = b"\"id\":\"";
    let at = find(body, NAME).expect("a resource has an id") + NAME.len();
    body[at..at + 36]
        .try_into()
        .expect("an id has 36 characters")
}

fn filter(attribute: &str, value: &str) -> Call {
    let value = value.replace('@', "%40");
    Call::get(format!("/Users?filter={attribute}%20eq%20%22{value}%22"))
}

fn add(group: &str, ids: &[Id]) -> Call {
    let members: Vec<String> = ids
        .iter()
        .map(|id| format!(r#"{{"value":"{}"}}"#, String::from_utf8_lossy(id)))
        .collect();
    let operation = format!(
        r#"{{"op":"add","path":"members","value":[{}]}}"#,
        members.join(",")
    );
    Call::with_body("PATCH", group.to_owned(), patch(&operation))
}

fn patch(operation: &str) -> String {
    format!(
        r#"{{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[{operation}]}}"#
    )
}
