//! The SCIM error body and its keywords, in both dialects (RFC 7644 section 3.12; SCIM 1.1 API
//! section 3.9).

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::urn;

/// Which protocol a call speaks, and so which one it must be answered in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum Dialect {
    /// SCIM 2.0.
    #[default]
    #[serde(rename = "2.0")]
    Scim20,
    /// SCIM 1.1.
    #[serde(rename = "1.1")]
    Scim11,
}

/// The text names no version of the protocol that is spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a SCIM version is 2.0 or 1.1")]
pub struct DialectError;

impl std::str::FromStr for Dialect {
    type Err = DialectError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "2.0" => Ok(Self::Scim20),
            "1.1" => Ok(Self::Scim11),
            _ => Err(DialectError),
        }
    }
}

impl Dialect {
    /// The version as clients name it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scim20 => "2.0",
            Self::Scim11 => "1.1",
        }
    }

    /// The media type of answers.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Scim20 => urn::SCIM_JSON,
            Self::Scim11 => urn::JSON,
        }
    }
}

/// Detail error keyword, RFC 7644 table 9, with the additions of RFC 9865.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScimType {
    /// The filter cannot be read, or compares what cannot be compared.
    InvalidFilter,
    /// More would have to be looked at or returned than the service provider is willing to.
    TooMany,
    /// A value that must be unique is taken.
    Uniqueness,
    /// The change is not compatible with the attribute's mutability.
    Mutability,
    /// The body is no message of the protocol.
    InvalidSyntax,
    /// The attribute path cannot be read or names nothing.
    InvalidPath,
    /// The path yielded nothing that could be operated on.
    NoTarget,
    /// A required value is missing, or a value does not fit its attribute.
    InvalidValue,
    /// The protocol version is not supported.
    InvalidVers,
    /// The request cannot be completed because it would pass sensitive data in a URL.
    Sensitive,
    /// The cursor is not one that we gave.
    InvalidCursor,
    /// The cursor was ours and its time is over.
    ExpiredCursor,
    /// The count does not fit the cursor.
    InvalidCount,
}

impl ScimType {
    /// The keyword on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidFilter => "invalidFilter",
            Self::TooMany => "tooMany",
            Self::Uniqueness => "uniqueness",
            Self::Mutability => "mutability",
            Self::InvalidSyntax => "invalidSyntax",
            Self::InvalidPath => "invalidPath",
            Self::NoTarget => "noTarget",
            Self::InvalidValue => "invalidValue",
            Self::InvalidVers => "invalidVers",
            Self::Sensitive => "sensitive",
            Self::InvalidCursor => "invalidCursor",
            Self::ExpiredCursor => "expiredCursor",
            Self::InvalidCount => "invalidCount",
        }
    }
}

/// What a provisioning client is told when its request fails. `detail` is read by administrators:
/// it names the rule and the attribute, never a value, SQL or a path of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScimError {
    /// HTTP status.
    pub status: u16,
    /// Detail error keyword.
    pub scim_type: Option<ScimType>,
    /// For a person.
    pub detail: String,
}

impl ScimError {
    /// An error without a keyword.
    #[must_use]
    pub fn new(status: u16, detail: impl Into<String>) -> Self {
        Self {
            status,
            scim_type: None,
            detail: detail.into(),
        }
    }

    /// An error with a keyword.
    #[must_use]
    pub fn typed(status: u16, scim_type: ScimType, detail: impl Into<String>) -> Self {
        Self {
            status,
            scim_type: Some(scim_type),
            detail: detail.into(),
        }
    }

    /// The body, as JSON text. `status` is a string (RFC 7644 section 3.12). The 1.1 form carries
    /// `detail` beside `Errors`, because Okta's 1.1 suite looks for it.
    #[must_use]
    pub fn body(&self, dialect: Dialect) -> String {
        let status = self.status.to_string();
        let body = match (dialect, self.scim_type) {
            (Dialect::Scim20, None) => {
                json!({"schemas": [urn::ERROR], "status": status, "detail": self.detail})
            }
            (Dialect::Scim20, Some(scim_type)) => json!({
                "schemas": [urn::ERROR],
                "status": status,
                "scimType": scim_type.as_str(),
                "detail": self.detail,
            }),
            (Dialect::Scim11, _) => json!({
                "Errors": [{"description": self.detail, "code": status}],
                "detail": self.detail,
            }),
        };
        body.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc7644_3_12_error_body() {
        let error = ScimError::typed(400, ScimType::Mutability, "Attribute 'id' is readOnly");
        assert_eq!(
            error.body(Dialect::Scim20),
            r#"{"schemas":["urn:ietf:params:scim:api:messages:2.0:Error"],"status":"400","scimType":"mutability","detail":"Attribute 'id' is readOnly"}"#
        );
        assert_eq!(
            ScimError::new(404, "gone").body(Dialect::Scim11),
            r#"{"Errors":[{"description":"gone","code":"404"}],"detail":"gone"}"#
        );
    }
}
