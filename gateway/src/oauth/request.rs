//! From a form and an `Authorization` header to a [`TokenRequest`], without any look-up: what
//! cannot be the credentials of a client ends here.

use std::collections::HashMap;

use actix_web::http::header::{self, HeaderMap};
use percent_encoding::percent_decode;
use shared::{ApiToken, Scope, TokenId};

use crate::credential;

/// The only grant type (RFC 6749 section 4.4.2).
const CLIENT_CREDENTIALS: &str = "client_credentials";
/// Parameters that may stand in a request more than once (RFC 8707 section 2, RFC 8693 section
/// 2.1). An access token is for its tenant, whatever they say.
const REPEATABLE: [&str; 2] = ["resource", "audience"];

/// What a client asks for, and with which API token.
pub struct TokenRequest {
    /// The API token's id.
    pub client_id: TokenId,
    /// The API token.
    pub client_secret: ApiToken,
    /// The scope that is asked for; absent is the API token's own.
    pub scope: Option<Scope>,
}

/// Why a request gets no access token, besides what is wrong with its API token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenRequestError {
    /// The body is no form.
    #[error("the request body is no form")]
    MediaType,
    /// A parameter is given twice.
    #[error("a parameter of the request is given twice")]
    Repeated,
    /// There is no grant type.
    #[error("the request has no grant type")]
    NoGrantType,
    /// There is another one than we have.
    #[error("the request has another grant type")]
    GrantType,
    /// There are two credentials that differ, or two headers.
    #[error("the request presents more than one credential")]
    Ambiguous,
    /// There are no credentials.
    #[error("the request presents no credentials of a client")]
    NoClient,
    /// The credentials are none of a client here: an id that is none, a secret that is no API
    /// token, or two that do not belong together.
    #[error("the credentials are none of a client")]
    Client,
    /// The scope is not the API token's.
    #[error("the scope is another one than the API token's")]
    Scope,
}

impl TokenRequest {
    /// Refuses a request whose header alone says that it gets no access token, before its body is
    /// read.
    ///
    /// # Errors
    /// [`TokenRequestError::Ambiguous`] or [`TokenRequestError::Client`].
    pub fn check_header(headers: &HeaderMap) -> Result<(), TokenRequestError> {
        match basic(headers)? {
            Some((id, secret)) => client(&id, &secret).map(drop),
            None => Ok(()),
        }
    }

    /// Parses a request.
    ///
    /// # Errors
    /// [`TokenRequestError`] when it cannot be one that gets an access token.
    pub fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Self, TokenRequestError> {
        let form = Form::parse(body)?;
        match form.get("grant_type") {
            None => return Err(TokenRequestError::NoGrantType),
            Some(CLIENT_CREDENTIALS) => {}
            Some(_) => return Err(TokenRequestError::GrantType),
        }
        let (id, secret) = credentials(headers, &form)?;
        let scope = form.get("scope").map(scope).transpose()?;
        let (client_id, client_secret) = client(&id, &secret)?;
        Ok(Self {
            client_id,
            client_secret,
            scope,
        })
    }
}

/// The parameters of a form. One without a value counts as absent (RFC 6749 section 3.2).
struct Form(HashMap<String, String>);

impl Form {
    fn parse(body: &[u8]) -> Result<Self, TokenRequestError> {
        let mut parameters = HashMap::new();
        for (name, value) in form_urlencoded::parse(body) {
            if value.is_empty() || REPEATABLE.contains(&name.as_ref()) {
                continue;
            }
            let value = value.into_owned();
            if parameters.insert(name.into_owned(), value).is_some() {
                return Err(TokenRequestError::Repeated);
            }
        }
        Ok(Self(parameters))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

/// The client's id and secret, from the header, the form, or both if they agree (RFC 6749 section
/// 2.3.1).
fn credentials(headers: &HeaderMap, form: &Form) -> Result<(String, String), TokenRequestError> {
    let (id, secret) = (form.get("client_id"), form.get("client_secret"));
    let differs = |of_form: Option<&str>, of_header: &str| of_form.is_some_and(|x| x != of_header);
    match basic(headers)? {
        Some((basic_id, basic_secret)) => {
            if differs(id, &basic_id) || differs(secret, &basic_secret) {
                return Err(TokenRequestError::Ambiguous);
            }
            Ok((basic_id, basic_secret))
        }
        None => id
            .zip(secret)
            .map(|(id, secret)| (id.to_owned(), secret.to_owned()))
            .ok_or(TokenRequestError::NoClient),
    }
}

/// What an id and a secret must be.
fn client(id: &str, secret: &str) -> Result<(TokenId, ApiToken), TokenRequestError> {
    let id = TokenId::parse(id).map_err(|_| TokenRequestError::Client)?;
    let secret = ApiToken::parse(secret).map_err(|_| TokenRequestError::Client)?;
    Ok((id, secret))
}

/// Id and secret from `Authorization: Basic`. Both are encoded as in a form, by clients that obey;
/// for those that do not it is the same, because ours have nothing that is encoded.
fn basic(headers: &HeaderMap) -> Result<Option<(String, String)>, TokenRequestError> {
    let mut values = headers.get_all(header::AUTHORIZATION);
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(TokenRequestError::Ambiguous);
    }
    let text = value.to_str().map_err(|_| TokenRequestError::Client)?;
    let (id, secret) = credential::basic(text).ok_or(TokenRequestError::Client)?;
    let decoded = |text: &[u8]| percent_decode(text).decode_utf8_lossy().into_owned();
    Ok(Some((decoded(&id), decoded(secret.as_bytes()))))
}

/// The one scope of a list of scopes (RFC 6749 section 3.3): no token has two.
fn scope(text: &str) -> Result<Scope, TokenRequestError> {
    let mut scopes = text.split(' ').filter(|name| !name.is_empty());
    let first = scopes.next().ok_or(TokenRequestError::Scope)?;
    if scopes.any(|other| other != first) {
        return Err(TokenRequestError::Scope);
    }
    first.parse().map_err(|_| TokenRequestError::Scope)
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    use proptest::prelude::*;
    use shared::RegionId;

    use super::*;

    const ID: &str = "tok_0123456789012345678901";

    fn secret() -> String {
        let token = ApiToken::generate(&RegionId::parse("us").unwrap()).unwrap();
        token.reveal().to_owned()
    }

    fn parse(authorization: &[&str], body: &str) -> Result<TokenRequest, TokenRequestError> {
        let mut headers = HeaderMap::new();
        for value in authorization {
            let value = HeaderValue::from_str(value).unwrap();
            headers.append(header::AUTHORIZATION, value);
        }
        TokenRequest::parse(&headers, body.as_bytes())
    }

    fn of(id: &str, secret: &str) -> String {
        format!("Basic {}", BASE64_STANDARD.encode(format!("{id}:{secret}")))
    }

    #[test]
    fn credentials_come_in_the_form_or_the_header() {
        let secret = secret();
        let grant = "grant_type=client_credentials";
        let form = format!("{grant}&client_id={ID}&client_secret={secret}");
        let encoded = ID.replace('_', "%5F");
        let encoded_secret = secret.replace('_', "%5f");
        let basic = of(ID, &secret);
        let none: &[&str] = &[];
        for (headers, body) in [
            (none, form.clone()),
            (none, format!("{form}&scope=scim")),
            (
                none,
                format!("{form}&scope=&audience=a&resource=r&resource=s&x=y"),
            ),
            (
                none,
                format!("&&{grant}&client_id={encoded}&client_secret={encoded_secret}&"),
            ),
            (&[&basic], grant.to_owned()),
            (&[&basic.replace("Basic", "bAsIc")], grant.to_owned()),
            (&[&of(&encoded, &encoded_secret)], grant.to_owned()),
            (&[&basic], form.clone()),
            (&[&basic], format!("{grant}&client_id={ID}")),
        ] {
            let request = parse(headers, &body).map_err(|error| format!("{body}: {error}"));
            let request = request.unwrap();
            assert_eq!(request.client_id.as_str(), ID);
            assert_eq!(request.client_secret.reveal(), secret);
        }
    }

    #[test]
    fn what_is_no_request_says_why() {
        use TokenRequestError as No;
        let (secret, other) = (secret(), secret());
        let grant = "grant_type=client_credentials";
        let form = format!("{grant}&client_id={ID}&client_secret={secret}");
        let basic = of(ID, &secret);
        let none: &[&str] = &[];
        for (headers, body, why) in [
            (none, String::new(), No::NoGrantType),
            (none, form.replace("client_cred", "x"), No::GrantType),
            (none, form.replace(grant, "grant_type="), No::NoGrantType),
            (none, format!("{form}&client_id={ID}"), No::Repeated),
            (none, format!("{form}&{grant}"), No::Repeated),
            (none, format!("{form}&x=1&x=1"), No::Repeated),
            (none, grant.to_owned(), No::NoClient),
            (none, format!("{grant}&client_id={ID}"), No::NoClient),
            (
                none,
                format!("{grant}&client_secret={secret}"),
                No::NoClient,
            ),
            (none, form.replace(ID, "okta"), No::Client),
            (none, form.replace(&secret, "okta"), No::Client),
            (
                none,
                form.replace(&secret, &format!("{secret}x")),
                No::Client,
            ),
            (none, format!("{form}&scope=openid"), No::Scope),
            (none, format!("{form}&scope=scim+admin"), No::Scope),
            (none, format!("{form}&scope=+"), No::Scope),
            (&[&of(ID, &other)], form.clone(), No::Ambiguous),
            (&[&basic, &basic], form.clone(), No::Ambiguous),
            (&[&of("tok_x", &secret)], form.clone(), No::Ambiguous),
            (&["Basic not-base64!"], grant.to_owned(), No::Client),
            (&[&format!("Bearer {secret}")], form.clone(), No::Client),
        ] {
            assert_eq!(parse(headers, &body).err(), Some(why), "{body}");
        }
    }

    #[test]
    fn a_header_that_holds_no_client_is_enough_to_refuse() {
        use TokenRequestError as No;
        let (secret, basic) = (secret(), of(ID, &secret()));
        let none: &[&str] = &[];
        for (values, outcome) in [
            (none, Ok(())),
            (&[&basic], Ok(())),
            (&[&of(&ID.replace('_', "%5F"), &secret)], Ok(())),
            (&[&basic, &basic], Err(No::Ambiguous)),
            (&[&of("okta", &secret)], Err(No::Client)),
            (&[&of(ID, "okta")], Err(No::Client)),
            (&[&format!("Bearer {secret}")], Err(No::Client)),
            (&["Basic"], Err(No::Client)),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                let value = HeaderValue::from_str(value).unwrap();
                headers.append(header::AUTHORIZATION, value);
            }
            assert_eq!(TokenRequest::check_header(&headers), outcome, "{values:?}");
        }
    }

    #[test]
    fn a_scope_is_one_of_ours() {
        assert_eq!(scope("scim"), Ok(Scope::Scim));
        assert_eq!(scope("admin admin"), Ok(Scope::Admin));
        assert_eq!(scope("SCIM"), Err(TokenRequestError::Scope));
    }

    proptest! {
        #[test]
        fn parsing_never_fails_badly(
            body in proptest::collection::vec(any::<u8>(), 0..500),
            header in "(Basic )?[ -~]{0,100}",
        ) {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, HeaderValue::from_str(&header).unwrap());
            prop_assert!(TokenRequest::parse(&headers, &body).is_err());
        }
    }
}
