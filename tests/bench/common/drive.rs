//! Sends calls over many connections at once, each connection one call after the other, and notes
//! how long each took.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::client::{Connection, Server};

/// Which call of a run it is.
#[derive(Clone, Copy)]
pub(crate) struct Turn {
    /// The number of the connection.
    pub(crate) lane: usize,
    /// How many calls this connection made before, in this run.
    pub(crate) of_lane: usize,
    /// How many calls were begun before, on all connections.
    pub(crate) number: usize,
}

/// How a run went.
pub(crate) struct Driven {
    /// Of each answer, in microseconds, in ascending order.
    pub(crate) latencies: Vec<u32>,
    pub(crate) took: Duration,
}

impl Driven {
    /// A run of these latencies, in any order.
    pub(crate) fn of(mut latencies: Vec<u32>, took: Duration) -> Self {
        latencies.sort_unstable();
        Self { latencies, took }
    }

    pub(crate) fn answers(&self) -> usize {
        self.latencies.len()
    }

    pub(crate) fn per_s(&self) -> f64 {
        self.answers() as f64 / self.took.as_secs_f64()
    }

    /// The latency that so many of a hundred answers do not exceed, in microseconds.
    pub(crate) fn percentile(&self, percent: usize) -> u32 {
        let at = (self.latencies.len() * percent).div_ceil(100).max(1) - 1;
        self.latencies.get(at).copied().unwrap_or(0)
    }
}

/// Opens so many connections.
pub(crate) async fn open(server: impl Into<Server>, lanes: usize) -> Vec<Connection> {
    let (server, mut connections) = (server.into(), Vec::new());
    for _ in 0..lanes {
        connections.push(Connection::open(server.clone()).await);
    }
    connections
}

/// Makes `count` calls over the connections, as fast as these take them. Every answer must have
/// the status `wanted`, or be 204 where 200 is wanted; `see` is shown each with its turn.
pub(crate) async fn drive(
    connections: &mut [Connection],
    count: usize,
    wanted: u16,
    write: impl Fn(Turn, &mut Vec<u8>),
    see: impl FnMut(Turn, &[u8]),
) -> Driven {
    let at_once = async |_| Instant::now();
    drive_when(at_once, connections, count, wanted, write, see).await
}

/// The same, where each call waits for its turn: `begin` is done when the call with this number
/// may be sent, and says from when on its latency counts. The calls ask in the order of their
/// numbers.
pub(crate) async fn drive_when(
    begin: impl AsyncFn(usize) -> Instant,
    connections: &mut [Connection],
    count: usize,
    wanted: u16,
    write: impl Fn(Turn, &mut Vec<u8>),
    see: impl FnMut(Turn, &[u8]),
) -> Driven {
    let (next, see) = (Cell::new(0), RefCell::new(see));
    let latencies = RefCell::new(Vec::with_capacity(count));
    let began = Instant::now();
    let lanes = connections
        .iter_mut()
        .enumerate()
        .map(|(lane, connection)| {
            let (next, see, latencies) = (&next, &see, &latencies);
            let (write, begin) = (&write, &begin);
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
                    request.clear();
                    write(turn, &mut request);
                    let begun = begin(number).await;
                    let answer = connection.call(&request).await;
                    let took = begun.elapsed().as_micros();
                    latencies
                        .borrow_mut()
                        .push(u32::try_from(took).unwrap_or(u32::MAX));
                    assert!(
                        answer.status == wanted || (wanted == 200 && answer.status == 204),
                        "{}{}",
                        answer.head,
                        String::from_utf8_lossy(answer.body)
                    );
                    (see.borrow_mut())(turn, answer.body);
                }
            }
        });
    join_all(lanes).await;
    let took = began.elapsed();
    Driven::of(latencies.into_inner(), took)
}
