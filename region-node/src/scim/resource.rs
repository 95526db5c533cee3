//! Identity of a resource: [`ResourceId`], [`ResourceKind`], [`Version`].

use std::fmt;

use serde::{Deserialize, Serialize};
use shared::Timestamp;
use uuid::Uuid;

/// The service provider's identifier of a resource (RFC 7643 section 3.1, `id`): a UUID of version
/// 7 (RFC 9562 section 5.7), never reused, stable over every change of the resource.
///
/// It begins with the time of creation, which `meta.created` tells as well, so that new resources
/// lie side by side in the index over ids; 74 bits are random.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceId(Uuid);

/// The text is no id that this service gives. A client is told 404, as for any unknown id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the id of a resource of this service")]
pub struct ResourceIdError;

impl ResourceId {
    /// The id of a resource that is created at this moment; the caller took the bytes from the
    /// operating system's generator.
    #[must_use]
    pub fn new(created: Timestamp, random: [u8; 10]) -> Self {
        let millis = u64::try_from(created.as_millis()).unwrap_or(0);
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }

    /// An id that means nothing, for tests.
    #[cfg(test)]
    #[must_use]
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }

    /// The id that is stored as these 16 bytes.
    #[must_use]
    pub fn from_stored(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// Parses the hyphenated, lower-case form that clients are given; no other spelling names
    /// the resource.
    ///
    /// # Errors
    /// [`ResourceIdError`] for everything else.
    pub fn parse(text: &str) -> Result<Self, ResourceIdError> {
        let hyphenated = text.len() == 36 && !text.bytes().any(|b| b.is_ascii_uppercase());
        match Uuid::try_parse(text) {
            Ok(uuid) if hyphenated => Ok(Self(uuid)),
            _ => Err(ResourceIdError),
        }
    }

    /// The 16 bytes, as they are stored.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl fmt::Debug for ResourceId {
    /// Resource ids are personal data (DESIGN section 8) and stay out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResourceId(…)")
    }
}

/// The resource types of this service (RFC 7643 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ResourceKind {
    /// A user, endpoint `/Users`.
    User,
    /// A group, endpoint `/Groups`.
    Group,
}

impl ResourceKind {
    /// `meta.resourceType`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "User",
            Self::Group => "Group",
        }
    }

    /// The endpoint, relative to the base URL, with its slash.
    #[must_use]
    pub fn endpoint(self) -> &'static str {
        match self {
            Self::User => "/Users",
            Self::Group => "/Groups",
        }
    }
}

/// The version of a resource: the tenant's `seq` at the write that made it. On the wire it is
/// the weak ETag `W/"<seq>"` (RFC 7644 section 3.14).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub i64);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "W/\"{}\"", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_in_the_order_of_creation_and_random_behind_the_time() {
        let id = |at, random| ResourceId::new(Timestamp(at), [random; 10]);
        assert!(id(1_700_000_000_000, 0xff) < id(1_700_000_000_001, 0));
        assert_ne!(id(1, 1), id(1, 2));
        let text = id(0x0123_4567_89ab, 0xff).to_string();
        assert_eq!(text, "01234567-89ab-7fff-bfff-ffffffffffff");
        assert_eq!(ResourceId::parse(&text), Ok(id(0x0123_4567_89ab, 0xff)));
    }

    #[test]
    fn one_spelling_names_a_resource() {
        let id = ResourceId::from_random([0xab; 16]);
        let text = id.to_string();
        assert_eq!(ResourceId::parse(&text), Ok(id));
        for odd in [
            text.to_uppercase(),
            text.replace('-', ""),
            format!("{{{text}}}"),
            String::new(),
            "..".into(),
        ] {
            assert!(ResourceId::parse(&odd).is_err(), "{odd:?}");
        }
    }
}
