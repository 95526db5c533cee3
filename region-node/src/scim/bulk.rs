//! Bulk: the request, its references, and the order in which they can be followed (RFC 7644
//! section 3.7). Nothing is executed here.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value, json};
use shared::{ScimError, ScimType, urn};

use super::group::member_text;
use super::resource::ResourceKind;

/// Most operations in one request (`bulk.maxOperations`).
pub const MAX_OPERATIONS: usize = 1000;

const REFERENCE: &str = "bulkId:";

/// A Bulk request.
#[derive(Clone, Debug, PartialEq)]
pub struct BulkRequest {
    /// After how many failures the rest is left alone; `None`: never.
    pub fail_on_errors: Option<usize>,
    /// What to do.
    pub operations: Vec<BulkOperation>,
}

/// One operation of a Bulk request, or why it is none. A malformed operation fails alone.
#[derive(Clone, Debug, PartialEq)]
pub struct BulkOperation {
    /// The method as sent, for the answer.
    pub method: String,
    /// The client's name for the operation, echoed and referred to.
    pub bulk_id: Option<String>,
    /// The version that the client expects, as in `If-Match`.
    pub version: Option<String>,
    /// What is asked for.
    pub action: Result<BulkAction, ScimError>,
}

/// What an operation asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum BulkAction {
    /// POST to an endpoint.
    Create(ResourceKind, Map<String, Value>),
    /// PUT to a resource.
    Replace(ResourceKind, String, Map<String, Value>),
    /// PATCH of a resource.
    Patch(ResourceKind, String, Map<String, Value>),
    /// DELETE of a resource.
    Delete(ResourceKind, String),
}

fn syntax(detail: &str) -> ScimError {
    ScimError::typed(400, ScimType::InvalidSyntax, detail)
}

impl BulkRequest {
    /// Reads a body. Member names have no case.
    ///
    /// # Errors
    /// 400 where it is no Bulk request, 413 where it holds too many operations.
    pub fn parse(body: Map<String, Value>) -> Result<Self, ScimError> {
        let (mut operations, mut fail_on_errors) = (None, None);
        for (name, value) in body {
            if name.eq_ignore_ascii_case("operations") {
                operations = Some(value);
            } else if name.eq_ignore_ascii_case("failOnErrors") && !value.is_null() {
                let limit = value.as_u64().filter(|limit| *limit > 0);
                let limit =
                    limit.ok_or_else(|| syntax("'failOnErrors' must be a whole number from 1."))?;
                fail_on_errors = Some(usize::try_from(limit).unwrap_or(usize::MAX));
            }
        }
        let Some(Value::Array(operations)) = operations else {
            return Err(syntax("A Bulk request must have a list 'Operations'."));
        };
        if operations.len() > MAX_OPERATIONS {
            return Err(ScimError::new(
                413,
                "A Bulk request may have at most 1000 operations.",
            ));
        }
        let operations: Vec<_> = operations.into_iter().map(BulkOperation::parse).collect();
        let mut seen = HashSet::new();
        let repeated = operations
            .iter()
            .filter_map(|o| o.bulk_id.as_ref())
            .any(|id| !seen.insert(id));
        if repeated {
            return Err(syntax(
                "Each 'bulkId' of a Bulk request must be another one.",
            ));
        }
        Ok(Self {
            fail_on_errors,
            operations,
        })
    }

    /// The order in which to execute: as sent, but what is referred to before what refers to it.
    /// Operations on a circle of references come last, in the order in which they were sent.
    #[must_use]
    pub fn order(&self) -> Vec<usize> {
        let by_bulk_id: HashMap<&str, usize> = self
            .operations
            .iter()
            .enumerate()
            .filter_map(|(at, operation)| Some((operation.bulk_id.as_deref()?, at)))
            .collect();
        let needs: Vec<HashSet<usize>> = self
            .operations
            .iter()
            .map(|operation| {
                let references = operation.references();
                references
                    .iter()
                    .filter_map(|id| by_bulk_id.get(id.as_str()).copied())
                    .collect()
            })
            .collect();
        let (mut order, mut done) = (Vec::with_capacity(needs.len()), HashSet::new());
        loop {
            let before = order.len();
            for (at, needs) in needs.iter().enumerate() {
                if !done.contains(&at) && needs.iter().all(|n| done.contains(n)) {
                    done.insert(at);
                    order.push(at);
                }
            }
            if order.len() == before {
                break;
            }
        }
        order.extend((0..needs.len()).filter(|at| !done.contains(at)));
        order
    }
}

impl BulkOperation {
    fn parse(operation: Value) -> Self {
        let Value::Object(operation) = operation else {
            let action = Err(syntax("Each of the 'Operations' must be an object."));
            return Self {
                method: String::new(),
                bulk_id: None,
                version: None,
                action,
            };
        };
        let (mut method, mut bulk_id, mut version, mut path, mut data) = Default::default();
        for (name, value) in operation {
            let slot: &mut Option<Value> = match name.to_ascii_lowercase().as_str() {
                "method" => &mut method,
                "bulkid" => &mut bulk_id,
                "version" => &mut version,
                "path" => &mut path,
                "data" => &mut data,
                _ => continue,
            };
            *slot = Some(value);
        }
        let text = |value: Option<Value>| match value {
            Some(Value::String(text)) if !text.is_empty() => Some(text),
            _ => None,
        };
        let (method, bulk_id) = (text(method).unwrap_or_default(), text(bulk_id));
        let action = BulkAction::parse(&method, bulk_id.as_deref(), text(path), data);
        Self {
            method,
            bulk_id,
            version: text(version),
            action,
        }
    }

    /// The bulkIds that the operation refers to.
    #[must_use]
    pub fn references(&self) -> HashSet<String> {
        let mut found = HashSet::new();
        let mut note = |text: &str| {
            if let Some(id) = text.strip_prefix(REFERENCE) {
                found.insert(id.to_owned());
            }
        };
        match &self.action {
            Err(_) => {}
            Ok(BulkAction::Delete(_, id)) => note(id),
            Ok(BulkAction::Create(_, data)) => visit(data, &mut note),
            Ok(BulkAction::Replace(_, id, data) | BulkAction::Patch(_, id, data)) => {
                note(id);
                visit(data, &mut note);
            }
        }
        found
    }
}

impl BulkAction {
    fn parse(
        method: &str,
        bulk_id: Option<&str>,
        path: Option<String>,
        data: Option<Value>,
    ) -> Result<Self, ScimError> {
        let path = path.ok_or_else(|| syntax("A Bulk operation must have a 'path'."))?;
        let mut segments = path.split('/').filter(|segment| !segment.is_empty());
        let endpoint = segments.next().unwrap_or_default();
        let kinds = [ResourceKind::User, ResourceKind::Group];
        let kind = kinds
            .into_iter()
            .find(|kind| kind.endpoint().strip_prefix('/') == Some(endpoint));
        let kind = kind.ok_or_else(|| {
            syntax("The 'path' of a Bulk operation must start with /Users or /Groups.")
        })?;
        let id = segments.next().map(str::to_owned);
        if segments.next().is_some() {
            return Err(syntax(
                "The 'path' of a Bulk operation must be an endpoint or a resource.",
            ));
        }
        let with_id = || {
            id.clone()
                .ok_or_else(|| syntax("The 'path' of this Bulk operation must name a resource."))
        };
        let with_data = || match data {
            Some(Value::Object(data)) => Ok(data),
            _ => Err(syntax("This Bulk operation must have an object 'data'.")),
        };
        if method.eq_ignore_ascii_case("POST") {
            if id.is_some() {
                return Err(syntax("The 'path' of a POST must be an endpoint."));
            }
            if bulk_id.is_none() {
                return Err(syntax("A POST in a Bulk request must have a 'bulkId'."));
            }
            return Ok(Self::Create(kind, with_data()?));
        }
        if method.eq_ignore_ascii_case("PUT") {
            Ok(Self::Replace(kind, with_id()?, with_data()?))
        } else if method.eq_ignore_ascii_case("PATCH") {
            Ok(Self::Patch(kind, with_id()?, with_data()?))
        } else if method.eq_ignore_ascii_case("DELETE") {
            Ok(Self::Delete(kind, with_id()?))
        } else {
            Err(syntax(
                "The 'method' of a Bulk operation must be POST, PUT, PATCH or DELETE.",
            ))
        }
    }

    /// Puts ids in the place of references.
    ///
    /// # Errors
    /// 409 where a reference cannot be resolved (RFC 7644 section 3.7.2).
    pub fn resolve(&mut self, ids: &HashMap<String, String>) -> Result<(), ScimError> {
        let mut unresolved = false;
        let mut put = |text: &mut String| {
            if let Some(reference) = text.strip_prefix(REFERENCE) {
                match ids.get(reference) {
                    Some(id) => *text = id.clone(),
                    None => unresolved = true,
                }
            }
        };
        match self {
            Self::Delete(_, id) => put(id),
            Self::Create(_, data) => visit_mut(data, &mut put),
            Self::Replace(_, id, data) | Self::Patch(_, id, data) => {
                put(id);
                visit_mut(data, &mut put);
            }
        }
        if unresolved {
            Err(ScimError::new(
                409,
                "A bulkId that this operation refers to was not created.",
            ))
        } else {
            Ok(())
        }
    }
}

/// Takes the references to operations that are not done yet out of a new resource: a group's
/// members, a user's manager. Answers the PATCH operation that makes up for them. `comes` says of
/// a bulkId whether its operation is still to be done.
#[must_use]
pub fn take_references(
    kind: ResourceKind,
    data: &mut Map<String, Value>,
    comes: &impl Fn(&str) -> bool,
) -> Option<Value> {
    let waits = |value: &Value| {
        let reference = member_text(value).and_then(|text| text.strip_prefix(REFERENCE));
        reference.is_some_and(comes)
    };
    match kind {
        ResourceKind::Group => {
            let is_members = |name: &str| {
                name.rsplit(':')
                    .next()
                    .is_some_and(|name| name.eq_ignore_ascii_case("members"))
            };
            let mut missing = Vec::new();
            for (_, members) in data.iter_mut().filter(|(name, _)| is_members(name)) {
                let Value::Array(members) = members else {
                    continue;
                };
                missing.extend(members.iter().filter(|member| waits(member)).cloned());
                members.retain(|member| !waits(member));
            }
            (!missing.is_empty()).then(|| json!({"op": "add", "path": "members", "value": missing}))
        }
        ResourceKind::User => {
            for extension in data.values_mut().filter_map(Value::as_object_mut) {
                let is_manager = |name: &&String| name.eq_ignore_ascii_case("manager");
                let Some(name) = extension.keys().find(is_manager).cloned() else {
                    continue;
                };
                if extension.get(&name).is_some_and(waits) {
                    let manager = extension.shift_remove(&name)?;
                    return Some(json!({"op": "add", "path": "manager", "value": manager}));
                }
            }
            None
        }
    }
}

/// Visits every string below an object. The tree is at most 32 deep ([`super::json`]).
fn visit(object: &Map<String, Value>, see: &mut impl FnMut(&str)) {
    let mut pending: Vec<&Value> = object.values().collect();
    while let Some(value) = pending.pop() {
        match value {
            Value::String(text) => see(text),
            Value::Array(elements) => pending.extend(elements),
            Value::Object(object) => pending.extend(object.values()),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// Like [`visit`], to change them.
fn visit_mut(object: &mut Map<String, Value>, see: &mut impl FnMut(&mut String)) {
    let mut pending: Vec<&mut Value> = object.values_mut().collect();
    while let Some(value) = pending.pop() {
        match value {
            Value::String(text) => see(text),
            Value::Array(elements) => pending.extend(elements),
            Value::Object(object) => pending.extend(object.values_mut()),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// The outcome of one operation.
#[derive(Clone, Debug, PartialEq)]
pub struct BulkOutcome {
    /// HTTP status that the operation would have had alone.
    pub status: u16,
    /// Where the resource is, if there is one.
    pub location: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// What went wrong.
    pub error: Option<ScimError>,
}

/// The Bulk response: an entry for each operation that was tried, in the order of the request.
#[must_use]
pub fn bulk_response(outcomes: &[(&BulkOperation, BulkOutcome)]) -> Value {
    let entries: Vec<Value> = outcomes
        .iter()
        .map(|(operation, outcome)| {
            let mut entry = Map::new();
            entry.insert(
                "method".to_owned(),
                operation.method.to_ascii_uppercase().into(),
            );
            let mut put = |name: &str, value: Option<&str>| {
                if let Some(value) = value {
                    entry.insert(name.to_owned(), value.into());
                }
            };
            put("bulkId", operation.bulk_id.as_deref());
            put("location", outcome.location.as_deref());
            put("version", outcome.version.as_deref());
            put("status", Some(&outcome.status.to_string()));
            if let Some(error) = &outcome.error {
                let body = serde_json::from_str(&error.body(shared::Dialect::Scim20));
                entry.insert("response".to_owned(), body.unwrap_or(Value::Null));
            }
            Value::Object(entry)
        })
        .collect();
    json!({"schemas": [urn::BULK_RESPONSE], "Operations": entries})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(operations: Value) -> BulkRequest {
        BulkRequest::parse(
            json!({"Operations": operations})
                .as_object()
                .unwrap()
                .clone(),
        )
        .unwrap()
    }

    #[test]
    fn what_is_referred_to_comes_first() {
        let bulk = request(json!([
            {"method": "POST", "path": "/Groups", "bulkId": "g", "data": {"members": [{"value": "bulkId:u"}]}},
            {"method": "POST", "path": "/Users", "bulkId": "u", "data": {"userName": "b"}},
            {"method": "DELETE", "path": "/Users/bulkId:u"},
        ]));
        assert_eq!(bulk.order(), [1, 2, 0]);
        let circle = request(json!([
            {"method": "POST", "path": "/Groups", "bulkId": "a", "data": {"members": [{"value": "bulkId:b"}]}},
            {"method": "POST", "path": "/Groups", "bulkId": "b", "data": {"members": [{"value": "bulkId:a"}]}},
        ]));
        assert_eq!(circle.order(), [0, 1]);
    }

    #[test]
    fn references_become_ids_or_conflicts() {
        let bulk = request(json!([
            {"method": "PUT", "path": "/Users/bulkId:u", "data": {"manager": {"value": "bulkId:m"}}},
        ]));
        let mut action = bulk.operations[0].action.clone().unwrap();
        let ids = HashMap::from([("u".to_owned(), "1".to_owned())]);
        assert_eq!(action.clone().resolve(&ids).unwrap_err().status, 409);
        let ids = HashMap::from([
            ("u".to_owned(), "1".to_owned()),
            ("m".to_owned(), "2".to_owned()),
        ]);
        action.resolve(&ids).unwrap();
        let Value::Object(data) = json!({"manager": {"value": "2"}}) else {
            panic!()
        };
        assert_eq!(
            action,
            BulkAction::Replace(ResourceKind::User, "1".into(), data)
        );
    }

    #[test]
    fn a_malformed_operation_fails_alone() {
        let bulk = request(json!([
            1, {"method": "POST", "path": "/Users", "data": {}}, {"method": "MOVE", "path": "/Users/1"},
            {"method": "PUT", "path": "/Users", "data": {}}, {"method": "POST", "path": "/Users", "bulkId": "x"},
            {"method": "DELETE", "path": "/Other/1"}, {"method": "delete", "path": "/Users/1"},
        ]));
        let good: Vec<bool> = bulk.operations.iter().map(|o| o.action.is_ok()).collect();
        assert_eq!(good, [false, false, false, false, false, false, true]);
    }

    #[test]
    fn what_is_no_bulk_request_is_refused() {
        for body in [
            json!({}),
            json!({"Operations": {}}),
            json!({"Operations": [], "failOnErrors": 0}),
            json!({"Operations": [{"bulkId": "a"}, {"bulkId": "a"}]}),
        ] {
            assert_eq!(
                BulkRequest::parse(body.as_object().unwrap().clone())
                    .unwrap_err()
                    .status,
                400
            );
        }
        let many = json!({"Operations": vec![json!({}); 1001]});
        assert_eq!(
            BulkRequest::parse(many.as_object().unwrap().clone())
                .unwrap_err()
                .status,
            413
        );
    }
}
