//! [`SqliteStore`]: the embedded engine, one file a region.
//!
//! One thread writes and shares its commits among the writes that wait; many connections read
//! snapshots beside it; a thread of its own checkpoints. A second process that opens the same
//! file is refused, because two programs with one SQLite file is how such files are lost.

mod activity;
mod audit;
mod backup;
mod candidates;
mod changes;
mod checkpointer;
mod connection;
mod error;
mod events;
mod exact;
mod leftover;
mod members;
mod migrations;
mod readers;
mod resources;
mod restore;
mod tenants;
mod tokens;
mod writer;

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use async_trait::async_trait;
use shared::{TenantId, Timestamp, TokenDigest, TokenId};
use tokio::sync::mpsc;

use self::backup::LongReads;
use self::checkpointer::Checkpointer;
use self::connection::{Role, execute, first};
use self::exact::Exact;
pub use self::migrations::MigrationError;
use self::readers::{Readers, snapshot};
use self::writer::Writer;
use super::activity::{
    ActivityBatch, ActivityPage, ActivityQuery, ActivityRetention, Cycle, Entry, EntryNumber,
    Finding, Hour,
};
use super::narrowing::MOST_INDEX_ROWS;
use super::{
    Access, AuditHead, AuditNote, AuditRange, AuditRecord, Author, BackupRow, Candidates, Change,
    CommitCounts, Content, DeadLetter, Endpoint, EndpointChange, Erased, ExportRow, FoundToken,
    MemberChange, Memberships, Narrowing, NewAccessToken, NewToken, Outcome, Page, PageStart,
    Position, Related, Report, RequestKey, RestoreError, RestoreHow, RestoreStep, Restored,
    Retention, Store, StoreCondition, StoreError, Stored, StoredToken, Tenant, TenantSettings,
    TenantState, WriteContext,
};
use crate::scim::client::Client;
use crate::scim::{ResourceId, ResourceKind, Version};

/// Before this release a write-ahead log could be reset under a reader and damage the file.
const OLDEST_SQLITE: i32 = 3_051_003;
/// Longest page that is read on the calling thread: 100 resources, and the one more that tells
/// whether the list goes on.
const QUICK_PAGE: u32 = 101;
/// Longest run of candidates that is read by an exact look-up on the calling thread: there are few
/// unless many resources share a value.
const MOST_EXACT: u32 = 500;

/// How the file is used.
#[derive(Clone, Copy, Debug)]
pub struct SqliteOptions {
    /// Most connections that read at the same time; at least two.
    pub readers: usize,
    /// Page cache of the writing connection, in KiB.
    pub writer_cache_kib: i64,
    /// Page cache of each reading connection, in KiB.
    pub reader_cache_kib: i64,
    /// Most writes that wait; one more is refused.
    pub write_queue: usize,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            readers: 8,
            writer_cache_kib: 16 * 1024,
            reader_cache_kib: 4 * 1024,
            write_queue: 4096,
        }
    }
}

/// Why a file could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process serves from it.
    #[error(
        "another process has {path} open; a region's file belongs to one region-node at a time"
    )]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The program was linked against a library that can damage the file.
    #[error("SQLite {found} is too old: 3.51.3 or later is needed")]
    OldLibrary {
        /// The version that was found.
        found: &'static str,
    },
    /// The folder or the lock file cannot be used.
    #[error("{path} cannot be created or locked")]
    File {
        /// What was tried.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The schema does not fit.
    #[error("the schema of {path} cannot be brought up to date")]
    Migration {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: MigrationError,
    },
    /// SQLite cannot use the file.
    #[error("{path} cannot be opened")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        #[source]
        source: rusqlite::Error,
    },
}

/// The region's tenants, tokens and resources in one SQLite file.
pub struct SqliteStore {
    // Dropped in this order: writes are finished, the connections closed, and only then the lock
    // is given up.
    writer: Arc<Writer>,
    checkpointer: Checkpointer,
    readers: Arc<Readers>,
    path: PathBuf,
    long_reads: LongReads,
    /// Held by the restore that is under way.
    restore: Arc<tokio::sync::Mutex<()>>,
    _lock: File,
}

impl SqliteStore {
    /// Opens the file, creating it and its folder if they are missing, and brings its schema up
    /// to date. Blocks while it does.
    ///
    /// # Errors
    /// [`OpenError`], in sentences for the operator.
    pub fn open(path: &Path, options: SqliteOptions) -> Result<Self, OpenError> {
        if rusqlite::version_number() < OLDEST_SQLITE {
            return Err(OpenError::OldLibrary {
                found: rusqlite::version(),
            });
        }
        let lock = prepare_files(path)?;
        let sqlite = |source| OpenError::Sqlite {
            path: path.to_owned(),
            source,
        };
        let mut writing =
            connection::open(path, Role::Writer, options.writer_cache_kib).map_err(sqlite)?;
        migrations::apply(&mut writing).map_err(|source| OpenError::Migration {
            path: path.to_owned(),
            source,
        })?;
        let unfinished = unfinished_work(&mut writing).map_err(sqlite)?;
        let checkpointing = connection::open(path, Role::Checkpointer, 256).map_err(sqlite)?;

        let threads = |source| OpenError::File {
            path: path.to_owned(),
            source,
        };
        let counters = Arc::new(CommitCounts::default());
        let long_reads = Arc::new(AtomicUsize::new(0));
        let checkpointer = Checkpointer::start(
            checkpointing,
            Arc::clone(&counters),
            Arc::clone(&long_reads),
        )
        .map_err(threads)?;
        let reopened = path.to_owned();
        let reopen = move || connection::open(&reopened, Role::Writer, options.writer_cache_kib);
        let writer = Writer::start(writing, Box::new(reopen), options.write_queue, counters)
            .map_err(threads)?;
        let store = Self {
            writer: Arc::new(writer),
            checkpointer,
            readers: Arc::new(Readers::new(
                path.to_owned(),
                options.readers,
                options.reader_cache_kib,
            )),
            path: path.to_owned(),
            long_reads,
            restore: Arc::default(),
            _lock: lock,
        };
        store.resume_erasures(unfinished);
        Ok(store)
    }

    /// Erases what is left of tenants, and counts that nothing is. In a task of its own: a caller
    /// that goes away does not leave half a tenant behind.
    async fn erase(&self, keys: Vec<i64>) -> Result<Erased, StoreError> {
        let writer = Arc::downgrade(&self.writer);
        let (readers, cutter) = (Arc::downgrade(&self.readers), self.checkpointer.cutter());
        let erasure = tokio::spawn(async move {
            let mut erased = Erased::default();
            for key in keys {
                erased.add(&erase(&writer, key).await?);
                let count = move |connection: &rusqlite::Connection| {
                    snapshot(connection, || backup::count_rows(connection, key))
                };
                let Some(readers) = readers.upgrade() else {
                    return Err(StoreError::Corrupt("the store closed in an erasure"));
                };
                erased.left += readers.scan(count).await?;
            }
            cutter.cut().await;
            Ok(erased)
        });
        erasure
            .await
            .unwrap_or(Err(StoreError::Corrupt("an erasure ended early")))
    }

    /// Erasures that a crash cut short go on in the background, if there is a runtime.
    fn resume_erasures(&self, unfinished: Vec<i64>) {
        if unfinished.is_empty() {
            return;
        }
        let (writer, cutter) = (Arc::downgrade(&self.writer), self.checkpointer.cutter());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                for key in unfinished {
                    if let Err(error) = erase(&writer, key).await {
                        tracing::warn!(
                            error = &error as &(dyn std::error::Error + 'static),
                            "the erasure of a tenant goes on after the next start"
                        );
                    }
                }
                cutter.cut().await;
            });
        }
    }
}

/// Tenants whose erasure was cut short, and what is left of restores that were.
fn unfinished_work(connection: &mut rusqlite::Connection) -> rusqlite::Result<Vec<i64>> {
    let transaction = connection.transaction()?;
    // Nothing that fails here is lost: the next start or the next restore finds it again.
    if restore::abandon(&transaction).is_ok() {
        transaction.commit()?;
    } else {
        drop(transaction);
    }
    tenants::unfinished_erasures(connection)
}

/// Removes what is left of a tenant, in steps between which other writes get their turn.
async fn erase(writer: &std::sync::Weak<Writer>, key: i64) -> Result<Erased, StoreError> {
    let mut erased = Erased::default();
    loop {
        // Not held over the steps, or the store could not close.
        let Some(writer) = writer.upgrade() else {
            return Ok(erased);
        };
        let step = writer
            .write(move |connection| tenants::erase_some(connection, key))
            .await?;
        if step.rows() == 0 {
            return Ok(erased);
        }
        erased.add(&step);
    }
}

/// Creates the folder and the file (for the owner's eyes only) and takes the lock beside it.
fn prepare_files(path: &Path) -> Result<File, OpenError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::File { path, source }
    };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(folder).map_err(failed(folder))?;
    let lock_path = beside(path, ".lock");
    let lock = open_private(&lock_path).map_err(failed(&lock_path))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(OpenError::InUse {
                path: path.to_owned(),
            });
        }
        Err(TryLockError::Error(source)) => return Err(failed(&lock_path)(source)),
    }
    let log_path = beside(path, "-wal");
    leftover::make_durable(&log_path).map_err(failed(&log_path))?;
    open_private(path).map_err(failed(path))?;
    // The new names must be as durable as what will be written under them.
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(failed(folder))?;
    Ok(lock)
}

/// A file whose name is that of the database and something more.
fn beside(path: &Path, more: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(more);
    PathBuf::from(name)
}

fn open_private(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[async_trait]
impl Store for SqliteStore {
    async fn create_tenant(
        &self,
        id: &TenantId,
        name: &str,
        settings: &TenantSettings,
        now: Timestamp,
    ) -> Result<Tenant, StoreError> {
        let (id, name, settings) = (id.clone(), name.to_owned(), settings.clone());
        self.writer
            .write(move |connection| tenants::create(connection, &id, &name, &settings, now))
            .await
    }

    async fn get_tenant(&self, id: &TenantId) -> Result<Option<Tenant>, StoreError> {
        self.readers
            .point(|connection| tenants::get(connection, id))
            .await
    }

    async fn list_tenants(&self) -> Result<Vec<Tenant>, StoreError> {
        self.readers.scan(tenants::list).await
    }

    async fn set_tenant_state(
        &self,
        id: &TenantId,
        state: TenantState,
        by: &Author,
        now: Timestamp,
    ) -> Result<Tenant, StoreError> {
        let (id, by) = (id.clone(), by.clone());
        self.writer
            .write(move |connection| tenants::set_state(connection, &id, state, &by, now))
            .await
    }

    async fn set_tenant_settings(
        &self,
        id: &TenantId,
        settings: &TenantSettings,
        expected: Option<i64>,
        note: &AuditNote,
        now: Timestamp,
    ) -> Result<Tenant, StoreError> {
        let (id, settings, note) = (id.clone(), settings.clone(), note.clone());
        self.writer
            .write(move |connection| {
                tenants::set_settings(connection, &id, &settings, expected, &note, now)
            })
            .await
    }

    async fn delete_tenant(&self, id: &TenantId) -> Result<Erased, StoreError> {
        let id = id.clone();
        let (key, tokens) = self
            .writer
            .write(move |connection| tenants::begin_erasure(connection, &id))
            .await?;
        let erased = self.erase(vec![key]).await?;
        Ok(Erased { tokens, ..erased })
    }

    async fn create_token(
        &self,
        tenant: &TenantId,
        token: &NewToken,
        under: Option<&Access>,
        now: Timestamp,
    ) -> Result<StoredToken, StoreError> {
        let (tenant, token, under) = (tenant.clone(), token.clone(), under.cloned());
        self.writer
            .write(move |connection| {
                tokens::create(connection, &tenant, &token, under.as_ref(), now)
            })
            .await
    }

    async fn list_tokens(&self, tenant: &TenantId) -> Result<Vec<StoredToken>, StoreError> {
        self.readers
            .point(|connection| snapshot(connection, || tokens::list(connection, tenant)))
            .await
    }

    async fn get_token(&self, id: &TokenId) -> Result<Option<StoredToken>, StoreError> {
        self.readers
            .point(|connection| tokens::get(connection, id))
            .await
    }

    async fn rotate_token(
        &self,
        id: &TokenId,
        successor: &NewToken,
        overlap: Duration,
        under: Option<&Access>,
        now: Timestamp,
    ) -> Result<StoredToken, StoreError> {
        let (id, successor, under) = (id.clone(), successor.clone(), under.cloned());
        self.writer
            .write(move |connection| {
                tokens::rotate(connection, &id, &successor, overlap, under.as_ref(), now)
            })
            .await
    }

    async fn revoke_token(
        &self,
        id: &TokenId,
        by: &Author,
        under: Option<&Access>,
        now: Timestamp,
    ) -> Result<StoredToken, StoreError> {
        let (id, by, under) = (id.clone(), by.clone(), under.cloned());
        self.writer
            .write(move |connection| tokens::revoke(connection, &id, &by, under.as_ref(), now))
            .await
    }

    async fn find_token(&self, digest: &TokenDigest) -> Result<Option<FoundToken>, StoreError> {
        self.readers
            .point(|connection| tokens::find(connection, digest))
            .await
    }

    async fn create_access_token(
        &self,
        id: &TokenId,
        access: &NewAccessToken,
        now: Timestamp,
    ) -> Result<Timestamp, StoreError> {
        let (id, access) = (id.clone(), *access);
        self.writer
            .write(move |connection| tokens::create_access_token(connection, &id, &access, now))
            .await
    }

    async fn end_access_token(
        &self,
        tenant: &TenantId,
        digest: &TokenDigest,
    ) -> Result<(), StoreError> {
        let (tenant, digest) = (tenant.clone(), *digest);
        self.writer
            .write(move |connection| tokens::end_access_token(connection, &tenant, &digest))
            .await
    }

    async fn prune_access_tokens(&self, now: Timestamp) -> Result<bool, StoreError> {
        self.writer
            .write(move |connection| tokens::prune_access_tokens(connection, now))
            .await
    }

    async fn touch_tokens(&self, used: &[(TokenId, Timestamp)]) -> Result<(), StoreError> {
        let used = used.to_vec();
        self.writer
            .write(move |connection| tokens::touch(connection, &used))
            .await
    }

    async fn head(&self, access: &Access) -> Result<Tenant, StoreError> {
        self.readers
            .point(|connection| tenants::head(connection, access))
            .await
    }

    async fn create(
        &self,
        access: &Access,
        kind: ResourceKind,
        id: ResourceId,
        content: Content,
        write: WriteContext,
    ) -> Result<Stored, StoreError> {
        let access = access.clone();
        self.writer
            .write(move |connection| {
                resources::create(connection, &access, kind, id, content, write)
            })
            .await
    }

    async fn get(
        &self,
        access: &Access,
        kind: ResourceKind,
        id: ResourceId,
    ) -> Result<Option<Stored>, StoreError> {
        self.readers
            .point(|connection| resources::get(connection, access, kind, id))
            .await
    }

    async fn replace(
        &self,
        access: &Access,
        kind: ResourceKind,
        id: ResourceId,
        expected: Version,
        content: Content,
        write: WriteContext,
    ) -> Result<Stored, StoreError> {
        let access = access.clone();
        self.writer
            .write(move |connection| {
                resources::replace(connection, &access, kind, id, expected, content, write)
            })
            .await
    }

    async fn delete(
        &self,
        access: &Access,
        kind: ResourceKind,
        id: ResourceId,
        expected: Option<Version>,
        write: WriteContext,
    ) -> Result<(), StoreError> {
        let access = access.clone();
        self.writer
            .write(move |connection| {
                resources::delete(connection, &access, kind, id, expected, write)
            })
            .await
    }

    async fn change_members(
        &self,
        access: &Access,
        group: ResourceId,
        expected: Option<Version>,
        changes: Vec<MemberChange>,
        write: WriteContext,
    ) -> Result<Version, StoreError> {
        let access = access.clone();
        self.writer
            .write(move |connection| {
                members::change(connection, &access, group, expected, &changes, write)
            })
            .await
    }

    async fn members(
        &self,
        access: &Access,
        groups: &[Position],
        most: Option<u32>,
    ) -> Result<Vec<Vec<Related>>, StoreError> {
        let (access, groups) = (access.clone(), groups.to_vec());
        self.readers
            .scan(move |connection| {
                snapshot(connection, || {
                    let tenant = tenants::held(connection, &access)?.key;
                    groups
                        .into_iter()
                        .map(|group| members::of_group(connection, tenant, group, most))
                        .collect()
                })
            })
            .await
    }

    async fn groups_of(
        &self,
        access: &Access,
        resources: &[Position],
    ) -> Result<Memberships, StoreError> {
        self.readers
            .point(|connection| {
                if let [member] = resources {
                    return members::held_groups_of(connection, access, *member);
                }
                // Most often there is nothing to read, and that is known from one statement.
                if tenants::held(connection, access)?.groups == 0 {
                    return Ok(Memberships::none(resources.len()));
                }
                snapshot(connection, || {
                    let head = tenants::held(connection, access)?;
                    members::groups_of(connection, head.key, resources)
                })
            })
            .await
    }

    async fn page(
        &self,
        access: &Access,
        kind: ResourceKind,
        start: PageStart,
        limit: u32,
    ) -> Result<Page, StoreError> {
        let access = access.clone();
        let quick = limit <= QUICK_PAGE && !matches!(start, PageStart::Offset(1..));
        let read = move |connection: &rusqlite::Connection| {
            snapshot(connection, || {
                let head = tenants::held(connection, &access)?;
                resources::page(connection, &head, kind, start, limit)
            })
        };
        if quick {
            self.readers.point(read).await
        } else {
            self.readers.scan(read).await
        }
    }

    async fn candidates(
        &self,
        access: &Access,
        kind: ResourceKind,
        narrowing: &Narrowing,
        after: Option<Position>,
        limit: u32,
    ) -> Result<Candidates, StoreError> {
        if let Some(exact) = Exact::of(kind, narrowing)
            && limit <= MOST_EXACT
        {
            return self
                .readers
                .point(|connection| exact.run(connection, access, kind, after, limit))
                .await;
        }
        let plan = candidates::plan(kind, narrowing);
        let quick = limit <= QUICK_PAGE && plan.is_quick();
        let access = access.clone();
        // Gone with this call, so that a long read ends when nobody waits for it.
        let asks = Arc::new(());
        let asker = Arc::downgrade(&asks);
        let read = move |connection: &rusqlite::Connection| {
            snapshot(connection, || {
                let head = tenants::held(connection, &access)?;
                let most = MOST_INDEX_ROWS;
                plan.run(connection, &head, kind, after, limit, most, &asker)
            })
        };
        if quick {
            self.readers.point(read).await
        } else {
            self.readers.scan(read).await
        }
    }

    async fn history(
        &self,
        access: &Access,
        id: ResourceId,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Change>, StoreError> {
        let access = access.clone();
        self.readers
            .scan(move |connection| {
                snapshot(connection, || {
                    changes::history(connection, &access, id, before, limit)
                })
            })
            .await
    }

    async fn outcome(
        &self,
        access: &Access,
        key: RequestKey,
    ) -> Result<Option<Outcome>, StoreError> {
        self.readers
            .point(|connection| snapshot(connection, || changes::outcome(connection, access, key)))
            .await
    }

    async fn changes(
        &self,
        tenant: &TenantId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<Change>, StoreError> {
        let tenant = tenant.clone();
        self.readers
            .scan(move |connection| {
                snapshot(connection, || {
                    changes::list(connection, &tenant, after, limit)
                })
            })
            .await
    }

    async fn prune(&self, tenant: &TenantId, keep: Retention) -> Result<bool, StoreError> {
        let tenant = tenant.clone();
        self.writer
            .write(move |connection| changes::prune(connection, &tenant, keep))
            .await
    }

    async fn begin_activity(&self, writer: &str, now: Timestamp) -> Result<(), StoreError> {
        let writer = writer.to_owned();
        self.writer
            .write(move |connection| activity::begin(connection, &writer, now))
            .await
    }

    async fn record_activity(
        &self,
        batch: Arc<ActivityBatch>,
        is_repeated: bool,
    ) -> Result<(), StoreError> {
        self.writer
            .write(move |connection| activity::record(connection, &batch, is_repeated))
            .await
    }

    async fn end_activity(&self, writer: &str) -> Result<(), StoreError> {
        let writer = writer.to_owned();
        self.writer
            .write(move |connection| activity::end(connection, &writer))
            .await
    }

    async fn activity(
        &self,
        access: &Access,
        query: &ActivityQuery,
    ) -> Result<ActivityPage, StoreError> {
        let (access, query) = (access.clone(), query.clone());
        self.readers
            .scan(move |connection| {
                snapshot(connection, || activity::page(connection, &access, &query))
            })
            .await
    }

    async fn activity_entry(
        &self,
        access: &Access,
        number: EntryNumber,
    ) -> Result<Option<(Entry, Client)>, StoreError> {
        let access = access.clone();
        self.readers
            .scan(move |connection| {
                snapshot(connection, || activity::get(connection, &access, number))
            })
            .await
    }

    async fn cycles(
        &self,
        access: &Access,
        before: Timestamp,
        count: u32,
    ) -> Result<Vec<Cycle>, StoreError> {
        let access = access.clone();
        self.readers
            .scan(move |connection| {
                snapshot(connection, || {
                    activity::cycles(connection, &access, before, count)
                })
            })
            .await
    }

    async fn activity_hours(&self, access: &Access, from: i64) -> Result<Vec<Hour>, StoreError> {
        let access = access.clone();
        self.readers
            .scan(move |connection| {
                snapshot(connection, || activity::hours(connection, &access, from))
            })
            .await
    }

    async fn findings(&self, access: &Access) -> Result<Vec<Finding>, StoreError> {
        let access = access.clone();
        self.readers
            .scan(move |connection| {
                snapshot(connection, || activity::findings(connection, &access))
            })
            .await
    }

    async fn prune_activity(
        &self,
        tenant: &TenantId,
        keep: ActivityRetention,
    ) -> Result<(), StoreError> {
        let of = tenant.clone();
        // Counting so many is no work for the thread on which all writes wait.
        let oldest = self
            .readers
            .scan(move |connection| activity::oldest_to_keep(connection, &of, keep.most))
            .await?;
        loop {
            let tenant = tenant.clone();
            let step = move |connection: &rusqlite::Connection| {
                activity::prune(connection, &tenant, keep, oldest)
            };
            if self.writer.write(step).await? {
                return Ok(());
            }
        }
    }

    async fn note_audit(
        &self,
        tenant: &TenantId,
        notes: Vec<AuditNote>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let tenant = tenant.clone();
        self.writer
            .write(move |connection| audit::note_all(connection, &tenant, now, &notes))
            .await
    }

    async fn audit(
        &self,
        tenant: &TenantId,
        range: AuditRange,
        limit: u32,
    ) -> Result<(AuditHead, Vec<AuditRecord>), StoreError> {
        let tenant = tenant.clone();
        self.readers
            .scan(move |connection| {
                snapshot(connection, || {
                    audit::list(connection, &tenant, range, limit)
                })
            })
            .await
    }

    async fn prune_audit(
        &self,
        tenant: &TenantId,
        since: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let tenant = tenant.clone();
        self.writer
            .write(move |connection| audit::prune(connection, &tenant, since, now))
            .await
    }

    async fn create_endpoint(
        &self,
        endpoint: &Endpoint,
        note: &AuditNote,
    ) -> Result<Endpoint, StoreError> {
        let (endpoint, note) = (endpoint.clone(), note.clone());
        self.writer
            .write(move |connection| events::create(connection, &endpoint, &note))
            .await
    }

    async fn get_endpoint(
        &self,
        tenant: &TenantId,
        id: &str,
    ) -> Result<Option<Endpoint>, StoreError> {
        self.readers
            .point(|connection| events::get(connection, tenant, id))
            .await
    }

    async fn list_endpoints(&self, tenant: Option<&TenantId>) -> Result<Vec<Endpoint>, StoreError> {
        self.readers
            .point(|connection| events::list(connection, tenant))
            .await
    }

    async fn change_endpoint(
        &self,
        tenant: &TenantId,
        id: &str,
        change: &EndpointChange,
        note: &AuditNote,
        now: Timestamp,
    ) -> Result<Endpoint, StoreError> {
        let (tenant, id) = (tenant.clone(), id.to_owned());
        let (change, note) = (change.clone(), note.clone());
        self.writer
            .write(move |connection| events::update(connection, &tenant, &id, &change, &note, now))
            .await
    }

    async fn delete_endpoint(
        &self,
        tenant: &TenantId,
        id: &str,
        note: &AuditNote,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let (tenant, id, note) = (tenant.clone(), id.to_owned(), note.clone());
        self.writer
            .write(move |connection| events::delete(connection, &tenant, &id, &note, now))
            .await
    }

    async fn lease_endpoint(
        &self,
        id: &str,
        node: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool, StoreError> {
        let (id, node) = (id.to_owned(), node.to_owned());
        self.writer
            .write(move |connection| events::lease(connection, &id, &node, now, until))
            .await
    }

    async fn report_endpoint(
        &self,
        id: &str,
        node: &str,
        report: &Report,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let (id, node, report) = (id.to_owned(), node.to_owned(), report.clone());
        self.writer
            .write(move |connection| events::report(connection, &id, &node, &report, now))
            .await
    }

    async fn dead_letters(
        &self,
        tenant: &TenantId,
        id: &str,
        only_replays: bool,
        after: i64,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        self.readers
            .point(|connection| {
                events::dead_letters(connection, tenant, id, only_replays, after, limit)
            })
            .await
    }

    async fn replay_dead_letters(&self, tenant: &TenantId, id: &str) -> Result<u64, StoreError> {
        let (tenant, id) = (tenant.clone(), id.to_owned());
        self.writer
            .write(move |connection| events::replay(connection, &tenant, &id))
            .await
    }

    async fn event_key(
        &self,
        candidate: &(String, Vec<u8>),
        now: Timestamp,
    ) -> Result<(String, Vec<u8>), StoreError> {
        let candidate = candidate.clone();
        self.writer
            .write(move |connection| events::key(connection, &candidate, now))
            .await
    }

    fn commit_counts(&self) -> Option<&CommitCounts> {
        Some(self.writer.counts())
    }

    async fn backup(&self, rows: mpsc::Sender<BackupRow>) -> Result<(), StoreError> {
        backup::read_long(&self.path, &self.long_reads, move |connection| {
            backup::send_region(connection, &rows)
        })
        .await
    }

    async fn restore(
        &self,
        steps: mpsc::Receiver<RestoreStep>,
        how: RestoreHow,
    ) -> Result<Restored, RestoreError> {
        let Ok(_turn) = Arc::clone(&self.restore).try_lock_owned() else {
            return Err(RestoreError::Busy);
        };
        // What one left that could not even be given up.
        let mut left = self.writer.write(restore::abandon).await?;
        let (more, answer) = match restore::run(&self.writer, steps, how).await {
            Ok(done) => (Ok(done.retired), Ok(done.restored)),
            Err(error) => (self.writer.write(restore::abandon).await, Err(error)),
        };
        let erased = match more {
            Ok(more) => {
                left.extend(more);
                self.erase(left).await.map(drop)
            }
            Err(error) => Err(error),
        };
        if let Err(error) = erased {
            tracing::warn!(
                error = &error as &(dyn std::error::Error + 'static),
                "the erasure of what a restore left goes on after the next start"
            );
        }
        answer
    }

    async fn export(
        &self,
        tenant: &TenantId,
        rows: mpsc::Sender<ExportRow>,
    ) -> Result<(), StoreError> {
        let tenant = tenant.clone();
        backup::read_long(&self.path, &self.long_reads, move |connection| {
            backup::send_tenant(connection, &tenant, &rows)
        })
        .await
    }

    async fn condition(&self) -> Result<StoreCondition, StoreError> {
        let schema = self.readers.point(migrations::applied).await?;
        let folder = self.path.parent().unwrap_or(&self.path);
        let space = rustix::fs::statvfs(folder).ok();
        Ok(StoreCondition {
            engine: "sqlite",
            schema,
            newest_schema: migrations::newest(),
            free_bytes: space.map(|space| space.f_bavail.saturating_mul(space.f_frsize)),
        })
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.readers
            .point(|connection| {
                first(
                    connection,
                    "SELECT probes FROM readiness",
                    [],
                    |_row| Ok(()),
                )
            })
            .await?;
        self.writer
            .write(|connection| {
                execute(
                    connection,
                    "UPDATE readiness SET probes = probes + 1 WHERE only_row = 1",
                    [],
                )
            })
            .await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
