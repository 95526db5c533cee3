//! Users and groups: create, get, replace, patch, delete (RFC 7644 section 3). Lists are in
//! [`super::query`].

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Map, Value};
use shared::api_token::RandomnessError;
use shared::{Clock, ScimError, ScimType, Timestamp};

use super::cursor::CursorSealer;
use super::noted::Facts;
use super::query::{Bookmarks, ScanTurns};
use super::repeated::Done;
use super::settings::{Profile, Profiles};
use super::steps::{Step, Steps};
use super::{Caller, Lens, ProviderError, Shown, View, groups, users};
use crate::events::Bell;
use crate::scim::document::{self, Derived, Meta, Tree};
use crate::scim::group::{self, GroupPatch, MemberPatch};
use crate::scim::patch::PatchError;
use crate::scim::tolerance::Tolerance;
use crate::scim::{EntityTags, Notes, PatchRequest, Projection, ResourceId, ResourceKind, Version};
use crate::store::{Access, ChangeKind, MemberChange, Store, StoreError, Stored, WriteContext};

/// How often a write starts again when others were faster. Each round somebody's write succeeds.
const WRITE_ATTEMPTS: usize = 100;
/// Largest page, in bytes. A page may hold fewer resources than asked for (RFC 7644 section
/// 3.4.2.4).
const MOST_PAGE_BYTES: usize = 32 * 1024 * 1024;
/// For how many resources of a page what is derived is held at the same time.
const DERIVED_AT_ONCE: usize = 20;
/// Most members of a group that is shown after they were changed.
const SMALL_GROUP: u32 = 100;
/// How often a write is tried before it takes its turn with others of the same resource.
const PATIENT_ATTEMPTS: usize = 2;
/// Most filters on members in one PATCH for which the members have to be read.
const MOST_MEMBER_FILTERS: usize = 10;
/// Most groups whose parents are looked for, of a user whose indirect groups are asked for.
const MOST_INDIRECT_GROUPS: usize = 1000;

/// Locks that writers of one resource take when they get in each other's way. A few for all:
/// that two resources share one costs a wait, never a wrong answer.
struct Turns([tokio::sync::Mutex<()>; 64]);

impl Turns {
    fn new() -> Self {
        Self([const { tokio::sync::Mutex::const_new(()) }; 64])
    }

    fn of(&self, id: ResourceId) -> &tokio::sync::Mutex<()> {
        let [first, others @ ..] = &self.0;
        // The last byte is random; the first ones are the time.
        let [.., byte] = id.as_bytes();
        others
            .get(usize::from(*byte) % self.0.len())
            .unwrap_or(first)
    }
}

/// What a PATCH did.
enum Patched {
    /// The resource as it was written.
    Whole(Stored),
    /// Members were changed. By themselves: at which version that left the group, and the time that
    /// the write was given.
    Members(Option<(Version, Timestamp)>),
}

/// What a `GET` finds.
#[derive(Clone, Debug)]
pub enum Got {
    /// The resource.
    Shown(Shown),
    /// The client has this version already (`If-None-Match`, RFC 7644 section 3.14).
    NotModified(Version),
}

/// The users and groups of every tenant of the region.
#[derive(Clone)]
pub struct Resources {
    pub(super) store: Arc<dyn Store>,
    pub(super) profiles: Arc<Profiles>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) cursors: Arc<CursorSealer>,
    pub(super) bookmarks: Bookmarks,
    pub(super) scan_turns: ScanTurns,
    turns: Arc<Turns>,
    /// Rung when something was written.
    pub(super) bell: Bell,
    pub(super) steps: Arc<Steps>,
}

impl Resources {
    /// Resources in this store.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        profiles: Arc<Profiles>,
        clock: Arc<dyn Clock>,
        cursors: CursorSealer,
        bell: Bell,
    ) -> Self {
        let cursors = Arc::new(cursors);
        Self {
            store,
            profiles,
            clock,
            cursors,
            bookmarks: Bookmarks::new(),
            scan_turns: ScanTurns::new(),
            turns: Arc::new(Turns::new()),
            bell,
            steps: Arc::default(),
        }
    }

    /// How long the steps of requests took.
    #[must_use]
    pub fn steps(&self) -> &Steps {
        &self.steps
    }

    /// `POST` to an endpoint, RFC 7644 section 3.3.
    ///
    /// # Errors
    /// [`ProviderError`]; nothing is stored.
    pub async fn create(
        &self,
        caller: Caller<'_>,
        kind: ResourceKind,
        body: Map<String, Value>,
        view: View<'_>,
    ) -> Result<Shown, ProviderError> {
        let created = self.create_now(caller, kind, body).await;
        match self
            .first_outcome(caller, ChangeKind::Created, created)
            .await?
        {
            Done::Now(stored) => {
                caller.noted.with(|facts| facts.effects.created += 1);
                caller.noted.resource(kind, stored.id, &stored.document);
                self.show_written(caller.access, kind, &stored, view).await
            }
            Done::Before(outcome) => self.show_again(caller.access, outcome, view).await,
        }
    }

    async fn create_now(
        &self,
        caller: Caller<'_>,
        kind: ResourceKind,
        mut body: Map<String, Value>,
    ) -> Result<Stored, ProviderError> {
        let profile = self.writable(caller.access, kind).await?;
        let id = new_id(self.clock.now())?;
        let mut notes = Notes::default();
        let planning = self.steps.begin(Step::Plan);
        let content = match kind {
            ResourceKind::User => {
                let tree = users::tree(&profile, body, None, &mut notes);
                caller.noted.tolerate(notes);
                users::content(id, &tree?, &profile)?
            }
            ResourceKind::Group => {
                let members = group::take_members(&mut body)?.map(MemberChange::Add);
                let tree = document::from_body(profile.schema(kind), body, &mut notes);
                caller.noted.tolerate(notes);
                groups::content(id, &tree?, members.into_iter().collect(), &profile)?
            }
        };
        planning.end(false);
        let write = self.write_context(caller);
        let committing = self.steps.begin(Step::Commit);
        let created = self
            .store
            .create(caller.access, kind, id, content, write)
            .await;
        committing.end(created.is_err());
        Ok(created?)
    }

    fn write_context(&self, caller: Caller<'_>) -> WriteContext {
        WriteContext {
            now: self.clock.now(),
            request: caller.request,
            by: caller.author(),
        }
    }

    /// `GET` of a resource, RFC 7644 section 3.4.1.
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
    ) -> Result<Got, ProviderError> {
        let profile = self.profile(caller.access).await?;
        if !profile.offers(kind) {
            self.held_profile(caller.access).await?;
            return Err(StoreError::NotFound.into());
        }
        let stored = self.read(caller.access, kind, id).await?;
        caller.noted.resource(kind, id, &stored.document);
        if known.is_some_and(|tags| tags.name(stored.version))
            && self.version_tells_all(caller.access, kind, view).await?
        {
            return Ok(Got::NotModified(stored.version));
        }
        self.show_by(caller.access, &profile, kind, &stored, view)
            .await
            .map(Got::Shown)
    }

    /// Whether a resource at the same version looks the same. A user's `groups` change with the
    /// groups, and the user's version does not.
    async fn version_tells_all(
        &self,
        access: &Access,
        kind: ResourceKind,
        view: View<'_>,
    ) -> Result<bool, ProviderError> {
        if kind == ResourceKind::Group {
            return Ok(true);
        }
        let profile = self.profile(access).await?;
        let projection = Projection::parse(profile.schema(kind), view.only, view.without);
        if !projection.shows(derived_attribute(kind)) {
            return Ok(true);
        }
        Ok(self.store.head(access).await?.groups == 0)
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
        let members: Vec<MemberPatch> = match kind {
            ResourceKind::User => Vec::new(),
            ResourceKind::Group => {
                let members = group::take_members(&mut body)?;
                if members.is_none() {
                    let note = |facts: &mut Facts| facts.tolerated.note(Tolerance::MembersKept);
                    caller.noted.with(note);
                }
                members.into_iter().map(MemberPatch::Replace).collect()
            }
        };
        let change = |profile: &Profile, current: &Tree, notes: &mut Notes| match kind {
            ResourceKind::User => users::tree(profile, body.clone(), Some(current), notes),
            ResourceKind::Group => document::from_body(profile.schema(kind), body.clone(), notes),
        };
        let written = self
            .write(caller, kind, id, expected, members, change)
            .await;
        match self
            .first_outcome(caller, ChangeKind::Changed, written)
            .await?
        {
            Done::Now(stored) => {
                caller.noted.resource(kind, id, &stored.document);
                self.show_written(caller.access, kind, &stored, view).await
            }
            Done::Before(outcome) => self.show_again(caller.access, outcome, view).await,
        }
    }

    /// `PATCH` of a resource, RFC 7644 section 3.5.2. `None` where members of a large group
    /// were changed: then it is not shown, or adding one would cost what the group costs.
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
        let patched = self.patch_now(caller, kind, id, expected, patch).await;
        let stored = match self
            .first_outcome(caller, ChangeKind::Changed, patched)
            .await?
        {
            Done::Now(Patched::Whole(stored)) => {
                caller.noted.resource(kind, id, &stored.document);
                stored
            }
            Done::Now(Patched::Members(written)) => {
                return Ok(self.show_if_small(caller, id, written, view).await);
            }
            Done::Before(_) if kind == ResourceKind::Group => {
                return Ok(self.show_if_small(caller, id, None, view).await);
            }
            Done::Before(outcome) => {
                return self.show_again(access, outcome, view).await.map(Some);
            }
        };
        self.show_written(access, kind, &stored, view)
            .await
            .map(Some)
    }

    async fn patch_now(
        &self,
        caller: Caller<'_>,
        kind: ResourceKind,
        id: ResourceId,
        expected: Option<&EntityTags>,
        patch: PatchRequest,
    ) -> Result<Patched, ProviderError> {
        let access = caller.access;
        let (patch, members) = match kind {
            ResourceKind::User => (patch, Vec::new()),
            ResourceKind::Group => {
                let mut notes = Notes::default();
                let split = GroupPatch::split(patch, &mut notes);
                caller.noted.tolerate(notes);
                let GroupPatch { members, rest } = split?;
                (rest, members)
            }
        };
        let members_only = patch.is_empty() && !members.is_empty();
        if let (true, Some(changes)) = (members_only, deltas(&members)) {
            self.writable(access, kind).await?;
            let expected = self.expected_version(access, kind, id, expected).await?;
            let write = self.write_context(caller);
            let now = write.now;
            let committing = self.steps.begin(Step::Commit);
            let changed = self
                .store
                .change_members(access, id, expected, changes, write)
                .await;
            committing.end(changed.is_err());
            let version = conditional(changed)?;
            return Ok(Patched::Members(Some((version, now))));
        }
        let quiet = !members.is_empty();
        let change = |profile: &Profile, current: &Tree, notes: &mut Notes| {
            patch.apply(profile.schema(kind), current, notes)
        };
        let stored = self
            .write(caller, kind, id, expected, members, change)
            .await?;
        Ok(match quiet {
            true => Patched::Members(None),
            false => Patched::Whole(stored),
        })
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
        let deleted = self.delete_now(caller, kind, id, expected).await;
        let done = self.first_outcome(caller, ChangeKind::Deleted, deleted);
        if let Done::Now(()) = done.await? {
            caller.noted.with(|facts| facts.effects.deleted += 1);
        }
        Ok(())
    }

    async fn delete_now(
        &self,
        caller: Caller<'_>,
        kind: ResourceKind,
        id: ResourceId,
        expected: Option<&EntityTags>,
    ) -> Result<(), ProviderError> {
        let access = caller.access;
        self.writable(access, kind).await?;
        let expected = self.expected_version(access, kind, id, expected).await?;
        let write = self.write_context(caller);
        let committing = self.steps.begin(Step::Commit);
        let deleted = self.store.delete(access, kind, id, expected, write).await;
        committing.end(deleted.is_err());
        conditional(deleted)
    }

    /// The version that a condition holds for: that of the resource as it is.
    async fn expected_version(
        &self,
        access: &Access,
        kind: ResourceKind,
        id: ResourceId,
        expected: Option<&EntityTags>,
    ) -> Result<Option<Version>, ProviderError> {
        let Some(tags) = expected else {
            return Ok(None);
        };
        let current = self.read(access, kind, id).await?;
        check_condition(tags, current.version).map(Some)
    }

    /// Reads, changes and writes at the version that was read; starts again when somebody else
    /// was faster, so that no change is lost. What changes nothing is not written.
    async fn write(
        &self,
        caller: Caller<'_>,
        kind: ResourceKind,
        id: ResourceId,
        expected: Option<&EntityTags>,
        members: Vec<MemberPatch>,
        change: impl Fn(&Profile, &Tree, &mut Notes) -> Result<Tree, PatchError> + Send,
    ) -> Result<Stored, ProviderError> {
        let access = caller.access;
        let profile = self.writable(access, kind).await?;
        let mut turn = None;
        for attempt in 0..WRITE_ATTEMPTS {
            if attempt == PATIENT_ATTEMPTS {
                // Many want to change this resource: on this node, one after the other.
                turn = Some(self.turns.of(id).lock().await);
            }
            let current = self.read(access, kind, id).await?;
            if let Some(expected) = expected {
                check_condition(expected, current.version)?;
            }
            let planning = self.steps.begin(Step::Plan);
            let before = document::from_document(&current.document)?;
            let mut notes = Notes::default();
            let tree = change(&profile, &before, &mut notes);
            caller.noted.tolerate(notes);
            let tree = tree?;
            let mut content = match kind {
                ResourceKind::User => users::content(id, &tree, &profile)?,
                ResourceKind::Group => {
                    let members = self.resolve_members(access, &current, &members).await?;
                    groups::content(id, &tree, members, &profile)?
                }
            };
            let same = content.document == current.document;
            if !same {
                content.changed = document::changed(profile.schema(kind), &before, &tree);
            }
            planning.end(false);
            if same && content.members.is_empty() {
                caller.noted.written(true);
                return Ok(current);
            }
            let before_write = current.version;
            let write = self.write_context(caller);
            let now = write.now;
            let committing = self.steps.begin(Step::Commit);
            let written = if same {
                let version = Some(current.version);
                let changes = content.members;
                let changed = self
                    .store
                    .change_members(access, id, version, changes, write)
                    .await;
                changed.map(|version| {
                    let modified = if version == current.version {
                        current.modified
                    } else {
                        now
                    };
                    Stored {
                        version,
                        modified,
                        ..current
                    }
                })
            } else {
                self.store
                    .replace(access, kind, id, current.version, content, write)
                    .await
            };
            committing.end(written.is_err());
            match written {
                Err(StoreError::Stale { .. }) => {}
                other => {
                    let written = other?;
                    let is_same = written.version == before_write;
                    caller.noted.written(is_same);
                    return Ok(written);
                }
            }
        }
        drop(turn);
        Err(ProviderError::Contended)
    }

    pub(super) async fn read(
        &self,
        access: &Access,
        kind: ResourceKind,
        id: ResourceId,
    ) -> Result<Stored, ProviderError> {
        let reading = self.steps.begin(Step::Read);
        let stored = self.store.get(access, kind, id).await;
        reading.end(stored.is_err());
        Ok(stored?.ok_or(StoreError::NotFound)?)
    }

    /// The tenant's profile, if its resources of the kind may be written.
    async fn writable(
        &self,
        access: &Access,
        kind: ResourceKind,
    ) -> Result<Arc<Profile>, ProviderError> {
        let profile = self.profile(access).await?;
        if profile.offers(kind) {
            return Ok(profile);
        }
        self.held_profile(access).await?;
        Err(ScimError::new(501, "Groups are not provisioned in this tenant.").into())
    }

    /// The tenant's settings and schemas, for a call that asks nothing else of the store, such as
    /// discovery: a token that was revoked learns nothing more.
    ///
    /// # Errors
    /// [`ProviderError`] where the access is over or the store cannot say.
    pub async fn held_profile(&self, access: &Access) -> Result<Arc<Profile>, ProviderError> {
        Ok(self.profiles.get_held(self.store.as_ref(), access).await?)
    }

    /// The tenant's settings and schemas, for a call that goes on to ask the store.
    pub(super) async fn profile(&self, access: &Access) -> Result<Arc<Profile>, ProviderError> {
        Ok(self.profiles.get(self.store.as_ref(), access).await?)
    }

    /// A group whose members were just changed, if it can be shown at a cost that does not grow with
    /// it. Nothing that goes wrong here is a reason to make the client do again what is done.
    /// `written` is at which version it was left, and the time that the write was given: a group that
    /// is at that version since an earlier time was not changed by it.
    async fn show_if_small(
        &self,
        caller: Caller<'_>,
        id: ResourceId,
        written: Option<(Version, Timestamp)>,
        view: View<'_>,
    ) -> Option<Shown> {
        let (kind, access) = (ResourceKind::Group, caller.access);
        let stored = self.read(access, kind, id).await;
        if let Some((version, now)) = written {
            let is_older = |stored: &Stored| stored.version == version && stored.modified < now;
            let is_same = stored.as_ref().is_ok_and(is_older);
            caller.noted.written(is_same);
        }
        let stored = stored.ok()?;
        caller.noted.resource(kind, id, &stored.document);
        let profile = self.profile(access).await.ok()?;
        let projection = Projection::parse(profile.schema(kind), view.only, view.without);
        let lens = Lens {
            base_url: view.base_url,
            projection: &projection,
            profile: &profile,
        };
        let derived = if projection.shows(derived_attribute(kind)) {
            let most = Some(SMALL_GROUP + 1);
            let members = self
                .store
                .members(access, &[stored.position], most)
                .await
                .ok()?;
            let members = members
                .first()
                .filter(|m| m.len() <= SMALL_GROUP as usize)?;
            Some(groups::members(members, view.base_url))
        } else {
            None
        };
        let body = show(kind, &stored, derived.as_ref(), lens).ok()?;
        let location = meta(kind, &stored).location(view.base_url);
        Some(Shown {
            body,
            version: stored.version,
            location,
        })
    }

    /// What a client asks of a group's members, as the store does it. Only a filter that is no
    /// list of ids needs the members to be read: then the changes are played through, and the
    /// outcome holds at the version of the group that was read.
    async fn resolve_members(
        &self,
        access: &Access,
        group: &Stored,
        patches: &[MemberPatch],
    ) -> Result<Vec<MemberChange>, ProviderError> {
        if let Some(changes) = deltas(patches) {
            return Ok(changes);
        }
        let filters = patches
            .iter()
            .filter(|p| matches!(p, MemberPatch::RemoveMatching(_)));
        if filters.count() > MOST_MEMBER_FILTERS {
            let detail = "A PATCH may have at most 10 filters on members that are no lists of ids.";
            return Err(ScimError::typed(400, ScimType::TooMany, detail).into());
        }
        let read = self.store.members(access, &[group.position], None).await?;
        let mut members: HashMap<ResourceId, ResourceKind> = read
            .into_iter()
            .flatten()
            .map(|related| (related.id, related.kind))
            .collect();
        for patch in patches {
            match patch {
                MemberPatch::Add(ids) => self.add_members(access, &mut members, ids).await?,
                MemberPatch::Remove(ids) => members.retain(|id, _| !ids.contains(id)),
                MemberPatch::Replace(ids) => {
                    members.clear();
                    self.add_members(access, &mut members, ids).await?;
                }
                MemberPatch::RemoveMatching(filter) => {
                    members.retain(|id, kind| {
                        !filter.matches_element(&groups::member(*id, *kind, ""))
                    });
                }
            }
        }
        Ok(vec![MemberChange::Replace(members.into_keys().collect())])
    }

    async fn add_members(
        &self,
        access: &Access,
        members: &mut HashMap<ResourceId, ResourceKind>,
        ids: &[ResourceId],
    ) -> Result<(), ProviderError> {
        for id in ids {
            if members.contains_key(id) {
                continue;
            }
            let is_user = self
                .store
                .get(access, ResourceKind::User, *id)
                .await?
                .is_some();
            let is_group = !is_user
                && self
                    .store
                    .get(access, ResourceKind::Group, *id)
                    .await?
                    .is_some();
            let kind = match (is_user, is_group) {
                (true, _) => ResourceKind::User,
                (false, true) => ResourceKind::Group,
                (false, false) => continue,
            };
            members.insert(*id, kind);
        }
        Ok(())
    }

    /// A resource that was just written. The write stands, whatever happens to the access or the
    /// store now: if what is derived cannot be read any more, the resource is shown without it,
    /// because an error would make the client do again what is done.
    pub(super) async fn show_written(
        &self,
        access: &Access,
        kind: ResourceKind,
        stored: &Stored,
        view: View<'_>,
    ) -> Result<Shown, ProviderError> {
        match self.show(access, kind, stored, view).await {
            Err(ProviderError::Store(StoreError::Refused | StoreError::Unavailable(_))) => {
                let meta = meta(kind, stored);
                Ok(Shown {
                    body: meta.splice(&stored.document, None, view.base_url),
                    version: stored.version,
                    location: meta.location(view.base_url),
                })
            }
            shown => shown,
        }
    }

    /// A resource as a client sees it.
    pub(super) async fn show(
        &self,
        access: &Access,
        kind: ResourceKind,
        stored: &Stored,
        view: View<'_>,
    ) -> Result<Shown, ProviderError> {
        let profile = self.profile(access).await?;
        self.show_by(access, &profile, kind, stored, view).await
    }

    /// The same, where the tenant's profile is at hand.
    async fn show_by(
        &self,
        access: &Access,
        profile: &Profile,
        kind: ResourceKind,
        stored: &Stored,
        view: View<'_>,
    ) -> Result<Shown, ProviderError> {
        let mut shown = self
            .show_all(access, profile, kind, std::slice::from_ref(stored), view)
            .await?;
        let body = shown.pop().unwrap_or_default();
        let location = meta(kind, stored).location(view.base_url);
        Ok(Shown {
            body,
            version: stored.version,
            location,
        })
    }

    /// Resources of one kind as a client sees them, as text; fewer than all where they would make
    /// too large an answer, and at least one.
    pub(super) async fn show_all(
        &self,
        access: &Access,
        profile: &Profile,
        kind: ResourceKind,
        stored: &[Stored],
        view: View<'_>,
    ) -> Result<Vec<String>, ProviderError> {
        let projection = Projection::parse(profile.schema(kind), view.only, view.without);
        let lens = Lens {
            base_url: view.base_url,
            projection: &projection,
            profile,
        };
        let (mut shown, mut bytes) = (Vec::with_capacity(stored.len()), 0);
        for some in stored.chunks(DERIVED_AT_ONCE) {
            let derived = self.derive(access, kind, some, lens).await?;
            for (stored, derived) in some.iter().zip(&derived) {
                let body = show(kind, stored, derived.as_ref(), lens)?;
                bytes += body.len();
                if bytes > MOST_PAGE_BYTES && !shown.is_empty() {
                    return Ok(shown);
                }
                shown.push(body);
            }
        }
        Ok(shown)
    }

    /// The list of each resource that is derived from others, where it is shown.
    async fn derive(
        &self,
        access: &Access,
        kind: ResourceKind,
        stored: &[Stored],
        lens: Lens<'_>,
    ) -> Result<Vec<Option<Derived>>, ProviderError> {
        let attribute = derived_attribute(kind);
        if !lens.projection.shows(attribute) {
            return Ok(vec![None; stored.len()]);
        }
        let indirect = lens.projection.asks_for(attribute);
        self.derive_for(access, kind, stored, lens.base_url, indirect)
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
        let is_asked = |stored: &&Stored| kind == ResourceKind::Group || stored.may_be_member;
        let asked = stored.iter().filter(is_asked);
        let positions: Vec<_> = asked.map(|stored| stored.position).collect();
        match kind {
            ResourceKind::User if positions.is_empty() => Ok(vec![None; stored.len()]),
            ResourceKind::Group => {
                let members = self.store.members(access, &positions, None).await?;
                let derived = members
                    .iter()
                    .map(|members| Some(groups::members(members, base_url)));
                Ok(derived.collect())
            }
            ResourceKind::User => {
                let mut all = Vec::with_capacity(stored.len());
                let found = self.store.groups_of(access, &positions).await?;
                let of_group = |group| membership(group, "direct", base_url);
                // Written once for all that share it.
                let shown = found.groups.iter().map(of_group);
                let shown = shown.collect::<Result<Vec<_>, _>>()?;
                let mut lists = found.of.iter();
                for stored in stored {
                    let direct = match stored.may_be_member {
                        true => lists.next().map_or(&[][..], Vec::as_slice),
                        false => &[],
                    };
                    let direct_ones = direct.iter().filter_map(|at| shown.get(*at).cloned());
                    let mut elements: Vec<Value> = direct_ones.collect();
                    if indirect {
                        let groups = direct
                            .iter()
                            .filter_map(|at| found.groups.get(*at).cloned());
                        for group in self.ancestors(access, groups.collect()).await? {
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
                .groups
                .into_iter()
                .filter(|parent| seen.insert(parent.id))
                .collect();
            found.extend(level.iter().cloned());
        }
        Ok(found)
    }
}

/// What is asked of members as the store does it, where nothing has to be read for that.
fn deltas(patches: &[MemberPatch]) -> Option<Vec<MemberChange>> {
    let delta = |patch: &MemberPatch| match patch {
        MemberPatch::Add(ids) => Some(MemberChange::Add(ids.clone())),
        MemberPatch::Remove(ids) => Some(MemberChange::Remove(ids.clone())),
        MemberPatch::Replace(ids) => Some(MemberChange::Replace(ids.clone())),
        MemberPatch::RemoveMatching(_) => None,
    };
    patches.iter().map(delta).collect()
}

/// The attribute that is derived from other resources.
pub(super) fn derived_attribute(kind: ResourceKind) -> &'static str {
    match kind {
        ResourceKind::User => "groups",
        ResourceKind::Group => "members",
    }
}

pub(super) fn membership(
    group: &Stored,
    kind: &str,
    base_url: &str,
) -> Result<Value, ProviderError> {
    let tree = document::from_document(&group.document)?;
    Ok(groups::membership(
        group.id,
        tree.get("displayName"),
        kind,
        base_url,
    ))
}

fn new_id(now: Timestamp) -> Result<ResourceId, RandomnessError> {
    let mut random = [0; 10];
    getrandom::fill(&mut random).map_err(|_| RandomnessError)?;
    Ok(ResourceId::new(now, random))
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

/// A resource as a client sees it, as text.
pub(super) fn show(
    kind: ResourceKind,
    stored: &Stored,
    derived: Option<&Derived>,
    lens: Lens<'_>,
) -> Result<String, ProviderError> {
    let meta = meta(kind, stored);
    // Values of an extension that was removed may still be in the document.
    let is_clean = lens.profile.settings.removed_extensions.is_empty();
    if lens.projection.is_everything() && is_clean {
        return Ok(meta.splice(&stored.document, derived, lens.base_url));
    }
    let tree = meta.to_tree(&stored.document, derived, lens.base_url)?;
    let schema = lens.profile.schema(kind);
    Ok(Value::Object(lens.projection.apply(schema, document::known(schema, tree))).to_string())
}
