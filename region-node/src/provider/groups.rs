//! What is particular about storing groups.

use serde_json::{Value, json};
use shared::ScimError;

use super::settings::Profile;
use crate::scim::document::{self, Derived, Tree, check_identifier};
use crate::scim::{ResourceId, ResourceKind, text};
use crate::store::{Content, Keys, MemberChange, Related};

/// What is stored of a group.
pub(super) fn content(
    id: ResourceId,
    tree: &Tree,
    members: Vec<MemberChange>,
    profile: &Profile,
) -> Result<Content, ScimError> {
    // Members are rows of their own, never a part of the document.
    let mut tree = tree.clone();
    tree.shift_remove("members");
    let tree = &tree;
    if let Some(display_name) = tree.get("displayName").and_then(Value::as_str) {
        check_identifier("displayName", display_name)?;
    }
    Ok(Content {
        keys: keys(tree, profile),
        document: document::to_document(profile.schema(ResourceKind::Group), id, tree),
        members,
        changed: Vec::new(),
    })
}

/// What a group is found by.
pub(super) fn keys(tree: &Tree, profile: &Profile) -> Keys {
    let text_of = |name: &str| tree.get(name).and_then(Value::as_str);
    Keys {
        user_name: None,
        user_name_look_alike: None,
        external_id: text_of("externalId").map(str::to_owned),
        display_name: text_of("displayName").map(|name| text::key(name).into_owned()),
        active: true,
        attributes: super::own_keys(profile, ResourceKind::Group, tree),
    }
}

/// `members` of a group. There even where it is empty: clients that merge look for it.
pub(super) fn members(members: &[Related], base_url: &str) -> Derived {
    let show = |member: &Related| self::member(member.id, member.kind, base_url);
    let elements: Vec<Value> = members.iter().map(show).collect();
    Derived {
        attribute: "members",
        elements: elements.into(),
    }
}

/// One of a group's `members`.
pub(super) fn member(id: ResourceId, kind: ResourceKind, base_url: &str) -> Value {
    json!({
        "value": id.to_string(),
        "$ref": reference(base_url, kind, id),
        "type": kind.name(),
    })
}

/// One of a user's `groups`.
pub(super) fn membership(
    id: ResourceId,
    display: Option<&Value>,
    kind: &str,
    base_url: &str,
) -> Value {
    let mut element = json!({
        "value": id.to_string(),
        "$ref": reference(base_url, ResourceKind::Group, id),
        "type": kind,
    });
    if let (Value::Object(element), Some(display)) = (&mut element, display) {
        element.insert("display".to_owned(), display.clone());
    }
    element
}

fn reference(base_url: &str, kind: ResourceKind, id: ResourceId) -> String {
    format!("{base_url}{}/{id}", kind.endpoint())
}
