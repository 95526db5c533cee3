//! A [`Snapshot`] in Prometheus' text format, version 0.0.4.

use std::fmt::Write as _;

use crate::label::Label;
use crate::metrics::{Family, Snapshot, Value};

/// The media type.
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Writes all figures.
#[must_use]
pub fn text(snapshot: &Snapshot) -> String {
    let mut text = String::with_capacity(16 * 1024);
    for family in snapshot.families() {
        write_family(&mut text, family);
    }
    text
}

fn write_family(text: &mut String, family: &Family) {
    let metric = family.metric;
    let name = metric.prometheus_name();
    // Writing to a string cannot fail.
    let _written = writeln!(text, "# HELP {name} {}", metric.help);
    let _written = writeln!(text, "# TYPE {name} {}", metric.kind.as_str());
    for (labels, value) in &family.points {
        let labels = label_pairs(metric.labels, labels);
        match value {
            Value::Number(number) => write_line(text, &name, "", &labels, None, *number),
            Value::Histogram(total) => {
                let mut below = 0;
                let ends = total.ends().map(|end| end.to_string());
                let ends = ends.chain(std::iter::once("+Inf".to_owned()));
                for (end, count) in ends.zip(&total.counts) {
                    below += count;
                    write_line(text, &name, "_bucket", &labels, Some(&end), below);
                }
                let sum = total.sum_in_units();
                write_line(text, &name, "_sum", &labels, None, sum);
                write_line(text, &name, "_count", &labels, None, below);
            }
        }
    }
}

fn label_pairs(names: &[&str], labels: &[Label]) -> String {
    let pairs = names.iter().zip(labels).map(|(name, label)| {
        let (name, value) = (name.replace('.', "_"), label.text());
        format!("{name}=\"{}\"", escaped(&value))
    });
    pairs.collect::<Vec<_>>().join(",")
}

/// Nothing that a label can be has one of these; whoever adds such a thing shall break no page.
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

fn write_line(
    text: &mut String,
    name: &str,
    suffix: &str,
    labels: &str,
    end: Option<&str>,
    value: impl std::fmt::Display,
) {
    let comma = if labels.is_empty() { "" } else { "," };
    let _written = match (labels, end) {
        (_, Some(end)) => writeln!(
            text,
            "{name}{suffix}{{{labels}{comma}le=\"{end}\"}} {value}"
        ),
        ("", None) => writeln!(text, "{name}{suffix} {value}"),
        (_, None) => writeln!(text, "{name}{suffix}{{{labels}}} {value}"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Histogram, Metric, SIZES, Unit};

    #[test]
    fn the_text_is_what_prometheus_reads() {
        static COMMITS: Metric = Metric::histogram(
            "meridian.store.commit.size",
            Unit::Of("{write}"),
            "Writes in a commit.",
            &["region"],
        );
        static UP: Metric = Metric::gauge("meridian.store.up", Unit::Of("1"), "Whether.", &[]);
        let histogram = Histogram::new(&SIZES);
        histogram.record(2);
        histogram.record(1000);
        let mut snapshot = Snapshot::default();
        snapshot.add(&COMMITS, [Label::word("us")], &histogram);
        snapshot.add(&UP, [], true);
        let text = text(&snapshot);
        let expected = [
            "# HELP meridian_store_commit_size Writes in a commit.",
            "# TYPE meridian_store_commit_size histogram",
            "meridian_store_commit_size_bucket{region=\"us\",le=\"1\"} 0",
            "meridian_store_commit_size_bucket{region=\"us\",le=\"2\"} 1",
            "meridian_store_commit_size_bucket{region=\"us\",le=\"+Inf\"} 2",
            "meridian_store_commit_size_sum{region=\"us\"} 1002",
            "meridian_store_commit_size_count{region=\"us\"} 2",
            "meridian_store_up 1",
        ];
        for line in expected {
            assert!(text.lines().any(|it| it == line), "{line} in {text}");
        }
    }
}
