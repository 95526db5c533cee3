//! Bulk: many operations in one request, each atomic (RFC 7644 section 3.7).

use std::collections::HashMap;

use serde_json::{Map, Value};
use shared::ScimError;

use super::resources::Resources;
use super::{Caller, ProviderError, Shown, View};
use crate::scim::bulk::{BulkAction, BulkOperation, BulkOutcome, BulkRequest};
use crate::scim::{EntityTags, PatchRequest, ResourceId, ResourceKind};
use crate::store::StoreError;

/// The outcome of one operation, before its error has a face.
type Outcome = Result<Done, ProviderError>;

/// An operation that succeeded.
struct Done {
    status: u16,
    location: Option<String>,
    version: Option<String>,
}

/// A group on a circle of references: made without the members that are not there yet.
struct Deferred {
    at: usize,
    group: String,
    members: Vec<String>,
}

impl Resources {
    /// Executes a Bulk request. What is referred to is executed before what refers to it,
    /// whatever the order of the request; groups that refer to each other are made first and
    /// then given their members. `explain` gives an error its face.
    pub async fn bulk<'b>(
        &self,
        caller: Caller<'_>,
        base_url: &str,
        request: &'b BulkRequest,
        explain: impl Fn(ProviderError) -> ScimError,
    ) -> Vec<(&'b BulkOperation, BulkOutcome)> {
        let mut outcomes: HashMap<usize, BulkOutcome> = HashMap::new();
        let mut ids: HashMap<String, String> = HashMap::new();
        let mut deferred: Vec<Deferred> = Vec::new();
        let mut failures = 0;
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
            let result = self.step(caller, base_url, request, operation, &ids).await;
            let result = result.map(|(done, left)| {
                let made = done
                    .location
                    .as_deref()
                    .and_then(|location| location.rsplit('/').next());
                if let (Some(bulk_id), Some(id)) = (&operation.bulk_id, made) {
                    ids.insert(bulk_id.clone(), id.to_owned());
                }
                if let (Some(id), false) = (made, left.is_empty()) {
                    deferred.push(Deferred {
                        at,
                        group: id.to_owned(),
                        members: left,
                    });
                }
                done
            });
            let outcome = outcome(result, &explain);
            failures += usize::from(outcome.error.is_some());
            outcomes.insert(at, outcome);
        }
        for Deferred { at, group, members } in deferred {
            if let Err(error) = self
                .complete_group(caller, base_url, &group, &members, &ids)
                .await
            {
                outcomes.insert(at, outcome(Err(error), &explain));
            }
        }
        let in_order = request.operations.iter().enumerate();
        in_order
            .filter_map(|(at, operation)| Some((operation, outcomes.remove(&at)?)))
            .collect()
    }

    /// One operation. Answers also which members of a new group are not there yet.
    async fn step(
        &self,
        caller: Caller<'_>,
        base_url: &str,
        request: &BulkRequest,
        operation: &BulkOperation,
        ids: &HashMap<String, String>,
    ) -> Result<(Done, Vec<String>), ProviderError> {
        let mut action = operation.action.clone()?;
        let left = match &mut action {
            BulkAction::Create(ResourceKind::Group, data) => take_missing(request, data, ids),
            _ => Vec::new(),
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
                let patch = PatchRequest::parse(data)?;
                let patched = self
                    .patch(caller, kind, id(&text)?, expected, patch, view)
                    .await?;
                Ok(patched.map_or_else(
                    || Done {
                        status: 204,
                        location: Some(format!("{base_url}{}/{text}", kind.endpoint())),
                        version: None,
                    },
                    |shown| done(200, shown),
                ))
            }
            BulkAction::Delete(kind, text) => {
                self.delete(caller, kind, id(&text)?, expected).await?;
                let location = Some(format!("{base_url}{}/{text}", kind.endpoint()));
                Ok(Done {
                    status: 204,
                    location,
                    version: None,
                })
            }
        }
    }

    /// Gives a group on a circle the members that it had to wait for. If one was never made, the
    /// group is taken back: an operation is done as a whole or not at all.
    async fn complete_group(
        &self,
        caller: Caller<'_>,
        base_url: &str,
        group: &str,
        members: &[String],
        ids: &HashMap<String, String>,
    ) -> Result<(), ProviderError> {
        let value: Vec<Value> = members
            .iter()
            .map(|bulk_id| Value::from(format!("bulkId:{bulk_id}")))
            .collect();
        let operation = serde_json::json!({"op": "add", "path": "members", "value": value});
        let data = Map::from_iter([("Operations".to_owned(), Value::from(vec![operation]))]);
        let mut action = BulkAction::Patch(ResourceKind::Group, group.to_owned(), data);
        let added = match action.resolve(ids) {
            Ok(()) => self
                .execute(caller, base_url, action, None)
                .await
                .map(|_| ()),
            Err(error) => Err(error.into()),
        };
        if added.is_err() {
            let gone = BulkAction::Delete(ResourceKind::Group, group.to_owned());
            self.execute(caller, base_url, gone, None).await?;
        }
        added
    }
}

/// Takes the members out of a new group that refer to operations of the request which are not
/// done yet; answers their bulkIds.
fn take_missing(
    request: &BulkRequest,
    data: &mut Map<String, Value>,
    ids: &HashMap<String, String>,
) -> Vec<String> {
    let mut missing = Vec::new();
    let members = data
        .iter_mut()
        .find(|(name, _)| name.eq_ignore_ascii_case("members"));
    if let Some((_, Value::Array(members))) = members {
        members.retain(|member| {
            let value = member.get("value").unwrap_or(member).as_str();
            let reference = value.and_then(|text| text.strip_prefix("bulkId:"));
            let comes = reference.filter(|id| {
                let is_it = |o: &BulkOperation| o.bulk_id.as_deref() == Some(*id);
                !ids.contains_key(*id) && request.operations.iter().any(is_it)
            });
            missing.extend(comes.map(str::to_owned));
            comes.is_none()
        });
    }
    missing
}

fn outcome(result: Outcome, explain: &impl Fn(ProviderError) -> ScimError) -> BulkOutcome {
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
            let status = error.status;
            BulkOutcome {
                status,
                location: None,
                version: None,
                error: Some(error),
            }
        }
    }
}
