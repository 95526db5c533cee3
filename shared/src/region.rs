//! [`RegionId`]: the short name of a legal place that owns its data.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::short::Short;

/// A region such as `us` or `de`: 2 to 16 lower-case ASCII letters and digits, a letter first.
///
/// The shape keeps a region safe inside a hostname label, an API token, a file name and a
/// database name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RegionId(Short<16>);

/// The text is no region name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a region is 2 to 16 lower-case letters and digits, a letter first")]
pub struct RegionIdError;

impl RegionId {
    /// Parses a region name.
    ///
    /// # Errors
    /// [`RegionIdError`] when the text has another shape.
    pub fn parse(text: &str) -> Result<Self, RegionIdError> {
        let starts_with_letter = text.starts_with(|c: char| c.is_ascii_lowercase());
        let well_formed = text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if (2..=16).contains(&text.len()) && starts_with_letter && well_formed {
            Short::new(text).map(Self).ok_or(RegionIdError)
        } else {
            Err(RegionIdError)
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for RegionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for RegionId {
    type Err = RegionIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl TryFrom<String> for RegionId {
    type Error = RegionIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<RegionId> for String {
    fn from(region: RegionId) -> Self {
        region.as_str().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_short_lower_case_names_are_regions() {
        for good in ["us", "de", "jp", "au", "eu2", "a123456789012345"] {
            assert_eq!(RegionId::parse(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "u",
            "US",
            "2us",
            "u-s",
            "u_s",
            "us ",
            "a1234567890123456",
            "ü1",
        ] {
            assert!(RegionId::parse(bad).is_err(), "{bad:?}");
        }
    }
}
