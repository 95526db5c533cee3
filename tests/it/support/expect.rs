//! What an answer must look like: JSON in which some strings are patterns.
//!
//! An expected object names the members that matter; others may be there too. An expected array
//! names all its elements, in order, unless its first one is `"<some>"`: then each of the rest
//! must match some element. Patterns:
//!
//! | pattern | matches |
//! | --- | --- |
//! | `<any>` | everything that is there |
//! | `<absent>` | a member that is not there |
//! | `<string>` `<integer>` `<boolean>` `<timestamp>` | values of that type |
//! | `<length 100>` | an array with so many elements |
//! | `<starts http>` `<contains text>` | strings |
//! | `<capture name>` | a string, which later steps know as `{{name}}` |

use std::collections::HashMap;

use serde_json::Value;

/// Values that a conversation knows by name.
pub type Known = HashMap<String, String>;

/// Compares, and keeps what the patterns capture.
///
/// # Errors
/// A sentence with the path of the first difference.
pub fn check(expected: &Value, found: &Value, known: &mut Known) -> Result<(), String> {
    at("", expected, Some(found), known)
}

fn at(
    path: &str,
    expected: &Value,
    found: Option<&Value>,
    known: &mut Known,
) -> Result<(), String> {
    if let Value::String(text) = expected
        && let Some(pattern) = text
            .strip_prefix('<')
            .and_then(|text| text.strip_suffix('>'))
    {
        return matches(path, pattern, found, known);
    }
    let Some(found) = found else {
        return Err(format!("{path} is missing; expected {expected}"));
    };
    match (expected, found) {
        (Value::Object(members), Value::Object(object)) => {
            for (name, expected) in members {
                at(&format!("{path}.{name}"), expected, object.get(name), known)?;
            }
            Ok(())
        }
        (Value::Array(elements), Value::Array(array)) => match elements.split_first() {
            Some((Value::String(first), rest)) if first == "<some>" => {
                for expected in rest {
                    let hit = array
                        .iter()
                        .any(|e| at(path, expected, Some(e), known).is_ok());
                    if !hit {
                        return Err(format!("{path} has no element {expected}: {found}"));
                    }
                }
                Ok(())
            }
            _ if elements.len() == array.len() => {
                for (n, (expected, found)) in elements.iter().zip(array).enumerate() {
                    at(&format!("{path}[{n}]"), expected, Some(found), known)?;
                }
                Ok(())
            }
            _ => Err(format!(
                "{path} has {} elements: {found}, expected {expected}",
                array.len()
            )),
        },
        _ if expected == found => Ok(()),
        _ => Err(format!("{path} is {found}, expected {expected}")),
    }
}

fn matches(
    path: &str,
    pattern: &str,
    found: Option<&Value>,
    known: &mut Known,
) -> Result<(), String> {
    let (kind, argument) = pattern.split_once(' ').unwrap_or((pattern, ""));
    if kind == "absent" {
        return match found {
            None => Ok(()),
            Some(found) => Err(format!("{path} must not be there, and is {found}")),
        };
    }
    let Some(found) = found else {
        return Err(format!("{path} is missing; expected <{pattern}>"));
    };
    let text = found.as_str();
    let good = match kind {
        "any" => true,
        "string" => text.is_some(),
        "integer" => found.is_i64() || found.is_u64(),
        "boolean" => found.is_boolean(),
        "timestamp" => text.is_some_and(is_timestamp),
        "length" => found
            .as_array()
            .is_some_and(|a| a.len().to_string() == argument),
        "starts" => text.is_some_and(|text| text.starts_with(argument)),
        "contains" => text.is_some_and(|text| text.contains(argument)),
        "capture" => {
            if let Some(text) = text {
                known.insert(argument.to_owned(), text.to_owned());
            }
            text.is_some()
        }
        _ => return Err(format!("{path}: there is no pattern <{pattern}>")),
    };
    if good {
        Ok(())
    } else {
        Err(format!("{path} is {found}, expected <{pattern}>"))
    }
}

/// `2026-11-24T01:49:43Z` with or without a fraction.
fn is_timestamp(text: &str) -> bool {
    let shape: String = text
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    let Some(rest) = shape.strip_prefix("0000-00-00T00:00:00") else {
        return false;
    };
    let fraction = rest.trim_end_matches('Z');
    rest.ends_with('Z') && (fraction.is_empty() || fraction.starts_with(".0"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn expectations_hold_or_say_where_they_do_not() {
        let found =
            json!({"a": 1, "b": ["x", "y"], "c": {"d": true}, "t": "2026-01-02T03:04:05.678Z"});
        let mut known = Known::new();
        for good in [
            json!({"a": "<integer>", "c": {"d": "<boolean>", "e": "<absent>"}}),
            json!({"b": ["x", "<capture second>"], "t": "<timestamp>"}),
            json!({"b": ["<some>", "y"]}),
            json!({"b": "<length 2>"}),
        ] {
            assert_eq!(check(&good, &found, &mut known), Ok(()), "{good}");
        }
        assert_eq!(known["second"], "y");
        for (bad, path) in [
            (json!({"a": 2}), ".a"),
            (json!({"b": ["x"]}), ".b"),
            (json!({"c": "<absent>"}), ".c"),
            (json!({"z": "<any>"}), ".z"),
            (json!({"b": ["<some>", "z"]}), ".b"),
            (json!({"a": "<timestamp>"}), ".a"),
        ] {
            let why = check(&bad, &found, &mut known).unwrap_err();
            assert!(why.starts_with(path), "{why}");
        }
    }
}
