//! `/export`: everything that is kept of the tenant's users and groups, as JSON Lines.

use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::web::Data;
use futures_util::StreamExt as _;

use crate::error::Error;
use crate::handlers::backup::lines;
use crate::provider::export::{self, ExportOf};
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
    let mut bytes = Box::pin(export::export(Arc::clone(&parts.store), of).await?);
    let first = bytes.next().await.transpose()?.unwrap_or_default();
    Ok(lines(first, bytes))
}
