//! Questions to a region about a token.

use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::CONTENT_TYPE;
use serde::Serialize;
use serde::de::DeserializeOwned;
use shared::link::LINK_KEY;
use tokio::time::Instant;

use crate::link::{Attempt, LinkError, Node, NodeError, UnderWay};
use crate::region::Region;

/// Why a region did not answer about a token. None of these says anything about the token.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// There was no answer.
    #[error("the region gave no answer about a token")]
    Link(#[from] LinkError),
    /// The answer broke off.
    #[error("the region's answer about a token broke off")]
    Broken(#[source] reqwest::Error),
    /// The answer had another status than 200: the node is in trouble, or refuses our link key.
    #[error("the region answered {0} to a question about a token")]
    Status(StatusCode),
    /// The answer is none of the contract's.
    #[error("the region's answer about a token cannot be read")]
    Contract(#[source] serde_json::Error),
    /// The grant cannot travel in a header.
    #[error("the region's grant cannot be sent back")]
    Grant,
}

/// Asks a region at one of its paths. The question may arrive twice.
///
/// # Errors
/// [`LookupError`] when the region did not say.
pub async fn ask<Q: Serialize, A: DeserializeOwned>(
    region: &Region,
    path: &str,
    question: &Q,
    timeout: Duration,
) -> Result<A, LookupError> {
    let question = serde_json::to_vec(question).map_err(LookupError::Contract)?;
    // The hold for a node that restarts comes on top of the time for an answer.
    let deadline = Instant::now() + timeout + region.link.hold;
    let call = |node: Arc<Node>| {
        let mut url = node.url();
        url.set_path(path);
        let call = region
            .link
            .client()
            .post(url)
            .header(LINK_KEY, region.link.key.clone())
            .header(CONTENT_TYPE, shared::urn::JSON)
            .body(question.clone())
            .timeout(timeout.min(deadline.saturating_duration_since(Instant::now())));
        async move {
            let under_way = UnderWay::begin(node);
            let answer = tokio::select! {
                answer = call.send() => answer,
                () = under_way.node().lost() => return Err(Attempt::Unanswered(NodeError::Lost)),
            };
            answer.map_err(|error| {
                let error = error.without_url();
                // One that is too slow may hang: another node is asked while there is time.
                let is_late = Instant::now() >= deadline;
                match (error.is_connect(), error.is_timeout() && is_late) {
                    (true, _) => Attempt::NotSent(NodeError::Call(error)),
                    (false, true) => Attempt::Deadline,
                    (false, false) => Attempt::Unanswered(NodeError::Call(error)),
                }
            })
        }
    };
    let answer = match region.link.send(deadline, call).await {
        // Asked a second time, none of the questions changes anything.
        Err(LinkError::NoAnswer(_)) => region.link.send_again(deadline, call).await?,
        answer => answer?,
    };
    if answer.status() != StatusCode::OK {
        return Err(LookupError::Status(answer.status()));
    }
    let body = answer
        .bytes()
        .await
        .map_err(|error| LookupError::Broken(error.without_url()))?;
    serde_json::from_slice(&body).map_err(LookupError::Contract)
}
