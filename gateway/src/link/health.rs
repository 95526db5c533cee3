//! Looks at every node once a second: whether it answers, and whether it is about to stop.
//!
//! What a call learns by failing is noted at once, in [`Node`]; this finds the node that hangs, and
//! the one that is back.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Client;
use shared::link::{HEALTH_PATH, LINK_KEY, STOPPING};
use tokio::time::{MissedTickBehavior, interval};

use super::{Node, RegionLink};
use crate::region::Region;

/// How nodes are looked at.
#[derive(Clone, Debug)]
pub struct Probing {
    /// For the calls.
    pub client: Client,
    /// From one look to the next.
    pub every: Duration,
    /// How long a node may take to answer.
    pub timeout: Duration,
}

/// Looks at the nodes of all regions, for as long as the task runs.
pub async fn keep_watch(regions: Vec<Arc<Region>>, probing: Probing) {
    let watches = regions.iter().map(|region| watch(region, &probing));
    join_all(watches).await;
}

/// One region's nodes, so that a slow one keeps no other region's waiting.
async fn watch(region: &Region, probing: &Probing) {
    let mut ticks = interval(probing.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let looks = region.link.nodes.iter().map(|node| async {
            let was_up = node.is_up();
            let is_lost = look(&region.link, node, probing).await;
            if is_lost {
                let node = node.authority().to_str().unwrap_or_default();
                let region = region.id.as_str();
                tracing::warn!(region, node, "a node answers nobody any more");
            } else if !was_up && node.is_up() {
                let node = node.authority().to_str().unwrap_or_default();
                tracing::info!(region = region.id.as_str(), node, "a node is back");
            }
        });
        join_all(looks).await;
    }
}

/// Whether the node has just been lost.
async fn look(link: &RegionLink, node: &Node, probing: &Probing) -> bool {
    let mut url = node.url();
    url.set_path(HEALTH_PATH);
    let call = probing.client.get(url).header(LINK_KEY, link.key.clone());
    match call.timeout(probing.timeout).send().await {
        // Any answer will do: a node of before this call existed gives 404.
        Ok(answer) => {
            node.looks_well(answer.headers().contains_key(STOPPING));
            false
        }
        Err(error) if error.is_connect() && !error.is_timeout() => {
            node.is_away();
            false
        }
        Err(_) => node.looks_lost(),
    }
}
