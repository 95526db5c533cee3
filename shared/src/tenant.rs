//! [`TenantId`]: the public name of one customer.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::short::Short;

/// The identifier of a tenant: `ten_` and 22 base62 characters from the operating system's
/// generator (131 bits).
///
/// It may appear in logs and metrics everywhere (DESIGN section 8): it names a company, never a
/// person, and opens nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TenantId(Short<26>);

/// The text is no tenant id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a tenant id is `ten_` followed by 22 letters and digits")]
pub struct TenantIdError;

const PREFIX: &str = "ten_";
const RANDOM_LENGTH: usize = 22;

impl TenantId {
    /// Makes a new, unguessable id.
    ///
    /// # Errors
    /// When the operating system's random generator fails.
    pub fn generate() -> Result<Self, crate::api_token::RandomnessError> {
        let random = crate::api_token::random_base62(RANDOM_LENGTH)?;
        Short::new(&format!("{PREFIX}{random}"))
            .map(Self)
            .ok_or(crate::api_token::RandomnessError)
    }

    /// Parses a tenant id.
    ///
    /// # Errors
    /// [`TenantIdError`] when the text has another shape.
    pub fn parse(text: &str) -> Result<Self, TenantIdError> {
        let random = text.strip_prefix(PREFIX).ok_or(TenantIdError)?;
        if random.len() == RANDOM_LENGTH && random.bytes().all(|b| b.is_ascii_alphanumeric()) {
            Short::new(text).map(Self).ok_or(TenantIdError)
        } else {
            Err(TenantIdError)
        }
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for TenantId {
    type Err = TenantIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl TryFrom<String> for TenantId {
    type Error = TenantIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<TenantId> for String {
    fn from(id: TenantId) -> Self {
        id.as_str().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_ids_parse_and_differ() {
        let (a, b) = (TenantId::generate().unwrap(), TenantId::generate().unwrap());
        assert_ne!(a, b);
        assert_eq!(TenantId::parse(a.as_str()).unwrap(), a);
        for bad in [
            "",
            "ten_",
            "ten_short",
            "abc_0123456789012345678901",
            "ten_0123456789012345678-01",
        ] {
            assert!(TenantId::parse(bad).is_err(), "{bad:?}");
        }
    }
}
