//! What a process that ended badly left in the write-ahead log.
//!
//! When a sync fails, the system may call the pages clean though they never reached the disk, and
//! no later sync will bring them there. The process in which that happens writes the same place
//! again, but the next process would find such pages in the system's memory, take them for
//! committed, and put its own commits behind them: after a power cut those could not be read. So
//! the log is written once more, as it stands, before anything is built on it.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

const PIECE_BYTES: usize = 1024 * 1024;

/// Makes the log as durable as it looks. To be called while no process has the database open.
///
/// # Errors
/// What the system says; that there is no log is none.
pub(super) fn make_durable(log: &Path) -> io::Result<()> {
    let mut file = match File::options().read(true).write(true).open(log) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    loop {
        let start = file.stream_position()?;
        piece.clear();
        (&file).take(PIECE_BYTES as u64).read_to_end(&mut piece)?;
        if piece.is_empty() {
            return file.sync_all();
        }
        file.seek(SeekFrom::Start(start))?;
        file.write_all(&piece)?;
    }
}
