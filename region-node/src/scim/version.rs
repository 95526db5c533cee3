//! Entity tags and the conditions that name them (RFC 7644 section 3.14, RFC 9110 section 13.1).

use super::resource::Version;

/// What `If-Match` or `If-None-Match` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntityTags {
    /// `*`: any version that exists.
    Any,
    /// These versions. Tags that are not ours name nothing, and never count as absent.
    These(Vec<Version>),
}

impl EntityTags {
    /// Reads a header's value: tags separated by commas, weak or strong, compared weakly; quotes
    /// may be missing.
    #[must_use]
    pub fn parse(header: &str) -> Self {
        if header.trim() == "*" {
            return Self::Any;
        }
        let tags = header.split(',').filter_map(|tag| {
            let tag = tag.trim();
            let tag = tag.strip_prefix("W/").unwrap_or(tag);
            let tag = tag
                .strip_prefix('"')
                .and_then(|t| t.strip_suffix('"'))
                .unwrap_or(tag);
            let plain = !tag.is_empty() && tag.bytes().all(|b| b.is_ascii_digit());
            if plain {
                tag.parse().ok().map(Version)
            } else {
                None
            }
        });
        Self::These(tags.collect())
    }

    /// Whether the tags name this version.
    #[must_use]
    pub fn name(&self, version: Version) -> bool {
        match self {
            Self::Any => true,
            Self::These(versions) => versions.contains(&version),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_compared_weakly_and_odd_ones_name_nothing() {
        for header in ["W/\"7\"", "\"7\"", "7", "\"1\", W/\"7\"", "*"] {
            assert!(EntityTags::parse(header).name(Version(7)), "{header}");
        }
        for header in [
            "",
            "\"\"",
            "W/\"8\"",
            "\"7",
            "\"seven\"",
            "W/",
            "\"-7\"",
            "\"+7\"",
        ] {
            assert!(!EntityTags::parse(header).name(Version(7)), "{header}");
        }
    }
}
