//! Builds the parts from the settings, binds the listeners, runs until told to stop.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use actix_http::{HttpService, KeepAlive, Protocol, Request};
use actix_server::{Server, ServerHandle};
use actix_service::{ServiceFactoryExt as _, fn_service};
use actix_web::dev::Extensions;
use actix_web::web::{self, Data};
use actix_web::{App, HttpServer};
use futures_util::FutureExt as _;
use reqwest::header::HeaderValue;
use shared::tls::{Identity, trusting_nobody};
use shared::{Clock, RegionId};
use telemetry::{Export, ExportError};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::config::{ConfigError, LinkTlsSettings, RegionSettings, Scheme, Settings};
use crate::connection::{Connection, ConnectionLimits, Seat, Seats, Stream, Wire};
use crate::host::{self, Hosts};
use crate::limits::{BodyMemory, Bucket, Rate};
use crate::link::{self, LinkTls, Looks, RegionLink};
use crate::local::Local;
use crate::metrics::{self, Metrics};
use crate::oauth;
use crate::region::{LookupCounts, LookupLimits, Region};
use crate::reload::{Reload, warn_of_hostnames_not_served};
use crate::resolver::Resolver;
use crate::resolver::redis::Redis;
use crate::serve::{self, Edge, LINGER};
use crate::tls::EdgeTls;
use crate::turns::Turns;

/// Why the gateway did not start.
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
    /// Traces and metrics cannot be sent.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// The HTTP client cannot be built.
    #[error("the HTTP client cannot be built")]
    Client(#[source] reqwest::Error),
}

/// A gateway whose listeners are bound and which serves nobody yet.
pub struct Application {
    address: SocketAddr,
    management_address: SocketAddr,
    edge: Server,
    management: Server,
    parts: Data<Edge>,
    drain: Duration,
    reload: Reload,
}

impl Application {
    /// Checks the settings, binds both listeners and builds the parts.
    ///
    /// # Errors
    /// [`StartupError`], with the name of the setting where one is the reason.
    #[expect(
        clippy::unused_async,
        reason = "the start-up contract that both programs share; a node has to wait here"
    )]
    pub async fn build(settings: Settings, clock: Arc<dyn Clock>) -> Result<Self, StartupError> {
        settings.check()?;
        warn_of_hostnames_not_served(&settings);
        let (listener, address) = listen("listen", settings.listen)?;
        let (management_listener, management_address) =
            listen("management_listen", settings.management_listen)?;
        let link_tls = load_link_tls("link_tls", settings.link_tls.as_ref(), &clock)?;
        let edge = Data::new(build_edge(&settings, link_tls.as_ref(), address, clock)?);
        Ok(Self {
            parts: Data::clone(&edge),
            drain: Duration::from_millis(settings.timeouts.drain_ms),
            reload: Reload::new(
                Data::clone(&edge),
                link_tls,
                settings.clone(),
                public_port(&settings, address),
            ),
            address,
            management_address,
            edge: serve_edge(&settings, listener, Data::clone(&edge)).map_err(|source| {
                StartupError::Listen {
                    setting: "listen",
                    address,
                    source,
                }
            })?,
            management: serve_management(management_listener, edge).map_err(|source| {
                StartupError::Listen {
                    setting: "management_listen",
                    address: management_address,
                    source,
                }
            })?,
        })
    }

    /// All that keeps a gateway with these settings from starting, as far as it can be told without
    /// binding a listener: settings, and the files that they name.
    #[must_use]
    pub fn problems(settings: &Settings, clock: &Arc<dyn Clock>) -> Vec<StartupError> {
        let mut problems = problems_of_parts(settings, clock);
        if problems.is_empty() {
            // What the parts are to each other: hostnames, and certificates for them.
            let table = settings.link_tls.as_ref();
            let whole = load_link_tls("link_tls", table, clock)
                .map_err(StartupError::from)
                .and_then(|tls| {
                    build_edge(settings, tls.as_ref(), settings.listen, Arc::clone(clock))
                });
            problems.extend(whole.err());
        }
        problems
    }

    /// Where provisioning clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where health checks connect.
    #[must_use]
    pub fn management_address(&self) -> SocketAddr {
        self.management_address
    }

    /// Serves until `stop` is ready. Then says for the time of `timeouts.drain_ms` that it is about
    /// to stop, accepts nothing more, and lets what is under way finish.
    ///
    /// # Errors
    /// When a listener fails.
    pub async fn run_until_stopped(
        self,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let Self {
            edge,
            management,
            parts,
            drain,
            reload,
            ..
        } = self;
        let watch = tokio::spawn(link::keep_watch(parts.regions.clone()));
        let notices = Arc::clone(&parts.notices);
        let telling = tokio::spawn(notices.keep_telling(parts.regions.clone()));
        let export = parts.export.clone();
        let counted = Data::clone(&parts);
        let snapshot = move || std::future::ready(metrics::snapshot(&counted));
        let sending = tokio::spawn(export.clone().keep_sending(snapshot));
        let reload = tokio::spawn(reload.keep_watch());
        let handles: [ServerHandle; 2] = [edge.handle(), management.handle()];
        let stopping = tokio::spawn(async move {
            stop.await;
            parts.draining.store(true, Ordering::Relaxed);
            tokio::time::sleep(drain).await;
            // Health checks answer until the last request has finished.
            for handle in handles {
                handle.stop(true).await;
            }
        });
        let ended = tokio::try_join!(edge, management);
        stopping.abort();
        watch.abort();
        telling.abort();
        reload.abort();
        sending.abort();
        export.close().await;
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

/// What is wrong with each part by itself.
fn problems_of_parts(settings: &Settings, clock: &Arc<dyn Clock>) -> Vec<StartupError> {
    let mut problems = settings.problems();
    let for_all = load_link_tls("link_tls", settings.link_tls.as_ref(), clock);
    let for_all = for_all.unwrap_or_else(|error| {
        problems.push(error);
        None
    });
    let regions = settings.regions.iter();
    for (id, region) in regions.filter(|(id, _)| settings.is_served(id)) {
        problems.extend(region.read_link_key(id, settings.production).err());
        let table = format!("regions.{id}.link_tls");
        match load_link_tls(&table, region.link_tls.as_ref(), clock) {
            Ok(own) => {
                let link_tls = own.as_ref().or(for_all.as_ref());
                // Without the table for all regions there is nothing to hold the nodes against.
                if link_tls.is_some() || settings.link_tls.is_none() {
                    problems.extend(region.nodes(id, link_tls.map(Arc::as_ref)).err());
                }
            }
            Err(error) => problems.push(error),
        }
    }
    for files in settings.tls.iter().flat_map(|tls| &tls.certificates) {
        let read = Identity::read(files);
        problems.extend(
            read.err()
                .map(|error| ConfigError::tls("tls.certificates", error)),
        );
    }
    problems.extend(Redis::build(&settings.redis, Arc::clone(clock)).err());
    let problems = problems.into_iter().map(StartupError::from);
    let export = settings.telemetry.export().check();
    problems
        .chain(export.err().map(StartupError::from))
        .collect()
}

/// The port in public URLs: none where it is the scheme's own.
fn public_port(settings: &Settings, listener: SocketAddr) -> Option<u16> {
    let own = match settings.public_scheme {
        Scheme::Http => 80,
        Scheme::Https => 443,
    };
    let port = match settings.public_port {
        Some(0) => Some(listener.port()),
        other => other,
    };
    port.filter(|port| *port != own)
}

fn build_edge(
    settings: &Settings,
    link_tls: Option<&Arc<LinkTls>>,
    listener: SocketAddr,
    clock: Arc<dyn Clock>,
) -> Result<Edge, StartupError> {
    let port = public_port(settings, listener);
    let regions = settings
        .regions
        .iter()
        .filter(|(id, _)| settings.is_served(id))
        .map(|(id, region)| {
            let table = format!("regions.{id}.link_tls");
            let own = load_link_tls(&table, region.link_tls.as_ref(), &clock)?;
            let link_tls = own.as_ref().or(link_tls);
            build_region(settings, id, region, link_tls, port).map(Arc::new)
        })
        .collect::<Result<Vec<_>, StartupError>>()?;
    let hosts = Hosts::build(settings, &regions, port)?;
    let tls = settings.tls.as_ref().map(|tls| {
        let handshake = Duration::from_millis(settings.timeouts.handshake_ms);
        EdgeTls::load(tls, &hosts, handshake, Arc::clone(&clock)).map(Arc::new)
    });
    Ok(Edge {
        hosts,
        tls: tls.transpose()?,
        resolver: Arc::new(Resolver::new(settings, Arc::clone(&clock))?),
        notices: Arc::default(),
        trusted_proxies: settings.trusted_proxies.clone(),
        body_memory: BodyMemory::new(settings.limits.body_memory_mib),
        oauth_memory: BodyMemory::new(oauth::BODY_MEMORY_MIB),
        body_read: Duration::from_millis(settings.timeouts.body_read_ms),
        request: Duration::from_millis(settings.timeouts.request_ms),
        answer_max_bytes: u64::from(settings.limits.answer_max_mib) * 1024 * 1024,
        metrics: Arc::new(Metrics::new(
            &regions
                .iter()
                .map(|region| region.id.clone())
                .collect::<Vec<_>>(),
            settings.telemetry.tenants,
        )),
        export: Export::new(&settings.telemetry.export(), "meridian-gateway", [])?,
        trusts_traces: settings.telemetry.trust_traceparent,
        seats: Seats::new(settings.limits.connections_per_source),
        regions,
        clock,
        draining: AtomicBool::new(false),
    })
}

/// What a table says about how links are encrypted, where there is one.
fn load_link_tls(
    table: &str,
    settings: Option<&LinkTlsSettings>,
    clock: &Arc<dyn Clock>,
) -> Result<Option<Arc<LinkTls>>, ConfigError> {
    let load = |settings| LinkTls::load(table, settings, Arc::clone(clock)).map(Arc::new);
    settings.map(load).transpose()
}

fn build_region(
    settings: &Settings,
    id: &RegionId,
    region: &RegionSettings,
    link_tls: Option<&Arc<LinkTls>>,
    public_port: Option<u16>,
) -> Result<Region, StartupError> {
    let limits = &settings.limits;
    let key = region.read_link_key(id, settings.production)?;
    let mut key = HeaderValue::from_str(key.reveal()).map_err(|_| {
        ConfigError::invalid(
            format!("regions.{id}.link_key"),
            "holds a character that cannot travel in a header",
        )
    })?;
    key.set_sensitive(true);
    let hold = Duration::from_millis(settings.timeouts.node_hold_ms);
    let name = host::regional_name(id, &settings.domain);
    let nodes = region.nodes(id, link_tls.map(Arc::as_ref))?;
    let (connect, idle) = (
        Duration::from_millis(settings.timeouts.node_connect_ms),
        Duration::from_millis(settings.timeouts.node_idle_ms),
    );
    let client_tls = match link_tls {
        Some(tls) => tls.config(),
        None => trusting_nobody().map_err(|source| ConfigError::tls("link_tls", source))?,
    };
    let look = Duration::from_millis(settings.timeouts.node_look_ms);
    let looks = Looks::new(&client_tls, (connect, idle), look).map_err(StartupError::Client)?;
    let link = RegionLink::new(nodes, key, hold, (connect, idle), looks);
    Ok(Region {
        id: id.clone(),
        base_url: host::base_url(settings, &name, public_port),
        link: link.with_tls(link_tls.cloned()),
        lookups: LookupLimits {
            rate: Rate {
                per_s: limits.lookups_per_s,
                burst: limits.lookups_burst,
            },
            bucket: Bucket::default(),
            strangers: Arc::new(Semaphore::new(limits.lookups_in_flight)),
            known: Arc::new(Semaphore::new(limits.known_lookups_in_flight)),
            issuing: Arc::new(Semaphore::new(limits.issuing_in_flight as usize)),
            issuing_of_tenant: limits.issuing_in_flight.div_ceil(4),
        },
        counts: LookupCounts::default(),
        // One region that hangs leaves room for the others' bodies.
        body_memory: BodyMemory::part(
            limits.body_memory_mib,
            if settings.regions.len() > 1 { 2 } else { 1 },
        ),
        turns: Turns::new(
            limits.node_in_flight,
            limits.region_waiting,
            Duration::from_millis(settings.timeouts.turn_ms),
        ),
    })
}

/// The public listener. One service for every path: `serve` takes paths apart itself.
fn serve_edge(settings: &Settings, listener: TcpListener, edge: Data<Edge>) -> io::Result<Server> {
    let timeouts = &settings.timeouts;
    let connection_limits = ConnectionLimits {
        header_read: Duration::from_millis(timeouts.header_read_ms),
        keep_alive: Duration::from_millis(timeouts.keep_alive_ms),
        write_stall: Duration::from_millis(timeouts.write_stall_ms),
        linger: LINGER,
    };
    let seats = edge.seats.clone();
    let mut server = Server::build()
        .disable_signals()
        .max_concurrent_connections(settings.limits.connections)
        .shutdown_timeout(timeouts.shutdown_s);
    if let Some(workers) = settings.workers {
        server = server.workers(workers.max(1));
    }
    let tls = edge.tls.clone();
    let draining = server.graceful_shutdown_signal();
    let server = server.listen("edge", listener, move || {
        // This runs once in each worker.
        let metrics = Local::new(Arc::clone(&edge.metrics));
        let local = Local::new(Data::clone(&edge).into_inner());
        let (draining, drained) = (draining.clone(), Data::clone(&edge));
        let http = HttpService::build()
            // Connections see to it themselves.
            .keep_alive(KeepAlive::Os)
            .client_request_timeout(connection_limits.header_read)
            .client_disconnect_timeout(LINGER)
            .graceful_shutdown_signal(move || {
                let (draining, edge) = (draining.clone(), Data::clone(&drained));
                async move {
                    let mut notified = pin!(draining.notified());
                    let mut is_listening = false;
                    // A connection looks at this whenever it is woken. Once it listens it will be
                    // woken by it, and has to look again only when the gateway is about to stop.
                    poll_fn(|cx| match is_listening && !edge.is_draining() {
                        true => Poll::Pending,
                        false => {
                            is_listening = true;
                            notified.as_mut().poll(cx)
                        }
                    })
                    .await;
                }
            })
            .on_connect_ext(|connection: &Connection, data: &mut Extensions| {
                data.insert(connection.activity());
                if let Some(name) = connection.server_name() {
                    data.insert(name.clone());
                }
            })
            .finish(fn_service(move |request: Request| {
                serve::serve(request, local.clone(), metrics.clone()).map(Ok::<_, Infallible>)
            }));
        let seats = seats.clone();
        let tls = tls.clone();
        fn_service(move |io: TcpStream| {
            let seated = take_seat(io, &seats);
            let tls = tls.clone();
            async move {
                let (io, peer, seat) = seated?;
                let stream = match tls {
                    Some(tls) => {
                        let (stream, name) = tls.accept(io).await?;
                        (stream, Some(name))
                    }
                    None => (Stream::Plain(Wire::new(io)), None),
                };
                let connection = Connection::new(stream, connection_limits, seat);
                io::Result::Ok((connection, Protocol::Http1, Some(peer)))
            }
        })
        .map_err(actix_http::error::DispatchError::Io)
        .and_then(http)
    })?;
    Ok(server.run())
}

/// A connection counts for its source from the beginning, before it is encrypted.
fn take_seat(io: TcpStream, seats: &Seats) -> io::Result<(TcpStream, SocketAddr, Seat)> {
    let peer = io.peer_addr()?;
    let seat = seats
        .take(peer.ip())
        .ok_or(io::ErrorKind::ConnectionRefused)?;
    io.set_nodelay(true)?;
    Ok((io, peer, seat))
}

/// The listener for health checks.
fn serve_management(listener: TcpListener, edge: Data<Edge>) -> io::Result<Server> {
    let server = HttpServer::new(move || {
        App::new()
            .app_data(Data::clone(&edge))
            .route("/livez", web::get().to(serve::livez))
            .route("/readyz", web::get().to(serve::readyz))
            .route("/metrics", web::get().to(serve::metrics))
    })
    .workers(1)
    .disable_signals()
    .shutdown_timeout(1)
    .listen(listener)?;
    Ok(server.run())
}
