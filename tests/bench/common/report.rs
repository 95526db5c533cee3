//! What reports have in common: how far a run is, where and of what was measured, drawings, and the
//! folder that all of it goes to.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use super::numbers::grouped;

/// Says how far something is.
pub(crate) fn progress(what: &str, done: usize, of: usize, began: Instant) {
    let seconds = began.elapsed().as_secs_f64();
    let per_s = done as f64 / seconds.max(1e-9);
    let left = (of - done) as f64 / per_s.max(1e-9);
    eprintln!(
        "{} of {} {what} ({} %), {}/s, {left:.0} s left",
        grouped(done as u64),
        grouped(of as u64),
        done * 100 / of,
        grouped(per_s as u64)
    );
}

/// Where and of what this was measured; `what` shares the machine with the load.
pub(crate) fn circumstances(what: &str, command: &str) -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("an unknown processor", |name| {
            name.trim_start_matches([' ', '\t', ':'])
        });
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let revision = Command::new("git")
        .args(["describe", "--always", "--dirty"])
        .output()
        .map_or(String::new(), |said| {
            String::from_utf8_lossy(&said.stdout).trim().to_owned()
        });
    format!(
        "Measured on {cores} cores ({model}), which {what} with the load, at revision {revision}, \
         with `{command}`."
    )
}

/// Writes a report, in Markdown and without its drawing, into docs/benchmarks.
pub(crate) fn publish(name: &str, text: &str, drawing: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/benchmarks");
    let written = fs::write(folder.join(format!("{name}.md")), text)
        .and_then(|()| fs::write(folder.join(format!("{name}.svg")), drawing));
    written.expect("docs/benchmarks can be written");
}

/// Colours that can be told apart.
pub(crate) const COLOURS: [&str; 10] = [
    "#1b6ca8", "#d1495b", "#3a7d44", "#8a5a99", "#c77d0a", "#00798c", "#7a4419", "#444444",
    "#b5179e", "#5f7d00",
];
/// The colour of what helps to read a figure.
pub(crate) const GRID: &str = "#ddd";

/// A drawing, in SVG.
pub(crate) struct Drawing(String);

impl Drawing {
    pub(crate) fn begin(width: f64, height: f64) -> Self {
        Self(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        ))
    }

    /// `anchor` is the point of the text that stands at `x`: `start`, `middle` or `end`.
    pub(crate) fn text(&mut self, (x, y): (f64, f64), anchor: &str, text: &str) {
        // Writing to a text never fails.
        let _ = writeln!(
            self.0,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
        );
    }

    /// A line along the points.
    pub(crate) fn line(&mut self, points: &[(f64, f64)], colour: &str, width: f64) {
        let points: Vec<String> = points
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        let _ = writeln!(
            self.0,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\"/>",
            points.join(" "),
        );
    }

    pub(crate) fn end(mut self) -> String {
        self.0.push_str("</svg>\n");
        self.0
    }
}
