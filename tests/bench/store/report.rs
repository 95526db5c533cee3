//! What was measured: on the screen, as a Markdown table, as a plot.

use std::fmt::Write as _;

use crate::arguments::Engine;
use crate::common::numbers::grouped;
use crate::common::report::{COLOURS, Drawing, GRID, publish};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Get,
    UserName,
    ExternalId,
    Email,
    FirstPage,
    NextPage,
    Patch,
    Post,
    SmallGroup,
    LargeGroup,
    PageOfMembers,
}

impl Operation {
    pub(crate) const ALL: [Self; 11] = [
        Self::Get,
        Self::UserName,
        Self::ExternalId,
        Self::Email,
        Self::FirstPage,
        Self::NextPage,
        Self::Patch,
        Self::Post,
        Self::SmallGroup,
        Self::LargeGroup,
        Self::PageOfMembers,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Get => "GET by id",
            Self::UserName => "userName eq",
            Self::ExternalId => "externalId eq",
            Self::Email => "emails.value eq",
            Self::FirstPage => "page of 100, first",
            Self::NextPage => "page of 100, following",
            Self::Patch => "PATCH active",
            Self::Post => "POST",
            Self::SmallGroup => "add a member, group of 1,000",
            Self::LargeGroup => "add a member, large group",
            Self::PageOfMembers => "page of 100, each in 2 groups",
        }
    }

    pub(crate) fn writes(self) -> bool {
        matches!(
            self,
            Self::Patch | Self::Post | Self::SmallGroup | Self::LargeGroup
        )
    }

    /// Goal for CPU microseconds with 100,000 users in the tenant.
    fn goal_us(self) -> Option<f64> {
        match self {
            Self::Get => Some(35.0),
            Self::UserName => Some(40.0),
            Self::FirstPage | Self::PageOfMembers => Some(500.0),
            Self::Patch => Some(130.0),
            Self::Post => Some(150.0),
            _ => None,
        }
    }
}

/// One operation at one size of the tenant.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    pub(crate) operation: Operation,
    pub(crate) connections: usize,
    pub(crate) cpu_us: f64,
    /// The same, of each round.
    pub(crate) of_rounds: Vec<f64>,
    /// Of the database server, where it is another program.
    pub(crate) server_us: Option<f64>,
    pub(crate) p50_us: u32,
    pub(crate) p99_us: u32,
    pub(crate) per_s: f64,
    pub(crate) writes_per_commit: Option<f64>,
}

impl Figure {
    /// How many times as much it costs as another one that was measured in turn with it: the
    /// median of the rounds.
    fn times(&self, other: &Self) -> f64 {
        let rounds = self.of_rounds.iter().zip(&other.of_rounds);
        let mut ratios: Vec<f64> = rounds.map(|(this, other)| this / other).collect();
        ratios.sort_unstable_by(f64::total_cmp);
        ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

/// Everything at one size.
#[derive(Clone, Debug)]
pub(crate) struct Size {
    pub(crate) users: u64,
    pub(crate) tenants: u64,
    pub(crate) loaded_per_s: f64,
    pub(crate) bytes_per_user: f64,
    pub(crate) resident_bytes: u64,
    pub(crate) figures: Vec<Figure>,
    /// The peer's name, and what it did in a second.
    pub(crate) peer: (&'static str, f64),
}

impl Size {
    fn figure(&self, operation: Operation) -> Option<&Figure> {
        self.figures
            .iter()
            .find(|figure| figure.operation == operation)
    }

    /// Creates a second through the node, as a part of the peer's.
    fn ratio(&self) -> Option<f64> {
        Some(self.figure(Operation::Post)?.per_s / self.peer.1)
    }
}

/// The tables, in Markdown that is readable on a screen as well.
pub(crate) fn tables(engine: &Engine, sizes: &[Size]) -> String {
    let mut text = format!("# Storage: {}\n", engine.name());
    for size in sizes {
        // Writing to a text never fails.
        let _ = write!(text, "\n## {} users\n\n", grouped(size.users));
        if size.tenants > 0 {
            let _ = write!(text, "Beside {} other tenants.\n\n", grouped(size.tenants));
        }
        text.push_str(
            "| operation | connections | CPU us | server us | p50 us | p99 us | answers/s | writes a commit |\n\
             | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
        );
        for figure in &size.figures {
            let _ = writeln!(
                text,
                "| {} | {} | {:.1} | {} | {} | {} | {} | {} |",
                figure.operation.name(),
                figure.connections,
                figure.cpu_us,
                figure
                    .server_us
                    .map_or(String::new(), |us| format!("{us:.1}")),
                figure.p50_us,
                figure.p99_us,
                grouped(figure.per_s as u64),
                figure
                    .writes_per_commit
                    .map_or(String::new(), |rows| format!("{rows:.1}")),
            );
        }
        let _ = write!(
            text,
            "\nLoaded at {} users/s. Memory of the node: {} MiB.",
            grouped(size.loaded_per_s as u64),
            size.resident_bytes / (1024 * 1024),
        );
        let bytes = grouped(size.bytes_per_user as u64);
        let _ = write!(text, " On disk: {bytes} bytes a user.");
        let (peer, per_s) = size.peer;
        if let Some(ratio) = size.ratio() {
            let _ = write!(
                text,
                " {peer}: {} creates/s, so POST through the node is {ratio:.2} of it.",
                grouped(per_s as u64),
            );
        }
        text.push('\n');
    }
    goals(&mut text, engine, sizes);
    text
}

/// What keeping activity costs: figures of a node that does and of one that does not.
pub(crate) fn activity(users: u64, figures: &[Vec<Figure>]) -> String {
    let [kept, not_kept] = figures else {
        return String::new();
    };
    let mut text = format!("# Activity, with {} users\n\n", grouped(users));
    text.push_str("| operation | CPU us | without activity | times (goal: at most 1.1) |\n");
    text.push_str("| --- | ---: | ---: | ---: |\n");
    for (kept, not_kept) in kept.iter().zip(not_kept) {
        let _ = writeln!(
            text,
            "| {} | {:.1} | {:.1} | {:.2} |",
            kept.operation.name(),
            kept.cpu_us,
            not_kept.cpu_us,
            kept.times(not_kept)
        );
    }
    text
}

fn goals(text: &mut String, engine: &Engine, sizes: &[Size]) {
    let at = |users: u64| sizes.iter().find(|size| size.users == users);
    if let Some(size) = at(100_000) {
        text.push_str("\n## Against the goals, CPU us with 100,000 users\n\n");
        text.push_str("| operation | measured | goal |\n| --- | ---: | ---: |\n");
        for figure in &size.figures {
            if let Some(goal) = figure.operation.goal_us() {
                let name = figure.operation.name();
                let _ = writeln!(text, "| {name} | {:.1} | {goal:.0} |", figure.cpu_us);
            }
        }
        if let Some(ratio) = size.ratio() {
            let goal = if *engine == Engine::Sqlite { 0.3 } else { 0.5 };
            let _ = writeln!(
                text,
                "| POST/s, as a part of the peer's | {ratio:.2} | {goal} |"
            );
        }
    }
    if let (Some(small), Some(large)) = (at(1_000), at(1_000_000)) {
        text.push_str("\n## Growth of the CPU time from 1,000 to 1,000,000 users (goal: 1.5)\n\n");
        text.push_str("| operation | growth |\n| --- | ---: |\n");
        for figure in &large.figures {
            if let Some(before) = small.figure(figure.operation) {
                let growth = figure.times(before);
                let _ = writeln!(text, "| {} | {growth:.2} |", figure.operation.name());
            }
        }
    }
    for size in sizes {
        let figure = |operation| size.figure(operation);
        let groups = figure(Operation::SmallGroup).zip(figure(Operation::LargeGroup));
        if let Some((small, large)) = groups {
            let _ = write!(
                text,
                "\nWith {} users, adding a member to the large group costs {:.2} of what it costs \
                 in the small one (goal: at most 2).\n",
                grouped(size.users),
                large.times(small),
            );
        }
    }
}

/// Writes the tables and the plot into docs/benchmarks.
pub(crate) fn write(engine: &Engine, sizes: &[Size], circumstances: &str) {
    let name = format!("store-{}", engine.name());
    let mut text = tables(engine, sizes);
    let _ = write!(
        text,
        "\n![CPU time by number of users]({name}.svg)\n\n{circumstances}\n"
    );
    publish(&name, &text, &plot(sizes));
}

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 610.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 390.0;

/// CPU time of each operation by number of users, both axes logarithmic.
fn plot(sizes: &[Size]) -> String {
    let figures = || sizes.iter().flat_map(|size| &size.figures);
    let least_users = sizes.iter().map(|size| size.users).min().unwrap_or(1) as f64;
    let most_users = sizes.iter().map(|size| size.users).max().unwrap_or(10) as f64;
    let most_us = figures().map(|figure| figure.cpu_us).fold(10.0, f64::max);
    let decades = (1.0, most_us.log10().ceil());
    let x = |users: u64| {
        let span = (most_users / least_users).log10().max(1e-9);
        LEFT + (RIGHT - LEFT) * (users as f64 / least_users).log10() / span
    };
    let y = |us: f64| BOTTOM - (BOTTOM - TOP) * (us.log10() - decades.0) / (decades.1 - decades.0);

    let mut svg = Drawing::begin(WIDTH, HEIGHT);
    svg.text(
        (LEFT, 18.0),
        "start",
        "CPU microseconds of the node for each answer, by number of users in the tenant",
    );
    for decade in decades.0 as i32..=decades.1 as i32 {
        for step in [1.0, 2.0, 5.0] {
            let us = step * 10_f64.powi(decade);
            if us.log10() <= decades.1 {
                let at = y(us);
                svg.line(&[(LEFT, at), (RIGHT, at)], GRID, 1.0);
                svg.text((LEFT - 6.0, at + 4.0), "end", &us.to_string());
            }
        }
    }
    for size in sizes {
        let at = x(size.users);
        svg.line(&[(at, TOP), (at, BOTTOM)], GRID, 1.0);
        svg.text((at, BOTTOM + 18.0), "middle", &grouped(size.users));
    }
    let mut operations = Vec::new();
    for figure in figures() {
        if !operations.contains(&figure.operation) {
            operations.push(figure.operation);
        }
    }
    for (nth, operation) in operations.into_iter().enumerate() {
        let colour = COLOURS[nth % COLOURS.len()];
        let points: Vec<(f64, f64)> = sizes
            .iter()
            .filter_map(|size| Some((x(size.users), y(size.figure(operation)?.cpu_us))))
            .collect();
        svg.line(&points, colour, 2.0);
        for (x, y) in points {
            svg.line(&[(x - 3.0, y), (x + 3.0, y)], colour, 6.0);
        }
        let at = TOP + 16.0 + 22.0 * nth as f64;
        svg.line(&[(RIGHT + 20.0, at), (RIGHT + 38.0, at)], colour, 3.0);
        svg.text((RIGHT + 44.0, at + 4.0), "start", operation.name());
    }
    svg.end()
}
