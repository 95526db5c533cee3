//! [`KeySet`]: the live keys of one purpose, compared with what a caller presents.
//!
//! What never lives here: where keys come from (`config`), what they sign (`grant`).

use std::fmt;

use sha2::{Digest as _, Sha256};
use shared::Secret;
use subtle::ConstantTimeEq as _;

/// Enough to tell keys apart that were made for different purposes or regions.
const FINGERPRINT_BYTES: usize = 4;

/// The live keys of one purpose. Keeps digests only, so that a comparison takes the same time
/// whatever is presented, its length included.
#[derive(Clone)]
pub struct KeySet(Vec<[u8; 32]>);

impl KeySet {
    /// The keys that are accepted.
    #[must_use]
    pub fn new(keys: &[Secret]) -> Self {
        let digests = keys.iter().map(|key| digest(key.reveal().as_bytes()));
        Self(digests.collect())
    }

    /// Whether what was presented is one of the keys.
    #[must_use]
    pub fn accepts(&self, presented: &[u8]) -> bool {
        let presented = digest(presented);
        let matches = self.0.iter().map(|key| key.ct_eq(&presented));
        matches
            .fold(subtle::Choice::from(0), |any, this| any | this)
            .into()
    }

    /// By what it can be told, without knowing them, whether two nodes have the same keys: for each
    /// key 32 bits of a digest, which opens nothing.
    #[must_use]
    pub fn fingerprints(&self) -> Vec<String> {
        let prints = self.0.iter().map(|key| {
            let mut print =
                digest(&[b"meridian key fingerprint".as_slice(), key].concat()).to_vec();
            print.truncate(FINGERPRINT_BYTES);
            hex::encode(print)
        });
        prints.collect()
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeySet({} keys)", self.0.len())
    }
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_live_key_is_accepted_and_nothing_else() {
        let keys = KeySet::new(&[Secret::new("first"), Secret::new("second\n")]);
        assert!(keys.accepts(b"first") && keys.accepts(b"second"));
        for other in [&b""[..], b"firs", b"first ", b"FIRST", b"\xff"] {
            assert!(!keys.accepts(other));
        }
        assert!(!KeySet::new(&[]).accepts(b""));
    }

    #[test]
    fn fingerprints_tell_keys_apart_and_nothing_more() {
        let prints = |keys: &[&str]| {
            let keys: Vec<Secret> = keys.iter().map(|key| Secret::new(key)).collect();
            KeySet::new(&keys).fingerprints()
        };
        let both = prints(&["first", "second"]);
        assert_eq!(both, [prints(&["first"]), prints(&["second"])].concat());
        assert_ne!(both[0], both[1]);
        assert!(
            both.iter()
                .all(|print| print.len() == 2 * FINGERPRINT_BYTES)
        );
        assert!(!hex::encode(digest(b"first")).contains(&both[0]));
    }

    #[test]
    fn debug_shows_no_key() {
        let secret = Secret::new("canary");
        assert!(
            !format!("{secret:?}{:?}", KeySet::new(std::slice::from_ref(&secret)))
                .contains("canary")
        );
    }
}
