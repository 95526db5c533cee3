//! What both programs count, how they trace a request, and how both leave for a collector.
//!
//! [`metrics`] counts without a lock or an allocation, and takes a [`Snapshot`] when somebody asks;
//! [`prometheus`] and [`otlp`] write the same snapshot in two forms. [`trace`] decides first
//! whether a request is traced, and only then makes spans. What stands beside a figure or in a span
//! is a [`Label`], which cannot be made of what a request says. What never lives here: which
//! metrics and spans there are (each program's `metrics` and `telemetry`), and the log
//! (`shared::log`).

pub mod export;
pub mod label;
pub mod metrics;
pub mod otlp;
pub mod process;
pub mod prometheus;
pub mod requests;
pub mod tenants;
pub mod trace;
pub mod words;

pub use export::{Export, ExportError, ExportSettings};
pub use label::Label;
pub use metrics::{
    Bounds, Counter, Histogram, HistogramTotal, Metric, MetricKind, Sharded, ShardedCounter,
    Snapshot, Unit, Value,
};
pub use requests::{Requests, method_name};
pub use tenants::TopTenants;
pub use trace::{Parent, Part, Trace, TraceText, Tracing};
pub use words::Words;
