//! What a command can fail with. Each sentence names the setting and the way out.

use std::io;
use std::path::PathBuf;

use region_node::provider::backup::BackupFileError;
use shared::RegionId;
use shared::settings::SettingsError;

use crate::local_state::LocalStateError;
use crate::operator_api::OperatorApiError;
use crate::up::UpError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// `meridian up` could not start, or ended badly.
    #[error(transparent)]
    Up(#[from] UpError),
    /// The running `meridian up` was not found.
    #[error(transparent)]
    LocalState(#[from] LocalStateError),
    /// A region-node refused or did not answer.
    #[error(transparent)]
    OperatorApi(#[from] OperatorApiError),
    /// The file of `--deployment` cannot be used.
    #[error("{0} (--deployment)")]
    Deployment(SettingsError),
    /// The key file of `--operator-key` cannot be used.
    #[error("cannot read the operator key {} (--operator-key)", path.display())]
    OperatorKey {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// `tenant create` with several regions to choose from.
    #[error("say in which region: --region {}", choices(.0))]
    RegionNeeded(Vec<RegionId>),
    /// A region that is not running.
    #[error("region {region} is not running here; there is {}", choices(.running))]
    RegionUnknown {
        /// The region that was asked for.
        region: RegionId,
        /// The regions that there are.
        running: Vec<RegionId>,
    },
    /// The node at `--endpoint` is not of the region of `--region`.
    #[error(
        "the region-node at {node} is of region {found}, and --region says {asked}: correct one of \
         them; nothing was done"
    )]
    OtherRegion {
        /// The node's address.
        node: String,
        /// The node's region.
        found: RegionId,
        /// The region that was asked for.
        asked: RegionId,
    },
    /// No region knows the id.
    #[error("no {what} with this id in {}", choices(.searched))]
    NotFound {
        /// `tenant` or `token`.
        what: &'static str,
        /// The regions that were asked.
        searched: Vec<RegionId>,
    },
    /// A file cannot be read or written.
    #[error("cannot {what} {}", path.display())]
    File {
        /// `read` or `write`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A backup is not right, and was not used.
    #[error("{}: {source}", path.display())]
    Backup {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: BackupFileError,
    },
    /// Standard output cannot be written.
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
    /// The command has shown its result, and the result is bad news.
    #[error("see above")]
    AlreadyTold,
}

/// Regions as a choice: `us, de or jp`; `the endpoint` when their names are not known.
fn choices(regions: &[RegionId]) -> String {
    match regions.split_last() {
        None => "the region at --endpoint".to_owned(),
        Some((only, [])) => only.to_string(),
        Some((last, others)) => {
            let others: Vec<&str> = others.iter().map(RegionId::as_str).collect();
            format!("{} or {last}", others.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_read_like_a_sentence() {
        let region = |name| RegionId::parse(name).unwrap();
        assert_eq!(choices(&[region("us")]), "us");
        assert_eq!(
            choices(&[region("us"), region("de"), region("jp")]),
            "us, de or jp"
        );
    }
}
