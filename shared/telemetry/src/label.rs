//! [`Label`]: what may stand beside a figure or in a span.

use std::borrow::Cow;

use opentelemetry::Value;
use shared::{RegionId, TenantId, TokenId};

/// A value that may leave for whoever collects figures and traces: a word that is written in the
/// program, a region, a tenant's or a token's id, a number, a request's id. There is no way from a
/// text that a client sent to one of these, so nothing personal can get into a metric or a span
/// (DESIGN section 8).
///
/// ```compile_fail
/// let path = String::from("/Users/jdoe@example.com");
/// let label = telemetry::Label::word(&path);
/// drop(path);
/// println!("{label:?}");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label(Inner);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Inner {
    Word(&'static str),
    Region(RegionId),
    Tenant(TenantId),
    Token(TokenId),
    Number(u64),
    RequestId(Box<str>),
}

impl Label {
    /// A word of the program itself: a route's template, a method's name, a reason.
    #[must_use]
    pub const fn word(word: &'static str) -> Self {
        Self(Inner::Word(word))
    }

    /// A number: a status, a count, a size.
    #[must_use]
    pub const fn number(number: u64) -> Self {
        Self(Inner::Number(number))
    }

    /// A request's id as the gateway makes them: 32 hexadecimal digits. `None` for any other text.
    #[must_use]
    pub fn request_id(id: &str) -> Option<Self> {
        let is_hex = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (id.len() == 32 && id.bytes().all(is_hex)).then(|| Self(Inner::RequestId(id.into())))
    }

    /// As text.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        match &self.0 {
            Inner::Word(word) => Cow::Borrowed(word),
            Inner::Region(region) => Cow::Borrowed(region.as_str()),
            Inner::Tenant(tenant) => Cow::Borrowed(tenant.as_str()),
            Inner::Token(token) => Cow::Borrowed(token.as_str()),
            Inner::Number(number) => Cow::Owned(number.to_string()),
            Inner::RequestId(id) => Cow::Borrowed(id),
        }
    }

    /// As the number that it is, if it is one.
    #[must_use]
    pub fn as_number(&self) -> Option<u64> {
        match self.0 {
            Inner::Number(number) => Some(number),
            _ => None,
        }
    }
}

impl From<&RegionId> for Label {
    fn from(region: &RegionId) -> Self {
        Self(Inner::Region(region.clone()))
    }
}

impl From<&TenantId> for Label {
    fn from(tenant: &TenantId) -> Self {
        Self(Inner::Tenant(tenant.clone()))
    }
}

impl From<&TokenId> for Label {
    fn from(token: &TokenId) -> Self {
        Self(Inner::Token(token.clone()))
    }
}

impl From<Label> for Value {
    fn from(label: Label) -> Self {
        match label.0 {
            Inner::Word(word) => Self::from(word),
            Inner::Number(number) => Self::I64(i64::try_from(number).unwrap_or(i64::MAX)),
            _ => Self::from(label.text().into_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_gateways_request_id_is_one() {
        assert!(Label::request_id("0123456789abcdef0123456789abcdef").is_some());
        for odd in [
            "",
            "jdoe@example.com",
            "0123456789abcdef0123456789abcde",
            "0123456789abcdef0123456789abcdeF",
        ] {
            assert_eq!(Label::request_id(odd), None, "{odd}");
        }
    }
}
