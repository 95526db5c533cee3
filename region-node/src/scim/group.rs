//! What is particular about groups: members are changed by deltas, so that adding one to a
//! group of 100,000 costs what adding one costs, and concurrent changes are all kept.
//!
//! A PATCH is split here into changes of members and everything else, before anything is read.

use serde_json::{Map, Value};
use shared::{ScimError, ScimType};

use super::filter::Filter;
use super::patch::{Operation, PatchError, PatchRequest, Verb};
use super::path::{AttributePath, Path};
use super::resource::ResourceId;
use super::schema::GROUP;
use super::tolerance::{Notes, Tolerance};

/// One change of a group's members, as a client asks for it. They apply in order.
#[derive(Clone, Debug, PartialEq)]
pub enum MemberPatch {
    /// These are members; those who are already stay.
    Add(Vec<ResourceId>),
    /// These are not; those who are not already are no matter.
    Remove(Vec<ResourceId>),
    /// These are, and nobody else.
    Replace(Vec<ResourceId>),
    /// Those whom a filter fits are not.
    RemoveMatching(Filter),
}

/// A PATCH of a group, split.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupPatch {
    /// What it does to members.
    pub members: Vec<MemberPatch>,
    /// What it does to everything else.
    pub rest: PatchRequest,
}

impl GroupPatch {
    /// Splits a PATCH.
    ///
    /// # Errors
    /// 400 where a path cannot be read, or a member is no id.
    pub fn split(patch: PatchRequest, notes: &mut Notes) -> Result<Self, ScimError> {
        let mut members = Vec::new();
        let mut rest = Vec::new();
        for operation in patch.operations {
            match operation.path.as_deref() {
                None => {
                    let (change, other) = split_value(operation)?;
                    members.extend(change);
                    rest.extend(other);
                }
                Some(text) => match Path::parse(&GROUP, text).map_err(PatchError::from)? {
                    Path::Attribute(path) if path.located.attribute.name == "members" => {
                        members.push(member_patch(&path, &operation, notes)?);
                    }
                    _ => rest.push(operation),
                },
            }
        }
        Ok(Self {
            members,
            rest: PatchRequest { operations: rest },
        })
    }
}

/// `members` in the value of an operation without a path.
fn split_value(
    mut operation: Operation,
) -> Result<(Option<MemberPatch>, Option<Operation>), ScimError> {
    let Some(Value::Object(value)) = &mut operation.value else {
        return Ok((None, Some(operation)));
    };
    let Some(ids) = take_members(value)? else {
        return Ok((None, Some(operation)));
    };
    let change = match operation.verb {
        Verb::Add => MemberPatch::Add(ids),
        Verb::Replace => MemberPatch::Replace(ids),
        Verb::Remove => return Err(PatchError::RemoveWithoutPath.into()),
    };
    let left = !value.is_empty();
    Ok((Some(change), left.then_some(operation)))
}

fn member_patch(
    path: &AttributePath<'_>,
    operation: &Operation,
    notes: &mut Notes,
) -> Result<MemberPatch, ScimError> {
    if path
        .sub_attribute
        .is_some_and(|sub_attribute| sub_attribute.name != "value")
    {
        return Err(immutable());
    }
    let sent = operation.value.clone();
    let Some(filter) = &path.filter else {
        return Ok(match (operation.verb, sent) {
            (Verb::Add, sent) => MemberPatch::Add(member_ids(sent.unwrap_or_default())?),
            (Verb::Replace, sent) => MemberPatch::Replace(member_ids(sent.unwrap_or_default())?),
            // No value at all means all of them; an empty list means none of them.
            (Verb::Remove, None | Some(Value::Null)) => MemberPatch::Replace(Vec::new()),
            (Verb::Remove, Some(sent)) => {
                notes.note_of(Tolerance::RemoveByValue, "members");
                MemberPatch::Remove(known_ids(sent))
            }
        });
    };
    if operation.verb != Verb::Remove {
        return Err(immutable());
    }
    Ok(match filter.alternatives("value") {
        Some(ids) => {
            let ids = ids.into_iter().filter_map(|id| ResourceId::parse(id).ok());
            MemberPatch::Remove(ids.collect())
        }
        None => MemberPatch::RemoveMatching(filter.clone()),
    })
}

fn immutable() -> ScimError {
    let detail = "A member cannot be changed, only added or removed.";
    ScimError::typed(400, ScimType::Mutability, detail)
}

/// Takes `members` out of an object, under every spelling of its name. `None` where it says
/// nothing about members (missing, or null), which leaves them as they are: a client that does
/// not map members must not empty the group.
///
/// # Errors
/// 400 `invalidValue` where one is no member at all, 400 `mutability` for a part of a member.
pub fn take_members(object: &mut Map<String, Value>) -> Result<Option<Vec<ResourceId>>, ScimError> {
    flatten_core(object);
    let names: Vec<String> = object.keys().cloned().collect();
    let mut ids = None;
    for name in names {
        let Ok(Path::Attribute(path)) = Path::parse(&GROUP, &name) else {
            continue;
        };
        if path.located.attribute.name != "members" {
            continue;
        }
        let sent = object.shift_remove(&name).unwrap_or_default();
        if path.filter.is_some() || path.sub_attribute.is_some_and(|s| s.name != "value") {
            return Err(immutable());
        }
        if !sent.is_null() {
            ids.get_or_insert_with(Vec::new).extend(member_ids(sent)?);
        }
    }
    Ok(ids)
}

/// Brings the members of an object under the core schema's URN to where they belong.
fn flatten_core(object: &mut Map<String, Value>) {
    let is_core = |name: &&String| matches!(Path::parse(&GROUP, name), Ok(Path::Core));
    let Some(name) = object.keys().find(is_core).cloned() else {
        return;
    };
    if let Some(Value::Object(core)) = object.get(&name) {
        let core = core.clone();
        object.shift_remove(&name);
        object.extend(core);
    }
}

/// The ids in a list of members: objects with `value`, or plain ids; or one of them. What is no id
/// of ours is nobody's, and passed over, as the id of somebody who was deleted is.
fn member_ids(sent: Value) -> Result<Vec<ResourceId>, ScimError> {
    let mut ids = Vec::new();
    for member in elements(sent) {
        let text = member_text(&member).ok_or_else(|| {
            ScimError::typed(
                400,
                ScimType::InvalidValue,
                "Each of 'members' must be an object with a 'value', the id of a user or group.",
            )
        })?;
        ids.extend(ResourceId::parse(text));
    }
    Ok(ids)
}

/// The ids in a list of members to be removed.
fn known_ids(sent: Value) -> Vec<ResourceId> {
    let sent = elements(sent);
    let texts = sent.iter().filter_map(member_text);
    texts
        .filter_map(|text| ResourceId::parse(text).ok())
        .collect()
}

fn elements(sent: Value) -> Vec<Value> {
    match sent {
        Value::Array(elements) => elements,
        Value::Null => Vec::new(),
        one => vec![one],
    }
}

/// The text that an element is sent for: of an object its `value`, in any case, or the element
/// itself.
pub(super) fn member_text(member: &Value) -> Option<&str> {
    let text = match member {
        Value::String(text) => text.as_str(),
        Value::Object(object) => object
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case("value"))?
            .1
            .as_str()?,
        _ => return None,
    };
    Some(text.trim())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const A: &str = "00000000-0000-4000-8000-00000000000a";
    const B: &str = "00000000-0000-4000-8000-00000000000b";

    fn id(text: &str) -> ResourceId {
        ResourceId::parse(text).unwrap()
    }

    fn split(operations: Value) -> GroupPatch {
        let body = json!({"Operations": operations});
        let notes = &mut Notes::default();
        let patch = PatchRequest::parse(body.as_object().unwrap().clone(), notes).unwrap();
        GroupPatch::split(patch, notes).unwrap()
    }

    #[test]
    fn members_are_added_and_removed_in_every_clients_form() {
        use MemberPatch::{Add, Remove, Replace};
        for (operation, change) in [
            (
                json!({"op": "Add", "path": "members", "value": [{"$ref": null, "value": A}]}),
                Add(vec![id(A)]),
            ),
            (
                json!({"op": "add", "path": "members", "value": {"value": A}}),
                Add(vec![id(A)]),
            ),
            (
                json!({"op": "add", "path": "members", "value": A}),
                Add(vec![id(A)]),
            ),
            (
                json!({"op": "add", "value": {"members": [{"value": A}, {"Value": B}]}}),
                Add(vec![id(A), id(B)]),
            ),
            (
                json!({"op": "replace", "value": {"urn:ietf:params:scim:schemas:core:2.0:Group:members": [A]}}),
                Replace(vec![id(A)]),
            ),
            (
                json!({"op": "replace", "path": "members", "value": []}),
                Replace(vec![]),
            ),
            (
                json!({"op": "Remove", "path": "members", "value": [{"value": A}]}),
                Remove(vec![id(A)]),
            ),
            (
                json!({"op": "Remove", "path": "members", "value": []}),
                Remove(vec![]),
            ),
            (
                json!({"op": "remove", "path": "members", "value": [{"value": "nobody"}]}),
                Remove(vec![]),
            ),
            (json!({"op": "remove", "path": "members"}), Replace(vec![])),
            (
                json!({"op": "remove", "path": format!("members[value eq \"{A}\"]")}),
                Remove(vec![id(A)]),
            ),
            (
                json!({"op": "remove", "path": format!("members[value eq \"{A}\" or value eq \"{B}\"]")}),
                Remove(vec![id(A), id(B)]),
            ),
        ] {
            let shown = operation.to_string();
            let patch = split(json!([operation]));
            assert_eq!(patch.members, [change], "{shown}");
            assert!(patch.rest.is_empty(), "{shown}");
        }
    }

    #[test]
    fn members_have_one_spelling_and_no_parts_that_change() {
        let refused = |operation: Value| {
            let body = json!({"Operations": [operation]});
            let notes = &mut Notes::default();
            let patch = PatchRequest::parse(body.as_object().unwrap().clone(), notes).unwrap();
            GroupPatch::split(patch, notes).unwrap_err().scim_type
        };
        for operation in [
            json!({"op": "remove", "path": "members.type"}),
            json!({"op": "remove", "path": format!("members[value eq \"{A}\"].$ref")}),
            json!({"op": "replace", "path": format!("members[value eq \"{A}\"].type"), "value": "Group"}),
            json!({"op": "add", "value": {"members[value eq \"ghost\"].type": "User"}}),
        ] {
            assert_eq!(refused(operation), Some(ScimType::Mutability));
        }
        let body = json!({
            "members": [A], "urn:ietf:params:scim:schemas:core:2.0:Group:members": [B],
            "urn:ietf:params:scim:schemas:core:2.0:Group": {"displayName": "T"},
        });
        let mut body = body.as_object().unwrap().clone();
        assert_eq!(take_members(&mut body).unwrap(), Some(vec![id(A), id(B)]));
        assert_eq!(Value::Object(body), json!({"displayName": "T"}));
    }

    #[test]
    fn the_rest_of_a_patch_stays() {
        let patch = split(json!([
            {"op": "replace", "value": {"id": A, "displayName": "Team"}},
            {"op": "replace", "value": {"members": [], "displayName": "Team 2"}},
            {"op": "replace", "path": "externalId", "value": "x"},
        ]));
        assert_eq!(patch.members, [MemberPatch::Replace(vec![])]);
        assert_eq!(patch.rest.operations.len(), 3);
    }

    #[test]
    fn a_put_that_does_not_name_members_leaves_them() {
        let of = |body: Value| take_members(&mut body.as_object().unwrap().clone()).unwrap();
        assert_eq!(of(json!({"displayName": "T"})), None);
        assert_eq!(of(json!({"displayName": "T", "members": null})), None);
        assert_eq!(of(json!({"Members": []})), Some(vec![]));
        assert_eq!(
            of(json!({"members": [{"value": A, "display": "a"}]})),
            Some(vec![id(A)])
        );
        assert_eq!(of(json!({"members": [{"value": "x"}]})), Some(vec![]));
        assert!(take_members(&mut json!({"members": [7]}).as_object().unwrap().clone()).is_err());
    }
}
