//! Every way in which a request can end here, and its face: a SCIM error answer, OAuth's (RFC
//! 6749 section 5.2) at the endpoints of OAuth, or a page for a browser.
//!
//! `Error::answer` is the only place that knows both our errors and HTTP. 401 is said only on
//! positive knowledge that a credential is bad; what we do not know is 503 with `Retry-After`,
//! because identity providers quarantine a customer's whole job on 401 and retry on 503 (DESIGN
//! section 4).

use std::net::IpAddr;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::header::{self, HeaderValue};
use actix_web::http::{Method, StatusCode};
use shared::link::Refusal;
use shared::scim_error::{Dialect, ScimError, ScimType};
use shared::{Fault, RegionId, Scope, api_token::RandomnessError};

use crate::console::{page, session};
use crate::credential::CredentialError;
use crate::host::HostError;
use crate::limits::{NoRoom, TooMany};
use crate::link::LinkError;
use crate::oauth::TokenRequestError;
use crate::resolver::ResolveError;

/// Why a request was not answered by its region.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request does something that is not done here.
    #[error("{0}")]
    Refused(&'static str),
    /// The target is too long.
    #[error("the request target is too long")]
    TargetTooLong,
    /// The header is too large.
    #[error("the request header is too large")]
    HeaderTooLarge,
    /// It expects something other than `100-continue`.
    #[error("the request expects what this server does not do")]
    Expectation,
    /// The host is none of ours.
    #[error(transparent)]
    Host(#[from] HostError),
    /// There is no such endpoint.
    #[error("there is no such endpoint")]
    NoSuchEndpoint,
    /// The endpoint has other methods.
    #[error("the endpoint does not have this method")]
    Method {
        /// The ones that it has.
        allowed: &'static [Method],
    },
    /// There is no credential that could be good.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// The request for an access token is not right.
    #[error(transparent)]
    TokenRequest(#[from] TokenRequestError),
    /// The token is of another region than the host.
    #[error("the token is of another region than the host")]
    WrongRegion {
        /// The host's region.
        host: RegionId,
        /// The base URL of the token's home, if the home confirmed it.
        right_base: Option<String>,
    },
    /// A browser sent a form that another site made.
    #[error("the form was sent from another site")]
    CrossSite,
    /// The token could not be resolved.
    #[error("the token was not resolved")]
    Resolve(#[from] ResolveError),
    /// The token is good, and for something else.
    #[error("the token's scope does not cover this endpoint")]
    Scope {
        /// The scope that does.
        needed: Scope,
    },
    /// The token is good, and may not be used from this address.
    #[error("the token may not be used from this address")]
    Network {
        /// Which. For the client alone: it is in no log.
        address: IpAddr,
    },
    /// The tenant asks for too much.
    #[error("the tenant asks for too much")]
    TenantLimit(#[from] TooMany),
    /// The body is compressed.
    #[error("the request body is encoded")]
    BodyEncoding,
    /// The body is too large.
    #[error("the request body is too large")]
    BodyTooLarge {
        /// What would be taken, in bytes.
        limit: usize,
    },
    /// The body did not come in time.
    #[error("the request body did not come in time")]
    BodyTooSlow,
    /// The body broke off, or its framing is off.
    #[error("the request body is incomplete")]
    BodyBroken,
    /// There is no memory for another body.
    #[error("too much is under way")]
    Overloaded,
    /// The tenant's bodies take up all that they may.
    #[error("the tenant's bodies take up too much")]
    TenantBodies,
    /// The region gave no answer.
    #[error("the region gave no answer")]
    Link(#[from] LinkError),
    /// The region refused each grant that it had just given.
    #[error("the region refuses its own new grants")]
    GrantRefused,
    /// The node refuses us, not the client: the link key is wrong, or its listener is another's.
    #[error("the node refuses the gateway")]
    LinkRefused,
    /// The answer is not to this request.
    #[error("the answer belongs to another request")]
    WrongAnswer,
    /// The answer is none that a node gives.
    #[error("the node's answer is none of the contract's: {0}")]
    Contract(&'static str),
    /// The operating system gave no random bytes.
    #[error(transparent)]
    Randomness(#[from] RandomnessError),
    /// A bug.
    #[error("a bug")]
    Panic,
}

/// What errors are called in figures.
pub const REASONS: [&str; 39] = [
    "refused",
    "header_too_large",
    "expectation",
    "host",
    "no_such_endpoint",
    "method",
    "no_credential",
    "malformed_credential",
    "token_request",
    "wrong_region",
    "cross_site",
    "token_unknown",
    "token_expired",
    "token_revoked",
    "tenant_suspended",
    "lookup_unavailable",
    "lookup_given_up",
    "lookups_limit",
    "source_limit",
    "scope",
    "network",
    "tenant_limit",
    "tenant_bodies",
    "body_encoding",
    "body_too_large",
    "body_too_slow",
    "body_broken",
    "body_memory",
    "region_unreachable",
    "region_no_answer",
    "deadline",
    "region_busy",
    "resend_budget",
    "grant_refused",
    "link_refused",
    "wrong_answer",
    "contract",
    "randomness",
    "panic",
];

/// How an error looks to the client that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// RFC 7644 section 3.12, or its like in SCIM 1.1.
    Scim(Dialect),
    /// RFC 6749 section 5.2.
    OAuth,
    /// The console's sign-in page.
    SignIn,
    /// A page of the console.
    Console,
}

impl Face {
    /// Whether a browser shows it.
    #[must_use]
    pub fn is_page(self) -> bool {
        matches!(self, Self::SignIn | Self::Console)
    }
}

impl From<NoRoom> for Error {
    /// The third of the memories that a body is in is the tenant's own.
    fn from(no_room: NoRoom) -> Self {
        match no_room.memory {
            2 => Self::TenantBodies,
            _ => Self::Overloaded,
        }
    }
}

/// One answer, before it is dressed as HTTP.
struct Answer {
    error: ScimError,
    fault: Fault,
    extra: Option<(header::HeaderName, String)>,
}

impl Answer {
    fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            error: ScimError::new(status.as_u16(), detail),
            fault: Fault::Client,
            extra: None,
        }
    }

    fn typed(mut self, scim_type: ScimType) -> Self {
        self.error.scim_type = Some(scim_type);
        self
    }

    fn fault(mut self, fault: Fault) -> Self {
        self.fault = fault;
        self
    }

    fn with(mut self, name: header::HeaderName, value: impl Into<String>) -> Self {
        self.extra = Some((name, value.into()));
        self
    }

    /// Identity providers understand whole seconds only (idp-wire, Okta).
    fn retry_after(self, wait: Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        self.with(header::RETRY_AFTER, seconds.max(1).to_string())
    }

    fn unauthenticated(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, detail).with(
            header::WWW_AUTHENTICATE,
            r#"Bearer realm="Meridian", error="invalid_token""#,
        )
    }

    fn unavailable(fault: Fault) -> Self {
        let detail = "The region cannot be reached at the moment. Try again.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
            .fault(fault)
            .retry_after(Duration::from_secs(2))
    }
}

impl Error {
    /// Who is at fault.
    #[must_use]
    pub fn fault(&self) -> Fault {
        self.answer().fault
    }

    /// What it is called in figures: one of [`REASONS`].
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Refused(_) => "refused",
            Self::TargetTooLong | Self::HeaderTooLarge => "header_too_large",
            Self::Expectation => "expectation",
            Self::Host(_) => "host",
            Self::NoSuchEndpoint => "no_such_endpoint",
            Self::Method { .. } => "method",
            Self::Credential(CredentialError::Missing) => "no_credential",
            Self::Credential(_) => "malformed_credential",
            Self::TokenRequest(_) => "token_request",
            Self::WrongRegion { .. } => "wrong_region",
            Self::CrossSite => "cross_site",
            Self::Resolve(ResolveError::Refused(bad)) => match bad.reason {
                Refusal::Unknown => "token_unknown",
                Refusal::Expired => "token_expired",
                Refusal::Revoked => "token_revoked",
                Refusal::TenantSuspended => "tenant_suspended",
            },
            Self::Resolve(ResolveError::Unavailable(_)) => "lookup_unavailable",
            Self::Resolve(ResolveError::GivenUp) => "lookup_given_up",
            Self::Resolve(ResolveError::Overloaded { .. }) => "lookups_limit",
            Self::Resolve(ResolveError::SourceLimited { .. }) => "source_limit",
            Self::Scope { .. } => "scope",
            Self::Network { .. } => "network",
            Self::TenantLimit(_) => "tenant_limit",
            Self::TenantBodies => "tenant_bodies",
            Self::BodyEncoding => "body_encoding",
            Self::BodyTooLarge { .. } => "body_too_large",
            Self::BodyTooSlow => "body_too_slow",
            Self::BodyBroken => "body_broken",
            Self::Overloaded => "body_memory",
            Self::Link(LinkError::Unreachable(_)) => "region_unreachable",
            Self::Link(LinkError::NoAnswer(_)) => "region_no_answer",
            Self::Link(LinkError::Deadline) => "deadline",
            Self::Link(LinkError::Busy(_)) => "region_busy",
            Self::Link(LinkError::OverBudget) => "resend_budget",
            Self::GrantRefused => "grant_refused",
            Self::LinkRefused => "link_refused",
            Self::WrongAnswer => "wrong_answer",
            Self::Contract(_) => "contract",
            Self::Randomness(_) => "randomness",
            Self::Panic => "panic",
        }
    }

    /// Whether a browser's session is over, or was none.
    fn ends_session(&self) -> bool {
        match self {
            Self::Credential(_) | Self::WrongRegion { .. } | Self::Scope { .. } => true,
            Self::Resolve(ResolveError::Refused(bad)) => bad.reason != Refusal::TenantSuspended,
            _ => false,
        }
    }

    /// The answer to the client.
    #[must_use]
    pub fn to_response(&self, face: Face, request_id: Option<&str>) -> HttpResponse {
        if face == Face::Console && self.ends_session() {
            return session::to_sign_in(matches!(self, Self::Credential(CredentialError::Missing)));
        }
        let Answer { error, extra, .. } = self.answer();
        let status = StatusCode::from_u16(error.status);
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = HttpResponse::build(status);
        if let Some((name, value)) = extra
            // No scheme of a browser's fits.
            && !(face.is_page() && name == header::WWW_AUTHENTICATE)
        {
            response.insert_header((name, value));
        }
        match face {
            Face::SignIn => page::html(
                &mut response,
                page::sign_in(Some(&error.detail), request_id),
            ),
            Face::Console => page::html(
                &mut response,
                page::problem(status, &error.detail, request_id),
            ),
            Face::Scim(dialect) => {
                response.content_type(dialect.media_type());
                response.body(error.body(dialect))
            }
            Face::OAuth => {
                if status == StatusCode::UNAUTHORIZED {
                    let challenge = (header::WWW_AUTHENTICATE, r#"Basic realm="Meridian""#);
                    response.insert_header(challenge);
                }
                response.insert_header((header::PRAGMA, "no-cache"));
                response.json(serde_json::json!({
                    "error": self.oauth_code(status),
                    "error_description": error.detail,
                }))
            }
        }
    }

    /// The error code of RFC 6749 section 5.2. What the token endpoint has no code for is named as
    /// its neighbour, the authorization endpoint, names it (section 4.1.2.1).
    fn oauth_code(&self, status: StatusCode) -> &'static str {
        match (self, status) {
            (Self::TokenRequest(TokenRequestError::GrantType), _) => "unsupported_grant_type",
            (Self::TokenRequest(TokenRequestError::Scope), _) => "invalid_scope",
            (_, StatusCode::UNAUTHORIZED) => "invalid_client",
            (_, StatusCode::FORBIDDEN) => "unauthorized_client",
            (_, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) => {
                "temporarily_unavailable"
            }
            (_, status) if status.is_server_error() => "server_error",
            _ => "invalid_request",
        }
    }

    fn answer(&self) -> Answer {
        match self {
            Self::Refused(rule) => Answer::new(StatusCode::BAD_REQUEST, *rule),
            Self::TargetTooLong => Answer::new(StatusCode::URI_TOO_LONG, "The URL is too long."),
            Self::HeaderTooLarge => Answer::new(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "The request header is too large.",
            ),
            Self::Expectation => Answer::new(
                StatusCode::EXPECTATION_FAILED,
                "Only the expectation 100-continue can be met.",
            ),
            Self::Host(error) => host(*error),
            Self::NoSuchEndpoint => {
                Answer::new(StatusCode::NOT_FOUND, "There is no such SCIM endpoint.")
            }
            Self::Method { allowed } => {
                let allowed: Vec<&str> = allowed.iter().map(Method::as_str).collect();
                let detail = "The endpoint does not have this method.";
                Answer::new(StatusCode::METHOD_NOT_ALLOWED, detail)
                    .with(header::ALLOW, allowed.join(", "))
            }
            Self::Credential(error) => credential(*error),
            Self::TokenRequest(error) => token_request(*error),
            Self::WrongRegion { host, right_base } => {
                let detail = match right_base {
                    Some(base) => format!(
                        "The API token does not belong to region {host}. Its base URL is {base}"
                    ),
                    None => "The API token is not valid at this base URL.".to_owned(),
                };
                Answer::unauthenticated(detail)
            }
            Self::CrossSite => Answer::new(
                StatusCode::FORBIDDEN,
                "This form was not sent from a page of this console. Go back to the console and \
                 try again.",
            ),
            Self::Resolve(error) => resolve(error),
            Self::Scope {
                needed: Scope::Scim,
            } => Answer::new(
                StatusCode::FORBIDDEN,
                "The API token is not for provisioning. Use a token with the scope scim.",
            ),
            Self::Scope {
                needed: Scope::Admin,
            } => Answer::new(
                StatusCode::FORBIDDEN,
                "The API token is not for administration. Use a token with the scope admin.",
            ),
            Self::Network { address } => Answer::new(
                StatusCode::FORBIDDEN,
                format!(
                    "This API token may not be used from this address, {address}. Add the network \
                     of your identity provider to the networks of the API token."
                ),
            ),
            Self::TenantBodies => Answer::new(
                StatusCode::TOO_MANY_REQUESTS,
                "Too many large requests of this tenant at the same time. Try again.",
            )
            .fault(Fault::Quota)
            .retry_after(Duration::from_secs(1)),
            Self::TenantLimit(too_many) => Answer::new(
                StatusCode::TOO_MANY_REQUESTS,
                "Too many requests for this tenant. Try again.",
            )
            .fault(Fault::Quota)
            .retry_after(too_many.0),
            Self::BodyEncoding => Answer::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "The request body must not be compressed.",
            ),
            Self::BodyTooLarge { limit } => Answer::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("The request body is larger than {limit} bytes."),
            ),
            Self::BodyTooSlow => Answer::new(
                StatusCode::REQUEST_TIMEOUT,
                "The request body did not arrive in time.",
            ),
            Self::BodyBroken => Answer::new(
                StatusCode::BAD_REQUEST,
                "The request body is incomplete or badly framed.",
            )
            .typed(ScimType::InvalidSyntax),
            Self::Overloaded | Self::Link(LinkError::Busy(_) | LinkError::OverBudget) => {
                Answer::unavailable(Fault::Quota)
            }
            Self::Link(_) | Self::GrantRefused | Self::LinkRefused | Self::WrongAnswer => {
                Answer::unavailable(Fault::Upstream)
            }
            Self::Contract(_) => Answer::new(
                StatusCode::BAD_GATEWAY,
                "The region gave an answer that cannot be passed on.",
            )
            .fault(Fault::Upstream),
            Self::Randomness(_) => Answer::unavailable(Fault::Us),
            Self::Panic => Answer::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "An internal error. The request id names it.",
            )
            .fault(Fault::Us),
        }
    }
}

fn host(error: HostError) -> Answer {
    match error {
        HostError::Missing => Answer::new(
            StatusCode::BAD_REQUEST,
            "The request must have a Host header.",
        ),
        HostError::Ambiguous => Answer::new(
            StatusCode::BAD_REQUEST,
            "The request must name one host only.",
        ),
        HostError::Malformed | HostError::Unknown | HostError::NotServed => Answer::new(
            StatusCode::MISDIRECTED_REQUEST,
            "This hostname is not served here. Check the base URL.",
        ),
        HostError::NotOfConnection => Answer::new(
            StatusCode::MISDIRECTED_REQUEST,
            "The connection was made for another hostname. Open one for this hostname.",
        ),
    }
}

fn credential(error: CredentialError) -> Answer {
    match error {
        CredentialError::Missing => Answer::new(
            StatusCode::UNAUTHORIZED,
            "An API token is required: Authorization: Bearer <token>.",
        )
        .with(header::WWW_AUTHENTICATE, r#"Bearer realm="Meridian""#),
        CredentialError::Ambiguous => Answer::new(
            StatusCode::BAD_REQUEST,
            "The request must present one API token only.",
        ),
        CredentialError::Malformed => Answer::unauthenticated(
            "This is not an API token of this service, or it was not copied completely.",
        ),
    }
}

fn token_request(error: TokenRequestError) -> Answer {
    let detail = match error {
        TokenRequestError::MediaType => {
            "The request body must be of type application/x-www-form-urlencoded."
        }
        TokenRequestError::Repeated => "A parameter is given more than once.",
        TokenRequestError::NoGrantType => {
            "The parameter grant_type is missing: grant_type=client_credentials."
        }
        TokenRequestError::GrantType => "The only grant_type is client_credentials.",
        TokenRequestError::Ambiguous => "The request must present one pair of credentials only.",
        TokenRequestError::NoClient => {
            return Answer::unauthenticated(
                "Present the id of an API token as client_id and the API token as client_secret, \
                 in the form or as Basic.",
            );
        }
        TokenRequestError::Client => {
            return Answer::unauthenticated(
                "client_id must be the id of an API token, and client_secret that API token, \
                 copied completely.",
            );
        }
        TokenRequestError::Scope => "The scope is another one than the API token's.",
    };
    Answer::new(StatusCode::BAD_REQUEST, detail)
}

fn resolve(error: &ResolveError) -> Answer {
    match error {
        ResolveError::Refused(bad) => match bad.reason {
            Refusal::Unknown => {
                Answer::unauthenticated("The API token is not valid at this base URL.")
            }
            Refusal::Expired => {
                Answer::unauthenticated("The API token has expired. Create a new one.")
            }
            Refusal::Revoked => {
                Answer::unauthenticated("The API token was revoked. Use another one.")
            }
            Refusal::TenantSuspended => {
                Answer::new(StatusCode::FORBIDDEN, "The tenant is suspended.")
            }
        },
        ResolveError::Unavailable(_) => Answer::unavailable(Fault::Upstream),
        ResolveError::GivenUp => Answer::unavailable(Fault::Us),
        ResolveError::Overloaded { retry_after } => {
            Answer::unavailable(Fault::Quota).retry_after(*retry_after)
        }
        ResolveError::SourceLimited { retry_after } => Answer::new(
            StatusCode::TOO_MANY_REQUESTS,
            "Too many invalid API tokens from this address. Try again.",
        )
        .fault(Fault::Quota)
        .retry_after(*retry_after),
    }
}

/// What every answer carries, ours and the nodes': nobody may store it, and no browser may guess
/// at it.
/// A page, besides, loads what is ours, runs what is ours, and stands in nobody's frame.
pub fn dress(response: &mut HttpResponse<impl Sized>, face: Face, request_id: Option<HeaderValue>) {
    let headers = response.headers_mut();
    if face.is_page() {
        headers.insert(
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(page::CONTENT_SECURITY_POLICY),
        );
        headers.insert(
            header::REFERRER_POLICY,
            HeaderValue::from_static("no-referrer"),
        );
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    if let Some(id) = request_id {
        headers.insert(crate::forward::REQUEST_ID, id);
    }
}

#[cfg(test)]
mod tests {
    use actix_web::body::to_bytes;

    use super::*;
    use crate::resolver::BadToken;

    #[test]
    fn every_error_has_a_name_of_its_own_in_figures() {
        for error in all() {
            assert!(REASONS.contains(&error.reason()), "{error}");
        }
    }

    fn all() -> Vec<Error> {
        let wait = Duration::from_millis(1);
        vec![
            Error::Refused("no"),
            Error::TargetTooLong,
            Error::HeaderTooLarge,
            Error::Expectation,
            Error::Host(HostError::Unknown),
            Error::NoSuchEndpoint,
            Error::Method {
                allowed: &[Method::GET, Method::POST],
            },
            Error::Credential(CredentialError::Missing),
            Error::Credential(CredentialError::Malformed),
            Error::TokenRequest(TokenRequestError::MediaType),
            Error::TokenRequest(TokenRequestError::Repeated),
            Error::TokenRequest(TokenRequestError::NoGrantType),
            Error::TokenRequest(TokenRequestError::GrantType),
            Error::TokenRequest(TokenRequestError::Ambiguous),
            Error::TokenRequest(TokenRequestError::NoClient),
            Error::TokenRequest(TokenRequestError::Client),
            Error::TokenRequest(TokenRequestError::Scope),
            Error::WrongRegion {
                host: RegionId::parse("us").unwrap(),
                right_base: None,
            },
            Error::CrossSite,
            Error::Resolve(ResolveError::Refused(BadToken::UNKNOWN)),
            Error::Resolve(ResolveError::Refused(BadToken {
                reason: Refusal::TenantSuspended,
                tenant_id: None,
            })),
            Error::Resolve(ResolveError::GivenUp),
            Error::Resolve(ResolveError::Overloaded { retry_after: wait }),
            Error::Resolve(ResolveError::SourceLimited { retry_after: wait }),
            Error::Scope {
                needed: Scope::Scim,
            },
            Error::Scope {
                needed: Scope::Admin,
            },
            Error::Network {
                address: IpAddr::from([203, 0, 113, 7]),
            },
            Error::TenantLimit(TooMany(wait)),
            Error::BodyEncoding,
            Error::BodyTooLarge { limit: 1 },
            Error::BodyTooSlow,
            Error::BodyBroken,
            Error::Overloaded,
            Error::TenantBodies,
            Error::Link(LinkError::Busy(crate::turns::Busy)),
            Error::Link(LinkError::OverBudget),
            Error::Link(LinkError::Deadline),
            Error::GrantRefused,
            Error::LinkRefused,
            Error::WrongAnswer,
            Error::Contract("x"),
            Error::Panic,
        ]
    }

    fn header_of<'a>(response: &'a HttpResponse, name: &str) -> &'a str {
        response.headers().get(name).unwrap().to_str().unwrap()
    }

    #[actix_web::test]
    async fn every_answer_is_a_scim_error_in_its_dialect() {
        for error in all() {
            let response = error.to_response(Face::Scim(Dialect::Scim20), None);
            let status = response.status();
            assert_eq!(
                header_of(&response, "content-type"),
                "application/scim+json"
            );
            let body = to_bytes(response.into_body()).await.unwrap();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(body["status"], status.as_u16().to_string(), "{error}");

            let response = error.to_response(Face::Scim(Dialect::Scim11), None);
            assert_eq!(header_of(&response, "content-type"), "application/json");
            let body = to_bytes(response.into_body()).await.unwrap();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(body["Errors"][0]["code"], status.as_u16().to_string());
        }
    }

    #[actix_web::test]
    async fn every_answer_is_an_oauth_error_where_oauth_asks() {
        for error in all() {
            let response = error.to_response(Face::OAuth, None);
            let status = response.status();
            assert_eq!(header_of(&response, "content-type"), "application/json");
            if status == 401 {
                let challenge = header_of(&response, "www-authenticate");
                assert_eq!(challenge, r#"Basic realm="Meridian""#, "{error}");
            }
            let body = to_bytes(response.into_body()).await.unwrap();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            let code = body["error"].as_str().unwrap();
            assert_eq!(code == "invalid_client", status == 401, "{error}");
            assert_eq!(
                code == "temporarily_unavailable",
                matches!(status.as_u16(), 429 | 503),
                "{error}"
            );
            // RFC 6749 section 5.2 says what may stand in it.
            let description = body["error_description"].as_str().unwrap();
            let is_sound = |c: char| matches!(c, ' ' | '!' | '#'..='[' | ']'..='~');
            assert!(description.chars().all(is_sound), "{description}");
        }
    }

    #[test]
    fn every_answer_that_asks_for_patience_says_how_much() {
        for error in all() {
            let response = error.to_response(Face::Scim(Dialect::Scim20), None);
            match response.status().as_u16() {
                429 | 503 => {
                    let seconds = header_of(&response, "retry-after");
                    assert!(seconds.parse::<u32>().unwrap() >= 1, "{error}");
                }
                401 => assert!(header_of(&response, "www-authenticate").starts_with("Bearer")),
                405 => assert_eq!(header_of(&response, "allow"), "GET, POST"),
                _ => {}
            }
        }
    }

    #[test]
    fn what_we_do_not_know_is_never_the_clients_fault() {
        for error in all() {
            let status = error
                .to_response(Face::Scim(Dialect::Scim20), None)
                .status();
            assert_eq!(
                status.is_server_error(),
                matches!(error.fault(), Fault::Upstream | Fault::Us) || status == 503,
                "{error}"
            );
        }
    }
}
