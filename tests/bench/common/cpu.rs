//! CPU time of other processes, from the kernel's files.

use std::collections::HashMap;
use std::fs;

/// CPU time of threads, user and system, in nanoseconds, by the thread's number.
pub(crate) type Threads = HashMap<String, u64>;

/// What each thread of a process has used. `stat` would tell the same in steps of 10 ms.
pub(crate) fn threads(pid: u32) -> Threads {
    // One that has ended in the meantime has none.
    let threads = fs::read_dir(format!("/proc/{pid}/task"));
    let of = |thread: fs::DirEntry| {
        let schedule = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        let on_cpu = schedule.split(' ').next()?.parse().ok()?;
        Some((thread.file_name().to_string_lossy().into_owned(), on_cpu))
    };
    let threads = threads.into_iter().flatten();
    threads.filter_map(|thread| of(thread.ok()?)).collect()
}

/// The same of a process and its children.
pub(crate) fn family(pid: u32) -> Threads {
    let all = fs::read_dir("/proc").expect("/proc").flatten();
    let numbers = all.filter_map(|one| one.file_name().to_str()?.parse::<u32>().ok());
    let family = numbers.filter(|one| *one == pid || parent(*one) == Some(pid));
    family.flat_map(threads).collect()
}

/// CPU microseconds since an earlier moment. What a thread used that has ended since is lost.
pub(crate) fn us_since(now: &Threads, before: &Threads) -> f64 {
    let spent = now
        .iter()
        .map(|(one, ns)| ns.saturating_sub(before.get(one).copied().unwrap_or(0)));
    spent.sum::<u64>() as f64 / 1000.0
}

pub(crate) fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    line.trim().parse().ok()
}
