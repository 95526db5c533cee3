//! What is particular about storing users.

use serde_json::{Map, Value};
use shared::ScimError;

use super::settings::Profile;
use crate::scim::document::{self, Tree};
use crate::scim::patch::PatchError;
use crate::scim::{Notes, ResourceId, ResourceKind, text, user};
use crate::store::{Content, Keys, UserNameRule};

/// The tree of a whole user; `current` where there is one already.
pub(super) fn tree(
    profile: &Profile,
    body: Map<String, Value>,
    current: Option<&Tree>,
    notes: &mut Notes,
) -> Result<Tree, PatchError> {
    let mut tree = document::from_body(profile.schema(ResourceKind::User), body, notes)?;
    user::complete(&mut tree, current, notes);
    Ok(tree)
}

/// What is stored of a user.
pub(super) fn content(
    id: ResourceId,
    tree: &Tree,
    profile: &Profile,
) -> Result<Content, ScimError> {
    user::check(tree, profile.settings.user_name == UserNameRule::Email)?;
    Ok(Content {
        keys: keys(tree, profile),
        document: document::to_document(profile.schema(ResourceKind::User), id, tree),
        members: Vec::new(),
        changed: Vec::new(),
    })
}

/// What a user is found by.
pub(super) fn keys(tree: &Tree, profile: &Profile) -> Keys {
    let text_of = |name: &str| tree.get(name).and_then(Value::as_str);
    let key_of = |name: &str| text_of(name).map(|value| text::key(value).into_owned());
    let emails = user::email_keys(tree)
        .into_iter()
        .map(|key| (user::EMAILS_VALUE.to_owned(), key));
    let own = super::own_keys(profile, ResourceKind::User, tree);
    Keys {
        user_name: key_of("userName"),
        user_name_look_alike: text_of("userName").and_then(text::look_alike_key),
        external_id: text_of("externalId").map(str::to_owned),
        display_name: key_of("displayName"),
        active: user::is_active(tree),
        attributes: emails.chain(own).collect(),
    }
}
