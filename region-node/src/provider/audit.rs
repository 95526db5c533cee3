//! The tenant's audit: a walk along the chain that finds what was done to it, and pages of it.
//!
//! What never lives here: how records come to be (`store::audit` and the engines), HTTP.

use std::sync::Arc;

use shared::{Clock, TenantId};

use crate::store::{AuditHead, AuditKind, AuditNote, AuditRange, AuditRecord, Store, StoreError};

/// Records that are read at once.
const AT_ONCE: u32 = 1000;
/// Most records that one page of a filtered list looks at: behind it the list goes on with the next
/// page, however few it found.
const MOST_LOOKED_AT: usize = 10_000;

/// What was done to a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The record is not what was recorded under its number: altered, inserted, or moved.
    Altered,
    /// There is no record of this number, and there are later ones.
    Missing,
    /// The newest records are gone: this is the first of them.
    CutOff,
    /// It is behind the end of the chain.
    Beyond,
    /// The chain does not begin where the last pruning left it.
    Beginning,
    /// It is the last one, and the head row has another hash for it.
    Head,
}

impl Damage {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Altered => "altered",
            Self::Missing => "missing",
            Self::CutOff => "cut_off",
            Self::Beyond => "beyond_the_end",
            Self::Beginning => "beginning",
            Self::Head => "head",
        }
    }
}

/// What a walk along a chain found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// How many records fit.
    pub records: u64,
    /// How the chain begins and ends.
    pub head: AuditHead,
    /// The first record that does not fit, and how.
    pub damage: Option<(i64, Damage)>,
}

/// Which records are asked for; what is absent does not matter.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// A name of [`AuditKind`], or its beginning up to the dot: `resource`.
    pub kind: Option<String>,
    /// By whom.
    pub actor: Option<String>,
    /// The id of a resource, a token or an endpoint, the URN of a schema, the name of a rule.
    pub subject: Option<String>,
}

impl AuditFilter {
    fn takes(&self, record: &AuditRecord) -> bool {
        let is = |wanted: &Option<String>, found: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == found)
        };
        let kind = self.kind.as_deref().is_none_or(|wanted| {
            let rest = record.kind.strip_prefix(wanted);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        });
        let id = record.subject.rsplit('/').next().unwrap_or_default();
        kind && is(&self.actor, &record.actor)
            && (is(&self.subject, &record.subject) || is(&self.subject, id))
    }
}

/// Some records, newest first.
#[derive(Clone, Debug)]
pub struct AuditPage {
    /// The records.
    pub records: Vec<AuditRecord>,
    /// Where the next page begins: before this number. `None` at the end.
    pub next: Option<i64>,
}

/// The region's audit.
pub struct Audit {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
}

impl Audit {
    /// The audit of a store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock }
    }

    /// Records what is no change of the store's: that an administrator signed in, that something
    /// was exported.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no such tenant, and as the store; then nothing is
    /// recorded.
    pub async fn note(&self, tenant: &TenantId, note: AuditNote) -> Result<(), StoreError> {
        self.store
            .note_audit(tenant, vec![note], self.clock.now())
            .await
    }

    /// Up to `limit` records before a number, newest first.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no such tenant, and as the store.
    pub async fn list(
        &self,
        tenant: &TenantId,
        filter: &AuditFilter,
        before: Option<i64>,
        limit: usize,
    ) -> Result<AuditPage, StoreError> {
        let mut page = AuditPage {
            records: Vec::new(),
            next: Some(before.unwrap_or(i64::MAX)),
        };
        let mut looked_at = 0;
        while let Some(next) = page.next {
            let range = AuditRange::Before(next);
            let (_, records) = self.store.audit(tenant, range, AT_ONCE).await?;
            let is_last = records.len() < AT_ONCE as usize;
            let last = records.last().map(|record| record.number);
            for record in records {
                if page.records.len() == limit {
                    return Ok(page);
                }
                page.next = Some(record.number);
                looked_at += 1;
                if filter.takes(&record) {
                    page.records.push(record);
                }
            }
            page.next = if is_last { None } else { last };
            if looked_at >= MOST_LOOKED_AT {
                break;
            }
        }
        Ok(page)
    }

    /// Walks along a tenant's chain and says which record is the first that does not fit.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no such tenant, and as the store.
    pub async fn verify(&self, tenant: &TenantId) -> Result<Verified, StoreError> {
        let mut walk: Option<Walk> = None;
        loop {
            let behind = walk.as_ref().map_or(0, |walk| walk.number);
            let range = AuditRange::Behind(behind);
            let (head, records) = self.store.audit(tenant, range, AT_ONCE).await?;
            let walk = walk.get_or_insert_with(|| Walk::begin(&head));
            let is_last = records.len() < AT_ONCE as usize;
            for record in &records {
                if let Err(damage) = walk.step(tenant, &head, record) {
                    return Ok(walk.verified(head, Some(damage)));
                }
            }
            if is_last {
                let damage = walk.end(&head).err();
                return Ok(walk.verified(head, damage));
            }
        }
    }
}

/// How far a walk has come.
struct Walk {
    number: i64,
    hash: Vec<u8>,
    records: u64,
    begins_behind: i64,
    /// What the last pruning said: where the rest begins.
    pruned: Option<(i64, String)>,
}

impl Walk {
    fn begin(head: &AuditHead) -> Self {
        Self {
            number: head.base_number,
            hash: head.base_hash.clone(),
            records: 0,
            begins_behind: head.base_number,
            pruned: None,
        }
    }

    fn step(
        &mut self,
        tenant: &TenantId,
        head: &AuditHead,
        record: &AuditRecord,
    ) -> Result<(), (i64, Damage)> {
        let expected = self.number + 1;
        if record.number <= self.begins_behind {
            return Err((record.number, Damage::Beginning));
        }
        if record.number > head.number {
            return Err((record.number, Damage::Beyond));
        }
        if record.number != expected {
            return Err((expected, Damage::Missing));
        }
        if record.hash != record.expected_hash(&self.hash, tenant) {
            return Err((record.number, Damage::Altered));
        }
        if record.kind == AuditKind::AuditPruned.as_str() {
            let said: Option<(String, String)> = serde_json::from_str(&record.names).ok();
            self.pruned = said.and_then(|(number, hash)| Some((number.parse().ok()?, hash)));
        }
        self.number = record.number;
        self.hash.clone_from(&record.hash);
        self.records += 1;
        Ok(())
    }

    fn end(&self, head: &AuditHead) -> Result<(), (i64, Damage)> {
        if self.number < head.number {
            return Err((self.number + 1, Damage::CutOff));
        }
        if self.hash != head.hash {
            return Err((self.number, Damage::Head));
        }
        let begins_where_it_should = match &self.pruned {
            Some((number, hash)) => {
                *number == head.base_number && *hash == hex::encode(&head.base_hash)
            }
            None => head.base_number == 0,
        };
        if begins_where_it_should {
            Ok(())
        } else {
            Err((head.base_number + 1, Damage::Beginning))
        }
    }

    fn verified(&self, head: AuditHead, damage: Option<(i64, Damage)>) -> Verified {
        Verified {
            records: self.records,
            head,
            damage,
        }
    }
}
