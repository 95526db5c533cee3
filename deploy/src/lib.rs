//! What an operator touches: the `meridian` command.
//!
//! `meridian up` runs a gateway and its region-nodes in one process over loopback HTTP, by the
//! same contract as separate machines would. The other commands speak to the operator API of
//! region-nodes, wherever those run. What never lives here: anything a provisioning client can
//! reach, and any knowledge of SCIM.

use std::ffi::OsString;
use std::process::ExitCode;

pub mod arguments;
pub mod commands;
#[cfg(test)]
mod documents;
pub mod duration;
pub mod error;
pub mod files;
pub mod findings;
pub mod keys;
pub mod local_state;
pub mod operator_api;
pub mod output;
#[cfg(test)]
mod settings_documents;
pub mod up;

use arguments::{Arguments, Command};
use error::CommandError;
use output::Output;

/// Exit code of a command that could not be understood, as is the custom.
const USAGE: u8 = 2;

/// Runs one command, from its arguments (the program's name first) to its exit code: 0 when it
/// did what was asked, 1 when it did not, 2 when it was not understood.
#[must_use]
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let parsed = match Arguments::read(arguments.iter().cloned()) {
        Ok(parsed) => parsed,
        Err(misunderstanding) => return explain(&misunderstanding, &arguments),
    };
    let output = Output::new(parsed.json);
    // One thread is enough for the commands; the servers of `up` bring their own workers.
    let outcome = actix_web::rt::System::new().block_on(dispatch(parsed, output));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output.error(&error);
            ExitCode::FAILURE
        }
    }
}

async fn dispatch(arguments: Arguments, output: Output) -> Result<(), CommandError> {
    let data_dir = &arguments.data_dir;
    match arguments.command.unwrap_or_default() {
        Command::Up(up) => Ok(up::run(&up, data_dir, output).await?),
        Command::Tenant(tenant) => commands::tenant::run(tenant, data_dir, output).await,
        Command::Token(token) => commands::token::run(token, data_dir, output).await,
        Command::Audit(audit) => commands::audit::run(audit, data_dir, output).await,
        Command::Backup(backup) => commands::backup::backup(backup, data_dir, output).await,
        Command::Restore(restore) => commands::backup::restore(restore, data_dir, output).await,
        Command::Config(config) => commands::config::run(&config, output),
        Command::Doctor(doctor) => commands::doctor::run(&doctor, data_dir, output).await,
    }
}

/// Shows clap's help, version or complaint where it belongs.
fn explain(misunderstanding: &clap::Error, arguments: &[OsString]) -> ExitCode {
    let is_complaint = misunderstanding.use_stderr();
    if is_complaint && arguments.iter().any(|argument| argument == "--json") {
        Output::new(true).complaint(&misunderstanding.render().to_string());
    } else if misunderstanding.print().is_err() {
        return ExitCode::FAILURE;
    }
    if is_complaint {
        ExitCode::from(USAGE)
    } else {
        ExitCode::SUCCESS
    }
}
