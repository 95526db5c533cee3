//! `attributes` and `excludedAttributes`: which parts of a resource are shown (RFC 7644 section
//! 3.9, RFC 7643 section 7 `returned`).

use serde_json::{Map, Value};

use super::document::Tree;
use super::path::{AttributePath, Path};
use super::schema::{Attribute, ResourceSchema, Returned};

/// Which parts to show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Projection {
    only: Option<Vec<Part>>,
    without: Vec<Part>,
}

/// A part by its canonical names. No attribute: a whole extension, or the whole core schema.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    extension: Option<String>,
    attribute: Option<String>,
    sub_attribute: Option<String>,
}

impl Projection {
    /// Reads the two parameters. Names that the schema does not know show nothing more and hide
    /// nothing; the filter of a value path is read as if it were not there.
    #[must_use]
    pub fn parse(
        schema: &ResourceSchema,
        attributes: Option<&str>,
        excluded_attributes: Option<&str>,
    ) -> Self {
        let parts = |list: &str| {
            split_list(list)
                .filter_map(|name| Part::parse(schema, name))
                .collect()
        };
        Self {
            only: attributes.filter(|list| !list.trim().is_empty()).map(parts),
            without: excluded_attributes.map(parts).unwrap_or_default(),
        }
    }

    /// Whether it shows everything, so that a stored document can be served as it is.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.only.is_none() && self.without.is_empty()
    }

    /// Whether any of a core attribute is shown: what is derived at a cost is derived only then.
    #[must_use]
    pub fn shows(&self, attribute: &str) -> bool {
        let is = |part: &Part| {
            part.extension.is_none()
                && part
                    .attribute
                    .as_deref()
                    .is_none_or(|named| named == attribute)
        };
        let hidden = self
            .without
            .iter()
            .any(|part| is(part) && part.sub_attribute.is_none());
        !hidden && self.only.as_ref().is_none_or(|only| only.iter().any(is))
    }

    /// Whether a core attribute is asked for by its name.
    #[must_use]
    pub fn asks_for(&self, attribute: &str) -> bool {
        self.only.is_some() && self.shows(attribute)
    }

    /// What is shown of a resource.
    #[must_use]
    pub fn apply(&self, schema: &ResourceSchema, tree: Tree) -> Tree {
        let mut shown = Tree::new();
        for (name, value) in tree {
            if let Some(extension) = schema.extensions.iter().find(|e| e.urn == name) {
                let Value::Object(held) = value else { continue };
                let parts = held.into_iter().filter_map(|(name, value)| {
                    let attribute = extension.attribute(&name)?;
                    Some((name, self.show(Some(&extension.urn), attribute, value)?))
                });
                let parts: Map<String, Value> = parts.collect();
                if !parts.is_empty() {
                    shown.insert(name, parts.into());
                }
            } else if let Some(attribute) = schema.core_attribute(&name)
                && let Some(value) = self.show(None, attribute, value)
            {
                shown.insert(name, value);
            }
        }
        shown
    }

    fn show(&self, extension: Option<&str>, attribute: &Attribute, value: Value) -> Option<Value> {
        match attribute.returned {
            Returned::Always => return Some(value),
            Returned::Never => return None,
            Returned::Default | Returned::Request => {}
        }
        let names = |part: &&Part| part.names(extension, attribute);
        if self
            .without
            .iter()
            .filter(names)
            .any(|part| part.sub_attribute.is_none())
        {
            return None;
        }
        let wanted: Option<Vec<&Part>> = self
            .only
            .as_ref()
            .map(|only| only.iter().filter(names).collect());
        match &wanted {
            None if attribute.returned == Returned::Request => return None,
            Some(wanted) if wanted.is_empty() => return None,
            _ => {}
        }
        let whole = wanted
            .as_ref()
            .is_none_or(|w| w.iter().any(|part| part.sub_attribute.is_none()));
        let keep = |sub_attribute: &str| {
            let is = |part: &&Part| part.sub_attribute.as_deref() == Some(sub_attribute);
            let hidden = self.without.iter().filter(names).any(|part| is(&part));
            let asked = wanted.as_ref().is_some_and(|w| w.iter().any(is));
            (whole || asked) && !hidden
        };
        let show_object = |object: Map<String, Value>| {
            let kept: Map<_, _> = object.into_iter().filter(|(name, _)| keep(name)).collect();
            (!kept.is_empty()).then_some(Value::Object(kept))
        };
        match value {
            Value::Object(object) => show_object(object),
            Value::Array(elements) => {
                let shown = elements.into_iter().filter_map(|element| match element {
                    Value::Object(object) => show_object(object),
                    simple => Some(simple),
                });
                Some(shown.collect::<Vec<_>>().into())
            }
            simple => Some(simple),
        }
    }
}

impl Part {
    fn parse(schema: &ResourceSchema, name: &str) -> Option<Self> {
        match Path::parse(schema, name).ok()? {
            Path::Unknown => None,
            Path::Core => Some(Self {
                extension: None,
                attribute: None,
                sub_attribute: None,
            }),
            Path::Extension(extension) => Some(Self {
                extension: Some(extension.urn.clone()),
                attribute: None,
                sub_attribute: None,
            }),
            Path::Attribute(AttributePath {
                located,
                sub_attribute,
                ..
            }) => Some(Self {
                extension: located.extension.map(|e| e.urn.clone()),
                attribute: Some(located.attribute.name.clone()),
                sub_attribute: sub_attribute.map(|s| s.name.clone()),
            }),
        }
    }

    fn names(&self, extension: Option<&str>, attribute: &Attribute) -> bool {
        self.extension.as_deref() == extension
            && self
                .attribute
                .as_ref()
                .is_none_or(|name| *name == attribute.name)
    }
}

/// Splits at commas that stand in no brackets and no string.
fn split_list(list: &str) -> impl Iterator<Item = &str> {
    let mut in_brackets = false;
    let mut quoted = false;
    list.split(move |c: char| {
        match c {
            '"' => quoted = !quoted,
            '[' if !quoted => in_brackets = true,
            ']' if !quoted => in_brackets = false,
            _ => {}
        }
        c == ',' && !quoted && !in_brackets
    })
    .map(str::trim)
    .filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::schema::USER;
    use super::*;

    fn shown(attributes: Option<&str>, excluded: Option<&str>) -> Value {
        let user = json!({
            "schemas": ["s"], "id": "1", "userName": "b",
            "name": {"givenName": "B", "familyName": "J"},
            "emails": [{"value": "a@x.com", "type": "work"}, {"value": "b@x.com"}],
            "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User": {"department": "D", "division": "V"},
            "meta": {"version": "1", "location": "l"},
        });
        let tree = user.as_object().unwrap().clone();
        Value::Object(Projection::parse(&USER, attributes, excluded).apply(&USER, tree))
    }

    #[test]
    fn rfc7644_3_9_attributes() {
        assert_eq!(
            shown(Some("userName"), None),
            json!({"schemas": ["s"], "id": "1", "userName": "b"})
        );
        assert_eq!(
            shown(
                Some("USERNAME, name.givenName,emails[type eq \"a,b\"]"),
                None
            ),
            json!({"schemas": ["s"], "id": "1", "userName": "b", "name": {"givenName": "B"},
                   "emails": [{"value": "a@x.com", "type": "work"}, {"value": "b@x.com"}]})
        );
        assert_eq!(
            shown(
                Some(
                    "emails.type,urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department"
                ),
                None
            ),
            json!({"schemas": ["s"], "id": "1", "emails": [{"type": "work"}],
                   "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User": {"department": "D"}})
        );
        assert_eq!(
            shown(Some("nothing"), None),
            json!({"schemas": ["s"], "id": "1"})
        );
        assert_eq!(
            shown(Some("meta.version"), None),
            json!({"schemas": ["s"], "id": "1", "meta": {"version": "1"}})
        );
    }

    #[test]
    fn rfc7644_3_9_excluded_attributes() {
        assert_eq!(
            shown(
                None,
                Some(
                    "id,schemas,emails,name.familyName,meta,urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
                )
            ),
            json!({"schemas": ["s"], "id": "1", "userName": "b", "name": {"givenName": "B"}})
        );
        assert_eq!(shown(None, Some("nothing")), shown(None, None));
    }
}
