//! `meridian backup` and `meridian restore`

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use futures_util::stream;
use region_node::provider::backup::{BackupFileError, BackupReader, Header};
use region_node::store::Counts;
use reqwest::Body;
use serde_json::{Value, json};
use shared::RegionId;

use crate::arguments::{BackupArguments, RestoreArguments};
use crate::commands::Regions;
use crate::error::CommandError;
use crate::files::{Outgoing, Progress};
use crate::output::{Output, cell};

/// Bytes that are read of a file at once.
const CHUNK: usize = 64 * 1024;

/// Writes a backup, and reads it as it comes: what it says of itself must be true.
///
/// # Errors
/// [`CommandError`] when the region-node cannot be found, reached, refuses, or is of another
/// region than asked for, or the file cannot be written. Then there is no file.
pub async fn backup(
    arguments: BackupArguments,
    data_dir: &Path,
    output: Output,
) -> Result<(), CommandError> {
    let regions = Regions::find(&arguments.remote, data_dir, arguments.region.as_ref()).await?;
    let path = &arguments.to;
    let mut progress = Progress::begin("backup");
    let api = regions.only()?;
    let mut download = api.backup().await?;
    let mut file = Outgoing::create(path)?;
    let (mut reader, mut rows) = (BackupReader::default(), Vec::new());
    let wrong = |source| CommandError::Backup {
        path: path.clone(),
        source,
    };
    while let Some(bytes) = download.next().await? {
        file.write(&bytes)?;
        reader.take(&bytes, &mut rows).map_err(wrong)?;
        rows.clear();
        if let (Some(header), Some(asked)) = (reader.header(), api.region())
            && header.region != *asked
        {
            return Err(CommandError::OtherRegion {
                node: api.node().to_owned(),
                found: header.region.clone(),
                asked: asked.clone(),
            });
        }
        progress.tell(file.bytes(), &so_far(reader.counts()));
    }
    let (header, counts) = reader.finish().map_err(wrong)?;
    let bytes = file.complete()?;
    let Counts {
        tenants,
        users,
        groups,
        ..
    } = counts;
    let result = json!({
        "file": path,
        "region": header.region,
        "tenants": tenants,
        "tokens": counts.tokens,
        "users": users,
        "groups": groups,
        "members": counts.members,
        "bytes": bytes,
        "seconds": progress.seconds(),
    });
    drop(progress);
    output.result(
        &result,
        &format!(
            "Region {}: {tenants} tenants, {users} users and {groups} groups are in {} ({bytes} bytes).\nThe file holds personal data and the digests of tokens: keep it in the region.",
            header.region,
            path.display()
        ),
    )
}

fn so_far(counts: Counts) -> String {
    format!(
        "{} tenants, {} users, {} groups",
        counts.tenants, counts.users, counts.groups
    )
}

/// Looks whether a backup is whole and of the right region, and has the region-node take it.
///
/// # Errors
/// [`CommandError`] when the file is not right, or the region-node cannot be found, reached, or
/// refuses. Then nothing has changed.
pub async fn restore(
    arguments: RestoreArguments,
    data_dir: &Path,
    output: Output,
) -> Result<(), CommandError> {
    let regions = Regions::find(&arguments.remote, data_dir, arguments.region.as_ref()).await?;
    let api = regions.only()?;
    let path = &arguments.from;
    let wrong = |source| CommandError::Backup {
        path: path.clone(),
        source,
    };
    let checking = Progress::begin("checked");
    let (header, counts) = check(path, checking)?;
    let here: Option<&RegionId> = api.region();
    if let Some(here) = here.filter(|here| **here != header.region) {
        return Err(wrong(BackupFileError::Region {
            of: header.region,
            here: here.clone(),
        }));
    }
    let progress = Progress::begin("sent");
    let began = Progress::begin("restored");
    let body = Body::wrap_stream(stream::iter(Chunks {
        file: open(path)?,
        sent: 0,
        progress,
    }));
    let answer = api
        .restore(body, arguments.replace, arguments.revoke_tokens)
        .await?;
    let mut result = json!({
        "file": path,
        "region": header.region,
        "seconds": began.seconds(),
    });
    if let (Some(result), Some(restored)) = (
        result.as_object_mut(),
        answer.get("restored").and_then(Value::as_object),
    ) {
        result.extend(restored.clone());
    }
    output.result(&result, &told(&result, counts, arguments.revoke_tokens))
}

/// What a restore says to a person.
fn told(result: &Value, counts: Counts, has_revoked: bool) -> String {
    let Counts {
        tenants,
        users,
        groups,
        ..
    } = counts;
    let mut text = format!(
        "Region {}: {tenants} tenants, {users} users and {groups} groups are restored.\n",
        cell(result, "region")
    );
    let number = |member: &str| result.get(member).and_then(Value::as_u64).unwrap_or(0);
    let ids = |member: &str| {
        let ids = result.get(member).and_then(Value::as_array);
        let ids: Vec<&str> = ids
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        ids.join(", ")
    };
    if has_revoked {
        text.push_str(&format!(
            "{} tokens were revoked: create new ones with `meridian token create`.\n",
            number("tokens_revoked")
        ));
    } else {
        text.push_str(&format!(
            "{} tokens are live. If one of them was revoked after the backup and this region no longer knows it, revoke it again (`meridian token revoke`), or restore with --revoke-tokens.\n",
            number("live_tokens")
        ));
    }
    if number("tokens_kept_ended") > 0 {
        text.push_str(&format!(
            "{} tokens that are live in the backup have ended since, and stay so.\n",
            number("tokens_kept_ended")
        ));
    }
    if number("resources_back") > 0 {
        text.push_str(&format!(
            "{} users and groups that were deleted after the backup are back; --json names them.\n",
            number("resources_back")
        ));
    }
    if number("resources_gone") > 0 {
        text.push_str(&format!(
            "{} users and groups that were created after the backup are gone.\n",
            number("resources_gone")
        ));
    }
    for (member, what) in [
        ("tenants_back", "were deleted after the backup and are back"),
        (
            "tenants_gone",
            "were created after the backup and are erased",
        ),
    ] {
        let ids = ids(member);
        if !ids.is_empty() {
            text.push_str(&format!("These tenants {what}: {ids}\n"));
        }
    }
    text
}

fn open(path: &Path) -> Result<File, CommandError> {
    File::open(path).map_err(|source| unreadable(path, source))
}

fn unreadable(path: &Path, source: std::io::Error) -> CommandError {
    CommandError::File {
        what: "read",
        path: PathBuf::from(path),
        source,
    }
}

/// Reads the whole file: a damaged one is never sent.
fn check(path: &Path, mut progress: Progress) -> Result<(Header, Counts), CommandError> {
    let wrong = |source| CommandError::Backup {
        path: path.to_owned(),
        source,
    };
    let mut file = open(path)?;
    let (mut reader, mut rows) = (BackupReader::default(), Vec::new());
    let (mut chunk, mut read) = (vec![0; CHUNK], 0);
    loop {
        let length = file
            .read(&mut chunk)
            .map_err(|source| unreadable(path, source))?;
        if length == 0 {
            return reader.finish().map_err(wrong);
        }
        let bytes = chunk.get(..length).unwrap_or_default();
        reader.take(bytes, &mut rows).map_err(wrong)?;
        rows.clear();
        read += length as u64;
        progress.tell(read, &so_far(reader.counts()));
    }
}

/// The bytes of a file, as they are sent.
struct Chunks {
    file: File,
    sent: u64,
    progress: Progress,
}

impl Iterator for Chunks {
    type Item = std::io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut chunk = vec![0; CHUNK];
        match self.file.read(&mut chunk) {
            Ok(0) => None,
            Ok(length) => {
                chunk.truncate(length);
                self.sent += length as u64;
                self.progress.tell(self.sent, "to the region-node");
                Some(Ok(chunk))
            }
            Err(error) => Some(Err(error)),
        }
    }
}
