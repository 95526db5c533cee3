//! The settings files that `docs/OPERATIONS.md` shows are settings that the programs start with.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use shared::SystemClock;

const OPERATIONS: &str = include_str!("../../docs/OPERATIONS.md");
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// The TOML blocks of a section, as they stand there.
fn files_of(section: &str) -> Vec<&'static str> {
    let heading = format!("\n## {section}\n");
    let (_, text) = OPERATIONS.split_once(&heading).unwrap();
    let text = text.split("\n## ").next().unwrap();
    let blocks = text.split("```toml\n").skip(1);
    blocks
        .map(|block| block.split("```").next().unwrap())
        .collect()
}

/// Writes a file as the document says, into a folder in place of the system's.
fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let place = folder.display().to_string();
    let text = text
        .replace("/etc/meridian", &place)
        .replace("/var/lib/meridian", &place);
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[actix_web::test]
async fn the_programs_start_with_the_files_of_the_document() {
    for section in ["The two programs", "Gateways and nodes"] {
        let folder = tempfile::tempdir().unwrap();
        for (purpose, digit) in [("link", "1"), ("operator", "2"), ("grant", "3")] {
            let key = format!("0123456789abcdef{}", digit.repeat(48));
            std::fs::write(folder.path().join(format!("de-{purpose}.key")), key).unwrap();
        }
        let (of_nodes, of_gateways): (Vec<&str>, Vec<&str>) = files_of(section)
            .into_iter()
            .partition(|text| text.starts_with("region = "));
        let ([of_node], [of_gateway]) = (of_nodes.as_slice(), of_gateways.as_slice()) else {
            panic!("{section}: {of_nodes:?} {of_gateways:?}");
        };

        let file = write(folder.path(), "node.toml", of_node);
        let mut node = region_node::config::Settings::load(Some(&file)).unwrap();
        node.check().unwrap();
        assert!(node.production);
        let keys = node.live_keys().unwrap();
        let port = node.link_listen.port();
        (node.link_listen, node.management_listen) = (ANY, ANY);
        let region = node.region.clone();
        let clock = Arc::new(SystemClock);
        let built = region_node::startup::Application::build(node, clock.clone()).await;
        assert!(built.is_ok(), "{section}: {:?}", built.err());

        let file = write(folder.path(), "gateway.toml", of_gateway);
        let mut gateway = gateway::config::Settings::load(Some(&file)).unwrap();
        gateway.check().unwrap();
        assert!(gateway.production);
        // They go together.
        let regions: BTreeSet<_> = gateway.regions.keys().cloned().collect();
        assert_eq!(regions, BTreeSet::from([region.clone()]));
        let of_region = gateway.regions.get(&region).unwrap();
        let key = of_region.read_link_key(&region, true).unwrap();
        assert!(keys.link.contains(&key), "{section}");
        let node = of_region.nodes.first().unwrap();
        assert!(node.ends_with(&format!(":{port}")), "{node}");
        (gateway.listen, gateway.management_listen) = (ANY, ANY);
        let built = gateway::startup::Application::build(gateway, clock).await;
        assert!(built.is_ok(), "{section}: {:?}", built.err());
    }
}
