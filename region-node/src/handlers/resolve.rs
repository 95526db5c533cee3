//! `POST /internal/v1/resolve`: a gateway asks whose token this is.

use actix_web::web::{Bytes, Data};
use actix_web::{HttpResponse, web};
use shared::link::{ResolveAnswer, ResolveRequest, Resolved};

use crate::error::Error;
use crate::provider::tokens::Resolution;
use crate::startup::Parts;
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
    let (token, tenant) = match parts.tokens.resolve(&request.digest).await? {
        Resolution::Live(found) => *found,
        Resolution::Refused(reason) => return Ok(web::Json(ResolveAnswer::Refused { reason })),
    };
    let minted = parts
        .grants
        .mint(&token, tenant.credential_version, parts.clock.now());
    let minted = match minted {
        Ok(minted) => minted,
        // Less than a second of the token is left.
        Err(crate::grant::GrantError::Time) => {
            let reason = shared::link::Refusal::Expired;
            return Ok(web::Json(ResolveAnswer::Refused { reason }));
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
    })))
}

/// A method that is none of resolve's.
///
/// # Errors
/// Always.
pub async fn not_allowed(_gateway: FromGateway) -> Result<HttpResponse, Error> {
    Err(Error::MethodNotAllowed("POST"))
}
