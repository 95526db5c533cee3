//! The file of a backup: JSON Lines, from the region's rows to bytes and back.
//!
//! The first line says what it is a backup of, the last one how many rows there are and what the
//! SHA-256 of everything before it is. So a file that was cut off, damaged or taken from another
//! region is known as such, and nothing of it is made visible. What never lives here: files and
//! HTTP, SQL.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, Stream, StreamExt as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use shared::{RegionId, Timestamp};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::settings::Profile;
use super::{groups, users};
use crate::scim::ResourceKind;
use crate::scim::document::from_document;
use crate::store::{
    BackupRow, Counts, RestoreError, RestoreHow, RestoreStep, Restored, Store, StoreError,
    TenantSettings,
};

/// The version of the file's lines that this program writes. 2 since tokens have networks and a life
/// that was meant: a release that knows 1 only would pass over these and lose them. 3 since there
/// are audit records.
const FORMAT: u32 = 3;
/// The oldest one that it reads.
const OLDEST_FORMAT: u32 = 1;
/// Longest line. No row comes near it.
const LONGEST_LINE: usize = 32 * 1024 * 1024;
/// Bytes that are sent on at once.
const CHUNK: usize = 64 * 1024;
/// Rows that wait between the store and the file.
const ROWS_WAITING: usize = 64;
/// How the last line begins.
const END: &[u8] = b"{\"end\":";
/// A tenant's numbers go on so far beyond those of the backup, …
const LEAST_JUMP: i64 = 1 << 24;
/// … and so much further for each second that has passed since: writes that nobody remembers.
const JUMP_PER_S: i64 = 1000;

/// What a backup is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The version of the file's lines.
    pub format: u32,
    /// The region.
    pub region: RegionId,
    /// When the snapshot was taken, in milliseconds since the epoch.
    pub taken_ms: Timestamp,
    /// The release that wrote it.
    pub program: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderLine {
    backup: Header,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EndLine {
    end: End,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    rows: Counts,
    sha256: String,
}

/// What is wrong with a file. The sentences are for the operator and hold nothing of the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackupFileError {
    /// The first line is not that of a backup.
    #[error("this is no backup of Meridian")]
    Foreign,
    /// Another release wrote it.
    #[error(
        "the backup has format {0}, and this release reads formats {OLDEST_FORMAT} to {FORMAT}"
    )]
    Format(u32),
    /// It is of another region.
    #[error(
        "this is a backup of the region {of}, and a region's data never goes to another: this is {here}"
    )]
    Region {
        /// The file's.
        of: RegionId,
        /// Ours.
        here: RegionId,
    },
    /// A line cannot be read.
    #[error("line {0} of the backup is damaged")]
    Line(u64),
    /// The last line is missing.
    #[error("the backup is cut off: its last line is missing")]
    CutOff,
    /// The bytes are not those that were written.
    #[error("the backup was damaged or changed: its checksum does not fit")]
    Checksum,
    /// There is something behind the last line.
    #[error("the backup goes on behind its last line")]
    GoesOn,
}

/// Writes the lines of a file.
struct BackupWriter {
    hash: Sha256,
    counts: Counts,
}

impl BackupWriter {
    fn begin(header: Header, lines: &mut Vec<u8>) -> Result<Self, StoreError> {
        let mut writer = Self {
            hash: Sha256::new(),
            counts: Counts::default(),
        };
        writer.line(&HeaderLine { backup: header }, lines)?;
        Ok(writer)
    }

    fn row(&mut self, row: &BackupRow, lines: &mut Vec<u8>) -> Result<(), StoreError> {
        self.counts.note(row);
        self.line(row, lines)
    }

    fn line(&mut self, line: &impl Serialize, lines: &mut Vec<u8>) -> Result<(), StoreError> {
        let start = lines.len();
        serde_json::to_writer(&mut *lines, line)
            .map_err(|_| StoreError::Corrupt("a row that cannot be written as JSON"))?;
        lines.push(b'\n');
        self.hash.update(lines.get(start..).unwrap_or_default());
        Ok(())
    }

    fn end(self, lines: &mut Vec<u8>) -> Result<Counts, StoreError> {
        let end = End {
            rows: self.counts,
            sha256: hex::encode(self.hash.finalize()),
        };
        serde_json::to_writer(&mut *lines, &EndLine { end })
            .map_err(|_| StoreError::Corrupt("counts that cannot be written as JSON"))?;
        lines.push(b'\n');
        Ok(self.counts)
    }
}

/// Reads the lines of a file as they come, and knows at the end whether it is whole.
#[derive(Default)]
pub struct BackupReader {
    header: Option<Header>,
    hash: Sha256,
    counts: Counts,
    lines: u64,
    /// The beginning of a line whose end has not come.
    partial: Vec<u8>,
    ended: bool,
}

impl BackupReader {
    /// What the backup is of, once its first line has come.
    #[must_use]
    pub fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }

    /// The rows that have come.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Takes the file's next bytes, and adds the rows that are whole with them.
    ///
    /// # Errors
    /// [`BackupFileError`], as soon as something is known to be wrong.
    pub fn take(&mut self, bytes: &[u8], rows: &mut Vec<BackupRow>) -> Result<(), BackupFileError> {
        let mut pieces = bytes.split_inclusive(|byte| *byte == b'\n').peekable();
        while let Some(piece) = pieces.next() {
            self.partial.extend_from_slice(piece);
            let is_whole = pieces.peek().is_some() || piece.ends_with(b"\n");
            if is_whole {
                let line = std::mem::take(&mut self.partial);
                self.line(&line, rows)?;
            } else if self.partial.len() > LONGEST_LINE {
                return Err(self.damaged());
            }
        }
        Ok(())
    }

    fn damaged(&self) -> BackupFileError {
        match self.header {
            None => BackupFileError::Foreign,
            Some(_) => BackupFileError::Line(self.lines + 1),
        }
    }

    fn line(&mut self, line: &[u8], rows: &mut Vec<BackupRow>) -> Result<(), BackupFileError> {
        if self.ended {
            return Err(BackupFileError::GoesOn);
        }
        if self.header.is_none() {
            self.header = Some(header(line)?);
        } else if line.starts_with(END) {
            let end: EndLine = serde_json::from_slice(line).map_err(|_| self.damaged())?;
            return self.end(&end.end);
        } else {
            let row = serde_json::from_slice(line).map_err(|_| self.damaged())?;
            self.counts.note(&row);
            rows.push(row);
        }
        self.lines += 1;
        self.hash.update(line);
        Ok(())
    }

    fn end(&mut self, end: &End) -> Result<(), BackupFileError> {
        let found = hex::encode(self.hash.clone().finalize());
        if found != end.sha256 || self.counts != end.rows {
            return Err(BackupFileError::Checksum);
        }
        self.ended = true;
        Ok(())
    }

    /// The file ends here. What it is a backup of, and how many rows it has.
    ///
    /// # Errors
    /// [`BackupFileError::CutOff`] if the last line has not come whole.
    pub fn finish(self) -> Result<(Header, Counts), BackupFileError> {
        match self.header {
            Some(header) if self.ended && self.partial.is_empty() => Ok((header, self.counts)),
            Some(_) if self.ended => Err(BackupFileError::GoesOn),
            Some(_) => Err(BackupFileError::CutOff),
            None => Err(BackupFileError::Foreign),
        }
    }
}

fn header(line: &[u8]) -> Result<Header, BackupFileError> {
    /// Whatever the format is, this much is there.
    #[derive(Deserialize)]
    struct AnyHeader {
        backup: AnyFormat,
    }
    #[derive(Deserialize)]
    struct AnyFormat {
        format: u32,
    }
    let any: AnyHeader = serde_json::from_slice(line).map_err(|_| BackupFileError::Foreign)?;
    if !(OLDEST_FORMAT..=FORMAT).contains(&any.backup.format) {
        return Err(BackupFileError::Format(any.backup.format));
    }
    let line: HeaderLine = serde_json::from_slice(line).map_err(|_| BackupFileError::Foreign)?;
    Ok(line.backup)
}

/// A backup of the whole region, as the bytes of its file. Ends with an error, and without the
/// file's last line, when the store fails.
pub fn backup(
    store: Arc<dyn Store>,
    region: RegionId,
    now: Timestamp,
) -> impl Stream<Item = Result<Vec<u8>, StoreError>> {
    let header = Header {
        format: FORMAT,
        region,
        taken_ms: now,
        program: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let (sender, rows) = mpsc::channel(ROWS_WAITING);
    let task = tokio::spawn(async move { store.backup(sender).await });
    stream::unfold(Making::Beginning(header, rows, task), make_some)
}

/// How far a backup is.
enum Making {
    Beginning(Header, mpsc::Receiver<BackupRow>, ReadTask),
    Rows(BackupWriter, mpsc::Receiver<BackupRow>, ReadTask),
    Ended,
}

type ReadTask = JoinHandle<Result<(), StoreError>>;

async fn make_some(making: Making) -> Option<(Result<Vec<u8>, StoreError>, Making)> {
    let mut lines = Vec::with_capacity(CHUNK);
    let made = match making {
        Making::Ended => return None,
        Making::Beginning(header, rows, task) => match BackupWriter::begin(header, &mut lines) {
            Ok(writer) => fill(writer, rows, task, &mut lines).await,
            Err(error) => Err(error),
        },
        Making::Rows(writer, rows, task) => fill(writer, rows, task, &mut lines).await,
    };
    Some(match made {
        Ok(making) => (Ok(lines), making),
        Err(error) => (Err(error), Making::Ended),
    })
}

/// Adds lines until there is enough to send on, or all.
async fn fill(
    mut writer: BackupWriter,
    mut rows: mpsc::Receiver<BackupRow>,
    task: ReadTask,
    lines: &mut Vec<u8>,
) -> Result<Making, StoreError> {
    while lines.len() < CHUNK {
        let Some(row) = rows.recv().await else {
            ended(task).await?;
            let counts = writer.end(lines)?;
            tracing::info!(
                tenants = counts.tenants,
                users = counts.users,
                groups = counts.groups,
                "backup taken"
            );
            return Ok(Making::Ended);
        };
        writer.row(&row, lines)?;
    }
    Ok(Making::Rows(writer, rows, task))
}

/// What became of the store's part.
pub(super) async fn ended(task: ReadTask) -> Result<(), StoreError> {
    task.await
        .unwrap_or(Err(StoreError::Corrupt("a long read ended early")))
}

/// What an operator chooses of a restore.
#[derive(Clone, Copy, Debug, Default)]
pub struct RestoreChoice {
    /// Whether what the region holds gives way.
    pub replace: bool,
    /// Whether every token of the restored tenants is revoked.
    pub revoke_tokens: bool,
}

/// Why a backup was not restored. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum RestoreFailure {
    /// The file is not right.
    #[error(transparent)]
    File(#[from] BackupFileError),
    /// The store did not take it.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The file's bytes ended in an error.
    #[error("the backup did not arrive to its end")]
    Interrupted,
}

/// Restores a region from the bytes of a file, as they come.
///
/// # Errors
/// [`RestoreFailure`]; then nothing has changed.
pub async fn restore<B: AsRef<[u8]>, E>(
    store: Arc<dyn Store>,
    region: &RegionId,
    now: Timestamp,
    choice: RestoreChoice,
    mut bytes: impl Stream<Item = Result<B, E>> + Unpin,
) -> Result<Restored, RestoreFailure> {
    let mut reader = BackupReader::default();
    let mut rows = Vec::new();
    let header = loop {
        if let Some(header) = reader.header() {
            break header.clone();
        }
        let Some(some) = bytes.next().await else {
            return Err(BackupFileError::Foreign.into());
        };
        let some = some.map_err(|_| RestoreFailure::Interrupted)?;
        reader.take(some.as_ref(), &mut rows)?;
    };
    if header.region != *region {
        return Err(BackupFileError::Region {
            of: header.region,
            here: region.clone(),
        }
        .into());
    }
    let how = RestoreHow {
        replace: choice.replace,
        revoke_tokens: choice.revoke_tokens,
        version_jump: version_jump(now.since(header.taken_ms)),
        now,
    };
    let (steps, received) = mpsc::channel(ROWS_WAITING);
    // In a task of its own: when the operator goes away, it ends without the last step and takes
    // back what it has done.
    let task = tokio::spawn(async move { store.restore(received, how).await });
    let fed = feed(reader, rows, &mut bytes, &steps).await;
    drop(steps);
    let restored = task
        .await
        .unwrap_or(Err(StoreError::Corrupt("a restore ended early").into()));
    match (fed, restored) {
        (Ok(()), restored) => {
            let restored = restored?;
            tracing::info!(
                tenants = restored.counts.tenants,
                users = restored.counts.users,
                groups = restored.counts.groups,
                live_tokens = restored.live_tokens,
                "region restored"
            );
            Ok(restored)
        }
        // Without the last step the store has done nothing, whatever it says of that.
        (Err(failure), _) => Err(failure),
    }
}

/// Hands the rows on, and the last step when the file turned out to be whole.
async fn feed<B: AsRef<[u8]>, E>(
    mut reader: BackupReader,
    mut rows: Vec<BackupRow>,
    bytes: &mut (impl Stream<Item = Result<B, E>> + Unpin),
    steps: &mpsc::Sender<RestoreStep>,
) -> Result<(), RestoreFailure> {
    let mut completing = Completing::default();
    loop {
        for mut row in rows.drain(..) {
            completing.complete(&mut row)?;
            if steps.send(RestoreStep::Row(row)).await.is_err() {
                // The store has ended it and says why.
                return Ok(());
            }
        }
        let Some(some) = bytes.next().await else {
            break;
        };
        let some = some.map_err(|_| RestoreFailure::Interrupted)?;
        reader.take(some.as_ref(), &mut rows)?;
    }
    let (_header, counts) = reader.finish()?;
    drop(steps.send(RestoreStep::End(counts)).await);
    Ok(())
}

/// Makes keys anew that the engine which wrote the backup had cut.
#[derive(Default)]
struct Completing {
    settings: TenantSettings,
    profile: Option<Profile>,
}

impl Completing {
    fn complete(&mut self, row: &mut BackupRow) -> Result<(), RestoreError> {
        match row {
            BackupRow::Tenant(tenant) => {
                self.settings = tenant.settings.clone();
                self.profile = None;
            }
            BackupRow::Resource(resource) if !resource.keys_are_whole() => {
                let profile = match self.profile.take() {
                    Some(profile) => profile,
                    None => Profile::of(self.settings.clone())?,
                };
                let tree = from_document(resource.document.get())
                    .map_err(|_| RestoreError::Inconsistent("a document cannot be read"))?;
                resource.keys = match resource.kind {
                    ResourceKind::User => users::keys(&tree, &profile),
                    ResourceKind::Group => groups::keys(&tree, &profile),
                };
                self.profile = Some(profile);
            }
            _ => {}
        }
        Ok(())
    }
}

/// How far a tenant's numbers go on beyond those of a backup of this age.
fn version_jump(age: Duration) -> i64 {
    let seconds = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
    LEAST_JUMP.saturating_add(JUMP_PER_S.saturating_mul(seconds))
}

#[cfg(test)]
mod tests {
    use shared::TenantId;

    use super::*;
    use crate::store::{Tenant, TenantSettings, TenantState};

    fn region(name: &str) -> RegionId {
        RegionId::parse(name).unwrap()
    }

    fn file() -> Vec<u8> {
        file_of(FORMAT)
    }

    fn file_of(format: u32) -> Vec<u8> {
        let header = Header {
            format,
            region: region("us"),
            taken_ms: Timestamp(1_700_000_000_000),
            program: "1".into(),
        };
        let mut lines = Vec::new();
        let mut writer = BackupWriter::begin(header, &mut lines).unwrap();
        for name in ["Acme", "Ümbrella"] {
            let tenant = Tenant {
                id: TenantId::generate().unwrap(),
                name: name.into(),
                state: TenantState::Active,
                credential_version: 1,
                seq: 0,
                users: 0,
                groups: 0,
                settings: TenantSettings::default(),
                created: Timestamp(0),
            };
            let row = BackupRow::Tenant(Box::new(tenant));
            writer.row(&row, &mut lines).unwrap();
        }
        writer.end(&mut lines).unwrap();
        lines
    }

    fn read(file: &[u8], at_once: usize) -> Result<(Header, Counts), BackupFileError> {
        let (mut reader, mut rows) = (BackupReader::default(), Vec::new());
        for bytes in file.chunks(at_once) {
            reader.take(bytes, &mut rows)?;
        }
        let (header, counts) = reader.finish()?;
        assert_eq!(rows.len() as u64, counts.tenants);
        Ok((header, counts))
    }

    #[test]
    fn a_whole_file_is_read_however_it_comes() {
        let file = file();
        for at_once in [1, 2, 7, 100, file.len()] {
            let (header, counts) = read(&file, at_once).unwrap();
            assert_eq!(header.region, region("us"));
            assert_eq!(counts.tenants, 2);
        }
    }

    #[test]
    fn no_beginning_of_a_file_passes_for_the_file() {
        let file = file();
        for length in 0..file.len() {
            assert!(read(&file[..length], 1000).is_err(), "{length} bytes");
        }
        let longer = [file.as_slice(), b"x"].concat();
        assert_eq!(read(&longer, 1000), Err(BackupFileError::GoesOn));
    }

    #[test]
    fn no_damaged_byte_goes_unnoticed() {
        let good = file();
        for at in 0..good.len() {
            for flip in [1, 0x20, 0x80] {
                let mut bad = good.clone();
                bad[at] ^= flip;
                // The hexadecimal digits of the checksum may be of either case only as written.
                assert!(read(&bad, 1000).is_err(), "byte {at}, {flip}");
            }
        }
    }

    #[test]
    fn lines_that_are_missing_twice_or_swapped_are_noticed() {
        let good = file();
        let lines: Vec<&[u8]> = good.split_inclusive(|byte| *byte == b'\n').collect();
        let [header, one, two, end] = lines.as_slice() else {
            panic!("{}", lines.len())
        };
        for bad in [
            [*header, one, end].concat(),
            [*header, one, one, two, end].concat(),
            [*header, two, one, end].concat(),
        ] {
            assert_eq!(read(&bad, 1000), Err(BackupFileError::Checksum));
        }
        assert_eq!(
            read(&[*one, two, end].concat(), 1000),
            Err(BackupFileError::Foreign)
        );
        let newer = String::from_utf8(good.clone()).unwrap();
        let newer = newer.replace("\"format\":3", "\"format\":4");
        let error = read(newer.as_bytes(), 1000).unwrap_err();
        assert_eq!(error, BackupFileError::Format(4));
    }

    #[test]
    fn a_file_of_an_older_release_is_read() {
        let (header, counts) = read(&file_of(1), 1000).unwrap();
        assert_eq!((header.format, counts.tenants), (1, 2));
        assert_eq!(read(&file_of(0), 1000), Err(BackupFileError::Format(0)));
    }

    #[test]
    fn a_token_with_a_field_that_is_not_known_is_refused() {
        let mut line = serde_json::json!({"token": {
            "digest": "00".repeat(32),
            "token": {
                "id": shared::TokenId::generate().unwrap(),
                "tenant": TenantId::generate().unwrap(),
                "name": "Okta", "scope": "scim", "dialect": "2.0", "created": 1,
                "created_by": "operator", "expires": null, "last_used": null, "revoked": null,
            },
        }});
        let read = |line: &serde_json::Value| {
            let mut reader = BackupReader::default();
            let mut rows = Vec::new();
            let file = file();
            let header = file.split_inclusive(|byte| *byte == b'\n').next().unwrap();
            reader.take(header, &mut rows).unwrap();
            reader.take(format!("{line}\n").as_bytes(), &mut rows)
        };
        read(&line).unwrap();
        line["token"]["token"]["networks"] = serde_json::json!(["203.0.113.0/24"]);
        line["token"]["token"]["meant_life"] = serde_json::json!(1000);
        read(&line).unwrap();
        line["token"]["token"]["only_on_sundays"] = serde_json::json!(true);
        assert_eq!(read(&line), Err(BackupFileError::Line(2)));
    }

    #[test]
    fn the_jump_grows_with_the_age() {
        assert_eq!(version_jump(Duration::ZERO), 16_777_216);
        let day = version_jump(Duration::from_secs(24 * 60 * 60));
        assert!(day > 86_400_000 && day < 200_000_000);
    }
}
