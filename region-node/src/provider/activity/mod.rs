//! [`ActivityLog`]: takes down each provisioning request, and lets the store have them in batches.
//!
//! A request costs a push to a queue. The queue is bounded: what finds no room is counted, and its
//! tenant is told how much is missing, and of when. So is what a process that ended suddenly may
//! not have written.

pub mod reading;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shared::api_token::{RandomnessError, random_base62};
use shared::{Clock, ScimError, TenantId, Timestamp};

use super::doctor;
use super::noted::Noted;
use crate::scim::client::Clues;
use crate::scim::text::cut;
use crate::scim::{ResourceKind, filter};
use crate::store::activity::{
    ActivityBatch, Entry, EntryNumber, Finding, Gap, GapReason, Operation, TenantActivity,
};
use crate::store::{Store, StoreError};

/// Requests that are written in one transaction: other writes wait for it.
const AT_ONCE: usize = 500;
/// A process says so often that it lives, whether it has something to write or not.
const MARK_EVERY: Duration = Duration::from_secs(60);
/// Longest filter that is kept, in bytes.
const LONGEST_FILTER: usize = 500;
/// Longest detail of an error that is kept, in bytes.
const LONGEST_DETAIL: usize = 500;

/// Requests that are not written yet.
pub struct ActivityLog {
    is_enabled: bool,
    room: usize,
    writer: Box<str>,
    clock: Arc<dyn Clock>,
    queue: Mutex<Queue>,
    /// Held by whoever writes.
    writing: tokio::sync::Mutex<Writing>,
    lost: AtomicU64,
}

struct Queue {
    news: BTreeMap<TenantId, TenantActivity>,
    entries: usize,
    /// The microsecond of the last number.
    micros: i64,
    /// What tells this process's numbers from those of others.
    node: u16,
}

#[derive(Default)]
struct Writing {
    /// When this process last said that it lives, and looked for those that do not any more.
    begun: Option<Timestamp>,
    /// Of the last batch.
    number: i64,
    /// What is being written. It stays here until the store has taken it: whoever writes may be
    /// broken off, and then nobody knows whether it has.
    under_way: Option<Arc<ActivityBatch>>,
}

/// A request that has ended.
#[derive(Debug)]
pub struct Ended<'e> {
    /// Its method.
    pub method: &'static str,
    /// The template of its route, if there is one.
    pub route: Option<&'e str>,
    /// Its id.
    pub request_id: &'e str,
    /// How long it took.
    pub duration: Duration,
    /// The status of its answer; 0 where the client was gone before it.
    pub status: u16,
    /// The error of its answer, if it is one.
    pub error: Option<ScimError>,
}

impl ActivityLog {
    /// Has taken nothing down yet. There is room for so many requests that wait to be written.
    ///
    /// # Errors
    /// [`RandomnessError`]: nothing would tell this process from others.
    pub fn new(
        is_enabled: bool,
        room: usize,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, RandomnessError> {
        let mut node = [0; 2];
        getrandom::fill(&mut node).map_err(|_| RandomnessError)?;
        Ok(Self {
            is_enabled,
            room,
            writer: random_base62(22)?.into(),
            clock,
            queue: Mutex::new(Queue {
                news: BTreeMap::new(),
                entries: 0,
                micros: 0,
                node: u16::from_be_bytes(node),
            }),
            writing: tokio::sync::Mutex::default(),
            lost: AtomicU64::new(0),
        })
    }

    /// How many requests found no room.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// How many requests wait to be written.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.lock().entries
    }

    /// Takes a request down.
    pub fn note(&self, noted: &Noted, ended: Ended<'_>) {
        if !self.is_enabled {
            return;
        }
        let facts = noted.take();
        let (operation, kind) = operation_of(ended.method, ended.route.unwrap_or_default());
        let operation = facts.meant.unwrap_or(operation);
        let mut clues = facts.clues;
        clues.add(Clues::of_notes(&facts.tolerated));
        let is_of_one = operation != Operation::Bulk;
        let (scim_type, detail) = match &ended.error {
            Some(error) => {
                let detail = Box::from(cut(&error.detail, LONGEST_DETAIL));
                let scim_type = error.scim_type.map(|it| Cow::Borrowed(it.as_str()));
                (scim_type, Some(detail))
            }
            None => (None, None),
        };
        let mut entry = Entry {
            number: EntryNumber(0),
            token: noted.token.clone(),
            clues,
            operation,
            kind,
            resource: facts.resource.filter(|_| is_of_one),
            display: facts.display.filter(|_| is_of_one),
            filter_shape: facts.filter.as_deref().map(filter::shape),
            filter: facts.filter,
            status: ended.status,
            scim_type,
            detail,
            duration_us: u32::try_from(ended.duration.as_micros()).unwrap_or(u32::MAX),
            request_id: ended.request_id.into(),
            dialect: facts.dialect,
            tolerated: facts.tolerated,
            effects: facts.effects,
        };
        let now = self.clock.now();
        let route = ended.route.unwrap_or_default();
        let findings = match (&ended.error, entry.tolerated.is_empty()) {
            (None, true) => Vec::new(),
            (error, _) => doctor::of_entry(&entry, error.as_ref(), ended.method, route, now),
        };
        let mut queue = self.lock();
        entry.number = queue.number(now);
        let is_full = queue.entries >= self.room;
        queue.entries += usize::from(!is_full);
        let news = queue.of(&noted.tenant);
        findings.into_iter().for_each(|finding| news.find(finding));
        if !is_full {
            news.entries.push(entry);
            return;
        }
        lose(news, now);
        drop(queue);
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes down something that an administrator should put right.
    pub fn find(&self, tenant: &TenantId, finding: Finding) {
        if self.is_enabled {
            self.lock().of(tenant).find(finding);
        }
    }

    /// Writes what waits.
    ///
    /// # Errors
    /// As the store; what could not be written waits on.
    pub async fn flush(&self, store: &dyn Store) -> Result<(), StoreError> {
        if !self.is_enabled {
            return Ok(());
        }
        let mut writing = self.writing.lock().await;
        let now = self.clock.now();
        let is_due = |at: Timestamp| now >= at.after(MARK_EVERY);
        if writing.begun.is_none_or(is_due) {
            store.begin_activity(&self.writer, now).await?;
            writing.begun = Some(now);
        }
        loop {
            let is_repeated = writing.under_way.is_some();
            if !is_repeated {
                writing.under_way = self.next_batch(writing.number + 1, now).map(Arc::new);
                writing.number += i64::from(writing.under_way.is_some());
            }
            let Some(batch) = &writing.under_way else {
                break;
            };
            let batch = Arc::clone(batch);
            store.record_activity(batch, is_repeated).await?;
            writing.under_way = None;
        }
        Ok(())
    }

    /// Writes what waits, and says that this was all.
    ///
    /// # Errors
    /// As the store; then what waits is lost, and the store tells so later.
    pub async fn close(&self, store: &dyn Store) -> Result<(), StoreError> {
        if !self.is_enabled {
            return Ok(());
        }
        self.flush(store).await?;
        store.end_activity(&self.writer).await
    }

    fn next_batch(&self, number: i64, at: Timestamp) -> Option<ActivityBatch> {
        let mut queue = self.lock();
        let mut tenants = BTreeMap::new();
        let mut left = AT_ONCE;
        while left > 0
            && let Some((tenant, mut news)) = queue.news.pop_first()
        {
            if news.entries.len() > left {
                let rest = news.entries.split_off(left);
                queue.of(&tenant).entries = rest;
            }
            left -= news.entries.len();
            queue.entries = queue.entries.saturating_sub(news.entries.len());
            tenants.insert(tenant, news);
        }
        (!tenants.is_empty()).then(|| ActivityBatch {
            tenants,
            writer: self.writer.clone(),
            number,
            at,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn of(&mut self, tenant: &TenantId) -> &mut TenantActivity {
        self.news.entry(tenant.clone()).or_default()
    }

    fn number(&mut self, now: Timestamp) -> EntryNumber {
        let micros = now.as_millis().saturating_mul(1000);
        self.micros = micros.max(self.micros + 1);
        EntryNumber::new(self.micros, self.node)
    }
}

/// Counts a request that found no room with those that found none shortly before.
fn lose(news: &mut TenantActivity, now: Timestamp) {
    if let Some(gap) = news.gaps.last_mut() {
        gap.to = now;
        gap.lost = gap.lost.map(|lost| lost + 1);
        return;
    }
    news.gaps.push(Gap {
        from: now,
        to: now,
        lost: Some(1),
        reason: GapReason::Overflow,
    });
}

/// What a request asks for, by its method and the template of its route.
fn operation_of(method: &str, route: &str) -> (Operation, Option<ResourceKind>) {
    let mut segments = route.split('/').skip(3);
    let (first, second) = (segments.next().unwrap_or_default(), segments.next());
    let kind = match first {
        "Users" => ResourceKind::User,
        "Groups" => ResourceKind::Group,
        ".search" => return (Operation::Query, None),
        "Bulk" => return (Operation::Bulk, None),
        "ServiceProviderConfig" | "ServiceProviderConfigs" | "Schemas" | "ResourceTypes" => {
            return (Operation::Discovery, None);
        }
        _ => return (Operation::Other, None),
    };
    let operation = match (method, second) {
        ("GET" | "HEAD", None) | ("POST", Some(".search")) => Operation::Query,
        ("GET" | "HEAD", Some(_)) => Operation::Get,
        ("POST", None) => Operation::Create,
        ("PUT", Some(_)) => Operation::Replace,
        ("PATCH", Some(_)) => Operation::Patch,
        ("DELETE", Some(_)) => Operation::Delete,
        _ => Operation::Other,
    };
    (operation, Some(kind))
}

/// The part of a filter that is kept.
pub(in crate::provider) fn kept_filter(filter: &str) -> Box<str> {
    cut(filter, LONGEST_FILTER).into()
}

#[cfg(test)]
mod tests {
    use shared::{TestClock, TokenId};

    use super::super::noted::Facts;
    use super::*;
    use crate::store::activity::ActivityQuery;
    use crate::store::sqlite::{SqliteOptions, SqliteStore};
    use crate::store::{Access, TenantSettings};

    const START: Timestamp = Timestamp(1_700_000_000_000);

    async fn tenant(store: &dyn Store) -> Access {
        let id = TenantId::generate().unwrap();
        let settings = TenantSettings::default();
        let made = store.create_tenant(&id, "Acme", &settings, START).await;
        Access {
            tenant: id,
            credential_version: made.unwrap().credential_version,
        }
    }

    fn note(log: &ActivityLog, access: &Access) {
        let token = TokenId::generate().unwrap();
        let noted = Noted::begin(access.tenant.clone(), token, Facts::default());
        let ended = Ended {
            method: "GET",
            route: Some("/scim/v2/Users/{id}"),
            request_id: "r",
            duration: Duration::from_micros(300),
            status: 200,
            error: None,
        };
        log.note(&noted, ended);
    }

    fn everything() -> ActivityQuery {
        ActivityQuery {
            before: EntryNumber(i64::MAX),
            from: EntryNumber(0),
            count: 10_000,
            client: None,
            has_failed: None,
            operation: None,
            resource: None,
            request_id: None,
        }
    }

    #[tokio::test]
    async fn what_finds_no_room_is_counted_and_told_to_its_tenant() {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteOptions::default();
        let store = SqliteStore::open(&folder.path().join("db"), options).unwrap();
        let (acme, quiet) = (tenant(&store).await, tenant(&store).await);
        let clock = Arc::new(TestClock::at(START));
        let log = ActivityLog::new(true, 1200, Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
        note(&log, &quiet);
        for _ in 0..1250 {
            clock.advance(Duration::from_millis(1));
            note(&log, &acme);
        }
        log.flush(&store).await.unwrap();
        let page = store.activity(&acme, &everything()).await.unwrap();
        assert_eq!(page.entries.len(), 1199);
        let gap = Gap {
            from: START.after(Duration::from_millis(1200)),
            to: START.after(Duration::from_millis(1250)),
            lost: Some(51),
            reason: GapReason::Overflow,
        };
        assert_eq!(page.gaps, [gap]);
        assert_eq!(log.lost(), 51);
        // The others lost nothing, and there is room again.
        let page = store.activity(&quiet, &everything()).await.unwrap();
        assert_eq!((page.entries.len(), page.gaps.len()), (1, 0));
        note(&log, &acme);
        log.close(&store).await.unwrap();
        let page = store.activity(&acme, &everything()).await.unwrap();
        assert_eq!((page.entries.len(), page.gaps.len()), (1200, 1));
        assert_eq!(page.entries[0].0.operation, Operation::Get);
    }

    #[tokio::test]
    async fn what_the_store_does_not_take_waits_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteOptions::default();
        let store = SqliteStore::open(&folder.path().join("db"), options).unwrap();
        let acme = tenant(&store).await;
        let log = ActivityLog::new(true, 1000, Arc::new(TestClock::at(START))).unwrap();
        for _ in 0..700 {
            note(&log, &acme);
        }
        // Whoever writes gives up before the store has answered.
        let mut flush = Box::pin(log.flush(&store));
        assert!(futures_util::FutureExt::now_or_never(&mut flush).is_none());
        drop(flush);
        log.flush(&store).await.unwrap();
        let page = store.activity(&acme, &everything()).await.unwrap();
        assert_eq!((page.entries.len(), page.gaps.len()), (700, 0));
    }

    #[tokio::test]
    async fn switched_off_it_writes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteOptions::default();
        let store = SqliteStore::open(&folder.path().join("db"), options).unwrap();
        let acme = tenant(&store).await;
        let commits = || store.commit_counts().unwrap().commits.get();
        let before = commits();
        let log = ActivityLog::new(false, 1000, Arc::new(TestClock::at(START))).unwrap();
        note(&log, &acme);
        log.flush(&store).await.unwrap();
        log.close(&store).await.unwrap();
        assert_eq!(commits(), before);
    }

    #[test]
    fn operations_are_known_by_method_and_route() {
        use Operation as O;
        use ResourceKind::{Group, User};
        for (method, route, expected) in [
            ("GET", "/scim/v2/Users", (O::Query, Some(User))),
            ("POST", "/scim/v1/Groups", (O::Create, Some(Group))),
            ("POST", "/scim/v2/Users/.search", (O::Query, Some(User))),
            ("POST", "/scim/v2/.search", (O::Query, None)),
            ("PUT", "/scim/v2/Users/{id}", (O::Replace, Some(User))),
            ("PATCH", "/scim/v2/Groups/{id}", (O::Patch, Some(Group))),
            ("DELETE", "/scim/v2/Users/{id}", (O::Delete, Some(User))),
            ("POST", "/scim/v2/Bulk", (O::Bulk, None)),
            ("GET", "/scim/v2/Schemas/{urn}", (O::Discovery, None)),
            ("GET", "/scim/v2/Me", (O::Other, None)),
            ("GET", "", (O::Other, None)),
        ] {
            assert_eq!(operation_of(method, route), expected, "{method} {route}");
        }
    }
}
