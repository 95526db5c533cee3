//! Builds the parts from the settings, binds the listeners, runs until told to stop.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_http::{HttpService, KeepAlive, Request, TlsAcceptorConfig};
use actix_server::{GracefulShutdownSignal, Server};
use actix_service::{IntoServiceFactory as _, ServiceFactory, map_config};
use actix_web::body::BoxBody;
use actix_web::dev::{AppConfig, ServiceResponse};
use actix_web::middleware::from_fn;
use actix_web::web::Data;
use actix_web::{App, HttpServer};
use rustls::RootCertStore;
use shared::api_token::{RandomnessError, random_base62};
use shared::tls::LiveIdentity;
use shared::{Clock, RegionId, Secret, TokenId};
use telemetry::{Export, ExportError, Label};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;

use crate::config::{ConfigError, Engine, LiveKeys, Settings};
use crate::events::Bell;
use crate::events::delivery::{Deliverer, Means, Patience};
use crate::events::egress::{Egress, EgressError};
use crate::events::endpoints::Endpoints;
use crate::events::event::Showing;
use crate::events::token::Tokens as EventTokens;
use crate::grant::Grants;
use crate::housekeeping::{Housekeeping, keep_house};
use crate::keys::KeySet;
use crate::link_tls::LinkTls;
use crate::metrics::{self, Metrics};
use crate::provider::activity::ActivityLog;
use crate::provider::activity::reading::Activities;
use crate::provider::audit::Audit;
use crate::provider::cursor::CursorSealer;
use crate::provider::last_used::LastUsed;
use crate::provider::refusals::Refusals;
use crate::provider::resources::Resources;
use crate::provider::settings::Profiles;
use crate::provider::tenants::Tenants;
use crate::provider::tokens::Tokens;
use crate::store::Store;
use crate::store::postgres::{self, PostgresOptions, PostgresStore};
use crate::store::sqlite::{self, SqliteOptions, SqliteStore};
use crate::{request, routes};

/// A gateway that begins a request finishes its header within this time.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Once nobody can connect any more, connections that are open stay so for this long. Whoever calls
/// over one meanwhile is answered, and told that it ends: a connection that is closed while a call
/// is on its way takes the call with it.
const LAST_CALLS: Duration = Duration::from_millis(250);
/// How long the threads of a stopped server may take to end.
const LONGEST_CLOSE: Duration = Duration::from_secs(2);
const HOUR: Duration = Duration::from_secs(60 * 60);
/// Calls that wait for events at the same time: each takes one of the gateway's places for calls of
/// the region.
const MOST_LONG_POLLS: usize = 16;
/// Characters of a grant key that lives as long as the process.
const EPHEMERAL_KEY_LENGTH: usize = 43;

/// Why the node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartupError {
    /// A setting cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A listener cannot be bound.
    #[error("setting `{setting}`: cannot listen on {address}")]
    Listen {
        /// The setting.
        setting: &'static str,
        /// Its value.
        address: SocketAddr,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
    /// The file of the store cannot be opened.
    #[error("the store cannot be opened (setting `store.path`)")]
    Sqlite(#[from] sqlite::OpenError),
    /// The database of the store cannot be used.
    #[error("the store cannot be opened (setting `store.url`)")]
    Postgres(#[from] postgres::OpenError),
    /// The operating system's random generator failed.
    #[error("no key could be made")]
    Randomness(#[from] RandomnessError),
    /// Traces and metrics cannot be sent.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// There is no way out to receivers of events.
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// Opening the store ended early.
    #[error("the store was not opened")]
    Interrupted(#[source] tokio::task::JoinError),
}

/// What handlers work with. One for each node, shared by all its threads.
pub struct Parts {
    /// The region of this node.
    pub region: RegionId,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// The region's data.
    pub store: Arc<dyn Store>,
    /// Keys of gateways.
    pub link_keys: KeySet,
    /// Keys of the operator.
    pub operator_keys: KeySet,
    /// What grants are signed with, to be told apart from other nodes'.
    pub grant_keys: KeySet,
    /// Mints and verifies grants.
    pub grants: Grants,
    /// The region's tenants.
    pub tenants: Tenants,
    /// The region's API tokens.
    pub tokens: Tokens,
    /// Provisioning requests that are not written yet.
    pub activity: ActivityLog,
    /// What administrators see of them.
    pub activities: Activities,
    /// The region's audit.
    pub audit: Audit,
    /// Tells those who wait for changes that there may be some.
    pub bell: Bell,
    /// Shows resources in events.
    pub showing: Showing,
    /// Who receives events.
    pub endpoints: Endpoints,
    /// Makes security event tokens.
    pub event_tokens: Arc<EventTokens>,
    /// Sends events.
    pub deliverer: Arc<Deliverer>,
    /// Calls that wait for events.
    pub long_polls: Semaphore,
    /// Refused requests that are not written yet.
    pub refusals: Refusals,
    /// Uses of tokens that are not written yet.
    pub last_used: LastUsed,
    /// The tenants' users and groups.
    pub resources: Data<Resources>,
    /// Longest time that a request may take.
    pub longest_request: Duration,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Where traces and metrics go.
    pub export: Export,
    /// What the node proves itself with on its link, where that is encrypted.
    pub link_identity: Option<Arc<LiveIdentity>>,
    stopping: AtomicBool,
    closing: AtomicBool,
}

impl Parts {
    /// Whether the node is finishing its last requests.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Whether nobody can connect to it any more.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }
}

/// A node whose store is open, whose listeners are bound, and which serves nobody yet.
pub struct Application {
    link_address: SocketAddr,
    management_address: SocketAddr,
    link: Server,
    management: Server,
    parts: Data<Parts>,
    housekeeping: Housekeeping,
    drain: Duration,
    link_tls: Option<LinkTls>,
    certificates_look: Duration,
}

impl Application {
    /// Checks the settings, opens the store, binds both listeners.
    ///
    /// # Errors
    /// [`StartupError`], with the name of the setting where one is the reason.
    pub async fn build(settings: Settings, clock: Arc<dyn Clock>) -> Result<Self, StartupError> {
        settings.check()?;
        let keys = settings.live_keys()?;
        let link_tls = match &settings.link_tls {
            Some(link_tls) => Some(LinkTls::load(link_tls, Arc::clone(&clock))?),
            None => None,
        };
        if settings.production && link_tls.is_none() && !settings.link_listen.ip().is_loopback() {
            tracing::warn!(
                "the link is not encrypted: set [link_tls], or keep its network private"
            );
        }
        let (link, link_address) = listen("link_listen", settings.link_listen)?;
        let (management, management_address) =
            listen("management_listen", settings.management_listen)?;
        let store = open_store(&settings).await?;
        let mut parts = parts(&settings, &keys, store, clock)?;
        parts.link_identity = link_tls.as_ref().map(|tls| Arc::clone(&tls.identity));
        let parts = Data::new(parts);
        let failed = |setting, address| {
            move |source| StartupError::Listen {
                setting,
                address,
                source,
            }
        };
        Ok(Self {
            link_address,
            management_address,
            link: serve_link(&settings, link, link_tls.as_ref(), Data::clone(&parts))
                .map_err(failed("link_listen", link_address))?,
            management: serve_management(management, Data::clone(&parts))
                .map_err(failed("management_listen", management_address))?,
            parts,
            drain: Duration::from_millis(settings.limits.drain_ms),
            housekeeping: Housekeeping {
                flush_every: Duration::from_millis(settings.tokens.last_used_flush_ms),
                write_activity_every: Duration::from_millis(settings.activity.flush_ms),
                keep_activity: HOUR * 24 * settings.activity.keep_days,
                most_activity: settings.activity.keep_requests,
                keep_changes: HOUR * 24 * settings.retention.changes_days,
                keep_client_keys: HOUR * settings.retention.idempotency_h,
                keep_for_endpoints: HOUR * 24 * settings.events.keep_days,
                keep_audit: HOUR * 24 * settings.retention.audit_days,
            },
            link_tls,
            certificates_look: Duration::from_millis(settings.limits.certificates_look_ms),
        })
    }

    /// All that keeps a node with these settings from starting, as far as it can be told without
    /// binding a listener or opening the store: settings, and the files that they name.
    #[must_use]
    pub fn problems(settings: &Settings, clock: &Arc<dyn Clock>) -> Vec<StartupError> {
        let mut problems = settings.problems();
        problems.extend(settings.read_keys().1);
        if let Some(link_tls) = &settings.link_tls {
            problems.extend(LinkTls::load(link_tls, Arc::clone(clock)).err());
        }
        let mut problems: Vec<_> = problems.into_iter().map(StartupError::from).collect();
        if settings.store.engine == Engine::Postgres {
            let options = postgres_options(settings).map_err(StartupError::from);
            let checked = options.and_then(|options| Ok(options.check()?));
            problems.extend(checked.err());
        }
        problems.extend(egress(settings).err());
        let export = Export::new(&settings.telemetry.export(), "meridian-region-node", []);
        problems.extend(export.err().map(StartupError::from));
        problems
    }

    /// Where gateways and the operator connect.
    #[must_use]
    pub fn link_address(&self) -> SocketAddr {
        self.link_address
    }

    /// Where health checks connect.
    #[must_use]
    pub fn management_address(&self) -> SocketAddr {
        self.management_address
    }

    /// Serves until `stop` is ready. Then tells the gateways for the time of `limits.drain_ms` that it
    /// is about to stop, accepts nothing more, and lets what is under way finish.
    ///
    /// # Errors
    /// When a listener fails.
    pub async fn run_until_stopped(
        self,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let Self {
            link,
            management,
            parts,
            housekeeping,
            drain,
            link_tls,
            certificates_look,
            ..
        } = self;
        tracing::info!(
            region = parts.region.as_str(),
            link = %self.link_address,
            management = %self.management_address,
            "ready"
        );
        let handles = [link.handle(), management.handle()];
        let stopped = Data::clone(&parts);
        let stopping = tokio::spawn(async move {
            stop.await;
            stopped.stopping.store(true, Ordering::Relaxed);
            tokio::time::sleep(drain).await;
            let [link, management] = handles;
            let last_request = link.stop(true);
            stopped.closing.store(true, Ordering::Relaxed);
            // Health checks answer until the last request has finished.
            last_request.await;
            management.stop(true).await;
        });
        let delivery = tokio::spawn(Arc::clone(&parts.deliverer).run());
        let house = tokio::spawn(keep_house(Data::clone(&parts), housekeeping));
        let renewal = tokio::spawn(async move {
            if let Some(tls) = link_tls {
                tls.keep_watch(certificates_look).await;
            }
        });
        let export = parts.export.clone();
        let counted = Data::clone(&parts);
        let sending = tokio::spawn(export.clone().keep_sending(move || {
            let counted = Data::clone(&counted);
            async move { metrics::snapshot(&counted).await }
        }));
        let ended = tokio::try_join!(link, management);
        stopping.abort();
        sending.abort();
        house.abort();
        delivery.abort();
        renewal.abort();
        if let Err(error) = parts.last_used.flush(&*parts.store).await {
            tracing::warn!(
                error = &error as &(dyn std::error::Error + 'static),
                "times of last use were lost"
            );
        }
        if let Err(error) = parts.activity.close(&*parts.store).await {
            tracing::warn!(
                error = &error as &(dyn std::error::Error + 'static),
                "requests were lost to the tenants' activity"
            );
        }
        let now = parts.clock.now();
        if let Err(error) = parts.refusals.flush(&*parts.store, now).await {
            tracing::warn!(
                error = &error as &(dyn std::error::Error + 'static),
                "counts of refused requests were lost"
            );
        }
        export.close().await;
        tracing::info!(region = parts.region.as_str(), "stopped");
        // The workers' threads end a moment after their servers; whoever starts a node on the same
        // store next must find it closed.
        let parts = parts.into_inner();
        let closed = async {
            while Arc::strong_count(&parts) > 1 {
                tokio::task::yield_now().await;
            }
        };
        drop(tokio::time::timeout(LONGEST_CLOSE, closed).await);
        ended.map(|_| ())
    }
}

fn listen(
    setting: &'static str,
    address: SocketAddr,
) -> Result<(TcpListener, SocketAddr), StartupError> {
    let bound = TcpListener::bind(address).and_then(|listener| {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        Ok((listener, address))
    });
    bound.map_err(|source| StartupError::Listen {
        setting,
        address,
        source,
    })
}

/// The one place that chooses the engine.
async fn open_store(settings: &Settings) -> Result<Arc<dyn Store>, StartupError> {
    match settings.store.engine {
        Engine::Sqlite => {
            let path = settings.store_path();
            let options = SqliteOptions {
                readers: settings.store.readers,
                writer_cache_kib: i64::from(settings.store.writer_cache_mib) * 1024,
                reader_cache_kib: i64::from(settings.store.reader_cache_mib) * 1024,
                write_queue: settings.store.write_queue,
            };
            let store = tokio::task::spawn_blocking(move || SqliteStore::open(&path, options))
                .await
                .map_err(StartupError::Interrupted)??;
            Ok(Arc::new(store))
        }
        Engine::Postgres => {
            let options = postgres_options(settings)?;
            Ok(Arc::new(PostgresStore::open(options).await?))
        }
    }
}

fn postgres_options(settings: &Settings) -> Result<PostgresOptions, ConfigError> {
    Ok(PostgresOptions {
        url: settings.store_url()?,
        ca_file: settings.store.ca_file.clone(),
        connections: settings.store.connections,
        writers: settings.store.writers,
        write_queue: settings.store.write_queue,
        statement: Duration::from_millis(settings.limits.request_ms),
    })
}

fn parts(
    settings: &Settings,
    keys: &LiveKeys,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
) -> Result<Parts, StartupError> {
    let region = settings.region.clone();
    let (signing, others) = match keys.grant.split_first() {
        Some((signing, others)) => (signing.clone(), others),
        // Outside production only: `Settings::live_keys` has seen to it.
        None => {
            tracing::warn!("setting `keys.grant`: none is given, so this process makes its own");
            (
                Secret::new(&random_base62(EPHEMERAL_KEY_LENGTH)?),
                [].as_slice(),
            )
        }
    };
    let grants = Grants::new(region.clone(), &signing, others);
    let secrets = std::iter::once(&signing).chain(others);
    let cursors = CursorSealer::new(secrets.map(|secret| secret.reveal().as_bytes()));
    let overlap = Duration::from_secs(u64::from(settings.tokens.rotation_overlap_s));
    let bell = Bell::new();
    let resources = Resources::new(
        Arc::clone(&store),
        Arc::new(Profiles::new()),
        Arc::clone(&clock),
        cursors,
        bell.clone(),
    );
    let events = &settings.events;
    let showing = Showing::new(
        resources.clone(),
        TokenId::generate()?,
        events.base_url.trim_end_matches('/').to_owned(),
    );
    let egress = egress(settings)?;
    let patience = Patience {
        first_wait: Duration::from_millis(events.first_retry_ms),
        attempts: events.attempts,
        pause_after: HOUR * events.pause_after_h,
    };
    let event_tokens = Arc::new(EventTokens::new(
        Arc::clone(&store),
        Arc::clone(&clock),
        &region,
        events.base_url.trim_end_matches('/'),
    ));
    let means = Means {
        store: Arc::clone(&store),
        clock: Arc::clone(&clock),
        bell: bell.clone(),
        egress: egress.clone(),
        showing: showing.clone(),
        tokens: Arc::clone(&event_tokens),
    };
    let is_alone = settings.store.engine == Engine::Sqlite;
    let deliverer = Arc::new(Deliverer::new(means, patience, is_alone));
    Ok(Parts {
        link_keys: KeySet::new(&keys.link),
        operator_keys: KeySet::new(&keys.operator),
        grant_keys: KeySet::new(&keys.grant),
        grants,
        tenants: Tenants::new(Arc::clone(&store), Arc::clone(&clock)),
        tokens: Tokens::new(
            region.clone(),
            Arc::clone(&store),
            Arc::clone(&clock),
            overlap,
        ),
        activity: ActivityLog::new(
            settings.activity.enabled,
            settings.activity.queue,
            Arc::clone(&clock),
        )?,
        activities: Activities::new(Arc::clone(&store), Arc::clone(&clock)),
        audit: Audit::new(Arc::clone(&store), Arc::clone(&clock)),
        refusals: Refusals::new(),
        last_used: LastUsed::new(),
        endpoints: Endpoints::new(
            Arc::clone(&store),
            Arc::clone(&clock),
            bell.clone(),
            egress,
            Arc::clone(&deliverer),
        ),
        bell,
        showing,
        event_tokens,
        deliverer,
        long_polls: Semaphore::new(MOST_LONG_POLLS),
        resources: Data::new(resources),
        longest_request: Duration::from_millis(settings.limits.request_ms),
        metrics: Arc::new(Metrics::new(&region)),
        export: Export::new(
            &settings.telemetry.export(),
            "meridian-region-node",
            [("region", Label::from(&region))],
        )?,
        link_identity: None,
        stopping: AtomicBool::new(false),
        closing: AtomicBool::new(false),
        region,
        clock,
        store,
    })
}

/// The way out to receivers of events.
fn egress(settings: &Settings) -> Result<Egress, StartupError> {
    let events = &settings.events;
    let tls = |source| ConfigError::Tls {
        setting: "events.ca_file",
        source,
    };
    let roots = match &events.ca_file {
        Some(file) => shared::tls::authorities(file).map_err(tls)?,
        None => {
            let mut roots = RootCertStore::empty();
            // One that cannot be read signs nobody we call.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            roots
        }
    };
    let tls = shared::tls::client_config(roots, None).map_err(tls)?;
    let timeout = Duration::from_millis(events.timeout_ms);
    Ok(Egress::new(
        tls,
        timeout,
        events.allow_http,
        &events.allowed_networks,
    )?)
}

fn serve_link(
    settings: &Settings,
    listener: TcpListener,
    tls: Option<&LinkTls>,
    parts: Data<Parts>,
) -> io::Result<Server> {
    let limits = &settings.limits;
    let mut server = Server::build()
        .max_concurrent_connections(limits.connections)
        .shutdown_timeout(limits.shutdown_s)
        .disable_signals();
    if let Some(workers) = limits.workers {
        server = server.workers(workers);
    }
    let keep_alive = Duration::from_millis(limits.keep_alive_ms);
    let ending = server.graceful_shutdown_signal();
    let server = match tls {
        Some(tls) => {
            let config = tls.config();
            server.listen("link", listener, move || {
                let acceptor = TlsAcceptorConfig::default().handshake_timeout(HEADER_TIMEOUT);
                link_http(Data::clone(&parts), keep_alive, ending.clone())
                    .rustls_0_23_with_config(config.clone(), acceptor)
            })?
        }
        None => server.listen("link", listener, move || {
            link_http(Data::clone(&parts), keep_alive, ending.clone()).tcp()
        })?,
    };
    Ok(server.run())
}

/// What is spoken over a connection of the link.
fn link_http<T: AsyncRead + AsyncWrite + Unpin + 'static>(
    parts: Data<Parts>,
    keep_alive: Duration,
    ending: GracefulShutdownSignal,
) -> HttpService<
    T,
    impl ServiceFactory<
        Request,
        Config = (),
        Response = ServiceResponse<BoxBody>,
        Error = actix_web::Error,
        InitError = (),
    >,
    BoxBody,
> {
    let app = App::new()
        .wrap(from_fn(request::accompany))
        .app_data(Data::clone(&parts.resources))
        .app_data(parts)
        .configure(routes::link);
    HttpService::build()
        .keep_alive(KeepAlive::Timeout(keep_alive))
        .client_request_timeout(HEADER_TIMEOUT)
        // A gateway that closes its side has given the call up. A write that is under way is
        // finished all the same, by the store, and known under its key.
        .h1_allow_half_closed(false)
        .graceful_shutdown_signal(move || {
            let ending = ending.clone();
            async move {
                ending.notified().await;
                tokio::time::sleep(LAST_CALLS).await;
            }
        })
        .finish(map_config(app.into_factory(), |()| AppConfig::default()))
}

fn serve_management(listener: TcpListener, parts: Data<Parts>) -> io::Result<Server> {
    let server = HttpServer::new(move || {
        App::new()
            .app_data(Data::clone(&parts))
            .configure(routes::management)
    });
    Ok(server
        .workers(1)
        .shutdown_timeout(1)
        .disable_signals()
        .listen(listener)?
        .run())
}

#[cfg(test)]
pub(crate) mod tests {
    use shared::{TestClock, Timestamp};

    use super::*;

    /// The parts of a node of `us` on a store in a folder.
    pub(crate) async fn parts_in(folder: &tempfile::TempDir) -> Data<Parts> {
        let mut settings = Settings::defaults().unwrap();
        settings.store.path = folder.path().join("meridian.db");
        settings.keys.link = vec![Secret::new("link-0123456789abcdefghijklmnopqrstuv")];
        settings.keys.operator = vec![Secret::new("oper-0123456789abcdefghijklmnopqrstuv")];
        let keys = settings.live_keys().unwrap();
        let store = open_store(&settings).await.unwrap();
        let clock = TestClock::at(Timestamp(1_700_000_000_000));
        Data::new(parts(&settings, &keys, store, Arc::new(clock)).unwrap())
    }
}
