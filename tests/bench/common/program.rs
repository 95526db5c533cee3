//! Programs that a benchmark starts, and ends.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};

/// A program that runs until it is stopped, or until this is dropped.
pub(crate) struct Program(Child);

impl Program {
    pub(crate) fn start(command: &mut Command) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let started = command.spawn();
        Self(started.unwrap_or_else(|error| panic!("{name}: {error}; tests/bench/run has it made")))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// What was piped of it can be taken here.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    /// Asks the program to stop and waits until it has.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        // Not by `kill`, which its children would outlive.
        let told = Command::new("kill").arg(self.pid().to_string()).status();
        assert!(told.is_ok_and(|status| status.success()));
        self.0.wait().expect("a child of ours")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            self.stop();
        }
    }
}

/// A program of ours that was built beside this one.
pub(crate) fn beside(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a program has a path");
    let folder = own
        .parent()
        .and_then(Path::parent)
        .expect("target/release/deps");
    folder.join(name)
}
