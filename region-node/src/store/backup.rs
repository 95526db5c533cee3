//! What backups, exports and erasures are made of, whichever engine carries them out.
//!
//! A backup is logical: rows of one snapshot in our own words, so that what one engine wrote
//! another can take. Rows come tenant after tenant; whatever stands behind a tenant is that
//! tenant's. What never lives here: the file's lines and checksum (`provider::backup`), SQL.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared::{TenantId, Timestamp, TokenDigest};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::SendTimeoutError;

use super::audit::{AuditHead, AuditRecord};
use super::events::{DeadLetter, Endpoint, EndpointSettings, KeptChange, SigningSecret};
use super::{ChangeKind, KeyOrigin, Keys, Related, StoreError, Stored, StoredToken, Tenant};
use crate::scim::{ResourceId, ResourceKind};

/// Most memberships in one row of a backup.
pub const MEMBERS_IN_A_ROW: usize = 1000;
/// A credential version above these bits says by which restore the tenant came.
const GENERATION_BITS: u32 = 32;
/// Generations are seconds since 2020 began, so that they fit for some decades to come.
const GENERATIONS_BEGIN_S: i64 = 1_577_836_800;
/// Stands where a key was cut.
pub(super) const CUT: char = '\u{10FFFF}';
/// Ids of resources that came back, at most so many: enough to act upon, and bounded.
pub const MOST_NAMED: usize = 1000;

/// By which restore the tenant with this credential version came; 0 if by none. Places in its
/// lists mean something else after each.
#[must_use]
pub fn generation(credential_version: i64) -> i64 {
    credential_version >> GENERATION_BITS
}

/// The credential version of a tenant that is restored: beyond every one that a grant can have
/// been minted under before, in the region as it is (`present`), as it was saved, and as it was in
/// a life between the two that nobody remembers, because the tenant was erased. So it begins with
/// the time, and no restore is taken for another.
#[must_use]
pub fn restored_credential_version(saved: i64, present: Option<i64>, now: Timestamp) -> i64 {
    let highest = generation(present.unwrap_or(saved).max(saved));
    let at_this_time = now.as_seconds().saturating_sub(GENERATIONS_BEGIN_S);
    highest.saturating_add(1).max(at_this_time) << GENERATION_BITS
}

/// How long a receiver may take nothing: a snapshot that stays open costs the store.
const LONGEST_STALL: Duration = Duration::from_secs(60);

/// Why a read of everything ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum LongReadError {
    /// The receiver is gone.
    #[error("nobody takes the rows any more")]
    NobodyThere,
    /// The receiver takes nothing.
    #[error("the receiver of the rows has stalled")]
    Stalled,
    /// The thread is gone.
    #[error("the reading thread ended early")]
    Ended,
}

impl From<LongReadError> for StoreError {
    fn from(error: LongReadError) -> Self {
        Self::Unavailable(Box::new(error))
    }
}

/// Hands a row on; waits for the receiver, though not for ever.
pub(super) async fn hand_on<T>(rows: &mpsc::Sender<T>, row: T) -> Result<(), StoreError> {
    let sent = rows.send_timeout(row, LONGEST_STALL).await;
    sent.map_err(|error| {
        match error {
            SendTimeoutError::Timeout(_) => LongReadError::Stalled,
            SendTimeoutError::Closed(_) => LongReadError::NobodyThere,
        }
        .into()
    })
}

/// One row of a backup. `Debug` is left out: rows hold personal data.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackupRow {
    /// A tenant and its head row; all rows up to the next one are its own.
    Tenant(Box<Tenant>),
    /// A token, in the order of creation.
    Token(Box<TokenRow>),
    /// A user or a group, users first, each in list order.
    Resource(Box<ResourceRow>),
    /// Members of a group; behind all resources of the tenant.
    Members(MembersRow),
    /// A change, in commit order.
    Change(Box<ChangeRow>),
    /// What came of a request.
    Outcome(Box<OutcomeRow>),
    /// How the chain of audit records begins and ends; before its records.
    AuditHead(Box<AuditHead>),
    /// An audit record, in the order of their numbers.
    Audit(Box<AuditRecord>),
    /// A receiver of events.
    Endpoint(Box<EndpointRow>),
}

/// A token with the digest by which it is found.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRow {
    /// SHA-256 of the secret.
    pub digest: TokenDigest,
    /// Everything else.
    pub token: StoredToken,
}

/// A resource as it is stored.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceRow {
    /// What it is.
    pub kind: ResourceKind,
    /// The number of the write that created it: its place in the list, unique in the tenant.
    pub place: i64,
    /// Its id.
    #[serde(with = "id_text")]
    pub id: ResourceId,
    /// The number of its last write.
    pub version: i64,
    /// When it was created.
    pub created: Timestamp,
    /// When it was last written.
    pub modified: Timestamp,
    /// What it is found by.
    pub keys: Keys,
    /// Its document, as it is stored.
    pub document: Box<RawValue>,
}

impl ResourceRow {
    /// Whether the keys are those that were made of the document. An engine may keep a long key
    /// cut, and marks it by a character that no text has.
    #[must_use]
    pub fn keys_are_whole(&self) -> bool {
        let keys = &self.keys;
        let single = [
            &keys.user_name,
            &keys.user_name_look_alike,
            &keys.external_id,
            &keys.display_name,
        ];
        let attributes = keys.attributes.iter().map(|(_, key)| key);
        let mut all = single.into_iter().flatten().chain(attributes);
        !all.any(|key| key.contains(CUT))
    }
}

/// Some members of one group, all by their places. A large group has several such rows.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MembersRow {
    /// The group.
    pub group: i64,
    /// Members that are users.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<i64>,
    /// Members that are groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<i64>,
}

/// One resource that one write changed.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeRow {
    /// The number of the write.
    pub seq: i64,
    /// When.
    pub at: Timestamp,
    /// What happened.
    pub what: ChangeKind,
    /// To what kind of resource.
    pub kind: ResourceKind,
    /// Its place in the list.
    pub place: i64,
    /// Its id.
    #[serde(with = "id_text")]
    pub id: ResourceId,
    /// Names of the attributes that changed.
    pub attributes: Vec<String>,
    /// Whether a user is active after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<bool>,
}

/// What came of a request that has a name.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutcomeRow {
    /// Who named it.
    pub origin: KeyOrigin,
    /// The name.
    #[serde(with = "hex_text")]
    pub key: [u8; 16],
    /// Of a client's request: what it was.
    #[serde(with = "fingerprint_text")]
    pub fingerprint: Option<[u8; 8]>,
    /// What it did.
    pub what: ChangeKind,
    /// To what kind of resource.
    pub kind: ResourceKind,
    /// Its place in the list.
    pub place: i64,
    /// Its id.
    #[serde(with = "id_text")]
    pub id: ResourceId,
    /// The version that it had then.
    pub version: i64,
    /// When.
    pub at: Timestamp,
}

/// A receiver of events, how far it has come, and what it did not take.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointRow {
    /// Its id.
    pub id: String,
    /// What the administrator says.
    pub settings: EndpointSettings,
    /// What deliveries are signed with.
    pub secrets: Vec<SigningSecret>,
    /// Why nothing is sent.
    pub paused: Option<String>,
    /// The number of the last write all of whose events are done.
    pub cursor: i64,
    /// When it was made.
    pub created: Timestamp,
    /// By whom.
    pub created_by: String,
    /// What it did not take, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dead_letters: Vec<LetterRow>,
}

/// An event that a receiver did not take, without its number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LetterRow {
    pub(super) change: KeptChange,
    pub(super) at: Timestamp,
    pub(super) reason: String,
    pub(super) attempts: i64,
    pub(super) replay: bool,
}

impl EndpointRow {
    /// An endpoint and what it did not take.
    #[must_use]
    pub fn new(endpoint: Endpoint, letters: Vec<DeadLetter>) -> Self {
        let letters = letters.into_iter().map(|letter| LetterRow {
            change: KeptChange::from(&letter.change),
            at: letter.at,
            reason: letter.reason,
            attempts: letter.attempts,
            replay: letter.replay,
        });
        Self {
            dead_letters: letters.collect(),
            id: endpoint.id,
            settings: endpoint.settings,
            secrets: endpoint.secrets,
            paused: endpoint.paused,
            cursor: endpoint.progress.cursor,
            created: endpoint.created,
            created_by: endpoint.created_by,
        }
    }
}

/// How many rows of each kind there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Tenants.
    pub tenants: u64,
    /// API tokens, ended ones too.
    pub tokens: u64,
    /// Users.
    pub users: u64,
    /// Groups.
    pub groups: u64,
    /// Memberships: how often a resource is a member of a group.
    pub members: u64,
    /// Rows of the change feed.
    pub changes: u64,
    /// Outcomes of requests.
    pub outcomes: u64,
    /// Audit records.
    #[serde(default)]
    pub audit: u64,
    /// Receivers of events.
    #[serde(default)]
    pub endpoints: u64,
}

impl Counts {
    /// Counts a row.
    pub fn note(&mut self, row: &BackupRow) {
        let (counter, rows) = match row {
            BackupRow::Tenant(_) => (&mut self.tenants, 1),
            BackupRow::Token(_) => (&mut self.tokens, 1),
            BackupRow::Resource(resource) => match resource.kind {
                ResourceKind::User => (&mut self.users, 1),
                ResourceKind::Group => (&mut self.groups, 1),
            },
            BackupRow::Members(members) => (
                &mut self.members,
                (members.users.len() + members.groups.len()) as u64,
            ),
            BackupRow::Change(_) => (&mut self.changes, 1),
            BackupRow::Outcome(_) => (&mut self.outcomes, 1),
            BackupRow::AuditHead(_) => return,
            BackupRow::Audit(_) => (&mut self.audit, 1),
            BackupRow::Endpoint(_) => (&mut self.endpoints, 1),
        };
        *counter += rows;
    }
}

/// What a restore is fed with.
pub enum RestoreStep {
    /// A row of the backup.
    Row(BackupRow),
    /// The backup is whole and undamaged, and has so many rows: make them visible. Without this
    /// step a restore changes nothing.
    End(Counts),
}

/// How to restore.
#[derive(Clone, Copy, Debug)]
pub struct RestoreHow {
    /// Whether what the region holds gives way. If not, the region must have no tenants.
    pub replace: bool,
    /// Whether every token of the restored tenants is revoked.
    pub revoke_tokens: bool,
    /// How far the number of a tenant's next write is beyond all that are known: writes between
    /// the backup and its restore have used numbers that nobody remembers.
    pub version_jump: i64,
    /// The time of the restore.
    pub now: Timestamp,
}

/// What a restore did.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Restored {
    /// What was restored.
    #[serde(flatten)]
    pub counts: Counts,
    /// Tokens that open something now.
    pub live_tokens: u64,
    /// Tokens that are live in the backup and stay ended, because the region knows of their end.
    pub tokens_kept_ended: u64,
    /// Tokens that `revoke_tokens` revoked.
    pub tokens_revoked: u64,
    /// Tenants that the region had and the backup has not: they are erased.
    pub tenants_gone: Vec<TenantId>,
    /// Tenants of the backup that the region had not, where it had others.
    pub tenants_back: Vec<TenantId>,
    /// Users and groups that were created since the backup: they are gone.
    pub resources_gone: u64,
    /// Users and groups that were deleted since the backup: they are back.
    pub resources_back: u64,
    /// Which ones are back; the first [`MOST_NAMED`].
    pub back: Vec<Back>,
}

/// A resource that had been deleted and is back.
#[derive(Clone, Serialize, Deserialize)]
pub struct Back {
    /// Whose it is.
    pub tenant: TenantId,
    /// What it is.
    pub kind: ResourceKind,
    /// Its id.
    #[serde(with = "id_text")]
    pub id: ResourceId,
}

impl std::fmt::Debug for Back {
    /// Ids of resources are personal data.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Back")
            .field("tenant", &self.tenant)
            .finish_non_exhaustive()
    }
}

/// Why a restore changed nothing. The sentences are for the operator.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The store failed.
    #[error("the store did not do it")]
    Store(#[from] StoreError),
    /// The region has tenants.
    #[error("the region has tenants already; only --replace puts the backup in their place")]
    NotEmpty,
    /// Another restore is under way.
    #[error("another restore of this region is under way")]
    Busy,
    /// The rows ended before the end of the backup.
    #[error("the backup did not arrive to its end")]
    Incomplete,
    /// The rows contradict each other.
    #[error("the backup contradicts itself: {0}")]
    Inconsistent(&'static str),
}

/// One row of a tenant's export, from one snapshot.
pub enum ExportRow {
    /// The tenant; the first row.
    Tenant(Box<Tenant>),
    /// A user, and the groups of which it is a direct member.
    User(Stored, Vec<Stored>),
    /// A group, and its direct members.
    Group(Stored, Vec<Related>),
}

/// What an erasure removed, and what a count found afterwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Erased {
    /// API tokens.
    pub tokens: u64,
    /// Users.
    pub users: u64,
    /// Groups.
    pub groups: u64,
    /// Memberships.
    pub members: u64,
    /// Rows by which resources were found.
    pub index_rows: u64,
    /// Rows of the change feed.
    pub changes: u64,
    /// Outcomes of requests.
    pub outcomes: u64,
    /// Rows about the tenant's requests.
    pub activity: u64,
    /// Audit records.
    pub audit: u64,
    /// Receivers of events.
    pub endpoints: u64,
    /// Events that these did not take.
    pub dead_letters: u64,
    /// Rows of any kind that a count after the last step still found: none, or it is an error.
    pub left: u64,
}

impl Erased {
    /// Adds what one more step removed.
    pub fn add(&mut self, step: &Self) {
        self.tokens += step.tokens;
        self.users += step.users;
        self.groups += step.groups;
        self.members += step.members;
        self.index_rows += step.index_rows;
        self.changes += step.changes;
        self.outcomes += step.outcomes;
        self.activity += step.activity;
        self.audit += step.audit;
        self.endpoints += step.endpoints;
        self.dead_letters += step.dead_letters;
        self.left += step.left;
    }

    /// How many rows that are.
    #[must_use]
    pub fn rows(&self) -> u64 {
        let found = self.users + self.groups + self.members + self.index_rows;
        let told = self.changes + self.outcomes + self.audit + self.activity;
        found + told + self.tokens + self.endpoints + self.dead_letters
    }
}

/// Resource ids as clients know them.
mod id_text {
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    use crate::scim::ResourceId;

    pub(super) fn serialize<S: Serializer>(id: &ResourceId, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(id)
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<ResourceId, D::Error> {
        let text = String::deserialize(from)?;
        ResourceId::parse(&text).map_err(|_| de::Error::custom("not the id of a resource"))
    }
}

/// Bytes as hexadecimal digits.
mod hex_text {
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer, const N: usize>(
        bytes: &[u8; N],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex::encode(bytes))
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>, const N: usize>(
        from: D,
    ) -> Result<[u8; N], D::Error> {
        parse(&String::deserialize(from)?)
    }

    pub(super) fn parse<E: de::Error, const N: usize>(text: &str) -> Result<[u8; N], E> {
        let mut bytes = [0; N];
        hex::decode_to_slice(text, &mut bytes)
            .map_err(|_| E::custom("not so many hexadecimal digits"))?;
        Ok(bytes)
    }
}

/// The same, for as many as there are.
pub(super) mod bytes_text {
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    pub(in crate::store) fn serialize<S: Serializer>(
        bytes: &[u8],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex::encode(bytes))
    }

    pub(in crate::store) fn deserialize<'d, D: Deserializer<'d>>(
        from: D,
    ) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        hex::decode(text).map_err(|_| de::Error::custom("not hexadecimal digits"))
    }
}

/// The same, where there may be none.
mod fingerprint_text {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub(super) fn serialize<S: Serializer>(
        bytes: &Option<[u8; 8]>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        bytes.map(hex::encode).serialize(to)
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>>(
        from: D,
    ) -> Result<Option<[u8; 8]>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.as_deref().map(super::hex_text::parse).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restored_tenant_is_beyond_every_grant_of_before() {
        let at = |second| Timestamp((GENERATIONS_BEGIN_S + second) * 1000);
        let first = restored_credential_version(7, None, at(100));
        assert!(first > 7 + 1_000_000);
        assert_eq!(generation(7), 0);
        assert_eq!(generation(first), 100);
        assert_eq!(generation(first + 1_000_000), 100);
        // In the same second, and with a clock that went back.
        for second in [100, 50] {
            let again = restored_credential_version(7, Some(first + 3), at(second));
            assert_eq!(generation(again), 101);
        }
        // After a life that nobody remembers.
        let later = restored_credential_version(7, None, at(102));
        assert_eq!(generation(later), 102);
    }
}
