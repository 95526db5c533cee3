//! Figures as pictures that are drawn here: SVG, with the same figures as a table for whoever does
//! not see them.

use maud::{Markup, html};

use super::layout::{cell, table};

/// Width and height of a picture, in its own units.
const WIDTH: u32 = 720;
const HEIGHT: u32 = 190;
/// Room at the left for the scale, and below for the names of the columns.
const LEFT: u32 = 46;
const BELOW: u32 = 24;
const ABOVE: u32 = 8;

/// One column of a picture of requests.
#[derive(Clone, Debug)]
pub struct Column {
    /// What it is called in the table.
    pub name: String,
    /// What stands below it, if anything.
    pub label: Option<String>,
    /// Requests that went well.
    pub good: u64,
    /// Requests that failed.
    pub failed: u64,
    /// How long half of them took at most, in microseconds.
    pub half_us: Option<u64>,
    /// How long 95 of 100 took at most, in microseconds.
    pub most_us: Option<u64>,
}

/// Requests over time, those that failed on top.
#[must_use]
pub fn requests(caption: &str, columns: &[Column]) -> Markup {
    let tallest = columns
        .iter()
        .map(|column| column.good + column.failed)
        .max();
    let scale = Scale::upto(tallest.unwrap_or(0), columns.len());
    let rows: Vec<Vec<Markup>> = columns
        .iter()
        .map(|column| {
            let all = (column.good + column.failed).to_string();
            vec![
                cell(&column.name),
                cell(&all),
                cell(&column.failed.to_string()),
            ]
        })
        .collect();
    let total: u64 = columns
        .iter()
        .map(|column| column.good + column.failed)
        .sum();
    let failed: u64 = columns.iter().map(|column| column.failed).sum();
    let said = format!("{caption}: {total} requests, of which {failed} failed.");
    let picture = html! {
        (scale.axis(&|value| value.to_string()))
        @for (at, column) in columns.iter().enumerate() {
            @let (x, width) = scale.place(at);
            @let (good, failed) = (scale.height(column.good), scale.height(column.failed));
            @let bottom = HEIGHT - BELOW;
            @if column.good > 0 {
                rect.ok x=(x) y=(bottom.saturating_sub(good)) width=(width) height=(good) rx="2" {}
            }
            @if column.failed > 0 {
                rect.errors x=(x) y=(bottom.saturating_sub(good + failed)) width=(width) height=(failed) rx="2" {}
            }
            (scale.name(at, column))
        }
    };
    figure(
        caption,
        &html! { ul.legend { li { "Went well" } li.errors { "Failed" } } },
        &said,
        &picture,
        &table(caption, &["From", "Requests", "Failed"], &rows),
    )
}

/// How long requests took.
#[must_use]
pub fn latency(caption: &str, columns: &[Column]) -> Markup {
    let longest = columns.iter().filter_map(|column| column.most_us).max();
    let scale = Scale::upto(longest.unwrap_or(0), columns.len());
    let rows: Vec<Vec<Markup>> = columns
        .iter()
        .filter(|column| column.half_us.is_some())
        .map(|column| {
            let shown = |us: Option<u64>| cell(&us.map(duration).unwrap_or_default());
            vec![
                cell(&column.name),
                shown(column.half_us),
                shown(column.most_us),
            ]
        })
        .collect();
    let said = format!(
        "{caption}: 95 of 100 requests took {} at most, in the slowest hour.",
        duration(longest.unwrap_or(0))
    );
    let half: Vec<Option<u64>> = columns.iter().map(|column| column.half_us).collect();
    let most: Vec<Option<u64>> = columns.iter().map(|column| column.most_us).collect();
    let picture = html! {
        (scale.axis(&duration))
        @for run in scale.runs(&most) { polyline.line.slow points=(run.0) {} @if run.1 { (run.2) } }
        @for run in scale.runs(&half) { polyline.line points=(run.0) {} @if run.1 { (run.2) } }
        @for (at, column) in columns.iter().enumerate() { (scale.name(at, column)) }
    };
    figure(
        caption,
        &html! { ul.legend { li.line { "Half took at most" } li.slow { "95 of 100 took at most" } } },
        &said,
        &picture,
        &table(caption, &["From", "Half", "95 of 100"], &rows),
    )
}

/// Microseconds for a reader.
#[must_use]
pub fn duration(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..10_000 => format!("{}.{} ms", us / 1_000, us % 1_000 / 100),
        10_000..1_000_000 => format!("{} ms", us / 1_000),
        _ => format!("{}.{} s", us / 1_000_000, us % 1_000_000 / 100_000),
    }
}

fn figure(
    caption: &str,
    legend: &Markup,
    said: &str,
    picture: &Markup,
    figures: &Markup,
) -> Markup {
    html! {
        figure.chart.card {
            figcaption { span { (caption) } (legend) }
            svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label=(said) { (picture) }
            details.more { summary { "As a table" } (figures) }
        }
    }
}

/// From figures to places in the picture.
struct Scale {
    top: u64,
    columns: usize,
}

impl Scale {
    /// A scale whose top is a round number.
    fn upto(tallest: u64, columns: usize) -> Self {
        let mut step: u64 = 1;
        let tops = std::iter::from_fn(|| {
            let now = step;
            step = step.saturating_mul(10);
            Some([now, now.saturating_mul(2), now.saturating_mul(5)])
        });
        let top = tops.take(20).flatten().find(|top| *top >= tallest);
        Self {
            top: top.unwrap_or(tallest).max(2),
            columns: columns.max(1),
        }
    }

    /// The x and the width of a column.
    fn place(&self, at: usize) -> (usize, usize) {
        let room = (WIDTH - LEFT) as usize / self.columns;
        let gap = (room / 4).max(1);
        (LEFT as usize + at * room + gap / 2, room - gap)
    }

    fn height(&self, value: u64) -> u32 {
        let room = u64::from(HEIGHT - BELOW - ABOVE);
        let height = value.saturating_mul(room) / self.top;
        // What is there is to be seen.
        u32::try_from(height)
            .unwrap_or(0)
            .max(u32::from(value > 0) * 2)
    }

    fn axis(&self, shown: &dyn Fn(u64) -> String) -> Markup {
        let bottom = HEIGHT - BELOW;
        html! {
            @for value in [0, self.top / 2, self.top] {
                @let y = bottom.saturating_sub(self.height(value));
                line.axis x1=(LEFT) x2=(WIDTH) y1=(y) y2=(y) {}
                text x=(LEFT - 8) y=(y + 4) text-anchor="end" { (shown(value)) }
            }
        }
    }

    fn name(&self, at: usize, column: &Column) -> Markup {
        let (x, width) = self.place(at);
        html! {
            @if let Some(label) = &column.label {
                text.below x=(x + width / 2) y=(HEIGHT - 6) text-anchor="middle" { (label) }
            }
        }
    }

    /// Lines through those that have a figure: their points, and whether it is one point alone, with
    /// a dot for it.
    fn runs(&self, values: &[Option<u64>]) -> Vec<(String, bool, Markup)> {
        let point = |at: usize, value: u64| {
            let (x, width) = self.place(at);
            (
                x + width / 2,
                (HEIGHT - BELOW).saturating_sub(self.height(value)),
            )
        };
        let points: Vec<Option<(usize, u32)>> = values
            .iter()
            .enumerate()
            .map(|(at, value)| value.map(|value| point(at, value)))
            .collect();
        points
            .split(Option::is_none)
            .filter(|run| !run.is_empty())
            .map(|run| {
                let run: Vec<(usize, u32)> = run.iter().copied().flatten().collect();
                let text: Vec<String> = run.iter().map(|(x, y)| format!("{x},{y}")).collect();
                let dot = run.first().map_or_else(
                    || html! {},
                    |(x, y)| html! { circle.dot cx=(x) cy=(y) r="3" {} },
                );
                (text.join(" "), run.len() == 1, dot)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_ends_at_a_round_number_above_all() {
        for (tallest, top) in [
            (0, 2),
            (1, 2),
            (2, 2),
            (3, 5),
            (7, 10),
            (11, 20),
            (999, 1000),
        ] {
            assert_eq!(Scale::upto(tallest, 24).top, top, "{tallest}");
        }
        assert!(Scale::upto(u64::MAX, 0).top >= u64::MAX / 10);
    }

    #[test]
    fn durations_are_for_readers() {
        for (us, shown) in [
            (0, "0 µs"),
            (999, "999 µs"),
            (1_234, "1.2 ms"),
            (12_345, "12 ms"),
            (1_234_567, "1.2 s"),
        ] {
            assert_eq!(duration(us), shown);
        }
    }
}
