//! The keys of a region: made once, kept in files that only their owner can read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Bytes in a key; as hexadecimal text the file is twice as long.
const KEY_BYTES: usize = 32;

/// Where the keys of one region are.
#[derive(Clone, Debug)]
pub struct KeyFiles {
    /// Opens the link between gateways and region-nodes.
    pub link: PathBuf,
    /// Opens the operator API.
    pub operator: PathBuf,
    /// Signs the region's grants.
    pub grant: PathBuf,
}

/// A key could not be made or kept.
#[derive(Debug, thiserror::Error)]
#[error("cannot keep the region's keys in {}", path.display())]
pub struct KeysError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// The key files in `directory`, made now if they are missing.
///
/// # Errors
/// [`KeysError`] when the directory cannot be written.
pub fn ensure(directory: &Path) -> Result<KeyFiles, KeysError> {
    let failed = |source| KeysError {
        path: directory.to_owned(),
        source,
    };
    fs::create_dir_all(directory).map_err(failed)?;
    let ensure_one = |name: &str| {
        let path = directory.join(name);
        if !path.exists() {
            create(&path).map_err(failed)?;
        }
        // Absolute, because `local.json` hands the path to commands that run elsewhere.
        path.canonicalize().map_err(failed)
    };
    Ok(KeyFiles {
        link: ensure_one("link.key")?,
        operator: ensure_one("operator.key")?,
        grant: ensure_one("grant.key")?,
    })
}

/// Writes a new key under another name first, so that no crash leaves half a key behind.
fn create(path: &Path) -> io::Result<()> {
    let mut key = [0_u8; KEY_BYTES];
    getrandom::fill(&mut key).map_err(|error| io::Error::other(error.to_string()))?;
    let unfinished = path.with_extension("new");
    let mut file = create_private(&unfinished)?;
    writeln!(file, "{}", hex::encode(key))?;
    file.sync_all()?;
    fs::rename(&unfinished, path)
}

/// Creates a file that only its owner can read and write.
///
/// # Errors
/// What the operating system says.
pub fn create_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_made_once_and_are_private() {
        let folder = tempfile::tempdir().unwrap();
        let files = ensure(folder.path()).unwrap();
        let key = fs::read_to_string(&files.operator).unwrap();
        assert_eq!(key.trim().len(), 2 * KEY_BYTES);
        assert_ne!(key, fs::read_to_string(&files.link).unwrap());
        assert_ne!(key, fs::read_to_string(&files.grant).unwrap());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = fs::metadata(&files.operator).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }

        let again = ensure(folder.path()).unwrap();
        assert_eq!(fs::read_to_string(again.operator).unwrap(), key);
    }
}
