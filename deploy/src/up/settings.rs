//! The programs' settings as `meridian up` chooses them: their own defaults, on loopback, few
//! threads each. The environment of the single programs does not count here, so that a variable
//! that is meant for one of them cannot change a demonstration.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use gateway::config as edge;
use region_node::config as node;
use shared::{LogFormat, LogLevel, RegionId};

use super::Link;
use crate::arguments::UpArguments;
use crate::keys::KeyFiles;

/// Any free port of the loopback interface.
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// Threads of each region-node: several of them share the machine with the gateway.
const NODE_WORKERS: usize = 2;
/// Connections that read at the same time, in each region-node.
const NODE_READERS: usize = 4;

/// Sends the log of all programs to standard error, once for the whole process.
pub(super) fn init_log(level: LogLevel) -> Result<(), edge::ConfigError> {
    let mut settings = edge::Settings::defaults()?.telemetry;
    settings.level = level;
    settings.format = LogFormat::Json;
    // Only a process that has a log already refuses, and that is as good.
    let _ = gateway::telemetry::init(&settings);
    Ok(())
}

/// A region-node on its own file in the data directory.
pub(super) fn node(
    region: &RegionId,
    data_dir: &Path,
    keys: &KeyFiles,
) -> Result<node::Settings, node::ConfigError> {
    let mut settings = node::Settings::defaults()?;
    settings.region = region.clone();
    settings.link_listen = ANY;
    settings.management_listen = ANY;
    settings.store.path = data_dir.join(region.as_str()).join("meridian.db");
    settings.store.readers = NODE_READERS;
    settings.keys.link_files = vec![keys.link.clone()];
    settings.keys.operator_files = vec![keys.operator.clone()];
    settings.keys.grant_files = vec![keys.grant.clone()];
    settings.limits.workers = Some(NODE_WORKERS);
    Ok(settings)
}

/// A gateway that serves all the regions, and names its own port in their base URLs.
pub(super) fn gateway(
    arguments: &UpArguments,
    links: &[Link],
) -> Result<edge::Settings, edge::ConfigError> {
    let mut settings = edge::Settings::defaults()?;
    settings.listen = arguments.listen;
    settings.management_listen = ANY;
    settings.domain.clone_from(&arguments.domain);
    settings.public_port = Some(0);
    let regions = links.iter().map(|link| {
        let region = edge::RegionSettings {
            nodes: vec![format!("http://{}", link.node)],
            link_key_file: Some(link.keys.link.clone()),
            ..edge::RegionSettings::default()
        };
        (link.region.clone(), region)
    });
    settings.regions = regions.collect();
    Ok(settings)
}
