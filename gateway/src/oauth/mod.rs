//! OAuth 2.0 client credentials (RFC 6749 section 4.4): an API token is exchanged for an access
//! token that lives an hour, for identity providers that speak nothing else.
//!
//! The client's id is the API token's id, its secret the API token itself. The access token has an
//! API token's shape, and is resolved and revoked by the same road. The region decides, as about
//! everything: here live the endpoint, the metadata that names it (RFC 8414), and the question to
//! the region. What never lives here: a token that is kept.

mod request;

use std::net::IpAddr;
use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::http::header::{self, HeaderMap};
use actix_web::http::{Method, StatusCode};
use serde_json::json;
use shared::link::{AccessTokenRequest, PUBLIC_SCIM_PATH};
use shared::{ApiToken, Scope};

use crate::error::Error;
use crate::host::ServedHost;
use crate::provisioning_client::{ProvisioningClient, resolve_at};
use crate::serve::Edge;
use crate::telemetry::RequestRecord;

pub use request::{TokenRequest, TokenRequestError};

/// Largest body of a request for an access token, in bytes.
pub const MAX_BODY_BYTES: usize = 16 * 1024;
/// Memory for all such bodies, in MiB: nobody has shown a credential when one is read.
pub const BODY_MEMORY_MIB: u32 = 4;
/// The media type of that body (RFC 6749 section 4.4.2).
const FORM: &str = "application/x-www-form-urlencoded";
/// Where access tokens are asked for, without its first slash: also the name of the route.
const TOKEN_PATH: &str = "oauth2/token";
/// Where the metadata is (RFC 8414 section 3), likewise.
const METADATA_PATH: &str = ".well-known/oauth-authorization-server";

/// An endpoint of OAuth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OAuthEndpoint {
    /// `POST /oauth2/token`.
    Token,
    /// `GET /.well-known/oauth-authorization-server`.
    Metadata,
}

impl OAuthEndpoint {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Token, Self::Metadata];

    /// The endpoint that a path names, if it is one of OAuth. Empty segments are passed over, as
    /// everywhere.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        let mut segments = path.split('/').filter(|segment| !segment.is_empty());
        let (first, second, third) = (segments.next()?, segments.next()?, segments.next());
        let is = |template: &str| template.split('/').eq([first, second]);
        match third {
            None if is(TOKEN_PATH) => Some(Self::Token),
            None if is(METADATA_PATH) => Some(Self::Metadata),
            _ => None,
        }
    }

    /// The path, for logs and metrics.
    #[must_use]
    pub fn template(self) -> &'static str {
        match self {
            Self::Token => TOKEN_PATH,
            Self::Metadata => METADATA_PATH,
        }
    }

    /// Refuses a method that the endpoint does not have.
    ///
    /// # Errors
    /// [`Error::Method`].
    pub fn check_method(self, method: &Method) -> Result<(), Error> {
        let allowed: &'static [Method] = match self {
            Self::Token => &[Method::POST],
            Self::Metadata => &[Method::GET, Method::HEAD],
        };
        match allowed.contains(method) {
            true => Ok(()),
            false => Err(Error::Method { allowed }),
        }
    }
}

/// Refuses a body that is no form, before it is read.
///
/// # Errors
/// [`TokenRequestError::MediaType`].
pub fn check_media_type(headers: &HeaderMap) -> Result<(), Error> {
    let media_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.split(';').next())
        .map(str::trim);
    match media_type {
        Some(text) if text.eq_ignore_ascii_case(FORM) => Ok(()),
        _ => Err(TokenRequestError::MediaType.into()),
    }
}

/// The metadata of a regional host (RFC 8414 section 2). From what is configured alone: a header
/// of the request never says where a client sends its secret.
#[must_use]
pub fn metadata(host: &ServedHost) -> HttpResponse {
    let base_url = host.base_urls.as_str();
    let origin = base_url.strip_suffix(PUBLIC_SCIM_PATH).unwrap_or(base_url);
    HttpResponse::Ok().json(json!({
        "issuer": origin,
        "token_endpoint": format!("{origin}/{TOKEN_PATH}"),
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "grant_types_supported": ["client_credentials"],
        "scopes_supported": [Scope::Scim.as_str(), Scope::Admin.as_str()],
        // Required (RFC 8414 section 2), and a list without elements must be left out (section
        // 3.2). They are of an authorization endpoint, which we do not have, so none is ever used;
        // this one is the nearest to what the token endpoint gives.
        "response_types_supported": ["token"],
    }))
}

/// Answers a request for an access token.
///
/// The gateway makes the secret and the region stores its digest. So a call that got no answer can
/// be sent again: it stores the same access token. One whose client is gone is never used, and ends
/// within the hour.
///
/// # Errors
/// [`Error`]: whatever keeps the API token from being used, and [`TokenRequestError`].
pub async fn issue(
    edge: &Edge,
    host: &ServedHost,
    request: &TokenRequest,
    source: IpAddr,
    record: &mut RequestRecord,
) -> Result<HttpResponse, Error> {
    let secret = &request.client_secret;
    let client = resolve_at(&edge.resolver, &edge.regions, host, "", secret, source).await?;
    if client.is_access_token || client.token_id != request.client_id {
        return Err(TokenRequestError::Client.into());
    }
    record.client = Some(Arc::clone(&client));
    client.check_source(source)?;
    if request.scope.is_some_and(|scope| scope != client.scope) {
        return Err(TokenRequestError::Scope.into());
    }
    let issued = issue_to(&client, edge, host, secret, source, false).await?;
    Ok(HttpResponse::build(StatusCode::OK)
        .insert_header((header::PRAGMA, "no-cache"))
        .json(json!({
            "access_token": issued.access_token.reveal(),
            "token_type": "Bearer",
            "expires_in": issued.expires_in_s,
            "scope": client.scope.as_str(),
        })))
}

/// An access token, and how long it lives.
pub struct Issued {
    /// The secret.
    pub access_token: ApiToken,
    /// Whole seconds.
    pub expires_in_s: u32,
}

/// Has the region store a new access token of the API token `secret`, which is `client`'s and may
/// be used by whoever asks: an OAuth client, or an administrator who signs in.
///
/// # Errors
/// [`Error`]: whatever keeps the API token from being used.
pub async fn issue_to(
    client: &Arc<ProvisioningClient>,
    edge: &Edge,
    host: &ServedHost,
    secret: &ApiToken,
    source: IpAddr,
    is_sign_in: bool,
) -> Result<Issued, Error> {
    let _tenant_pass = client.admit(edge.clock.now())?;
    let issuing = client
        .gate
        .admit_issuing(host.region.lookups.issuing_of_tenant)
        .await?;
    let access_token = ApiToken::generate(&host.region.id)?;
    let question = AccessTokenRequest {
        digest: secret.digest(),
        token_id: client.token_id.clone(),
        access_digest: access_token.digest(),
        is_sign_in,
    };
    let issue = edge
        .resolver
        .issue(client, &question, &access_token, source, issuing);
    let expires_in_s = issue.await?;
    Ok(Issued {
        access_token,
        expires_in_s,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_endpoints_have_one_path_each() {
        for path in ["/oauth2/token", "/oauth2/token/", "//oauth2//token"] {
            assert_eq!(OAuthEndpoint::parse(path), Some(OAuthEndpoint::Token));
        }
        let metadata = "/.well-known/oauth-authorization-server";
        assert_eq!(
            OAuthEndpoint::parse(metadata),
            Some(OAuthEndpoint::Metadata)
        );
        for path in [
            "/",
            "",
            "/oauth2",
            "/token",
            "/oauth2/token/x",
            "/oauth2/authorize",
            "/OAUTH2/token",
            "/oauth2%2Ftoken",
            "/api/v1/scim/oauth2/token",
            "/.well-known/openid-configuration",
            "/.well-known/oauth-authorization-server/api/v1/scim",
        ] {
            assert_eq!(OAuthEndpoint::parse(path), None, "{path}");
        }
    }
}
