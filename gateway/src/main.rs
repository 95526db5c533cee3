//! `meridian-gateway [FILE]`: reads the settings, starts, and runs until it is told to stop.
//! `--health` asks one that runs with these settings whether it can serve.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use gateway::config::Settings;
use gateway::startup::Application;
use shared::program::{Asked, look_at};
use shared::{SystemClock, log};
use tokio::signal::unix::{SignalKind, signal};

/// glibc's allocator keeps what a burst of bodies took; this one gives it back and is faster.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&*error);
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    // Before anything is started, so that no signal finds nobody listening. SIGHUP asks for files to
    // be read again, where there are any, and never ends the program.
    let (mut interrupt, mut terminate, _hangup) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
        signal(SignalKind::hangup())?,
    );
    let file = match Asked::read("meridian-gateway", std::env::args_os().skip(1))? {
        Asked::Serve(file) => file,
        Asked::Health(file) => {
            return Ok(look_at(Settings::load(file.as_deref())?.management_listen)?);
        }
        Asked::Version => {
            let version = env!("CARGO_PKG_VERSION");
            return Ok(writeln!(std::io::stdout(), "meridian-gateway {version}")?);
        }
    };
    let settings = Settings::load(file.as_deref())?;
    let _log = log::init(settings.telemetry.level, settings.telemetry.format)?;
    let application = Application::build(settings, Arc::new(SystemClock)).await?;
    tracing::info!(
        listen = %application.address(),
        management = %application.management_address(),
        "the gateway listens on {}",
        application.address()
    );
    application
        .run_until_stopped(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        })
        .await?;
    Ok(())
}

/// Before there is a log, and so that an operator at a terminal sees it.
#[expect(clippy::print_stderr, reason = "the program ends with this sentence")]
fn complain(error: &dyn std::error::Error) {
    eprint!("meridian-gateway: {error}");
    let mut next = error.source();
    while let Some(cause) = next {
        eprint!(": {cause}");
        next = cause.source();
    }
    eprintln!();
}
