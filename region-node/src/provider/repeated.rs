//! Requests that come again: a gateway sends one again when its answer was lost, a client when it
//! has an `Idempotency-Key`. What was carried out is not carried out twice, and the answer is the
//! first one, as far as the resource is still as it was then; else it shows the resource as it is.

use super::resources::Resources;
use super::{Caller, ProviderError, Shown, View};
use crate::scim::document;
use crate::store::{Access, ChangeKind, Outcome, StoreError, Stored};

/// How a write came to be done.
pub(super) enum Done<T> {
    /// By this request.
    Now(T),
    /// By the same request, when it came first.
    Before(Outcome),
}

impl Resources {
    /// What a write has to answer: its own result, or what came of the same request before. That
    /// is asked for only where a write failed that may have been done already.
    pub(super) async fn first_outcome<T>(
        &self,
        caller: Caller<'_>,
        what: ChangeKind,
        written: Result<T, ProviderError>,
    ) -> Result<Done<T>, ProviderError> {
        let outcome = match (written, caller.request) {
            (Ok(now), _) => {
                self.bell.ring();
                return Ok(Done::Now(now));
            }
            (Err(ProviderError::Store(StoreError::Repeated(outcome))), _) => outcome,
            (Err(error), Some(key)) if key.may_be_repeated && is_final(&error) => {
                match self.store.outcome(caller.access, key).await? {
                    Some(outcome) => outcome,
                    None => return Err(error),
                }
            }
            (Err(error), _) => return Err(error),
        };
        if outcome.what == what {
            Ok(Done::Before(outcome))
        } else {
            Err(StoreError::KeyReused.into())
        }
    }

    /// The resource that a request created or changed when it came first. One that is gone by now
    /// is shown by its id alone.
    pub(super) async fn show_again(
        &self,
        access: &Access,
        outcome: Outcome,
        view: View<'_>,
    ) -> Result<Shown, ProviderError> {
        let Outcome { kind, id, .. } = outcome;
        let stored = match self.store.get(access, kind, id).await? {
            Some(stored) => stored,
            None => Stored {
                id,
                position: outcome.position,
                version: outcome.version,
                created: outcome.at,
                modified: outcome.at,
                document: document::to_document(
                    self.profile(access).await?.schema(kind),
                    id,
                    &document::Tree::new(),
                ),
                may_be_member: false,
            },
        };
        self.show_written(access, kind, &stored, view).await
    }
}

/// Whether an error speaks of the request, and would be the same when it is sent again.
fn is_final(error: &ProviderError) -> bool {
    match error {
        ProviderError::Scim(_) | ProviderError::PreconditionFailed => true,
        ProviderError::Store(error) => matches!(
            error,
            StoreError::NotFound | StoreError::Taken { .. } | StoreError::Stale { .. }
        ),
        ProviderError::Contended | ProviderError::Document(_) | ProviderError::Randomness(_) => {
            false
        }
    }
}
