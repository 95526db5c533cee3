//! [`Profiles`]: a tenant's settings at hand for every call, with its schemas put together.

use std::sync::Arc;

use shared::TenantId;

use crate::scim::ResourceKind;
use crate::scim::schema::{GROUP, ResourceSchema, Schema, USER};
use crate::store::narrowing::{Indexes, OwnIndex, own_index};
use crate::store::{Access, GroupsRule, Store, StoreError, TenantSettings};

/// Profiles of how many tenants are remembered.
const REMEMBERED: u64 = 10_000;

/// A tenant's settings, and what follows from them.
#[derive(Clone, Debug)]
pub struct Profile {
    /// The settings.
    pub settings: TenantSettings,
    user: ResourceSchema,
    group: ResourceSchema,
    user_indexes: Vec<OwnIndex>,
    group_indexes: Vec<OwnIndex>,
}

impl Profile {
    /// Puts a tenant's schemas together.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if a stored schema is none.
    pub fn of(settings: TenantSettings) -> Result<Self, StoreError> {
        let mut profile = Self {
            user: USER.clone(),
            group: GROUP.clone(),
            user_indexes: Vec::new(),
            group_indexes: Vec::new(),
            settings,
        };
        for extension in &profile.settings.extensions {
            let schema = Schema::parse(&extension.schema)
                .map_err(|_| StoreError::Corrupt("an extension schema that is none"))?;
            let (whole, indexes) = match extension.resource_type {
                ResourceKind::User => (&mut profile.user, &mut profile.user_indexes),
                ResourceKind::Group => (&mut profile.group, &mut profile.group_indexes),
            };
            indexes.extend(extension.indexed.iter().map(|name| OwnIndex {
                name: own_index(&schema.urn, name),
                multi_valued: schema.attribute(name).is_some_and(|it| it.multi_valued),
            }));
            whole.extensions.push(schema);
        }
        Ok(profile)
    }

    /// The schema of a kind of resources in this tenant.
    #[must_use]
    pub fn schema(&self, kind: ResourceKind) -> &ResourceSchema {
        match kind {
            ResourceKind::User => &self.user,
            ResourceKind::Group => &self.group,
        }
    }

    /// What is indexed of a kind of resources in this tenant.
    #[must_use]
    pub fn indexes(&self, kind: ResourceKind) -> Indexes<'_> {
        let own = match kind {
            ResourceKind::User => &self.user_indexes,
            ResourceKind::Group => &self.group_indexes,
        };
        Indexes { kind, own }
    }

    /// Whether the tenant has resources of the kind at all.
    #[must_use]
    pub fn offers(&self, kind: ResourceKind) -> bool {
        kind == ResourceKind::User || self.settings.groups == GroupsRule::On
    }

    /// The schemas of the resource types that the tenant has, for discovery.
    pub fn schemas(&self) -> impl Iterator<Item = &ResourceSchema> {
        let kinds = [ResourceKind::User, ResourceKind::Group].into_iter();
        kinds
            .filter(|kind| self.offers(*kind))
            .map(|kind| self.schema(kind))
    }
}

/// Remembers profiles by tenant and credential version. A change of settings moves the version,
/// and the store refuses every call under the old one, so an entry can be old but never wrong.
#[derive(Clone)]
pub struct Profiles(moka::sync::Cache<(TenantId, i64), Arc<Profile>>);

impl Profiles {
    /// An empty cache.
    #[must_use]
    pub fn new() -> Self {
        Self(moka::sync::Cache::new(REMEMBERED))
    }

    /// The profile that an access works under. The access itself may be over: what follows must
    /// be a call of the store that checks it, or else use [`Self::get_held`].
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the access no longer holds and its profile is not
    /// remembered; otherwise as [`Store::head`].
    pub async fn get(
        &self,
        store: &dyn Store,
        access: &Access,
    ) -> Result<Arc<Profile>, StoreError> {
        let key = (access.tenant.clone(), access.credential_version);
        if let Some(profile) = self.0.get(&key) {
            return Ok(profile);
        }
        let profile = Arc::new(Profile::of(store.head(access).await?.settings)?);
        self.0.insert(key, Arc::clone(&profile));
        Ok(profile)
    }

    /// The same for a call that asks nothing else of the store: the access holds.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when it does not; otherwise as [`Store::head`].
    pub async fn get_held(
        &self,
        store: &dyn Store,
        access: &Access,
    ) -> Result<Arc<Profile>, StoreError> {
        store.head(access).await?;
        self.get(store, access).await
    }
}

impl Default for Profiles {
    fn default() -> Self {
        Self::new()
    }
}
