//! Shows of the programs that ship that no personal byte leaves its region, and prints where was
//! looked and what was found, for whoever has to believe it.

#[expect(
    dead_code,
    unused_imports,
    reason = "the support of all tests; this is one user of it"
)]
#[path = "../it/support/mod.rs"]
mod support;

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;
use support::residency::{Scope, prove};

const USAGE: &str = "tests/bench/run residency [--json] [--writes N] [--control]

  --json       one JSON value instead of tables
  --writes N   writes between two faults (200)
  --control    before all others: a gateway that logs bodies is looked at instead, which the search
               has to find";

struct Arguments {
    is_json: bool,
    writes: usize,
    /// A gateway that logs bodies.
    control: Option<PathBuf>,
}

impl Arguments {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut this = Self {
            is_json: false,
            writes: 200,
            control: None,
        };
        while let Some(word) = words.next() {
            match word.as_str() {
                "--json" => this.is_json = true,
                "--writes" => {
                    let number = words.next().and_then(|number| number.parse().ok());
                    this.writes = number.ok_or("--writes needs a number")?;
                }
                "--control-gateway" => {
                    this.control = Some(
                        words
                            .next()
                            .ok_or("--control-gateway needs a program")?
                            .into(),
                    );
                }
                // Cargo says so to every benchmark.
                "--bench" => {}
                _ => return Err(USAGE.to_owned()),
            }
        }
        Ok(this)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = match Arguments::read(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    let findings = prove(Scope {
        writes: arguments.writes,
        gateway: arguments.control.as_deref(),
        postgres: None,
    })
    .await;
    if arguments.is_json {
        println!("{}", findings.json());
    } else {
        print!("{}", findings.markdown());
    }
    let is_well = match arguments.control {
        None => findings.wrong().is_empty(),
        // The gateways' log is the first of the places.
        Some(_) => findings.json()["places"][0]["hits"] != json!([]),
    };
    let verdict = match (is_well, arguments.control) {
        (true, None) => "Nothing personal is outside its region.",
        (false, None) => "Something is not as it should be: see above.",
        (true, Some(_)) => "The control was caught: its log has bodies, and they were found.",
        (false, Some(_)) => "The control was not caught: the search is worth nothing.",
    };
    eprintln!("{verdict}");
    ExitCode::from(u8::from(!is_well))
}
