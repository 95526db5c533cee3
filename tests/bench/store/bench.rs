//! One node with a tenant of one size: how it is filled, what is called, and what its store's peer
//! does once it has stopped. When which operation is measured is in `rounds`.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::arguments::Arguments;
use crate::common::client::find;
use crate::common::drive::Turn;
use crate::common::numbers::{grouped, mix};
use crate::common::report::progress;
use crate::node::{Node, Tenant, Usage};
use crate::report::{Figure, Operation, Size};
use crate::rounds::Round;
use crate::session::{Call, Session, drive};
use crate::{peer, pgbench, users};

/// Connections of a gateway that reads, and of one that writes.
const READING: usize = 16;
pub(crate) const WRITING: usize = 64;
/// Members that go into a group with one call.
const MEMBERS_AT_ONCE: usize = 5_000;
/// Users of each of the other tenants.
const USERS_BESIDE: usize = 5;
/// Pages of one walk.
const PAGES: usize = 50;

/// The 36 characters of a resource's id.
type Id = [u8; 36];

/// A node with a tenant, and what is known of its users.
pub(crate) struct Bench {
    folder: tempfile::TempDir,
    node: Node,
    tenant: Tenant,
    session: Rc<Session>,
    /// URL of the PostgreSQL database, where there is one.
    database: Option<String>,
    tenants: u64,
    loaded_per_s: f64,
    stored_bytes: u64,
    /// The id of each user, by the user's number.
    ids: RefCell<Vec<Id>>,
    /// Whether each user is active.
    active: RefCell<Vec<bool>>,
    /// Users that were created and deleted again.
    passed: Cell<usize>,
    small: Group,
    large: Group,
}

/// A group that members are added to.
#[derive(Default)]
struct Group {
    path: RefCell<String>,
    /// Members that it has.
    members: Cell<usize>,
}

impl Bench {
    /// Starts a node and fills it.
    pub(crate) async fn open(
        arguments: &Arguments,
        database: Option<String>,
        users: u64,
        activity: bool,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let node = Node::start(folder.path(), database.as_deref(), activity);
        let tenants = arguments.tenants_beside(users);
        for number in 0..tenants {
            fill_other_tenant(&node, number, tenants).await;
        }
        let tenant = node.tenant("Acme").await;
        let users = users as usize;
        let mut bench = Self {
            session: Rc::new(Session::begin(&node, &tenant).await),
            folder,
            node,
            tenant,
            database,
            tenants,
            loaded_per_s: 0.0,
            stored_bytes: 0,
            ids: RefCell::new(vec![[0; 36]; users]),
            active: RefCell::new(vec![true; users]),
            passed: Cell::new(0),
            small: Group::default(),
            large: Group::default(),
        };
        bench.loaded_per_s = bench.load().await;
        bench.stored_bytes = match &bench.database {
            None => bench.node.stored_bytes().await,
            Some(url) => pgbench::stored_bytes(url),
        };
        bench
    }

    /// Whether an operation is measured at this size.
    pub(crate) fn takes(&self, operation: Operation) -> bool {
        match operation {
            Operation::SmallGroup | Operation::LargeGroup | Operation::PageOfMembers => {
                self.users() >= 10_000
            }
            _ => true,
        }
    }

    /// Connections over which an operation is called.
    pub(crate) fn connections(operation: Operation) -> usize {
        if operation.writes() { WRITING } else { READING }
    }

    /// Calls an operation `count` times, or a little more or less often; the `nth` round of it.
    pub(crate) async fn round(&self, operation: Operation, nth: usize, count: usize) -> Round {
        self.session.renew(&self.node, &self.tenant).await;
        let users = self.users();
        let any = |turn: Turn| mix((nth * count + turn.number) as u64) as usize % users;
        match operation {
            Operation::Get => {
                self.read(count, |turn| Call::get(self.user(any(turn))))
                    .await
            }
            Operation::UserName => {
                let name = |turn| filter("userName", &users::user_name(any(turn) as u64));
                self.read(count, name).await
            }
            Operation::ExternalId => {
                let id = |turn| filter("externalId", &users::external_id(any(turn) as u64));
                self.read(count, id).await
            }
            Operation::Email => {
                let email = |turn| filter("emails.value", &users::email(any(turn) as u64));
                self.read(count, email).await
            }
            Operation::FirstPage => self.read(count / 5, |_| page(0)).await,
            Operation::NextPage => {
                let pages = PAGES.min(users / 100).max(1);
                self.read(count / 5, |turn| page(turn.of_lane % pages))
                    .await
            }
            Operation::Patch => self.patch_active(nth, count).await,
            Operation::Post => self.post(count).await,
            Operation::SmallGroup => self.add_members(&self.small, 1_000, count).await,
            Operation::LargeGroup => {
                let size = (users / 10 * 9).min(100_000);
                self.add_members(&self.large, size, count).await
            }
            // By now these users are in both groups.
            Operation::PageOfMembers => self.read(count / 5, |_| page(0)).await,
        }
    }

    /// Stops the node and measures the store's peer.
    pub(crate) fn close(self, figures: Vec<Figure>, answers: usize) -> Size {
        let (users, resident_bytes) = (self.users() as u64, self.node.resident_bytes());
        let file = self.node.database.clone();
        self.node.stop();
        eprintln!("the peer, with {} users", grouped(users));
        let peer = match &self.database {
            None => ("A bare loop", peer::creates_per_s(&file, 4 * answers)),
            Some(url) => (
                "pgbench",
                pgbench::creates_per_s(url, self.folder.path(), WRITING),
            ),
        };
        Size {
            users,
            tenants: self.tenants,
            loaded_per_s: self.loaded_per_s,
            bytes_per_user: self.stored_bytes as f64 / users as f64,
            resident_bytes,
            figures,
            peer,
        }
    }

    fn users(&self) -> usize {
        self.ids.borrow().len()
    }

    fn user(&self, number: usize) -> String {
        path(&self.ids.borrow()[number])
    }

    /// Creates the users and shows how far it is; answers how many a second.
    async fn load(&self) -> f64 {
        let (began, users) = (Instant::now(), self.users());
        let mut shown = Instant::now();
        let mut done = 0;
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

    /// Makes a group with so many members, the tenant's first users.
    async fn fill_group(&self, group: &Group, size: usize) {
        let body = format!(
            r#"{{"schemas":["urn:ietf:params:scim:schemas:core:2.0:Group"],"displayName":"{size}"}}"#
        );
        let call = |_: Turn| Call::with_body("POST", "/Groups".to_owned(), body.clone());
        drive(&self.session, 1, 1, 201, call, |_, body| {
            let id = id_in(body);
            let path = format!("/Groups/{}", String::from_utf8_lossy(&id));
            group.path.replace(path);
        })
        .await;
        let fill = |turn: Turn| {
            let ids = self.ids.borrow();
            let begin = turn.number * MEMBERS_AT_ONCE;
            let end = (begin + MEMBERS_AT_ONCE).min(size);
            add(&group.path.borrow(), &ids[begin..end])
        };
        let calls = size.div_ceil(MEMBERS_AT_ONCE);
        drive(&self.session, 1, calls, 200, fill, |_, _| {}).await;
        group.members.set(size);
    }

    async fn read(&self, count: usize, call: impl Fn(Turn) -> Call) -> Round {
        let before = self.usage().await;
        let driven = drive(&self.session, READING, count, 200, call, |_, _| {}).await;
        Round::between(driven, &before, &self.usage().await)
    }

    /// Each connection has users of its own, so that no two change the same one at a time.
    async fn patch_active(&self, nth: usize, count: usize) -> Round {
        let of_lane = self.users() / WRITING;
        let call = |turn: Turn| {
            let any = mix((nth * count + turn.number) as u64) as usize % of_lane;
            let user = turn.lane + WRITING * any;
            let is_active = &mut self.active.borrow_mut()[user];
            *is_active = !*is_active;
            let operation = format!(r#"{{"op":"replace","path":"active","value":{is_active}}}"#);
            Call::with_body("PATCH", self.user(user), patch(&operation))
        };
        let before = self.usage().await;
        let driven = drive(&self.session, WRITING, count, 200, call, |_, _| {}).await;
        Round::between(driven, &before, &self.usage().await)
    }

    /// In parts, and what a part created is deleted behind it: the tenant keeps its size.
    async fn post(&self, count: usize) -> Round {
        let part = (self.users() / 5).clamp(200, 10_000).min(count);
        let mut all = Round::default();
        for _ in 0..count.div_ceil(part) {
            let first = self.users() + self.passed.get();
            self.passed.set(self.passed.get() + part);
            let created = RefCell::new(Vec::with_capacity(part));
            let call = |turn: Turn| create((first + turn.number) as u64);
            let see = |_: Turn, body: &[u8]| created.borrow_mut().push(id_in(body));
            let before = self.usage().await;
            let driven = drive(&self.session, WRITING, part, 201, call, see).await;
            all.add(Round::between(driven, &before, &self.usage().await));
            let delete = |turn: Turn| Call {
                method: "DELETE",
                path: path(&created.borrow()[turn.number]),
                body: None,
            };
            drive(&self.session, WRITING, part, 204, delete, |_, _| {}).await;
        }
        all
    }

    /// Adds members to a group one by one, as long as there are users that it has not. It is made
    /// with `size` members when it is first needed: a tenant without groups costs less.
    async fn add_members(&self, group: &Group, size: usize, count: usize) -> Round {
        if group.members.get() == 0 {
            self.fill_group(group, size).await;
        }
        let first = group.members.get();
        let count = count.min(self.users() - first);
        group.members.set(first + count);
        let call = |turn: Turn| {
            let ids = self.ids.borrow();
            add(&group.path.borrow(), &ids[first + turn.number..][..1])
        };
        let before = self.usage().await;
        let driven = drive(&self.session, WRITING, count, 200, call, |_, _| {}).await;
        Round::between(driven, &before, &self.usage().await)
    }

    async fn usage(&self) -> Usage {
        self.node.usage().await
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

fn page(nth: usize) -> Call {
    Call::get(format!("/Users?startIndex={}&count=100", 100 * nth + 1))
}

fn create(number: u64) -> Call {
    Call::with_body("POST", "/Users".to_owned(), users::body(number))
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
