//! [`PostgresStore`]: the engine for regions that several region-nodes serve, or that are larger
//! than one machine.
//!
//! The tables are those of SQLite; a tenant's number and the positions in them mean the same.
//! Every read is one statement, every write one call of a function, both in one round trip.
//! Row-level security stands behind the tenant in the statements as a second wall. PostgreSQL
//! need not be there when the node starts: calls are answered as unavailable until it is.

mod activity;
mod audit;
mod backup;
mod candidates;
mod changes;
mod connection;
mod error;
mod events;
mod key;
mod members;
mod migrations;
mod resources;
mod restore;
mod tenants;
mod tls;
mod tokens;
mod writer;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use shared::{Secret, TenantId, Timestamp, TokenDigest, TokenId};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_postgres::Config;
use tokio_postgres::error::SqlState;

use self::backup::Aside;
use self::connection::Connections;
use self::error::PostgresError;
pub use self::migrations::MigrationError;
use self::migrations::{MIGRATIONS, Migration};
use self::resources::Holder;
use self::restore::Turn;
use self::tls::Tls;
pub use self::tls::TlsError;
use self::writer::{Call, Writer, Written};
use super::activity::{
    ActivityBatch, ActivityPage, ActivityQuery, ActivityRetention, Cycle, Entry, EntryNumber,
    Finding, Hour,
};
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

/// Between two attempts to reach a PostgreSQL that is away at start.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// How often a node looks for what another one has left unfinished.
const LEFTOVERS_EVERY: Duration = Duration::from_secs(10 * 60);
/// Threads that serve the connections.
const THREADS: usize = 2;
/// Numbers of how many tenants are remembered.
const REMEMBERED_NUMBERS: u64 = 100_000;
/// How many writes that are too large to share a commit are done at once, in each node.
const LARGE_WRITES: usize = 2;
/// How long a write in a lane waits for the others of its tenant: a large one, or another node's.
/// While it waits, its neighbours in the lane wait too.
const LONGEST_LOCK: Duration = Duration::from_secs(2);
/// The database that every server has, to make ours from.
const MAINTENANCE: &str = "postgres";

/// How PostgreSQL is used.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    /// `postgres://user:password@host:port/database`, as libpq takes it.
    pub url: Secret,
    /// With `sslmode=require` in the URL: a PEM file with the authorities that sign PostgreSQL's
    /// certificate, in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// Most connections for reads and for what the operator does.
    pub connections: usize,
    /// Lanes in which writes share commits, each with a connection of its own.
    pub writers: usize,
    /// Most writes that wait; one more is refused.
    pub write_queue: usize,
    /// Longest time for a statement or a commit.
    pub statement: Duration,
}

impl PostgresOptions {
    /// Whether PostgreSQL could be connected to with them, as far as it can be told without it.
    ///
    /// # Errors
    /// [`OpenError::Url`], [`OpenError::Database`] or [`OpenError::Tls`].
    pub fn check(&self) -> Result<(), OpenError> {
        Tls::of(&mut read_url(&self.url)?, self.ca_file.as_deref())?;
        Ok(())
    }
}

/// Why the store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL cannot be read.
    #[error(
        "the URL of PostgreSQL cannot be read; it looks like postgres://user:password@host:5432/database"
    )]
    Url,
    /// TLS cannot be spoken.
    #[error("TLS to PostgreSQL cannot be spoken")]
    Tls(#[from] TlsError),
    /// The URL names no database.
    #[error("the URL of PostgreSQL names no database")]
    Database,
    /// PostgreSQL is there, and does not let us in.
    #[error(
        "PostgreSQL refuses (SQLSTATE {0}): check user, password, and the right to create the database or its schema"
    )]
    Refused(String),
    /// The schema does not fit.
    #[error("the schema cannot be brought up to date")]
    Migration(#[from] MigrationError),
    /// What the store begins with fails.
    #[error("PostgreSQL does not do what the store begins with: does the user own the schema?")]
    Store(#[source] StoreError),
    /// The threads that serve the connections cannot be started.
    #[error("threads cannot be started")]
    Threads(#[source] std::io::Error),
}

/// Why an attempt to get ready failed.
enum NotReady {
    /// It is away: worth another attempt.
    Away(PostgresError),
    /// It is there, and another attempt would end the same.
    Unusable(OpenError),
}

impl From<tokio_postgres::Error> for NotReady {
    fn from(error: tokio_postgres::Error) -> Self {
        /// Of the states that are taken for passing once the node serves: a wrong user or password,
        /// and a database that cannot be made.
        const OPERATORS: [&str; 2] = ["28", "3D"];
        let Some(state) = error.code().map(SqlState::code) else {
            return Self::Away(PostgresError::of(&error));
        };
        let is_operators = OPERATORS.iter().any(|class| state.starts_with(class));
        match error::of_state(state) {
            StoreError::Unavailable(_) if !is_operators => {
                Self::Away(PostgresError::State(state.to_owned()))
            }
            _ => Self::Unusable(OpenError::Refused(state.to_owned())),
        }
    }
}

impl From<MigrationError> for NotReady {
    fn from(error: MigrationError) -> Self {
        match error {
            MigrationError::Connection => Self::Away(PostgresError::Closed),
            MigrationError::Postgres(state)
                if matches!(error::of_state(&state), StoreError::Unavailable(_)) =>
            {
                Self::Away(PostgresError::State(state))
            }
            error => Self::Unusable(error.into()),
        }
    }
}

/// The region's tenants, tokens and resources in one PostgreSQL database.
pub struct PostgresStore {
    ready: Arc<OnceLock<Ready>>,
    /// By tenant and generation: a restore gives a tenant another number.
    numbers: moka::sync::Cache<(TenantId, i64), i64>,
    /// Given up without waiting when the store is dropped.
    runtime: Option<Runtime>,
}

/// What there is once the schema is up to date.
struct Ready {
    connections: Connections,
    writer: Writer,
    aside: Aside,
}

impl PostgresStore {
    /// Connects, creates the database if it is missing, and brings the schema up to date. If
    /// PostgreSQL is away, that happens when it comes back, and until then every call is answered
    /// as unavailable.
    ///
    /// # Errors
    /// [`OpenError`], in sentences for the operator.
    pub async fn open(options: PostgresOptions) -> Result<Self, OpenError> {
        Self::open_with(options, Attempt::usual()).await
    }

    async fn open_with(options: PostgresOptions, attempt: Attempt) -> Result<Self, OpenError> {
        let mut config = read_url(&options.url)?;
        let tls = Tls::of(&mut config, options.ca_file.as_deref())?;
        let server = Server { config, tls };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("postgres")
            .enable_all()
            .build()
            .map_err(OpenError::Threads)?;
        let store = Self {
            ready: Arc::new(OnceLock::new()),
            numbers: moka::sync::Cache::new(REMEMBERED_NUMBERS),
            runtime: Some(runtime),
        };
        let handle = store.handle()?;
        let attempt = Arc::new(attempt);
        let first = get_ready(&server, &options, &attempt, &handle);
        match first.await {
            Ok(ready) => drop(store.ready.set(ready)),
            Err(NotReady::Unusable(error)) => return Err(error),
            Err(NotReady::Away(error)) => {
                tracing::warn!(
                    error = &error as &(dyn std::error::Error + 'static),
                    "PostgreSQL is away; the node is ready when it is there"
                );
                let ready = Arc::clone(&store.ready);
                let inner = handle.clone();
                handle.spawn(async move {
                    get_ready_at_last(&ready, &server, &options, &attempt, &inner).await;
                });
            }
        }
        Ok(store)
    }

    fn handle(&self) -> Result<tokio::runtime::Handle, OpenError> {
        let runtime = self.runtime.as_ref();
        runtime
            .map(|runtime| runtime.handle().clone())
            .ok_or_else(|| OpenError::Threads(std::io::ErrorKind::Other.into()))
    }

    fn ready(&self) -> Result<&Ready, StoreError> {
        self.ready
            .get()
            .ok_or_else(|| PostgresError::Wait("it has not been there since the start").into())
    }

    fn connections(&self) -> Result<&Connections, StoreError> {
        Ok(&self.ready()?.connections)
    }

    /// A tenant's number. It changes with a restore only, and every statement on an access checks
    /// number and id together.
    async fn held_number(&self, access: &Access) -> Result<i64, StoreError> {
        let generation = super::backup::generation(access.credential_version);
        let key = (access.tenant.clone(), generation);
        if let Some(number) = self.numbers.get(&key) {
            return Ok(number);
        }
        let number = self.number(&access.tenant).await?;
        let number = number.ok_or(StoreError::Refused)?;
        self.numbers.insert(key, number);
        Ok(number)
    }

    /// The same as it is now.
    async fn number(&self, tenant: &TenantId) -> Result<Option<i64>, StoreError> {
        tenants::number(self.connections()?, tenant).await
    }

    /// The same of a tenant that has to be there.
    async fn there(&self, tenant: &TenantId) -> Result<i64, StoreError> {
        self.number(tenant).await?.ok_or(StoreError::NotFound)
    }

    async fn holder<'a>(&self, access: &'a Access) -> Result<Holder<'a>, StoreError> {
        let number = self.held_number(access).await?;
        Ok(Holder::of(access, number))
    }

    async fn write(&self, call: Call) -> Result<Written, StoreError> {
        self.ready()?.writer.write(call).await
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Whoever waits for a write has been told what became of it, or is gone.
            runtime.shutdown_background();
        }
    }
}

/// How the store gets ready.
struct Attempt {
    steps: &'static [Migration],
    /// Leaves the tenant out of all statements but those on the head row, to see that row-level
    /// security stands alone.
    #[cfg(test)]
    blind: bool,
}

impl Attempt {
    fn usual() -> Self {
        Self {
            steps: MIGRATIONS,
            #[cfg(test)]
            blind: false,
        }
    }
}

fn read_url(url: &Secret) -> Result<Config, OpenError> {
    let mut config: Config = url.reveal().parse().map_err(|_| OpenError::Url)?;
    if config.get_hosts().is_empty() {
        return Err(OpenError::Url);
    }
    if config.get_dbname().is_none_or(str::is_empty) {
        return Err(OpenError::Database);
    }
    if config.get_application_name().is_none() {
        config.application_name("meridian-region-node");
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(Duration::from_secs(3));
    }
    // A host that has vanished is noticed within a minute, whoever waits for it.
    config.keepalives_idle(Duration::from_secs(20));
    config.keepalives_interval(Duration::from_secs(10));
    config.keepalives_retries(3);
    config.tcp_user_timeout(Duration::from_secs(50));
    Ok(config)
}

/// Where PostgreSQL is, and how it is spoken to.
#[derive(Clone)]
struct Server {
    config: Config,
    tls: Tls,
}

impl Server {
    /// A connection that is not one of a pool.
    async fn connect(
        &self,
        runtime: &tokio::runtime::Handle,
    ) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
        let (client, connection) = self.tls.connect(&self.config).await?;
        runtime.spawn(async move { drop(connection.await) });
        Ok(client)
    }
}

/// Keeps trying while PostgreSQL is away.
async fn get_ready_at_last(
    ready: &OnceLock<Ready>,
    server: &Server,
    options: &PostgresOptions,
    attempt: &Attempt,
    runtime: &tokio::runtime::Handle,
) {
    loop {
        tokio::time::sleep(TRY_AGAIN_AFTER).await;
        match get_ready(server, options, attempt, runtime).await {
            Ok(got) => {
                drop(ready.set(got));
                tracing::info!("PostgreSQL is there");
                return;
            }
            Err(NotReady::Away(_)) => {}
            Err(NotReady::Unusable(error)) => {
                tracing::error!(
                    error = &error as &(dyn std::error::Error + 'static),
                    "PostgreSQL cannot be used; repair it and start the node again"
                );
                return;
            }
        }
    }
}

async fn get_ready(
    server: &Server,
    options: &PostgresOptions,
    attempt: &Attempt,
    runtime: &tokio::runtime::Handle,
) -> Result<Ready, NotReady> {
    let unusable = |_| NotReady::Unusable(OpenError::Url);
    let Server { config, tls } = server;
    ensure_database(server, runtime).await?;
    let above = {
        // Not bound by the statement's time limit: a migration may take longer.
        let single = Connections::new(config, tls, String::new(), runtime, 1).map_err(unusable)?;
        let mut lease = single.take().await.map_err(away)?;
        let client = lease.client().map_err(away)?;
        let above = migrations::is_above_security(client).await?;
        migrations::apply(client, attempt.steps, above).await?;
        above
    };
    let session = connection::session(options.statement, above);
    let pool = |size| Connections::new(config, tls, session.clone(), runtime, size);
    let connections = pool(options.connections.max(1)).map_err(unusable)?;
    #[cfg(test)]
    let connections = Connections {
        blind: attempt.blind,
        ..connections
    };
    let lanes = {
        let session = format!("{session}; SET lock_timeout = {}", LONGEST_LOCK.as_millis());
        Connections::new(config, tls, session, runtime, options.writers.max(1))
    };
    let lanes = lanes.map_err(unusable)?;
    let large = pool(LARGE_WRITES).map_err(unusable)?;
    let writer = Writer::start(
        &lanes,
        &large,
        options.writers,
        options.write_queue,
        options.statement,
        runtime,
    );
    let aside = Aside::new(server, above, runtime);
    abandon_restores(&aside).await.map_err(away)?;
    runtime.spawn(look_for_leftovers(connections.clone(), aside.clone()));
    Ok(Ready {
        connections,
        writer,
        aside,
    })
}

fn away(error: StoreError) -> NotReady {
    match error {
        StoreError::Unavailable(cause) => NotReady::Away(PostgresError::Setup(cause)),
        error => NotReady::Unusable(OpenError::Store(error)),
    }
}

/// Creates the database, if the server says that it is not there.
async fn ensure_database(
    server: &Server,
    runtime: &tokio::runtime::Handle,
) -> Result<(), NotReady> {
    let missing = match server.connect(runtime).await {
        Ok(_) => return Ok(()),
        Err(error) if error.code() == Some(&SqlState::INVALID_CATALOG_NAME) => {
            server.config.get_dbname()
        }
        Err(error) => return Err(error.into()),
    };
    let name = missing.unwrap_or_default().replace('"', "\"\"");
    let mut maintenance = server.clone();
    maintenance.config.dbname(MAINTENANCE);
    let client = maintenance.connect(runtime).await?;
    let made = client
        .batch_execute(&format!(
            "CREATE DATABASE \"{name}\" ENCODING 'UTF8' TEMPLATE template0"
        ))
        .await;
    match made {
        Ok(()) => Ok(()),
        // Another node was faster.
        Err(error)
            if matches!(
                error.code(),
                Some(&SqlState::DUPLICATE_DATABASE | &SqlState::UNIQUE_VIOLATION)
            ) =>
        {
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// What a restore left whose node is gone is erased. One that is under way on another node stays.
async fn abandon_restores(aside: &Aside) -> Result<(), StoreError> {
    if let Some(mut turn) = Turn::take(aside).await? {
        turn.abandon().await?;
        turn.end().await;
    }
    Ok(())
}

/// What a node leaves unfinished when it dies is finished by one that lives, or by the next that
/// starts.
async fn look_for_leftovers(connections: Connections, aside: Aside) {
    let mut ticks = tokio::time::interval(LEFTOVERS_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let looked = async {
            abandon_restores(&aside).await?;
            for tenant in tenants::unfinished_erasures(&connections).await? {
                erase(&connections, tenant).await?;
            }
            Ok::<(), StoreError>(())
        };
        if let Err(error) = looked.await {
            tracing::debug!(
                error = &error as &(dyn std::error::Error + 'static),
                "unfinished erasures wait for PostgreSQL"
            );
        }
    }
}

/// Removes what is left of a tenant, in steps between which others get their turn.
async fn erase(connections: &Connections, tenant: i64) -> Result<Erased, StoreError> {
    let mut erased = Erased::default();
    loop {
        let step = tenants::erase_some(connections, tenant).await?;
        if step.rows() == 0 {
            return Ok(erased);
        }
        erased.add(&step);
        tokio::task::yield_now().await;
    }
}

/// Erases what is left of tenants, and counts that nothing is. In a task of its own: a caller that
/// goes away does not leave half a tenant behind.
async fn erase_and_count(
    connections: &Connections,
    tenants: Vec<i64>,
) -> Result<Erased, StoreError> {
    let connections = connections.clone();
    let erasure = tokio::spawn(async move {
        let mut erased = Erased::default();
        for tenant in tenants {
            erased.add(&erase(&connections, tenant).await?);
            erased.left += tenants::count_rows(&connections, tenant).await?;
        }
        Ok(erased)
    });
    erasure
        .await
        .unwrap_or(Err(StoreError::Corrupt("an erasure ended early")))
}

/// What is not erased now goes on after the next start, and is said.
fn note_unfinished(erased: Result<Erased, StoreError>) {
    if let Err(error) = erased {
        tracing::warn!(
            error = &error as &(dyn std::error::Error + 'static),
            "the erasure of what a restore left goes on after the next start"
        );
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn create_tenant(
        &self,
        id: &TenantId,
        name: &str,
        settings: &TenantSettings,
        now: Timestamp,
    ) -> Result<Tenant, StoreError> {
        tenants::create(self.connections()?, id, name, settings, now).await
    }

    async fn get_tenant(&self, id: &TenantId) -> Result<Option<Tenant>, StoreError> {
        tenants::get(self.connections()?, id).await
    }

    async fn list_tenants(&self) -> Result<Vec<Tenant>, StoreError> {
        tenants::list(self.connections()?).await
    }

    async fn set_tenant_state(
        &self,
        id: &TenantId,
        state: TenantState,
        by: &Author,
        now: Timestamp,
    ) -> Result<Tenant, StoreError> {
        tenants::set_state(self.connections()?, id, state, by, now).await
    }

    async fn set_tenant_settings(
        &self,
        id: &TenantId,
        settings: &TenantSettings,
        expected: Option<i64>,
        note: &AuditNote,
        now: Timestamp,
    ) -> Result<Tenant, StoreError> {
        tenants::set_settings(self.connections()?, id, settings, expected, note, now).await
    }

    async fn delete_tenant(&self, id: &TenantId) -> Result<Erased, StoreError> {
        let connections = self.connections()?;
        let (tenant, tokens) = tenants::begin_erasure(connections, id).await?;
        let erased = erase_and_count(connections, vec![tenant]).await?;
        Ok(Erased { tokens, ..erased })
    }

    async fn create_token(
        &self,
        tenant: &TenantId,
        token: &NewToken,
        under: Option<&Access>,
        now: Timestamp,
    ) -> Result<StoredToken, StoreError> {
        tokens::create(self.connections()?, tenant, token, under, now).await
    }

    async fn list_tokens(&self, tenant: &TenantId) -> Result<Vec<StoredToken>, StoreError> {
        tokens::list(self.connections()?, tenant).await
    }

    async fn get_token(&self, id: &TokenId) -> Result<Option<StoredToken>, StoreError> {
        tokens::get(self.connections()?, id).await
    }

    async fn rotate_token(
        &self,
        id: &TokenId,
        successor: &NewToken,
        overlap: Duration,
        under: Option<&Access>,
        now: Timestamp,
    ) -> Result<StoredToken, StoreError> {
        tokens::rotate(self.connections()?, id, successor, overlap, under, now).await
    }

    async fn revoke_token(
        &self,
        id: &TokenId,
        by: &Author,
        under: Option<&Access>,
        now: Timestamp,
    ) -> Result<StoredToken, StoreError> {
        tokens::revoke(self.connections()?, id, by, under, now).await
    }

    async fn find_token(&self, digest: &TokenDigest) -> Result<Option<FoundToken>, StoreError> {
        tokens::find(self.connections()?, digest).await
    }

    async fn create_access_token(
        &self,
        id: &TokenId,
        access: &NewAccessToken,
        now: Timestamp,
    ) -> Result<Timestamp, StoreError> {
        tokens::create_access_token(self.connections()?, id, access, now).await
    }

    async fn end_access_token(
        &self,
        tenant: &TenantId,
        digest: &TokenDigest,
    ) -> Result<(), StoreError> {
        tokens::end_access_token(self.connections()?, tenant, digest).await
    }

    async fn prune_access_tokens(&self, now: Timestamp) -> Result<bool, StoreError> {
        tokens::prune_access_tokens(self.connections()?, now).await
    }

    async fn touch_tokens(&self, used: &[(TokenId, Timestamp)]) -> Result<(), StoreError> {
        tokens::touch(self.connections()?, used).await
    }

    async fn head(&self, access: &Access) -> Result<Tenant, StoreError> {
        tenants::head(self.connections()?, access).await
    }

    async fn create(
        &self,
        access: &Access,
        kind: ResourceKind,
        id: ResourceId,
        content: Content,
        write: WriteContext,
    ) -> Result<Stored, StoreError> {
        let tenant = self.held_number(access).await?;
        let call = resources::create(access, tenant, kind, id, &content, &write)?;
        let written = self.write(call).await?;
        Ok(Stored {
            id,
            position: Position(written.position),
            version: Version(written.version),
            created: write.now,
            modified: write.now,
            document: content.document,
            may_be_member: false,
        })
    }

    async fn get(
        &self,
        access: &Access,
        kind: ResourceKind,
        id: ResourceId,
    ) -> Result<Option<Stored>, StoreError> {
        let holder = self.holder(access).await?;
        resources::get(self.connections()?, holder, kind, id).await
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
        let tenant = self.held_number(access).await?;
        let call = resources::replace(access, tenant, kind, id, expected, &content, &write)?;
        let written = self.write(call).await?;
        Ok(Stored {
            id,
            position: Position(written.position),
            version: Version(written.version),
            created: written
                .created
                .map(Timestamp)
                .ok_or(StoreError::Corrupt("a resource without a beginning"))?,
            modified: write.now,
            document: content.document,
            may_be_member: true,
        })
    }

    async fn delete(
        &self,
        access: &Access,
        kind: ResourceKind,
        id: ResourceId,
        expected: Option<Version>,
        write: WriteContext,
    ) -> Result<(), StoreError> {
        let tenant = self.held_number(access).await?;
        let call = resources::delete(access, tenant, kind, id, expected, &write);
        self.write(call).await?;
        Ok(())
    }

    async fn page(
        &self,
        access: &Access,
        kind: ResourceKind,
        start: PageStart,
        limit: u32,
    ) -> Result<Page, StoreError> {
        let holder = self.holder(access).await?;
        resources::page(self.connections()?, holder, kind, start, limit).await
    }

    async fn candidates(
        &self,
        access: &Access,
        kind: ResourceKind,
        narrowing: &Narrowing,
        after: Option<Position>,
        limit: u32,
    ) -> Result<Candidates, StoreError> {
        let holder = self.holder(access).await?;
        candidates::find(self.connections()?, holder, kind, narrowing, after, limit).await
    }

    async fn change_members(
        &self,
        access: &Access,
        group: ResourceId,
        expected: Option<Version>,
        changes: Vec<MemberChange>,
        write: WriteContext,
    ) -> Result<Version, StoreError> {
        let tenant = self.held_number(access).await?;
        let call = resources::change_members(access, tenant, group, expected, &changes, &write);
        Ok(Version(self.write(call).await?.version))
    }

    async fn members(
        &self,
        access: &Access,
        groups: &[Position],
        most: Option<u32>,
    ) -> Result<Vec<Vec<Related>>, StoreError> {
        let holder = self.holder(access).await?;
        members::of_groups(self.connections()?, holder, groups, most).await
    }

    async fn groups_of(
        &self,
        access: &Access,
        resources: &[Position],
    ) -> Result<Memberships, StoreError> {
        let holder = self.holder(access).await?;
        members::groups_of(self.connections()?, holder, resources).await
    }

    async fn history(
        &self,
        access: &Access,
        id: ResourceId,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Change>, StoreError> {
        let holder = self.holder(access).await?;
        changes::history(self.connections()?, holder, id, before, limit).await
    }

    async fn outcome(
        &self,
        access: &Access,
        key: RequestKey,
    ) -> Result<Option<Outcome>, StoreError> {
        let holder = self.holder(access).await?;
        changes::outcome(self.connections()?, holder, key).await
    }

    async fn changes(
        &self,
        tenant: &TenantId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<Change>, StoreError> {
        let tenant = self.there(tenant).await?;
        changes::list(self.connections()?, tenant, after, limit).await
    }

    async fn prune(&self, tenant: &TenantId, keep: Retention) -> Result<bool, StoreError> {
        match self.number(tenant).await? {
            Some(tenant) => changes::prune(self.connections()?, tenant, keep).await,
            None => Ok(true),
        }
    }

    async fn begin_activity(&self, writer: &str, now: Timestamp) -> Result<(), StoreError> {
        activity::begin(self.connections()?, writer, now).await
    }

    async fn record_activity(
        &self,
        batch: Arc<ActivityBatch>,
        is_repeated: bool,
    ) -> Result<(), StoreError> {
        activity::record(self.connections()?, &batch, is_repeated).await
    }

    async fn end_activity(&self, writer: &str) -> Result<(), StoreError> {
        activity::end(self.connections()?, writer).await
    }

    async fn activity(
        &self,
        access: &Access,
        query: &ActivityQuery,
    ) -> Result<ActivityPage, StoreError> {
        let holder = self.holder(access).await?;
        activity::page(self.connections()?, &holder, query).await
    }

    async fn activity_entry(
        &self,
        access: &Access,
        number: EntryNumber,
    ) -> Result<Option<(Entry, Client)>, StoreError> {
        let holder = self.holder(access).await?;
        activity::get(self.connections()?, &holder, number).await
    }

    async fn cycles(
        &self,
        access: &Access,
        before: Timestamp,
        count: u32,
    ) -> Result<Vec<Cycle>, StoreError> {
        let holder = self.holder(access).await?;
        activity::cycles(self.connections()?, &holder, before, count).await
    }

    async fn activity_hours(&self, access: &Access, from: i64) -> Result<Vec<Hour>, StoreError> {
        let holder = self.holder(access).await?;
        activity::hours(self.connections()?, &holder, from).await
    }

    async fn findings(&self, access: &Access) -> Result<Vec<Finding>, StoreError> {
        let holder = self.holder(access).await?;
        activity::findings(self.connections()?, &holder).await
    }

    async fn prune_activity(
        &self,
        tenant: &TenantId,
        keep: ActivityRetention,
    ) -> Result<(), StoreError> {
        match self.number(tenant).await? {
            Some(tenant) => activity::prune(self.connections()?, tenant, keep).await,
            None => Ok(()),
        }
    }

    async fn note_audit(
        &self,
        tenant: &TenantId,
        notes: Vec<AuditNote>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let tenant = self.there(tenant).await?;
        audit::note_all(self.connections()?, tenant, now, &notes).await
    }

    async fn audit(
        &self,
        tenant: &TenantId,
        range: AuditRange,
        limit: u32,
    ) -> Result<(AuditHead, Vec<AuditRecord>), StoreError> {
        let tenant = self.there(tenant).await?;
        audit::list(self.connections()?, tenant, range, limit).await
    }

    async fn prune_audit(
        &self,
        tenant: &TenantId,
        since: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        match self.number(tenant).await? {
            Some(tenant) => audit::prune(self.connections()?, tenant, since, now).await,
            None => Ok(true),
        }
    }

    async fn create_endpoint(
        &self,
        endpoint: &Endpoint,
        note: &AuditNote,
    ) -> Result<Endpoint, StoreError> {
        let tenant = self.there(&endpoint.tenant).await?;
        events::create(self.connections()?, tenant, endpoint, note).await
    }

    async fn get_endpoint(
        &self,
        tenant: &TenantId,
        id: &str,
    ) -> Result<Option<Endpoint>, StoreError> {
        match self.number(tenant).await? {
            Some(tenant) => events::get(self.connections()?, tenant, id).await,
            None => Ok(None),
        }
    }

    async fn list_endpoints(&self, tenant: Option<&TenantId>) -> Result<Vec<Endpoint>, StoreError> {
        let tenant = match tenant {
            Some(tenant) => Some(self.there(tenant).await?),
            None => None,
        };
        events::list(self.connections()?, tenant).await
    }

    async fn change_endpoint(
        &self,
        tenant: &TenantId,
        id: &str,
        change: &EndpointChange,
        note: &AuditNote,
        now: Timestamp,
    ) -> Result<Endpoint, StoreError> {
        let tenant = self.there(tenant).await?;
        events::update(self.connections()?, tenant, id, change, note, now).await
    }

    async fn delete_endpoint(
        &self,
        tenant: &TenantId,
        id: &str,
        note: &AuditNote,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let tenant = self.there(tenant).await?;
        events::delete(self.connections()?, tenant, id, note, now).await
    }

    async fn lease_endpoint(
        &self,
        id: &str,
        node: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool, StoreError> {
        events::lease(self.connections()?, id, node, now, until).await
    }

    async fn report_endpoint(
        &self,
        id: &str,
        node: &str,
        report: &Report,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        events::report(self.connections()?, id, node, report, now).await
    }

    async fn dead_letters(
        &self,
        tenant: &TenantId,
        id: &str,
        only_replays: bool,
        after: i64,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let tenant = self.there(tenant).await?;
        events::dead_letters(self.connections()?, tenant, id, only_replays, after, limit).await
    }

    async fn replay_dead_letters(&self, tenant: &TenantId, id: &str) -> Result<u64, StoreError> {
        let tenant = self.there(tenant).await?;
        events::replay(self.connections()?, tenant, id).await
    }

    async fn event_key(
        &self,
        candidate: &(String, Vec<u8>),
        now: Timestamp,
    ) -> Result<(String, Vec<u8>), StoreError> {
        events::key(self.connections()?, candidate, now).await
    }

    fn commit_counts(&self) -> Option<&CommitCounts> {
        Some(self.ready().ok()?.writer.counts())
    }

    async fn backup(&self, rows: mpsc::Sender<BackupRow>) -> Result<(), StoreError> {
        backup::send_region(&self.ready()?.aside, &rows).await
    }

    async fn restore(
        &self,
        steps: mpsc::Receiver<RestoreStep>,
        how: RestoreHow,
    ) -> Result<Restored, RestoreError> {
        let Ready {
            connections, aside, ..
        } = self.ready()?;
        let mut turn = Turn::take(aside).await?.ok_or(RestoreError::Busy)?;
        // What a restore left whose node went away.
        let mut left = turn.abandon().await?;
        let (more, answer) = match turn.run(steps, how).await {
            Ok(done) => (Ok(done.retired), Ok(done.restored)),
            Err(error) => (turn.abandon().await, Err(error)),
        };
        note_unfinished(match more {
            Ok(more) => {
                left.extend(more);
                erase_and_count(connections, left).await
            }
            Err(error) => Err(error),
        });
        turn.end().await;
        answer
    }

    async fn export(
        &self,
        tenant: &TenantId,
        rows: mpsc::Sender<ExportRow>,
    ) -> Result<(), StoreError> {
        backup::send_tenant(&self.ready()?.aside, tenant, &rows).await
    }

    async fn condition(&self) -> Result<StoreCondition, StoreError> {
        let sql = "SELECT max(version) FROM schema_migration";
        let rows = self.connections()?.query(sql, &[]).await?;
        let row = rows.first().ok_or(StoreError::Corrupt("no schema"))?;
        Ok(StoreCondition {
            engine: "postgres",
            schema: row.try_get(0)?,
            newest_schema: MIGRATIONS.last().map_or(0, |newest| newest.version),
            free_bytes: None,
        })
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.connections()?
            .query("UPDATE readiness SET probes = probes + 1", &[])
            .await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
