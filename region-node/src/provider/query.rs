//! Lists: filter, sort, index paging and cursors (RFC 7644 section 3.4.2, RFC 9865).
//!
//! An index narrows, the evaluator decides. Pages of one walk follow each other by position, not
//! by counting, so that a deletion between two pages moves nobody out of sight.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use shared::{ScimError, ScimType, TenantId, TokenId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::activity::kept_filter;
use super::cursor::Start;
use super::resources::{Resources, derived_attribute, meta};
use super::settings::Profile;
use super::steps::Step;
use super::{Caller, ProviderError, View};
use crate::scim::document::Tree;
use crate::scim::list::{ListRequest, Standing, list_response};
use crate::scim::sort::{Sort, SortKey};
use crate::scim::{Filter, Notes, ResourceId, ResourceKind};
use crate::store::narrowing::{self, MOST_INDEX_ROWS};
use crate::store::{Narrowing, PageStart, Position, StoreError, Stored, backup};

/// How many candidates are read at first: most filters find fewer, by one quick look-up.
const FIRST_BATCH: u32 = 100;
/// How many are read together after that.
const BATCH: u32 = 500;
/// The same where each batch reads a part of an index anew.
const MOST_BATCH: u32 = 4_000;
/// How many are looked at between two chances for other requests to run: a look-up beside a scan
/// waits for so many.
const STEP: usize = 20;
/// The same where what is derived of each of them has to be read too.
const DERIVING_STEP: usize = 50;
/// How many resources a filter, or a sorted list, may look at.
const SCAN_BUDGET: usize = 100_000;
/// How many of a tenant's requests may look at more than their first batch at the same time.
const SCANS_OF_TENANT: usize = 2;

/// Where the pages of index-paged walks ended, so that the next page begins behind that place
/// whatever was deleted meanwhile (failure class "import loses users"). A walk is a token's: the
/// pages of two clients do not mix.
#[derive(Clone, Debug)]
pub struct Bookmarks(moka::sync::Cache<Bookmark, Position>);

/// A list, and the number of the result that comes next.
type Bookmark = (TenantId, TokenId, [u8; 32], u64);

impl Bookmarks {
    /// No bookmarks yet. Each is kept for ten minutes.
    #[must_use]
    pub(super) fn new() -> Self {
        let cache = moka::sync::Cache::builder().max_capacity(50_000);
        Self(cache.time_to_live(Duration::from_secs(600)).build())
    }
}

/// Turns of the requests that look at many resources: a tenant's third waits for one of its first
/// two, so that its own look-ups and all other tenants' requests go on.
#[derive(Clone, Debug)]
pub(super) struct ScanTurns(moka::sync::Cache<TenantId, Arc<Semaphore>>);

impl ScanTurns {
    pub(super) fn new() -> Self {
        let cache = moka::sync::Cache::builder().max_capacity(10_000);
        Self(cache.time_to_idle(Duration::from_secs(600)).build())
    }

    /// Waits for a turn, for as long as the request lives.
    async fn wait(&self, tenant: &TenantId) -> Option<OwnedSemaphorePermit> {
        let turns = self
            .0
            .get_with(tenant.clone(), || Arc::new(Semaphore::new(SCANS_OF_TENANT)));
        // Nobody closes it.
        turns.acquire_owned().await.ok()
    }
}

/// A list request over one kind of resources, understood.
struct Ask {
    kind: ResourceKind,
    base_url: String,
    narrowing: Narrowing,
    /// What the narrowing does not serve, for the one who asks why a filter is refused.
    unserved: Option<String>,
    filter: Option<Filter>,
    sort: Option<Sort>,
    count: u32,
}

/// What was found.
#[derive(Default)]
struct Found {
    /// How many there are in all.
    total: u64,
    /// The page.
    stored: Vec<Stored>,
    /// Whether the page was cut from a place in the list that has a position.
    by_position: bool,
}

impl Resources {
    /// `GET` of an endpoint or `/.search`. The answer is a list response, as JSON text. With
    /// several kinds (a search at the root) they come one after the other, or sorted together.
    ///
    /// # Errors
    /// [`ProviderError`].
    pub async fn query(
        &self,
        caller: Caller<'_>,
        kinds: &[ResourceKind],
        base_url: &str,
        request: &ListRequest,
    ) -> Result<String, ProviderError> {
        if let Some(filter) = &request.filter {
            let filter = kept_filter(filter);
            caller.noted.with(|facts| facts.filter = Some(filter));
        }
        match kinds {
            [kind] => self.query_kind(caller, *kind, base_url, request).await,
            kinds => self.query_kinds(caller, kinds, base_url, request).await,
        }
    }

    async fn query_kind(
        &self,
        caller: Caller<'_>,
        kind: ResourceKind,
        base_url: &str,
        request: &ListRequest,
    ) -> Result<String, ProviderError> {
        let profile = self.profile(caller.access).await?;
        let mut ask = Ask::parse(caller, &profile, kind, base_url, request)?;
        let rank = request.start_index.saturating_sub(1);
        if !profile.offers(kind) {
            self.held_profile(caller.access).await?;
            return Ok(list_response(
                0,
                &Standing::StartIndex(request.start_index),
                &[],
            ));
        }
        // Most lists are whole on their first page, and then nobody asks for their name.
        let list = || digest(caller, kind, request);
        let start = match request.cursor.as_deref().map(str::trim) {
            Some("") => Start {
                rank: 0,
                behind: None,
            },
            Some(cursor) => self.cursors.open(cursor, &list(), self.clock.now())?,
            None if rank == 0 => Start { rank, behind: None },
            None => {
                let bookmark = self.bookmark(caller, list(), request.start_index);
                Start {
                    rank,
                    behind: self.bookmarks.0.get(&bookmark),
                }
            }
        };
        // One more than asked for tells whether the list goes on. The total does not, where some
        // of those who were shown are gone.
        ask.count += 1;
        let mut found = self.find(caller, &ask, start).await?;
        let wanted = usize::try_from(request.count).unwrap_or(usize::MAX);
        let has_more = found.stored.len() > wanted;
        found.stored.truncate(wanted);
        let view = view(base_url, request);
        let shown = self
            .show_all(caller.access, &profile, kind, &found.stored, view)
            .await?;
        let is_cut = shown.len() < found.stored.len();
        found.stored.truncate(shown.len());

        let last = found
            .stored
            .last()
            .filter(|_| found.by_position)
            .map(|last| last.position);
        let reached = start.rank.saturating_add(found.stored.len() as u64);
        let goes_on = has_more || is_cut;
        let standing = if request.cursor.is_none() {
            // A look-up that found all there is has no next page.
            let is_look_up = ask.filter.is_some() && rank == 0 && !goes_on;
            if let (Some(last), false) = (last, is_look_up) {
                let bookmark = self.bookmark(caller, list(), reached + 1);
                self.bookmarks.0.insert(bookmark, last);
            }
            if goes_on && start.behind.is_some() {
                // Clients stop asking at the total. While there is somebody behind this page,
                // they must not.
                found.total = found.total.max(reached + 1);
            }
            Standing::StartIndex(request.start_index)
        } else {
            let now = self.clock.now();
            let list = list();
            let seal = |start: Start| self.cursors.seal(start, &list, now);
            let behind = if found.by_position {
                last.or(start.behind)
            } else {
                None
            };
            let next = goes_on
                .then(|| {
                    seal(Start {
                        rank: reached,
                        behind,
                    })
                })
                .transpose()?;
            let before = start.rank.saturating_sub(request.count.into());
            let previous = (start.rank > 0 && request.count > 0)
                .then(|| {
                    seal(Start {
                        rank: before,
                        behind: None,
                    })
                })
                .transpose()?;
            Standing::Cursors { previous, next }
        };
        Ok(list_response(found.total, &standing, &shown))
    }

    fn bookmark(&self, caller: Caller<'_>, list: [u8; 32], next: u64) -> Bookmark {
        (
            caller.access.tenant.clone(),
            caller.noted.token.clone(),
            list,
            next,
        )
    }

    async fn query_kinds(
        &self,
        caller: Caller<'_>,
        kinds: &[ResourceKind],
        base_url: &str,
        request: &ListRequest,
    ) -> Result<String, ProviderError> {
        // A blank cursor asks for the first page, which is served by index.
        if request
            .cursor
            .as_deref()
            .is_some_and(|cursor| !cursor.trim().is_empty())
        {
            let detail = "A search over all resource types has no cursors; use startIndex.";
            return Err(ScimError::typed(400, ScimType::InvalidCursor, detail).into());
        }
        let profile = self.profile(caller.access).await?;
        let mut asks = Vec::new();
        let mut unknown: Option<ProviderError> = None;
        for kind in kinds {
            if !profile.offers(*kind) {
                continue;
            }
            match Ask::parse(caller, &profile, *kind, base_url, request) {
                Ok(ask) => asks.push(ask),
                // What one type does not have, none of its resources matches.
                Err(ProviderError::Scim(error)) => unknown = Some(ProviderError::Scim(error)),
                Err(error) => return Err(error),
            }
        }
        if let (true, Some(error)) = (asks.is_empty(), unknown) {
            return Err(error);
        }
        let rank = request.start_index.saturating_sub(1);
        let (total, page) = if asks.iter().any(|ask| ask.sort.is_some()) {
            self.find_sorted(caller, &asks, rank, request.count).await?
        } else {
            let (mut total, mut page) = (0_u64, Vec::new());
            for ask in &mut asks {
                let room = request
                    .count
                    .saturating_sub(u32::try_from(page.len()).unwrap_or(u32::MAX));
                ask.count = room;
                let start = Start {
                    rank: rank.saturating_sub(total),
                    behind: None,
                };
                let found = self.find(caller, ask, start).await?;
                total += found.total;
                page.extend(found.stored.into_iter().map(|stored| (ask.kind, stored)));
            }
            (total, page)
        };
        let mut shown = Vec::with_capacity(page.len());
        for (kind, stored) in &page {
            let view = view(base_url, request);
            shown.push(self.show(caller.access, *kind, stored, view).await?.body);
        }
        Ok(list_response(
            total,
            &Standing::StartIndex(request.start_index),
            &shown,
        ))
    }

    async fn find(
        &self,
        caller: Caller<'_>,
        ask: &Ask,
        start: Start,
    ) -> Result<Found, ProviderError> {
        if ask.sort.is_some() {
            let asks = std::slice::from_ref(ask);
            let (total, page) = self
                .find_sorted(caller, asks, start.rank, ask.count)
                .await?;
            let stored = page.into_iter().map(|(_, stored)| stored).collect();
            return Ok(Found {
                total,
                stored,
                by_position: false,
            });
        }
        if ask.filter.is_some() {
            return self.find_filtered(caller, ask, start).await;
        }
        let from = start
            .behind
            .map_or(PageStart::Offset(start.rank), PageStart::Behind);
        let reading = self.steps.begin(Step::Read);
        let page = self
            .store
            .page(caller.access, ask.kind, from, ask.count)
            .await;
        reading.end(page.is_err());
        let page = page?;
        let total = u64::try_from(page.total).unwrap_or(0);
        Ok(Found {
            total,
            stored: page.resources,
            by_position: true,
        })
    }

    /// Looks at every candidate, because `totalResults` counts all that match.
    async fn find_filtered(
        &self,
        caller: Caller<'_>,
        ask: &Ask,
        start: Start,
    ) -> Result<Found, ProviderError> {
        let mut found = Found {
            by_position: true,
            ..Found::default()
        };
        let wanted = usize::try_from(ask.count).unwrap_or(usize::MAX);
        self.scan(caller, ask, |stored, _| {
            found.total += 1;
            let in_page = match start.behind {
                Some(position) => stored.position > position,
                None => found.total > start.rank,
            };
            if in_page && found.stored.len() < wanted {
                found.stored.push(stored);
            }
        })
        .await?;
        Ok(found)
    }

    async fn find_sorted(
        &self,
        caller: Caller<'_>,
        asks: &[Ask],
        rank: u64,
        count: u32,
    ) -> Result<(u64, Vec<(ResourceKind, Stored)>), ProviderError> {
        let mut keys: Vec<(SortKey, ResourceKind, ResourceId)> = Vec::new();
        for ask in asks {
            self.scan(caller, ask, |stored, tree| {
                if let (Some(sort), Some(tree)) = (&ask.sort, tree) {
                    keys.push((sort.key(tree), ask.kind, stored.id));
                }
            })
            .await?;
        }
        keys.sort_by(|(a, ..), (b, ..)| a.compare(b));
        let total = keys.len() as u64;
        let skipped = usize::try_from(rank).unwrap_or(usize::MAX);
        let wanted = usize::try_from(count).unwrap_or(usize::MAX);
        let mut page = Vec::new();
        for (_, kind, id) in keys.into_iter().skip(skipped).take(wanted) {
            // One that was deleted since is not there to be shown.
            if let Some(stored) = self.store.get(caller.access, kind, id).await? {
                page.push((kind, stored));
            }
        }
        Ok((total, page))
    }

    /// Shows each resource that fits to `see`, in list order, with its tree. No tree is built
    /// where nobody looks at it: the look-up alone decided, and nothing is sorted.
    async fn scan(
        &self,
        caller: Caller<'_>,
        ask: &Ask,
        mut see: impl FnMut(Stored, Option<&Tree>) + Send,
    ) -> Result<(), ProviderError> {
        let access = caller.access;
        let filter = ask.filter.as_ref();
        let derived = derived_attribute(ask.kind);
        let derives = filter.is_some_and(|filter| filter.mentions(derived))
            || ask.sort.as_ref().is_some_and(|sort| sort.is_by(derived));
        let step = if derives { DERIVING_STEP } else { STEP };
        let is_decided =
            ask.sort.is_none() && filter.is_some_and(|filter| ask.narrowing.is_exact(filter));
        let mut batches = ask.batches();
        let (mut looked_at, mut after) = (0, None);
        let mut turn = None;
        if ask.narrowing == Narrowing::Everything {
            // What would be refused at the end is refused before it costs anything.
            let head = self.store.head(access).await?;
            let most = match ask.kind {
                ResourceKind::User => head.users,
                ResourceKind::Group => head.groups,
            };
            if usize::try_from(most).is_ok_and(|most| most > SCAN_BUDGET) {
                return Err(too_many(ask).into());
            }
        }
        loop {
            let size = batches.next().unwrap_or(MOST_BATCH);
            let reading = self.steps.begin(Step::Read);
            let batch = self
                .store
                .candidates(access, ask.kind, &ask.narrowing, after, size)
                .await;
            reading.end(batch.is_err());
            let batch = batch.map_err(|error| match error {
                StoreError::OverBudget => too_many(ask).into(),
                error => ProviderError::from(error),
            })?;
            looked_at += batch.resources.len();
            after = batch.resources.last().map(|stored| stored.position);
            let mut resources = batch.resources;
            while !resources.is_empty() {
                let rest = resources.split_off(step.min(resources.len()));
                let derived = if derives {
                    self.derive_for(access, ask.kind, &resources, &ask.base_url, false)
                        .await?
                } else {
                    vec![None; resources.len()]
                };
                for (stored, derived) in resources.into_iter().zip(derived) {
                    if is_decided {
                        see(stored, None);
                        continue;
                    }
                    let tree = meta(ask.kind, &stored).to_tree(
                        &stored.document,
                        derived.as_ref(),
                        &ask.base_url,
                    )?;
                    if filter.is_none_or(|filter| filter.matches(&tree)) {
                        see(stored, Some(&tree));
                    }
                }
                resources = rest;
                if !resources.is_empty() {
                    tokio::task::yield_now().await;
                }
            }
            if batch.complete || after.is_none() {
                return Ok(());
            }
            if looked_at >= SCAN_BUDGET {
                return Err(too_many(ask).into());
            }
            if turn.is_none() {
                turn = self.scan_turns.wait(&access.tenant).await;
            }
            tokio::task::yield_now().await;
        }
    }
}

impl Ask {
    /// How many candidates are read together, one batch after the other.
    fn batches(&self) -> impl Iterator<Item = u32> + use<> {
        let most = if self.narrowing.is_in_order() {
            BATCH
        } else {
            MOST_BATCH
        };
        std::iter::successors(Some(FIRST_BATCH), move |size| Some((size * 4).min(most)))
    }

    fn parse(
        caller: Caller<'_>,
        profile: &Profile,
        kind: ResourceKind,
        base_url: &str,
        request: &ListRequest,
    ) -> Result<Self, ProviderError> {
        let schema = profile.schema(kind);
        let mut notes = Notes::default();
        let filter = request
            .filter
            .as_deref()
            .map(|text| Filter::parse_noting(schema, text, &mut notes));
        caller.noted.tolerate(notes);
        let filter = filter.transpose()?;
        let order = request.sort_order.as_deref();
        let sort = request
            .sort_by
            .as_deref()
            .map(|by| Sort::parse(schema, by, order))
            .transpose()?;
        let indexes = profile.indexes(kind);
        let narrowing = filter.as_ref().map_or(Narrowing::Everything, |filter| {
            Narrowing::of(filter, indexes)
        });
        let unserved = match &filter {
            Some(filter) if narrowing == Narrowing::Everything => {
                narrowing::unserved(filter, indexes)
            }
            _ => None,
        };
        Ok(Self {
            kind,
            base_url: base_url.to_owned(),
            narrowing,
            unserved,
            filter,
            sort,
            count: request.count,
        })
    }
}

fn view<'v>(base_url: &'v str, request: &'v ListRequest) -> View<'v> {
    let (only, without) = (
        request.attributes.as_deref(),
        request.excluded_attributes.as_deref(),
    );
    View {
        base_url,
        only,
        without,
    }
}

/// What a list is, as a digest: a cursor or bookmark of one list means nothing in another.
fn digest(caller: Caller<'_>, kind: ResourceKind, request: &ListRequest) -> [u8; 32] {
    let parts = [
        Some(caller.access.tenant.as_str()),
        Some(kind.name()),
        request.filter.as_deref(),
        request.sort_by.as_deref(),
        request.sort_order.as_deref(),
    ];
    let parts = Value::from_iter(parts.map(Value::from));
    // After a restore the places of before mean nothing any more.
    let generation = backup::generation(caller.access.credential_version);
    Sha256::new()
        .chain_update(generation.to_be_bytes())
        .chain_update(parts.to_string())
        .finalize()
        .into()
}

fn too_many(ask: &Ask) -> ScimError {
    let better = match ask.kind {
        ResourceKind::User => "'userName', 'externalId', 'id' or 'emails.value'",
        ResourceKind::Group => "'displayName', 'externalId', 'id' or 'members.value'",
    };
    let detail = match (&ask.unserved, &ask.filter) {
        (Some(attribute), _) => format!(
            "No index serves this filter's comparison of '{attribute}', so it would have to look \
             at more than {SCAN_BUDGET} resources. Add 'and' with a comparison of {better} by \
             'eq' or 'sw'."
        ),
        (None, Some(_)) if ask.narrowing == Narrowing::Everything => format!(
            "No index serves 'not' over a comparison, so this filter would have to look at more \
             than {SCAN_BUDGET} resources. Add 'and' with a comparison of {better} by 'eq' or \
             'sw'."
        ),
        (None, Some(_)) => format!(
            "This filter would have to look at more than {SCAN_BUDGET} resources, or at more than \
             {MOST_INDEX_ROWS} entries of an index. Add 'and' with a comparison of {better} by \
             'eq' or a longer 'sw'."
        ),
        (None, None) => format!("A list of more than {SCAN_BUDGET} resources cannot be sorted."),
    };
    ScimError::typed(400, ScimType::TooMany, detail)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use shared::{TestClock, Timestamp};

    use super::*;
    use crate::provider::cursor::CursorSealer;
    use crate::provider::noted::{Facts, Noted};
    use crate::provider::settings::Profiles;
    use crate::store::sqlite::{SqliteOptions, SqliteStore};
    use crate::store::{Access, Store, TenantSettings};

    #[tokio::test]
    async fn a_third_scan_of_a_tenant_waits_and_those_of_others_do_not() {
        let turns = ScanTurns::new();
        let (acme, other) = (TenantId::generate().unwrap(), TenantId::generate().unwrap());
        let first = turns.wait(&acme).now_or_never();
        let second = turns.wait(&acme).now_or_never();
        assert!(first.is_some() && second.is_some());
        let mut third = Box::pin(turns.wait(&acme));
        assert!((&mut third).now_or_never().is_none());
        assert!(turns.wait(&other).now_or_never().is_some());
        drop(first);
        assert!((&mut third).now_or_never().is_some());
    }

    /// What would look at too many is refused at once, and told what to ask instead.
    #[tokio::test]
    async fn too_many_names_the_attribute_that_no_index_serves() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("meridian.db");
        let store = SqliteStore::open(&path, SqliteOptions::default()).unwrap();
        let tenant = TenantId::generate().unwrap();
        let created = store
            .create_tenant(&tenant, "Acme", &TenantSettings::default(), Timestamp(0))
            .await
            .unwrap();
        let access = Access {
            tenant,
            credential_version: created.credential_version,
        };
        // As large as the head row says, which is all that is looked at.
        let connection = rusqlite::Connection::open(&path).unwrap();
        let grown = "UPDATE tenant SET users = 100001, groups = 100001";
        connection.execute(grown, []).unwrap();
        let resources = Resources::new(
            Arc::new(store),
            Arc::new(Profiles::new()),
            Arc::new(TestClock::at(Timestamp(0))),
            CursorSealer::new([b"cursor".as_slice()]),
            crate::events::Bell::new(),
        );
        let token = TokenId::generate().unwrap();
        let noted = Noted::begin(access.tenant.clone(), token, Facts::default());
        let caller = Caller {
            access: &access,
            request: None,
            noted: &noted,
            request_id: "",
        };
        let ask = async |kind: ResourceKind, filter: &str| {
            let request = ListRequest {
                filter: Some(filter.to_owned()),
                ..ListRequest::default()
            };
            resources.query(caller, &[kind], "", &request).await
        };
        let (users, groups) = (ResourceKind::User, ResourceKind::Group);
        for (kind, filter, named, instead) in [
            (users, "title co x", "'title'", "'userName'"),
            (
                users,
                "userName eq a or name.familyName pr",
                "'name.familyName'",
                "'userName'",
            ),
            (
                users,
                "emails[type eq work]",
                "'emails.type'",
                "'emails.value'",
            ),
            (users, "not (userName eq a)", "'not'", "'userName'"),
            (groups, "members pr", "'members'", "'displayName'"),
        ] {
            let Err(ProviderError::Scim(error)) = ask(kind, filter).await else {
                panic!("{filter}");
            };
            assert_eq!(error.status, 400, "{filter}");
            assert_eq!(error.scim_type, Some(ScimType::TooMany), "{filter}");
            assert!(error.detail.contains(named), "{filter}: {}", error.detail);
            assert!(error.detail.contains(instead), "{filter}: {}", error.detail);
        }
        for filter in [
            "userName co x",
            "title co x and emails.value ew x",
            "userName gt x",
        ] {
            assert!(ask(users, filter).await.is_ok(), "{filter}");
        }
    }
}
