//! What a gateway asks about tokens: `POST /internal/v1/resolve`, whose token this is, and
//! `POST /internal/v1/access-tokens`, which stores an access token for the holder of an API token.

use actix_web::web::{Bytes, Data};
use actix_web::{HttpResponse, web};
use shared::link::{
    AccessTokenAnswer, AccessTokenRequest, Refusal, ResolveAnswer, ResolveRequest, Resolved,
};

use crate::error::Error;
use crate::provider::tokens::{AccessTokenIssue, Resolution};
use crate::startup::Parts;
use crate::store::FoundToken;
use crate::tenant_scope::FromGateway;

/// Answers 200 on positive knowledge only, good or bad; any other status means that nothing is
/// known at the moment.
///
/// # Errors
/// As the store.
pub async fn resolve(
    _gateway: FromGateway,
    body: Bytes,
    parts: Data<Parts>,
) -> Result<web::Json<ResolveAnswer>, Error> {
    let request: ResolveRequest =
        serde_json::from_slice(&body).map_err(|_| Error::Link("the resolve request"))?;
    let FoundToken {
        token,
        tenant,
        is_access_token,
    } = match parts.tokens.resolve(&request.digest).await? {
        Resolution::Live(found) => *found,
        Resolution::Refused(reason, tenant_id) => {
            if let Some(tenant) = &tenant_id {
                parts.refusals.credential(tenant, reason);
            }
            return Ok(web::Json(ResolveAnswer::Refused { reason, tenant_id }));
        }
    };
    let minted = parts
        .grants
        .mint(&token, tenant.credential_version, parts.clock.now());
    let minted = match minted {
        Ok(minted) => minted,
        // Less than a second of the token is left.
        Err(crate::grant::GrantError::Time) => {
            return Ok(web::Json(ResolveAnswer::Refused {
                reason: Refusal::Expired,
                tenant_id: Some(tenant.id),
            }));
        }
        Err(error) => return Err(Error::Internal(Box::new(error))),
    };
    Ok(web::Json(ResolveAnswer::Granted(Resolved {
        grant: minted.grant,
        grant_expires: minted.expires,
        tenant_id: tenant.id,
        token_id: token.id,
        scope: token.scope,
        limits: tenant.settings.limits,
        keep_s: minted.lifetime_s,
        is_access_token,
        networks: token.networks,
    })))
}

/// Answers 200 on positive knowledge only, as [`resolve`].
///
/// # Errors
/// As the store.
pub async fn issue_access_token(
    _gateway: FromGateway,
    body: Bytes,
    parts: Data<Parts>,
) -> Result<web::Json<AccessTokenAnswer>, Error> {
    let request: AccessTokenRequest =
        serde_json::from_slice(&body).map_err(|_| Error::Link("the access token request"))?;
    let issue = parts
        .tokens
        .issue_access_token(
            &request.digest,
            &request.token_id,
            request.access_digest,
            request.is_sign_in,
        )
        .await?;
    Ok(web::Json(match issue {
        AccessTokenIssue::Issued { expires_in_s } => AccessTokenAnswer::Issued { expires_in_s },
        AccessTokenIssue::Refused(reason) => AccessTokenAnswer::Refused { reason },
    }))
}

/// A method that the endpoint does not have.
///
/// # Errors
/// Always.
pub async fn not_allowed(_gateway: FromGateway) -> Result<HttpResponse, Error> {
    Err(Error::MethodNotAllowed("POST"))
}
