//! [`Findings`]: what a command that looks at things has to say of each of them, in a sentence, with
//! the way out where something is wrong.

use std::path::Path;

use serde::Serialize;
use serde_json::json;
use shared::Timestamp;
use shared::tls::EXPIRY_NOTICE;

use crate::error::CommandError;
use crate::output::Output;

/// How one thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Note,
    /// It will be wrong, or is in a part that nobody needs.
    Warning,
    /// Wrong: the command ends with an error.
    Failed,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
struct Finding {
    check: String,
    status: Status,
    detail: String,
}

/// What was found so far.
#[derive(Debug, Default)]
pub struct Findings(Vec<Finding>);

impl Findings {
    /// Adds what a look at one thing has shown.
    pub fn note(&mut self, status: Status, check: impl Into<String>, detail: impl Into<String>) {
        self.0.push(Finding {
            check: check.into(),
            status,
            detail: detail.into(),
        });
    }

    /// Adds how long a certificate is still good.
    pub fn note_certificate(
        &mut self,
        check: impl Into<String>,
        what: &str,
        ends: Timestamp,
        now: Timestamp,
    ) {
        let days = ends.since(now).as_secs() / (24 * 60 * 60);
        let (status, detail) = if now > ends {
            let detail = format!("{what} has ended: exchange the files, no restart is needed");
            (Status::Failed, detail)
        } else if now.after(EXPIRY_NOTICE) > ends {
            let detail = format!("{what} ends in {days} days: exchange the files");
            (Status::Warning, detail)
        } else {
            (Status::Ok, format!("{what} is good for {days} days"))
        };
        self.note(status, check, detail);
    }

    /// Adds a warning if others than its owner and group can read a file with a secret.
    pub fn note_secret_file(&mut self, check: impl Into<String>, path: &Path) {
        use std::os::unix::fs::PermissionsExt as _;
        let Ok(metadata) = std::fs::metadata(path) else {
            return;
        };
        if metadata.permissions().mode() & 0o007 != 0 {
            let detail = format!("everybody can read {0}: chmod o= {0}", path.display());
            self.note(Status::Warning, check, detail);
        }
    }

    /// Adds what others have found.
    pub fn append(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// Whether something is so.
    #[must_use]
    pub fn has(&self, status: Status) -> bool {
        self.0.iter().any(|finding| finding.status == status)
    }

    /// Says all of it.
    ///
    /// # Errors
    /// When something is wrong, after it was said; or when it cannot be said.
    pub fn tell(&self, output: Output) -> Result<(), CommandError> {
        let well = !self.has(Status::Failed);
        let lines = self.0.iter().map(|finding| {
            let mark = match finding.status {
                Status::Ok => "ok      ",
                Status::Note => "note    ",
                Status::Warning => "warning ",
                Status::Failed => "FAILED  ",
            };
            format!("{mark} {}: {}\n", finding.check, finding.detail)
        });
        let text: String = lines.collect();
        output.result(&json!({ "ok": well, "checks": self.0 }), &text)?;
        if well {
            Ok(())
        } else {
            Err(CommandError::AlreadyTold)
        }
    }

    #[cfg(test)]
    pub(crate) fn details(&self) -> Vec<(Status, String)> {
        let findings = self.0.iter();
        findings
            .map(|one| (one.status, one.detail.clone()))
            .collect()
    }
}
