//! [`Changes`]: tells when the operator has changed a file that this program reads, or asks by
//! SIGHUP to read them again. What is read, and what happens to it, is its owner's matter.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use shared::file_watch::FileWatch;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Interval, MissedTickBehavior, interval};

/// From one look at the files to the next.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Changes of some files.
#[derive(Debug)]
pub struct Changes {
    files: FileWatch,
    ticks: Interval,
    hangups: Signal,
}

impl Changes {
    /// Changes of these files from now on.
    ///
    /// # Errors
    /// When the operating system gives no signals.
    pub fn of(files: Vec<PathBuf>) -> io::Result<Self> {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            files: FileWatch::of(files),
            ticks,
            hangups: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next change, or for SIGHUP.
    pub async fn next(&mut self) {
        loop {
            let asked = tokio::select! {
                _ = self.hangups.recv() => true,
                _ = self.ticks.tick() => false,
            };
            if self.files.has_changed() || asked {
                return;
            }
        }
    }
}
