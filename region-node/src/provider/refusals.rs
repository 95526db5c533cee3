//! [`Refusals`]: requests and sign-ins that a rule refused, counted, so that the audit tells of many in one
//! record. Memory is bounded: past it a refusal is not counted.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use shared::link::{Notice, NoticeKind, Refusal};
use shared::{TenantId, Timestamp, TokenId};

use crate::store::{AuditKind, AuditNote, Author, Store, StoreError};

/// Different refusals that are counted between two writes.
const MOST_KINDS: usize = 10_000;

const SCOPE: &str = "scope";
const EXPIRED: &str = "expired_token";
const REVOKED: &str = "revoked_token";
const SUSPENDED: &str = "tenant_suspended";

/// Which rule refused whose request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Refused {
    tenant: TenantId,
    kind: AuditKind,
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
        self.note(tenant, SCOPE, Some(token));
    }

    /// A credential of the tenant is not good, or the tenant is not served.
    pub fn credential(&self, tenant: &TenantId, reason: Refusal) {
        let rule = match reason {
            Refusal::Unknown => "unknown_token",
            Refusal::Expired => EXPIRED,
            Refusal::Revoked => REVOKED,
            Refusal::TenantSuspended => SUSPENDED,
        };
        self.note(tenant, rule, None);
    }

    /// A gateway has refused sign-ins, or requests by a rule that the node never sees at work.
    /// What it asks the node about is counted here already, and what is a mistake in how a client
    /// is set up is for the doctor.
    pub fn at_gateway(&self, tenant: &TenantId, token: &TokenId, notice: &Notice) {
        let rule = match notice.kind {
            NoticeKind::Network => "network",
            NoticeKind::TooMany => "too_many",
            NoticeKind::ScimToken => SCOPE,
            NoticeKind::Expired => EXPIRED,
            NoticeKind::Revoked => REVOKED,
            NoticeKind::Suspended => SUSPENDED,
            NoticeKind::WrongRegion => "wrong_region",
            _ => return,
        };
        let is_by_rule = matches!(notice.kind, NoticeKind::Network | NoticeKind::TooMany);
        let kind = match (notice.is_sign_in(), is_by_rule) {
            (true, _) => AuditKind::SignInRefused,
            (false, true) => AuditKind::RequestsRefused,
            (false, false) => return,
        };
        let refused = Refused {
            tenant: tenant.clone(),
            kind,
            rule,
            token: Some(token.clone()),
        };
        self.count(refused, notice.times.into());
    }

    fn note(&self, tenant: &TenantId, rule: &'static str, token: Option<&TokenId>) {
        let refused = Refused {
            tenant: tenant.clone(),
            kind: AuditKind::RequestsRefused,
            rule,
            token: token.cloned(),
        };
        self.count(refused, 1);
    }

    fn count(&self, refused: Refused, times: u64) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&refused) {
            *count += times;
        } else if counts.len() < MOST_KINDS {
            counts.insert(refused, times);
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
            let mut note = AuditNote::new(refused.kind, by, refused.rule);
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
