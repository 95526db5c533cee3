//! [`Secret`]: a key as an operator wrote it, which shows itself to nobody, and whether it is good
//! enough.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;

/// The least length of a key between programs, in bytes (DESIGN section 6).
const MIN_KEY_BYTES: usize = 32;
/// A key with fewer different bytes than this was typed, not generated.
const MIN_DIFFERENT_BYTES: usize = 8;

/// Why a key is not good enough. Reads on from the key's name, and never shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WeakKey {
    /// It is shorter than 32 bytes.
    #[error("is too short: it has {0} bytes, and at least {MIN_KEY_BYTES} random ones are needed")]
    Short(usize),
    /// Nobody's random generator made this.
    #[error("looks like a placeholder: production needs random bytes")]
    Placeholder,
}

/// A key of the configuration. Neither `Display` nor a telling `Debug`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a key; white space around it, as a file's last line break, does not count.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.trim().to_owned())
    }

    /// Whether it can be a key between programs; one that was typed is good enough outside
    /// production.
    ///
    /// # Errors
    /// [`WeakKey`]
    pub fn check_key(&self, production: bool) -> Result<(), WeakKey> {
        let bytes = self.0.as_bytes();
        if bytes.len() < MIN_KEY_BYTES {
            return Err(WeakKey::Short(bytes.len()));
        }
        let different: BTreeSet<&u8> = bytes.iter().collect();
        if production && different.len() < MIN_DIFFERENT_BYTES {
            return Err(WeakKey::Placeholder);
        }
        Ok(())
    }

    /// The key itself, for the one place that uses it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_keys_and_in_production_typed_ones_are_refused() {
        let check = |key: &str, production| Secret::new(key).check_key(production);
        let good = "0123456789abcdef0123456789abcdef";
        for production in [false, true] {
            assert_eq!(check(good, production), Ok(()));
            assert_eq!(check("0123456789", production), Err(WeakKey::Short(10)));
        }
        let typed = "changeme".repeat(4);
        assert_eq!(check(&typed, false), Ok(()));
        assert_eq!(check(&typed, true), Err(WeakKey::Placeholder));
    }
}
