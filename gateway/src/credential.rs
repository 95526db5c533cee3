//! From the `Authorization` header, in any form that identity providers offer, to an [`ApiToken`].
//!
//! Nothing here looks anything up: what cannot parse cannot exist, so it ends here. A token in a
//! URL or a cookie is not looked for at all.

use actix_web::http::header::{self, HeaderMap};
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use shared::ApiToken;

/// Why a request carries no credential that could be good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// There is none.
    #[error("the request has no Authorization header")]
    Missing,
    /// There are two headers, or two different tokens in one.
    #[error("the request presents more than one credential")]
    Ambiguous,
    /// There is one, and it holds no API token of this service.
    #[error("the Authorization header holds no API token of this service")]
    Malformed,
}

/// Longer than any form of a token; what is longer is not even looked at.
const MAX_HEADER_BYTES: usize = 4096;

/// `Basic` from clients that pad and from those that do not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The API token that a request presents: `Bearer T`, `Basic base64(anything:T)`, `T` alone, or
/// `<any scheme> T`.
///
/// # Errors
/// [`CredentialError`] when there is none, more than one, or none that could be ours.
pub fn present(headers: &HeaderMap) -> Result<ApiToken, CredentialError> {
    let mut values = headers.get_all(header::AUTHORIZATION);
    let value = values.next().ok_or(CredentialError::Missing)?;
    if values.next().is_some() {
        return Err(CredentialError::Ambiguous);
    }
    let text = value.to_str().map_err(|_| CredentialError::Malformed)?;
    if text.len() > MAX_HEADER_BYTES {
        return Err(CredentialError::Malformed);
    }
    parse(text)
}

/// Parses the value of an `Authorization` header.
///
/// # Errors
/// As [`present`].
pub fn parse(text: &str) -> Result<ApiToken, CredentialError> {
    if let Some((user, password)) = basic(text) {
        // The user name is free text, unless it is another token.
        let user = std::str::from_utf8(&user).ok().map(ApiToken::parse);
        return match (user, ApiToken::parse(&password)) {
            (Some(Ok(first)), Ok(second)) if first != second => Err(CredentialError::Ambiguous),
            (_, Ok(token)) => Ok(token),
            _ => Err(CredentialError::Malformed),
        };
    }
    // Administrators paste "Bearer T" into a field that adds "Bearer" of its own, so any number
    // of scheme words may come before the token.
    let mut tokens = text
        .split([' ', '\t', ','])
        .filter_map(|word| ApiToken::parse(word).ok());
    let token = tokens.next().ok_or(CredentialError::Malformed)?;
    if tokens.all(|other| other == token) {
        Ok(token)
    } else {
        Err(CredentialError::Ambiguous)
    }
}

/// User name and password, when the text is `Basic` with a payload that decodes (RFC 7617). The user
/// name may be in any encoding: clients choose one (section 2), and names are not always ASCII.
pub(crate) fn basic(text: &str) -> Option<(Vec<u8>, String)> {
    let (scheme, payload) = text.trim().split_once([' ', '\t'])?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = BASE64.decode(payload.trim()).ok()?;
    let mut parts = decoded.splitn(2, |byte| *byte == b':');
    let (user, password) = (parts.next()?, parts.next()?);
    Some((
        user.to_owned(),
        String::from_utf8(password.to_owned()).ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;
    use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};
    use proptest::prelude::*;
    use shared::RegionId;

    use super::*;

    fn token() -> ApiToken {
        ApiToken::generate(&RegionId::parse("us").unwrap()).unwrap()
    }

    #[test]
    fn every_form_that_providers_offer_is_understood() {
        let token = token();
        let t = token.reveal();
        let basic = |text: &str| format!("Basic {}", BASE64_STANDARD.encode(text));
        for text in [
            format!("Bearer {t}"),
            format!("bearer {t}"),
            format!("BEARER   {t} "),
            format!("Bearer\t{t}"),
            format!("Bearer Bearer {t}"),
            t.to_owned(),
            format!("SSWS {t}"),
            format!("Token {t}"),
            format!("Bearer {t} {t}"),
            basic(&format!("anything:{t}")),
            basic(&format!(":{t}")),
            basic(&format!("{t}:{t}")),
            basic(&format!("a:{t}")).replace("Basic", "bAsIc"),
            format!("Basic {}", BASE64_STANDARD_NO_PAD.encode(format!("ab:{t}"))),
            format!("Basic {t}"),
        ] {
            assert_eq!(parse(&text).as_ref(), Ok(&token), "{text}");
        }
    }

    #[test]
    fn a_user_name_may_be_in_any_encoding() {
        let token = token();
        let basic = |parts: [&[u8]; 2]| format!("Basic {}", BASE64_STANDARD.encode(parts.concat()));
        let password = format!(":{}", token.reveal());
        for user in [
            b"J\xfcrgen".as_slice(),
            b"\xff\xfe\x00",
            "Jürgen".as_bytes(),
        ] {
            assert_eq!(
                parse(&basic([user, password.as_bytes()])),
                Ok(token.clone())
            );
        }
        let bad = parse(&basic([b"a:\xff", token.reveal().as_bytes()]));
        assert_eq!(bad, Err(CredentialError::Malformed));
    }

    #[test]
    fn what_holds_no_token_is_malformed() {
        let token = token();
        let t = token.reveal();
        let (rest, last) = t.split_at(t.len() - 1);
        let damaged = format!("{rest}{}", if last == "x" { "y" } else { "x" });
        let basic = |text: &str| format!("Basic {}", BASE64_STANDARD.encode(text));
        for text in [
            String::new(),
            " ".to_owned(),
            "Bearer".to_owned(),
            "Bearer ".to_owned(),
            "undefined".to_owned(),
            "Bearer undefined".to_owned(),
            "Bearer null".to_owned(),
            "non-token".to_owned(),
            format!("Bearer {damaged}"),
            format!("Bearer{t}"),
            format!("Bearer \"{t}\""),
            basic(&format!("{t}:")),
            basic(t),
            basic(&format!("a:{t}:b")),
            "Basic !!!".to_owned(),
            "Basic".to_owned(),
        ] {
            assert_eq!(parse(&text), Err(CredentialError::Malformed), "{text:?}");
        }
    }

    #[test]
    fn two_different_tokens_are_refused() {
        let (one, two) = (token(), token());
        let (one, two) = (one.reveal(), two.reveal());
        for text in [
            format!("Bearer {one} {two}"),
            format!("Bearer {one}, Bearer {two}"),
            format!("Basic {}", BASE64_STANDARD.encode(format!("{one}:{two}"))),
        ] {
            assert_eq!(parse(&text), Err(CredentialError::Ambiguous), "{text}");
        }
    }

    #[test]
    fn there_must_be_exactly_one_header() {
        let mut headers = HeaderMap::new();
        assert_eq!(present(&headers), Err(CredentialError::Missing));
        let good = HeaderValue::from_str(&format!("Bearer {}", token().reveal())).unwrap();
        headers.append(header::AUTHORIZATION, good.clone());
        assert!(present(&headers).is_ok());
        headers.append(header::AUTHORIZATION, good);
        assert_eq!(present(&headers), Err(CredentialError::Ambiguous));

        let mut odd = HeaderMap::new();
        odd.append(
            header::AUTHORIZATION,
            HeaderValue::from_bytes(b"Bearer \xff").unwrap(),
        );
        assert_eq!(present(&odd), Err(CredentialError::Malformed));
        let mut long = HeaderMap::new();
        let text = format!("{}{}", " ".repeat(5000), token().reveal());
        long.append(header::AUTHORIZATION, HeaderValue::from_str(&text).unwrap());
        assert_eq!(present(&long), Err(CredentialError::Malformed));
    }

    proptest! {
        #[test]
        fn no_text_is_taken_for_a_token_that_it_does_not_hold(text in ".{0,200}") {
            prop_assert!(parse(&text).is_err());
        }

        #[test]
        fn any_scheme_will_do(scheme in "[A-Za-z][A-Za-z0-9-]{0,20}") {
            let token = token();
            let parsed = parse(&format!("{scheme} {}", token.reveal()));
            prop_assert_eq!(parsed, Ok(token));
        }
    }
}
