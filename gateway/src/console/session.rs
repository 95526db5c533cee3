//! The cookie that holds a session, and the proof that a form came from our own page.
//!
//! The cookie is for the console alone: the API looks at `Authorization` and at nothing else, so
//! no browser can be made to use it there.

use actix_web::HttpResponse;
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::http::{Method, StatusCode};
use shared::ApiToken;
use shared::link::{CONSOLE_SIGN_IN_PATH, PUBLIC_SCIM_PATH};

use crate::credential::CredentialError;
use crate::error::Error;
use crate::host::BaseUrls;
use crate::oauth::Issued;

/// The cookie's name where there is no TLS, which is on one's own machine.
const PLAIN: &str = "meridian_session";
/// The same under TLS: a browser takes it from this host, for this host and encrypted only.
const SECURE: &str = "__Host-meridian_session";
/// The longest that a browser keeps it, in seconds.
const LONGEST_S: u32 = 60 * 60;
/// What follows the path of the sign-in page where a session has ended.
const ENDED: &str = "ended";
/// And where its holder has ended it.
const SIGNED_OUT: &str = "signed-out";

fn is_secure(base_urls: &BaseUrls) -> bool {
    base_urls.as_str().starts_with("https://")
}

fn name(is_secure: bool) -> &'static str {
    if is_secure { SECURE } else { PLAIN }
}

/// The token of the session that a request is of.
///
/// # Errors
/// [`CredentialError`] when there is none, more than one, or none that could be ours.
pub fn present(headers: &HeaderMap, base_urls: &BaseUrls) -> Result<ApiToken, CredentialError> {
    let name = name(is_secure(base_urls));
    let mut found = None;
    for value in headers.get_all(header::COOKIE) {
        let text = value.to_str().map_err(|_| CredentialError::Malformed)?;
        for pair in text.split(';') {
            let Some((of, value)) = pair.trim().split_once('=') else {
                continue;
            };
            if of == name && found.replace(value).is_some() {
                return Err(CredentialError::Ambiguous);
            }
        }
    }
    let text = found.ok_or(CredentialError::Missing)?;
    ApiToken::parse(text).map_err(|_| CredentialError::Malformed)
}

/// Refuses a form that another site has sent, or had sent. `SameSite` keeps the cookie from such a
/// request already; the two do not rest on each other.
///
/// A browser says from where a form comes in `Sec-Fetch-Site`, and in `Origin`, which is `null`
/// because our pages ask for no referrer.
///
/// # Errors
/// [`Error::CrossSite`].
pub fn check_origin(
    method: &Method,
    headers: &HeaderMap,
    base_urls: &BaseUrls,
) -> Result<(), Error> {
    if *method != Method::POST {
        return Ok(());
    }
    let base_url = base_urls.as_str();
    let own = base_url.strip_suffix(PUBLIC_SCIM_PATH).unwrap_or(base_url);
    if is_own(headers, own) {
        Ok(())
    } else {
        Err(Error::CrossSite)
    }
}

fn is_own(headers: &HeaderMap, own: &str) -> bool {
    let only = |name: &str| {
        let mut values = headers.get_all(name);
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => value.to_str().map(Some).map_err(drop),
            (Some(_), Some(_)) => Err(()),
        }
    };
    let (Ok(site), Ok(origin)) = (only("sec-fetch-site"), only("origin")) else {
        return false;
    };
    match (site, origin) {
        (Some("same-origin"), None | Some("null")) => true,
        (Some("same-origin") | None, Some(origin)) => origin.eq_ignore_ascii_case(own),
        _ => false,
    }
}

/// Gives a browser its session.
///
/// # Errors
/// [`Error::Contract`] never: what a token is made of stands in a header.
pub fn give(
    response: &mut HttpResponse,
    issued: &Issued,
    base_urls: &BaseUrls,
) -> Result<(), Error> {
    let is_secure = is_secure(base_urls);
    let age = issued.expires_in_s.min(LONGEST_S);
    let cookie = cookie(is_secure, issued.access_token.reveal(), age);
    let mut value = HeaderValue::from_str(&cookie)
        .map_err(|_| Error::Contract("a cookie of ours is no header"))?;
    value.set_sensitive(true);
    response.headers_mut().append(header::SET_COOKIE, value);
    Ok(())
}

/// Takes it back, under either name.
pub fn take_back(response: &mut HttpResponse) {
    for is_secure in [false, true] {
        if let Ok(value) = HeaderValue::from_str(&cookie(is_secure, "", 0)) {
            response.headers_mut().append(header::SET_COOKIE, value);
        }
    }
}

fn cookie(is_secure: bool, value: &str, max_age_s: u32) -> String {
    let secure = if is_secure { "; Secure" } else { "" };
    let name = name(is_secure);
    format!("{name}={value}; Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Strict{secure}")
}

/// Sends a browser to the sign-in page: because it `never_had` a session, or because that is over.
#[must_use]
pub fn to_sign_in(never_had: bool) -> HttpResponse {
    let location = match never_had {
        true => CONSOLE_SIGN_IN_PATH.to_owned(),
        false => format!("{CONSOLE_SIGN_IN_PATH}?{ENDED}"),
    };
    let mut response = HttpResponse::build(StatusCode::SEE_OTHER)
        .insert_header((header::LOCATION, location))
        .finish();
    if !never_had {
        take_back(&mut response);
    }
    response
}

/// Why a browser is at the sign-in page, in a sentence for its reader.
#[must_use]
pub fn why(query: &str) -> Option<&'static str> {
    match query {
        ENDED => Some("Your session has ended. Sign in again."),
        SIGNED_OUT => Some("You are signed out."),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use shared::RegionId;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let name = header::HeaderName::from_static(name);
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_form_is_ours_when_the_browser_says_so() {
        let own = "https://global-us.example.com";
        for pairs in [
            &[("origin", own)][..],
            &[("origin", own), ("sec-fetch-site", "same-origin")],
            &[("origin", "null"), ("sec-fetch-site", "same-origin")],
            &[("sec-fetch-site", "same-origin")],
        ] {
            assert!(is_own(&headers(pairs), own), "{pairs:?}");
        }
        for pairs in [
            &[][..],
            &[("origin", "null")],
            &[("origin", "https://global-us.example.com.evil.example")],
            &[("origin", "http://global-us.example.com")],
            &[("origin", "https://global-de.example.com")],
            &[("origin", "https://global-us.example.com:8443")],
            &[("origin", own), ("origin", own)],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "none")],
            &[("origin", "null"), ("sec-fetch-site", "cross-site")],
            &[("origin", own), ("sec-fetch-site", "cross-site")],
            &[
                ("origin", "https://evil.example"),
                ("sec-fetch-site", "same-origin"),
            ],
        ] {
            assert!(!is_own(&headers(pairs), own), "{pairs:?}");
        }
    }

    #[test]
    fn a_session_is_in_one_cookie() {
        let token = ApiToken::generate(&RegionId::parse("us").unwrap()).unwrap();
        let t = token.reveal();
        let plain = BaseUrls::new("http://global-us.localhost:8080/api/v1/scim");
        let secure = BaseUrls::new("https://global-us.example.com/api/v1/scim");
        let of = |cookie: &str, base_urls: &BaseUrls| {
            present(&headers(&[("cookie", cookie)]), base_urls)
        };
        for text in [
            format!("meridian_session={t}"),
            format!("a=b; meridian_session={t}; c"),
        ] {
            assert!(of(&text, &plain).unwrap() == token, "{text}");
            assert_eq!(of(&text, &secure).unwrap_err(), CredentialError::Missing);
        }
        let text = format!("__Host-meridian_session={t}");
        assert!(of(&text, &secure).unwrap() == token);
        for (text, error) in [
            ("", CredentialError::Missing),
            ("meridian_session", CredentialError::Missing),
            ("meridian_session=", CredentialError::Malformed),
            ("meridian_session=x", CredentialError::Malformed),
            (
                "meridian_session=x; meridian_session=y",
                CredentialError::Ambiguous,
            ),
        ] {
            assert_eq!(of(text, &plain).unwrap_err(), error, "{text}");
        }
        assert_eq!(
            present(&HeaderMap::new(), &plain).unwrap_err(),
            CredentialError::Missing
        );
    }

    #[test]
    fn under_tls_the_cookie_is_the_hosts_alone() {
        let of = |is_secure| cookie(is_secure, "v", 60);
        let expected =
            "__Host-meridian_session=v; Path=/; Max-Age=60; HttpOnly; SameSite=Strict; Secure";
        assert_eq!(of(true), expected);
        let expected = "meridian_session=v; Path=/; Max-Age=60; HttpOnly; SameSite=Strict";
        assert_eq!(of(false), expected);
    }
}
