//! `/.search` at an endpoint and at the root (RFC 7644 section 3.4.3), and `/Bulk` (section 3.7).

use actix_web::http::StatusCode;
use actix_web::web::{Bytes, Data};
use actix_web::{HttpRequest, HttpResponse};
use shared::ScimError;
use shared::link::MAX_BODY_BYTES;

use super::scim_http::{Exchange, Kind};
use crate::error::Error;
use crate::provider::resources::Resources;
use crate::scim::bulk::{BulkRequest, bulk_response};
use crate::scim::{ListRequest, ResourceKind};
use crate::tenant_scope::TenantScope;

/// `POST` to the `/.search` of an endpoint.
///
/// # Errors
/// As the provider says.
pub async fn search_kind(
    scope: TenantScope,
    request: HttpRequest,
    Kind(kind): Kind,
    body: Bytes,
    resources: Data<Resources>,
) -> Result<HttpResponse, Error> {
    search(&scope, &request, &[kind], &body, &resources).await
}

/// `POST /.search`: over all resource types.
///
/// # Errors
/// As the provider says.
pub async fn search_all(
    scope: TenantScope,
    request: HttpRequest,
    body: Bytes,
    resources: Data<Resources>,
) -> Result<HttpResponse, Error> {
    search(
        &scope,
        &request,
        &[ResourceKind::User, ResourceKind::Group],
        &body,
        &resources,
    )
    .await
}

async fn search(
    scope: &TenantScope,
    request: &HttpRequest,
    kinds: &[ResourceKind],
    body: &[u8],
    resources: &Resources,
) -> Result<HttpResponse, Error> {
    let exchange = Exchange::new(request, scope);
    let body = exchange.object(body, MAX_BODY_BYTES)?;
    let search = ListRequest::from_body(body).map_err(ScimError::from)?;
    let list = resources
        .query(exchange.reader(), kinds, exchange.base_url(), &search)
        .await?;
    Ok(exchange.list(list))
}

/// `POST /Bulk`.
///
/// # Errors
/// 400 or 413 where the request is none; operations fail one by one.
pub async fn bulk(
    scope: TenantScope,
    request: HttpRequest,
    body: Bytes,
    resources: Data<Resources>,
) -> Result<HttpResponse, Error> {
    let exchange = Exchange::new(&request, &scope);
    let caller = exchange.writer(&body);
    let bulk = BulkRequest::parse(exchange.object(&body, MAX_BODY_BYTES)?)?;
    let explain = |error| Error::from(error).to_scim_error();
    let outcomes = resources
        .bulk(caller, exchange.base_url(), &bulk, explain)
        .await?;
    Ok(exchange.answer(StatusCode::OK, bulk_response(&outcomes).to_string()))
}
