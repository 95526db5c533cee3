//! A tenant's client: what it calls, and how that is written to the node's link.

use std::cell::{Cell, RefCell};
use std::io::Write as _;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use shared::link::{IDEMPOTENCY_KEY, REQUEST_ID, SCIM_PATH};
use shared::{Clock as _, SystemClock};

use crate::common::drive::{self, Driven, Turn};
use crate::common::numbers::mix;
use crate::node::{Node, Tenant};

/// A grant lives for five minutes.
const RENEW_AFTER: Duration = Duration::from_secs(200);

/// A call as a client makes it.
pub(crate) struct Call {
    pub(crate) method: &'static str,
    /// Behind the base path.
    pub(crate) path: String,
    pub(crate) body: Option<String>,
}

impl Call {
    pub(crate) fn get(path: String) -> Self {
        Self {
            method: "GET",
            path,
            body: None,
        }
    }

    pub(crate) fn with_body(method: &'static str, path: String, body: String) -> Self {
        Self {
            method,
            path,
            body: Some(body),
        }
    }
}

/// A tenant's client behind a gateway: knows the node and holds a live grant.
pub(crate) struct Session {
    link: SocketAddr,
    headers: RefCell<String>,
    resolved: Cell<Instant>,
    /// Counts writes, to give each a key of its own.
    writes: Cell<u64>,
}

impl Session {
    pub(crate) async fn begin(node: &Node, tenant: &Tenant) -> Self {
        Self {
            link: node.link,
            headers: RefCell::new(node.headers(tenant).await),
            resolved: Cell::new(Instant::now()),
            writes: Cell::new(0),
        }
    }

    /// Resolves the token again where the grant is old.
    pub(crate) async fn renew(&self, node: &Node, tenant: &Tenant) {
        if self.resolved.get().elapsed() > RENEW_AFTER {
            self.headers.replace(node.headers(tenant).await);
            self.resolved.set(Instant::now());
        }
    }

    fn write(&self, call: &Call, request: &mut Vec<u8>) {
        let number = self.writes.get();
        self.writes.set(number + 1);
        let headers = self.headers.borrow();
        let Call { method, path, body } = call;
        let mut head = || {
            write!(
                request,
                "{method} {SCIM_PATH}{path} HTTP/1.1\r\n{headers}{REQUEST_ID}: bench-{number}\r\n"
            )?;
            if *method != "GET" {
                let ms = SystemClock.now().as_millis();
                let rest = u128::from(mix(number)) << 64 | u128::from(mix(number ^ 1));
                write!(
                    request,
                    "{IDEMPOTENCY_KEY}: {ms:012x}{:020x}\r\n",
                    rest >> 48
                )?;
            }
            match body {
                Some(body) => write!(
                    request,
                    "content-type: application/scim+json\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                ),
                None => write!(request, "\r\n"),
            }
        };
        head().expect("memory takes all that is written");
    }
}

/// Makes `count` calls over `lanes` connections. Every answer must have the status `wanted`, or
/// be 204 where 200 is wanted; `see` is shown each with its turn.
pub(crate) async fn drive(
    session: &Rc<Session>,
    lanes: usize,
    count: usize,
    wanted: u16,
    call: impl Fn(Turn) -> Call,
    see: impl FnMut(Turn, &[u8]),
) -> Driven {
    let mut connections = drive::open(session.link, lanes.min(count)).await;
    let write = |turn: Turn, request: &mut Vec<u8>| session.write(&call(turn), request);
    drive::drive(&mut connections, count, wanted, write, see).await
}
