//! What the benchmark is asked to do.

use crate::common::numbers::number;

/// Where the node keeps its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Sqlite,
    Postgres {
        /// Of a server that runs; without it, one is started.
        url: Option<String>,
    },
}

impl Engine {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres { .. } => "postgres",
        }
    }
}

pub(crate) const USAGE: &str = "\
usage: tests/bench/run store [OPTIONS]
  --users N,N,…         sizes of the tenant (1000,100000,1000000)
  --tenants N           other tenants beside it (0; with 1000000 users: 2000)
  --answers N           answers that are measured of each operation (20000)
  --engine sqlite|postgres   (sqlite)
  --url URL             of a PostgreSQL server that runs on this machine (a private one is started)
  --activity            what keeping activity costs: of each size, one node with it and one without;
                        docs/benchmarks stays as it is
  --keep                leave docs/benchmarks as it is";

#[derive(Clone, Debug)]
pub(crate) struct Arguments {
    pub(crate) users: Vec<u64>,
    pub(crate) tenants: Option<u64>,
    pub(crate) answers: usize,
    pub(crate) engine: Engine,
    pub(crate) activity: bool,
    pub(crate) keep: bool,
}

impl Arguments {
    /// Reads the arguments; `Err` is what to tell the caller.
    pub(crate) fn read(given: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut arguments = Self {
            users: vec![1_000, 100_000, 1_000_000],
            tenants: None,
            answers: 20_000,
            engine: Engine::Sqlite,
            activity: false,
            keep: false,
        };
        let (mut engine, mut url) = ("sqlite".to_owned(), None);
        let mut given = given;
        while let Some(name) = given.next() {
            let mut value = || given.next().ok_or(format!("{name} needs a value"));
            match name.as_str() {
                "--users" => {
                    let sizes: Result<_, _> = value()?.split(',').map(number).collect();
                    arguments.users = sizes?;
                }
                "--tenants" => arguments.tenants = Some(number(&value()?)?),
                "--answers" => arguments.answers = number(&value()?)? as usize,
                "--engine" => engine = value()?,
                "--url" => url = Some(value()?),
                "--activity" => arguments.activity = true,
                "--keep" => arguments.keep = true,
                // Cargo says so to every benchmark.
                "--bench" => {}
                other => return Err(format!("{other} is not known")),
            }
        }
        if arguments.users.is_empty() || arguments.users.iter().any(|users| *users < 1000) {
            return Err("--users needs sizes of 1000 or more".to_owned());
        }
        arguments.engine = match (engine.as_str(), url) {
            ("sqlite", None) => Engine::Sqlite,
            ("postgres", url) => Engine::Postgres { url },
            ("sqlite", Some(_)) => return Err("--url goes with --engine postgres".to_owned()),
            (other, _) => return Err(format!("--engine {other} is not known")),
        };
        Ok(arguments)
    }

    /// How many other tenants there are beside one of this size.
    pub(crate) fn tenants_beside(&self, users: u64) -> u64 {
        let default = if users >= 1_000_000 { 2000 } else { 0 };
        self.tenants.unwrap_or(default)
    }
}
