//! What the benchmark is asked to do.

use crate::common::numbers::number;

pub(crate) const USAGE: &str = "\
usage: tests/bench/run gateway [OPTIONS]
  --tokens N            API tokens, each of a tenant of its own (100000)
  --answers N           answers of each peer in each round (100000)
  --connections N       connections of the load (64)
  --rate N              requests a second, for the latencies at a fixed rate (2000)
  --rounds N            rounds, of which the medians are told (5)
  --tls                 clients call within TLS, of every peer but the far end
  --keep                leave docs/benchmarks as it is";

#[derive(Clone, Debug)]
pub(crate) struct Arguments {
    pub(crate) tokens: usize,
    pub(crate) answers: usize,
    pub(crate) connections: usize,
    pub(crate) rate: u64,
    pub(crate) rounds: usize,
    pub(crate) tls: bool,
    pub(crate) keep: bool,
}

impl Arguments {
    /// Reads the arguments; `Err` is what to tell the caller.
    pub(crate) fn read(given: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut arguments = Self {
            tokens: 100_000,
            answers: 100_000,
            connections: 64,
            rate: 2000,
            rounds: 5,
            tls: false,
            keep: false,
        };
        let mut given = given;
        while let Some(name) = given.next() {
            let mut value = || {
                let text = given.next().ok_or(format!("{name} needs a value"))?;
                match number(&text)? {
                    0 => Err(format!("{name} must be more than 0")),
                    value => Ok(value),
                }
            };
            match name.as_str() {
                "--tokens" => arguments.tokens = value()? as usize,
                "--answers" => arguments.answers = value()? as usize,
                "--connections" => arguments.connections = value()? as usize,
                "--rate" => arguments.rate = value()?,
                "--rounds" => arguments.rounds = value()? as usize,
                "--tls" => arguments.tls = true,
                "--keep" => arguments.keep = true,
                // Cargo says so to every benchmark.
                "--bench" => {}
                other => return Err(format!("{other} is not known")),
            }
        }
        Ok(arguments)
    }

    /// What asks for it.
    pub(crate) fn command(&self) -> &'static str {
        match self.tls {
            true => "tests/bench/run gateway --tls",
            false => "tests/bench/run gateway",
        }
    }

    /// The name of the report.
    pub(crate) fn report(&self) -> &'static str {
        match self.tls {
            true => "gateway-tls",
            false => "gateway",
        }
    }
}
