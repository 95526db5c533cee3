//! Reading an extension schema that a tenant brings (RFC 7643 section 7). What this service could
//! not enforce of it is refused, so that discovery never claims what is not so.

use serde_json::{Map, Value};

use super::{Attribute, AttributeType, GROUP, Mutability, Returned, Schema, USER, Uniqueness};
use crate::scim::path::is_name;

/// Most attributes of one schema, and sub-attributes of one attribute.
const MAX_ATTRIBUTES: usize = 100;
/// Longest URN, name or description, in bytes.
const MAX_TEXT: usize = 1000;

/// Why a schema cannot be taken: a sentence that names the attribute.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SchemaError(String);

fn refuse<T>(reason: impl Into<String>) -> Result<T, SchemaError> {
    Err(SchemaError(reason.into()))
}

impl Schema {
    /// Reads an extension schema.
    ///
    /// # Errors
    /// [`SchemaError`], for an administrator to read.
    pub fn parse(schema: &Value) -> Result<Self, SchemaError> {
        let Value::Object(object) = schema else {
            return refuse("A schema must be an object.");
        };
        let urn = text(object, "id")?
            .ok_or(SchemaError("A schema must have an 'id', its URN.".into()))?;
        check_urn(&urn)?;
        let Some(Value::Array(attributes)) = object.get("attributes") else {
            return refuse("A schema must have a list 'attributes'.");
        };
        let attributes = read_attributes(attributes, true)?;
        Ok(Self {
            name: text(object, "name")?.unwrap_or_else(|| urn.clone()),
            description: text(object, "description")?.unwrap_or_default(),
            aliases: Vec::new(),
            urn,
            attributes,
        })
    }
}

fn text(object: &Map<String, Value>, name: &str) -> Result<Option<String>, SchemaError> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.len() <= MAX_TEXT => Ok(Some(text.clone())),
        Some(_) => refuse(format!(
            "'{name}' must be a text of at most {MAX_TEXT} bytes."
        )),
    }
}

fn check_urn(urn: &str) -> Result<(), SchemaError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b":._-".contains(&b);
    let lower = urn.to_ascii_lowercase();
    if !lower.starts_with("urn:")
        || urn.len() > 200
        || !urn.bytes().all(plain)
        || urn.ends_with([':', '.'])
    {
        return refuse(
            "The 'id' of a schema must be a URN of letters, digits, ':', '.', '_' and '-'.",
        );
    }
    let clashes = |schema: &Schema| {
        schema.strip_urn(urn).is_some() || lower.starts_with(&schema.urn.to_ascii_lowercase())
    };
    let ours = [&*USER, &*GROUP];
    if lower.starts_with("urn:ietf:params:scim:")
        || ours
            .iter()
            .any(|t| clashes(&t.core) || t.extensions.iter().any(clashes))
    {
        return refuse("The 'id' of the schema is one that the protocol defines.");
    }
    Ok(())
}

fn read_attributes(list: &[Value], may_be_complex: bool) -> Result<Vec<Attribute>, SchemaError> {
    if list.is_empty() || list.len() > MAX_ATTRIBUTES {
        return refuse("A schema or complex attribute must have 1 to 100 attributes.");
    }
    let mut attributes: Vec<Attribute> = Vec::with_capacity(list.len());
    for entry in list {
        let attribute = read_attribute(entry, may_be_complex)?;
        if attributes
            .iter()
            .any(|other| other.name.eq_ignore_ascii_case(&attribute.name))
        {
            return refuse(format!(
                "The attribute '{}' stands there twice.",
                attribute.name
            ));
        }
        attributes.push(attribute);
    }
    Ok(attributes)
}

fn read_attribute(entry: &Value, may_be_complex: bool) -> Result<Attribute, SchemaError> {
    let Value::Object(object) = entry else {
        return refuse("An attribute must be an object.");
    };
    let name = text(object, "name")?.filter(|name| is_name(name) && name.len() <= 100);
    let Some(name) = name else {
        return refuse("An attribute must have a 'name' of letters, digits, '-' and '_'.");
    };
    let kind = match text(object, "type")?.as_deref().unwrap_or("string") {
        "string" => AttributeType::String,
        "boolean" => AttributeType::Boolean,
        "integer" => AttributeType::Integer,
        "decimal" => AttributeType::Decimal,
        "dateTime" => AttributeType::DateTime,
        "reference" => AttributeType::Reference,
        "binary" => AttributeType::Binary,
        "complex" if may_be_complex => AttributeType::Complex,
        "complex" => return refuse(format!("The sub-attribute '{name}' must not be complex.")),
        _ => return refuse(format!("'{name}' has an unknown 'type'.")),
    };
    let flag = |key: &str| match object.get(key) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(_) => refuse(format!("'{key}' of '{name}' must be true or false.")),
    };
    // What is offered of the characteristics: the one value that all of this service's
    // extension attributes have.
    let only = |key: &str, offered: &str| match text(object, key)?.as_deref() {
        None => Ok(()),
        Some(value) if value == offered => Ok(()),
        Some(_) => refuse(format!("'{key}' of '{name}' can only be '{offered}' here.")),
    };
    only("mutability", "readWrite")?;
    only("returned", "default")?;
    only("uniqueness", "none")?;
    if flag("required")? {
        return refuse(format!("'{name}' of an extension cannot be required."));
    }
    let multi_valued = flag("multiValued")?;
    if multi_valued && !may_be_complex {
        return refuse(format!(
            "The sub-attribute '{name}' must not be multi-valued."
        ));
    }
    let sub_attributes = match (kind, object.get("subAttributes")) {
        (AttributeType::Complex, Some(Value::Array(list))) => read_attributes(list, false)?,
        (AttributeType::Complex, _) => {
            return refuse(format!(
                "The complex attribute '{name}' must have 'subAttributes'."
            ));
        }
        (_, None | Some(Value::Null)) => Vec::new(),
        (_, Some(Value::Array(list))) if list.is_empty() => Vec::new(),
        (_, Some(_)) => {
            return refuse(format!(
                "'{name}' is not complex and has no 'subAttributes'."
            ));
        }
    };
    let description = text(object, "description")?.unwrap_or_default();
    let case_exact = flag("caseExact")?;
    let canonical_values = texts(object, "canonicalValues", &name)?;
    let reference_types = texts(object, "referenceTypes", &name)?;
    Ok(Attribute {
        name,
        scim11_name: None,
        kind,
        multi_valued,
        description,
        required: false,
        canonical_values,
        case_exact,
        mutability: Mutability::ReadWrite,
        returned: Returned::Default,
        uniqueness: Uniqueness::None,
        reference_types,
        sub_attributes,
    })
}

fn texts(object: &Map<String, Value>, key: &str, name: &str) -> Result<Vec<String>, SchemaError> {
    let Some(list) = object.get(key).filter(|list| !list.is_null()) else {
        return Ok(Vec::new());
    };
    let texts = list.as_array().and_then(|list| {
        let texts = list.iter().map(|value| value.as_str().map(str::to_owned));
        texts
            .collect::<Option<Vec<_>>>()
            .filter(|texts| texts.len() <= MAX_ATTRIBUTES)
    });
    texts.ok_or_else(|| SchemaError(format!("'{key}' of '{name}' must be a list of texts.")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_schema_reads_back_as_it_is_shown() {
        let schema = Schema::parse(&json!({
            "id": "urn:example:params:scim:schemas:extension:acme:2.0:User", "name": "Acme",
            "attributes": [
                {"name": "badge", "type": "string", "caseExact": true},
                {"name": "hired", "type": "dateTime"},
                {"name": "sites", "type": "complex", "multiValued": true, "subAttributes": [
                    {"name": "value", "type": "string"}, {"name": "primary", "type": "boolean"},
                ]},
            ],
        }))
        .unwrap();
        assert_eq!(Schema::parse(&schema.to_json("https://x")), Ok(schema));
    }

    #[test]
    fn what_could_not_be_enforced_is_refused() {
        let with = |attribute: Value| json!({"id": "urn:acme:x", "attributes": [attribute]});
        for bad in [
            json!([]),
            json!({"attributes": [{"name": "a"}]}),
            json!({"id": "urn:acme:x", "attributes": []}),
            json!({"id": "acme", "attributes": [{"name": "a"}]}),
            json!({"id": "urn:acme:x y", "attributes": [{"name": "a"}]}),
            json!({"id": "urn:ietf:params:scim:schemas:core:2.0:User", "attributes": [{"name": "a"}]}),
            json!({"id": "urn:scim:schemas:core:1.0:x", "attributes": [{"name": "a"}]}),
            json!({"id": "urn:acme:x", "attributes": [{"name": "a"}, {"name": "A"}]}),
            with(json!({"name": "a b"})),
            with(json!({"name": "__proto__"})),
            with(json!({"name": "a", "type": "blob"})),
            with(json!({"name": "a", "required": true})),
            with(json!({"name": "a", "mutability": "readOnly"})),
            with(json!({"name": "a", "returned": "never"})),
            with(json!({"name": "a", "uniqueness": "server"})),
            with(json!({"name": "a", "type": "complex"})),
            with(
                json!({"name": "a", "type": "complex", "subAttributes": [{"name": "b", "type": "complex"}]}),
            ),
            with(json!({"name": "a", "multiValued": "yes"})),
            with(json!({"name": "a", "canonicalValues": [1]})),
        ] {
            assert!(Schema::parse(&bad).is_err(), "{bad}");
        }
    }
}
