//! [`Error`]: every failure of the service provider, and the one place that knows both our
//! errors and HTTP.
//!
//! What a client is told names the rule and the attribute, never a value, SQL or a path of ours.
//! What the log is told is the chain of causes, whose texts are ours or SQLite's and hold no
//! value of a request either.

use std::borrow::Cow;

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, ResponseError};
use shared::api_token::RandomnessError;
use shared::link::{REFUSED, REFUSED_GRANT};
use shared::{Dialect, Fault, ScimError, ScimType};

use crate::console::layout;
use crate::events::endpoints::EndpointError;
use crate::grant::GrantError;
use crate::provider::ProviderError;
use crate::provider::backup::RestoreFailure;
use crate::provider::tenants::TenantError;
use crate::provider::tokens::TokenError;
use crate::store::{RestoreError, StoreError};

/// What went wrong with a call. `Display` is for the log and holds no value of the request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store did not do it.
    #[error("the store did not do it")]
    Store(#[from] StoreError),
    /// The SCIM engine refused, in the protocol's own terms.
    #[error("the request does not keep to the protocol")]
    Scim(ScimError),
    /// The resource is not at a version that the request's condition names.
    #[error("the condition of the request does not hold")]
    PreconditionFailed,
    /// Others changed the resource faster than this request could.
    #[error("the resource changed again and again while it was to be written")]
    Contended,
    /// The grant is missing or not good.
    #[error("the grant is not accepted")]
    Grant(#[from] GrantError),
    /// The token's scope does not open this endpoint.
    #[error("the scope of the token does not open this endpoint")]
    Scope,
    /// The caller is no gateway of this region.
    #[error("the link key is missing or wrong")]
    LinkKey,
    /// A gateway did not keep to the contract of the link; says which part.
    #[error("the call does not keep to the contract of the link: {0}")]
    Link(&'static str),
    /// The caller is not the operator.
    #[error("the operator key is missing or wrong")]
    OperatorKey,
    /// The operator's request cannot be carried out; says why, to the operator alone.
    #[error("the operator's request is not right")]
    OperatorRequest(Cow<'static, str>),
    /// There is no such endpoint.
    #[error("there is no such endpoint")]
    NoSuchEndpoint,
    /// There is no such page of the console.
    #[error("there is no such page")]
    NoSuchPage,
    /// A form was not made by the console for this session.
    #[error("the form is not of this session")]
    ForeignForm,
    /// The endpoint does not know the method; these are the ones that it knows.
    #[error("the endpoint does not know this method")]
    MethodNotAllowed(&'static str),
    /// The protocol has it and this service provider does not; says what.
    #[error("not offered")]
    NotOffered(&'static str),
    /// The body is longer than is taken, in bytes.
    #[error("the body is longer than {0} bytes")]
    PayloadTooLarge(usize),
    /// The body is of another media type.
    #[error("the body is of another media type")]
    MediaType,
    /// The body could not be read from the connection.
    #[error("the body could not be read")]
    Body,
    /// The time that the caller gave is over.
    #[error("the time for the call is over")]
    Deadline,
    /// The node is about to stop.
    #[error("the node is stopping")]
    Stopping,
    /// A handler panicked.
    #[error("a handler panicked")]
    Panicked,
    /// The operating system's random generator failed.
    #[error("there is no randomness")]
    Randomness(#[from] RandomnessError),
    /// A bug of ours.
    #[error("an internal error")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// An error's face.
struct Answer {
    status: StatusCode,
    scim_type: Option<ScimType>,
    detail: Cow<'static, str>,
    fault: Fault,
}

/// After how many seconds a client may try again what we could not do now.
const RETRY_AFTER_S: &str = "1";

impl Error {
    /// The one table of errors and their faces.
    fn answer(&self) -> Answer {
        use Fault::{Client, Upstream, Us};
        use StatusCode as S;
        let (status, scim_type, detail, fault): (_, _, Cow<'static, str>, _) = match self {
            Self::Scim(error) => (
                S::from_u16(error.status).unwrap_or(S::INTERNAL_SERVER_ERROR),
                error.scim_type,
                error.detail.clone().into(),
                if error.status < 500 { Client } else { Us },
            ),
            Self::Store(StoreError::NotFound) => {
                (S::NOT_FOUND, None, "Resource not found.".into(), Client)
            }
            Self::Store(StoreError::Taken { attribute }) => (
                S::CONFLICT,
                Some(ScimType::Uniqueness),
                format!("Another resource has this value of '{attribute}', which must be unique.")
                    .into(),
                Client,
            ),
            Self::Store(StoreError::Stale { .. }) | Self::PreconditionFailed => (
                S::PRECONDITION_FAILED,
                None,
                "The resource has changed since the version that the request names.".into(),
                Client,
            ),
            Self::Contended => (
                S::SERVICE_UNAVAILABLE,
                None,
                "The resource is being changed by too many requests at once.".into(),
                Fault::Quota,
            ),
            Self::Store(StoreError::OverBudget) => (
                S::BAD_REQUEST,
                Some(ScimType::TooMany),
                "The request would look at too much of an index.".into(),
                Client,
            ),
            Self::Store(StoreError::KeyReused) => (
                S::UNPROCESSABLE_ENTITY,
                None,
                "The Idempotency-Key was used for another request before.".into(),
                Client,
            ),
            Self::Store(StoreError::Refused) | Self::Grant(_) => (
                S::UNAUTHORIZED,
                None,
                "The credential is not accepted.".into(),
                Client,
            ),
            Self::Store(StoreError::Unavailable(_)) => {
                (S::SERVICE_UNAVAILABLE, None, UNAVAILABLE.into(), Upstream)
            }
            // The provider answers with what came of the request.
            Self::Store(StoreError::Corrupt(_) | StoreError::Repeated(_))
            | Self::Panicked
            | Self::Randomness(_)
            | Self::Internal(_) => (S::INTERNAL_SERVER_ERROR, None, INTERNAL.into(), Us),
            Self::Scope => (
                S::FORBIDDEN,
                None,
                "The API token's scope does not cover this endpoint.".into(),
                Client,
            ),
            Self::LinkKey => (
                S::UNAUTHORIZED,
                None,
                "This listener is for the gateways of the region.".into(),
                Client,
            ),
            Self::Link(_) => (
                S::BAD_REQUEST,
                None,
                "The call does not keep to the contract of the link.".into(),
                Us,
            ),
            Self::OperatorKey => (
                S::UNAUTHORIZED,
                None,
                "The operator key is missing or wrong.".into(),
                Client,
            ),
            Self::OperatorRequest(detail) => (S::BAD_REQUEST, None, detail.clone(), Client),
            Self::NoSuchEndpoint => (S::NOT_FOUND, None, "No such endpoint.".into(), Client),
            Self::NoSuchPage => (
                S::NOT_FOUND,
                None,
                "It may have been moved, or the address is not complete.".into(),
                Client,
            ),
            Self::ForeignForm => (
                S::FORBIDDEN,
                None,
                "This form does not belong to your session. Go back, load the page again, and \
                 send it once more."
                    .into(),
                Client,
            ),
            Self::MethodNotAllowed(allowed) => (
                S::METHOD_NOT_ALLOWED,
                None,
                format!("This endpoint supports {allowed}.").into(),
                Client,
            ),
            Self::NotOffered(what) => (
                S::NOT_IMPLEMENTED,
                None,
                format!("{what} is not supported.").into(),
                Client,
            ),
            Self::PayloadTooLarge(limit) => (
                S::PAYLOAD_TOO_LARGE,
                None,
                format!("The body is longer than {limit} bytes.").into(),
                Client,
            ),
            Self::MediaType => (
                S::UNSUPPORTED_MEDIA_TYPE,
                None,
                "The body must be application/scim+json or application/json.".into(),
                Client,
            ),
            Self::Body => (
                S::BAD_REQUEST,
                None,
                "The body could not be read.".into(),
                Client,
            ),
            Self::Deadline => (S::SERVICE_UNAVAILABLE, None, UNAVAILABLE.into(), Us),
            Self::Stopping => (
                S::SERVICE_UNAVAILABLE,
                None,
                UNAVAILABLE.into(),
                Fault::Quota,
            ),
        };
        Answer {
            status,
            scim_type,
            detail,
            fault,
        }
    }

    /// Who has to act.
    #[must_use]
    pub fn fault(&self) -> Fault {
        self.answer().fault
    }

    /// Whether the gateway is asked to resolve the token again.
    #[must_use]
    pub fn is_refused_grant(&self) -> bool {
        matches!(self, Self::Grant(_) | Self::Store(StoreError::Refused))
    }

    /// What the client is told, as the protocol has it.
    #[must_use]
    pub fn to_scim_error(&self) -> ScimError {
        let Answer {
            status,
            scim_type,
            detail,
            ..
        } = self.answer();
        ScimError {
            status: status.as_u16(),
            scim_type,
            detail: detail.into_owned(),
        }
    }

    /// The answer to the client, in the dialect that it speaks.
    #[must_use]
    pub fn response(&self, dialect: Dialect) -> HttpResponse {
        let answer = self.answer();
        let body = self.to_scim_error().body(dialect);
        let mut response = HttpResponse::build(answer.status);
        response.content_type(dialect.media_type());
        match self {
            _ if self.is_refused_grant() => {
                response.insert_header((REFUSED, REFUSED_GRANT));
                response.insert_header((WWW_AUTHENTICATE, "Bearer"));
            }
            Self::LinkKey => {
                response.insert_header((WWW_AUTHENTICATE, "Meridian-Link-Key"));
            }
            Self::OperatorKey => {
                response.insert_header((WWW_AUTHENTICATE, "Meridian-Operator-Key"));
            }
            Self::MethodNotAllowed(allowed) => {
                response.insert_header((ALLOW, *allowed));
            }
            _ if answer.status == StatusCode::SERVICE_UNAVAILABLE => {
                response.insert_header((RETRY_AFTER, RETRY_AFTER_S));
            }
            _ => {}
        }
        response.body(body)
    }

    /// The answer to an administrator's browser. One that the gateway must act upon is as always.
    #[must_use]
    pub fn page(&self, request_id: &str) -> HttpResponse {
        let refused = matches!(self, Self::Grant(_) | Self::Store(StoreError::Refused));
        if refused || matches!(self, Self::LinkKey) {
            return self.response(Dialect::Scim20);
        }
        let answer = self.answer();
        let mut page = layout::problem(answer.status, &answer.detail, request_id);
        if answer.status == StatusCode::SERVICE_UNAVAILABLE {
            page.headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
        }
        page
    }

    /// The error with its causes, each in its own words.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut chain = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            chain.push_str(": ");
            chain.push_str(&error.to_string());
            cause = error.source();
        }
        chain
    }

    /// What a failure of the web framework means, as far as its status tells.
    #[must_use]
    pub fn from_framework(error: &actix_web::Error) -> Self {
        match error.as_response_error().status_code() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                Self::PayloadTooLarge(shared::link::MAX_GROUP_REPLACE_BYTES)
            }
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::MediaType,
            StatusCode::NOT_FOUND => Self::NoSuchEndpoint,
            status if status.is_client_error() => Self::Body,
            _ => Self::Internal("the web framework failed".into()),
        }
    }
}

const UNAVAILABLE: &str = "The service cannot answer at the moment. Please try again.";
const INTERNAL: &str = "The service failed. The request id helps its operator to find out why.";

impl From<ScimError> for Error {
    fn from(error: ScimError) -> Self {
        Self::Scim(error)
    }
}

impl From<ProviderError> for Error {
    fn from(error: ProviderError) -> Self {
        match error {
            ProviderError::Scim(error) => Self::Scim(error),
            ProviderError::PreconditionFailed => Self::PreconditionFailed,
            ProviderError::Contended => Self::Contended,
            ProviderError::Store(error) => Self::Store(error),
            ProviderError::Document(error) => Self::Internal(Box::new(error)),
            ProviderError::Randomness(error) => Self::Randomness(error),
        }
    }
}

impl From<RestoreFailure> for Error {
    fn from(error: RestoreFailure) -> Self {
        match error {
            RestoreFailure::Restore(RestoreError::Store(error)) => Self::Store(error),
            RestoreFailure::Interrupted => Self::Body,
            other => Self::OperatorRequest(format!("Nothing was restored: {other}.").into()),
        }
    }
}

impl From<TenantError> for Error {
    fn from(error: TenantError) -> Self {
        match error {
            TenantError::Store(error) => Self::Store(error),
            TenantError::Randomness(error) => Self::Randomness(error),
            TenantError::Name | TenantError::Limits => {
                Self::OperatorRequest(error.to_string().into())
            }
        }
    }
}

impl From<EndpointError> for Error {
    fn from(error: EndpointError) -> Self {
        match error {
            EndpointError::Store(error) => Self::Store(error),
            EndpointError::Randomness(error) => Self::Randomness(error),
            EndpointError::Url(_)
            | EndpointError::TooMany
            | EndpointError::Description
            | EndpointError::NoUrl
            | EndpointError::Audience
            | EndpointError::Events => {
                let detail = format!("{}.", error.to_string().trim_end_matches('.'));
                Self::Scim(ScimError::typed(400, ScimType::InvalidValue, detail))
            }
        }
    }
}

impl From<TokenError> for Error {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Store(error) => Self::Store(error),
            TokenError::Randomness(error) => Self::Randomness(error),
            TokenError::Name | TokenError::Expiry | TokenError::Overlap | TokenError::Ended => {
                Self::OperatorRequest(error.to_string().into())
            }
        }
    }
}

impl ResponseError for Error {
    fn status_code(&self) -> StatusCode {
        self.answer().status
    }

    /// In SCIM 2.0; `request` renders it anew for a client that speaks 1.1.
    fn error_response(&self) -> HttpResponse {
        self.response(Dialect::Scim20)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scim::Version;

    #[test]
    fn errors_and_their_faces() {
        let unavailable = || StoreError::Unavailable("disk I/O error".into());
        let cases: Vec<(Error, u16, Fault)> = vec![
            (StoreError::NotFound.into(), 404, Fault::Client),
            (
                StoreError::Taken {
                    attribute: "userName",
                }
                .into(),
                409,
                Fault::Client,
            ),
            (
                StoreError::Stale {
                    current: Version(3),
                }
                .into(),
                412,
                Fault::Client,
            ),
            (StoreError::Refused.into(), 401, Fault::Client),
            (StoreError::KeyReused.into(), 422, Fault::Client),
            (StoreError::OverBudget.into(), 400, Fault::Client),
            (unavailable().into(), 503, Fault::Upstream),
            (StoreError::Corrupt("x").into(), 500, Fault::Us),
            (GrantError::Time.into(), 401, Fault::Client),
            (Error::LinkKey, 401, Fault::Client),
            (Error::OperatorKey, 401, Fault::Client),
            (Error::PayloadTooLarge(1), 413, Fault::Client),
            (Error::MediaType, 415, Fault::Client),
            (Error::NotOffered("/Me"), 501, Fault::Client),
            (Error::MethodNotAllowed("GET"), 405, Fault::Client),
            (Error::Deadline, 503, Fault::Us),
            (Error::Panicked, 500, Fault::Us),
        ];
        for (error, status, fault) in cases {
            let response = error.response(Dialect::Scim20);
            assert_eq!(response.status().as_u16(), status, "{error:?}");
            assert_eq!(error.fault(), fault, "{error:?}");
            let has = |name: &str| response.headers().contains_key(name);
            assert_eq!(has("retry-after"), status == 503, "{error:?}");
            let refused = matches!(error, Error::Grant(_) | Error::Store(StoreError::Refused));
            assert_eq!(has(REFUSED), refused, "{error:?}");
            assert_eq!(has("www-authenticate"), status == 401, "{error:?}");
            assert_eq!(has("allow"), status == 405, "{error:?}");
        }
    }

    #[test]
    fn the_log_gets_the_causes_and_the_client_does_not() {
        let error = Error::from(StoreError::Unavailable("disk I/O error".into()));
        assert_eq!(
            error.chain(),
            "the store did not do it: the store cannot answer: disk I/O error"
        );
        assert!(!error.answer().detail.contains("disk"));
        let told = Error::OperatorRequest("the name canary is odd".into());
        assert!(!told.chain().contains("canary"));
    }
}
