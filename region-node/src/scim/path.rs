//! Attribute paths: `name.givenName`, `emails[type eq "work"].value`,
//! `urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department` (RFC 7644 section
//! 3.10 and figure 7), resolved against a schema while they are parsed.

use super::filter::{Filter, FilterError};
use super::schema::{Attribute, Located, ResourceSchema, Schema};

/// What a path names.
#[derive(Clone, Debug)]
pub enum Path<'s> {
    /// The core schema as a whole.
    Core,
    /// An extension as a whole.
    Extension(&'s Schema),
    /// An attribute or a part of it.
    Attribute(AttributePath<'s>),
    /// Well formed, and nothing that the schema knows.
    Unknown,
}

/// An attribute, elements of it that a filter picks, a sub-attribute.
#[derive(Clone, Debug)]
pub struct AttributePath<'s> {
    /// The attribute and the extension that it belongs to.
    pub located: Located<'s>,
    /// Which elements, in a value path.
    pub filter: Option<Filter>,
    /// Which part of the attribute or of each element.
    pub sub_attribute: Option<&'s Attribute>,
}

/// The text is no attribute path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not follow the grammar.
    #[error(
        "The path is not an attribute path such as 'name.givenName' or 'emails[type eq \"work\"].value'."
    )]
    Malformed,
    /// The filter between the brackets cannot be read.
    #[error("The filter in the path cannot be read. {0}")]
    Filter(#[source] FilterError),
}

/// Longest path, in bytes.
pub const MAX_PATH_BYTES: usize = 8 * 1024;

impl<'s> Path<'s> {
    /// Parses a path and finds what it names.
    ///
    /// # Errors
    /// [`PathError`], for a 400 `invalidPath`.
    pub fn parse(schema: &'s ResourceSchema, text: &str) -> Result<Self, PathError> {
        let text = text.trim();
        if text.is_empty() || text.len() > MAX_PATH_BYTES {
            return Err(PathError::Malformed);
        }
        if let Some((extension, rest)) = schema
            .extensions
            .iter()
            .find_map(|extension| Some((extension, extension.strip_urn(text)?)))
        {
            // Jobs that Entra made before December 2018 join the URN with a dot.
            return match rest.strip_prefix([':', '.']) {
                None => Ok(Path::Extension(extension)),
                Some(rest) => Self::parse_below(rest, |name| {
                    let attribute = extension.attribute(name)?;
                    Some(Located {
                        extension: Some(extension),
                        attribute,
                    })
                }),
            };
        }
        if let Some(rest) = schema.core.strip_urn(text) {
            let Some(rest) = rest.strip_prefix([':', '.']) else {
                return Ok(Path::Core);
            };
            return Self::parse_below(rest, |name| schema.locate(name));
        }
        if text
            .get(..4)
            .is_some_and(|head| head.eq_ignore_ascii_case("urn:"))
        {
            return Ok(Path::Unknown);
        }
        Self::parse_below(text, |name| schema.locate(name))
    }

    fn parse_below(
        text: &str,
        locate: impl Fn(&str) -> Option<Located<'s>>,
    ) -> Result<Self, PathError> {
        let shape = Shape::split(text).ok_or(PathError::Malformed)?;
        let Some(located) = locate(shape.attribute) else {
            return Ok(Path::Unknown);
        };
        let attribute = located.attribute;
        let filter = match shape.filter {
            None => None,
            Some(_) if attribute.sub_attributes.is_empty() || !attribute.multi_valued => {
                return Err(PathError::Malformed);
            }
            Some(filter) => {
                Some(Filter::parse_for_elements(attribute, filter).map_err(PathError::Filter)?)
            }
        };
        let sub_attribute = match shape.sub_attribute {
            None => None,
            Some(name) => match attribute.sub_attribute(name) {
                Some(sub_attribute) => Some(sub_attribute),
                None => return Ok(Path::Unknown),
            },
        };
        Ok(Path::Attribute(AttributePath {
            located,
            filter,
            sub_attribute,
        }))
    }
}

/// The parts of `attribute[filter].subAttribute`, as text.
struct Shape<'t> {
    attribute: &'t str,
    filter: Option<&'t str>,
    sub_attribute: Option<&'t str>,
}

impl<'t> Shape<'t> {
    fn split(text: &'t str) -> Option<Self> {
        let (attribute, filter, rest) = match text.split_once('[') {
            Some((attribute, rest)) => {
                let (filter, rest) = split_at_bracket(rest)?;
                (
                    attribute,
                    Some(filter),
                    rest.strip_prefix('.').or(rest.is_empty().then_some(""))?,
                )
            }
            None => match text.split_once('.') {
                Some((attribute, rest)) if !rest.is_empty() => (attribute, None, rest),
                Some(_) => return None,
                None => (text, None, ""),
            },
        };
        let sub_attribute = (!rest.is_empty()).then_some(rest);
        let named = is_name(attribute) && sub_attribute.is_none_or(is_name);
        named.then_some(Self {
            attribute,
            filter,
            sub_attribute,
        })
    }
}

/// Splits behind the filter: at the first `]` that stands in no string.
fn split_at_bracket(text: &str) -> Option<(&str, &str)> {
    let mut quoted = false;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ']' if !quoted => {
                let (filter, rest) = text.split_at_checked(at)?;
                return Some((filter, rest.strip_prefix(']')?));
            }
            _ => {}
        }
    }
    None
}

/// `ATTRNAME = ALPHA *(nameChar)` (RFC 7643 section 2.1), and `$ref`.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let name = text.strip_prefix('$').unwrap_or(text);
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::schema::USER;
    use super::*;

    fn shown(text: &str) -> String {
        match Path::parse(&USER, text) {
            Err(PathError::Malformed) => "malformed".into(),
            Err(PathError::Filter(_)) => "bad filter".into(),
            Ok(Path::Unknown) => "unknown".into(),
            Ok(Path::Core) => "core".into(),
            Ok(Path::Extension(extension)) => extension.name.clone(),
            Ok(Path::Attribute(path)) => {
                let mut shown = path
                    .located
                    .extension
                    .map_or(String::new(), |e| format!("{}:", e.name));
                shown.push_str(&path.located.attribute.name);
                shown.push_str(if path.filter.is_some() { "[]" } else { "" });
                if let Some(sub) = path.sub_attribute {
                    shown.push('.');
                    shown.push_str(&sub.name);
                }
                shown
            }
        }
    }

    #[test]
    fn paths_name_what_they_should() {
        for (text, names) in [
            ("userName", "userName"),
            ("USERNAME", "userName"),
            ("name.GivenName", "name.givenName"),
            ("emails[type eq \"work\"].Value", "emails[].value"),
            ("emails[type eq \"work\"]", "emails[]"),
            ("emails[value eq \"a]b\"].value", "emails[].value"),
            ("emails.value", "emails.value"),
            (
                "urn:ietf:params:scim:schemas:core:2.0:User:userName",
                "userName",
            ),
            (
                "urn:ietf:params:scim:schemas:core:2.0:User:name.familyName",
                "name.familyName",
            ),
            (
                "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department",
                "EnterpriseUser:department",
            ),
            (
                "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User.manager",
                "EnterpriseUser:manager",
            ),
            (
                "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager.value",
                "EnterpriseUser:manager.value",
            ),
            (
                "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User",
                "EnterpriseUser",
            ),
            ("urn:ietf:params:scim:schemas:core:2.0:User", "core"),
            ("manager.managerId", "EnterpriseUser:manager.value"),
            ("manager", "EnterpriseUser:manager"),
            ("manager.$ref", "EnterpriseUser:manager.$ref"),
            ("timeZone", "timezone"),
            ("meta.lastModified", "meta.lastModified"),
            ("urn:okta:custom:group:1.0:description", "unknown"),
            ("favouriteColour", "unknown"),
            ("name.nothing", "unknown"),
            ("__proto__", "malformed"),
            ("constructor.prototype", "unknown"),
            ("", "malformed"),
            (".", "malformed"),
            ("name.", "malformed"),
            ("name..givenName", "malformed"),
            ("emails[type eq \"work\"", "malformed"),
            ("emails[type eq \"work\"]value", "malformed"),
            ("emails[]", "bad filter"),
            ("userName[type eq \"work\"]", "malformed"),
            ("emails[type eq \"work\"].value.more", "malformed"),
            ("a b", "malformed"),
        ] {
            assert_eq!(shown(text), names, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_parser(text in "\\PC{0,60}") {
            let _ = Path::parse(&USER, &text);
        }
    }
}
