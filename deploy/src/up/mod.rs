//! `meridian up`: a gateway and region-nodes in one process.
//!
//! They meet over loopback HTTP with keys of their own, as they would on separate machines, so
//! what runs here is what is deployed. Nodes start first and stop last.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use actix_web::rt::task::JoinHandle;
use shared::link::PUBLIC_SCIM_PATH;
use shared::{LogFormat, RegionId, SystemClock};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::arguments::UpArguments;
use crate::error::CommandError;
use crate::keys::{self, KeyFiles, KeysError};
use crate::local_state::{Claim, ClaimError, LocalRegion, LocalState};
use crate::operator_api::{OperatorApi, OperatorApiError};
use crate::output::Output;

mod banner;
mod demo;
mod settings;

use demo::Demo;

/// Why `meridian up` did not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    /// `--regions` is empty, or names a region twice.
    #[error("--regions needs one or more regions, each of them once")]
    Regions,
    /// The gateway's compiled-in settings are broken.
    #[error("the gateway's settings cannot be used")]
    GatewaySettings(#[from] gateway::config::ConfigError),
    /// The region-node's compiled-in settings are broken.
    #[error("the region-node's settings cannot be used")]
    NodeSettings(#[from] region_node::config::ConfigError),
    /// The data directory is in use or unusable.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// The gateway's address is in use.
    #[error(
        "{0} (--listen) is in use by another program: stop that one, or choose another address, \
         such as --listen 127.0.0.1:{next}; port 0 takes a free one", next = .0.port().wrapping_add(1)
    )]
    AddressInUse(SocketAddr),
    /// The gateway's address cannot be had.
    #[error("cannot listen on {address} (--listen)")]
    Address {
        /// The address.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The keys of a region cannot be made.
    #[error("region {region} cannot start")]
    Keys {
        /// The region.
        region: RegionId,
        /// Why not.
        #[source]
        source: KeysError,
    },
    /// A region-node cannot start.
    #[error("the region-node of {region} cannot start")]
    Node {
        /// Its region.
        region: RegionId,
        /// Why not.
        #[source]
        source: region_node::startup::StartupError,
    },
    /// The gateway cannot start.
    #[error("the gateway cannot start")]
    Gateway(#[source] gateway::startup::StartupError),
    /// The first tenants cannot be made.
    #[error("cannot make the tenant `demo` of region {region}")]
    Demo {
        /// The region.
        region: RegionId,
        /// Why not.
        #[source]
        source: OperatorApiError,
    },
    /// A file in the data directory cannot be read or written.
    #[error("cannot use {} (in --data-dir)", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The start cannot be announced.
    #[error("cannot say that Meridian is ready")]
    Announce(#[source] Box<CommandError>),
    /// Signals cannot be waited for.
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
    /// One of the programs ended though nobody asked it to.
    #[error("{who} ended by itself: see its log")]
    Ended {
        /// `the gateway`, `the region-node of us`.
        who: String,
        /// Why, if it said so.
        #[source]
        source: Option<io::Error>,
    },
}

/// A program that runs in this process.
struct Running {
    who: String,
    stop: watch::Sender<bool>,
    ended: JoinHandle<io::Result<()>>,
}

impl Running {
    /// Starts a program that runs until the future that it is given is done.
    fn start<F>(who: String, run: impl FnOnce(Stopped) -> F) -> Self
    where
        F: Future<Output = io::Result<()>> + 'static,
    {
        let (stop, stopped) = watch::channel(false);
        let ended = actix_web::rt::spawn(run(Stopped(stopped)));
        Self { who, stop, ended }
    }

    /// Asks the program to finish what it does, and waits until it has.
    async fn stop(self) {
        self.stop.send_replace(true);
        match self.ended.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(who = self.who, %error, "did not stop cleanly"),
            Err(_) => tracing::warn!(who = self.who, "did not stop cleanly"),
        }
    }

    /// Waits until the program ends by itself.
    async fn ended(&mut self) -> UpError {
        let source = match (&mut self.ended).await {
            Ok(outcome) => outcome.err(),
            Err(failure) => Some(io::Error::other(failure)),
        };
        UpError::Ended {
            who: self.who.clone(),
            source,
        }
    }
}

/// Done when a program is asked to stop.
struct Stopped(watch::Receiver<bool>);

impl Stopped {
    async fn wait(mut self) {
        // A sender that is gone means stop as well.
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}

/// What asks this process to stop: Ctrl-C, a service manager, a terminal that goes away. The
/// programs inside read their files again on SIGHUP, and have none here.
struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl StopSignals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

/// Starts everything, says so, and runs until it is asked to stop.
///
/// # Errors
/// [`UpError`] when it cannot start, or one of the programs ends by itself.
pub async fn run(arguments: &UpArguments, data_dir: &Path, output: Output) -> Result<(), UpError> {
    // Before anything is started, so that no signal finds nobody listening.
    let mut signals = StopSignals::listen().map_err(UpError::Signals)?;
    // Only a process that has a log already refuses, and that is as good.
    let _log = shared::log::init(arguments.log_level, LogFormat::Json).ok();
    check_regions(&arguments.regions)?;
    let claim = Claim::take(data_dir)?;
    check_address(arguments.listen)?;

    let mut started = tokio::select! {
        started = start(arguments, claim.data_dir()) => started?,
        // What has been started has served nobody, and ends with this process.
        () = signals.next() => return Ok(()),
    };
    let outcome = serve(&mut started, &mut signals, &claim, output).await;
    claim.withdraw();
    started.stop().await;
    outcome
}

/// Everything that runs.
struct Started {
    gateway: Running,
    nodes: Vec<Running>,
    state: LocalState,
    /// In the order in which the operator named them.
    regions: Vec<RegionId>,
}

impl Started {
    /// The gateway first, so that no call is cut off behind it.
    async fn stop(self) {
        self.gateway.stop().await;
        for node in self.nodes {
            node.stop().await;
        }
    }

    async fn any_ended(&mut self) -> UpError {
        let programs = std::iter::once(&mut self.gateway).chain(&mut self.nodes);
        let ends = programs.map(|program| Box::pin(program.ended()));
        futures_util::future::select_all(ends).await.0
    }
}

async fn start(arguments: &UpArguments, data_dir: &Path) -> Result<Started, UpError> {
    let clock = Arc::new(SystemClock);
    let mut nodes = Vec::new();
    let mut links = Vec::new();
    for region in &arguments.regions {
        let keys = keys_of(region, data_dir)?;
        let settings = settings::node(region, data_dir, &keys, arguments)?;
        let node = region_node::startup::Application::build(settings, clock.clone())
            .await
            .map_err(|source| UpError::Node {
                region: region.clone(),
                source,
            })?;
        links.push(Link {
            region: region.clone(),
            node: node.link_address(),
            management: node.management_address(),
            keys,
        });
        let who = format!("the region-node of {region}");
        nodes.push(Running::start(who, |stop| {
            node.run_until_stopped(stop.wait())
        }));
    }

    let settings = settings::gateway(arguments, &links)?;
    let gateway = gateway::startup::Application::build(settings, clock)
        .await
        .map_err(UpError::Gateway)?;
    let (address, management) = (gateway.address(), gateway.management_address());
    let gateway = Running::start("the gateway".to_owned(), |stop| {
        gateway.run_until_stopped(stop.wait())
    });

    let regions = links.into_iter().map(|link| {
        let local = LocalRegion {
            base_url: base_url(&link.region, &arguments.domain, address.port()),
            node: format!("http://{}", link.node),
            management: format!("http://{}", link.management),
            operator_key_file: link.keys.operator,
        };
        (link.region, local)
    });
    let state = LocalState {
        pid: std::process::id(),
        gateway: format!("http://{address}"),
        management: format!("http://{management}"),
        regions: regions.collect::<BTreeMap<_, _>>(),
    };
    Ok(Started {
        gateway,
        nodes,
        state,
        regions: arguments.regions.clone(),
    })
}

/// A region-node as the gateway reaches it.
struct Link {
    region: RegionId,
    node: SocketAddr,
    management: SocketAddr,
    keys: KeyFiles,
}

/// Makes the first tenants, announces that all is ready, and waits for the end.
async fn serve(
    started: &mut Started,
    signals: &mut StopSignals,
    claim: &Claim,
    output: Output,
) -> Result<(), UpError> {
    let demos = first_tenants(started, claim.data_dir()).await?;
    claim
        .announce(&started.state)
        .map_err(|source| UpError::File {
            path: claim.data_dir().join("local.json"),
            source,
        })?;
    tracing::info!(gateway = started.state.gateway, "ready");
    output
        .result(
            &banner::value(&started.state, &demos),
            &banner::text(&started.state, &started.regions, &demos, claim.data_dir()),
        )
        .map_err(|error| UpError::Announce(Box::new(error)))?;

    tokio::select! {
        () = signals.next() => {}
        error = started.any_ended() => return Err(error),
    }
    tracing::info!("stopping");
    Ok(())
}

async fn first_tenants(
    started: &Started,
    data_dir: &Path,
) -> Result<BTreeMap<RegionId, Demo>, UpError> {
    let mut demos = BTreeMap::new();
    for (region, local) in &started.state.regions {
        let path = &local.operator_key_file;
        let key = std::fs::read_to_string(path).map_err(|source| UpError::File {
            path: path.clone(),
            source,
        })?;
        let failed = |source| UpError::Demo {
            region: region.clone(),
            source,
        };
        let api = OperatorApi::new(Some(region.clone()), &local.node, &key, None);
        let api = api.map_err(failed)?;
        let marker = data_dir.join(region.as_str()).join("demo-made");
        if marker.exists() {
            continue;
        }
        if let Some(demo) = demo::make(&api).await.map_err(failed)? {
            demos.insert(region.clone(), demo);
        }
        std::fs::write(&marker, b"").map_err(|source| UpError::File {
            path: marker,
            source,
        })?;
    }
    Ok(demos)
}

fn check_regions(regions: &[RegionId]) -> Result<(), UpError> {
    let distinct: std::collections::BTreeSet<_> = regions.iter().collect();
    if regions.is_empty() || distinct.len() != regions.len() {
        return Err(UpError::Regions);
    }
    Ok(())
}

/// The usual mistake is a second program on the port: found before anything is started, it gets
/// a sentence of its own.
fn check_address(address: SocketAddr) -> Result<(), UpError> {
    match TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(source) if source.kind() == io::ErrorKind::AddrInUse => {
            Err(UpError::AddressInUse(address))
        }
        Err(source) => Err(UpError::Address { address, source }),
    }
}

fn keys_of(region: &RegionId, data_dir: &Path) -> Result<KeyFiles, UpError> {
    keys::ensure(&data_dir.join(region.as_str()).join("keys")).map_err(|source| UpError::Keys {
        region: region.clone(),
        source,
    })
}

fn base_url(region: &RegionId, domain: &str, port: u16) -> String {
    const HTTP: u16 = 80;
    if port == HTTP {
        format!("http://global-{region}.{domain}{PUBLIC_SCIM_PATH}")
    } else {
        format!("http://global-{region}.{domain}:{port}{PUBLIC_SCIM_PATH}")
    }
}
