//! Keys as this engine stores them: PostgreSQL's index entries end at 2,700 bytes, so a longer key
//! is cut and told apart by a digest. Comparing for equality stays exact; looking for a beginning
//! or a range finds a superset, which is all that a look-up promises.

use std::borrow::Cow;

use sha2::{Digest as _, Sha256};

use crate::store::backup::CUT;

/// Longest key that is stored as it is, in bytes.
pub(super) const LONGEST: usize = 1024;
/// How much of a longer one is kept; with mark and digest it is longer than [`LONGEST`], so that a
/// stored key tells whether it was cut.
const KEPT: usize = 960;
/// Stands between what is kept and the digest, and sorts behind every text that could stand there.
const MARK: char = CUT;

/// The key as it is stored and looked up.
pub(super) fn stored(key: &str) -> Cow<'_, str> {
    if key.len() <= LONGEST {
        return Cow::Borrowed(key);
    }
    let digest = Sha256::digest(key.as_bytes());
    Cow::Owned(format!("{}{MARK}{}", beginning(key), hex::encode(digest)))
}

/// As much of the beginning of a key as every stored form of it has.
pub(super) fn beginning(key: &str) -> &str {
    if key.len() <= KEPT {
        return key;
    }
    let end = (0..=KEPT).rev().find(|end| key.is_char_boundary(*end));
    key.get(..end.unwrap_or(0)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn stored_keys_are_equal_exactly_if_the_keys_are(a in "[a-cä]{950,1100}", b in "[a-c]{0,9}") {
            let longer = format!("{a}{b}");
            prop_assert_eq!(stored(&a) == stored(&longer), b.is_empty());
            prop_assert!(stored(&longer).len() < 1200);
            prop_assert!(stored(&longer).starts_with(beginning(&a)));
            prop_assert_eq!(stored(&longer).len() > LONGEST, longer.len() > LONGEST);
        }
    }
}
