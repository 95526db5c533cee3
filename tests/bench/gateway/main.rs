//! What the gateway adds to a call: CPU time for each answer and latency, beside nginx and HAProxy
//! that do its job with maps of tokens, in front of the same far end.
//!
//! `tests/bench/run gateway` builds and runs it; docs/benchmarks/README.md says how to read it. The
//! program starts the real `meridian-gateway`, its peers, and itself once more as the far end.

mod arguments;
#[path = "../common/mod.rs"]
mod common;
mod peers;
mod report;
mod schedule;
mod tokens;
mod upstream;

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use shared::{ApiToken, RegionId};
use tokio::signal::unix::{SignalKind, signal};

use arguments::Arguments;
use common::client::{Connection, Server};
use common::cpu;
use common::drive::{Driven, Turn, drive, drive_when, open};
use common::numbers::{grouped, mix};
use common::report::{circumstances, progress};
use peers::{HOST, Identity, Kind, Peer, Site};
use report::{Closed, Figures, Fixed, Measured};
use schedule::Schedule;
use upstream::USER_BYTES;

/// Calls of each connection at the begin of a round that are not measured: connections come up,
/// those behind the peer too.
const TO_BEGIN: usize = 20;
/// Rounds at the fixed rate for each round as fast as it goes, and the seconds that one takes: many
/// short ones, because what a proxy adds is little beside what a machine does from second to second.
const FIXED_ROUNDS: usize = 3;
const FIXED_S: u64 = 1;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    if std::env::args()
        .nth(1)
        .is_some_and(|first| first == upstream::ARGUMENT)
    {
        upstream::serve(None).await;
        return ExitCode::SUCCESS;
    }
    let arguments = match Arguments::read(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(complaint) => {
            eprintln!("{complaint}\n{}", arguments::USAGE);
            return ExitCode::FAILURE;
        }
    };
    // What was started ends with the measurement, also where that is cut short.
    let figures = tokio::select! {
        figures = measure(&arguments) => figures,
        () = told_to_stop() => return ExitCode::FAILURE,
    };
    println!("{}", report::tables(&arguments, &figures));
    if cfg!(debug_assertions) {
        eprintln!("not the release profile: docs/benchmarks stays as it is");
    } else if !arguments.keep {
        let place = circumstances("all of them share", arguments.command());
        report::write(
            &arguments,
            &figures,
            &format!("{}. {place}", peers::versions()),
        );
    }
    ExitCode::SUCCESS
}

async fn told_to_stop() {
    let signal = |kind| signal(kind).expect("a signal can be waited for");
    let mut interrupt = signal(SignalKind::interrupt());
    let mut terminate = signal(SignalKind::terminate());
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

async fn measure(arguments: &Arguments) -> Figures {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (_far_end, upstream) = upstream::start(None);
    let region = RegionId::parse("us").expect("a region");
    let tokens = tokens::generate(&region, arguments.tokens);
    let site = Site {
        folder: folder.path(),
        upstream,
        tokens: &tokens,
        tls: arguments.tls.then(|| Identity::new(folder.path())),
    };
    let mut peers = Vec::new();
    for kind in Kind::ALL {
        eprintln!("starting {}", kind.name());
        let peer = Peer::start(kind, &site).await;
        peer.check(&tokens[0]).await;
        peers.push(peer);
    }
    let bench = Bench {
        arguments,
        tokens: &tokens,
    };
    let mut figures = Figures::begin();
    for peer in &peers {
        let first_us = bench.see_every_token(peer).await;
        if peer.kind == Kind::Gateway {
            figures.first_call_us = first_us;
        }
    }
    for round in 0..arguments.rounds {
        for peer in in_turn(&peers, round) {
            let closed = bench.closed(peer, round).await;
            eprintln!(
                "round {} of {}, {}: {:.1} us of CPU, {}/s",
                round + 1,
                arguments.rounds,
                peer.kind.name(),
                closed.cpu_us,
                grouped(closed.per_s as u64)
            );
            figures.of(Measured::Peer(peer.kind)).closed.push(closed);
        }
    }
    let rounds = FIXED_ROUNDS * arguments.rounds;
    for round in 0..rounds {
        eprintln!(
            "round {} of {rounds} at {}/s",
            round + 1,
            grouped(arguments.rate)
        );
        let fixed = bench.fixed(&upstream.into(), round).await;
        figures.of(Measured::Upstream).fixed.push(fixed);
        for peer in in_turn(&peers, round) {
            let fixed = bench.fixed(&peer.server, round).await;
            figures.of(Measured::Peer(peer.kind)).fixed.push(fixed);
        }
    }
    figures
}

/// All peers; each round begins with another one, so that none always follows the same.
fn in_turn(peers: &[Peer], round: usize) -> impl Iterator<Item = &Peer> {
    let (after, first) = peers.split_at(round % peers.len());
    first.iter().chain(after)
}

/// The load.
struct Bench<'b> {
    arguments: &'b Arguments,
    tokens: &'b [ApiToken],
}

impl Bench<'_> {
    /// Calls with every token once, which makes the gateway ask its region about each; answers
    /// what such a call costs, in CPU microseconds.
    async fn see_every_token(&self, peer: &Peer) -> f64 {
        let mut connections = open(peer.server.clone(), self.arguments.connections).await;
        let before = cpu::family(peer.pid());
        let (began, count) = (Instant::now(), self.tokens.len());
        let (mut shown, mut done) = (Instant::now(), 0);
        let in_turn = |turn: Turn| turn.number;
        let write = |turn: Turn, request: &mut Vec<u8>| {
            self.write(peer.server.address, turn, in_turn(turn), request);
        };
        let see = |_: Turn, _: &[u8]| {
            done += 1;
            if shown.elapsed() > Duration::from_secs(1) {
                shown = Instant::now();
                progress("tokens", done, count, began);
            }
        };
        drive(&mut connections, count, 200, write, see).await;
        eprintln!("{} has seen every token", peer.kind.name());
        cpu::us_since(&cpu::family(peer.pid()), &before) / count as f64
    }

    /// One round as fast as the connections go.
    async fn closed(&self, peer: &Peer, round: usize) -> Closed {
        let mut connections = self.begin(&peer.server).await;
        let before = cpu::family(peer.pid());
        let write = self.any_token(peer.server.address, round);
        let count = self.arguments.answers;
        let driven = drive(&mut connections, count, 200, write, is_a_user).await;
        let spent = cpu::us_since(&cpu::family(peer.pid()), &before);
        Closed {
            cpu_us: spent / driven.answers() as f64,
            per_s: driven.per_s(),
            p50_us: driven.percentile(50).into(),
            p99_us: driven.percentile(99).into(),
        }
    }

    /// One round at the fixed rate.
    async fn fixed(&self, server: &Server, round: usize) -> Fixed {
        let mut connections = self.begin(server).await;
        let rate = self.arguments.rate;
        let count = self.arguments.answers.min((rate * FIXED_S) as usize);
        let write = self.any_token(server.address, round);
        let schedule = Schedule::begin(rate);
        let arrival = async |number| schedule.arrival(number).await;
        let run = drive_when(arrival, &mut connections, count, 200, write, is_a_user);
        let ((), driven): ((), Driven) = tokio::join!(schedule.run(count), run);
        Fixed {
            p50_us: driven.percentile(50).into(),
            p99_us: driven.percentile(99).into(),
        }
    }

    async fn begin(&self, server: &Server) -> Vec<Connection> {
        let mut connections = open(server.clone(), self.arguments.connections).await;
        let count = TO_BEGIN * connections.len();
        let write = self.any_token(server.address, self.arguments.rounds);
        drive(&mut connections, count, 200, write, is_a_user).await;
        connections
    }

    /// Writes calls with tokens at random, others in each round.
    fn any_token(&self, server: SocketAddr, round: usize) -> impl Fn(Turn, &mut Vec<u8>) {
        move |turn, request| {
            let token = mix((round as u64) << 40 | turn.number as u64);
            let token = token as usize % self.tokens.len();
            self.write(server, turn, token, request);
        }
    }

    fn write(&self, server: SocketAddr, turn: Turn, token: usize, request: &mut Vec<u8>) {
        let user = mix((turn.lane as u64) << 40 | turn.of_lane as u64);
        let written = write!(
            request,
            "GET /api/v1/scim/Users/{:08x}-{:04x}-7{:03x}-8{:03x}-{:012x} HTTP/1.1\r\n\
             host: {HOST}:{}\r\nauthorization: Bearer {}\r\naccept: application/scim+json\r\n\
             user-agent: bench\r\n\r\n",
            user >> 32,
            user >> 16 & 0xffff,
            user >> 4 & 0xfff,
            user & 0xfff,
            mix(user) >> 16,
            server.port(),
            self.tokens[token].reveal()
        );
        written.expect("memory takes all that is written");
    }
}

fn is_a_user(_: Turn, body: &[u8]) {
    assert_eq!(body.len(), USER_BYTES, "an answer that is no user");
}
