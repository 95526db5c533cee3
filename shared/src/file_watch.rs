//! [`FileWatch`]: whether files have changed that this program has read. What is read of them, and
//! when it is read again, is their owner's matter.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

/// Notices that files change, by what the file system says about them. A link that comes to point
/// elsewhere is a change too, and so is a file that comes or goes.
#[derive(Clone, Debug)]
pub struct FileWatch {
    files: Vec<PathBuf>,
    seen: Vec<Option<Stamp>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

impl FileWatch {
    /// From now on.
    #[must_use]
    pub fn of(files: impl IntoIterator<Item = PathBuf>) -> Self {
        let files: Vec<_> = files.into_iter().collect();
        let seen = stamps(&files);
        Self { files, seen }
    }

    /// Whether anything has changed since it was asked last.
    pub fn has_changed(&mut self) -> bool {
        let now = stamps(&self.files);
        let has_changed = now != self.seen;
        self.seen = now;
        has_changed
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Option<Stamp>> {
    let stamp = |file: Metadata| Stamp {
        inode: file.ino(),
        length: file.len(),
        modified: (file.mtime(), file.mtime_nsec()),
    };
    let of = |file: &PathBuf| file.metadata().ok().map(stamp);
    files.iter().map(of).collect()
}
