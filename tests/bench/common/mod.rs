//! What the benchmarks have in common: a lean client, runs of calls over many connections, CPU time
//! of processes, programs that are started and ended, and the folder that reports go to.
//!
//! What never lives here: what one benchmark alone measures or says.

pub(crate) mod client;
pub(crate) mod cpu;
pub(crate) mod drive;
pub(crate) mod numbers;
pub(crate) mod program;
pub(crate) mod report;
