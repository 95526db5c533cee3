//! The strict pre-pass over a body: bytes to a JSON tree, or one clear reason why not.
//!
//! RFC 8259 leaves duplicate names and lone surrogates to the reader's taste; two readers that
//! choose differently are a security hole. Here nothing is left to taste: duplicate member names
//! (in any case, because SCIM names have none), NUL characters, lone surrogates, numbers that no
//! double holds, and trees deeper than [`MAX_DEPTH`] are refused, for both storage engines alike.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// How deep arrays and objects may nest.
pub const MAX_DEPTH: usize = 32;

/// Why a body is not taken. Tells where, never what stands there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("The body is not valid JSON: {reason}, at line {line}, column {column}.")]
pub struct JsonError {
    reason: &'static str,
    line: usize,
    column: usize,
}

const DUPLICATE: &str = "a member name stands twice in one object (names have no case)";
const NUL: &str = "a string holds the NUL character";
const DEEP: &str = "it nests deeper than 32 levels";

/// Parses a body.
///
/// # Errors
/// [`JsonError`], for a 400 `invalidSyntax`.
pub fn parse(bytes: &[u8]) -> Result<Value, JsonError> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let parsed = Tree { depth: 0 }
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value));
    parsed.map_err(|error| {
        let text = error.to_string();
        let ours = [DUPLICATE, NUL, DEEP]
            .into_iter()
            .find(|reason| text.starts_with(reason));
        let reason = match (ours, error.classify()) {
            (Some(reason), _) => reason,
            (None, serde_json::error::Category::Eof) => "it ends too early",
            (None, _) => "a character, an escape or a number is out of place",
        };
        JsonError {
            reason,
            line: error.line(),
            column: error.column(),
        }
    })
}

/// Parses a body that must be an object.
///
/// # Errors
/// [`JsonError`], for a 400 `invalidSyntax`.
pub fn parse_object(bytes: &[u8]) -> Result<Map<String, Value>, JsonError> {
    match parse(bytes)? {
        Value::Object(object) => Ok(object),
        _ => Err(JsonError {
            reason: "it must be one object",
            line: 1,
            column: 1,
        }),
    }
}

/// Builds a tree; carries how deep it stands, so the recursion ends at [`MAX_DEPTH`].
#[derive(Clone, Copy)]
struct Tree {
    depth: usize,
}

impl Tree {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth == MAX_DEPTH {
            Err(E::custom(DEEP))
        } else {
            Ok(Self {
                depth: self.depth + 1,
            })
        }
    }
}

impl<'de> DeserializeSeed<'de> for Tree {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Value, E> {
        if text.contains('\0') {
            Err(E::custom(NUL))
        } else {
            Ok(text.into())
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let element = self.deeper()?;
        let mut array = Vec::new();
        while let Some(value) = seq.next_element_seed(element)? {
            array.push(value);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let member = self.deeper()?;
        let mut object = Map::new();
        let mut names = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if name.contains('\0') {
                return Err(A::Error::custom(NUL));
            }
            if !names.insert(name.to_ascii_lowercase()) {
                return Err(A::Error::custom(DUPLICATE));
            }
            object.insert(name, map.next_value_seed(member)?);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_bodies_are_read_as_they_stand() {
        let value =
            parse(br#"{"b":[1,-2,1.5,"\u00fc\ud83d\ude00"],"a":{"x":null,"y":true}}"#).unwrap();
        assert_eq!(
            value.to_string(),
            "{\"b\":[1,-2,1.5,\"ü😀\"],\"a\":{\"x\":null,\"y\":true}}"
        );
    }

    #[test]
    fn what_readers_disagree_about_is_refused() {
        let cases: [&[u8]; 18] = [
            b"",
            b"{",
            b"[1,]",
            b"{\"a\":1}x",
            b"\xef\xbb\xbf{}",
            b"{\"a\":NaN}",
            b"{\"a\":1e999}",
            b"{\"a\":1,\"a\":2}",
            b"{\"a\":1,\"A\":2}",
            b"{\"a\":1,\"\\u0061\":2}",
            b"{\"a\":\"\\u0000\"}",
            b"{\"\\u0000\":1}",
            b"{\"a\":\"\\ud800\"}",
            b"{\"a\":\"\xff\"}",
            b"{'a':1}",
            b"{\"a\":01}",
            b"{\"a\":\"\t\"}",
            b"test",
        ];
        for case in cases {
            assert!(parse(case).is_err(), "{}", String::from_utf8_lossy(case));
        }
        assert!(parse_object(b"[]").is_err());
    }

    #[test]
    fn depth_ends_at_32() {
        let nested = |n: usize| format!("{}1{}", "[".repeat(n), "]".repeat(n));
        assert!(parse(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert!(parse(nested(MAX_DEPTH + 1).as_bytes()).is_err());
        assert!(parse("[".repeat(1_000_000).as_bytes()).is_err());
    }

    #[test]
    fn errors_say_where_and_echo_nothing() {
        let error = parse(b"{\n  \"userName\": \"secret\", \"username\": 1}")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("line 2") && error.contains("twice"),
            "{error}"
        );
        assert!(!error.contains("secret"));
    }
}
