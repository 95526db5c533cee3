//! From what a client sent for one attribute to what is kept of it.
//!
//! Lenient in, strict out (idp-wire section 0): strings that mean booleans, one element where a
//! list belongs, a plain value where an object with `value` belongs, `null` and blank for "none".
//! What comes out has the attribute's type and canonical names, and nothing else.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::schema::{Attribute, AttributeType, Mutability};
use super::tolerance::{Notes, Tolerance};
use super::{datetime, json, text};

/// Most elements of a multi-valued attribute.
pub const MAX_ELEMENTS: usize = 500;
/// Longest text, in bytes.
pub const MAX_TEXT_BYTES: usize = 4096;
/// Longest base64 text, in bytes: a certificate or a small picture.
pub const MAX_BINARY_BYTES: usize = 64 * 1024;

const TOO_MANY: &str = "a list of at most 500 values";
const TOO_LONG: &str = "shorter: at most 4096 bytes of text, 65536 of base64";

/// A value does not fit its attribute.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("The value of '{attribute}' must be {expected}.")]
pub struct ValueError {
    attribute: String,
    expected: &'static str,
}

impl ValueError {
    fn new(attribute: &Attribute, expected: &'static str) -> Self {
        Self {
            attribute: attribute.name.clone(),
            expected,
        }
    }

    /// The same of a sub-attribute, by its whole name.
    #[must_use]
    pub fn within(self, attribute: &Attribute) -> Self {
        Self {
            attribute: format!("{}.{}", attribute.name, self.attribute),
            ..self
        }
    }
}

/// What is kept of `value` for `attribute`: `None` where it says that there is no value. What is
/// tolerated is noted, here and below.
///
/// # Errors
/// [`ValueError`], for a 400 `invalidValue`.
pub fn accept(
    attribute: &Attribute,
    value: Value,
    notes: &mut Notes,
) -> Result<Option<Value>, ValueError> {
    if attribute.multi_valued {
        let elements = accept_elements(attribute, value, notes)?;
        return Ok((!elements.is_empty()).then_some(Value::Array(elements)));
    }
    let value = unwrap_single(attribute, value, notes);
    accept_single(attribute, value, notes)
}

/// Entra wraps single values as `[{"value": x}]`, and sends the manager as a list of one.
pub(super) fn unwrap_single(attribute: &Attribute, value: Value, notes: &mut Notes) -> Value {
    match value {
        Value::Array(mut elements) if elements.len() <= 1 => {
            notes.note_of(Tolerance::ListForOne, &attribute.name);
            let inner = elements.pop().unwrap_or(Value::Null);
            match inner {
                Value::Object(mut object) if attribute.kind != AttributeType::Complex => {
                    object.remove("value").unwrap_or(Value::Object(object))
                }
                inner => inner,
            }
        }
        value => value,
    }
}

/// The elements of a multi-valued attribute: a list, or one element where a list belongs.
/// Repeated elements are one, and the first primary is the only one.
///
/// # Errors
/// [`ValueError`], for a 400 `invalidValue`.
pub fn accept_elements(
    attribute: &Attribute,
    value: Value,
    notes: &mut Notes,
) -> Result<Vec<Value>, ValueError> {
    let sent = match value {
        Value::Array(elements) => elements,
        Value::Null => Vec::new(),
        one => {
            notes.note_of(Tolerance::OneForList, &attribute.name);
            vec![one]
        }
    };
    if sent.len() > MAX_ELEMENTS {
        return Err(ValueError::new(attribute, TOO_MANY));
    }
    let mut elements = Vec::with_capacity(sent.len());
    for element in sent {
        if let Some(element) = accept_element(attribute, element, notes)? {
            elements.push(element);
        }
    }
    let all = elements.len();
    if elements
        .iter()
        .filter(|element| is_primary(element))
        .count()
        > 1
    {
        notes.note_of(Tolerance::ManyPrimaries, &attribute.name);
    }
    settle(attribute, &mut elements, 0);
    if elements.len() < all {
        notes.note_of(Tolerance::Repeated, &attribute.name);
    }
    Ok(elements)
}

/// One element of a multi-valued attribute.
///
/// # Errors
/// [`ValueError`], for a 400 `invalidValue`.
pub fn accept_element(
    attribute: &Attribute,
    element: Value,
    notes: &mut Notes,
) -> Result<Option<Value>, ValueError> {
    if attribute.kind != AttributeType::Complex {
        let element = unwrap_single(attribute, element, notes);
        return accept_single(attribute, element, notes);
    }
    // Entra's AppRoleAssignmentsComplex sends each role as a JSON document in a string.
    let element = match element {
        Value::String(text) if text.trim_start().starts_with('{') => {
            match json::parse(text.as_bytes()) {
                Ok(document) => {
                    notes.note_of(Tolerance::JsonInText, &attribute.name);
                    document
                }
                Err(_) => Value::String(text),
            }
        }
        element => element,
    };
    // An element whose value was sent blank is an unmapped attribute of the client, not a value.
    let blank = element.as_object().is_some_and(|object| {
        object.iter().any(|(name, value)| {
            name.eq_ignore_ascii_case("value") && attribute.value().is_some() && is_blank(value)
        })
    });
    if blank {
        notes.note_of(Tolerance::Blank, &attribute.name);
        Ok(None)
    } else {
        accept_single(attribute, element, notes)
    }
}

fn is_primary(element: &Value) -> bool {
    element.get("primary") == Some(&Value::Bool(true))
}

/// Whether a value says that there is none. `null` is how the protocol says so, a blank text is not.
fn says_nothing(attribute: &Attribute, value: &Value, notes: &mut Notes) -> bool {
    if value.is_string() && is_blank(value) {
        notes.note_of(Tolerance::Blank, &attribute.name);
    }
    is_blank(value)
}

fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        _ => false,
    }
}

fn accept_single(
    attribute: &Attribute,
    value: Value,
    notes: &mut Notes,
) -> Result<Option<Value>, ValueError> {
    if says_nothing(attribute, &value, notes) {
        return Ok(None);
    }
    match (attribute.kind, value) {
        (AttributeType::Complex, Value::Object(object)) => {
            let object = accept_object(attribute, object, notes)?;
            Ok((!object.is_empty()).then_some(Value::Object(object)))
        }
        (AttributeType::Complex, value) => {
            let Some(sub_attribute) = attribute.value().filter(|_| !value.is_array()) else {
                return Err(ValueError::new(attribute, "an object"));
            };
            let accepted = accept_simple(sub_attribute, value, notes);
            let Some(value) = accepted.map_err(|error| error.within(attribute))? else {
                return Ok(None);
            };
            notes.note_of(Tolerance::PlainForObject, &attribute.name);
            Ok(Some(Value::Object(Map::from_iter([(
                sub_attribute.name.clone(),
                value,
            )]))))
        }
        (_, value) => accept_simple(attribute, value, notes),
    }
}

/// The sub-attributes of a complex value: known, writable ones, under their canonical names.
///
/// # Errors
/// [`ValueError`], for a 400 `invalidValue`.
pub fn accept_object(
    attribute: &Attribute,
    object: Map<String, Value>,
    notes: &mut Notes,
) -> Result<Map<String, Value>, ValueError> {
    let mut kept = Map::new();
    let before = notes.len();
    for (name, value) in object {
        let Some(sub_attribute) = attribute.sub_attribute(&name) else {
            note_unknown_part(&name, &value, notes);
            continue;
        };
        if matches!(
            sub_attribute.mutability,
            Mutability::ReadOnly | Mutability::WriteOnly
        ) {
            continue;
        }
        let value = unwrap_single(sub_attribute, value, notes);
        let accepted = accept_simple(sub_attribute, value, notes);
        if let Some(value) = accepted.map_err(|error| error.within(attribute))? {
            kept.insert(sub_attribute.name.clone(), value);
        }
    }
    notes.qualify(before, &attribute.name);
    Ok(kept)
}

/// Notes a part of a value that the schema does not have. `operation` is how SCIM 1.1 removes an
/// element, and a reference is nobody's mapping.
pub(super) fn note_unknown_part(name: &str, value: &Value, notes: &mut Notes) {
    if !value.is_null() && !name.eq_ignore_ascii_case("operation") && name != "$ref" {
        notes.note_of(Tolerance::UnknownAttribute, name);
    }
}

/// A value that is no object: of a simple attribute or a sub-attribute.
///
/// # Errors
/// [`ValueError`], for a 400 `invalidValue`.
pub fn accept_simple(
    attribute: &Attribute,
    value: Value,
    notes: &mut Notes,
) -> Result<Option<Value>, ValueError> {
    if says_nothing(attribute, &value, notes) {
        return Ok(None);
    }
    let longest = match attribute.kind {
        AttributeType::Binary => MAX_BINARY_BYTES,
        _ => MAX_TEXT_BYTES,
    };
    if value.as_str().is_some_and(|text| text.len() > longest) {
        return Err(ValueError::new(attribute, TOO_LONG));
    }
    let kept = match (attribute.kind, value) {
        (AttributeType::Boolean, Value::Bool(value)) => Value::Bool(value),
        (AttributeType::Boolean, Value::String(text)) => match boolean(&text) {
            Some(value) => {
                let read = match value {
                    true => Tolerance::TextTrue,
                    false => Tolerance::TextFalse,
                };
                notes.note_of(read, &attribute.name);
                Value::Bool(value)
            }
            None => return Err(ValueError::new(attribute, "true or false")),
        },
        (AttributeType::Boolean, _) => return Err(ValueError::new(attribute, "true or false")),
        (AttributeType::Integer, Value::Number(n)) if n.is_i64() || n.is_u64() => Value::Number(n),
        (AttributeType::Integer, _) => return Err(ValueError::new(attribute, "a whole number")),
        (AttributeType::Decimal, Value::Number(n)) => Value::Number(n),
        (AttributeType::Decimal, _) => return Err(ValueError::new(attribute, "a number")),
        (AttributeType::DateTime, Value::String(text)) => {
            if datetime::parse(&text).is_none() {
                return Err(ValueError::new(
                    attribute,
                    "a date and time such as 2026-01-31T09:30:00Z",
                ));
            }
            Value::String(text)
        }
        (AttributeType::DateTime, _) => {
            return Err(ValueError::new(
                attribute,
                "a date and time such as 2026-01-31T09:30:00Z",
            ));
        }
        (AttributeType::Binary, Value::String(text)) if is_base64(&text) => Value::String(text),
        (AttributeType::Binary, _) => return Err(ValueError::new(attribute, "base64 text")),
        (AttributeType::String | AttributeType::Reference, Value::String(text)) => {
            Value::String(text)
        }
        (AttributeType::String | AttributeType::Reference | AttributeType::Complex, _) => {
            return Err(ValueError::new(attribute, "text"));
        }
    };
    Ok(Some(kept))
}

/// `true` and `false` in any case: Entra sends booleans as `"True"` and `"False"`.
#[must_use]
pub fn boolean(text: &str) -> Option<bool> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("true") {
        Some(true)
    } else if text.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

fn is_base64(text: &str) -> bool {
    text.bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"+/-_=\r\n".contains(&b))
}

/// Refuses a list that has grown too long.
///
/// # Errors
/// [`ValueError`], for a 400 `invalidValue`.
pub fn check_length(attribute: &Attribute, elements: &[Value]) -> Result<(), ValueError> {
    if elements.len() > MAX_ELEMENTS {
        Err(ValueError::new(attribute, TOO_MANY))
    } else {
        Ok(())
    }
}

/// Makes a list of elements fit to be kept: elements that say the same are one (the same value
/// under another type is another element), and at most one is primary: of those from `newest`
/// on the first, else of the older ones the first (RFC 7644 section 3.5.2).
pub fn settle(attribute: &Attribute, elements: &mut Vec<Value>, newest: usize) {
    let mut kept: Vec<Value> = Vec::with_capacity(elements.len());
    let mut places: HashMap<String, usize> = HashMap::with_capacity(elements.len());
    let mut newest_primary = None;
    for (at, element) in elements.drain(..).enumerate() {
        let wins = at >= newest && newest_primary.is_none() && is_primary(&element);
        let place = *places
            .entry(identity(attribute, &element))
            .or_insert(kept.len());
        match (kept.get_mut(place), element) {
            // Sent again with more to say: what it says anew is added.
            (Some(Value::Object(twin)), Value::Object(element)) => twin.extend(element),
            (Some(_), _) => {}
            (None, element) => kept.push(element),
        }
        if wins {
            newest_primary = Some(place);
        }
    }
    *elements = kept;
    let the_one = newest_primary.or_else(|| elements.iter().position(is_primary));
    for (at, element) in elements.iter_mut().enumerate() {
        if Some(at) != the_one
            && let Some(primary @ Value::Bool(true)) = element.get_mut("primary")
        {
            *primary = Value::Bool(false);
        }
    }
}

/// What makes two elements one: the same `value` (by the attribute's case rule) and the same
/// `type`; where there is no `value`, everything the same.
fn identity(attribute: &Attribute, element: &Value) -> String {
    let part = |attribute: &Attribute, value: &Value| match value {
        Value::String(text) if !attribute.case_exact => text::key(text).into_owned(),
        value => value.to_string(),
    };
    let Value::Object(object) = element else {
        return part(attribute, element);
    };
    let (Some(sub_attribute), Some(value)) = (attribute.value(), object.get("value")) else {
        return element.to_string();
    };
    let kind = object
        .get("type")
        .and_then(Value::as_str)
        .map(text::key)
        .unwrap_or_default();
    // The length keeps the two parts apart.
    format!("{} {kind} {}", kind.len(), part(sub_attribute, value))
}

/// Whether two simple values are the same under the attribute's case rule.
#[must_use]
pub fn is_same_simple(attribute: &Attribute, a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::String(a), Value::String(b)) if !attribute.case_exact => {
            text::key(a) == text::key(b)
        }
        (a, b) => a == b,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::schema::USER;
    use super::*;

    fn accepted(name: &str, value: Value) -> Option<Value> {
        let attribute = USER.locate(name).unwrap().attribute;
        accept(attribute, value, &mut Notes::default()).unwrap()
    }

    fn refused(name: &str, value: Value) -> String {
        let attribute = USER.locate(name).unwrap().attribute;
        accept(attribute, value, &mut Notes::default())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn booleans_come_as_text_from_entra() {
        for (sent, kept) in [
            (json!(true), true),
            (json!("True"), true),
            (json!("False"), false),
            (json!("false"), false),
            (json!([{"value": "False"}]), false),
        ] {
            assert_eq!(accepted("active", sent), Some(json!(kept)));
        }
        for odd in [
            json!("maybe"),
            json!(0),
            json!(1),
            json!("yes"),
            json!({"a": 1}),
        ] {
            assert_eq!(
                refused("active", odd),
                "The value of 'active' must be true or false."
            );
        }
        assert_eq!(accepted("active", json!("")), None);
        assert_eq!(accepted("active", json!(null)), None);
    }

    #[test]
    fn one_object_or_one_value_is_a_list_of_one() {
        let one = Some(json!([{"value": "a@x.com"}]));
        assert_eq!(accepted("emails", json!({"value": "a@x.com"})), one);
        assert_eq!(accepted("emails", json!("a@x.com")), one);
        assert_eq!(accepted("emails", json!(["a@x.com"])), one);
        assert_eq!(accepted("emails", json!([])), None);
        assert_eq!(
            accepted("emails", json!([{"value": "", "type": "work"}])),
            None
        );
    }

    #[test]
    fn the_manager_comes_in_every_shape() {
        for sent in [
            json!("26"),
            json!({"value": "26"}),
            json!([{"$ref": null, "value": "26"}]),
            json!({"Value": "26", "displayName": "Boss"}),
        ] {
            assert_eq!(accepted("manager", sent), Some(json!({"value": "26"})));
        }
        for none in [json!(""), json!({"value": ""}), json!(null), json!([])] {
            assert_eq!(accepted("manager", none), None);
        }
    }

    #[test]
    fn same_value_and_type_is_one_element_and_the_first_primary_wins() {
        assert_eq!(
            accepted(
                "emails",
                json!([
                    {"value": "a@x.com", "type": "work", "primary": true},
                    {"value": "A@X.com", "type": "work"},
                    {"value": "a@x.com", "type": "home", "primary": "True"},
                ])
            ),
            Some(json!([
                {"value": "A@X.com", "type": "work", "primary": true},
                {"value": "a@x.com", "type": "home", "primary": false},
            ]))
        );
        // Three types with the same number (Entra's validator) stay three.
        let phones = json!([
            {"value": "1", "type": "work"}, {"value": "1", "type": "mobile"}, {"value": "1", "type": "fax"}
        ]);
        assert_eq!(accepted("phoneNumbers", phones.clone()), Some(phones));
    }

    #[test]
    fn roles_come_as_json_in_a_string() {
        assert_eq!(
            accepted(
                "roles",
                json!(["{\"value\":\"admin\",\"display\":\"Admin\",\"id\":\"7\"}"])
            ),
            Some(json!([{"value": "admin", "display": "Admin"}]))
        );
    }

    #[test]
    fn nothing_grows_without_bounds() {
        let emails = |n: usize| Value::from_iter((0..n).map(|n| format!("{n}@x.com")));
        assert_eq!(
            accepted("emails", emails(500))
                .unwrap()
                .as_array()
                .unwrap()
                .len(),
            500
        );
        assert!(refused("emails", emails(501)).contains("at most 500"));
        assert!(refused("title", json!("x".repeat(4097))).contains("4096"));
        assert!(accepted("x509Certificates", json!(["A".repeat(60_000)])).is_some());
    }

    #[test]
    fn types_are_kept_strictly() {
        assert!(refused("userName", json!(5)).contains("text"));
        assert_eq!(
            refused("emails", json!([7])),
            "The value of 'emails.value' must be text."
        );
        assert!(refused("name", json!({"givenName": 1})).contains("'name.givenName'"));
        assert!(refused("name", json!("Bob")).contains("an object"));
        assert!(refused("x509Certificates", json!([{"value": "§"}])).contains("base64"));
        assert!(refused("nickName", json!(["a", "b"])).contains("text"));
    }
}
