//! What this product asks of users beyond the schema (DESIGN section 7): defaults, and the
//! values that a user is found by.

use serde_json::Value;
use shared::{ScimError, ScimType};

use super::document::{Tree, check_identifier};
use super::text;
use super::tolerance::{Notes, Tolerance};

/// The time zone of a user for whom none was sent.
pub const DEFAULT_TIME_ZONE: &str = "Etc/UTC";

/// Canonical path of the multi-valued attribute that is indexed.
pub const EMAILS_VALUE: &str = "emails.value";

/// Adds what a whole resource (POST, PUT) did not say: the time zone, and whether the user is
/// active. A PUT that does not map `active` must not bring a disabled user back, so the previous
/// state stays.
pub fn complete(user: &mut Tree, previous: Option<&Tree>, notes: &mut Notes) {
    user.entry("timezone").or_insert_with(|| {
        notes.note(Tolerance::TimeZoneDefault);
        DEFAULT_TIME_ZONE.into()
    });
    let previously = previous.is_none_or(is_active);
    user.entry("active").or_insert_with(|| {
        if !previously {
            notes.note(Tolerance::ActiveKept);
        }
        Value::Bool(previously)
    });
}

/// Whether a user is active: unless it says that it is not.
#[must_use]
pub fn is_active(user: &Tree) -> bool {
    user.get("active") != Some(&Value::Bool(false))
}

/// Checks the identifiers of a user, and that `userName` is an e-mail address if `email_only`.
///
/// # Errors
/// 400 `invalidValue` that names the attribute.
pub fn check(user: &Tree, email_only: bool) -> Result<(), ScimError> {
    let user_name = user
        .get("userName")
        .and_then(Value::as_str)
        .unwrap_or_default();
    check_identifier("userName", user_name)?;
    if let Some(external_id) = user.get("externalId").and_then(Value::as_str) {
        check_identifier("externalId", external_id)?;
    }
    if email_only && !text::is_email(user_name) {
        return Err(ScimError::typed(
            400,
            ScimType::InvalidValue,
            "'userName' must be an e-mail address in this tenant.",
        ));
    }
    Ok(())
}

/// The keys of a user's e-mail addresses, each once.
#[must_use]
pub fn email_keys(user: &Tree) -> Vec<String> {
    let elements = user
        .get("emails")
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    let mut keys: Vec<String> = elements
        .iter()
        .filter_map(|element| element.get("value").and_then(Value::as_str))
        .map(|value| text::key(value).into_owned())
        .collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tree(user: Value) -> Tree {
        user.as_object().unwrap().clone()
    }

    #[test]
    fn a_put_without_active_leaves_a_disabled_user_disabled() {
        let mut user = tree(json!({"userName": "b"}));
        let previous = tree(json!({"active": false}));
        let mut notes = Notes::default();
        complete(&mut user, Some(&previous), &mut notes);
        assert_eq!(notes.len(), 2);
        assert_eq!(user["active"], json!(false));
        assert_eq!(user["timezone"], json!("Etc/UTC"));
        let mut new = tree(json!({"userName": "b", "timezone": "Nowhere/Odd"}));
        complete(&mut new, None, &mut Notes::default());
        assert_eq!(new["active"], json!(true));
        assert_eq!(new["timezone"], json!("Nowhere/Odd"));
    }

    #[test]
    fn emails_are_found_by_the_key_of_each_value() {
        let user = tree(
            json!({"emails": [{"value": "B@x"}, {"value": "a@x"}, {"value": "b@X"}, {"type": "work"}]}),
        );
        assert_eq!(email_keys(&user), ["a@x", "b@x"]);
    }
}
