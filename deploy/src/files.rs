//! Files that a command writes as they come from a region-node, and what it says meanwhile.

use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::CommandError;
use crate::keys;

/// A file that has its name only once it is whole and on the disk; until then it is `NAME.partial`,
/// and that is removed when the command fails.
#[derive(Debug)]
pub struct Outgoing {
    path: PathBuf,
    partial: PathBuf,
    file: File,
    bytes: u64,
    is_complete: bool,
}

impl Outgoing {
    /// Begins the file, for its owner's eyes only.
    ///
    /// # Errors
    /// [`CommandError::File`]
    pub fn create(path: &Path) -> Result<Self, CommandError> {
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        // One that a killed command left may be readable for others.
        match fs::remove_file(&partial) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(unwritable(&partial, source));
            }
            _ => {}
        }
        let file = keys::create_private(&partial).map_err(|source| unwritable(&partial, source))?;
        Ok(Self {
            path: path.to_owned(),
            partial,
            file,
            bytes: 0,
            is_complete: false,
        })
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// [`CommandError::File`]
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), CommandError> {
        self.file
            .write_all(bytes)
            .map_err(|source| unwritable(&self.partial, source))?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// How many bytes there are.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Gives the file its name when it is on the disk; answers how many bytes it has.
    ///
    /// # Errors
    /// [`CommandError::File`]
    pub fn complete(mut self) -> Result<u64, CommandError> {
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        self.file
            .sync_all()
            .and_then(|()| fs::rename(&self.partial, &self.path))
            .and_then(|()| File::open(folder)?.sync_all())
            .map_err(|source| unwritable(&self.path, source))?;
        self.is_complete = true;
        Ok(self.bytes)
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if !self.is_complete {
            // If it cannot be removed, it is still known by its name for what it is.
            let _ = fs::remove_file(&self.partial);
        }
    }
}

fn unwritable(path: &Path, source: io::Error) -> CommandError {
    CommandError::File {
        what: "write",
        path: path.to_owned(),
        source,
    }
}

/// How far a long command is, on standard error, every now and then: one line that changes for a
/// person, lines under each other for a log.
#[derive(Debug)]
pub struct Progress {
    what: &'static str,
    began: Instant,
    told: Option<Instant>,
    is_person: bool,
}

impl Progress {
    /// Begins to measure.
    #[must_use]
    pub fn begin(what: &'static str) -> Self {
        Self {
            what,
            began: Instant::now(),
            told: None,
            is_person: io::stderr().is_terminal(),
        }
    }

    /// Says how far it is, if that was not said a moment ago.
    pub fn tell(&mut self, bytes: u64, detail: &str) {
        let pause = Duration::from_millis(if self.is_person { 200 } else { 5000 });
        if self.told.is_some_and(|told| told.elapsed() < pause) {
            return;
        }
        self.told = Some(Instant::now());
        let end = if self.is_person { "\r" } else { "\n" };
        // Nobody is there to be told that this cannot be written.
        let _ = write!(
            io::stderr(),
            "{}: {detail}, {} MiB, {} s   {end}",
            self.what,
            bytes / (1024 * 1024),
            self.began.elapsed().as_secs()
        );
    }

    /// How long it has been.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        (self.began.elapsed().as_secs_f64() * 1000.0).round() / 1000.0
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_person && self.told.is_some() {
            let _ = writeln!(io::stderr());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_file_has_its_name_when_it_is_whole_and_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let (path, partial) = (folder.path().join("b"), folder.path().join("b.partial"));
        fs::write(&partial, "left by a killed command").unwrap();
        let mut file = Outgoing::create(&path).unwrap();
        file.write(b"abc").unwrap();
        assert!(partial.exists() && !path.exists());
        assert_eq!(file.complete().unwrap(), 3);
        assert!(!partial.exists());
        assert_eq!(fs::read(&path).unwrap(), b"abc");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let mut file = Outgoing::create(&path).unwrap();
        file.write(b"half").unwrap();
        drop(file);
        assert!(!partial.exists());
        assert_eq!(fs::read(&path).unwrap(), b"abc", "the older one stays");
    }
}
