//! What gateways tell: `POST /internal/v1/notices`, what they refused with the region's tokens.

use actix_web::web;
use actix_web::web::{Bytes, Data};
use shared::link::{MAX_NOTICES, NoticesAnswer, NoticesRequest};

use crate::error::Error;
use crate::provider::doctor;
use crate::startup::Parts;
use crate::tenant_scope::FromGateway;

/// Takes those that are of a token of the region, whether it is still good or not.
///
/// # Errors
/// As the store.
pub async fn take(
    _gateway: FromGateway,
    body: Bytes,
    parts: Data<Parts>,
) -> Result<web::Json<NoticesAnswer>, Error> {
    let request: NoticesRequest =
        serde_json::from_slice(&body).map_err(|_| Error::Link("the notices"))?;
    let mut taken = 0;
    for notice in request.notices.iter().take(MAX_NOTICES) {
        let Some(found) = parts.store.find_token(&notice.digest).await? else {
            continue;
        };
        let (tenant, token) = (&found.tenant.id, found.token.id);
        parts.refusals.at_gateway(tenant, &token, notice);
        // Who signs in is a person, whose mistake says nothing of how provisioning is set up.
        if !notice.is_sign_in()
            && let Some(finding) = doctor::of_notice(notice, token)
        {
            parts.activity.find(tenant, finding);
        }
        taken += 1;
    }
    Ok(web::Json(NoticesAnswer { taken }))
}
