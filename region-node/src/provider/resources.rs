//! Users and groups: create, get, replace, patch, delete (RFC 7644 section 3). Lists are in
//! [`super::query`].

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Map, Value};
use shared::api_token::RandomnessError;
use shared::{Clock, ScimError};

use super::cursor::CursorSealer;
use super::query::Bookmarks;
use super::settings::SettingsCache;
use super::{Caller, ProviderError, Shown, View, groups, users};
use crate::scim::document::{self, Derived, Meta, Tree};
use crate::scim::group::{self, GroupPatch, MemberPatch};
use crate::scim::schema::{GROUP, ResourceSchema, USER};
use crate::scim::{EntityTags, PatchRequest, ResourceId, ResourceKind, Version, user};
use crate::store::{
    Access, Content, GroupsRule, MemberChange, Narrowing, Store, StoreError, Stored, TenantSettings,
};

/// How often a write starts again when others were faster. Each round somebody's write succeeds.
const WRITE_ATTEMPTS: usize = 100;
/// Most groups whose parents are looked for, of a user whose indirect groups are asked for.
const MOST_INDIRECT_GROUPS: usize = 1000;

/// The users and groups of every tenant of the region.
#[derive(Clone)]
pub struct Resources {
    pub(super) store: Arc<dyn Store>,
    pub(super) settings: Arc<SettingsCache>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) cursors: Arc<CursorSealer>,
    pub(super) bookmarks: Bookmarks,
}

/// The schema of a kind of resources.
#[must_use]
pub fn schema(kind: ResourceKind) -> &'static ResourceSchema {
    match kind {
        ResourceKind::User => &USER,
        ResourceKind::Group => &GROUP,
    }
}

impl Resources {
    /// Resources in this store.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        settings: Arc<SettingsCache>,
        clock: Arc<dyn Clock>,
        cursors: CursorSealer,
    ) -> Self {
        let cursors = Arc::new(cursors);
        Self {
            store,
            settings,
            clock,
            cursors,
            bookmarks: Bookmarks::new(),
        }
    }

    /// `POST` to an endpoint, RFC 7644 section 3.3.
    ///
    /// # Errors
    /// [`ProviderError`]; nothing is stored.
    pub async fn create(
        &self,
        caller: Caller<'_>,
        kind: ResourceKind,
        mut body: Map<String, Value>,
        view: View<'_>,
    ) -> Result<Shown, ProviderError> {
        let settings = self.writable(caller.access, kind).await?;
        let id = new_id()?;
        let content = match kind {
            ResourceKind::User => {
                let content = users::content(id, &users::tree(body, None)?, &settings)?;
                self.refuse_look_alike(caller.access, id, &content).await?;
                content
            }
            ResourceKind::Group => {
                let members = group::members_of_body(&mut body)?.map(MemberChange::Add);
                let tree = document::from_body(&GROUP, body)?;
                groups::content(id, &tree, members.into_iter().collect())?
            }
        };
        let now = self.clock.now();
        let stored = self
            .store
            .create(caller.access, kind, id, content, now)
            .await?;
        self.show(caller.access, kind, &stored, view).await
    }

    /// `GET` of a resource, RFC 7644 section 3.4.1. `None` where the client already has the
    /// version (`If-None-Match`, section 3.14).
    ///
    /// # Errors
    /// [`ProviderError`].
    pub async fn get(
        &self,
        caller: Caller<'_>,
        kind: ResourceKind,
        id: ResourceId,
        known: Option<&EntityTags>,
        view: View<'_>,
    ) -> Result<Option<Shown>, ProviderError> {
        self.hide_groups_if_off(caller.access, kind).await?;
        let stored = self.read(caller.access, kind, id).await?;
        if known.is_some_and(|tags| tags.name(stored.version)) {
            return Ok(None);
        }
        self.show(caller.access, kind, &stored, view)
            .await
            .map(Some)
    }

    /// `PUT` of a resource, RFC 7644 section 3.5.1. A group whose body does not name `members`
    /// keeps them.
    ///
    /// # Errors
    /// [`ProviderError`]; nothing is changed.
    pub async fn replace(
        &self,
        caller: Caller<'_>,
        kind: ResourceKind,
        id: ResourceId,
        expected: Option<&EntityTags>,
        mut body: Map<String, Value>,
        view: View<'_>,
    ) -> Result<Shown, ProviderError> {
        let members = match kind {
            ResourceKind::User => Vec::new(),
            ResourceKind::Group => {
                let members = group::members_of_body(&mut body)?;
                members.into_iter().map(MemberChange::Replace).collect()
            }
        };
        let change = |current: &Tree| match kind {
            ResourceKind::User => users::tree(body.clone(), Some(current)),
            ResourceKind::Group => document::from_body(&GROUP, body.clone()),
        };
        let stored = self
            .write(caller.access, kind, id, expected, members, change)
            .await?;
        self.show(caller.access, kind, &stored, view).await
    }

    /// `PATCH` of a resource, RFC 7644 section 3.5.2. `None` where members of a group were
    /// changed: then the group is neither read nor shown, whatever its size.
    ///
    /// # Errors
    /// [`ProviderError`]; nothing is changed.
    pub async fn patch(
        &self,
        caller: Caller<'_>,
        kind: ResourceKind,
        id: ResourceId,
        expected: Option<&EntityTags>,
        patch: PatchRequest,
        view: View<'_>,
    ) -> Result<Option<Shown>, ProviderError> {
        let access = caller.access;
        let (patch, members) = match kind {
            ResourceKind::User => (patch, Vec::new()),
            ResourceKind::Group => {
                let GroupPatch { members, rest } = GroupPatch::split(patch)?;
                (rest, self.resolve_members(access, id, members).await?)
            }
        };
        if patch.is_empty() && !members.is_empty() {
            self.writable(access, kind).await?;
            let expected = match expected {
                None => None,
                Some(tags) => Some(check_condition(
                    tags,
                    self.read(access, kind, id).await?.version,
                )?),
            };
            let now = self.clock.now();
            let changed = self
                .store
                .change_members(access, id, expected, members, now)
                .await;
            conditional(changed)?;
            return Ok(None);
        }
        let quiet = !members.is_empty();
        let change = |current: &Tree| patch.apply(schema(kind), current);
        let stored = self
            .write(access, kind, id, expected, members, change)
            .await?;
        if quiet {
            return Ok(None);
        }
        self.show(access, kind, &stored, view).await.map(Some)
    }

    /// `DELETE` of a resource, RFC 7644 section 3.6.
    ///
    /// # Errors
    /// [`ProviderError`]; nothing is changed.
    pub async fn delete(
        &self,
        caller: Caller<'_>,
        kind: ResourceKind,
        id: ResourceId,
        expected: Option<&EntityTags>,
    ) -> Result<(), ProviderError> {
        self.writable(caller.access, kind).await?;
        let expected = match expected {
            None => None,
            Some(tags) => Some(check_condition(
                tags,
                self.read(caller.access, kind, id).await?.version,
            )?),
        };
        let now = self.clock.now();
        conditional(
            self.store
                .delete(caller.access, kind, id, expected, now)
                .await,
        )
    }

    /// Reads, changes and writes at the version that was read; starts again when somebody else
    /// was faster, so that no change is lost. What changes nothing is not written.
    async fn write(
        &self,
        access: &Access,
        kind: ResourceKind,
        id: ResourceId,
        expected: Option<&EntityTags>,
        members: Vec<MemberChange>,
        change: impl Fn(&Tree) -> Result<Tree, crate::scim::patch::PatchError> + Send,
    ) -> Result<Stored, ProviderError> {
        let settings = self.writable(access, kind).await?;
        for _ in 0..WRITE_ATTEMPTS {
            let current = self.read(access, kind, id).await?;
            if let Some(expected) = expected {
                check_condition(expected, current.version)?;
            }
            let tree = change(&document::from_document(&current.document)?)?;
            let content = match kind {
                ResourceKind::User => users::content(id, &tree, &settings)?,
                ResourceKind::Group => groups::content(id, &tree, members.clone())?,
            };
            let same = content.document == current.document;
            if same && content.members.is_empty() {
                return Ok(current);
            }
            let now = self.clock.now();
            let written = if same {
                let version = Some(current.version);
                let changes = content.members;
                let changed = self
                    .store
                    .change_members(access, id, version, changes, now)
                    .await;
                changed.map(|version| Stored {
                    version,
                    modified: now,
                    ..current
                })
            } else {
                if kind == ResourceKind::User {
                    self.refuse_look_alike(access, id, &content).await?;
                }
                self.store
                    .replace(access, kind, id, current.version, content, now)
                    .await
            };
            match written {
                Err(StoreError::Stale { .. }) => {}
                other => return Ok(other?),
            }
        }
        Err(ProviderError::Contended)
    }

    pub(super) async fn read(
        &self,
        access: &Access,
        kind: ResourceKind,
        id: ResourceId,
    ) -> Result<Stored, ProviderError> {
        let stored = self.store.get(access, kind, id).await?;
        Ok(stored.ok_or(StoreError::NotFound)?)
    }

    /// A name that looks like somebody else's is as taken as the name itself (failure class 72).
    async fn refuse_look_alike(
        &self,
        access: &Access,
        id: ResourceId,
        content: &Content,
    ) -> Result<(), ProviderError> {
        let Some(own) = &content.keys.user_name else {
            return Ok(());
        };
        let shared = content
            .keys
            .attributes
            .iter()
            .find(|(name, _)| *name == user::USER_NAME_LOOK_ALIKE);
        let key = shared.map_or(own, |(_, key)| key).clone();
        let narrowing = Narrowing::AnyOf(vec![
            Narrowing::UserName(key.clone()),
            Narrowing::Attribute(user::USER_NAME_LOOK_ALIKE, key),
        ]);
        let kind = ResourceKind::User;
        let found = self
            .store
            .candidates(access, kind, &narrowing, None, 2)
            .await?;
        if found.resources.iter().any(|stored| stored.id != id) {
            return Err(StoreError::Taken {
                attribute: "userName",
            }
            .into());
        }
        Ok(())
    }

    /// The tenant's settings, if its resources of the kind may be written.
    async fn writable(
        &self,
        access: &Access,
        kind: ResourceKind,
    ) -> Result<Arc<TenantSettings>, ProviderError> {
        let settings = self.settings.get(self.store.as_ref(), access).await?;
        if kind == ResourceKind::Group && settings.groups == GroupsRule::Off {
            let detail = "Groups are not provisioned in this tenant.";
            return Err(ScimError::new(501, detail).into());
        }
        Ok(settings)
    }

    /// Whether a tenant has resources of the kind at all.
    pub(super) async fn offers(
        &self,
        access: &Access,
        kind: ResourceKind,
    ) -> Result<bool, ProviderError> {
        if kind == ResourceKind::User {
            return Ok(true);
        }
        let settings = self.settings.get(self.store.as_ref(), access).await?;
        if settings.groups == GroupsRule::On {
            return Ok(true);
        }
        // Nothing else is asked of the store now, so an access under settings that have passed
        // must be noticed here: groups may be on again.
        self.store.head(access).await?;
        Ok(false)
    }

    async fn hide_groups_if_off(
        &self,
        access: &Access,
        kind: ResourceKind,
    ) -> Result<(), ProviderError> {
        if self.offers(access, kind).await? {
            Ok(())
        } else {
            Err(StoreError::NotFound.into())
        }
    }

    /// The schemas of the resource types that a tenant has, for discovery.
    ///
    /// # Errors
    /// [`ProviderError`] where the store cannot say.
    pub async fn schemas(
        &self,
        access: &Access,
    ) -> Result<Vec<&'static ResourceSchema>, ProviderError> {
        // Discovery asks nothing else of the store: an access that has passed is noticed here.
        self.store.head(access).await?;
        let mut schemas: Vec<&'static ResourceSchema> = vec![&USER];
        if self.offers(access, ResourceKind::Group).await? {
            schemas.push(&GROUP);
        }
        Ok(schemas)
    }

    /// What a client asks of members, as the store does it. Only a filter that is no list of ids
    /// needs the members to be read.
    async fn resolve_members(
        &self,
        access: &Access,
        id: ResourceId,
        patches: Vec<MemberPatch>,
    ) -> Result<Vec<MemberChange>, ProviderError> {
        let mut changes = Vec::with_capacity(patches.len());
        for patch in patches {
            changes.push(match patch {
                MemberPatch::Add(ids) => MemberChange::Add(ids),
                MemberPatch::Remove(ids) => MemberChange::Remove(ids),
                MemberPatch::Replace(ids) => MemberChange::Replace(ids),
                MemberPatch::RemoveMatching(filter) => {
                    let group = self.read(access, ResourceKind::Group, id).await?;
                    let members = self.store.members(access, &[group.position]).await?;
                    let fits = |related: &&crate::store::Related| {
                        let shown = groups::members(std::slice::from_ref(*related), "");
                        shown
                            .elements
                            .get(0)
                            .is_some_and(|element| filter.matches_element(element))
                    };
                    let members = members.iter().flatten().filter(fits);
                    MemberChange::Remove(members.map(|related| related.id).collect())
                }
            });
        }
        Ok(changes)
    }

    /// A resource as a client sees it.
    pub(super) async fn show(
        &self,
        access: &Access,
        kind: ResourceKind,
        stored: &Stored,
        view: View<'_>,
    ) -> Result<Shown, ProviderError> {
        let derived = self
            .derive(access, kind, std::slice::from_ref(stored), view)
            .await?;
        show(kind, stored, derived.first().and_then(Option::as_ref), view)
    }

    /// Resources of one kind as a client sees them, as text.
    pub(super) async fn show_all(
        &self,
        access: &Access,
        kind: ResourceKind,
        stored: &[Stored],
        view: View<'_>,
    ) -> Result<Vec<String>, ProviderError> {
        let derived = self.derive(access, kind, stored, view).await?;
        let shown = stored.iter().zip(&derived).map(|(stored, derived)| {
            show(kind, stored, derived.as_ref(), view).map(|shown| shown.body)
        });
        shown.collect()
    }

    /// The list of each resource that is derived from others, where it is shown.
    async fn derive(
        &self,
        access: &Access,
        kind: ResourceKind,
        stored: &[Stored],
        view: View<'_>,
    ) -> Result<Vec<Option<Derived>>, ProviderError> {
        let attribute = derived_attribute(kind);
        if !view.projection.shows(attribute) {
            return Ok(vec![None; stored.len()]);
        }
        let indirect = view.projection.asks_for(attribute);
        self.derive_for(access, kind, stored, view.base_url, indirect)
            .await
    }

    /// Like [`Self::derive`], whatever is shown; for filters too.
    pub(super) async fn derive_for(
        &self,
        access: &Access,
        kind: ResourceKind,
        stored: &[Stored],
        base_url: &str,
        indirect: bool,
    ) -> Result<Vec<Option<Derived>>, ProviderError> {
        let positions: Vec<_> = stored.iter().map(|stored| stored.position).collect();
        match kind {
            ResourceKind::Group => {
                let members = self.store.members(access, &positions).await?;
                let derived = members
                    .iter()
                    .map(|members| Some(groups::members(members, base_url)));
                Ok(derived.collect())
            }
            ResourceKind::User => {
                let mut all = Vec::with_capacity(stored.len());
                for direct in self.store.groups_of(access, &positions).await? {
                    let mut elements = Vec::with_capacity(direct.len());
                    for group in &direct {
                        elements.push(membership(group, "direct", base_url)?);
                    }
                    if indirect {
                        for group in self.ancestors(access, direct).await? {
                            elements.push(membership(&group, "indirect", base_url)?);
                        }
                    }
                    all.push((!elements.is_empty()).then(|| Derived {
                        attribute: derived_attribute(kind),
                        elements: elements.into(),
                    }));
                }
                Ok(all)
            }
        }
    }

    /// The groups that hold these groups, and those that hold them, each once.
    async fn ancestors(
        &self,
        access: &Access,
        groups: Vec<Stored>,
    ) -> Result<Vec<Stored>, ProviderError> {
        let mut seen: HashSet<ResourceId> = groups.iter().map(|group| group.id).collect();
        let mut found = Vec::new();
        let mut level = groups;
        while !level.is_empty() && seen.len() < MOST_INDIRECT_GROUPS {
            let positions: Vec<_> = level.iter().map(|group| group.position).collect();
            let parents = self.store.groups_of(access, &positions).await?;
            level = parents
                .into_iter()
                .flatten()
                .filter(|parent| seen.insert(parent.id))
                .collect();
            found.extend(level.iter().cloned());
        }
        Ok(found)
    }
}

/// The attribute that is derived from other resources.
pub(super) fn derived_attribute(kind: ResourceKind) -> &'static str {
    match kind {
        ResourceKind::User => "groups",
        ResourceKind::Group => "members",
    }
}

fn membership(group: &Stored, kind: &str, base_url: &str) -> Result<Value, ProviderError> {
    let tree = document::from_document(&group.document)?;
    Ok(groups::membership(
        group.id,
        tree.get("displayName"),
        kind,
        base_url,
    ))
}

fn new_id() -> Result<ResourceId, RandomnessError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| RandomnessError)?;
    Ok(ResourceId::from_random(bytes))
}

fn check_condition(expected: &EntityTags, current: Version) -> Result<Version, ProviderError> {
    if expected.name(current) {
        Ok(current)
    } else {
        Err(ProviderError::PreconditionFailed)
    }
}

/// A write at a version that has passed is one whose condition does not hold.
fn conditional<T>(written: Result<T, StoreError>) -> Result<T, ProviderError> {
    match written {
        Err(StoreError::Stale { .. }) => Err(ProviderError::PreconditionFailed),
        other => Ok(other?),
    }
}

/// What is derived of a resource by its row.
pub(super) fn meta(kind: ResourceKind, stored: &Stored) -> Meta {
    Meta {
        kind,
        id: stored.id,
        created: stored.created,
        modified: stored.modified,
        version: stored.version,
    }
}

fn show(
    kind: ResourceKind,
    stored: &Stored,
    derived: Option<&Derived>,
    view: View<'_>,
) -> Result<Shown, ProviderError> {
    let meta = meta(kind, stored);
    let body = if view.projection.is_everything() {
        meta.splice(&stored.document, derived, view.base_url)
    } else {
        let tree = meta.to_tree(&stored.document, derived, view.base_url)?;
        Value::Object(view.projection.apply(schema(kind), tree)).to_string()
    };
    Ok(Shown {
        body,
        version: stored.version,
        location: meta.location(view.base_url),
    })
}
