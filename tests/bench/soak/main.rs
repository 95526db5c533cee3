//! Runs the deployment for minutes under load while one part of it after the other is taken away, and
//! says whether all was as it should be, with a plot of what clients and programs felt.
//!
//! `tests/bench/run soak` builds and runs it; docs/benchmarks/README.md says how to read it.

#[path = "../common/mod.rs"]
#[expect(dead_code, reason = "the other benchmarks do more with it")]
mod common;
#[path = "../../it/support/mod.rs"]
#[expect(
    dead_code,
    unused_imports,
    reason = "the support of all tests; this is one user of it"
)]
mod support;

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use common::numbers::{grouped, number};
use common::report::{COLOURS, Drawing, GRID, circumstances, publish};
use support::soak::{Length, Outcome, Scope, Second, soak};

const USAGE: &str = "tests/bench/run soak [--minutes N] [--tenants N] [--keep]

  --minutes N   how long (5)
  --tenants N   how many tenants, in four regions in turn (50)
  --keep        docs/benchmarks stays as it is";
const BETWEEN_FAULTS: Duration = Duration::from_secs(10);
/// From so many minutes on a run is warm early enough to judge growth.
const WARM_MINUTES: u64 = 3;
const WIDTH: f64 = 900.0;
const PANEL: f64 = 170.0;

struct Arguments {
    minutes: u64,
    tenants: usize,
    keep: bool,
}

impl Arguments {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut this = Self {
            minutes: 5,
            tenants: 50,
            keep: false,
        };
        while let Some(word) = words.next() {
            let mut value = || number(&words.next().unwrap_or_default());
            match word.as_str() {
                "--minutes" => this.minutes = value()?,
                "--tenants" => this.tenants = value()? as usize,
                "--keep" => this.keep = true,
                // Cargo says so to every benchmark.
                "--bench" => {}
                _ => return Err(USAGE.to_owned()),
            }
        }
        if this.minutes == 0 || this.tenants < 4 {
            return Err("at least a minute, and a tenant for each of the four regions".to_owned());
        }
        Ok(this)
    }
}

fn main() -> ExitCode {
    let arguments = match Arguments::read(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    let length = Length::Time {
        total: Duration::from_secs(arguments.minutes * 60),
        between: BETWEEN_FAULTS,
    };
    let scope = Scope {
        tenants: arguments.tenants,
        length,
    };
    let runtime = tokio::runtime::Runtime::new().expect("threads can be made");
    let mut outcome = runtime.block_on(soak(scope, |how| eprintln!("{how}")));
    if arguments.minutes >= WARM_MINUTES {
        outcome.check_growth();
    }
    let text = report(&arguments, &outcome);
    println!("{text}");
    for wrong in &outcome.wrong {
        eprintln!("WRONG: {wrong}");
    }
    if cfg!(debug_assertions) {
        eprintln!("not a release build: docs/benchmarks stays as it is");
    } else if !arguments.keep {
        publish("soak", &text, &plot(&outcome));
    }
    ExitCode::from(u8::from(!outcome.wrong.is_empty()))
}

fn report(arguments: &Arguments, outcome: &Outcome) -> String {
    let mut text = format!(
        "# Soak\n\n{} tenants in four regions, behind two gateways, for {} minutes.\n\n![What clients \
         and programs felt](soak.svg)\n\n|  |  |\n| --- | ---: |\n",
        arguments.tenants, arguments.minutes
    );
    // Writing to a text never fails.
    let mut line = |what: &str, figure: String| {
        let _ = writeln!(text, "| {what} | {figure} |");
    };
    let count = |count: usize| grouped(count as u64);
    line(
        "changes that were acknowledged",
        count(outcome.acknowledged),
    );
    line(
        "calls that were answered 503 with Retry-After",
        count(outcome.refused),
    );
    line("events that administrators read", count(outcome.events.1));
    line(
        "events that applications were sent",
        count(outcome.events.0),
    );
    let mut kinds: Vec<&str> = outcome.faults.iter().map(|(_, what)| *what).collect();
    kinds.sort_unstable();
    for of_kind in kinds.chunk_by(|one, other| one == other) {
        line(of_kind[0], count(of_kind.len()));
    }
    text.push_str(
        "\n| what was looked at in the end | how often | wrong |\n| --- | ---: | ---: |\n",
    );
    for (what, times) in &outcome.checks {
        let wrong = outcome
            .wrong
            .iter()
            .filter(|wrong| wrong.starts_with(what))
            .count();
        let _ = writeln!(text, "| {what} | {times} | {wrong} |");
    }
    text.push_str(
        "\n| program | memory, MiB: middle third | last third | files: middle third | last third |\n\
         | --- | ---: | ---: | ---: | ---: |\n",
    );
    for (name, kib, files) in outcome.thirds() {
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {} | {} |",
            kib[0] / 1024,
            kib[1] / 1024,
            files[0],
            files[1]
        );
    }
    let command = format!("tests/bench/run soak --minutes {}", arguments.minutes);
    let _ = writeln!(text, "\n{}", circumstances("all of it shares", &command));
    text
}

/// A line of a panel: its name and its points, in seconds and in the panel's unit.
type Series = (String, Vec<(f64, f64)>);

fn plot(outcome: &Outcome) -> String {
    let of = |name: &str, value: &dyn Fn(&Second) -> Option<f64>| -> Series {
        let points = outcome.seconds.iter();
        let points = points.filter_map(|second| Some((second.at_s, value(second)?)));
        (name.to_owned(), points.collect())
    };
    let ms = |us: u32| Some(f64::from(us) / 1000.0);
    let names = outcome.thirds().into_iter().map(|(name, ..)| name);
    let memory = names.map(|name| {
        of(&name, &|second| {
            Some(second.programs.get(&name)?.0 as f64 / 1024.0)
        })
    });
    let panels: [(&str, Vec<Series>); 3] = [
        (
            "answers/s",
            vec![
                of("success", &|second| Some(second.answered as f64)),
                of("503", &|second| Some(second.refused as f64)),
            ],
        ),
        (
            "ms",
            vec![
                of("p50", &|second| ms(second.p50_us)),
                of("p99", &|second| ms(second.p99_us)),
            ],
        ),
        ("MiB", memory.collect()),
    ];
    let mut drawing = Drawing::begin(WIDTH, 3.0 * (PANEL + 40.0) + 30.0);
    let end = outcome
        .seconds
        .last()
        .map_or(1.0, |second| second.at_s)
        .max(1.0);
    for (number, (unit, series)) in panels.iter().enumerate() {
        let top = 25.0 + number as f64 * (PANEL + 40.0);
        panel(&mut drawing, top, unit, series, end);
        for (at, _) in &outcome.faults {
            let x = x_of(*at, end);
            drawing.line(&[(x, top + PANEL), (x, top + PANEL - 6.0)], "black", 1.0);
        }
    }
    drawing.text(
        (WIDTH / 2.0, 3.0 * (PANEL + 40.0) + 22.0),
        "middle",
        "seconds; a mark at the bottom of a panel: a part was taken away",
    );
    drawing.end()
}

fn x_of(at_s: f64, end: f64) -> f64 {
    60.0 + at_s / end * (WIDTH - 180.0)
}

fn panel(drawing: &mut Drawing, top: f64, unit: &str, series: &[Series], end: f64) {
    let values = series
        .iter()
        .flat_map(|(_, points)| points.iter().map(|(_, y)| *y));
    let most = values.fold(1.0, f64::max);
    let y_of = |value: f64| top + PANEL - value / most * PANEL;
    for part in [0.0, 0.5, 1.0] {
        let y = y_of(most * part);
        drawing.line(&[(60.0, y), (WIDTH - 120.0, y)], GRID, 1.0);
        drawing.text((55.0, y + 4.0), "end", &format!("{:.0}", most * part));
    }
    drawing.text((60.0, top - 8.0), "start", unit);
    for part in 0..=5 {
        let at = end * f64::from(part) / 5.0;
        drawing.text(
            (x_of(at, end), top + PANEL + 14.0),
            "middle",
            &format!("{at:.0}"),
        );
    }
    for (number, (name, points)) in series.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let points: Vec<_> = points
            .iter()
            .map(|(x, y)| (x_of(*x, end), y_of(*y)))
            .collect();
        drawing.line(&points, colour, 1.2);
        let y = top + 12.0 + 18.0 * number as f64;
        drawing.line(
            &[(WIDTH - 112.0, y - 4.0), (WIDTH - 98.0, y - 4.0)],
            colour,
            3.0,
        );
        drawing.text((WIDTH - 92.0, y), "start", name);
    }
}
