//! The log of both programs: how much is said, in which form, and whose fault it was.
//!
//! What a line may say of a request is each program's own matter, in its `telemetry`. Libraries,
//! whose lines could hold headers, URLs and values, never write below `warn`, whatever the level is.

mod json;
mod lines;

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use self::json::JsonLine;
use self::lines::Lines;
pub use self::lines::LinesGuard;

/// What the names of our crates begin with: the only ones that may say more than warnings.
const OURS: [&str; 5] = ["gateway", "region_node", "shared", "deploy", "meridian"];

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The process has one already.
    #[error("the process has a log already")]
    Taken(#[from] TryInitError),
    /// The system gives no thread for it.
    #[error("the log cannot be written")]
    Thread(#[from] std::io::Error),
}

/// Sends log lines to standard error, and makes panics tell where they were and not what with.
/// The last lines are written when the guard is dropped. When nobody reads standard error, lines are
/// lost rather than waited for, and counted.
///
/// # Errors
/// When the process has a log already, or cannot have one.
pub fn init(level: LogLevel, format: LogFormat) -> Result<LinesGuard, LogError> {
    let lost_line = match format {
        LogFormat::Json => json::lost_line,
        LogFormat::Text => lost_line,
    };
    let (lines, guard) = Lines::start(std::io::stderr(), lost_line)?;
    let lines = tracing_subscriber::fmt::layer().with_writer(lines);
    let lines = match format {
        LogFormat::Json => lines.event_format(JsonLine).boxed(),
        LogFormat::Text => lines.boxed(),
    };
    // One filter before everything costs an event less than one for each layer.
    tracing_subscriber::registry()
        .with(filter(level))
        .with(lines)
        .try_init()?;
    std::panic::set_hook(Box::new(|panic| {
        // The message of a panic may quote what it was working on; its place never does.
        let place = panic.location().map(ToString::to_string);
        tracing::error!(place, "a panic: please report it with this line");
    }));
    Ok(guard)
}

/// As [`json::lost_line`], for a terminal.
fn lost_line(lost: u64) -> String {
    let mut line = String::new();
    // Without the time the line says what it has to.
    let _untimed = SystemTime.format_time(&mut Writer::new(&mut line));
    format!("{line}  WARN {LOST_TARGET}: {lost} lines were lost\n")
}

/// Where the line about lost lines says that it comes from.
const LOST_TARGET: &str = "shared::log";

/// Who may log what at a level.
#[must_use]
pub fn filter(level: LogLevel) -> Targets {
    let ours = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    Targets::new()
        .with_default(LevelFilter::WARN.min(ours))
        // Complains about every malformed request; our own line tells as much.
        .with_target("actix_http", LevelFilter::OFF)
        .with_targets(OURS.map(|name| (name, ours)))
}

/// How much is logged. Each level adds to the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What needs a person.
    Error,
    /// What may need one.
    Warn,
    /// One line for each request.
    Info,
    /// The steps of a request.
    Debug,
    /// Everything else that is ours.
    Trace,
}

impl LogLevel {
    /// All of them, the quietest first.
    pub const ALL: [Self; 5] = [
        Self::Error,
        Self::Warn,
        Self::Info,
        Self::Debug,
        Self::Trace,
    ];

    /// The name in settings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no log level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a log level is error, warn, info, debug or trace")]
pub struct LogLevelError;

impl FromStr for LogLevel {
    type Err = LogLevelError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|level| level.as_str() == text)
            .ok_or(LogLevelError)
    }
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For a terminal.
    Text,
}

/// Who has to act upon a failure: for logs, metrics and alarms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Who called.
    Client,
    /// Nobody: a limit did its work.
    Quota,
    /// What the program stands on: a region for the gateway, the store for a node.
    Upstream,
    /// The program.
    Us,
}

impl Fault {
    /// The name in log lines.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Quota => "quota",
            Self::Upstream => "upstream",
            Self::Us => "us",
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn libraries_never_write_below_warnings() {
        let filter = filter(LogLevel::Trace);
        for library in [
            "reqwest",
            "hyper_util::client",
            "actix_web",
            "actix_server",
            "h2",
            "moka",
            "rustls",
            "tokio_postgres",
        ] {
            assert!(!filter.would_enable(library, &Level::INFO), "{library}");
            assert!(!filter.would_enable(library, &Level::TRACE), "{library}");
            assert!(filter.would_enable(library, &Level::WARN), "{library}");
        }
        assert!(!filter.would_enable("actix_http::h1::dispatcher", &Level::ERROR));
        assert!(filter.would_enable("gateway::resolver", &Level::TRACE));
        assert!(filter.would_enable("region_node::store", &Level::TRACE));
    }
}
