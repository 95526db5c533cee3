//! Users: create, get, query, replace, patch, delete (RFC 7644 section 3).

use std::sync::Arc;

use serde_json::{Map, Value};
use shared::api_token::RandomnessError;
use shared::{Clock, ScimError, ScimType};

use super::ProviderError;
use super::settings::SettingsCache;
use crate::scim::document::{self, Meta, Tree};
use crate::scim::schema::{ResourceSchema, USER};
use crate::scim::{
    EntityTags, Filter, ListRequest, PatchRequest, Projection, ResourceId, ResourceKind, Version,
    list, text, user,
};
use crate::store::{
    Access, Content, Keys, Narrowing, Store, StoreError, Stored, TenantSettings, UserNameRule,
};

/// How many candidates are looked at between two chances for other requests to run.
const BATCH: u32 = 500;
/// How many resources a filter without an index may look at.
const SCAN_BUDGET: usize = 100_000;
/// How often a write starts again when others were faster. Each round somebody's write succeeds.
const WRITE_ATTEMPTS: usize = 100;

/// The users of every tenant of the region.
#[derive(Clone)]
pub struct Users {
    store: Arc<dyn Store>,
    settings: Arc<SettingsCache>,
    clock: Arc<dyn Clock>,
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

/// How a resource is to be shown: with which links, and which parts of it.
#[derive(Clone, Copy, Debug)]
pub struct View<'v> {
    /// The base URL that the client used.
    pub base_url: &'v str,
    /// Which parts.
    pub projection: &'v Projection,
}

impl Users {
    /// Users in this store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, settings: Arc<SettingsCache>, clock: Arc<dyn Clock>) -> Self {
        Self { store, settings, clock }
    }

    /// The schema that users follow.
    #[must_use]
    pub fn schema(&self) -> &'static ResourceSchema {
        &USER
    }

    /// `POST /Users`, RFC 7644 section 3.3.
    ///
    /// # Errors
    /// [`ProviderError`]; nothing is stored.
    pub async fn create(
        &self,
        access: &Access,
        body: Map<String, Value>,
        view: View<'_>,
    ) -> Result<Shown, ProviderError> {
        let settings = self.settings.get(self.store.as_ref(), access).await?;
        let mut tree = document::from_body(&USER, body)?;
        user::complete(&mut tree, None);
        let id = new_id()?;
        let content = content(id, &tree, &settings)?;
        let now = self.clock.now();
        let stored = self.store.create(access, ResourceKind::User, id, content, now).await?;
        show(&stored, view)
    }

    /// `GET /Users/{id}`, RFC 7644 section 3.4.1. `None` where the client already has the version
    /// (`If-None-Match`, section 3.14).
    ///
    /// # Errors
    /// [`ProviderError`].
    pub async fn get(
        &self,
        access: &Access,
        id: ResourceId,
        known: Option<&EntityTags>,
        view: View<'_>,
    ) -> Result<Option<Shown>, ProviderError> {
        let stored = self.read(access, id).await?;
        if known.is_some_and(|tags| tags.name(stored.version)) {
            return Ok(None);
        }
        show(&stored, view).map(Some)
    }

    /// `PUT /Users/{id}`, RFC 7644 section 3.5.1.
    ///
    /// # Errors
    /// [`ProviderError`]; nothing is changed.
    pub async fn replace(
        &self,
        access: &Access,
        id: ResourceId,
        expected: Option<&EntityTags>,
        body: Map<String, Value>,
        view: View<'_>,
    ) -> Result<Shown, ProviderError> {
        let new = document::from_body(&USER, body)?;
        self.write(access, id, expected, view, |current| {
            let mut tree = new.clone();
            user::complete(&mut tree, Some(current));
            Ok(tree)
        })
        .await
    }

    /// `PATCH /Users/{id}`, RFC 7644 section 3.5.2.
    ///
    /// # Errors
    /// [`ProviderError`]; nothing is changed.
    pub async fn patch(
        &self,
        access: &Access,
        id: ResourceId,
        expected: Option<&EntityTags>,
        patch: &PatchRequest,
        view: View<'_>,
    ) -> Result<Shown, ProviderError> {
        self.write(access, id, expected, view, |current| Ok(patch.apply(&USER, current)?)).await
    }

    /// `DELETE /Users/{id}`, RFC 7644 section 3.6.
    ///
    /// # Errors
    /// [`ProviderError`]; nothing is changed.
    pub async fn delete(
        &self,
        access: &Access,
        id: ResourceId,
        expected: Option<&EntityTags>,
    ) -> Result<(), ProviderError> {
        let expected = match expected {
            None => None,
            Some(expected) => {
                let stored = self.read(access, id).await?;
                Some(check_condition(expected, stored.version)?)
            }
        };
        match self.store.delete(access, ResourceKind::User, id, expected).await {
            Err(StoreError::Stale { .. }) => Err(ProviderError::PreconditionFailed),
            other => Ok(other?),
        }
    }

    /// `GET /Users`, RFC 7644 section 3.4.2. The answer is a list response, as JSON text.
    ///
    /// # Errors
    /// [`ProviderError`].
    pub async fn query(
        &self,
        access: &Access,
        base_url: &str,
        request: &ListRequest,
    ) -> Result<String, ProviderError> {
        let projection = Projection::parse(
            &USER,
            request.attributes.as_deref(),
            request.excluded_attributes.as_deref(),
        );
        let view = View { base_url, projection: &projection };
        let (total, stored) = match &request.filter {
            None => self.page(access, request).await?,
            Some(filter) => {
                let filter = Filter::parse(&USER, filter)?;
                self.search(access, &filter, request).await?
            }
        };
        let resources: Vec<String> = stored
            .iter()
            .map(|stored| show(stored, view).map(|shown| shown.body))
            .collect::<Result<_, _>>()?;
        Ok(list::list_response(total, request.start_index, &resources))
    }

    async fn page(
        &self,
        access: &Access,
        request: &ListRequest,
    ) -> Result<(u64, Vec<Stored>), ProviderError> {
        let offset = request.start_index.saturating_sub(1);
        let page = self.store.page(access, ResourceKind::User, offset, request.count).await?;
        Ok((u64::try_from(page.total).unwrap_or(0), page.resources))
    }

    /// Looks at every candidate, because `totalResults` counts all that match.
    async fn search(
        &self,
        access: &Access,
        filter: &Filter,
        request: &ListRequest,
    ) -> Result<(u64, Vec<Stored>), ProviderError> {
        let narrowing = Narrowing::of(filter, ResourceKind::User);
        let window = request.start_index..request.start_index.saturating_add(request.count.into());
        let (mut looked_at, mut total, mut found) = (0_usize, 0_u64, Vec::new());
        let mut after = None;
        loop {
            let batch = self
                .store
                .candidates(access, ResourceKind::User, &narrowing, after, BATCH)
                .await?;
            looked_at += batch.resources.len();
            after = batch.resources.last().map(|stored| stored.position);
            for stored in batch.resources {
                if filter.matches(&meta(&stored).to_tree(&stored.document, "")?) {
                    total += 1;
                    if window.contains(&total) {
                        found.push(stored);
                    }
                }
            }
            if batch.complete || after.is_none() {
                return Ok((total, found));
            }
            if looked_at >= SCAN_BUDGET {
                return Err(too_many(filter).into());
            }
            tokio::task::yield_now().await;
        }
    }

    async fn read(&self, access: &Access, id: ResourceId) -> Result<Stored, ProviderError> {
        let stored = self.store.get(access, ResourceKind::User, id).await?;
        Ok(stored.ok_or(StoreError::NotFound)?)
    }

    /// Reads, changes and writes at the version that was read; starts again when somebody else
    /// was faster, so that no change is lost. What changes nothing is not written.
    async fn write(
        &self,
        access: &Access,
        id: ResourceId,
        expected: Option<&EntityTags>,
        view: View<'_>,
        change: impl Fn(&Tree) -> Result<Tree, ProviderError> + Send,
    ) -> Result<Shown, ProviderError> {
        let settings = self.settings.get(self.store.as_ref(), access).await?;
        for _ in 0..WRITE_ATTEMPTS {
            let current = self.read(access, id).await?;
            if let Some(expected) = expected {
                check_condition(expected, current.version)?;
            }
            let tree = change(&document::from_document(&current.document)?)?;
            let content = content(id, &tree, &settings)?;
            if content.document == current.document {
                return show(&current, view);
            }
            let now = self.clock.now();
            let written = self
                .store
                .replace(access, ResourceKind::User, id, current.version, content, now)
                .await;
            match written {
                Err(StoreError::Stale { .. }) => {}
                other => return show(&other?, view),
            }
        }
        Err(ProviderError::Contended)
    }
}

fn new_id() -> Result<ResourceId, RandomnessError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| RandomnessError)?;
    Ok(ResourceId::from_random(bytes))
}

fn check_condition(expected: &EntityTags, current: Version) -> Result<Version, ProviderError> {
    if expected.name(current) { Ok(current) } else { Err(ProviderError::PreconditionFailed) }
}

fn meta(stored: &Stored) -> Meta {
    Meta {
        kind: ResourceKind::User,
        id: stored.id,
        created: stored.created,
        modified: stored.modified,
        version: stored.version,
    }
}

fn show(stored: &Stored, view: View<'_>) -> Result<Shown, ProviderError> {
    let meta = meta(stored);
    let body = if view.projection.is_everything() {
        meta.splice(&stored.document, view.base_url)
    } else {
        let tree = meta.to_tree(&stored.document, view.base_url)?;
        Value::Object(view.projection.apply(&USER, tree)).to_string()
    };
    Ok(Shown { body, version: stored.version, location: meta.location(view.base_url) })
}

/// What is stored of a user whose tree is complete.
fn content(id: ResourceId, tree: &Tree, settings: &TenantSettings) -> Result<Content, ScimError> {
    user::check(tree, settings.user_name == UserNameRule::Email)?;
    let text_of = |name: &str| tree.get(name).and_then(Value::as_str);
    let key_of = |name: &str| text_of(name).map(|value| text::key(value).into_owned());
    let emails = user::email_keys(tree).into_iter().map(|key| (user::EMAILS_VALUE, key));
    Ok(Content {
        keys: Keys {
            user_name: key_of("userName"),
            external_id: text_of("externalId").map(str::to_owned),
            display_name: key_of("displayName"),
            active: user::is_active(tree),
            attributes: emails.collect(),
        },
        document: document::to_document(&USER, id, tree),
    })
}

fn too_many(filter: &Filter) -> ScimError {
    let attribute = filter.first_attribute().unwrap_or("the attribute");
    ScimError::typed(
        400,
        ScimType::TooMany,
        format!(
            "A filter on '{attribute}' would have to look at more than {SCAN_BUDGET} users. Compare \
             'userName', 'externalId', 'id' or 'emails.value' as well."
        ),
    )
}
