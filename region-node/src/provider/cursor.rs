//! Cursors of RFC 9865: where a page begins, sealed.
//!
//! A cursor is ciphertext that only this region can read. It is bound, as associated data, to
//! the tenant, the resource type, the filter and the order: presented with others it does not
//! open, so it can neither be carried to another tenant nor continue another list.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
use sha2::{Digest as _, Sha256};
use shared::api_token::RandomnessError;
use shared::{ScimError, ScimType, Timestamp};

use crate::store::Position;

/// How long a cursor is good for, in seconds (`pagination.cursorTimeout`).
pub const CURSOR_TIMEOUT_S: u32 = 3600;

const NONCE_LENGTH: usize = 24;

/// Where a page begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// How many results come before, as the list was when they were counted.
    pub rank: u64,
    /// The last result before, where it is known: then the page begins behind it, whatever has
    /// been deleted since.
    pub behind: Option<Position>,
}

/// Seals cursors and opens them. `Debug` tells nothing of its keys.
pub struct CursorSealer {
    /// The first seals; all open, so that keys can be rotated.
    ciphers: Vec<XChaCha20Poly1305>,
}

impl std::fmt::Debug for CursorSealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CursorSealer(…)")
    }
}

impl CursorSealer {
    /// A sealer whose keys are derived from secrets of the region, the current one first.
    #[must_use]
    pub fn new<'k>(secrets: impl IntoIterator<Item = &'k [u8]>) -> Self {
        let ciphers = secrets.into_iter().map(|secret| {
            let key = Sha256::new()
                .chain_update("meridian cursor 1")
                .chain_update(secret)
                .finalize();
            XChaCha20Poly1305::new(&key)
        });
        Self {
            ciphers: ciphers.collect(),
        }
    }

    /// Seals a place in the list that `list` describes.
    ///
    /// # Errors
    /// [`RandomnessError`] without a random nonce.
    pub fn seal(
        &self,
        start: Start,
        list: &[u8],
        now: Timestamp,
    ) -> Result<String, RandomnessError> {
        let cipher = self.ciphers.first().ok_or(RandomnessError)?;
        let expires = now.after(Duration::from_secs(CURSOR_TIMEOUT_S.into()));
        let mut plain = Vec::with_capacity(24);
        plain.extend(expires.as_millis().to_be_bytes());
        plain.extend(start.rank.to_be_bytes());
        plain.extend(start.behind.map_or(-1, |position| position.0).to_be_bytes());
        let mut sealed = vec![0; NONCE_LENGTH];
        getrandom::fill(&mut sealed).map_err(|_| RandomnessError)?;
        let nonce = XNonce::try_from(sealed.as_slice()).map_err(|_| RandomnessError)?;
        let payload = Payload {
            msg: &plain,
            aad: list,
        };
        sealed.extend(
            cipher
                .encrypt(&nonce, payload)
                .map_err(|_| RandomnessError)?,
        );
        Ok(URL_SAFE_NO_PAD.encode(sealed))
    }

    /// Opens a cursor that was sealed for this list.
    ///
    /// # Errors
    /// 400 `invalidCursor`, 400 `expiredCursor`.
    pub fn open(&self, cursor: &str, list: &[u8], now: Timestamp) -> Result<Start, ScimError> {
        let plain = self.decrypt(cursor, list).ok_or_else(|| {
            ScimError::typed(
                400,
                ScimType::InvalidCursor,
                "The cursor is not one that was given for this list; begin with a blank one.",
            )
        })?;
        let number = |at: usize| {
            let bytes = plain
                .get(at..at + 8)
                .and_then(|bytes| bytes.try_into().ok());
            i64::from_be_bytes(bytes.unwrap_or_default())
        };
        if Timestamp(number(0)) <= now {
            return Err(ScimError::typed(
                400,
                ScimType::ExpiredCursor,
                "The cursor's time is over; begin with a blank one.",
            ));
        }
        Ok(Start {
            rank: u64::try_from(number(8)).unwrap_or(0),
            behind: Some(number(16))
                .filter(|position| *position >= 0)
                .map(Position),
        })
    }

    fn decrypt(&self, cursor: &str, list: &[u8]) -> Option<Vec<u8>> {
        let sealed = URL_SAFE_NO_PAD.decode(cursor).ok()?;
        let (nonce, ciphertext) = sealed.split_at_checked(NONCE_LENGTH)?;
        let nonce = XNonce::try_from(nonce).ok()?;
        let payload = || Payload {
            msg: ciphertext,
            aad: list,
        };
        self.ciphers
            .iter()
            .find_map(|cipher| cipher.decrypt(&nonce, payload()).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_opens_only_where_it_was_sealed_and_for_an_hour() {
        let sealer = CursorSealer::new([b"new secret".as_slice(), b"old secret"]);
        let start = Start {
            rank: 100,
            behind: Some(Position(7)),
        };
        let now = Timestamp(1_000_000);
        let cursor = sealer.seal(start, b"acme users", now).unwrap();
        assert_eq!(sealer.open(&cursor, b"acme users", now), Ok(start));

        let keyword = |result: Result<Start, ScimError>| result.unwrap_err().scim_type.unwrap();
        assert_eq!(
            keyword(sealer.open(&cursor, b"umbrella users", now)),
            ScimType::InvalidCursor
        );
        let later = now.after(Duration::from_secs(3600));
        assert_eq!(
            keyword(sealer.open(&cursor, b"acme users", later)),
            ScimType::ExpiredCursor
        );
        for odd in [
            "",
            "x",
            "AAAA",
            cursor.get(1..).unwrap(),
            &cursor.replace(cursor.get(40..41).unwrap(), "_"),
        ] {
            let result = sealer.open(odd, b"acme users", now);
            assert!(
                odd == cursor || keyword(result) == ScimType::InvalidCursor,
                "{odd}"
            );
        }
        let rotated = CursorSealer::new([b"newest secret".as_slice(), b"new secret"]);
        assert_eq!(rotated.open(&cursor, b"acme users", now), Ok(start));
    }
}
