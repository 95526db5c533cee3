//! How schemas and resource types look on the wire (RFC 7643 sections 6 and 7): every
//! characteristic written out, no nulls.

use serde_json::{Map, Value, json};
use shared::urn;

use super::{Attribute, AttributeType, Mutability, ResourceSchema, Returned, Schema, Uniqueness};

impl AttributeType {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Decimal => "decimal",
            Self::DateTime => "dateTime",
            Self::Reference => "reference",
            Self::Binary => "binary",
            Self::Complex => "complex",
        }
    }
}

impl Mutability {
    fn as_str(self) -> &'static str {
        match self {
            Self::ReadOnly => "readOnly",
            Self::ReadWrite => "readWrite",
            Self::Immutable => "immutable",
            Self::WriteOnly => "writeOnly",
        }
    }
}

impl Returned {
    fn as_str(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Never => "never",
            Self::Default => "default",
            Self::Request => "request",
        }
    }
}

impl Uniqueness {
    fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Server => "server",
            Self::Global => "global",
        }
    }
}

/// An attribute without its sub-attributes.
fn characteristics(attribute: &Attribute) -> Map<String, Value> {
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| object.insert(name.to_owned(), value);
    put("name", attribute.name.as_str().into());
    put("type", attribute.kind.as_str().into());
    put("multiValued", attribute.multi_valued.into());
    put("description", attribute.description.as_str().into());
    put("required", attribute.required.into());
    put("caseExact", attribute.case_exact.into());
    put("mutability", attribute.mutability.as_str().into());
    put("returned", attribute.returned.as_str().into());
    put("uniqueness", attribute.uniqueness.as_str().into());
    if !attribute.canonical_values.is_empty() {
        put("canonicalValues", json!(attribute.canonical_values));
    }
    if !attribute.reference_types.is_empty() {
        put("referenceTypes", json!(attribute.reference_types));
    }
    object
}

fn attribute_object(attribute: &Attribute) -> Value {
    let mut object = characteristics(attribute);
    if attribute.kind == AttributeType::Complex {
        // Sub-attributes are never complex (RFC 7643 section 2.3.8), so one level is all.
        let sub_attributes: Vec<Value> = attribute
            .sub_attributes
            .iter()
            .map(|a| characteristics(a).into())
            .collect();
        object.insert("subAttributes".to_owned(), sub_attributes.into());
    }
    object.into()
}

impl Schema {
    /// The schema as `/Schemas/{urn}` shows it.
    #[must_use]
    pub fn to_json(&self, base_url: &str) -> Value {
        json!({
            "schemas": [urn::SCHEMA],
            "id": self.urn,
            "name": self.name,
            "description": self.description,
            "attributes": self.attributes.iter().map(attribute_object).collect::<Vec<_>>(),
            "meta": {
                "resourceType": "Schema",
                "location": format!("{base_url}/Schemas/{}", self.urn),
            },
        })
    }
}

impl ResourceSchema {
    /// The resource type as `/ResourceTypes/{name}` shows it.
    #[must_use]
    pub fn to_json(&self, base_url: &str) -> Value {
        let name = self.kind.name();
        let extensions: Vec<Value> = self
            .extensions
            .iter()
            .map(|extension| json!({"schema": extension.urn, "required": false}))
            .collect();
        json!({
            "schemas": [urn::RESOURCE_TYPE],
            "id": name,
            "name": name,
            "description": self.description,
            "endpoint": self.kind.endpoint(),
            "schema": self.core.urn,
            "schemaExtensions": extensions,
            "meta": {
                "resourceType": "ResourceType",
                "location": format!("{base_url}/ResourceTypes/{name}"),
            },
        })
    }
}
