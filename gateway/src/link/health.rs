//! Looks at every node once a second: whether it answers us, and whether it is about to stop.
//!
//! What a call learns by failing is noted at once, in [`Node`]; this finds the node that hangs, the
//! one that is back, and the one that would have nothing to do with us: it is asked with our link
//! key, and now and then over a new connection. In TLS 1.3 a handshake has ended before the node has
//! looked at our certificate, and a connection that is open does not notice that it has run out.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::{Client, StatusCode};
use rustls::{AlertDescription, Error as TlsError};
use shared::RegionId;
use shared::link::{HEALTH_PATH, LINK_KEY, STOPPING};
use tokio::time::{MissedTickBehavior, interval};

use super::{Node, RegionLink};
use crate::region::Region;

/// One look in so many is over a new connection; so is each that follows trouble.
const ANEW_EVERY: u32 = 10;
/// A look says how a node is for the time of so many.
const STALE_AFTER: u32 = 3;

/// How nodes are looked at.
#[derive(Clone, Debug)]
pub struct Looks {
    /// Keeps its connections.
    pub(super) kept: Client,
    /// Makes a new connection for each call.
    pub(super) anew: Client,
    /// From one look to the next, and how long a node may take to answer.
    pub(super) every: Duration,
}

/// Why a node is no good to us, as the last look at it found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// There is no connection.
    #[error("cannot be connected to")]
    Unreachable,
    /// It answers nothing.
    #[error("does not answer")]
    Silent,
    /// It is none of the keys that the node knows.
    #[error("refuses the link key")]
    LinkKey,
    /// The node does not let us in.
    #[error("refuses this gateway's certificate")]
    OurCertificate,
    /// It is of no authority of ours, has run out, or is for another name.
    #[error("has a certificate that this gateway refuses")]
    ItsCertificate,
}

/// How a region is.
#[derive(Debug)]
pub struct Readiness {
    /// Whether a node of it is well.
    pub is_ready: bool,
    /// The others, by host and port.
    pub trouble: BTreeMap<String, Trouble>,
}

/// How a region is: what the last looks found. A node that was not looked at lately is looked at
/// now.
pub async fn readiness(region: &Region) -> Readiness {
    let link = &region.link;
    let nodes = link.nodes.iter().map(|node| async move {
        if node.is_look_older_than(link.looks.every * STALE_AFTER) {
            let _is_lost = look(&region.id, link, node).await;
        }
        (name(node).to_owned(), node.trouble())
    });
    let nodes = join_all(nodes).await;
    Readiness {
        is_ready: nodes.iter().any(|(_, trouble)| trouble.is_none()),
        trouble: nodes
            .into_iter()
            .filter_map(|(node, trouble)| Some((node, trouble?)))
            .collect(),
    }
}

/// Looks at the nodes of all regions, for as long as the task runs.
pub async fn keep_watch(regions: Vec<Arc<Region>>) {
    join_all(regions.iter().map(|region| watch(region))).await;
}

/// One region's nodes, so that a slow one keeps no other region's waiting.
async fn watch(region: &Region) {
    let mut ticks = interval(region.link.looks.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let looks = region.link.nodes.iter().map(|node| async move {
            let was_up = node.is_up();
            let is_lost = look(&region.id, &region.link, node).await;
            let (region, name) = (region.id.as_str(), name(node));
            if is_lost {
                tracing::warn!(region, node = name, "a node answers nobody any more");
            } else if !was_up && node.is_up() {
                tracing::info!(region, node = name, "a node is back");
            }
        });
        join_all(looks).await;
    }
}

fn name(node: &Node) -> &str {
    node.authority().to_str().unwrap_or_default()
}

/// Whether the node has just been lost.
async fn look(region: &RegionId, link: &RegionLink, node: &Node) -> bool {
    let looks = &link.looks;
    let mut url = node.url();
    url.set_path(HEALTH_PATH);
    let is_turn = node.begin_look().is_multiple_of(ANEW_EVERY);
    let client = match is_turn || node.has_missed() || node.trouble().is_some() {
        true => &looks.anew,
        false => &looks.kept,
    };
    let call = client.get(url).header(LINK_KEY, link.key.clone());
    let found = match call.timeout(looks.every).send().await {
        Ok(answer)
            if matches!(
                answer.status(),
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
            ) =>
        {
            Err(Trouble::LinkKey)
        }
        // Any other answer will do: a node of before this call existed gives 404.
        Ok(answer) => Ok(answer.headers().contains_key(STOPPING)),
        Err(error) => Err(trouble(&error)),
    };
    let mut is_lost = false;
    match found {
        Ok(is_stopping) => node.looks_well(is_stopping),
        Err(Trouble::Silent) => is_lost = node.looks_lost(),
        Err(Trouble::Unreachable | Trouble::ItsCertificate) => node.is_away(),
        Err(Trouble::LinkKey | Trouble::OurCertificate) => node.looks_unwilling(),
    }
    let before = node.note_look(match found {
        // A node that was well may be busy for a moment: it counts as away when it is lost.
        Err(Trouble::Silent) if node.was_well() && node.is_up() => None,
        found => found.err(),
    });
    if let Err(trouble) = found
        && before != Some(trouble)
        && !matches!(trouble, Trouble::Silent | Trouble::Unreachable)
    {
        let (region, node) = (region.as_str(), name(node));
        tracing::error!(region, node, "a node {trouble}");
    }
    is_lost
}

fn trouble(error: &reqwest::Error) -> Trouble {
    match tls_error(error) {
        Some(TlsError::AlertReceived(alert)) if is_about_certificates(*alert) => {
            Trouble::OurCertificate
        }
        Some(TlsError::InvalidCertificate(_)) => Trouble::ItsCertificate,
        _ if error.is_connect() && !error.is_timeout() => Trouble::Unreachable,
        _ => Trouble::Silent,
    }
}

fn is_about_certificates(alert: AlertDescription) -> bool {
    use AlertDescription as A;
    matches!(
        alert,
        A::BadCertificate
            | A::UnsupportedCertificate
            | A::CertificateRevoked
            | A::CertificateExpired
            | A::CertificateUnknown
            | A::CertificateRequired
            | A::NoCertificate
            | A::UnknownCA
            | A::AccessDenied
            | A::DecryptError
    )
}

/// What TLS said, however deep it lies.
fn tls_error(error: &reqwest::Error) -> Option<&TlsError> {
    let mut next: Option<&(dyn Error + 'static)> = error.source();
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // What an I/O error wraps is not its source: that is the source of what it wraps.
        next = match error.downcast_ref::<io::Error>().map(io::Error::get_ref) {
            Some(Some(wrapped)) => Some(wrapped),
            _ => error.source(),
        };
    }
    None
}
