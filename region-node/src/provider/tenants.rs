//! [`Tenants`]: what an operator does with tenants.

use std::sync::Arc;

use serde_json::Value;
use shared::api_token::RandomnessError;
use shared::{Clock, TenantId};

use crate::store::{
    Access, AuditKind, AuditNote, Author, Erased, GroupsRule, Store, StoreError, Tenant,
    TenantSettings, TenantState, UserNameRule,
};

/// Longest name of a tenant or a token, in characters.
pub(super) const LONGEST_NAME: usize = 200;
/// A tenant is never throttled below this: Entra's gallery asks for it.
const LEAST_REQUESTS_PER_S: u32 = 25;

/// Why a tenant could not be created or changed. The messages are for the operator.
#[derive(Debug, thiserror::Error)]
pub enum TenantError {
    /// The store did not do it.
    #[error("the store did not do it")]
    Store(#[from] StoreError),
    /// No id could be made.
    #[error("no id could be made")]
    Randomness(#[from] RandomnessError),
    /// The name is empty, too long, or has control characters.
    #[error("`name` must have 1 to 200 characters, and no control characters")]
    Name,
    /// The limits would not let the tenant work.
    #[error(
        "`settings.limits`: requests_per_s must be at least 25, burst at least requests_per_s, in_flight at least 1"
    )]
    Limits,
}

/// What a tenant's administrator may change of its settings; what is absent stays.
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnSettings {
    /// Which userNames are taken.
    pub user_name: Option<UserNameRule>,
    /// Whether there are groups.
    pub groups: Option<GroupsRule>,
    /// For how many days activity is kept; 0 for as long as the operator keeps it, which is never
    /// exceeded.
    pub activity_days: Option<u32>,
}

/// The region's tenants.
pub struct Tenants {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
}

impl Tenants {
    /// The tenants of a store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock }
    }

    /// Creates an active tenant.
    ///
    /// # Errors
    /// [`TenantError`]
    pub async fn create(
        &self,
        name: &str,
        settings: &TenantSettings,
    ) -> Result<Tenant, TenantError> {
        let name = checked_name(name).ok_or(TenantError::Name)?;
        check(settings)?;
        let id = TenantId::generate()?;
        let tenant = self
            .store
            .create_tenant(&id, name, settings, self.clock.now())
            .await?;
        tracing::info!(tenant_id = id.as_str(), "tenant created");
        Ok(tenant)
    }

    /// One tenant.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is none, and as the store.
    pub async fn get(&self, id: &TenantId) -> Result<Tenant, TenantError> {
        let tenant = self.store.get_tenant(id).await?;
        Ok(tenant.ok_or(StoreError::NotFound)?)
    }

    /// All tenants, in the order of their creation.
    ///
    /// # Errors
    /// As the store.
    pub async fn list(&self) -> Result<Vec<Tenant>, TenantError> {
        Ok(self.store.list_tenants().await?)
    }

    /// Stops or begins to serve a tenant; effective when it returns.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is none, and as the store.
    pub async fn set_state(
        &self,
        id: &TenantId,
        state: TenantState,
    ) -> Result<Tenant, TenantError> {
        let (by, now) = (Author::operator(), self.clock.now());
        let tenant = self.store.set_tenant_state(id, state, &by, now).await?;
        tracing::info!(
            tenant_id = id.as_str(),
            state = state.as_str(),
            "tenant state set"
        );
        Ok(tenant)
    }

    /// Replaces a tenant's settings, but for its extension schemas, which are the tenant's own;
    /// effective when it returns.
    ///
    /// # Errors
    /// [`TenantError::Limits`], [`StoreError::NotFound`] if there is no such tenant, and as the
    /// store.
    pub async fn set_settings(
        &self,
        id: &TenantId,
        settings: &TenantSettings,
    ) -> Result<Tenant, TenantError> {
        check(settings)?;
        let present = self.get(id).await?.settings;
        let settings = TenantSettings {
            extensions: present.extensions.clone(),
            removed_extensions: present.removed_extensions.clone(),
            ..settings.clone()
        };
        let mut note = AuditNote::new(AuditKind::SettingsChanged, Author::operator(), "");
        note.names = changed_names(&present, &settings)?;
        let tenant = self
            .store
            .set_tenant_settings(id, &settings, None, &note, self.clock.now())
            .await?;
        tracing::info!(tenant_id = id.as_str(), "tenant settings set");
        Ok(tenant)
    }

    /// Changes what a tenant's administrator may change of its settings; effective when it
    /// returns.
    ///
    /// # Errors
    /// [`TenantError`], and as the store.
    pub async fn change_own(
        &self,
        access: &Access,
        by: Author,
        change: OwnSettings,
    ) -> Result<Tenant, TenantError> {
        let present = self.store.head(access).await?;
        let mut settings = present.settings.clone();
        settings.user_name = change.user_name.unwrap_or(settings.user_name);
        settings.groups = change.groups.unwrap_or(settings.groups);
        if let Some(days) = change.activity_days {
            settings.activity_days = (days > 0).then_some(days);
        }
        if settings == present.settings {
            return Ok(present);
        }
        let expected = Some(access.credential_version);
        let mut note = AuditNote::new(AuditKind::SettingsChanged, by, "");
        note.names = changed_names(&present.settings, &settings)?;
        let now = self.clock.now();
        let tenant = self
            .store
            .set_tenant_settings(&access.tenant, &settings, expected, &note, now)
            .await?;
        tracing::info!(tenant_id = tenant.id.as_str(), "tenant settings set");
        Ok(tenant)
    }

    /// Erases a tenant with everything that it owns, and counts that nothing is left.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is none, [`StoreError::Corrupt`] if something is left,
    /// and as the store.
    pub async fn delete(&self, id: &TenantId) -> Result<Erased, TenantError> {
        let erased = self.store.delete_tenant(id).await?;
        tracing::info!(
            tenant_id = id.as_str(),
            rows = erased.rows(),
            left = erased.left,
            "tenant deleted"
        );
        if erased.left > 0 {
            return Err(StoreError::Corrupt("rows of an erased tenant are left").into());
        }
        Ok(erased)
    }
}

/// Names of the settings that differ.
fn changed_names(
    before: &TenantSettings,
    after: &TenantSettings,
) -> Result<Vec<String>, StoreError> {
    let members = |settings: &TenantSettings| match serde_json::to_value(settings) {
        Ok(Value::Object(members)) => Ok(members),
        _ => Err(StoreError::Corrupt(
            "settings that cannot be written as JSON",
        )),
    };
    let (before, after) = (members(before)?, members(after)?);
    let differs =
        |(name, value): (String, Value)| (before.get(&name) != Some(&value)).then_some(name);
    Ok(after.into_iter().filter_map(differs).collect())
}

/// A name without the white space around it, if it is one.
pub(super) fn checked_name(name: &str) -> Option<&str> {
    let name = name.trim();
    let length = name.chars().count();
    ((1..=LONGEST_NAME).contains(&length) && !name.chars().any(char::is_control)).then_some(name)
}

fn check(settings: &TenantSettings) -> Result<(), TenantError> {
    let limits = &settings.limits;
    if limits.requests_per_s >= LEAST_REQUESTS_PER_S
        && limits.burst >= limits.requests_per_s
        && limits.in_flight >= 1
    {
        Ok(())
    } else {
        Err(TenantError::Limits)
    }
}
