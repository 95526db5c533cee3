//! [`Short`]: a short text that is stored in place. Names of regions, tenants and tokens go with
//! every request, and copying one must not ask for memory.

use std::fmt;

/// A text of at most `MOST` bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Short<const MOST: usize> {
    /// The text, and zeros behind it: so the order is that of the texts.
    bytes: [u8; MOST],
    length: u8,
}

impl<const MOST: usize> Short<MOST> {
    /// Takes a text; `None` where it is too long.
    pub(crate) fn new(text: &str) -> Option<Self> {
        let mut bytes = [0; MOST];
        let length = u8::try_from(text.len()).ok()?;
        bytes
            .get_mut(..text.len())?
            .copy_from_slice(text.as_bytes());
        Some(Self { bytes, length })
    }

    /// The text.
    pub(crate) fn as_str(&self) -> &str {
        let text = self.bytes.get(..self.length.into()).unwrap_or_default();
        // It was text when it came in.
        std::str::from_utf8(text).unwrap_or_default()
    }
}

impl<const MOST: usize> fmt::Debug for Short<MOST> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_comes_back_and_sorts_as_it_is() {
        let mut texts = ["us", "u", "", "usa", "de", "a1", "zzzz"];
        let mut short: Vec<Short<4>> = texts.iter().map(|text| Short::new(text).unwrap()).collect();
        texts.sort_unstable();
        short.sort_unstable();
        let back: Vec<&str> = short.iter().map(Short::as_str).collect();
        assert_eq!(back, texts);
        assert!(Short::<4>::new("12345").is_none());
    }
}
