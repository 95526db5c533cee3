//! Audit records: who did what to what, each chained to the one before it by a hash.
//!
//! A record says which attributes changed and never to which value. It is written in the
//! transaction of what it records, so neither is ever there without the other. The hash of a
//! record covers the hash before it, so nobody can alter, remove, insert or move a record without
//! writing every later one anew, and the tenant's head row says how the chain ends. What never
//! lives here: SQL, HTTP, the walk along the chain (`provider::audit`).

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use shared::{TenantId, Timestamp, TokenId};

use super::backup::bytes_text;
use super::{ChangeKind, NewToken, StoreError};
use crate::scim::{ResourceId, ResourceKind};

/// Bytes of a hash.
pub const HASH_BYTES: usize = 32;

/// Who asks for something, and in which request: what its audit record says of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Author {
    /// The id of a token, `operator`, `node` for what a node does by itself, or whatever else a
    /// caller of ours is known by. Empty where an older release did not say.
    pub actor: String,
    /// The request's id; empty where there is no request.
    pub request: String,
}

impl Author {
    /// What the operator does, in no request of a tenant's.
    #[must_use]
    pub fn operator() -> Self {
        Self {
            actor: "operator".to_owned(),
            request: String::new(),
        }
    }

    /// What a node does by itself.
    #[must_use]
    pub fn node() -> Self {
        Self {
            actor: "node".to_owned(),
            request: String::new(),
        }
    }

    /// What is asked for with a token.
    #[must_use]
    pub fn token(id: &TokenId, request: &str) -> Self {
        Self {
            actor: id.as_str().to_owned(),
            request: request.to_owned(),
        }
    }
}

/// What happened. The names on the wire and in the store are never changed, because hashes cover
/// them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuditKind {
    /// A user or a group was created.
    ResourceCreated,
    /// A user or a group was changed.
    ResourceChanged,
    /// A user or a group was deleted.
    ResourceDeleted,
    /// The tenant was created.
    TenantCreated,
    /// The tenant was suspended.
    TenantSuspended,
    /// The tenant is served again.
    TenantResumed,
    /// The tenant came back from a backup.
    TenantRestored,
    /// The tenant's users and groups were exported.
    TenantExported,
    /// The tenant's settings were replaced.
    SettingsChanged,
    /// An extension schema was added.
    SchemaCreated,
    /// An extension schema was removed.
    SchemaDeleted,
    /// An API token was made.
    TokenCreated,
    /// An API token got a successor.
    TokenRotated,
    /// An API token was revoked.
    TokenRevoked,
    /// An API token was used for the first time.
    TokenFirstUsed,
    /// An administrator signed in.
    SignedIn,
    /// An administrator signed out.
    SignedOut,
    /// Somebody could not sign in.
    SignInRefused,
    /// Requests were refused by a rule; several are one record.
    RequestsRefused,
    /// Records that were too old were removed.
    AuditPruned,
    /// A receiver of events was made.
    EndpointCreated,
    /// A receiver of events was changed, its secret too.
    EndpointChanged,
    /// A receiver of events was deleted.
    EndpointDeleted,
    /// Events are held back for a receiver.
    EndpointPaused,
    /// A receiver gets events again.
    EndpointResumed,
    /// Changes were forgotten before a receiver of events had them.
    EventsLost,
}

impl AuditKind {
    /// The name on the wire and in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ResourceCreated => "resource.created",
            Self::ResourceChanged => "resource.changed",
            Self::ResourceDeleted => "resource.deleted",
            Self::TenantCreated => "tenant.created",
            Self::TenantSuspended => "tenant.suspended",
            Self::TenantResumed => "tenant.resumed",
            Self::TenantRestored => "tenant.restored",
            Self::TenantExported => "tenant.exported",
            Self::SettingsChanged => "settings.changed",
            Self::SchemaCreated => "schema.created",
            Self::SchemaDeleted => "schema.deleted",
            Self::TokenCreated => "token.created",
            Self::TokenRotated => "token.rotated",
            Self::TokenRevoked => "token.revoked",
            Self::TokenFirstUsed => "token.first_used",
            Self::SignedIn => "admin.signed_in",
            Self::SignedOut => "admin.signed_out",
            Self::SignInRefused => "admin.sign_in_refused",
            Self::RequestsRefused => "requests.refused",
            Self::AuditPruned => "audit.pruned",
            Self::EndpointCreated => "endpoint.created",
            Self::EndpointChanged => "endpoint.changed",
            Self::EndpointDeleted => "endpoint.deleted",
            Self::EndpointPaused => "endpoint.paused",
            Self::EndpointResumed => "endpoint.resumed",
            Self::EventsLost => "events.lost",
        }
    }
}

impl From<ChangeKind> for AuditKind {
    fn from(what: ChangeKind) -> Self {
        match what {
            ChangeKind::Created => Self::ResourceCreated,
            ChangeKind::Changed => Self::ResourceChanged,
            ChangeKind::Deleted => Self::ResourceDeleted,
        }
    }
}

/// What is to be recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditNote {
    /// What happened.
    pub kind: AuditKind,
    /// By whom.
    pub by: Author,
    /// To what: see [`subject_of`] for a resource; the id of a token or an endpoint, the URN of a
    /// schema, the name of a rule; empty where it is the tenant itself.
    pub subject: String,
    /// Names of what changed, or what else the kind has to say; never a value of a resource.
    pub names: Vec<String>,
}

impl AuditNote {
    /// A note that names nothing.
    #[must_use]
    pub fn new(kind: AuditKind, by: Author, subject: &str) -> Self {
        Self {
            kind,
            by,
            subject: subject.to_owned(),
            names: Vec::new(),
        }
    }

    /// What is recorded when a token is made.
    #[must_use]
    pub(super) fn created(token: &NewToken) -> Self {
        let mut note = Self::new(
            AuditKind::TokenCreated,
            Author {
                actor: token.created_by.clone(),
                request: String::new(),
            },
            token.id.as_str(),
        );
        note.names = vec![token.scope.as_str().to_owned()];
        note
    }

    /// The same when it succeeds another one.
    #[must_use]
    pub(super) fn rotated(id: &TokenId, successor: &NewToken) -> Self {
        Self {
            kind: AuditKind::TokenRotated,
            subject: id.as_str().to_owned(),
            names: vec![successor.id.as_str().to_owned()],
            ..Self::created(successor)
        }
    }

    /// The same when it is used for the first time.
    #[must_use]
    pub(super) fn first_used(id: &TokenId) -> Self {
        Self::new(
            AuditKind::TokenFirstUsed,
            Author::token(id, ""),
            id.as_str(),
        )
    }

    /// What is recorded when records up to a number are removed because of their age: where the
    /// rest begins, so that nobody else can make it begin elsewhere.
    #[must_use]
    pub(super) fn pruned(last: i64, hash: &[u8]) -> Self {
        let mut note = Self::new(AuditKind::AuditPruned, Author::node(), "");
        note.names = vec![last.to_string(), hex::encode(hash)];
        note
    }

    pub(super) fn names_json(&self) -> Result<String, StoreError> {
        serde_json::to_string(&self.names)
            .map_err(|_| StoreError::Corrupt("names that cannot be written as JSON"))
    }
}

/// How a record names a resource: `User/` or `Group/` and its id.
#[must_use]
pub fn subject_of(kind: ResourceKind, id: ResourceId) -> String {
    format!("{}/{id}", kind.name())
}

/// One record of a tenant's chain, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditRecord {
    /// Its number: 1 for the first, with no gaps.
    pub number: i64,
    /// When.
    pub at: Timestamp,
    /// What happened: [`AuditKind::as_str`], or a name that a newer release gave.
    pub kind: String,
    /// By whom: see [`Author`].
    pub actor: String,
    /// In which request.
    pub request: String,
    /// To what.
    pub subject: String,
    /// Names of what changed: a list in JSON, as text.
    pub names: String,
    /// The hash that the store holds for it.
    #[serde(with = "bytes_text")]
    pub hash: Vec<u8>,
}

impl AuditRecord {
    /// The hash that the record must have behind `previous`.
    #[must_use]
    pub fn expected_hash(&self, previous: &[u8], tenant: &TenantId) -> [u8; HASH_BYTES] {
        link(
            previous,
            tenant,
            self.number,
            self.at,
            [
                &self.kind,
                &self.actor,
                &self.request,
                &self.subject,
                &self.names,
            ],
        )
    }
}

/// How a tenant's chain begins and ends, as its head row says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditHead {
    /// The last record; 0 where there is none.
    pub number: i64,
    /// Its hash; empty where there is none.
    #[serde(with = "bytes_text")]
    pub hash: Vec<u8>,
    /// The last record that was removed because of its age; 0 where none was.
    pub base_number: i64,
    /// Its hash; empty where there is none.
    #[serde(with = "bytes_text")]
    pub base_hash: Vec<u8>,
}

/// Which part of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditRange {
    /// Behind a number, oldest first.
    Behind(i64),
    /// Before a number, newest first; `i64::MAX` is from the end.
    Before(i64),
}

/// The hash of a record: SHA-256 of the hash before it and of the record's parts, each as a
/// netstring (its length in bytes, a colon, the text, a comma), so that no two records are spelled
/// alike. `parts` are kind, actor, request, subject and names. PostgreSQL does the same in
/// `chain_audit` of its migrations.
#[must_use]
pub fn link(
    previous: &[u8],
    tenant: &TenantId,
    number: i64,
    at: Timestamp,
    parts: [&str; 5],
) -> [u8; HASH_BYTES] {
    use std::io::Write as _;
    let mut hash = Sha256::new();
    hash.update(previous);
    let mut digits = [0_u8; 24];
    let mut part = |text: &[u8]| {
        let mut room = digits.as_mut_slice();
        // 20 digits and a colon fit.
        let _fits = write!(room, "{}:", text.len());
        let left = room.len();
        hash.update(digits.get(..digits.len() - left).unwrap_or_default());
        hash.update(text);
        hash.update(b",");
    };
    part(tenant.as_str().as_bytes());
    part(number.to_string().as_bytes());
    part(at.as_millis().to_string().as_bytes());
    for text in parts {
        part(text.as_bytes());
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_covers_every_part_and_where_it_ends() {
        let tenant = TenantId::generate().unwrap();
        let hash = |number, at, parts| link(b"", &tenant, number, Timestamp(at), parts);
        let parts = ["a", "b", "c", "d", "[]"];
        let one = hash(1, 2, parts);
        assert_eq!(one, hash(1, 2, parts));
        let mut text = Vec::new();
        for part in [tenant.as_str(), "1", "2", "a", "b", "c", "d", "[]"] {
            text.extend(format!("{}:{part},", part.len()).into_bytes());
        }
        assert_eq!(one.as_slice(), Sha256::digest(&text).as_slice());
        for other in [
            hash(2, 2, parts),
            hash(1, 3, parts),
            hash(1, 2, ["ab", "", "c", "d", "[]"]),
            hash(1, 2, ["a", "b", "cd", "", "[]"]),
            link(&one, &tenant, 1, Timestamp(2), parts),
        ] {
            assert_ne!(one, other);
        }
    }
}
