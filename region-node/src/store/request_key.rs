//! [`RequestKey`]: the name under which the outcome of a request is kept, so that a request that
//! is sent again is not carried out again.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use shared::Timestamp;

use super::{ChangeKind, Position};
use crate::scim::{ResourceId, ResourceKind, Version};

/// Bytes of a key.
pub const KEY_BYTES: usize = 16;
/// The first bytes of a gateway's key: milliseconds since the epoch, big-endian. So keys are
/// stored in the order in which they are made, side by side, and old ones are forgotten by range.
const TIME_BYTES: usize = 6;

/// Who made a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyOrigin {
    /// A gateway, for one call; it uses it again only when it sends the call again.
    Gateway,
    /// A client, by `Idempotency-Key`.
    Client,
}

/// The name of a request, unique in its tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestKey {
    /// Who made it.
    pub origin: KeyOrigin,
    /// The name.
    pub key: [u8; KEY_BYTES],
    /// Of a client's key: a digest of what it was used for. A gateway never uses a key twice.
    pub fingerprint: Option<[u8; 8]>,
    /// Whether the request may have been sent before.
    pub may_be_repeated: bool,
}

impl RequestKey {
    /// Reads what a gateway sends: 32 hexadecimal digits are its own key, 64 stand for a client's
    /// (`what` gives the parts of the request that are compared). `None` for anything else.
    #[must_use]
    pub fn parse<'w>(
        header: &str,
        is_resent: bool,
        what: impl IntoIterator<Item = &'w [u8]>,
    ) -> Option<Self> {
        let mut bytes = [0; 32];
        match header.len() {
            32 => {
                let mut key = [0; KEY_BYTES];
                hex::decode_to_slice(header, &mut key).ok()?;
                Some(Self {
                    origin: KeyOrigin::Gateway,
                    key,
                    fingerprint: None,
                    may_be_repeated: is_resent,
                })
            }
            64 => {
                hex::decode_to_slice(header, &mut bytes).ok()?;
                Some(Self {
                    origin: KeyOrigin::Client,
                    key: first(&bytes),
                    fingerprint: Some(first(&digest(what))),
                    may_be_repeated: true,
                })
            }
            _ => None,
        }
    }

    /// The name of one of the writes that a request asks for.
    #[must_use]
    pub fn part(&self, number: usize) -> Self {
        let number = (number as u64).to_be_bytes();
        let mut key: [u8; KEY_BYTES] = first(&digest([self.key.as_slice(), number.as_slice()]));
        if self.origin == KeyOrigin::Gateway {
            for (byte, time) in key.iter_mut().zip(self.key).take(TIME_BYTES) {
                *byte = time;
            }
        }
        Self { key, ..*self }
    }

    /// The least key that a gateway makes at a time or later.
    #[must_use]
    pub fn least_since(time: Timestamp) -> [u8; KEY_BYTES] {
        let time = u64::try_from(time.as_millis()).unwrap_or(0);
        // Eight bytes, of which the first two are 0 for some thousands of years.
        let [_, _, time @ ..] = time.to_be_bytes();
        let mut key = [0; KEY_BYTES];
        for (byte, time) in key.iter_mut().zip(time) {
            *byte = time;
        }
        key
    }
}

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What it did.
    pub what: ChangeKind,
    /// To what.
    pub kind: ResourceKind,
    /// Its id.
    pub id: ResourceId,
    /// Its place in the list.
    pub position: Position,
    /// The version that it had then.
    pub version: Version,
    /// When.
    pub at: Timestamp,
}

/// SHA-256 of parts, none of which can pass for another's beginning.
fn digest<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// The first bytes of a digest.
fn first<const N: usize>(digest: &[u8; 32]) -> [u8; N] {
    let mut bytes = [0; N];
    for (byte, digest) in bytes.iter_mut().zip(digest) {
        *byte = *digest;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_gateways_and_clients_are_told_apart() {
        let what = || [b"POST".as_slice(), b"/Users", b"{}"];
        let gateways = "0190f3c2a4b1".to_owned() + &"ab".repeat(10);
        let key = RequestKey::parse(&gateways, true, what()).unwrap();
        assert_eq!((key.origin, key.fingerprint), (KeyOrigin::Gateway, None));
        assert!(key.may_be_repeated);
        assert!(
            !RequestKey::parse(&gateways, false, what())
                .unwrap()
                .may_be_repeated
        );

        let clients = "cd".repeat(32);
        let key = RequestKey::parse(&clients, false, what()).unwrap();
        assert_eq!(key.origin, KeyOrigin::Client);
        assert!(key.may_be_repeated);
        let other = RequestKey::parse(&clients, false, [b"POST".as_slice(), b"/Users{", b"}"]);
        assert_ne!(key.fingerprint, other.unwrap().fingerprint);

        for odd in ["", "0", &"x".repeat(32), &"g".repeat(64), &"a".repeat(33)] {
            assert_eq!(RequestKey::parse(odd, true, what()), None, "{odd}");
        }
    }

    #[test]
    fn parts_differ_and_keep_the_time() {
        let time = Timestamp(1_790_000_000_123);
        let least = RequestKey::least_since(time);
        let mut key = RequestKey::parse(&hex::encode(least), false, []).unwrap();
        key.key[15] = 9;
        assert!(key.key > least);
        assert!(key.key < RequestKey::least_since(Timestamp(time.as_millis() + 1)));
        let (one, two) = (key.part(0), key.part(1));
        assert_ne!(one.key, two.key);
        assert_ne!(one.key, key.key);
        assert_eq!(one.key[..TIME_BYTES], key.key[..TIME_BYTES]);
        assert_eq!(one, key.part(0));
    }
}
