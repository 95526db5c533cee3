//! The programs' settings as `meridian up` chooses them: their own defaults, on loopback, few
//! threads each. The environment of the single programs does not count here, so that a variable
//! that is meant for one of them cannot change a demonstration.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use gateway::config as edge;
use region_node::config as node;
use shared::{RegionId, Secret};

use super::Link;
use crate::arguments::UpArguments;
use crate::keys::KeyFiles;

/// Any free port of the loopback interface.
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// Threads of each region-node: several of them share the machine with the gateway.
const NODE_WORKERS: usize = 2;
/// Connections that read at the same time, in each region-node.
const NODE_READERS: usize = 4;

/// Connections to PostgreSQL, in each region-node.
const NODE_CONNECTIONS: usize = 8;
/// Lanes of writes to PostgreSQL, in each region-node.
const NODE_WRITERS: usize = 2;

/// A region-node on its own file in the data directory, or on its own database.
pub(super) fn node(
    region: &RegionId,
    data_dir: &Path,
    keys: &KeyFiles,
    arguments: &UpArguments,
) -> Result<node::Settings, node::ConfigError> {
    let mut settings = node::Settings::defaults()?;
    settings.region = region.clone();
    settings.link_listen = ANY;
    settings.management_listen = ANY;
    settings.store.path = data_dir.join(region.as_str()).join("meridian.db");
    settings.store.readers = NODE_READERS;
    if let Some(server) = &arguments.postgres {
        settings.store.engine = node::Engine::Postgres;
        settings.store.url = Some(Secret::new(&database_url(server, region)));
        settings.store.connections = NODE_CONNECTIONS;
        settings.store.writers = NODE_WRITERS;
    }
    settings.keys.link_files = vec![keys.link.clone()];
    settings.keys.operator_files = vec![keys.operator.clone()];
    settings.keys.grant_files = vec![keys.grant.clone()];
    settings.limits.workers = Some(NODE_WORKERS);
    // The only node of its region, and the gateway stops before it.
    settings.limits.drain_ms = 0;
    settings
        .events
        .allowed_networks
        .clone_from(&arguments.webhook_networks);
    settings.events.allow_http = !arguments.webhook_networks.is_empty();
    settings.telemetry.otlp_endpoint.clone_from(&arguments.otlp);
    settings.telemetry.sample_ratio = 1.0;
    Ok(settings)
}

/// The URL of a region's database on a server. The server's URL may name a database: then that
/// name is the beginning of the databases' names, else it is `meridian`.
fn database_url(server: &str, region: &RegionId) -> String {
    let (address, query) = match server.split_once('?') {
        Some((address, query)) => (address, format!("?{query}")),
        None => (server, String::new()),
    };
    let scheme_end = address.find("://").map_or(0, |at| at + 3);
    let (scheme, rest) = address
        .split_at_checked(scheme_end)
        .unwrap_or(("", address));
    let (host, name) = rest.split_once('/').unwrap_or((rest, ""));
    let name = match name.trim_matches('/') {
        "" => "meridian",
        name => name,
    };
    format!("{scheme}{host}/{name}_{region}{query}")
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
    settings.redis.url = arguments.redis.as_deref().map(Secret::new);
    settings.telemetry.otlp_endpoint.clone_from(&arguments.otlp);
    // Who looks at a demonstration wants to see each request.
    settings.telemetry.sample_ratio = 1.0;
    // Nobody balances load before it.
    settings.timeouts.drain_ms = 0;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_region_has_a_database_of_its_own() {
        let us = RegionId::parse("us").unwrap();
        for (server, database) in [
            ("postgres://db", "postgres://db/meridian_us"),
            (
                "postgres://a:b@db:5433/",
                "postgres://a:b@db:5433/meridian_us",
            ),
            ("postgres://db/acme", "postgres://db/acme_us"),
            (
                "postgresql://db/acme?connect_timeout=3",
                "postgresql://db/acme_us?connect_timeout=3",
            ),
        ] {
            assert_eq!(database_url(server, &us), database, "{server}");
        }
    }
}
