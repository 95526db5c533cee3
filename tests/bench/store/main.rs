//! What storage costs: CPU time of a region-node for each answer, latencies, writes a commit, bytes
//! on disk, and how these grow with the number of users of a tenant.
//!
//! `tests/bench/run store` builds and runs it; docs/benchmarks/README.md says how to read it. The
//! program starts the real `meridian-region-node` and speaks to its link as a gateway would.

mod arguments;
mod bench;
#[path = "../common/mod.rs"]
mod common;
mod node;
mod peer;
mod pgbench;
#[path = "../../it/support/postgres.rs"]
#[expect(dead_code, reason = "the tests do more with a server")]
mod postgres;
mod report;
mod rounds;
mod session;
mod users;

use std::process::ExitCode;

use arguments::{Arguments, Engine};
use bench::Bench;
use common::report::circumstances;

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
    let kinds: &[bool] = if arguments.activity {
        &[true, false]
    } else {
        &[true]
    };
    let mut benches = Vec::new();
    for users in &arguments.users {
        for activity in kinds {
            // A database of its own for each.
            let server = url.as_deref().and_then(|url| url.rsplit_once('/'));
            let number = benches.len();
            let name = |server| format!("{server}/meridian_bench_{}_{number}", std::process::id());
            let database = server.map(|(server, _)| name(server));
            benches.push(Bench::open(&arguments, database, *users, *activity).await);
        }
    }
    let measured = rounds::measure(&benches, arguments.answers).await;
    if arguments.activity {
        for (users, figures) in arguments.users.iter().zip(measured.chunks(kinds.len())) {
            println!("{}", report::activity(*users, figures));
        }
        return ExitCode::SUCCESS;
    }
    let mut sizes = Vec::new();
    for (bench, figures) in benches.into_iter().zip(measured) {
        sizes.push(bench.close(figures, arguments.answers));
    }
    println!("{}", report::tables(&arguments.engine, &sizes));
    if !arguments.keep {
        let circumstances = circumstances("the node shares", "tests/bench/run store");
        report::write(&arguments.engine, &sizes, &circumstances);
    }
    ExitCode::SUCCESS
}
