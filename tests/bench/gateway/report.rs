//! What was measured: on the screen, as Markdown tables, as a drawing.

use std::fmt::Write as _;

use crate::arguments::Arguments;
use crate::common::numbers::grouped;
use crate::common::report::{COLOURS, Drawing, GRID, publish};
use crate::peers::Kind;

/// One round as fast as it goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Closed {
    /// Of the peer, for each answer.
    pub(crate) cpu_us: f64,
    pub(crate) per_s: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

/// One round at the fixed rate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fixed {
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measured {
    /// The far end, with nobody between.
    Upstream,
    Peer(Kind),
}

/// The rounds of one of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rounds {
    pub(crate) closed: Vec<Closed>,
    pub(crate) fixed: Vec<Fixed>,
}

/// Everything.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    upstream: Rounds,
    /// In the order of [`Kind::ALL`].
    peers: [Rounds; 5],
    /// CPU microseconds of the gateway for a call with a token that it has not seen.
    pub(crate) first_call_us: f64,
}

/// The gateway's CPU time, as a part of that of nginx with a token map: in plain text, and where both
/// encrypt.
const CPU_GOAL: f64 = 0.8;
const CPU_GOAL_TLS: f64 = 1.2;
/// What traces and figures may make of the gateway's CPU time.
const TELEMETRY_GOAL: f64 = 1.1;

impl Figures {
    pub(crate) fn begin() -> Self {
        Self {
            upstream: Rounds::default(),
            peers: Default::default(),
            first_call_us: 0.0,
        }
    }

    pub(crate) fn of(&mut self, measured: Measured) -> &mut Rounds {
        match measured {
            Measured::Upstream => &mut self.upstream,
            Measured::Peer(kind) => &mut self.peers[kind as usize],
        }
    }

    fn peer(&self, kind: Kind) -> &Rounds {
        &self.peers[kind as usize]
    }

    fn cpu_us(&self, kind: Kind) -> f64 {
        median(self.peer(kind).closed.iter().map(|round| round.cpu_us))
    }

    /// CPU time as a part of another's, round by round: machines are faster in one minute than in
    /// the next.
    fn share(&self, kind: Kind, other: Kind) -> f64 {
        let rounds = self.peer(kind).closed.iter();
        let rounds = rounds.zip(&self.peer(other).closed);
        median(rounds.map(|(peer, other)| peer.cpu_us / other.cpu_us))
    }

    /// What a peer adds to a latency of the far end: round by round, because both had the same
    /// moment of the machine.
    fn added_us(&self, kind: Kind, of: fn(&Fixed) -> f64) -> f64 {
        let rounds = self.peer(kind).fixed.iter().zip(&self.upstream.fixed);
        median(rounds.map(|(peer, alone)| of(peer) - of(alone)))
    }

    /// By how much a latency is above that of nginx with a token map: the quartiles of the rounds.
    fn above_us(&self, kind: Kind, of: fn(&Fixed) -> f64) -> [f64; 2] {
        let rounds = self.peer(kind).fixed.iter();
        let rounds = rounds.zip(&self.peer(Kind::NginxMap).fixed);
        let above = sorted(rounds.map(|(peer, nginx)| of(peer) - of(nginx)));
        let at = |place: usize| above.get(place).copied().unwrap_or(f64::NAN);
        [at(above.len() / 4), at(above.len() * 3 / 4)]
    }
}

fn p50(round: &Fixed) -> f64 {
    round.p50_us
}

fn p99(round: &Fixed) -> f64 {
    round.p99_us
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let values = sorted(values);
    let (low, high) = (values.len().saturating_sub(1) / 2, values.len() / 2);
    let at = |place: usize| values.get(place).copied().unwrap_or(f64::NAN);
    f64::midpoint(at(low), at(high))
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The tables, in Markdown that is readable on a screen as well.
pub(crate) fn tables(arguments: &Arguments, figures: &Figures) -> String {
    let mut text = format!(
        "# The gateway beside nginx and HAProxy{}\n\n\
         {} API tokens; {} rounds, in which the peers take turns; medians of the rounds.\n\n\
         ## As fast as {} connections go, {} answers a round\n\n\
         | | CPU us | least and most | of nginx with a token map | answers/s | p50 us | p99 us |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n",
        if arguments.tls {
            ", clients within TLS 1.3"
        } else {
            ""
        },
        grouped(arguments.tokens as u64),
        arguments.rounds,
        arguments.connections,
        grouped(arguments.answers as u64),
    );
    for kind in Kind::ALL {
        let rounds = &figures.peer(kind).closed;
        let of = |value: fn(&Closed) -> f64| median(rounds.iter().map(value));
        let cpu = || rounds.iter().map(|round| round.cpu_us);
        // Writing to a text never fails.
        let _ = writeln!(
            text,
            "| {} | {:.1} | {:.1} to {:.1} | {:.2} | {} | {:.0} | {:.0} |",
            kind.name(),
            figures.cpu_us(kind),
            cpu().fold(f64::INFINITY, f64::min),
            cpu().fold(0.0, f64::max),
            figures.share(kind, Kind::NginxMap),
            grouped(of(|round| round.per_s) as u64),
            of(|round| round.p50_us),
            of(|round| round.p99_us),
        );
    }
    let _ = write!(
        text,
        "\nThe first call with a token, for which the gateway asks the region: {:.0} us of CPU.\n\n\
         ## At {} requests a second\n\n\
         {} rounds of a second each.\n\n\
         | | p50 us | p99 us | added p50 us | added p99 us | p50 above nginx with a token map, in the middle half of the rounds |\n\
         | --- | ---: | ---: | ---: | ---: | ---: |\n",
        figures.first_call_us,
        grouped(arguments.rate),
        figures.upstream.fixed.len(),
    );
    let of = |rounds: &Rounds, value: fn(&Fixed) -> f64| median(rounds.fixed.iter().map(value));
    let _ = writeln!(
        text,
        "| the far end alone | {:.0} | {:.0} | | | |",
        of(&figures.upstream, p50),
        of(&figures.upstream, p99)
    );
    for kind in Kind::ALL {
        let [least, most] = figures.above_us(kind, p50);
        let _ = writeln!(
            text,
            "| {} | {:.0} | {:.0} | {:.0} | {:.0} | {least:.0} to {most:.0} |",
            kind.name(),
            of(figures.peer(kind), p50),
            of(figures.peer(kind), p99),
            figures.added_us(kind, p50),
            figures.added_us(kind, p99),
        );
    }
    goals(&mut text, arguments, figures);
    text
}

fn goals(text: &mut String, arguments: &Arguments, figures: &Figures) {
    text.push_str(
        "\n## Against the goals\n\n| | measured | goal, at most | |\n| --- | ---: | ---: | --- |\n",
    );
    let mut line = |what: &str, measured: f64, goal: f64, decimals: usize| {
        // Nothing is taken away by a proxy: the machine had other things to do.
        let verdict = if measured < 0.0 || goal < 0.0 {
            "cannot be told: the machine was too busy"
        } else if measured <= goal {
            "reached"
        } else {
            "missed"
        };
        let _ = writeln!(
            text,
            "| {what} | {measured:.decimals$} | {goal:.decimals$} | {verdict} |"
        );
    };
    line(
        "CPU time, as a part of that of nginx with a token map",
        figures.share(Kind::Gateway, Kind::NginxMap),
        if arguments.tls {
            CPU_GOAL_TLS
        } else {
            CPU_GOAL
        },
        2,
    );
    line(
        "CPU time with OTLP, as a part of that without",
        figures.share(Kind::GatewayTraced, Kind::Gateway),
        TELEMETRY_GOAL,
        2,
    );
    for (name, of) in [("p50", p50 as fn(&Fixed) -> f64), ("p99", p99)] {
        line(
            &format!("added {name}, us; the goal is that of nginx with a token map"),
            figures.added_us(Kind::Gateway, of),
            figures.added_us(Kind::NginxMap, of),
            0,
        );
    }
}

/// Writes the tables and the drawing into docs/benchmarks.
pub(crate) fn write(arguments: &Arguments, figures: &Figures, circumstances: &str) {
    let name = arguments.report();
    let mut text = tables(arguments, figures);
    let _ = write!(
        text,
        "\n![CPU time and added latency]({name}.svg)\n\n{circumstances}\n"
    );
    publish(name, &text, &drawing(figures));
}

const WIDTH: f64 = 860.0;
const LEFT: f64 = 190.0;
const RIGHT: f64 = 800.0;
const BAR: f64 = 14.0;

/// Bars: CPU time, and below it what is added to the latency.
fn drawing(figures: &Figures) -> String {
    let cpu = Kind::ALL.map(|kind| (kind, figures.cpu_us(kind)));
    let added_p50 = Kind::ALL.map(|kind| (kind, figures.added_us(kind, p50)));
    let added_p99 = Kind::ALL.map(|kind| (kind, figures.added_us(kind, p99)));
    let panels = [
        ("CPU microseconds for each answer", cpu),
        ("Added to the median latency, microseconds", added_p50),
        ("Added to the 99th percentile, microseconds", added_p99),
    ];
    let height = 40.0 + 24.0 * Kind::ALL.len() as f64;
    let mut svg = Drawing::begin(WIDTH, height * panels.len() as f64);
    for (nth, (title, bars)) in panels.into_iter().enumerate() {
        let top = height * nth as f64;
        svg.text((LEFT, top + 20.0), "start", title);
        let most = bars.iter().map(|(_, us)| *us).fold(1.0, f64::max);
        for (row, (kind, us)) in bars.into_iter().enumerate() {
            let y = top + 40.0 + 24.0 * row as f64;
            let x = LEFT + (RIGHT - LEFT) * us.max(0.0) / most;
            svg.text((LEFT - 8.0, y + 4.0), "end", kind.name());
            svg.line(&[(LEFT, y), (RIGHT, y)], GRID, 1.0);
            svg.line(&[(LEFT, y), (x, y)], COLOURS[row], BAR);
            svg.text((x + 6.0, y + 4.0), "start", &format!("{us:.1}"));
        }
    }
    svg.end()
}
