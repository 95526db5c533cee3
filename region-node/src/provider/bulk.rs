//! Bulk: many operations in one request, each atomic (RFC 7644 section 3.7).

use std::collections::HashMap;

use serde_json::{Map, Value};
use shared::ScimError;

use super::resources::Resources;
use super::{Caller, ProviderError, Shown, View};
use crate::scim::bulk::{BulkAction, BulkOperation, BulkOutcome, BulkRequest, take_references};
use crate::scim::{EntityTags, Notes, PatchRequest, ResourceId, ResourceKind};
use crate::store::StoreError;

/// The outcome of one operation, before its error has a face.
type Outcome = Result<Done, ProviderError>;

/// An operation that succeeded.
struct Done {
    status: u16,
    location: Option<String>,
    version: Option<String>,
}

/// A new resource on a circle of references: made without those that are not there yet.
struct Deferred {
    at: usize,
    kind: ResourceKind,
    id: String,
    /// A PATCH operation that makes up for it.
    operation: Value,
}

impl Resources {
    /// Executes a Bulk request. What is referred to is executed before what refers to it,
    /// whatever the order of the request; resources that refer to each other are made first and
    /// then given their references. `explain` gives an error its face.
    ///
    /// # Errors
    /// [`StoreError::Refused`] where the access is over before anything was done: the whole
    /// request can be sent again.
    pub async fn bulk<'b>(
        &self,
        caller: Caller<'_>,
        base_url: &str,
        request: &'b BulkRequest,
        explain: impl Fn(ProviderError) -> ScimError,
    ) -> Result<Vec<(&'b BulkOperation, BulkOutcome)>, ProviderError> {
        let mut outcomes: HashMap<usize, BulkOutcome> = HashMap::new();
        let mut ids: HashMap<String, String> = HashMap::new();
        let mut deferred: Vec<Deferred> = Vec::new();
        let (mut failures, mut successes) = (0, 0);
        self.held_profile(caller.access).await?;
        for at in request.order() {
            if request
                .fail_on_errors
                .is_some_and(|limit| failures >= limit)
            {
                break;
            }
            let Some(operation) = request.operations.get(at) else {
                continue;
            };
            let caller = part_of(caller, at);
            let result = self.step(caller, base_url, request, operation, &ids).await;
            let result = match result {
                Err(ProviderError::Store(StoreError::Refused)) if successes == 0 => {
                    return Err(StoreError::Refused.into());
                }
                result => result.map_err(midway),
            };
            let result = result.map(|(done, left)| {
                successes += 1;
                let made = done
                    .location
                    .as_deref()
                    .and_then(|location| location.rsplit('/').next());
                if let (Some(bulk_id), Some(id)) = (&operation.bulk_id, made) {
                    ids.insert(bulk_id.clone(), id.to_owned());
                }
                if let (Some(id), Some((kind, operation))) = (made, left) {
                    deferred.push(Deferred {
                        at,
                        kind,
                        id: id.to_owned(),
                        operation,
                    });
                }
                done
            });
            let outcome = outcome(result, operation, base_url, &explain);
            failures += usize::from(outcome.error.is_some());
            outcomes.insert(at, outcome);
        }
        for Deferred {
            at,
            kind,
            id,
            operation,
        } in deferred
        {
            let Some(asked) = request.operations.get(at) else {
                continue;
            };
            // A write of its own, behind all operations.
            let caller = part_of(caller, request.operations.len() + at);
            match self
                .complete(caller, base_url, kind, &id, operation, &ids)
                .await
            {
                Ok(version) => {
                    if let Some(outcome) = outcomes.get_mut(&at) {
                        outcome.version = version;
                    }
                }
                Err(error) => {
                    let failed = outcome(Err(midway(error)), asked, base_url, &explain);
                    outcomes.insert(at, failed);
                }
            }
        }
        let in_order = request.operations.iter().enumerate();
        Ok(in_order
            .filter_map(|(at, operation)| Some((operation, outcomes.remove(&at)?)))
            .collect())
    }

    /// One operation. Answers also what a new resource had to be made without.
    async fn step(
        &self,
        caller: Caller<'_>,
        base_url: &str,
        request: &BulkRequest,
        operation: &BulkOperation,
        ids: &HashMap<String, String>,
    ) -> Result<(Done, Option<(ResourceKind, Value)>), ProviderError> {
        let mut action = operation.action.clone()?;
        let comes = |bulk_id: &str| {
            let is_it = |o: &BulkOperation| o.bulk_id.as_deref() == Some(bulk_id);
            !ids.contains_key(bulk_id) && request.operations.iter().any(is_it)
        };
        let left = match &mut action {
            BulkAction::Create(kind, data) => {
                take_references(*kind, data, &comes).map(|operation| (*kind, operation))
            }
            _ => None,
        };
        action.resolve(ids)?;
        let expected = operation.version.as_deref().map(EntityTags::parse);
        let done = self
            .execute(caller, base_url, action, expected.as_ref())
            .await?;
        Ok((done, left))
    }

    async fn execute(
        &self,
        caller: Caller<'_>,
        base_url: &str,
        action: BulkAction,
        expected: Option<&EntityTags>,
    ) -> Outcome {
        // Answers carry no resource, so members are not read to be shown.
        let view = View {
            base_url,
            only: Some("id"),
            without: None,
        };
        let id = |text: &str| ResourceId::parse(text).map_err(|_| StoreError::NotFound);
        let done = |status: u16, shown: Shown| Done {
            status,
            location: Some(shown.location),
            version: Some(shown.version.to_string()),
        };
        match action {
            BulkAction::Create(kind, data) => {
                Ok(done(201, self.create(caller, kind, data, view).await?))
            }
            BulkAction::Replace(kind, text, data) => {
                let replaced = self
                    .replace(caller, kind, id(&text)?, expected, data, view)
                    .await?;
                Ok(done(200, replaced))
            }
            BulkAction::Patch(kind, text, data) => {
                let mut notes = Notes::default();
                let patch = PatchRequest::parse(data, &mut notes);
                caller.noted.tolerate(notes);
                let patch = patch?;
                let patched = self
                    .patch(caller, kind, id(&text)?, expected, patch, view)
                    .await?;
                Ok(patched.map_or_else(
                    || Done {
                        status: 204,
                        location: Some(location(base_url, kind, &text)),
                        version: None,
                    },
                    |shown| done(200, shown),
                ))
            }
            BulkAction::Delete(kind, text) => {
                self.delete(caller, kind, id(&text)?, expected).await?;
                let location = Some(location(base_url, kind, &text));
                Ok(Done {
                    status: 204,
                    location,
                    version: None,
                })
            }
        }
    }

    /// Gives a resource on a circle the references that it had to wait for; answers its version.
    /// If what it refers to was never made, the resource is taken back: an operation is done as a
    /// whole or not at all.
    async fn complete(
        &self,
        caller: Caller<'_>,
        base_url: &str,
        kind: ResourceKind,
        id: &str,
        operation: Value,
        ids: &HashMap<String, String>,
    ) -> Result<Option<String>, ProviderError> {
        let data = Map::from_iter([("Operations".to_owned(), Value::from(vec![operation]))]);
        let mut action = BulkAction::Patch(kind, id.to_owned(), data);
        let completed = match action.resolve(ids) {
            Ok(()) => self.execute(caller, base_url, action, None).await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = completed {
            let gone = BulkAction::Delete(kind, id.to_owned());
            let unnamed = Caller {
                request: None,
                ..caller
            };
            self.execute(unnamed, base_url, gone, None).await?;
            return Err(error);
        }
        let id = ResourceId::parse(id).map_err(|_| StoreError::NotFound)?;
        Ok(Some(
            self.read(caller.access, kind, id)
                .await?
                .version
                .to_string(),
        ))
    }
}

/// The caller of one of the writes of a request: each is kept under a name of its own, so that a
/// request that comes again goes on where it was cut off.
fn part_of(caller: Caller<'_>, number: usize) -> Caller<'_> {
    Caller {
        request: caller.request.map(|key| key.part(number)),
        ..caller
    }
}

/// Credentials moved between two operations. Never a 401 in a 200: the client's token may be as
/// good as before, and what is left can be sent again.
fn midway(error: ProviderError) -> ProviderError {
    match error {
        ProviderError::Store(StoreError::Refused) => ProviderError::Contended,
        error => error,
    }
}

fn location(base_url: &str, kind: ResourceKind, id: &str) -> String {
    format!("{base_url}{}/{id}", kind.endpoint())
}

fn outcome(
    result: Outcome,
    operation: &BulkOperation,
    base_url: &str,
    explain: &impl Fn(ProviderError) -> ScimError,
) -> BulkOutcome {
    match result {
        Ok(Done {
            status,
            location,
            version,
        }) => BulkOutcome {
            status,
            location,
            version,
            error: None,
        },
        Err(error) => {
            let error = explain(error);
            // Where it would be, but for a POST, which made nothing (RFC 7644 section 3.7).
            let location = match &operation.action {
                Ok(
                    BulkAction::Replace(kind, id, _)
                    | BulkAction::Patch(kind, id, _)
                    | BulkAction::Delete(kind, id),
                ) if !id.starts_with("bulkId:") => Some(location(base_url, *kind, id)),
                _ => None,
            };
            BulkOutcome {
                status: error.status,
                location,
                version: None,
                error: Some(error),
            }
        }
    }
}
