//! A resource as a tree: made from a body, kept as text, shown with `meta`.
//!
//! The tree holds what a client may set, under canonical names and with the attributes' types:
//! core attributes by name, an extension's attributes in an object under its URN. The stored
//! document is the tree behind `schemas` and `id`; `meta` is derived, and spliced in when shown.

use std::fmt::Write as _;

use serde_json::{Map, Value};
use shared::Timestamp;

use super::patch::{self, PatchError};
use super::resource::{ResourceId, ResourceKind, Version};
use super::schema::ResourceSchema;
use super::tolerance::Notes;
use super::{datetime, text};

/// The tree of a resource. See the module's front page for its shape.
pub type Tree = Map<String, Value>;

/// Makes the tree of a body that describes a whole resource (POST, PUT). What the schema does
/// not know and what is read-only is dropped; `null` and blank mean "none".
///
/// # Errors
/// [`PatchError::Value`] where a value does not fit, [`PatchError::Missing`] where a required
/// attribute has none.
pub fn from_body(
    schema: &ResourceSchema,
    body: Map<String, Value>,
    notes: &mut Notes,
) -> Result<Tree, PatchError> {
    let mut tree = Tree::new();
    patch::assign_members(schema, &mut tree, body, notes)?;
    if let Some(attribute) = first_missing(schema, &tree) {
        return Err(PatchError::Missing {
            attribute: attribute.to_owned(),
        });
    }
    Ok(tree)
}

/// The first required attribute that has no value.
#[must_use]
pub fn first_missing<'s>(schema: &'s ResourceSchema, tree: &Tree) -> Option<&'s str> {
    let mut required = schema.core.attributes.iter().filter(|a| a.required);
    required
        .find(|a| !tree.contains_key(&a.name))
        .map(|a| a.name.as_str())
}

/// The text under which a tree is stored: `schemas`, `id`, the attributes in the schema's order,
/// extensions. The same tree always gives the same text.
#[must_use]
pub fn to_document(schema: &ResourceSchema, id: ResourceId, tree: &Tree) -> String {
    let mut document = Tree::new();
    let extensions = schema
        .extensions
        .iter()
        .filter(|e| tree.contains_key(&e.urn));
    let mut urns = vec![Value::from(schema.core.urn.as_str())];
    urns.extend(extensions.clone().map(|e| Value::from(e.urn.as_str())));
    document.insert("schemas".to_owned(), urns.into());
    document.insert("id".to_owned(), id.to_string().into());
    for attribute in schema.common.iter().chain(&schema.core.attributes) {
        if let Some(value) = tree.get(&attribute.name) {
            document
                .entry(&attribute.name)
                .or_insert_with(|| value.clone());
        }
    }
    for extension in extensions {
        let Some(Value::Object(held)) = tree.get(&extension.urn) else {
            continue;
        };
        let names = extension.attributes.iter().map(|a| &a.name);
        let ordered = names.filter_map(|name| Some((name.clone(), held.get(name)?.clone())));
        document.insert(extension.urn.clone(), Value::Object(ordered.collect()));
    }
    Value::Object(document).to_string()
}

/// The stored document is not what [`to_document`] writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a stored document cannot be read")]
pub struct DocumentError;

/// The tree of a stored document.
///
/// # Errors
/// [`DocumentError`] if the store holds something that this program never wrote.
pub fn from_document(document: &str) -> Result<Tree, DocumentError> {
    let mut tree: Tree = serde_json::from_str(document).map_err(|_| DocumentError)?;
    tree.shift_remove("schemas");
    tree.shift_remove("id");
    Ok(tree)
}

/// Names of the attributes in which two trees differ: core attributes by name, an extension's by
/// URN, a colon and name.
#[must_use]
pub fn changed(schema: &ResourceSchema, before: &Tree, after: &Tree) -> Vec<String> {
    let empty = Tree::new();
    let mut changed = names_of_different(before, after);
    for extension in &schema.extensions {
        let Some(at) = changed.iter().position(|name| *name == extension.urn) else {
            continue;
        };
        changed.remove(at);
        let part = |tree| Tree::get(tree, &extension.urn).and_then(Value::as_object);
        let (before, after) = (part(before), part(after));
        let names = names_of_different(before.unwrap_or(&empty), after.unwrap_or(&empty));
        changed.extend(names.iter().map(|name| format!("{}:{name}", extension.urn)));
    }
    changed
}

fn names_of_different(before: &Tree, after: &Tree) -> Vec<String> {
    let gone = before.keys().filter(|name| !after.contains_key(*name));
    let others = after
        .iter()
        .filter(|(name, value)| before.get(*name) != Some(*value));
    gone.chain(others.map(|(name, _)| name)).cloned().collect()
}

/// A resource without what the schema does not have (any more). `schemas` names what is left.
#[must_use]
pub fn known(schema: &ResourceSchema, mut tree: Tree) -> Tree {
    let is_known = |name: &str| {
        schema.core_attribute(name).is_some() || schema.extensions.iter().any(|e| e.urn == name)
    };
    tree.retain(|name, _| is_known(name));
    if let Some(Value::Array(urns)) = tree.get_mut("schemas") {
        urns.retain(|urn| {
            urn.as_str()
                .is_some_and(|urn| urn == schema.core.urn || is_known(urn))
        });
    }
    tree
}

/// A list that is derived from other resources: a group's `members`, a user's `groups`.
#[derive(Clone, Debug, PartialEq)]
pub struct Derived {
    /// The attribute's name.
    pub attribute: &'static str,
    /// Its elements.
    pub elements: Value,
}

/// Characters of `meta` as text, and a few to spare; the base URL is not counted.
const META_LENGTH: usize = 260;

/// What is derived of every resource, and so not in its document.
#[derive(Clone, Copy, Debug)]
pub struct Meta {
    /// `meta.resourceType`.
    pub kind: ResourceKind,
    /// The resource's id, for `meta.location`.
    pub id: ResourceId,
    /// `meta.created`.
    pub created: Timestamp,
    /// `meta.lastModified`.
    pub modified: Timestamp,
    /// `meta.version`.
    pub version: Version,
}

impl Meta {
    /// `meta.location`: the URI of the resource.
    #[must_use]
    pub fn location(&self, base_url: &str) -> String {
        format!("{base_url}{}/{}", self.kind.endpoint(), self.id)
    }

    fn to_json(self, base_url: &str) -> Value {
        serde_json::json!({
            "resourceType": self.kind.name(),
            "created": datetime::format(self.created),
            "lastModified": datetime::format(self.modified),
            "version": self.version.to_string(),
            "location": self.location(base_url),
        })
    }

    /// The whole resource as a client sees it, as text: the document with what is derived
    /// spliced in. No tree is built of it, which is what makes a page of 100 cheap.
    #[must_use]
    pub fn splice(&self, document: &str, derived: Option<&Derived>, base_url: &str) -> String {
        let open = document.strip_suffix('}').unwrap_or(document);
        let mut text = String::with_capacity(document.len() + base_url.len() + META_LENGTH);
        text.push_str(open);
        let write = |text: &mut String| {
            if let Some(derived) = derived {
                let Derived {
                    attribute,
                    elements,
                } = derived;
                write!(text, ",\"{attribute}\":{elements}")?;
            }
            // A base URL holds nothing that JSON would escape, and neither does the rest.
            write!(
                text,
                ",\"meta\":{{\"resourceType\":\"{}\",\"created\":\"{}\",\"lastModified\":\"{}\",\
                 \"version\":\"W/\\\"{}\\\"\",\"location\":\"{base_url}{}/{}\"}}}}",
                self.kind.name(),
                datetime::Written(self.created),
                datetime::Written(self.modified),
                self.version.0,
                self.kind.endpoint(),
                self.id,
            )
        };
        // Memory takes all that is written.
        let _infallible = write(&mut text);
        text
    }

    /// The whole resource as a client sees it, as a tree, for filters and projections.
    ///
    /// # Errors
    /// [`DocumentError`] if the store holds something that this program never wrote.
    pub fn to_tree(
        &self,
        document: &str,
        derived: Option<&Derived>,
        base_url: &str,
    ) -> Result<Tree, DocumentError> {
        let mut tree: Tree = serde_json::from_str(document).map_err(|_| DocumentError)?;
        if let Some(Derived {
            attribute,
            elements,
        }) = derived
        {
            tree.insert((*attribute).to_owned(), elements.clone());
        }
        tree.insert("meta".to_owned(), self.to_json(base_url));
        Ok(tree)
    }
}

/// An identifier holds a character that it must not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{attribute}' holds an invisible, reordering or control character.")]
pub struct IdentifierError {
    attribute: &'static str,
}

/// Refuses identifiers that look like others or cannot be seen (failure class 73).
///
/// # Errors
/// [`IdentifierError`], for a 400 `invalidValue`.
pub fn check_identifier(attribute: &'static str, value: &str) -> Result<(), IdentifierError> {
    if value.chars().any(text::is_deceptive) {
        Err(IdentifierError { attribute })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::schema::USER;
    use super::*;

    fn tree(body: Value) -> Tree {
        let Value::Object(body) = body else {
            panic!("an object")
        };
        from_body(&USER, body, &mut Notes::default()).unwrap()
    }

    #[test]
    fn changed_attributes_are_named() {
        let enterprise = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";
        let before = tree(json!({
            "userName": "a", "title": "x", "nickName": "n",
            enterprise: {"department": "d", "costCenter": "1"},
        }));
        let after = tree(json!({
            "userName": "a", "title": "y", "locale": "de",
            enterprise: {"department": "e", "costCenter": "1"},
        }));
        let department = format!("{enterprise}:department");
        let expected = ["nickName", "title", "locale", &department];
        assert_eq!(changed(&USER, &before, &after), expected);
        assert!(changed(&USER, &before, &before).is_empty());
    }

    #[test]
    fn unknown_read_only_null_and_blank_are_dropped() {
        let tree = tree(json!({
            "schemas": ["urn:whatever"], "id": "forged", "meta": {"version": "1"}, "groups": [{"value": "x"}],
            "USERNAME": "bjensen", "password": "secret", "favouriteColour": "red", "title": null,
            "nickName": "", "phoneNumbers": [], "addresses": null, "timeZone": "Europe/Berlin",
            "urn:okta:custom:group:1.0": {"description": "x"}, "department": null,
            "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User": {"department": "D", "unknown": 1},
        }));
        assert_eq!(
            Value::Object(tree),
            json!({
                "userName": "bjensen", "timezone": "Europe/Berlin",
                "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User": {"department": "D"},
            })
        );
    }

    #[test]
    fn a_body_without_its_required_attribute_is_refused() {
        for body in [
            json!({}),
            json!({"userName": null}),
            json!({"userName": "  "}),
        ] {
            let body = body.as_object().unwrap().clone();
            let error = from_body(&USER, body, &mut Notes::default()).unwrap_err();
            assert_eq!(
                error,
                PatchError::Missing {
                    attribute: "userName".into()
                }
            );
        }
    }

    #[test]
    fn documents_are_in_the_schemas_order_and_read_back() {
        let tree = tree(json!({
            "manager": "26", "emails": "a@x.com", "userName": "b", "externalId": "1",
        }));
        let id = ResourceId::from_stored([0; 16]);
        let document = to_document(&USER, id, &tree);
        assert_eq!(
            document,
            "{\"schemas\":[\"urn:ietf:params:scim:schemas:core:2.0:User\",\
             \"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User\"],\
             \"id\":\"00000000-0000-0000-0000-000000000000\",\"externalId\":\"1\",\"userName\":\"b\",\
             \"emails\":[{\"value\":\"a@x.com\"}],\
             \"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User\":{\"manager\":{\"value\":\"26\"}}}"
        );
        let mut back = from_document(&document).unwrap();
        let mut tree = tree;
        back.sort_keys();
        tree.sort_keys();
        assert_eq!(back, tree);
    }

    #[test]
    fn splicing_and_building_show_the_same() {
        let id = ResourceId::from_stored([1; 16]);
        let document = to_document(&USER, id, &tree(json!({"userName": "b"})));
        let meta = Meta {
            kind: ResourceKind::User,
            id,
            created: Timestamp(0),
            modified: Timestamp(1),
            version: Version(7),
        };
        let base = "https://global-us.example.com/api/v1/scim";
        let spliced: Value = serde_json::from_str(&meta.splice(&document, None, base)).unwrap();
        assert_eq!(
            spliced,
            Value::Object(meta.to_tree(&document, None, base).unwrap())
        );
        assert_eq!(spliced["meta"]["version"], "W/\"7\"");
        assert_eq!(spliced["meta"]["location"], format!("{base}/Users/{id}"));
    }

    #[test]
    fn deceptive_identifiers_are_refused() {
        assert!(check_identifier("userName", "Zoë O'Malley+x@example.com").is_ok());
        for bad in ["a\u{200B}b", "a\u{202E}b", "a\nb", "\u{FEFF}a"] {
            assert!(check_identifier("userName", bad).is_err());
        }
    }
}
