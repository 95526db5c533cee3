//! The figures of the process itself, from `/proc`, under the names that Prometheus' own clients use.

use std::fs;

use crate::metrics::{Metric, Snapshot, Unit};

/// Seconds of processor time.
pub static CPU: Metric = Metric::counter(
    "process.cpu",
    Unit::Seconds,
    "Processor time that the process has used, user and system.",
    &[],
);
/// Memory.
pub static MEMORY: Metric = Metric::gauge(
    "process.resident_memory",
    Unit::Bytes,
    "Memory of the process that is resident.",
    &[],
);
/// Open files.
pub static FILES: Metric = Metric::gauge(
    "process.open_fds",
    Unit::Of("{count}"),
    "Files and sockets that the process has open.",
    &[],
);
/// How many files may be open.
pub static FILES_LIMIT: Metric = Metric::gauge(
    "process.max_fds",
    Unit::Of("{count}"),
    "Files and sockets that the process may have open.",
    &[],
);
/// Threads.
pub static THREADS: Metric = Metric::gauge(
    "process.threads",
    Unit::Of("{thread}"),
    "Threads of the process.",
    &[],
);

/// All that are here.
pub static METRICS: [&Metric; 5] = [&CPU, &MEMORY, &FILES, &FILES_LIMIT, &THREADS];

/// Ticks of processor time in a second; Linux says so to all programs, whatever its own clock does.
const TICKS_PER_S: f64 = 100.0;

/// Adds what the system says of this process. What it does not say is left out.
pub fn observe(snapshot: &mut Snapshot) {
    if let Some((ticks, threads)) = fs::read_to_string("/proc/self/stat")
        .ok()
        .as_deref()
        .and_then(read_stat)
    {
        snapshot.add(&CPU, [], ticks / TICKS_PER_S);
        snapshot.add(&THREADS, [], threads);
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(kib) = number_after(&status, "VmRSS:") {
        snapshot.add(&MEMORY, [], kib * 1024);
    }
    if let Ok(files) = fs::read_dir("/proc/self/fd") {
        snapshot.add(&FILES, [], files.count());
    }
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    if let Some(limit) = number_after(&limits, "Max open files") {
        snapshot.add(&FILES_LIMIT, [], limit);
    }
}

/// Ticks of processor time, and threads, of `/proc/self/stat` (proc(5)).
fn read_stat(stat: &str) -> Option<(f64, u64)> {
    // The name of the program may hold anything; it ends with the last bracket.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let user: f64 = fields.nth(11)?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    let threads = fields.nth(4)?.parse().ok()?;
    Some((user + system, threads))
}

fn number_after(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen() {
        let mut snapshot = Snapshot::default();
        observe(&mut snapshot);
        let seen = snapshot.families().iter().map(|family| family.metric.name);
        assert_eq!(seen.count(), METRICS.len());
    }

    #[test]
    fn a_programs_name_does_not_confuse() {
        let stat =
            "7 (a) b (c) R 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 9 0 12345 1000000 500";
        assert_eq!(read_stat(stat), Some((300.0, 9)));
    }
}
