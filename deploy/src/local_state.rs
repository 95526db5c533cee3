//! `<data-dir>/local.json`: how the other commands find the running `meridian up`; and the lock
//! that lets only one run in a data directory.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use shared::RegionId;

use crate::keys;

const FILE_NAME: &str = "local.json";
const LOCK_NAME: &str = "lock";

/// What a running `meridian up` says about itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LocalState {
    /// Its process id.
    pub pid: u32,
    /// Where its gateway listens: `http://127.0.0.1:8080`.
    pub gateway: String,
    /// Where its gateway says how it is.
    pub management: String,
    /// Its regions.
    pub regions: BTreeMap<RegionId, LocalRegion>,
}

/// One region of a running `meridian up`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LocalRegion {
    /// What is pasted into an identity provider.
    pub base_url: String,
    /// The region-node's link address, where the operator API is.
    pub node: String,
    /// Where the region-node says how it is.
    pub management: String,
    /// The file with the region's operator key.
    pub operator_key_file: PathBuf,
}

/// The running `meridian up` was not found, or its traces cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LocalStateError {
    /// There is no `local.json`.
    #[error(
        "no Meridian runs on {}: start one with `meridian up`, name its folder with --data-dir, \
         or name a region-node with --endpoint and --operator-key",
        data_dir.display()
    )]
    NotRunning {
        /// Where we looked.
        data_dir: PathBuf,
    },
    /// There is one, and its process is gone.
    #[error(
        "the Meridian that ran on {} is gone without a good-bye: start it again with `meridian up`",
        data_dir.display()
    )]
    Gone {
        /// Where we looked.
        data_dir: PathBuf,
    },
    /// There is one, and it cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// There is one, and it says nothing that we understand.
    #[error("{} is damaged: stop the running Meridian and start it again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is odd.
        #[source]
        source: serde_json::Error,
    },
}

/// Finds the running `meridian up` of a data directory.
///
/// # Errors
/// [`LocalStateError`] when there is none, or it cannot be told.
pub fn find(data_dir: &Path) -> Result<LocalState, LocalStateError> {
    let state = read(data_dir)?;
    if is_running(data_dir) {
        Ok(state)
    } else {
        Err(LocalStateError::Gone {
            data_dir: data_dir.to_owned(),
        })
    }
}

fn read(data_dir: &Path) -> Result<LocalState, LocalStateError> {
    let path = data_dir.join(FILE_NAME);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(LocalStateError::NotRunning {
                data_dir: data_dir.to_owned(),
            });
        }
        Err(source) => return Err(LocalStateError::Unreadable { path, source }),
    };
    serde_json::from_slice(&text).map_err(|source| LocalStateError::Damaged { path, source })
}

/// Whether somebody holds the directory's lock. The kernel lets go of it when its holder ends,
/// however it ends, so this cannot be wrong about a process id that was given out again.
fn is_running(data_dir: &Path) -> bool {
    let Ok(lock) = File::open(data_dir.join(LOCK_NAME)) else {
        return false;
    };
    matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// The right to run in a data directory, until it is dropped.
#[derive(Debug)]
pub struct Claim {
    data_dir: PathBuf,
    _lock: File,
}

/// The data directory cannot be claimed.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Another `meridian up` runs in it.
    #[error(
        "a Meridian already runs on {} ({who}): stop it first, or give this one a folder of its \
         own with --data-dir",
        data_dir.display()
    )]
    Taken {
        /// The directory.
        data_dir: PathBuf,
        /// Its process id and address, as far as they are known.
        who: String,
    },
    /// It cannot be written.
    #[error("cannot use the data directory {} (--data-dir)", data_dir.display())]
    Unusable {
        /// The directory.
        data_dir: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl Claim {
    /// Claims a data directory, which is created if it is missing. What a Meridian that died
    /// there left behind is of no concern.
    ///
    /// # Errors
    /// [`ClaimError`] when another one runs there, or the directory cannot be written.
    pub fn take(data_dir: &Path) -> Result<Self, ClaimError> {
        let unusable = |source| ClaimError::Unusable {
            data_dir: data_dir.to_owned(),
            source,
        };
        fs::create_dir_all(data_dir).map_err(unusable)?;
        let data_dir = data_dir.canonicalize().map_err(unusable)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(data_dir.join(LOCK_NAME))
            .map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let who = match read(&data_dir) {
                    Ok(state) => format!("process {}, {}", state.pid, state.gateway),
                    Err(_) => "it is starting or stopping".to_owned(),
                };
                return Err(ClaimError::Taken { data_dir, who });
            }
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
        }
        // A predecessor that was killed could not remove it.
        let claim = Self {
            data_dir,
            _lock: lock,
        };
        claim.withdraw();
        Ok(claim)
    }

    /// The directory, as an absolute path.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Tells the other commands that Meridian is ready. They see all of it or nothing.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn announce(&self, state: &LocalState) -> io::Result<()> {
        let path = self.data_dir.join(FILE_NAME);
        let unfinished = path.with_extension("json.new");
        let mut file = keys::create_private(&unfinished)?;
        let text = serde_json::to_vec_pretty(state)?;
        file.write_all(&text)?;
        file.write_all(b"\n")?;
        fs::rename(unfinished, path)
    }

    /// Takes the announcement back.
    pub fn withdraw(&self) {
        // Nothing to take back is as good; and an announcement without a lock deceives nobody.
        let _ = fs::remove_file(self.data_dir.join(FILE_NAME));
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.withdraw();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> LocalState {
        LocalState {
            pid: 7,
            gateway: "http://127.0.0.1:8080".to_owned(),
            management: "http://127.0.0.1:8081".to_owned(),
            regions: BTreeMap::new(),
        }
    }

    #[test]
    fn a_directory_has_one_holder_who_can_be_found() {
        let folder = tempfile::tempdir().unwrap();
        let claim = Claim::take(folder.path()).unwrap();
        assert!(matches!(
            find(folder.path()),
            Err(LocalStateError::NotRunning { .. })
        ));

        claim.announce(&state()).unwrap();
        assert_eq!(find(folder.path()).unwrap().pid, 7);
        let refusal = Claim::take(folder.path()).unwrap_err().to_string();
        assert!(refusal.contains("process 7"), "{refusal}");
        assert!(refusal.contains("--data-dir"), "{refusal}");

        drop(claim);
        assert!(matches!(
            find(folder.path()),
            Err(LocalStateError::NotRunning { .. })
        ));
        assert!(Claim::take(folder.path()).is_ok());
    }

    #[test]
    fn what_a_killed_process_left_is_recognised_and_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let stale = serde_json::to_vec(&state()).unwrap();
        fs::write(folder.path().join(FILE_NAME), stale).unwrap();
        assert!(matches!(
            find(folder.path()),
            Err(LocalStateError::Gone { .. })
        ));

        let _claim = Claim::take(folder.path()).unwrap();
        assert!(matches!(
            find(folder.path()),
            Err(LocalStateError::NotRunning { .. })
        ));
    }
}
