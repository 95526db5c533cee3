//! The change feed: which resource was written when, in the order of the tenant's writes.
//!
//! It says what changed and never to which value: whoever wants to know reads the resource.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use shared::Timestamp;

use crate::scim::{ResourceId, ResourceKind};

/// What a write did to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// It was created.
    Created,
    /// Its attributes or its members were changed.
    Changed,
    /// It was deleted.
    Deleted,
}

impl ChangeKind {
    /// The name in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Deleted => "deleted",
        }
    }

    /// The kind with this name in the store.
    #[must_use]
    pub fn from_stored(name: &str) -> Option<Self> {
        [Self::Created, Self::Changed, Self::Deleted]
            .into_iter()
            .find(|kind| kind.as_str() == name)
    }
}

/// One resource that one write changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The number of the write, which is the version that the resource has through it. Numbers
    /// have no gaps: where one is missing, it was forgotten because of its age.
    pub seq: i64,
    /// When.
    pub at: Timestamp,
    /// What happened.
    pub what: ChangeKind,
    /// What the resource is.
    pub kind: ResourceKind,
    /// Its id.
    pub id: ResourceId,
    /// Names of the attributes that changed, never values; none where everything is new or gone.
    pub attributes: Vec<String>,
    /// Whether a user is active after the change; `None` for groups, for what is gone, and where
    /// an older release wrote.
    pub active: Option<bool>,
}

/// Until when changes and outcomes are kept.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Changes from then on.
    pub changes_since: Timestamp,
    /// Changes of later writes than this, too: somebody still has to be told of them.
    pub changes_behind: i64,
    /// Outcomes of requests that clients named, from then on.
    pub client_keys_since: Timestamp,
    /// Outcomes of requests that gateways named, from then on.
    pub gateway_keys_since: Timestamp,
}

impl Retention {
    /// How long a gateway may still ask for an outcome: far longer than any deadline.
    const GATEWAY_KEYS: Duration = Duration::from_secs(60 * 60);

    /// What is kept at a moment, with the lives that the operator chose.
    #[must_use]
    pub fn at(now: Timestamp, changes: Duration, client_keys: Duration) -> Self {
        Self {
            changes_since: now.before(changes),
            changes_behind: i64::MAX,
            client_keys_since: now.before(client_keys),
            gateway_keys_since: now.before(Self::GATEWAY_KEYS),
        }
    }
}
