//! How text is compared: keys of values that have no case, and what an identifier may hold.

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization as _;

/// The key under which two spellings of a value that is compared without case are one: Unicode
/// canonical caseless matching (The Unicode Standard, D145), in NFC.
///
/// It is idempotent, and made here alone, so that no engine's collation has a say.
#[must_use]
pub fn key(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Cow::Owned(text.to_ascii_lowercase());
        }
        return Cow::Borrowed(text);
    }
    let folded = caseless::default_case_fold_str(&text.nfd().collect::<String>());
    Cow::Owned(folded.nfc().collect())
}

/// The key that a value shares with all that look like it (Unicode compatibility caseless
/// matching, D146), where that is another one than [`key`]: "ａｄｍｉｎ" looks like "admin".
#[must_use]
pub fn look_alike_key(text: &str) -> Option<String> {
    if text.is_ascii() {
        return None;
    }
    let compatible = text.nfkc().collect::<String>();
    let folded = key(&compatible).nfkc().collect::<String>();
    let folded = key(&folded).into_owned();
    (folded != key(text)).then_some(folded)
}

/// Whether a character has no place in an identifier: it is a control character, or it shows
/// nothing or reorders what is shown (failure class 73).
#[must_use]
pub fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{00AD}' | '\u{034F}' | '\u{061C}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}'
            | '\u{180B}'..='\u{180F}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}'
            | '\u{2060}'..='\u{206F}' | '\u{3164}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}'
            | '\u{FFA0}' | '\u{FFF0}'..='\u{FFFB}' | '\u{1BCA0}'..='\u{1BCA3}'
            | '\u{1D173}'..='\u{1D17A}' | '\u{E0000}'..='\u{E0FFF}')
}

/// Whether the text has the shape of an e-mail address: one `@` with something plain before it
/// and a dotted or single-label domain behind it. Deliverability is not ours to judge.
#[must_use]
pub fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else {
        return false;
    };
    let plain =
        |s: &str| !s.is_empty() && !s.contains(|c: char| c.is_whitespace() || c.is_control());
    plain(local)
        && plain(domain)
        && !local.contains('@')
        && text.len() <= 254
        && domain.split('.').all(|label| !label.is_empty())
}

/// The beginning of a text, of at most so many bytes.
#[must_use]
pub fn cut(text: &str, longest: usize) -> &str {
    if text.len() <= longest {
        return text;
    }
    let end = (0..=longest).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn case_and_composition_do_not_matter() {
        assert_eq!(key("BJensen@Example.COM"), "bjensen@example.com");
        assert_eq!(key("STRASSE"), key("straße"));
        assert_eq!(key("Jos\u{e9}"), key("JOSE\u{301}"));
        assert_ne!(key("a"), key("b"));
    }

    #[test]
    fn look_alikes_share_a_key() {
        assert_eq!(look_alike_key("ＡＤＭＩＮ").as_deref(), Some("admin"));
        assert_eq!(
            look_alike_key("user²@x.com").as_deref(),
            Some("user2@x.com")
        );
        for own in ["admin", "Zoë", "straße", "josé"] {
            assert_eq!(look_alike_key(own), None, "{own}");
        }
    }

    #[test]
    fn email_shapes() {
        for good in ["a@x.com", "a+b&c'd@x.co.uk", "ü@straße.de", "a@localhost"] {
            assert!(is_email(good), "{good}");
        }
        for bad in ["", "a", "@x", "a@", "a b@x.com", "a@x..com", "a@b@c"] {
            assert!(!is_email(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn the_key_of_a_key_is_itself(text in "\\PC{0,20}") {
            let once = key(&text).into_owned();
            prop_assert_eq!(key(&once), once.as_str());
        }
    }
}
