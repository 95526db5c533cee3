//! What the service provider asks of its storage: one trait, spoken in SCIM's words.
//!
//! The tenant comes first in every call. A call on a tenant's resources carries an [`Access`],
//! and the engine checks in the same transaction that it still holds: the head row of the tenant
//! is active and its credential version is the one that the grant was minted under. So a
//! revocation is effective at its commit, however stale a cache is (DESIGN section 2).
//!
//! Engines compare bytes. Everything that is compared without case or normalised arrives here as
//! a key that `scim` made. Time and randomness are arguments. What never lives here: HTTP, the
//! meaning of an attribute, a filter's evaluation.

pub mod activity;
pub mod audit;
pub mod backup;
pub mod change;
mod commits;
pub mod events;
pub mod narrowing;
mod position;
pub mod request_key;
mod staging;

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use shared::link::TenantLimits;
use shared::{Dialect, Networks, Scope, TenantId, Timestamp, TokenDigest, TokenId};
use tokio::sync::mpsc;

use self::activity::{
    ActivityBatch, ActivityPage, ActivityQuery, ActivityRetention, Cycle, Entry, EntryNumber,
    Finding, Hour,
};
use crate::scim::client::Client;
use crate::scim::{ResourceId, ResourceKind, Version};

#[cfg(test)]
mod activity_story;
#[cfg(test)]
mod audit_story;
#[cfg(test)]
mod backup_story;
#[cfg(test)]
mod events_story;
pub mod postgres;
pub mod sqlite;
#[cfg(test)]
pub(crate) mod story;

pub use self::commits::CommitCounts;
pub use audit::{AuditHead, AuditKind, AuditNote, AuditRange, AuditRecord, Author};
pub use backup::{
    BackupRow, Counts, Erased, ExportRow, RestoreError, RestoreHow, RestoreStep, Restored,
};
pub use change::{Change, ChangeKind, Retention};
pub use events::{DeadLetter, Endpoint, EndpointChange, Report};
pub use request_key::{KeyOrigin, Outcome, RequestKey};

/// The right to touch one tenant's resources, as a verified grant gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Whose resources.
    pub tenant: TenantId,
    /// The credential version that the grant was minted under.
    pub credential_version: i64,
}

/// When a write happens, and who asks for it.
#[derive(Clone, Debug)]
pub struct WriteContext {
    /// The time that the write is given.
    pub now: Timestamp,
    /// The name of the request: its outcome is kept under it, and it is carried out once.
    pub request: Option<RequestKey>,
    /// Who asks: what the audit record says.
    pub by: Author,
}

/// What a storage call can end in, other than an answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The access no longer holds: a token of the tenant was revoked, the tenant was suspended
    /// or deleted, or its settings changed since the grant was minted.
    #[error("the grant rests on a state of the tenant that is over")]
    Refused,
    /// A value that is unique in the tenant belongs to another resource.
    #[error("{attribute} is taken by another resource")]
    Taken {
        /// Canonical name of the attribute: `userName`, `displayName`.
        attribute: &'static str,
    },
    /// The resource has moved on from the version that the write expected.
    #[error("the resource is at another version")]
    Stale {
        /// The version that it is at.
        current: Version,
    },
    /// There is no such resource in this tenant.
    #[error("no such resource")]
    NotFound,
    /// The request was carried out before, and this came of it. Nothing was written now.
    #[error("the request was carried out before")]
    Repeated(Outcome),
    /// The name of the request was used for another request before. Nothing was written.
    #[error("the key of the request was used for another request")]
    KeyReused,
    /// A look-up would read more than [`narrowing::MOST_INDEX_ROWS`] rows of an index.
    #[error("the look-up would read too much of an index")]
    OverBudget,
    /// The store cannot answer now: busy, full, read-only, gone. Nothing was written, unless the
    /// answer to a commit was lost: then nobody knows, and the request has to come again under its
    /// key.
    #[error("the store cannot answer")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The store answered something that it must never answer.
    #[error("the store holds something that it should not: {0}")]
    Corrupt(&'static str),
}

/// Whether a tenant is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TenantState {
    /// It is.
    Active,
    /// The operator has suspended it; nothing is lost.
    Suspended,
}

impl TenantState {
    /// The name on the wire and in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
        }
    }
}

impl From<TenantState> for AuditKind {
    fn from(state: TenantState) -> Self {
        match state {
            TenantState::Active => Self::TenantResumed,
            TenantState::Suspended => Self::TenantSuspended,
        }
    }
}

/// Which userNames a tenant takes (DESIGN section 7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UserNameRule {
    /// Any text.
    #[default]
    Any,
    /// An e-mail address; everything else is 400 invalidValue.
    Email,
}

/// A tenant's settings, stored as JSON. Unknown members are refused when they are set and
/// ignored when they are read, so that an older program can serve beside a newer one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TenantSettings {
    /// Which userNames are taken.
    pub user_name: UserNameRule,
    /// Whether the tenant has groups at all (DESIGN section 7).
    pub groups: GroupsRule,
    /// How much the tenant may ask for.
    pub limits: TenantLimits,
    /// For how many days the tenant's requests are kept; `None` for as long as the operator keeps
    /// them, which it can only shorten.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activity_days: Option<u32>,
    /// The tenant's own extension schemas.
    pub extensions: Vec<TenantExtension>,
    /// URNs of extensions that were removed and whose values are not all gone yet: nothing of
    /// them is shown.
    pub removed_extensions: Vec<String>,
}

/// An extension schema of a tenant's own (RFC 7643 section 3.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantExtension {
    /// The resource type that it extends.
    pub resource_type: ResourceKind,
    /// The schema, as `/Schemas` shows it.
    pub schema: serde_json::Value,
    /// Names of its attributes that are found by an index.
    pub indexed: Vec<String>,
}

/// Whether groups are provisioned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupsRule {
    /// They are.
    #[default]
    On,
    /// Discovery does not list them, their list is empty, and writes are answered 501.
    Off,
}

/// A tenant and its head row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    /// Its public id.
    pub id: TenantId,
    /// What the operator calls it.
    pub name: String,
    /// Whether it is served.
    pub state: TenantState,
    /// Moves with everything that grants rest on.
    pub credential_version: i64,
    /// The number of its last write.
    pub seq: i64,
    /// How many users it has.
    pub users: i64,
    /// How many groups it has.
    pub groups: i64,
    /// Its settings.
    pub settings: TenantSettings,
    /// When it was created.
    pub created: Timestamp,
}

/// How long an API token was meant to live when it was made. Its end may have come nearer since,
/// by a rotation; this stays. Milliseconds, or 0 for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MeantLife(i64);

impl MeantLife {
    /// Of a token that is made at `created` and ends at `expires`, if ever.
    #[must_use]
    pub fn of(created: Timestamp, expires: Option<Timestamp>) -> Self {
        let millis = expires.map_or(0, |end| end.since(created).as_millis().max(1));
        Self(i64::try_from(millis).unwrap_or(i64::MAX))
    }

    /// As long as that; `None` for ever.
    #[must_use]
    pub fn life(self) -> Option<Duration> {
        let millis = u64::try_from(self.0).ok()?;
        (millis > 0).then(|| Duration::from_millis(millis))
    }
}

/// An API token as the store keeps it: everything but the secret. In a backup, a field that is not
/// known is refused: what it says of the token must not get lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredToken {
    /// Its id.
    pub id: TokenId,
    /// Whose it is.
    pub tenant: TenantId,
    /// What its maker calls it.
    pub name: String,
    /// What it may be used for.
    pub scope: Scope,
    /// Which protocol its client speaks on the main path.
    pub dialect: Dialect,
    /// When it was made.
    pub created: Timestamp,
    /// Who made it: `operator`, or the id of the admin token that did.
    pub created_by: String,
    /// When it ends, if ever.
    pub expires: Option<Timestamp>,
    /// When it was last used, exact to ten minutes.
    pub last_used: Option<Timestamp>,
    /// When it was revoked.
    pub revoked: Option<Timestamp>,
    /// From where it may be used.
    #[serde(default, skip_serializing_if = "Networks::is_empty")]
    pub networks: Networks,
    /// How long it was meant to live. `None` where an older release made it, which did not note it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meant_life: Option<MeantLife>,
}

/// Networks as a column of either engine holds them: JSON, and nothing for anywhere.
fn networks_column(networks: &Networks) -> Result<Option<String>, StoreError> {
    if networks.is_empty() {
        return Ok(None);
    }
    serde_json::to_string(networks)
        .map(Some)
        .map_err(|_| StoreError::Corrupt("networks that cannot be written as JSON"))
}

/// Reads such a column.
fn read_networks(column: Option<&str>) -> Result<Networks, StoreError> {
    column.map_or_else(
        || Ok(Networks::default()),
        |text| {
            serde_json::from_str(text)
                .map_err(|_| StoreError::Corrupt("a token with unreadable networks"))
        },
    )
}

/// A token to be stored.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// Its id.
    pub id: TokenId,
    /// SHA-256 of the secret.
    pub digest: TokenDigest,
    /// What its maker calls it.
    pub name: String,
    /// What it may be used for.
    pub scope: Scope,
    /// Which protocol its client speaks on the main path.
    pub dialect: Dialect,
    /// Who made it.
    pub created_by: String,
    /// When it ends, if ever.
    pub expires: Option<Timestamp>,
    /// From where it may be used.
    pub networks: Networks,
}

/// Access tokens of one API token that live at the same time. Past it the oldest end: a client
/// that asks for one before every request is served, and the region's memory of it is bounded.
pub const MOST_ACCESS_TOKENS: u32 = 100;

/// How many of a tenant's last writes are looked through for those to one resource: there is no
/// index by resource, which every write would pay for.
pub const MOST_HISTORY: i64 = 1_000_000;

/// An access token to be stored: a second, short-lived secret of an API token, with nothing of its
/// own but its digest and its end.
#[derive(Clone, Copy, Debug)]
pub struct NewAccessToken {
    /// SHA-256 of the secret.
    pub digest: TokenDigest,
    /// When it ends; where its API token ends sooner, it ends with that.
    pub expires: Timestamp,
}

/// What a digest stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundToken {
    /// The API token. Where an access token of it was found, `expires` is the nearer of both ends.
    pub token: StoredToken,
    /// Its tenant.
    pub tenant: Tenant,
    /// Whether the digest is that of an access token.
    pub is_access_token: bool,
}

impl FoundToken {
    /// Puts together what an engine read; `access_ends` is the end of the access token, where it
    /// is one.
    fn new(token: StoredToken, tenant: Tenant, access_ends: Option<Timestamp>) -> Self {
        let ends = token.expires.into_iter().chain(access_ends).min();
        Self {
            token: StoredToken {
                expires: ends,
                ..token
            },
            tenant,
            is_access_token: access_ends.is_some(),
        }
    }
}

/// What a resource is found by, besides its id: normalised in Rust, compared as bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Keys {
    /// Key of `userName`: unique among the tenant's users.
    pub user_name: Option<String>,
    /// The key that `userName` shares with all names that look like it, where that is another one
    /// than its own. No two users of a tenant share it.
    pub user_name_look_alike: Option<String>,
    /// `externalId`, exactly as sent (caseExact).
    pub external_id: Option<String>,
    /// Key of `displayName`: unique among the tenant's groups, not among its users.
    pub display_name: Option<String>,
    /// Whether the resource is active; groups always are.
    pub active: bool,
    /// Keys of indexed multi-valued attributes: the attribute's canonical path
    /// (`emails.value`) and the key of each of its values, without repetition.
    pub attributes: Vec<(String, String)>,
}

impl Keys {
    /// Name of the index over the keys that names share with those that look like them.
    pub const LOOK_ALIKE: &str = "userName.lookAlike";

    /// The rows that the index over attributes has of the resource: name and key.
    pub fn index_rows(&self) -> impl Iterator<Item = (&str, &str)> {
        let look_alike = self.user_name_look_alike.iter();
        let look_alike = look_alike.map(|key| (Self::LOOK_ALIKE, key.as_str()));
        let attributes = self.attributes.iter();
        attributes
            .map(|(name, key)| (name.as_str(), key.as_str()))
            .chain(look_alike)
    }

    /// Takes rows of that index in.
    pub fn take_index_rows(&mut self, rows: Vec<(String, String)>) {
        for (name, key) in rows {
            if name == Self::LOOK_ALIKE {
                self.user_name_look_alike = Some(key);
            } else {
                self.attributes.push((name, key));
            }
        }
    }
}

/// What a write stores of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// What it is found by.
    pub keys: Keys,
    /// The JSON object that a client sees, less `meta` and what is derived (`members`,
    /// `groups`), as text: `schemas` and `id` first.
    pub document: String,
    /// What happens to the members of a group, in this order.
    pub members: Vec<MemberChange>,
    /// Names of the attributes that a replace changes, for the change feed; a create names none,
    /// because everything is new. `members` is not named: the store adds it where rows change.
    pub changed: Vec<String>,
}

/// One change of a group's members. They apply in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// These are members; those who are already stay. An id that no resource of the tenant has is
    /// passed over: it may have been deleted a moment ago.
    Add(Vec<ResourceId>),
    /// These are not; those who are not already are no matter.
    Remove(Vec<ResourceId>),
    /// These are, and nobody else. Unknown ids likewise.
    Replace(Vec<ResourceId>),
}

/// A resource that is a member of a group, or a group that has a resource as a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Related {
    /// Its id.
    pub id: ResourceId,
    /// Its place among those that are related to the same resource.
    pub position: Position,
    /// What it is.
    pub kind: ResourceKind,
}

/// A resource as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its id.
    pub id: ResourceId,
    /// Where it stands in the order of its kind's list: grows with every create, never changes.
    pub position: Position,
    /// The tenant's `seq` at its last write.
    pub version: Version,
    /// When it was created.
    pub created: Timestamp,
    /// When it was last written.
    pub modified: Timestamp,
    /// The JSON object that a client sees, less `meta` and what is derived, as text.
    pub document: String,
    /// Whether it may be a direct member of a group. Where it is `false` it was none when it was
    /// read, and nobody has to look.
    pub may_be_member: bool,
}

/// Groups, and which of the resources that were asked about are direct members of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memberships {
    /// Each group once, in the order of the list of groups.
    pub groups: Vec<Stored>,
    /// Of each resource, in the order in which they were asked about: where its groups stand in
    /// `groups`, in ascending order.
    pub of: Vec<Vec<usize>>,
}

impl Memberships {
    /// Of so many resources, as long as none is known to be a member.
    pub(crate) fn none(resources: usize) -> Self {
        Self {
            groups: Vec::new(),
            of: vec![Vec::new(); resources],
        }
    }

    /// Adds the group that comes next, whose members are the resources with these numbers.
    pub(crate) fn push(&mut self, group: Stored, members: impl IntoIterator<Item = usize>) {
        for member in members {
            if let Some(of) = self.of.get_mut(member) {
                of.push(self.groups.len());
            }
        }
        self.groups.push(group);
    }
}

/// A place in the order of a tenant's resources of one kind. Opaque outside the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position(pub i64);

/// Which resources can match a filter: always a superset of those that do, found by an index.
/// The provider decides about each candidate (DESIGN section 2: SQL narrows, Rust decides).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Narrowing {
    /// No index helps.
    Everything,
    /// Nothing can match.
    Nothing,
    /// The resource with this id.
    Id(ResourceId),
    /// A key in an index over texts passes a test. Of several keys of one resource it is enough
    /// that one does.
    Text(TextIndex, TextTest),
    /// The resource is a direct member of this group.
    MemberOf(ResourceId),
    /// The group has this resource as a direct member.
    HasMember(ResourceId),
    /// Any of these, each of them an index look-up.
    AnyOf(Vec<Narrowing>),
}

/// An index over texts, by what it holds: see [`Keys`]. A resource without the attribute is not
/// in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextIndex {
    /// Keys of `userName`: one of each user.
    UserName,
    /// `externalId`, exactly as sent: at most one of a resource.
    ExternalId,
    /// Keys of `displayName`: one of each group. Users are not indexed by it; an engine that is
    /// asked for users by it walks the list.
    DisplayName,
    /// Keys of an indexed attribute, by its name in [`Keys::attributes`]: none, one or several of
    /// a resource.
    Attribute(String),
}

/// What a key in an index must be like. Keys are compared as bytes, which for UTF-8 is the order
/// of code points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextTest {
    /// It is this.
    Is(String),
    /// It starts with this.
    StartsWith(String),
    /// It lies between these.
    Range {
        /// Where the range begins.
        from: Bound<String>,
        /// Where it ends.
        to: Bound<String>,
    },
    /// There is one.
    Present,
    /// It has this within.
    Contains(String),
    /// It ends with this.
    EndsWith(String),
}

/// A run of candidates in list order.
#[derive(Clone, Debug, Default)]
pub struct Candidates {
    /// At most as many as were asked for.
    pub resources: Vec<Stored>,
    /// Whether there is nothing behind the last one.
    pub complete: bool,
}

/// Where a page begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageStart {
    /// Behind so many resources, counted from the first.
    Offset(u64),
    /// Behind this position, whatever has been deleted before it.
    Behind(Position),
}

/// A page of an unfiltered list.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// How many resources of the kind the tenant has, in the snapshot that the page is from.
    pub total: i64,
    /// At most as many as were asked for, in list order.
    pub resources: Vec<Stored>,
}

/// How a store is, told without a look at anybody's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreCondition {
    /// `sqlite` or `postgres`.
    pub engine: &'static str,
    /// The newest step of the schema that has been applied.
    pub schema: i64,
    /// The newest one that this program knows.
    pub newest_schema: i64,
    /// Room on the disk for what will be written, in bytes, where the store is on this machine.
    pub free_bytes: Option<u64>,
}

/// Durable storage of one region. A write that returned `Ok` survives kill -9 and power loss.
#[async_trait]
pub trait Store: Send + Sync {
    // ---- tenants -------------------------------------------------------------------------

    /// Creates an active tenant.
    async fn create_tenant(
        &self,
        id: &TenantId,
        name: &str,
        settings: &TenantSettings,
        now: Timestamp,
    ) -> Result<Tenant, StoreError>;

    /// One tenant.
    async fn get_tenant(&self, id: &TenantId) -> Result<Option<Tenant>, StoreError>;

    /// All tenants, in the order of their creation.
    async fn list_tenants(&self) -> Result<Vec<Tenant>, StoreError>;

    /// Suspends or resumes a tenant; moves its credential version. `NotFound` if there is none.
    async fn set_tenant_state(
        &self,
        id: &TenantId,
        state: TenantState,
        by: &Author,
        now: Timestamp,
    ) -> Result<Tenant, StoreError>;

    /// Replaces a tenant's settings; moves its credential version. Where `expected` is given, the
    /// tenant must be active and at that credential version, or it is `Refused`: so nobody's
    /// change is lost, and a revoked token changes nothing. `note` says in the audit what it is
    /// about. `NotFound` if there is no tenant.
    async fn set_tenant_settings(
        &self,
        id: &TenantId,
        settings: &TenantSettings,
        expected: Option<i64>,
        note: &AuditNote,
        now: Timestamp,
    ) -> Result<Tenant, StoreError>;

    /// Erases a tenant with everything that it owns, and counts afterwards what is left of it.
    /// `NotFound` if there is none.
    async fn delete_tenant(&self, id: &TenantId) -> Result<Erased, StoreError>;

    // ---- API tokens ----------------------------------------------------------------------

    /// Stores a token. `NotFound` if there is no such tenant. This and the next two are also done
    /// `under` the access of the tenant's administrator: `Refused` unless it holds at the commit.
    async fn create_token(
        &self,
        tenant: &TenantId,
        token: &NewToken,
        under: Option<&Access>,
        now: Timestamp,
    ) -> Result<StoredToken, StoreError>;

    /// A tenant's tokens, in the order of their creation, ended ones too. `NotFound` if there is
    /// no such tenant.
    async fn list_tokens(&self, tenant: &TenantId) -> Result<Vec<StoredToken>, StoreError>;

    /// One token, whichever tenant's it is.
    async fn get_token(&self, id: &TokenId) -> Result<Option<StoredToken>, StoreError>;

    /// Stores `successor` (same tenant) and lets `id` live for `overlap` more at most, in one
    /// transaction; moves the credential version. `NotFound` if the token is unknown or ended.
    async fn rotate_token(
        &self,
        id: &TokenId,
        successor: &NewToken,
        overlap: Duration,
        under: Option<&Access>,
        now: Timestamp,
    ) -> Result<StoredToken, StoreError>;

    /// Revokes a token and moves the credential version. Revoking twice keeps the first time.
    /// `NotFound` if it is unknown.
    async fn revoke_token(
        &self,
        id: &TokenId,
        by: &Author,
        under: Option<&Access>,
        now: Timestamp,
    ) -> Result<StoredToken, StoreError>;

    /// The token with this digest and its tenant, from one snapshot.
    async fn find_token(&self, digest: &TokenDigest) -> Result<Option<FoundToken>, StoreError>;

    /// Stores an access token of the API token `id`, and answers when it ends. Of those that the
    /// API token has, the newest [`MOST_ACCESS_TOKENS`] stay. One that is stored already is not
    /// stored again. `NotFound` unless the API token is live and its tenant active; `KeyReused` if
    /// the digest is another token's.
    async fn create_access_token(
        &self,
        id: &TokenId,
        access: &NewAccessToken,
        now: Timestamp,
    ) -> Result<Timestamp, StoreError>;

    /// Ends an access token of this tenant and moves the credential version, so that no grant of
    /// it is good any longer. One that is not there has ended already.
    async fn end_access_token(
        &self,
        tenant: &TenantId,
        digest: &TokenDigest,
    ) -> Result<(), StoreError>;

    /// Forgets some access tokens whose time is over; answers whether these were the last.
    async fn prune_access_tokens(&self, now: Timestamp) -> Result<bool, StoreError>;

    /// Notes when tokens were last used; never moves a time back.
    async fn touch_tokens(&self, used: &[(TokenId, Timestamp)]) -> Result<(), StoreError>;

    // ---- resources -----------------------------------------------------------------------

    /// The tenant of an access, if the access still holds.
    async fn head(&self, access: &Access) -> Result<Tenant, StoreError>;

    // A write that could be done also ends as `Repeated` or `KeyReused`, where its request has a
    // key that is known. One that could not, because it was done before, fails as any other:
    // `outcome` then tells.

    /// Creates a resource. `Taken` if a unique key belongs to another one.
    async fn create(
        &self,
        access: &Access,
        kind: ResourceKind,
        id: ResourceId,
        content: Content,
        write: WriteContext,
    ) -> Result<Stored, StoreError>;

    /// One resource.
    async fn get(
        &self,
        access: &Access,
        kind: ResourceKind,
        id: ResourceId,
    ) -> Result<Option<Stored>, StoreError>;

    /// Replaces what is stored of a resource that is still at `expected`. `NotFound`, `Stale` or
    /// `Taken` otherwise, and nothing is changed.
    async fn replace(
        &self,
        access: &Access,
        kind: ResourceKind,
        id: ResourceId,
        expected: Version,
        content: Content,
        write: WriteContext,
    ) -> Result<Stored, StoreError>;

    /// Deletes a resource with all memberships in it and of it, if it is at `expected` where
    /// that is given. `NotFound` or `Stale` otherwise.
    async fn delete(
        &self,
        access: &Access,
        kind: ResourceKind,
        id: ResourceId,
        expected: Option<Version>,
        write: WriteContext,
    ) -> Result<(), StoreError>;

    /// Up to `limit` resources of a kind from `start` on, in list order.
    async fn page(
        &self,
        access: &Access,
        kind: ResourceKind,
        start: PageStart,
        limit: u32,
    ) -> Result<Page, StoreError>;

    /// Up to `limit` candidates behind the position `after`, in list order.
    async fn candidates(
        &self,
        access: &Access,
        kind: ResourceKind,
        narrowing: &Narrowing,
        after: Option<Position>,
        limit: u32,
    ) -> Result<Candidates, StoreError>;

    // ---- members -------------------------------------------------------------------------

    /// Changes the members of a group that is at `expected` where that is given, and nothing
    /// else of it; costs what the change costs, whatever the group's size. The group moves to a
    /// new version if anything changed. `NotFound` or `Stale` otherwise.
    async fn change_members(
        &self,
        access: &Access,
        group: ResourceId,
        expected: Option<Version>,
        changes: Vec<MemberChange>,
        write: WriteContext,
    ) -> Result<Version, StoreError>;

    /// The direct members of each of the groups at these positions; of each the first `most`.
    async fn members(
        &self,
        access: &Access,
        groups: &[Position],
        most: Option<u32>,
    ) -> Result<Vec<Vec<Related>>, StoreError>;

    /// The groups of which the resources at these positions are direct members.
    async fn groups_of(
        &self,
        access: &Access,
        resources: &[Position],
    ) -> Result<Memberships, StoreError>;

    // ---- requests and changes ------------------------------------------------------------

    /// Up to `limit` changes of one resource before the write number `before`, newest first; the
    /// resource need not be there any more. Of the tenant's writes the last [`MOST_HISTORY`] are
    /// looked through.
    async fn history(
        &self,
        access: &Access,
        id: ResourceId,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Change>, StoreError>;

    /// What came of the request with this key, if it was carried out. `KeyReused` if it was
    /// another request.
    async fn outcome(
        &self,
        access: &Access,
        key: RequestKey,
    ) -> Result<Option<Outcome>, StoreError>;

    /// Up to `limit` changes of a tenant's resources behind the write number `after`, in commit
    /// order. One write can change several resources: a run is cut between two writes, so more
    /// than `limit` come where one write alone has more. `NotFound` if there is no such tenant.
    async fn changes(
        &self,
        tenant: &TenantId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<Change>, StoreError>;

    /// Forgets some of a tenant's oldest changes and outcomes that need not be kept any longer;
    /// answers whether these were the last. No error if there is no such tenant.
    async fn prune(&self, tenant: &TenantId, keep: Retention) -> Result<bool, StoreError>;

    // ---- activity ------------------------------------------------------------------------

    /// A process begins to write activity under a name of its own. Processes that ended without
    /// [`Self::end_activity`] leave a gap.
    async fn begin_activity(&self, writer: &str, now: Timestamp) -> Result<(), StoreError>;

    /// Writes what is new, all of it or nothing. A tenant that is gone is passed over. A batch that
    /// comes again, because nobody knows whether it was written, is written once.
    async fn record_activity(
        &self,
        batch: Arc<ActivityBatch>,
        is_repeated: bool,
    ) -> Result<(), StoreError>;

    /// The process has written all that it had.
    async fn end_activity(&self, writer: &str) -> Result<(), StoreError>;

    /// A tenant's requests, newest first.
    async fn activity(
        &self,
        access: &Access,
        query: &ActivityQuery,
    ) -> Result<ActivityPage, StoreError>;

    /// One request, and who sent it.
    async fn activity_entry(
        &self,
        access: &Access,
        number: EntryNumber,
    ) -> Result<Option<(Entry, Client)>, StoreError>;

    /// Up to `count` sync cycles that began before a time, newest first.
    async fn cycles(
        &self,
        access: &Access,
        before: Timestamp,
        count: u32,
    ) -> Result<Vec<Cycle>, StoreError>;

    /// Counts of each hour from one on, in order; hours without requests are not there.
    async fn activity_hours(&self, access: &Access, from: i64) -> Result<Vec<Hour>, StoreError>;

    /// What an administrator should put right, newest first.
    async fn findings(&self, access: &Access) -> Result<Vec<Finding>, StoreError>;

    /// Forgets a tenant's activity that need not be kept any longer. No error if there is no such
    /// tenant.
    async fn prune_activity(
        &self,
        tenant: &TenantId,
        keep: ActivityRetention,
    ) -> Result<(), StoreError>;

    // ---- audit ---------------------------------------------------------------------------

    /// Records what is no change of the store's, in this order. `NotFound` if there is no such
    /// tenant.
    async fn note_audit(
        &self,
        tenant: &TenantId,
        notes: Vec<AuditNote>,
        now: Timestamp,
    ) -> Result<(), StoreError>;

    /// Up to `limit` records of a tenant, and how its chain begins and ends in the same snapshot.
    /// `NotFound` if there is no such tenant.
    async fn audit(
        &self,
        tenant: &TenantId,
        range: AuditRange,
        limit: u32,
    ) -> Result<(AuditHead, Vec<AuditRecord>), StoreError>;

    /// Removes some of a tenant's oldest audit records from before `since`, from the front only,
    /// and records that; answers whether these were the last. No error if there is no such tenant.
    async fn prune_audit(
        &self,
        tenant: &TenantId,
        since: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError>;

    // ---- receivers of events -------------------------------------------------------------

    /// Stores an endpoint whose events begin with the tenant's next write. `NotFound` if there is
    /// no such tenant.
    async fn create_endpoint(
        &self,
        endpoint: &Endpoint,
        note: &AuditNote,
    ) -> Result<Endpoint, StoreError>;

    /// One endpoint of a tenant.
    async fn get_endpoint(
        &self,
        tenant: &TenantId,
        id: &str,
    ) -> Result<Option<Endpoint>, StoreError>;

    /// The endpoints of a tenant, or of all, in the order of their creation.
    async fn list_endpoints(&self, tenant: Option<&TenantId>) -> Result<Vec<Endpoint>, StoreError>;

    /// Changes an endpoint. `NotFound` if the tenant has none of this id.
    async fn change_endpoint(
        &self,
        tenant: &TenantId,
        id: &str,
        change: &EndpointChange,
        note: &AuditNote,
        now: Timestamp,
    ) -> Result<Endpoint, StoreError>;

    /// Deletes an endpoint with its dead letters. `NotFound` if the tenant has none of this id.
    async fn delete_endpoint(
        &self,
        tenant: &TenantId,
        id: &str,
        note: &AuditNote,
        now: Timestamp,
    ) -> Result<(), StoreError>;

    /// Takes or keeps the right to deliver to an endpoint until a time; answers whether the node
    /// has it. It has not while another one does.
    async fn lease_endpoint(
        &self,
        id: &str,
        node: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Notes what came of deliveries, if the node still has the right to deliver; answers whether
    /// it has.
    async fn report_endpoint(
        &self,
        id: &str,
        node: &str,
        report: &Report,
        now: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Up to `limit` dead letters of an endpoint behind a number, oldest first; all, or only those
    /// that are to be sent once more.
    async fn dead_letters(
        &self,
        tenant: &TenantId,
        id: &str,
        only_replays: bool,
        after: i64,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, StoreError>;

    /// Says that all dead letters of an endpoint are to be sent once more; answers how many there
    /// are. `NotFound` if the tenant has no such endpoint.
    async fn replay_dead_letters(&self, tenant: &TenantId, id: &str) -> Result<u64, StoreError>;

    /// The id and the secret of the key that the region signs tokens about events with: the
    /// candidate, if there is none yet.
    async fn event_key(
        &self,
        candidate: &(String, Vec<u8>),
        now: Timestamp,
    ) -> Result<(String, Vec<u8>), StoreError>;

    // ---- backup, restore, export ---------------------------------------------------------

    /// Sends every row of the region, all of them from one snapshot, and holds up no write while
    /// it does. Ends as `Unavailable` when nobody takes the rows.
    async fn backup(&self, rows: mpsc::Sender<BackupRow>) -> Result<(), StoreError>;

    /// Takes the rows of a backup in. Nobody sees any of them before the step that ends them, and
    /// everybody sees all of them afterwards: a restore that fails, or whose process ends, leaves
    /// the region as it was. Where `how` lets the region's tenants give way, those that the backup
    /// has keep their tokens and their suspension, because credentials never go back in time.
    async fn restore(
        &self,
        steps: mpsc::Receiver<RestoreStep>,
        how: RestoreHow,
    ) -> Result<Restored, RestoreError>;

    /// Sends a tenant and its users and groups, all of them from one snapshot, with what is
    /// derived from others. `NotFound` if there is no such tenant; otherwise as [`Self::backup`].
    async fn export(
        &self,
        tenant: &TenantId,
        rows: mpsc::Sender<ExportRow>,
    ) -> Result<(), StoreError>;

    // ---- the store itself ----------------------------------------------------------------

    /// What was written since the store was opened, if the engine counts.
    fn commit_counts(&self) -> Option<&CommitCounts> {
        None
    }

    /// How the store is, for the operator.
    async fn condition(&self) -> Result<StoreCondition, StoreError>;

    /// Whether the store can read and write at this moment; for readiness.
    async fn check(&self) -> Result<(), StoreError>;
}
