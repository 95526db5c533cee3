//! [`SettingsCache`]: a tenant's settings at hand for every write.

use std::sync::Arc;

use shared::TenantId;

use crate::store::{Access, Store, StoreError, TenantSettings};

/// Settings of how many tenants are remembered.
const REMEMBERED: u64 = 10_000;

/// Remembers settings by tenant and credential version. A change of settings moves the version,
/// and the store refuses every write under the old one, so an entry can be old but never wrong.
#[derive(Clone)]
pub struct SettingsCache(moka::sync::Cache<(TenantId, i64), Arc<TenantSettings>>);

impl SettingsCache {
    /// An empty cache.
    #[must_use]
    pub fn new() -> Self {
        Self(moka::sync::Cache::new(REMEMBERED))
    }

    /// The settings that an access works under.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the access no longer holds and its settings are not
    /// remembered; otherwise as [`Store::head`].
    pub async fn get(
        &self,
        store: &dyn Store,
        access: &Access,
    ) -> Result<Arc<TenantSettings>, StoreError> {
        let key = (access.tenant.clone(), access.credential_version);
        if let Some(settings) = self.0.get(&key) {
            return Ok(settings);
        }
        let settings = Arc::new(store.head(access).await?.settings);
        self.0.insert(key, Arc::clone(&settings));
        Ok(settings)
    }
}

impl Default for SettingsCache {
    fn default() -> Self {
        Self::new()
    }
}
