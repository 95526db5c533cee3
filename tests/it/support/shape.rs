//! [`Shape`]: how an identity provider says what it wants, taken from the conversations in
//! `tests/data`, for load of the kind that tenants have.

use reqwest::Method;
use serde_json::{Value, json};

use super::{encode, patch};

/// Whose requests they look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Nobody's; without looking before anything is made.
    Plain,
    /// Looks by userName and replaces whole users.
    Okta,
    /// Capital letters, a path for each operation, and lists of members to add and to remove.
    Entra,
    /// Looks by userName, and changes several attributes at once.
    PingOne,
}

impl Shape {
    /// What is asked before a user is made; nothing, if it does not ask.
    pub fn look(self, name: &str) -> Option<String> {
        let filter = encode(&format!("userName eq \"{name}\""));
        match self {
            Self::Plain => None,
            Self::Okta => Some(format!("/Users?filter={filter}&startIndex=1&count=100")),
            Self::Entra | Self::PingOne => Some(format!("/Users?filter={filter}")),
        }
    }

    /// Gives a user another title and another e-mail address.
    pub fn change(self, id: &str, name: &str, title: &str, email: &str) -> (Method, Value) {
        let emails = json!([{ "type": "work", "value": email }]);
        match self {
            Self::Plain | Self::PingOne => {
                let value = json!({ "title": title, "emails": emails });
                let operations = json!([{ "op": "replace", "value": value }]);
                (Method::PATCH, patch(&operations))
            }
            Self::Okta => {
                let user = json!({
                    "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
                    "id": id, "userName": name, "title": title, "emails": emails, "active": true,
                });
                (Method::PUT, user)
            }
            Self::Entra => {
                let operations = json!([
                    { "op": "Replace", "path": "title", "value": title },
                    { "op": "Replace", "path": "emails[type eq \"work\"].value", "value": email },
                ]);
                (Method::PATCH, patch(&operations))
            }
        }
    }

    /// Makes a user a member of a group.
    pub fn join(self, id: &str) -> Value {
        patch(&match self {
            Self::Entra => json!([{
                "op": "Add", "path": "members", "value": [{ "$ref": null, "value": id }],
            }]),
            _ => json!([{ "op": "add", "path": "members", "value": [{ "value": id }] }]),
        })
    }

    /// The opposite.
    pub fn leave(self, id: &str) -> Value {
        patch(&match self {
            Self::Entra => json!([{
                "op": "Remove", "path": "members", "value": [{ "$ref": null, "value": id }],
            }]),
            _ => json!([{ "op": "remove", "path": format!("members[value eq \"{id}\"]") }]),
        })
    }
}
