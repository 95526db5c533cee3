//! What a gateway does with more than its region can do: how much of it is answered, how quickly the
//! rest is refused, what it takes in memory, how soon all is well again, and what one tenant's flood
//! makes another wait.
//!
//! `tests/bench/run overload` builds and runs it; docs/benchmarks/README.md says how to read it. The
//! program starts the real `meridian-gateway` and itself once more as a far end that takes a fixed
//! time for each call, so that what the region can do is known and the processors are not the limit.

#[path = "../common/mod.rs"]
#[expect(dead_code, reason = "the other benchmarks do more with it")]
mod common;
#[path = "../gateway/schedule.rs"]
mod schedule;
#[path = "../gateway/tokens.rs"]
mod tokens;
#[path = "../gateway/upstream.rs"]
mod upstream;

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use shared::{ApiToken, RegionId};
use tokio::net::TcpStream;

use common::client::{Connection, header};
use common::numbers::{grouped, mix};
use common::program::{Program, beside};
use common::report::circumstances;
use schedule::Schedule;

const HOST: &str = "global-us.localhost";
const KEY: &str = "link-0123456789abcdefghijklmnopqrstuv";
/// How long the far end takes for a call.
const TAKES: Duration = Duration::from_millis(20);
/// Calls that the gateway lets the far end have at a time: its default.
const AT_A_TIME: usize = 64;
/// Connections of the crowd: enough to send three times what the region can do.
const CROWD: usize = 1_200;
const TENANTS: usize = 100;
/// The argument by which this program is told to be the quiet tenant's client.
const QUIET: &str = "--quiet";
const QUIET_PER_S: u64 = 50;
const PHASE: Duration = Duration::from_secs(10);

/// One answer.
#[derive(Clone, Copy)]
struct Sample {
    /// Seconds since the phase began, when the call was to be sent.
    at_s: f64,
    status: u16,
    us: u32,
    says_when: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut given = std::env::args().skip(1).filter(|given| given != "--bench");
    match given.next().as_deref() {
        Some(upstream::ARGUMENT) => {
            upstream::serve(given.next().and_then(|ms| ms.parse().ok())).await;
            return ExitCode::SUCCESS;
        }
        Some(QUIET) => {
            let mut next = || given.next().expect("an argument of our own");
            let address = next().parse().expect("an address");
            let token = ApiToken::parse(&next()).expect("a token");
            let samples = open(address, &[token], 8, QUIET_PER_S, PHASE).await;
            let refused = samples.iter().filter(|one| one.status != 200).count();
            println!("{} {refused}", percentile(99, samples.iter()));
            return ExitCode::SUCCESS;
        }
        Some(other) if other != "--keep" => {
            eprintln!("usage: tests/bench/run overload [--keep]\n'{other}' is not known");
            return ExitCode::FAILURE;
        }
        given => {
            let report = measure().await;
            println!("{report}");
            if given.is_none() && !cfg!(debug_assertions) {
                let place = circumstances("all of it shares", "tests/bench/run overload");
                let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/benchmarks");
                let written = fs::write(folder.join("overload.md"), format!("{report}\n{place}\n"));
                written.expect("docs/benchmarks can be written");
            }
        }
    }
    ExitCode::SUCCESS
}

async fn measure() -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (_far_end, far_end) = upstream::start(Some(TAKES));
    let (gateway, address) = gateway(folder.path(), far_end).await;
    let region = RegionId::parse("us").expect("a region");
    let crowd = tokens::generate(&region, TENANTS);
    let [loud, quiet] = [(); 2].map(|()| tokens::generate(&region, 1));
    let capacity = AT_A_TIME as f64 / TAKES.as_secs_f64();

    // Everybody is known before anything is measured.
    for tenants in [&crowd, &loud, &quiet] {
        closed(address, tenants, 1, tenants.len()).await;
    }
    eprintln!("as much as the region can do");
    let peak = closed(address, &crowd, 2 * AT_A_TIME, (capacity * 5.0) as usize).await;
    let peak_per_s = peak.good_per_s;
    let before_kib = resident_kib(gateway.pid());

    eprintln!("three times as much");
    let rate = (3.0 * peak_per_s) as u64;
    let over = open(address, &crowd, CROWD, rate, PHASE).await;
    let after_kib = resident_kib(gateway.pid());

    eprintln!("half as much, at once afterwards");
    let calm = open(address, &crowd, CROWD, (peak_per_s / 2.0) as u64, PHASE).await;

    eprintln!("a quiet tenant alone, and beside one that floods");
    let (p99_alone, _) = quiet_tenant(address, &quiet[0]).await;
    let flood = open(address, &loud, CROWD, rate, PHASE);
    let (flood, (p99_beside, failed)) = tokio::join!(flood, quiet_tenant(address, &quiet[0]));

    let mut text = "# Overload\n\n".to_owned();
    let mut line = |what: &str, measured: String, goal: &str| {
        let _ = writeln!(text, "| {what} | {measured} | {goal} |");
    };
    line("", "measured".into(), "goal");
    line("---", "---:".into(), "---:");
    line("peak, answers/s", grouped(peak_per_s as u64), "");
    line("asked for, a second", grouped(rate), "3 x peak");
    let good = over.iter().filter(|one| one.status == 200);
    let goodput = good.clone().count() as f64 / PHASE.as_secs_f64() / peak_per_s;
    line(
        "answered, of the peak",
        format!("{goodput:.2}"),
        "at least 0.80",
    );
    line("p99 of what was answered, ms", ms(99, good), "at most 250");
    let refused = over.iter().filter(|one| one.status != 200);
    line("p50 of refusals, ms", ms(50, refused.clone()), "at most 20");
    line("p99 of refusals, ms", ms(99, refused.clone()), "");
    let odd = refused
        .clone()
        .filter(|one| one.status != 503 || !one.says_when);
    line(
        "refusals that are no 503 with Retry-After",
        odd.count().to_string(),
        "0",
    );
    let mib = |kib: u64| format!("{}", kib / 1024);
    line(
        "memory before / after, MiB",
        format!("{} / {}", mib(before_kib), mib(after_kib)),
        "512",
    );
    line(
        "last refusal after the overload, s",
        last_refusal(&calm),
        "at most 10",
    );
    line("a quiet tenant's p99, alone, ms", in_ms(p99_alone), "");
    line("beside a flood, ms", in_ms(p99_beside), "");
    let ratio = f64::from(p99_beside) / f64::from(p99_alone.max(1));
    line("the same, of alone", format!("{ratio:.2}"), "at most 1.50");
    line("its calls that were refused", failed.to_string(), "0");
    let served = flood.iter().filter(|one| one.status == 200).count();
    let served = served as f64 / PHASE.as_secs_f64() / peak_per_s;
    line(
        "the flood's calls that were answered, of the peak",
        format!("{served:.2}"),
        "",
    );
    drop(gateway);
    text
}

/// The quiet tenant's client, in a process of its own: the flood's is busy. Answers its p99 in
/// microseconds, and how many of its calls were refused.
async fn quiet_tenant(address: SocketAddr, token: &ApiToken) -> (u32, usize) {
    let own = std::env::current_exe().expect("a program has a path");
    let mut command = Command::new(own);
    command.args([QUIET, &address.to_string(), token.reveal()]);
    // Not on this thread, which the flood needs.
    let ran = tokio::task::spawn_blocking(move || command.output()).await;
    let said = ran.expect("it ran").expect("a program of our own").stdout;
    let said = String::from_utf8_lossy(&said);
    let numbers = said.trim().split_once(' ').expect("two numbers");
    let p99_us = numbers.0.parse().expect("a number");
    (p99_us, numbers.1.parse().expect("a number"))
}

fn last_refusal(calm: &[Sample]) -> String {
    let refused = calm.iter().filter(|one| one.status != 200);
    let last = refused.map(|one| one.at_s).fold(0.0, f64::max);
    format!("{last:.1}")
}

fn percentile<'s>(percent: usize, samples: impl Iterator<Item = &'s Sample>) -> u32 {
    let mut all: Vec<u32> = samples.map(|one| one.us).collect();
    all.sort_unstable();
    let at = (all.len() * percent).div_ceil(100).max(1) - 1;
    all.get(at).copied().unwrap_or(0)
}

fn ms<'s>(percent: usize, samples: impl Iterator<Item = &'s Sample>) -> String {
    in_ms(percentile(percent, samples))
}

fn in_ms(us: u32) -> String {
    format!("{:.1}", f64::from(us) / 1000.0)
}

struct Closed {
    good_per_s: f64,
}

/// So many calls over connections that each make one after the other.
async fn closed(address: SocketAddr, tenants: &[ApiToken], lanes: usize, count: usize) -> Closed {
    let (next, began) = (Cell::new(0), Instant::now());
    let at_once = async |_| Instant::now();
    let samples = run(address, tenants, lanes, count, &next, began, at_once).await;
    let good = samples.iter().filter(|one| one.status == 200).count();
    Closed {
        good_per_s: good as f64 / began.elapsed().as_secs_f64(),
    }
}

/// Calls that arrive by the clock, for some time.
async fn open(
    address: SocketAddr,
    tenants: &[ApiToken],
    lanes: usize,
    rate: u64,
    time: Duration,
) -> Vec<Sample> {
    let count = (rate as f64 * time.as_secs_f64()) as usize;
    let mut connections = Vec::new();
    for _ in 0..lanes {
        connections.push(Connection::open(address).await);
    }
    drop(connections);
    let schedule = Schedule::begin(rate);
    let (next, began) = (Cell::new(0), Instant::now());
    let arrival = async |number| schedule.arrival(number).await;
    let run = run(address, tenants, lanes, count, &next, began, arrival);
    let ((), samples) = tokio::join!(schedule.run(count), run);
    samples
}

async fn run(
    address: SocketAddr,
    tenants: &[ApiToken],
    lanes: usize,
    count: usize,
    next: &Cell<usize>,
    began: Instant,
    begin: impl AsyncFn(usize) -> Instant,
) -> Vec<Sample> {
    let samples = RefCell::new(Vec::with_capacity(count));
    let lanes = (0..lanes.min(count)).map(|_| async {
        let mut connection = Connection::open(address).await;
        let mut request = Vec::with_capacity(1024);
        loop {
            let number = next.get();
            if number >= count {
                return;
            }
            next.set(number + 1);
            request.clear();
            let token = &tenants[mix(number as u64) as usize % tenants.len()];
            let written = write!(
                request,
                "GET /api/v1/scim/Users/0190a5c2-7d3e-7c41-9a55-2f1b6c8d9e0f HTTP/1.1\r\n\
                 host: {HOST}:{}\r\nauthorization: Bearer {}\r\n\r\n",
                address.port(),
                token.reveal()
            );
            written.expect("memory takes all that is written");
            let due = begin(number).await;
            let answer = connection.call(&request).await;
            let after = header(answer.head, "retry-after");
            samples.borrow_mut().push(Sample {
                at_s: due.saturating_duration_since(began).as_secs_f64(),
                status: answer.status,
                us: u32::try_from(due.elapsed().as_micros()).unwrap_or(u32::MAX),
                says_when: after.is_some_and(|after| after.parse::<u32>().is_ok()),
            });
        }
    });
    join_all(lanes).await;
    samples.into_inner()
}

async fn gateway(folder: &Path, far_end: SocketAddr) -> (Program, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    drop(listener);
    // Its own limits, but for connections of one address.
    let text = format!(
        "listen = \"{address}\"\nmanagement_listen = \"127.0.0.1:0\"\npublic_port = 0\n\
         [regions.us]\nnodes = [\"http://{far_end}\"]\nlink_key = \"{KEY}\"\n\
         [limits]\nconnections_per_source = 10000\n[timeouts]\ndrain_ms = 0\n"
    );
    let settings = folder.join("gateway.toml");
    fs::write(&settings, text).expect("a folder of our own");
    let log = File::create(folder.join("log")).expect("a folder of our own");
    let mut command = Command::new(beside("meridian-gateway"));
    let program = Program::start(command.arg(settings).stderr(log));
    while TcpStream::connect(address).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (program, address)
}

fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a running child");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    kib.expect("a size in kB")
}
