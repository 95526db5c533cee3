//! In which order operations are measured, and what becomes of it.
//!
//! Machines are faster in one minute than in the next. So each operation is measured in several
//! short rounds, at each size of the tenant in turn, and how the costs grow is said by rounds that
//! were side by side.

use std::time::Duration;

use crate::bench::Bench;
use crate::common::drive::Driven;
use crate::common::numbers::grouped;
use crate::node::Usage;
use crate::report::{Figure, Operation};

/// Odd, so that one of them is in the middle.
const ROUNDS: usize = 7;

/// What some calls of one operation took.
#[derive(Default)]
pub(crate) struct Round {
    latencies: Vec<u32>,
    took: Duration,
    cpu_us: f64,
    server_us: f64,
    writes: u64,
    commits: u64,
}

impl Round {
    /// What was used between two moments, by the calls between them.
    pub(crate) fn between(driven: Driven, before: &Usage, after: &Usage) -> Self {
        let (writes, commits) = after.commits_since(before).unwrap_or_default();
        Self {
            latencies: driven.latencies,
            took: driven.took,
            cpu_us: after.cpu_us_since(before),
            server_us: after.server_us_since(before),
            writes,
            commits,
        }
    }

    /// Adds what came behind it.
    pub(crate) fn add(&mut self, other: Self) {
        self.latencies.extend(other.latencies);
        self.took += other.took;
        self.cpu_us += other.cpu_us;
        self.server_us += other.server_us;
        self.writes += other.writes;
        self.commits += other.commits;
    }

    fn is_empty(&self) -> bool {
        self.latencies.is_empty()
    }

    /// CPU microseconds of one answer.
    fn each_us(&self) -> f64 {
        self.cpu_us / self.latencies.len() as f64
    }

    fn figure(self, operation: Operation, of_rounds: Vec<f64>) -> Figure {
        let answers = self.latencies.len();
        let all = Driven::of(self.latencies, self.took);
        let figure = Figure {
            operation,
            connections: Bench::connections(operation),
            cpu_us: self.cpu_us / answers as f64,
            of_rounds,
            server_us: (self.server_us > 0.0).then_some(self.server_us / answers as f64),
            p50_us: all.percentile(50),
            p99_us: all.percentile(99),
            per_s: all.per_s(),
            writes_per_commit: (self.commits > 0 && self.writes > self.commits)
                .then(|| self.writes as f64 / self.commits as f64),
        };
        eprintln!(
            "{}: {:.1} us of CPU, {} answers at {}/s",
            operation.name(),
            figure.cpu_us,
            grouped(answers as u64),
            grouped(figure.per_s as u64)
        );
        figure
    }
}

/// Each operation about `answers` times at each size; the figures of each size in the order of
/// the sizes.
pub(crate) async fn measure(benches: &[Bench], answers: usize) -> Vec<Vec<Figure>> {
    let mut figures: Vec<Vec<Figure>> = benches.iter().map(|_| Vec::new()).collect();
    let count = answers.div_ceil(ROUNDS);
    for operation in Operation::ALL {
        let mut sums: Vec<(Round, Vec<f64>)> = benches.iter().map(|_| Default::default()).collect();
        // The first one fills caches and is forgotten.
        for nth in 0..=ROUNDS {
            for (bench, (sum, of_rounds)) in benches.iter().zip(&mut sums) {
                if bench.takes(operation) {
                    let round = bench.round(operation, nth, count).await;
                    if nth > 0 && !round.is_empty() {
                        of_rounds.push(round.each_us());
                        sum.add(round);
                    }
                }
            }
        }
        for (figures, (sum, of_rounds)) in figures.iter_mut().zip(sums) {
            if !sum.is_empty() {
                figures.push(sum.figure(operation, of_rounds));
            }
        }
    }
    figures
}
