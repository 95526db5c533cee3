//! Schemas as data: attributes with their characteristics (RFC 7643 sections 2 and 7), the
//! schemas of a resource type, and how names are found in them.
//!
//! Everything that validates, compares, patches or projects reads these tables, and `/Schemas`
//! and `/ResourceTypes` are rendered from them: what is advertised is what is enforced. What
//! never lives here: the value of any resource.

mod core;
mod parse;
mod render;

pub use core::{GROUP, USER};
pub use parse::SchemaError;

use super::resource::ResourceKind;

/// Data type of an attribute, RFC 7643 section 2.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttributeType {
    /// Unicode text.
    String,
    /// `true` or `false`.
    Boolean,
    /// A whole number.
    Integer,
    /// A number.
    Decimal,
    /// A moment, `xsd:dateTime`.
    DateTime,
    /// A URI.
    Reference,
    /// Base64 text.
    Binary,
    /// An object with sub-attributes.
    Complex,
}

/// When a client may set an attribute, RFC 7643 section 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutability {
    /// Never: what is sent is ignored, an explicit PATCH path is refused.
    ReadOnly,
    /// At any time.
    ReadWrite,
    /// Once.
    Immutable,
    /// At any time, and it is never shown.
    WriteOnly,
}

/// When an attribute is shown, RFC 7643 section 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Returned {
    /// In every answer, whatever is asked for.
    Always,
    /// In no answer.
    Never,
    /// Unless excluded.
    Default,
    /// Only when asked for.
    Request,
}

/// How far a value must be unique, RFC 7643 section 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uniqueness {
    /// Not at all.
    None,
    /// In the tenant.
    Server,
    /// Everywhere.
    Global,
}

/// An attribute or sub-attribute and its characteristics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Canonical spelling of the name.
    pub name: String,
    /// Its name in SCIM 1.1, where that is another one.
    pub scim11_name: Option<String>,
    /// Data type.
    pub kind: AttributeType,
    /// Whether it holds a list.
    pub multi_valued: bool,
    /// For a person.
    pub description: String,
    /// Whether a resource (or element) must have it.
    pub required: bool,
    /// Suggested values; others are taken too (RFC 7643 section 7, `canonicalValues`).
    pub canonical_values: Vec<String>,
    /// Whether text is compared with case.
    pub case_exact: bool,
    /// When it may be set.
    pub mutability: Mutability,
    /// When it is shown.
    pub returned: Returned,
    /// How far it is unique.
    pub uniqueness: Uniqueness,
    /// What a reference may point to.
    pub reference_types: Vec<String>,
    /// Sub-attributes of a complex attribute.
    pub sub_attributes: Vec<Attribute>,
}

impl Attribute {
    /// The sub-attribute with this name, in any case, or with this name in SCIM 1.1.
    #[must_use]
    pub fn sub_attribute(&self, name: &str) -> Option<&Self> {
        self.sub_attributes.iter().find(|a| {
            let former = a.scim11_name.as_ref();
            a.name.eq_ignore_ascii_case(name)
                || former.is_some_and(|former| former.eq_ignore_ascii_case(name))
        })
    }

    /// The sub-attribute `value`, which stands for the whole where a client sends or compares a
    /// plain value in the place of an object.
    #[must_use]
    pub fn value(&self) -> Option<&Self> {
        self.sub_attribute("value")
    }
}

/// A schema: a URN and attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    /// Canonical URN.
    pub urn: String,
    /// Other spellings under which clients send it: SCIM 1.1's, and shortened ones.
    pub aliases: Vec<String>,
    /// For a person.
    pub name: String,
    /// For a person.
    pub description: String,
    /// Its attributes.
    pub attributes: Vec<Attribute>,
}

impl Schema {
    /// The attribute with this name, in any case.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attributes
            .iter()
            .find(|a| a.name.eq_ignore_ascii_case(name))
    }

    /// What follows the schema's URN (or an alias of it) at the start of `text`, if it starts so.
    #[must_use]
    pub fn strip_urn<'t>(&self, text: &'t str) -> Option<&'t str> {
        std::iter::once(&self.urn)
            .chain(&self.aliases)
            .find_map(|urn| {
                let (head, rest) = text.split_at_checked(urn.len())?;
                let whole = rest.is_empty() || rest.starts_with([':', '.']);
                (head.eq_ignore_ascii_case(urn) && whole).then_some(rest)
            })
    }
}

/// A resource type with the schemas that make it up (RFC 7643 section 6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceSchema {
    /// Which type.
    pub kind: ResourceKind,
    /// For a person.
    pub description: String,
    /// `schemas`, `id`, `externalId`, `meta` (RFC 7643 section 3.1). Not part of `/Schemas`.
    pub common: Vec<Attribute>,
    /// The core schema.
    pub core: Schema,
    /// Extensions, none of them required.
    pub extensions: Vec<Schema>,
}

/// Where an attribute stands in a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Located<'s> {
    /// The extension that it belongs to; `None` for the core schema and common attributes.
    pub extension: Option<&'s Schema>,
    /// The attribute.
    pub attribute: &'s Attribute,
}

impl ResourceSchema {
    /// A common or core attribute by its name, in any case.
    #[must_use]
    pub fn core_attribute(&self, name: &str) -> Option<&Attribute> {
        self.core.attribute(name).or_else(|| {
            self.common
                .iter()
                .find(|a| a.name.eq_ignore_ascii_case(name))
        })
    }

    /// An attribute by its bare name: in the core schema first, then in the extensions, because
    /// Entra sends `manager` and `department` without their URN.
    #[must_use]
    pub fn locate(&self, name: &str) -> Option<Located<'_>> {
        if let Some(attribute) = self.core_attribute(name) {
            return Some(Located {
                extension: None,
                attribute,
            });
        }
        self.extensions.iter().find_map(|extension| {
            let attribute = extension.attribute(name)?;
            Some(Located {
                extension: Some(extension),
                attribute,
            })
        })
    }

    /// The extension with this URN, in any case, or under one of its aliases.
    #[must_use]
    pub fn extension(&self, urn: &str) -> Option<&Schema> {
        self.extensions
            .iter()
            .find(|extension| extension.strip_urn(urn) == Some(""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_any_case_and_extensions_by_their_aliases() {
        assert_eq!(USER.core_attribute("USERNAME").unwrap().name, "userName");
        assert_eq!(
            USER.core_attribute("externalid").unwrap().name,
            "externalId"
        );
        let department = USER.locate("Department").unwrap();
        assert_eq!(
            department.extension.unwrap().urn,
            shared::urn::ENTERPRISE_USER
        );
        for urn in [
            "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User",
            "URN:IETF:params:scim:schemas:extension:enterprise:2.0:user",
            "urn:scim:schemas:extension:enterprise:1.0",
            "urn:scim:schemas:extension:enterprise:2.0",
        ] {
            assert!(USER.extension(urn).is_some(), "{urn}");
        }
        assert!(USER.extension("urn:okta:custom:group:1.0").is_none());
    }
}
