//! A tenant's own extension schemas (RFC 7643 section 3.3): create, list, remove.
//!
//! They are part of the tenant's settings, so they hold from the next request on and for every
//! node. A schema that is removed is out of sight at once; its values are then taken out of the
//! resources, and only when the last one is gone may the URN be used again.

use futures_util::future::join_all;
use serde_json::Value;
use shared::{ScimError, ScimType};

use super::resources::Resources;
use super::settings::Profile;
use super::{ProviderError, groups, users};
use crate::scim::schema::Schema;
use crate::scim::{ResourceKind, document};
use crate::store::{
    Access, AuditKind, AuditNote, Author, Narrowing, StoreError, Stored, TenantExtension,
    TenantSettings, WriteContext,
};

/// Most extension schemas of one tenant.
const MOST_EXTENSIONS: usize = 20;
/// Most indexed attributes of one schema: each makes creates dearer.
const MOST_INDEXED: usize = 5;
/// Resources that are looked at together when values are taken out.
const BATCH: u32 = 200;

impl Resources {
    /// Adds an extension schema to a tenant.
    ///
    /// # Errors
    /// 400 where the schema is none that can be enforced, 409 where its URN or one of its
    /// unqualified names is taken.
    pub async fn create_extension(
        &self,
        access: &Access,
        by: &Author,
        extension: TenantExtension,
    ) -> Result<TenantExtension, ProviderError> {
        let profile = self.held_profile(access).await?;
        let extension = checked(extension, &profile.settings)?;
        let mut settings = profile.settings.clone();
        settings.extensions.push(extension.clone());
        let kind = AuditKind::SchemaCreated;
        let note = AuditNote::new(kind, by.clone(), urn_of(&extension));
        self.set_settings(access, &settings, &note).await?;
        Ok(extension)
    }

    /// A tenant's extension schemas.
    ///
    /// # Errors
    /// [`ProviderError`] where the store cannot say.
    pub async fn list_extensions(
        &self,
        access: &Access,
    ) -> Result<Vec<TenantExtension>, ProviderError> {
        Ok(self.held_profile(access).await?.settings.extensions.clone())
    }

    /// Removes an extension schema and every value of it. Cut short, it is done by being asked
    /// for again.
    ///
    /// # Errors
    /// 404 for a URN that the tenant does not have.
    pub async fn delete_extension(
        &self,
        access: &Access,
        by: &Author,
        urn: &str,
    ) -> Result<(), ProviderError> {
        let note = AuditNote::new(AuditKind::SchemaDeleted, by.clone(), urn);
        let profile = self.held_profile(access).await?;
        let mut settings = profile.settings.clone();
        let is_it = |known: &str| known.eq_ignore_ascii_case(urn);
        let known = settings.extensions.iter().position(|e| is_it(urn_of(e)));
        let access = match known {
            Some(at) => {
                let gone = settings.extensions.remove(at);
                settings.removed_extensions.push(urn_of(&gone).to_owned());
                self.set_settings(access, &settings, &note).await?
            }
            None if settings.removed_extensions.iter().any(|known| is_it(known)) => access.clone(),
            None => return Err(StoreError::NotFound.into()),
        };
        let profile = self.profile(&access).await?;
        for kind in [ResourceKind::User, ResourceKind::Group] {
            self.take_values(&access, by, &profile, kind, urn).await?;
        }
        settings.removed_extensions.retain(|known| !is_it(known));
        let note = AuditNote::new(AuditKind::SettingsChanged, by.clone(), urn);
        self.set_settings(&access, &settings, &note).await?;
        Ok(())
    }

    /// Rewrites every resource that holds a value of an extension which the schema does not have.
    async fn take_values(
        &self,
        access: &Access,
        by: &Author,
        profile: &Profile,
        kind: ResourceKind,
        urn: &str,
    ) -> Result<(), ProviderError> {
        let key = format!("\"{}\":", urn.to_ascii_lowercase());
        let mut after = None;
        loop {
            let everything = &Narrowing::Everything;
            let batch = self
                .store
                .candidates(access, kind, everything, after, BATCH)
                .await?;
            after = batch.resources.last().map(|stored| stored.position);
            let holds = |stored: &&Stored| stored.document.to_ascii_lowercase().contains(&key);
            let rewritten = batch
                .resources
                .iter()
                .filter(holds)
                .map(|stored| self.rewrite(access, by, profile, kind, stored));
            // Together, so that they share commits.
            for result in join_all(rewritten).await {
                result?;
            }
            if batch.complete || after.is_none() {
                return Ok(());
            }
        }
    }

    async fn rewrite(
        &self,
        access: &Access,
        by: &Author,
        profile: &Profile,
        kind: ResourceKind,
        stored: &Stored,
    ) -> Result<(), ProviderError> {
        let tree = document::from_document(&stored.document)?;
        let content = match kind {
            ResourceKind::User => users::content(stored.id, &tree, profile)?,
            ResourceKind::Group => groups::content(stored.id, &tree, Vec::new(), profile)?,
        };
        let write = WriteContext {
            now: self.clock.now(),
            request: None,
            by: by.clone(),
        };
        let (id, version) = (stored.id, stored.version);
        match self
            .store
            .replace(access, kind, id, version, content, write)
            .await
        {
            // Whoever was faster wrote it by the schema as it is, or deleted it.
            Err(StoreError::Stale { .. } | StoreError::NotFound) | Ok(_) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Sets the tenant's settings, if the access still holds; answers the access that holds then.
    async fn set_settings(
        &self,
        access: &Access,
        settings: &TenantSettings,
        note: &AuditNote,
    ) -> Result<Access, ProviderError> {
        let expected = Some(access.credential_version);
        let tenant = self
            .store
            .set_tenant_settings(&access.tenant, settings, expected, note, self.clock.now())
            .await?;
        Ok(Access {
            tenant: tenant.id,
            credential_version: tenant.credential_version,
        })
    }
}

fn urn_of(extension: &TenantExtension) -> &str {
    extension
        .schema
        .get("id")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// The extension as it is kept: its schema in our words, its indexed names canonical.
fn checked(
    mut extension: TenantExtension,
    settings: &TenantSettings,
) -> Result<TenantExtension, ScimError> {
    let invalid = |detail: String| ScimError::typed(400, ScimType::InvalidValue, detail);
    let schema = Schema::parse(&extension.schema).map_err(|error| invalid(error.to_string()))?;
    if settings.extensions.len() >= MOST_EXTENSIONS {
        return Err(invalid(format!(
            "A tenant can have {MOST_EXTENSIONS} extension schemas."
        )));
    }
    let taken = settings
        .extensions
        .iter()
        .map(urn_of)
        .chain(settings.removed_extensions.iter().map(String::as_str));
    for other in taken {
        if other.eq_ignore_ascii_case(&schema.urn) {
            let detail =
                "The tenant has a schema with this 'id', or its values are still being removed.";
            return Err(ScimError::typed(409, ScimType::Uniqueness, detail));
        }
        // One URN that begins another would make paths ambiguous.
        let begins = |a: &str, b: &str| {
            b.get(..a.len())
                .is_some_and(|head| head.eq_ignore_ascii_case(a))
        };
        if begins(other, &schema.urn) || begins(&schema.urn, other) {
            let detail = "The 'id' of one schema must not begin with that of another.";
            return Err(ScimError::typed(409, ScimType::Uniqueness, detail));
        }
    }
    if extension.indexed.len() > MOST_INDEXED {
        return Err(invalid(format!(
            "A schema can have {MOST_INDEXED} indexed attributes."
        )));
    }
    for name in &mut extension.indexed {
        let attribute = schema.attribute(name).filter(|a| {
            use crate::scim::schema::AttributeType::{Reference, String};
            matches!(a.kind, String | Reference)
        });
        let Some(attribute) = attribute else {
            return Err(invalid(
                "'indexed' must name attributes of the schema that hold text.".into(),
            ));
        };
        name.clone_from(&attribute.name);
    }
    let mut shown = schema.to_json("");
    if let Value::Object(shown) = &mut shown {
        shown.shift_remove("meta");
    }
    extension.schema = shown;
    Ok(extension)
}
