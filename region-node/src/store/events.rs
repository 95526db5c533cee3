//! Who receives a tenant's events, and how far: what the store keeps of it.
//!
//! Events themselves are not stored: they are made of the change feed, which is in the transaction
//! of the change. What never lives here: HTTP, signatures, when to try again (`events`).

use serde::{Deserialize, Serialize};
use shared::{TenantId, Timestamp};

use super::{AuditNote, ChangeKind, StoreError};
use crate::scim::{ResourceId, ResourceKind};
use crate::store::Change;

/// In which form an endpoint gets events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndpointKind {
    /// Webhooks, in the form of Standard Webhooks.
    #[default]
    Webhook,
    /// Security event tokens (RFC 8417, RFC 9967), pushed (RFC 8935).
    SetPush,
    /// Security event tokens that the receiver comes for (RFC 8936).
    SetPoll,
}

/// What the tenant's administrator says of an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointSettings {
    /// In which form.
    pub kind: EndpointKind,
    /// Where to; empty where the receiver comes for them.
    pub url: String,
    /// What it is called.
    pub description: String,
    /// Which types of events; none is all of them.
    pub events: Vec<String>,
    /// Who the tokens are for (`aud`); empty for webhooks.
    pub audience: String,
}

/// What deliveries are signed with. `Debug` tells nothing of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningSecret {
    /// The secret as its receiver knows it: `whsec_…`.
    pub secret: String,
    /// Until when it is used besides a newer one, if it has been succeeded.
    pub until: Option<Timestamp>,
}

impl std::fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningSecret").finish_non_exhaustive()
    }
}

/// How far an endpoint has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The number of the last write all of whose events are done.
    pub cursor: i64,
    /// How many events of the next write are done.
    pub done: i64,
    /// How often the next event was tried.
    pub attempts: i64,
    /// Not before then.
    pub next_attempt: Timestamp,
    /// Since when nothing was taken.
    pub failing_since: Option<Timestamp>,
    /// Why the last attempt failed; nothing of an answer's body.
    pub last_error: Option<String>,
    /// When something was last taken.
    pub last_success: Option<Timestamp>,
}

/// A receiver of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its id: `whk_…`.
    pub id: String,
    /// Whose events.
    pub tenant: TenantId,
    /// What the administrator says.
    pub settings: EndpointSettings,
    /// The newest first.
    pub secrets: Vec<SigningSecret>,
    /// Why nothing is sent at the moment; `None` where it is.
    pub paused: Option<String>,
    /// How far it has come.
    pub progress: Progress,
    /// The number of the tenant's last write.
    pub head: i64,
    /// How many events it did not take.
    pub dead_letters: i64,
    /// Whether some of these are to be sent once more.
    pub has_replays: bool,
    /// Which node delivers, and until when.
    pub lease: (String, Timestamp),
    /// When it was made.
    pub created: Timestamp,
    /// By whom.
    pub created_by: String,
}

/// What is to be changed of an endpoint, beside its progress.
#[derive(Clone, Debug)]
pub struct EndpointChange {
    /// What the administrator says.
    pub settings: EndpointSettings,
    /// What deliveries are signed with.
    pub secrets: Vec<SigningSecret>,
    /// Why nothing is sent; `None` where it is. Where it begins again, attempts begin anew.
    pub paused: Option<String>,
}

impl Endpoint {
    /// How many writes of the tenant it has not had. Each is an event or more.
    #[must_use]
    pub fn lag(&self) -> i64 {
        (self.head - self.progress.cursor).max(0)
    }
}

impl EndpointChange {
    /// An endpoint as it is.
    #[must_use]
    pub fn of(endpoint: &Endpoint) -> Self {
        Self {
            settings: endpoint.settings.clone(),
            secrets: endpoint.secrets.clone(),
            paused: endpoint.paused.clone(),
        }
    }

    pub(super) fn columns(&self) -> Result<(String, String, &'static str), StoreError> {
        let state = if self.paused.is_some() {
            PAUSED
        } else {
            ACTIVE
        };
        Ok((json(&self.settings)?, json(&self.secrets)?, state))
    }
}

pub(super) const ACTIVE: &str = "active";
pub(super) const PAUSED: &str = "paused";

pub(super) fn json<T: Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value)
        .map_err(|_| StoreError::Corrupt("an endpoint that cannot be written as JSON"))
}

pub(super) fn read_json<T: for<'d> Deserialize<'d>>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|_| StoreError::Corrupt("an endpoint that cannot be read"))
}

/// An event that a receiver did not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its number.
    pub number: i64,
    /// The change that it is about.
    pub change: Change,
    /// When it was given up.
    pub at: Timestamp,
    /// Why the last attempt failed.
    pub reason: String,
    /// How often it was tried.
    pub attempts: i64,
    /// Whether it is to be sent once more.
    pub replay: bool,
}

/// A change as a dead letter keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeptChange {
    seq: i64,
    at: Timestamp,
    what: ChangeKind,
    kind: ResourceKind,
    id: String,
    attributes: Vec<String>,
    active: Option<bool>,
}

impl From<&Change> for KeptChange {
    fn from(change: &Change) -> Self {
        Self {
            seq: change.seq,
            at: change.at,
            what: change.what,
            kind: change.kind,
            id: change.id.to_string(),
            attributes: change.attributes.clone(),
            active: change.active,
        }
    }
}

impl KeptChange {
    pub(super) fn change(self) -> Result<Change, StoreError> {
        Ok(Change {
            seq: self.seq,
            at: self.at,
            what: self.what,
            kind: self.kind,
            id: ResourceId::parse(&self.id)
                .map_err(|_| StoreError::Corrupt("a dead letter about nothing"))?,
            attributes: self.attributes,
            active: self.active,
        })
    }
}

/// What a node says after it has sent some events.
#[derive(Clone, Debug)]
pub struct Report {
    /// How far the endpoint is now.
    pub progress: Progress,
    /// What was given up: the event, why, after how many attempts.
    pub dead: Vec<(Change, String, i64)>,
    /// Dead letters that were sent once more: whether they were taken now, and else why not.
    pub replayed: Vec<(i64, Option<String>)>,
    /// Why nothing more is to be sent.
    pub pause: Option<String>,
    /// What the audit has to know.
    pub notes: Vec<AuditNote>,
}

/// Most dead letters of an endpoint: past it the oldest are forgotten.
pub const MOST_DEAD_LETTERS: i64 = 1000;
