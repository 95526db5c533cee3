//! `/export`: everything that is kept of the tenant's users and groups, as JSON Lines.

use actix_web::HttpResponse;
use actix_web::web::Data;

use crate::error::Error;
use crate::handlers::backup::export_lines;
use crate::provider::export::ExportOf;
use crate::startup::Parts;
use crate::tenant_scope::{AdminScope, TenantScope};

/// `GET /export`: the tenant, then its users, then its groups, each on a line.
///
/// # Errors
/// As the store, before the first byte; later the body ends in an error.
pub async fn get(
    AdminScope { scope, .. }: AdminScope,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    stream(&scope, &parts).await
}

/// The answer with an export.
///
/// # Errors
/// As [`get`].
pub(crate) async fn stream(scope: &TenantScope, parts: &Parts) -> Result<HttpResponse, Error> {
    let of = ExportOf {
        region: parts.region.clone(),
        tenant: scope.access.tenant.clone(),
        base_url: scope.base_url.as_str().to_owned(),
        now: parts.clock.now(),
    };
    export_lines(of, scope.author(), parts).await
}
