//! SCIM 1.1 as a face over the same resources: how its bodies become ours and ours become its
//! (SCIM core schema 1.1; SCIM protocol 1.1, section 3). Same ids, same data, at once.
//!
//! The old URNs and names are in the schema tables; here is what differs in shape.

use serde_json::{Map, Value, json};
use shared::urn;

use super::patch::{Operation, PatchRequest, Verb};
use super::path::{AttributePath, Path};
use super::schema::{Attribute, AttributeType, Mutability, ResourceSchema};

/// Makes a 1.1 PATCH one of ours (SCIM protocol 1.1, section 3.3.2): a partial resource, in
/// which `meta.attributes` lists what is removed first, elements of lists are merged in, and an
/// element with `"operation": "delete"` is removed.
#[must_use]
pub fn read_patch(schema: &ResourceSchema, mut body: Map<String, Value>) -> PatchRequest {
    let mut operations: Vec<Operation> = removed_attributes(&mut body)
        .into_iter()
        // What is read-only or unknown stays, as it does in a whole resource.
        .filter(|name| is_writable(schema, name))
        .map(|name| Operation {
            verb: Verb::Remove,
            path: Some(name),
            value: None,
        })
        .collect();
    for (name, value) in body {
        let Ok(Path::Attribute(AttributePath {
            located,
            filter: None,
            sub_attribute: None,
        })) = Path::parse(schema, &name)
        else {
            operations.push(assign(name, value, Verb::Replace));
            continue;
        };
        if !located.attribute.multi_valued || located.attribute.mutability == Mutability::ReadOnly {
            operations.push(assign(name, value, Verb::Replace));
            continue;
        }
        let elements = match value {
            Value::Array(elements) => elements,
            one => vec![one],
        };
        let (gone, merged): (Vec<_>, Vec<_>) = elements.into_iter().partition(is_deleted);
        if !gone.is_empty() {
            let value = Some(Value::Array(gone));
            operations.push(Operation {
                verb: Verb::Remove,
                path: Some(name.clone()),
                value,
            });
        }
        if !merged.is_empty() {
            operations.push(assign(name, Value::Array(merged), Verb::Add));
        }
    }
    PatchRequest { operations }
}

/// An operation without a path, so that what is read-only or unknown in it is skipped.
fn assign(name: String, value: Value, verb: Verb) -> Operation {
    let value = Some(Value::Object(Map::from_iter([(name, value)])));
    Operation {
        verb,
        path: None,
        value,
    }
}

fn is_writable(schema: &ResourceSchema, name: &str) -> bool {
    match Path::parse(schema, name) {
        Ok(Path::Attribute(path)) => path.located.attribute.mutability != Mutability::ReadOnly,
        Ok(Path::Extension(_)) => true,
        Ok(Path::Core | Path::Unknown) | Err(_) => false,
    }
}

fn is_deleted(element: &Value) -> bool {
    element.as_object().is_some_and(|element| {
        element.iter().any(|(name, value)| {
            name.eq_ignore_ascii_case("operation")
                && value
                    .as_str()
                    .is_some_and(|text| text.eq_ignore_ascii_case("delete"))
        })
    })
}

/// Takes `meta.attributes` out of a body, with the rest of `meta`.
fn removed_attributes(body: &mut Map<String, Value>) -> Vec<String> {
    let Some(name) = body
        .keys()
        .find(|name| name.eq_ignore_ascii_case("meta"))
        .cloned()
    else {
        return Vec::new();
    };
    let Some(Value::Object(meta)) = body.shift_remove(&name) else {
        return Vec::new();
    };
    let named = meta
        .into_iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("attributes"));
    match named {
        Some((_, Value::Array(names))) => names
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        _ => Vec::new(),
    }
}

/// Whether a body's `schemas` say that it is of SCIM 1.1.
#[must_use]
pub fn is_scim11(body: &Map<String, Value>) -> bool {
    let schemas = body
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("schemas"));
    let Some((_, Value::Array(schemas))) = schemas else {
        return false;
    };
    schemas.iter().filter_map(Value::as_str).any(|urn| {
        urn.eq_ignore_ascii_case(urn::CORE_1) || urn.eq_ignore_ascii_case(urn::ENTERPRISE_1)
    })
}

/// Shows a resource of ours as 1.1 does.
#[must_use]
pub fn show_resource(mut resource: Map<String, Value>) -> Map<String, Value> {
    let mut schemas = vec![Value::from(urn::CORE_1)];
    if let Some(mut extension) = resource.shift_remove(urn::ENTERPRISE_USER) {
        if let Some(Value::Object(manager)) = extension.get_mut("manager")
            && let Some(id) = manager.shift_remove("value")
        {
            manager.insert("managerId".to_owned(), id);
        }
        schemas.push(urn::ENTERPRISE_1.into());
        resource.insert(urn::ENTERPRISE_1.to_owned(), extension);
    }
    resource.insert("schemas".to_owned(), schemas.into());
    if let Some(Value::Object(meta)) = resource.get_mut("meta") {
        meta.shift_remove("resourceType");
    }
    resource
}

/// Shows a list response as 1.1 does.
#[must_use]
pub fn show_list(mut list: Map<String, Value>) -> Map<String, Value> {
    list.insert("schemas".to_owned(), json!([urn::CORE_1]));
    if let Some(Value::Array(resources)) = list.get_mut("Resources") {
        for resource in resources {
            if let Value::Object(object) = resource {
                *resource = Value::Object(show_resource(std::mem::take(object)));
            }
        }
    }
    list
}

/// Shows a resource type's schema as 1.1 does (SCIM core schema 1.1, section 10): one schema a
/// resource, with the extension's attributes among its own.
#[must_use]
pub fn show_schema(schema: &ResourceSchema, base_url: &str) -> Value {
    let id = format!("{}:{}", urn::CORE_1, schema.kind.name());
    let own = schema
        .core
        .attributes
        .iter()
        .map(|attribute| (urn::CORE_1, attribute));
    let extended = schema
        .extensions
        .iter()
        .flat_map(|extension| extension.attributes.iter().map(|a| (urn::ENTERPRISE_1, a)));
    let attributes: Vec<Value> = own
        .chain(extended)
        .map(|(urn, attribute)| show_attribute(attribute, urn))
        .collect();
    json!({
        "schemas": [urn::CORE_1],
        "id": id,
        "name": schema.kind.name(),
        "description": schema.description,
        "schema": urn::CORE_1,
        "endpoint": schema.kind.endpoint(),
        "attributes": attributes,
        "meta": {"location": format!("{base_url}/Schemas/{id}")},
    })
}

fn show_attribute(attribute: &Attribute, schema_urn: &str) -> Value {
    let mut shown = characteristics(attribute);
    shown.insert("schema".to_owned(), schema_urn.into());
    if attribute.kind == AttributeType::Complex {
        let parts: Vec<Value> = attribute
            .sub_attributes
            .iter()
            .map(|a| characteristics(a).into())
            .collect();
        shown.insert("subAttributes".to_owned(), parts.into());
    }
    shown.into()
}

fn characteristics(attribute: &Attribute) -> Map<String, Value> {
    let shown = json!({
        "name": attribute.scim11_name.as_ref().unwrap_or(&attribute.name),
        "type": attribute.kind.as_str(),
        "multiValued": attribute.multi_valued,
        "description": attribute.description,
        "readOnly": attribute.mutability == Mutability::ReadOnly,
        "required": attribute.required,
        "caseExact": attribute.case_exact,
    });
    match shown {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::document::from_body;
    use super::super::schema::USER;
    use super::super::tolerance::Notes;
    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn the_manager_travels_as_manager_id() {
        let body = object(json!({
            "schemas": ["urn:scim:schemas:core:1.0"], "userName": "b",
            "urn:scim:schemas:extension:enterprise:1.0": {"manager": {"managerId": "7"}, "department": "D"},
        }));
        assert!(is_scim11(&body));
        let tree = from_body(&USER, body, &mut Notes::default()).unwrap();
        assert_eq!(
            tree[urn::ENTERPRISE_USER],
            json!({"manager": {"value": "7"}, "department": "D"})
        );
        let shown = show_resource(tree);
        assert_eq!(
            shown[urn::ENTERPRISE_1]["manager"],
            json!({"managerId": "7"})
        );
        assert_eq!(shown["schemas"], json!([urn::CORE_1, urn::ENTERPRISE_1]));
        assert!(!shown.contains_key(urn::ENTERPRISE_USER));
    }

    #[test]
    fn a_partial_resource_removes_first_and_merges_lists() {
        let before = from_body(
            &USER,
            object(json!({
                "userName": "b", "title": "T", "nickName": "N",
                "emails": [{"value": "a@x", "type": "work"}, {"value": "b@x", "type": "home"}],
            })),
            &mut Notes::default(),
        );
        let patch = read_patch(
            &USER,
            object(json!({
                "schemas": ["urn:scim:schemas:core:1.0"], "id": "x", "active": false,
                "meta": {"attributes": ["title", "id", "unknown"]}, "nickName": "M",
                "emails": [{"value": "b@x", "operation": "delete"}, {"value": "c@x"}],
            })),
        );
        let before = before.unwrap();
        let after = patch.apply(&USER, &before, &mut Notes::default()).unwrap();
        assert_eq!(
            Value::Object(after),
            json!({
                "userName": "b", "nickName": "M", "active": false,
                "emails": [{"value": "a@x", "type": "work"}, {"value": "c@x"}],
            })
        );
    }
}
