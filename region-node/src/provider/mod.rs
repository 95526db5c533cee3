//! What a service provider does, free of HTTP: the same operations serve a request of their own
//! and a part of a Bulk request. What never lives here: headers, status codes, SQL.

pub mod activity;
pub mod audit;
pub mod backup;
pub mod bulk;
pub mod cursor;
pub mod directory;
pub mod doctor;
pub mod expiry;
pub mod export;
mod extensions;
mod groups;
pub mod last_used;
pub mod noted;
pub mod query;
pub mod refusals;
mod repeated;
pub mod resources;
pub mod settings;
pub mod steps;
pub mod tenants;
pub mod tokens;
mod users;

use serde_json::Value;
use shared::ScimError;
use shared::api_token::RandomnessError;

use self::noted::Noted;
use self::settings::Profile;
use crate::scim::document::DocumentError;
use crate::scim::document::Tree;
use crate::scim::filter::FilterError;
use crate::scim::patch::PatchError;
use crate::scim::schema::Schema;
use crate::scim::sort::SortError;
use crate::scim::{Projection, ResourceKind, Version, text};
use crate::store::{Access, Author, RequestKey, StoreError};

/// Who asks, and in which request.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'c> {
    /// What the grant gives access to.
    pub access: &'c Access,
    /// The name of the request, under which what comes of a write is kept.
    pub request: Option<RequestKey>,
    /// Takes down what happens, for the tenant's activity.
    pub noted: &'c Noted,
    /// The id of the request, for the audit.
    pub request_id: &'c str,
}

impl Caller<'_> {
    /// What the audit says of the caller.
    #[must_use]
    pub fn author(&self) -> Author {
        Author::token(&self.noted.token, self.request_id)
    }
}

/// How a client asks for a resource to be shown: with which links, and which parts of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct View<'v> {
    /// The base URL that the client used.
    pub base_url: &'v str,
    /// `attributes`, as sent.
    pub only: Option<&'v str>,
    /// `excludedAttributes`, as sent.
    pub without: Option<&'v str>,
}

/// The same, understood by the tenant's schema.
#[derive(Clone, Copy, Debug)]
struct Lens<'v> {
    base_url: &'v str,
    projection: &'v Projection,
    profile: &'v Profile,
}

/// The keys of a resource's values that the tenant asked to be indexed, each once.
fn own_keys(profile: &Profile, kind: ResourceKind, tree: &Tree) -> Vec<(String, String)> {
    let mut keys = Vec::new();
    for index in profile.indexes(kind).own {
        let extensions = &profile.schema(kind).extensions;
        let found = extensions.iter().find_map(|extension: &Schema| {
            let name = extension.strip_urn(&index.name)?.strip_prefix(':')?;
            Some((
                extension.attribute(name)?,
                tree.get(&extension.urn)?.get(name)?,
            ))
        });
        let Some((attribute, value)) = found else {
            continue;
        };
        let values = value
            .as_array()
            .map_or(std::slice::from_ref(value), Vec::as_slice);
        for value in values.iter().filter_map(Value::as_str) {
            let exact = attribute.case_exact;
            let key = if exact {
                value.to_owned()
            } else {
                text::key(value).into_owned()
            };
            keys.push((index.name.clone(), key));
        }
    }
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// A resource as a client is shown it.
#[derive(Clone, Debug)]
pub struct Shown {
    /// JSON text.
    pub body: String,
    /// For `ETag`.
    pub version: Version,
    /// `meta.location`.
    pub location: String,
}

/// Why an operation on a tenant's resources failed.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// The protocol forbids it; the error says why.
    #[error("the request breaks a rule of the protocol")]
    Scim(ScimError),
    /// The resource is not at a version that the request's condition names.
    #[error("the condition of the request does not hold")]
    PreconditionFailed,
    /// Others changed the resource faster than this request could.
    #[error("the resource changed again and again while it was to be written")]
    Contended,
    /// The store.
    #[error("the store refused or failed")]
    Store(#[from] StoreError),
    /// The store holds what this program never wrote.
    #[error("a stored resource cannot be read")]
    Document(#[from] DocumentError),
    /// No random bytes for a new id.
    #[error("no id could be made")]
    Randomness(#[from] RandomnessError),
}

impl From<ScimError> for ProviderError {
    fn from(error: ScimError) -> Self {
        Self::Scim(error)
    }
}

impl From<FilterError> for ProviderError {
    fn from(error: FilterError) -> Self {
        Self::Scim(error.into())
    }
}

impl From<PatchError> for ProviderError {
    fn from(error: PatchError) -> Self {
        Self::Scim(error.into())
    }
}

impl From<SortError> for ProviderError {
    fn from(error: SortError) -> Self {
        Self::Scim(error.into())
    }
}
