//! Sends calls over many connections at once, each connection one call after the other, and notes
//! how long each took.

use std::cell::{Cell, RefCell};
use std::io::Write as _;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use shared::link::{IDEMPOTENCY_KEY, REQUEST_ID, SCIM_PATH};
use shared::{Clock as _, SystemClock};

use crate::client::Connection;
use crate::node::{Node, Tenant};
use crate::users::mix;

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

/// Which call of a run it is.
#[derive(Clone, Copy)]
pub(crate) struct Turn {
    /// The number of the connection.
    pub(crate) lane: usize,
    /// How many calls this connection made before.
    pub(crate) of_lane: usize,
    /// How many calls were begun before, on all connections.
    pub(crate) number: usize,
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
        request.clear();
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

/// How a run went.
pub(crate) struct Driven {
    /// Of each answer, in microseconds, in ascending order.
    latencies: Vec<u32>,
    pub(crate) took: Duration,
}

impl Driven {
    pub(crate) fn none() -> Self {
        Self {
            latencies: Vec::new(),
            took: Duration::ZERO,
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.latencies.extend(&other.latencies);
        self.latencies.sort_unstable();
        self.took += other.took;
    }

    pub(crate) fn answers(&self) -> usize {
        self.latencies.len()
    }

    /// The latency that so many of a hundred answers do not exceed, in microseconds.
    pub(crate) fn percentile(&self, percent: usize) -> u32 {
        let at = (self.latencies.len() * percent).div_ceil(100).max(1) - 1;
        self.latencies.get(at).copied().unwrap_or(0)
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
    let mut connections = Vec::new();
    for _ in 0..lanes.min(count) {
        connections.push(Connection::open(session.link).await);
    }
    let (next, see) = (Cell::new(0), RefCell::new(see));
    let latencies = RefCell::new(Vec::with_capacity(count));
    let began = Instant::now();
    let lanes = connections
        .into_iter()
        .enumerate()
        .map(|(lane, mut connection)| {
            let (next, see, latencies, call) = (&next, &see, &latencies, &call);
            async move {
                let mut request = Vec::with_capacity(4096);
                for of_lane in 0.. {
                    let number = next.get();
                    if number >= count {
                        return;
                    }
                    next.set(number + 1);
                    let turn = Turn {
                        lane,
                        of_lane,
                        number,
                    };
                    session.write(&call(turn), &mut request);
                    let sent = Instant::now();
                    let answer = connection.call(&request).await;
                    let took = sent.elapsed().as_micros();
                    latencies
                        .borrow_mut()
                        .push(u32::try_from(took).unwrap_or(u32::MAX));
                    assert!(
                        answer.status == wanted || (wanted == 200 && answer.status == 204),
                        "{}: {}",
                        answer.status,
                        String::from_utf8_lossy(answer.body)
                    );
                    (see.borrow_mut())(turn, answer.body);
                }
            }
        });
    join_all(lanes).await;
    let took = began.elapsed();
    let mut latencies = latencies.into_inner();
    latencies.sort_unstable();
    Driven { latencies, took }
}
