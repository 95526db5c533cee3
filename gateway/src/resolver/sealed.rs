//! What Redis is told of a live token: an entry that only the token opens.
//!
//! Name and key are derived from the API token itself, and not from its digest: whoever holds a
//! dump of Redis, and even the token table of a region beside it, has neither. They are derived from
//! the region's link key too, so that a token's holder who can write to Redis makes no entry
//! either. What never lives here: Redis.

use std::fmt;
use std::time::Duration;

use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{ChaCha20Poly1305, KeyInit as _, Nonce};
use hkdf::HkdfExtract;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use shared::link::Resolved;
use shared::{ApiToken, RegionId, Timestamp};

/// The form of an entry. It is the first byte of each, part of what the seal binds, and part of
/// the name, so that entries of two forms never meet.
const FORMAT: u8 = 2;
/// What the names of all entries begin with.
const NAME_PREFIX: &str = "meridian:2:";
/// Sets the keys apart from anything else that is ever derived from a token.
const SALT: &[u8] = b"meridian redis";
const NONCE_LENGTH: usize = 12;
/// A larger entry is neither written nor read, in bytes. A grant has less than one KiB.
pub const MAX_ENTRY_BYTES: usize = 16 * 1024;

/// A region's answer about a live token.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// When the region was asked, by the clock of the gateway that asked.
    pub asked: Timestamp,
    /// For how long from then the answer may be kept, in milliseconds.
    pub keep_ms: u64,
    /// The answer.
    pub resolved: Resolved,
}

impl Entry {
    /// For how long from the time of asking the answer may be kept.
    #[must_use]
    pub fn keep(&self) -> Duration {
        Duration::from_millis(self.keep_ms)
    }
}

/// What was found in the place of an entry.
#[derive(Debug)]
pub enum Opened {
    /// An entry that a gateway of this region sealed for this token.
    Entry(Box<Entry>),
    /// It was sealed for this token, by a gateway of another version: it has fields that we do
    /// not know, or lacks some that we need. Half of an answer is none.
    OtherVersion,
    /// Nothing that was sealed for this token: forged, copied from elsewhere, cut off, damaged.
    Foreign,
}

/// No entry can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no entry can be sealed")]
pub struct SealError;

/// A token's name in Redis, and its seal. The token cannot be had from it.
pub struct Sealing {
    name: String,
    /// What the seal binds beside the entry: its form, its name and its region.
    binding: Vec<u8>,
    cipher: ChaCha20Poly1305,
}

impl Sealing {
    /// Derives name and key, HKDF-SHA-256 (RFC 5869) of the whole token and the region's link key.
    /// `None` never happens: it stands for a length that HKDF cannot give.
    #[must_use]
    pub fn of(token: &ApiToken, region: &RegionId, link_key: &[u8]) -> Option<Self> {
        // No token holds a zero byte, so each pair has bytes of its own.
        let mut secrets = HkdfExtract::<Sha256>::new(Some(SALT));
        for secret in [token.reveal().as_bytes(), &[0], link_key] {
            secrets.input_ikm(secret);
        }
        let (_, derived) = secrets.finalize();
        let (mut lookup, mut seal) = ([0_u8; 32], [0_u8; 32]);
        derived.expand(b"lookup", &mut lookup).ok()?;
        derived.expand(b"seal", &mut seal).ok()?;
        let name = format!("{NAME_PREFIX}{}", hex::encode(lookup));
        let mut binding = vec![FORMAT];
        binding.extend(name.as_bytes());
        binding.push(0);
        binding.extend(region.as_str().as_bytes());
        Some(Self {
            name,
            binding,
            cipher: ChaCha20Poly1305::new(&seal.into()),
        })
    }

    /// The entry's key in Redis.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Seals an entry.
    ///
    /// # Errors
    /// [`SealError`] without random bytes, or for an entry that is too large.
    pub fn seal(&self, entry: &Entry) -> Result<Vec<u8>, SealError> {
        let plain = serde_json::to_vec(entry).map_err(|_| SealError)?;
        // A token is sealed a few times in each of its minutes at most: random nonces of 96 bits
        // do for longer than any token lives.
        let mut nonce = [0_u8; NONCE_LENGTH];
        getrandom::fill(&mut nonce).map_err(|_| SealError)?;
        let payload = Payload {
            msg: &plain,
            aad: &self.binding,
        };
        let sealed = self
            .cipher
            .encrypt(&Nonce::from(nonce), payload)
            .map_err(|_| SealError)?;
        let bytes = [&[FORMAT], nonce.as_slice(), sealed.as_slice()].concat();
        match bytes.len() <= MAX_ENTRY_BYTES {
            true => Ok(bytes),
            false => Err(SealError),
        }
    }

    /// Opens what was found under the name.
    #[must_use]
    pub fn open(&self, bytes: &[u8]) -> Opened {
        let Some(plain) = self.decrypt(bytes) else {
            return Opened::Foreign;
        };
        match serde_json::from_slice::<Entry>(&plain) {
            // What is written again as it was read has no field that was passed over and none
            // that was made up: a limit that only a newer gateway knows must not get lost here.
            Ok(entry) if serde_json::to_vec(&entry).is_ok_and(|again| again == plain) => {
                Opened::Entry(Box::new(entry))
            }
            _ => Opened::OtherVersion,
        }
    }

    fn decrypt(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let (format, rest) = bytes.split_first()?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LENGTH)?;
        if *format != FORMAT || bytes.len() > MAX_ENTRY_BYTES {
            return None;
        }
        let payload = Payload {
            msg: sealed,
            aad: &self.binding,
        };
        self.cipher
            .decrypt(&Nonce::try_from(nonce).ok()?, payload)
            .ok()
    }
}

impl fmt::Debug for Sealing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealing(…)")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;
    use shared::{TenantId, TokenId};

    use super::*;

    fn region(name: &str) -> RegionId {
        RegionId::parse(name).unwrap()
    }

    fn token() -> ApiToken {
        ApiToken::generate(&region("us")).unwrap()
    }

    fn sealing_of(token: &ApiToken, of: &str) -> Sealing {
        Sealing::of(token, &region(of), b"a link key").unwrap()
    }

    /// An answer with this grant. Spelled as it crosses the link.
    pub(crate) fn entry(asked: i64, keep_ms: u64, grant: &str) -> Entry {
        let entry = json!({
            "asked": asked,
            "keep_ms": keep_ms,
            "resolved": {
                "grant": grant,
                "grant_expires": asked + 300_000,
                "tenant_id": TenantId::generate().unwrap(),
                "token_id": TokenId::generate().unwrap(),
                "scope": "scim",
                "limits": {"requests_per_s": 100, "burst": 500, "in_flight": 100},
                "keep_s": 300,
            },
        });
        serde_json::from_value(entry).unwrap()
    }

    fn entry_of(grant: &str) -> Entry {
        entry(7, 300_000, grant)
    }

    fn is_entry(opened: &Opened, grant: &str) -> bool {
        matches!(opened, Opened::Entry(entry) if entry.resolved.grant.as_compact() == grant)
    }

    #[test]
    fn a_token_opens_what_it_sealed() {
        let token = token();
        let sealing = sealing_of(&token, "us");
        let bytes = sealing.seal(&entry_of("a.grant")).unwrap();
        let again = sealing_of(&token, "us");
        assert_eq!(sealing.name(), again.name());
        assert!(is_entry(&again.open(&bytes), "a.grant"));
        assert_ne!(bytes, sealing.seal(&entry_of("a.grant")).unwrap());
    }

    #[test]
    fn nothing_else_opens_it() {
        let token = token();
        let sealing = sealing_of(&token, "us");
        let bytes = sealing.seal(&entry_of("a.grant")).unwrap();
        let foreign = |sealing: &Sealing, bytes: &[u8]| {
            assert!(matches!(sealing.open(bytes), Opened::Foreign));
        };
        let other = sealing_of(&self::token(), "us");
        assert_ne!(other.name(), sealing.name());
        foreign(&other, &bytes);
        // The same token at another region.
        foreign(&sealing_of(&token, "de"), &bytes);
        // The same token, by somebody who does not have the region's link key.
        for key in [b"another key".as_slice(), b"", b"a link key\0"] {
            let forger = Sealing::of(&token, &region("us"), key).unwrap();
            assert_ne!(forger.name(), sealing.name());
            foreign(&sealing, &forger.seal(&entry_of("a.grant")).unwrap());
        }
        for length in 0..bytes.len() {
            foreign(&sealing, &bytes[..length]);
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            foreign(&sealing, &changed);
        }
        foreign(&sealing, &vec![FORMAT; MAX_ENTRY_BYTES + 1]);
        foreign(&sealing, &[bytes.as_slice(), b"x"].concat());
    }

    #[test]
    fn half_an_answer_is_none() {
        let sealing = sealing_of(&token(), "us");
        let whole = serde_json::to_string(&entry_of("a.grant")).unwrap();
        for other in [
            whole.replacen("\"keep_s\"", "\"only_from\":[],\"keep_s\"", 1),
            whole.replacen("\"keep_s\":300", "\"keep_s2\":300", 1),
            "{}".to_owned(),
        ] {
            let nonce = Nonce::from([0_u8; NONCE_LENGTH]);
            let payload = Payload {
                msg: other.as_bytes(),
                aad: &sealing.binding,
            };
            let sealed = sealing.cipher.encrypt(&nonce, payload).unwrap();
            let bytes = [&[FORMAT], nonce.as_slice(), sealed.as_slice()].concat();
            assert!(
                matches!(sealing.open(&bytes), Opened::OtherVersion),
                "{other}"
            );
        }
    }

    #[test]
    fn an_entry_tells_nothing_and_has_a_limit() {
        let token = token();
        let sealing = sealing_of(&token, "us");
        let bytes = sealing.seal(&entry_of("a.grant.text")).unwrap();
        let shown = format!("{sealing:?} {} {}", sealing.name(), bytes.escape_ascii());
        for secret in [
            token.reveal(),
            &String::from(token.digest()),
            "a.grant",
            "tenant_id",
            "ten_",
        ] {
            assert!(!shown.contains(secret), "{secret}");
        }
        let large = "x".repeat(MAX_ENTRY_BYTES);
        assert_eq!(sealing.seal(&entry_of(&large)).unwrap_err(), SealError);
    }
}
