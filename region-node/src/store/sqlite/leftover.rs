//! What a process that ended badly left in the write-ahead log.
//!
//! When a sync fails, the system may call the pages clean though they never reached the disk, and
//! no later sync will bring them there. The process in which that happens writes the same place
//! again, but the next process would find such pages in the system's memory, take them for
//! committed, and put its own commits behind them: after a power cut those could not be read. So
//! the log is written once more, to another place, before anything is built on it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

const PIECE_BYTES: usize = 1024 * 1024;

/// Makes the log as durable as it looks. To be called while no process has the database open, and
/// before the folder is synced.
///
/// The log is copied and the copy takes its place: what is safe already must not be written over,
/// because a power cut in that moment could tear it.
///
/// # Errors
/// What the system says; that there is no log is none.
pub(super) fn make_durable(log: &Path) -> io::Result<()> {
    let mut file = match File::options().read(true).write(true).open(log) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let copy = copy_of(log);
    match copy_to(&file, &copy) {
        Ok(()) => fs::rename(&copy, log),
        // A full disk has no room for two, and must not keep the node from starting.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded
            ) =>
        {
            fs::remove_file(&copy)?;
            write_again(&mut file)
        }
        Err(error) => Err(error),
    }
}

fn copy_of(log: &Path) -> PathBuf {
    let mut name = OsString::from(log);
    name.push(".new");
    PathBuf::from(name)
}

fn copy_to(mut file: &File, copy: &Path) -> io::Result<()> {
    let mut options = File::options();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut copied = options.open(copy)?;
    file.seek(SeekFrom::Start(0))?;
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    loop {
        piece.clear();
        file.take(PIECE_BYTES as u64).read_to_end(&mut piece)?;
        if piece.is_empty() {
            return copied.sync_all();
        }
        copied.write_all(&piece)?;
    }
}

fn write_again(file: &mut File) -> io::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    loop {
        let start = file.stream_position()?;
        piece.clear();
        (&mut *file)
            .take(PIECE_BYTES as u64)
            .read_to_end(&mut piece)?;
        if piece.is_empty() {
            return file.sync_all();
        }
        file.seek(SeekFrom::Start(start))?;
        file.write_all(&piece)?;
    }
}
