//! `meridian-region-node [FILE]`: reads the settings, starts, serves until it is told to stop.
//! `--health` asks one that runs with these settings whether it can serve.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use region_node::config::Settings;
use region_node::startup::Application;
use shared::program::{Asked, look_at};
use shared::{SystemClock, log};
use tokio::signal::unix::{SignalKind, signal};

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
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let _hangup = signal(SignalKind::hangup())?;
    let file = match Asked::read("meridian-region-node", std::env::args_os().skip(1))? {
        Asked::Serve(file) => file,
        Asked::Health(file) => {
            return Ok(look_at(Settings::load(file.as_deref())?.management_listen)?);
        }
        Asked::Version => {
            let version = env!("CARGO_PKG_VERSION");
            return Ok(writeln!(
                std::io::stdout(),
                "meridian-region-node {version}"
            )?);
        }
    };
    let settings = Settings::load(file.as_deref())?;
    let _log = log::init(settings.telemetry.level, settings.telemetry.format)?;
    let application = Application::build(settings, Arc::new(SystemClock)).await?;
    let stop = async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tracing::info!("stopping");
    };
    application.run_until_stopped(stop).await?;
    Ok(())
}

/// Says why the program ends, with every cause, where its starter will see it.
fn complain(error: &dyn std::error::Error) {
    let mut text = format!("meridian-region-node: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    // If standard error is closed there is nobody to tell.
    let _unheard = writeln!(std::io::stderr(), "{text}");
}
