//! What clients asked for and what they were told, and whether what is there now fits it: the
//! checker of all fault runs.
//!
//! Each person belongs to one client that does one thing at a time, so at any moment a person is
//! in one certain state, or in that one or the next: a change that was not acknowledged may be
//! there, exactly as it was asked for, or not. After such a change nobody touches the person any
//! more, so it stays that simple.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::{Method, RequestBuilder};
use rusqlite::Connection;
use serde_json::{Value, json};

use super::disk::Disk;
use super::shape::Shape;
use super::{Answer, Stored, Tenant, World, id, postgres};

/// What is true of a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Absent,
    /// All that varies of a person is made from the number, in several attributes that change
    /// together; `member` of the one group.
    There {
        number: u32,
        member: bool,
    },
}

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Create,
    Number(u32),
    Join,
    Leave,
    Delete,
}

impl Change {
    fn after(self, state: State) -> State {
        match (self, state) {
            (Self::Create, _) => State::There {
                number: 0,
                member: false,
            },
            (Self::Number(number), State::There { member, .. }) => State::There { number, member },
            (Self::Join, State::There { number, .. }) => State::There {
                number,
                member: true,
            },
            (Self::Leave, State::There { number, .. }) => State::There {
                number,
                member: false,
            },
            (Self::Delete, _) => State::Absent,
            (_, State::Absent) => State::Absent,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create => f.write_str("create"),
            Self::Number(n) => write!(f, "number={n}"),
            Self::Join => f.write_str("join"),
            Self::Leave => f.write_str("leave"),
            Self::Delete => f.write_str("delete"),
        }
    }
}

impl FromStr for Change {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "create" => Self::Create,
            "join" => Self::Join,
            "leave" => Self::Leave,
            "delete" => Self::Delete,
            _ => {
                let number = text.strip_prefix("number=").and_then(|n| n.parse().ok());
                Self::Number(number.ok_or_else(|| text.to_owned())?)
            }
        })
    }
}

/// The state that is certain, and the change that may have come on top.
#[derive(Clone, Copy, Debug)]
struct Fate {
    certain: State,
    in_doubt: Option<Change>,
}

impl Fate {
    fn allows(self, state: State) -> bool {
        let next = self.in_doubt.map(|change| change.after(self.certain));
        self.certain == state || next == Some(state)
    }
}

/// All that was asked for and acknowledged.
#[derive(Clone, Debug, Default)]
pub struct History {
    people: BTreeMap<String, Fate>,
    acknowledged: usize,
}

impl History {
    /// A client asks.
    pub fn begin(&mut self, name: &str, change: Change) {
        let fate = self.people.entry(name.to_owned()).or_insert(Fate {
            certain: State::Absent,
            in_doubt: None,
        });
        assert_eq!(fate.in_doubt, None, "{name} is left alone when in doubt");
        fate.in_doubt = Some(change);
    }

    /// A client was told that it is done.
    pub fn acknowledge(&mut self, name: &str) {
        let fate = self.people.get_mut(name).unwrap();
        let change = fate.in_doubt.take().unwrap();
        fate.certain = change.after(fate.certain);
        self.acknowledged += 1;
    }

    /// How many changes were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.acknowledged
    }

    /// As a line of the disk's log.
    fn note(name: &str, change: Option<Change>) -> String {
        match change {
            Some(change) => format!("{name} asks {change}"),
            None => format!("{name} has it"),
        }
    }

    /// Takes in a line that [`Load`] wrote into the disk's log.
    pub fn read_note(&mut self, note: &str) {
        let mut words = note.split(' ');
        let name = words.next().unwrap();
        match words.next() {
            Some("asks") => self.begin(name, words.next().unwrap().parse().unwrap()),
            Some("has") => self.acknowledge(name),
            _ => {}
        }
    }

    /// What does not fit, in sentences: an acknowledged change that is lost, one that nobody
    /// asked for, or one that is there in part.
    pub fn check(&self, present: &Present) -> Vec<String> {
        let mut wrong = present.wrong.clone();
        for (name, fate) in &self.people {
            let state = present.people.get(name).copied().unwrap_or(State::Absent);
            if !fate.allows(state) {
                wrong.push(format!(
                    "{name} is {state:?}, which {fate:?} does not allow"
                ));
            }
        }
        let strangers = present.people.keys();
        for name in strangers.filter(|name| !self.people.contains_key(*name)) {
            wrong.push(format!("nobody asked for {name}"));
        }
        wrong
    }

    /// Checks what the service shows.
    pub async fn check_service(&self, tenant: &Tenant, group: &str) {
        let wrong = self.check(&Present::of_service(tenant, group).await);
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    /// Checks what region `us` has stored; no process has it open any more.
    pub fn check_stored(&self, world: &World, tenant: &str) {
        let wrong = match world.store("us") {
            Stored::File(file) => self.check(&Present::of_file(&file, tenant)),
            Stored::Database(url) => Present::counted(&url, tenant).wrong,
        };
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

/// What is there, and what is wrong with it whatever was asked for.
#[derive(Default)]
pub struct Present {
    people: BTreeMap<String, State>,
    wrong: Vec<String>,
}

impl Present {
    fn add(&mut self, name: &str, title: &str, email: &str, member: bool) {
        let Ok(number) = title.parse() else {
            self.wrong.push(format!("{name} has the title {title:?}"));
            return;
        };
        if email != email_of(name, number) {
            self.wrong
                .push(format!("{name} is half changed: {title}, {email}"));
        }
        let state = State::There { number, member };
        if self.people.insert(name.to_owned(), state).is_some() {
            self.wrong.push(format!("{name} is there twice"));
        }
    }

    /// Walks through all pages and the group.
    pub async fn of_service(tenant: &Tenant, group: &str) -> Self {
        let mut this = Self::default();
        let group = tenant.get(group).await;
        assert_eq!(group.status, 200, "{group:?}");
        let group = group.json();
        let members = group["members"].as_array().cloned().unwrap_or_default();
        let mut members: BTreeSet<&str> = members_of(&members).collect();
        loop {
            let start = this.people.len() + 1;
            let url = format!("/Users?startIndex={start}&count=200");
            let answer = tenant.get(&url).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            let list = answer.json();
            let found = list["Resources"].as_array().cloned().unwrap_or_default();
            for user in &found {
                this.add(
                    user["userName"].as_str().unwrap(),
                    user["title"].as_str().unwrap_or_default(),
                    user["emails"][0]["value"].as_str().unwrap_or_default(),
                    members.remove(id(user)),
                );
            }
            if found.is_empty() {
                let total = &list["totalResults"];
                if *total != json!(this.people.len()) {
                    this.wrong
                        .push(format!("totalResults is {total} of {}", this.people.len()));
                }
                break;
            }
            if !this.wrong.is_empty() {
                break;
            }
        }
        for member in members {
            this.wrong.push(format!("{member} is a member and no user"));
        }
        this
    }

    /// Reads the tables, and has SQLite look for damage.
    pub fn of_file(file: &Path, tenant: &str) -> Self {
        let mut this = Self::default();
        if let Err(error) = this.read_file(file, tenant) {
            this.wrong.push(format!("{error}"));
        }
        this
    }

    fn read_file(&mut self, file: &Path, tenant: &str) -> rusqlite::Result<()> {
        let connection = Connection::open(file)?;
        let found: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
        if found != "ok" {
            self.wrong.push(found);
            return Ok(());
        }
        let mut statement = connection.prepare(
            "SELECT user_name, json_extract(document, '$.title'),
                    json_extract(document, '$.emails[0].value'),
                    EXISTS (SELECT 1 FROM member WHERE member_position = position)
             FROM resource
             WHERE tenant = (SELECT tenant FROM tenant WHERE id = ?1) AND kind = 0",
        )?;
        let mut rows = statement.query([tenant])?;
        while let Some(row) = rows.next()? {
            let text = |at| {
                row.get::<_, Option<String>>(at)
                    .map(Option::unwrap_or_default)
            };
            self.add(&text(0)?, &text(1)?, &text(2)?, row.get(3)?);
        }
        for (what, sql) in counts(tenant, "tenant") {
            let (counted, right): (i64, i64) =
                connection.query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
            self.compare(what, counted, right);
        }
        Ok(())
    }

    /// Counts in a database what has to go together.
    fn counted(url: &str, tenant: &str) -> Self {
        let mut this = Self::default();
        for (what, sql) in counts(tenant, "head") {
            let found = postgres::query(url, &sql);
            let numbers = found.trim().split_once('|').map(|(counted, right)| {
                let number = |text: &str| text.parse().unwrap();
                (number(counted), number(right))
            });
            let (counted, right) = numbers.unwrap();
            this.compare(what, counted, right);
        }
        this
    }

    fn compare(&mut self, what: &str, counted: i64, right: i64) {
        if counted != right {
            self.wrong.push(format!("{what}: {counted}, not {right}"));
        }
    }
}

/// What has to be equal in a tenant's rows, whatever was written: a name, and a statement for both
/// engines that finds the two numbers.
///
/// SQLite keeps a tenant's numbers in its row; PostgreSQL in a row of their own, of which there is
/// one.
fn counts(tenant: &str, numbers: &str) -> [(&'static str, String); 9] {
    let pair = |what, counted: &str, right: &str| {
        let sql = format!(
            "SELECT ({counted}), {right} FROM tenant t JOIN {numbers} h ON h.tenant = t.tenant
              WHERE t.id = '{tenant}'"
        );
        (what, sql)
    };
    let of_kind = |kind: u8| {
        format!("SELECT count(*) FROM resource r WHERE r.tenant = t.tenant AND r.kind = {kind}")
    };
    [
        pair("users", &of_kind(0), "h.users"),
        pair("groups", &of_kind(1), "h.groups"),
        pair(
            "different numbers in the change feed",
            "SELECT count(DISTINCT c.seq) FROM change c WHERE c.tenant = t.tenant",
            "h.seq",
        ),
        pair(
            "the last number in the change feed",
            "SELECT coalesce(max(c.seq), 0) FROM change c WHERE c.tenant = t.tenant",
            "h.seq",
        ),
        pair(
            "audit records of writes",
            "SELECT count(*) FROM audit a
              WHERE a.tenant = t.tenant AND a.kind LIKE 'resource.%'",
            "h.seq",
        ),
        pair(
            "audit records",
            "SELECT count(*) FROM audit a WHERE a.tenant = t.tenant",
            "h.audit_number",
        ),
        pair(
            "audit records that end the chain",
            "SELECT count(*) FROM audit a WHERE a.tenant = t.tenant
                AND a.number = h.audit_number AND a.hash = h.audit_hash",
            "1",
        ),
        pair(
            "versions that the change feed does not know",
            "SELECT count(*) FROM resource r WHERE r.tenant = t.tenant AND NOT EXISTS (
                SELECT 1 FROM change c
                WHERE c.tenant = r.tenant AND c.seq = r.version AND c.position = r.position)",
            "0",
        ),
        pair(
            "members that are nobody",
            "SELECT count(*) FROM member m WHERE NOT EXISTS (
                SELECT 1 FROM resource r WHERE r.position = m.member_position)",
            "0",
        ),
    ]
}

fn members_of(members: &[Value]) -> impl Iterator<Item = &str> {
    members.iter().map(|m| m["value"].as_str().unwrap())
}

fn email_of(name: &str, number: u32) -> String {
    format!("{name}-{number}@example.com")
}

/// Clients that change people of one tenant, all at once, and write down what they are told.
#[derive(Clone)]
pub struct Load {
    pub tenant: Tenant,
    /// The path of the group that people join and leave.
    pub group: String,
    pub told: Arc<Told>,
    /// Whose requests they look like.
    pub shape: Shape,
}

/// What all clients of a test were told.
#[derive(Default)]
pub struct Told {
    history: Mutex<History>,
    /// Where it is written down too, between what the disk does.
    disk: Option<Arc<Disk>>,
    /// Answers that no client should ever get.
    wrong: Mutex<Vec<String>>,
    /// Answers that something cannot be done at the moment.
    refused: AtomicUsize,
    /// How long each answer took, and its status, until somebody takes it.
    answered: Mutex<Vec<(Duration, u16)>>,
    /// Clients that were answered nothing.
    silence: AtomicUsize,
    /// Even: the store works; odd: it takes no writes.
    phase: AtomicUsize,
    enough: AtomicBool,
}

/// Why a client stops.
enum Gone {
    /// Nobody answers any more.
    Silence,
}

impl Load {
    /// Makes the group of a tenant.
    pub async fn on(tenant: Tenant, disk: Option<Arc<Disk>>) -> Self {
        let group = tenant
            .create_group(json!({ "displayName": "Everybody" }))
            .await;
        Self {
            tenant,
            group: super::path(&group),
            told: Arc::new(Told {
                disk,
                ..Told::default()
            }),
            shape: Shape::Plain,
        }
    }

    /// The same clients, with connections of their own to a program that was started again.
    pub fn reconnected(&self) -> Self {
        Self {
            tenant: self.tenant.reconnected(),
            ..self.clone()
        }
    }

    /// Starts clients. Each ends when nobody answers any more, or at [`Told::enough`].
    pub fn start(&self, round: usize, clients: usize) -> Vec<tokio::task::JoinHandle<()>> {
        self.told.enough.store(false, Ordering::Relaxed);
        let clients = 0..clients;
        clients
            .map(|client| {
                let this = self.clone();
                tokio::spawn(async move { this.work(round, client).await })
            })
            .collect()
    }

    async fn work(self, round: usize, client: usize) {
        for n in 0.. {
            if self.told.enough.load(Ordering::Relaxed) {
                return;
            }
            if let Err(Gone::Silence) = self.one_life(&format!("r{round}c{client}n{n}"), n).await {
                return;
            }
        }
    }

    /// What happens to one person. Ends early when something could not be done.
    async fn one_life(&self, name: &str, n: u32) -> Result<(), Gone> {
        if let Some(path) = self.shape.look(name) {
            self.look(&path).await?;
        }
        let body = json!({ "userName": name, "title": "0", "emails": emails(name, 0) });
        let Some(created) = self
            .ask(name, Change::Create, Method::POST, "/Users", Some(body))
            .await?
        else {
            return Ok(());
        };
        let created = created.json();
        let (id, url) = (id(&created), super::path(&created));
        let number = |number: u32| {
            let (title, email) = (number.to_string(), email_of(name, number));
            self.shape.change(id, name, &title, &email)
        };
        let [first, second] = [number(1), number(2)];
        let group = self.group.as_str();
        let steps = [
            (Change::Number(1), first.0, url.as_str(), Some(first.1)),
            (
                Change::Join,
                Method::PATCH,
                group,
                Some(self.shape.join(id)),
            ),
            (
                Change::Leave,
                Method::PATCH,
                group,
                Some(self.shape.leave(id)),
            ),
            (Change::Number(2), second.0, url.as_str(), Some(second.1)),
            (Change::Delete, Method::DELETE, url.as_str(), None),
        ];
        // Some stay as they were created, some stay members, some are deleted as members.
        let taken = match n % 6 {
            0 => &[0, 1, 2, 3][..],
            1 => &[1],
            2 => &[0, 1, 4],
            3 => &[4],
            4 => &[0],
            _ => &[],
        };
        for step in taken {
            let (change, method, path, body) = steps[*step].clone();
            if self.ask(name, change, method, path, body).await?.is_none() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Reads, which must be answered.
    async fn look(&self, path: &str) -> Result<(), Gone> {
        let answer = self.send(self.tenant.request(Method::GET, path)).await?;
        match answer.status {
            200 => {}
            503 | 429 => self.told.is_refused(&answer),
            _ => self.told.complain(format!("a look-up: {answer:?}")),
        }
        Ok(())
    }

    async fn send(&self, request: RequestBuilder) -> Result<Answer, Gone> {
        let begun = Instant::now();
        let Ok(answer) = Answer::try_of(request).await else {
            self.told.silence.fetch_add(1, Ordering::Relaxed);
            return Err(Gone::Silence);
        };
        let mut answered = self.told.answered.lock().unwrap();
        answered.push((begun.elapsed(), answer.status));
        Ok(answer)
    }

    /// Sends one change. `None` if it was not acknowledged, though somebody answered.
    async fn ask(
        &self,
        name: &str,
        change: Change,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Option<Answer>, Gone> {
        let phase = self.told.phase();
        self.told.begin(name, change);
        let request = self
            .tenant
            .request(method, path)
            .header("content-type", "application/scim+json");
        let request = match body {
            Some(body) => request.body(body.to_string()),
            None => request,
        };
        let answer = self.send(request).await?;
        match answer.status {
            200 | 201 | 204 => {
                self.told.acknowledge(name);
                if phase % 2 == 1 && phase == self.told.phase() {
                    self.told
                        .complain(format!("{name} {change} cannot have been done: {answer:?}"));
                }
                return Ok(Some(answer));
            }
            503 | 429 => self.told.is_refused(&answer),
            _ => self.told.complain(format!("{name} {change}: {answer:?}")),
        }
        Ok(None)
    }
}

fn emails(name: &str, number: u32) -> Value {
    json!([{ "type": "work", "value": email_of(name, number) }])
}

impl Told {
    fn begin(&self, name: &str, change: Change) {
        if let Some(disk) = &self.disk {
            disk.note(&History::note(name, Some(change)));
        }
        self.history.lock().unwrap().begin(name, change);
    }

    fn acknowledge(&self, name: &str) {
        if let Some(disk) = &self.disk {
            disk.note(&History::note(name, None));
        }
        self.history.lock().unwrap().acknowledge(name);
    }

    /// From now on the store takes no writes: nothing that is asked for can be done.
    pub fn store_fails(&self) {
        let before = self.phase.fetch_add(1, Ordering::Relaxed);
        assert_eq!(before % 2, 0);
    }

    /// From now on the store may work again.
    pub fn store_works(&self) {
        let before = self.phase.fetch_add(1, Ordering::Relaxed);
        assert_eq!(before % 2, 1);
    }

    fn phase(&self) -> usize {
        self.phase.load(Ordering::Relaxed)
    }

    /// Something cannot be done at the moment: the client must be told when it can.
    fn is_refused(&self, answer: &Answer) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        let after = answer.header("retry-after").unwrap_or_default();
        if after.parse::<u32>().is_err() {
            self.complain(format!("Retry-After is {after:?}: {answer:?}"));
        }
    }

    /// How long each answer took since the last time that somebody asked, and its status.
    pub fn take_answered(&self) -> Vec<(Duration, u16)> {
        std::mem::take(&mut *self.answered.lock().unwrap())
    }

    /// Answers that no client should ever get.
    pub fn wrong(&self) -> Vec<String> {
        self.wrong.lock().unwrap().clone()
    }

    fn complain(&self, what: String) {
        self.wrong.lock().unwrap().push(what);
    }

    /// A copy of what was asked for and acknowledged up to now.
    pub fn history(&self) -> History {
        self.history.lock().unwrap().clone()
    }

    /// How many changes were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.history.lock().unwrap().acknowledged()
    }

    /// How many clients were answered nothing at all.
    pub fn silence(&self) -> usize {
        self.silence.load(Ordering::Relaxed)
    }

    /// How many changes were answered with 503 or 429.
    pub fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }

    /// Waits until this many more changes are acknowledged.
    pub async fn wait_for(&self, more: usize) {
        let goal = self.acknowledged() + more;
        self.wait_until(|| self.acknowledged() >= goal).await;
    }

    /// Waits until something is so. Fails at once when a client got an answer that it should not.
    pub async fn wait_until(&self, so: impl Fn() -> bool) {
        let patience = Instant::now();
        while !so() {
            self.nothing_wrong();
            assert!(patience.elapsed().as_secs() < 60, "it does not come about");
            tokio::task::yield_now().await;
        }
    }

    /// Lets the clients end after what they do now, and waits until they have.
    pub async fn enough(&self, clients: Vec<tokio::task::JoinHandle<()>>) {
        self.is_enough();
        self.ended(clients).await;
    }

    /// Lets the clients end after what they do now.
    pub fn is_enough(&self) {
        self.enough.store(true, Ordering::Relaxed);
    }

    /// Waits until the clients have ended because nobody answers them any more.
    pub async fn ended(&self, clients: Vec<tokio::task::JoinHandle<()>>) {
        for client in clients {
            client.await.unwrap();
        }
        self.nothing_wrong();
    }

    /// Checks that no client got an answer that it should never get.
    pub fn nothing_wrong(&self) {
        let wrong = self.wrong.lock().unwrap();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
