//! [`Refusals`]: requests that a rule refused, counted, so that the audit tells of many in one
//! record. Memory is bounded: past it a refusal is not counted.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use shared::link::Refusal;
use shared::{TenantId, Timestamp, TokenId};

use crate::store::{AuditKind, AuditNote, Author, Store, StoreError};

/// Different refusals that are counted between two writes.
const MOST_KINDS: usize = 10_000;

/// Which rule refused whose request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Refused {
    tenant: TenantId,
    rule: &'static str,
    token: Option<TokenId>,
}

/// Refusals that are not written yet.
#[derive(Default)]
pub struct Refusals(Mutex<HashMap<Refused, u64>>);

impl Refusals {
    /// Knows of none yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The scope of a token does not open what it was used for.
    pub fn scope(&self, tenant: &TenantId, token: &TokenId) {
        self.note(tenant, "scope", Some(token));
    }

    /// A credential of the tenant is not good, or the tenant is not served.
    pub fn credential(&self, tenant: &TenantId, reason: Refusal) {
        let rule = match reason {
            Refusal::Unknown => "unknown_token",
            Refusal::Expired => "expired_token",
            Refusal::Revoked => "revoked_token",
            Refusal::TenantSuspended => "tenant_suspended",
        };
        self.note(tenant, rule, None);
    }

    fn note(&self, tenant: &TenantId, rule: &'static str, token: Option<&TokenId>) {
        let refused = Refused {
            tenant: tenant.clone(),
            rule,
            token: token.cloned(),
        };
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&refused) {
            *count += 1;
        } else if counts.len() < MOST_KINDS {
            counts.insert(refused, 1);
        }
    }

    /// How many different refusals wait to be written.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Writes what was counted. What cannot be written is lost: it is only a count.
    ///
    /// # Errors
    /// As the store.
    pub async fn flush(&self, store: &dyn Store, now: Timestamp) -> Result<(), StoreError> {
        let counts = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let mut notes: HashMap<TenantId, Vec<AuditNote>> = HashMap::new();
        for (refused, count) in counts {
            let by = match &refused.token {
                Some(token) => Author::token(token, ""),
                None => Author::default(),
            };
            let mut note = AuditNote::new(AuditKind::RequestsRefused, by, refused.rule);
            note.names = vec![count.to_string()];
            notes.entry(refused.tenant).or_default().push(note);
        }
        for (tenant, notes) in notes {
            match store.note_audit(&tenant, notes, now).await {
                // A tenant that is gone needs no audit.
                Ok(()) | Err(StoreError::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
