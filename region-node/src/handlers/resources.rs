//! `/Users` and `/Groups` (RFC 7644 section 3): HTTP in, HTTP out. The route says which kind.

use actix_web::web::{Bytes, Data, Path};
use actix_web::{HttpRequest, HttpResponse};

use super::scim_http::{Exchange, Kind, ListQuery, ViewQuery, resource_id};
use crate::error::Error;
use crate::provider::resources::Resources;
use crate::tenant_scope::TenantScope;

/// `POST` to the endpoint, RFC 7644 section 3.3.
///
/// # Errors
/// As the provider says.
pub async fn create(
    scope: TenantScope,
    request: HttpRequest,
    Kind(kind): Kind,
    query: ViewQuery,
    body: Bytes,
    resources: Data<Resources>,
) -> Result<HttpResponse, Error> {
    let exchange = Exchange::new(&request, &scope);
    let caller = exchange.writer(&body);
    let body = exchange.resource(kind, &body)?;
    let view = query.view(exchange.base_url());
    let shown = resources.create(caller, kind, body, view).await?;
    Ok(exchange.created(shown))
}

/// `GET` of a resource, RFC 7644 section 3.4.1.
///
/// # Errors
/// As the provider says.
pub async fn get(
    scope: TenantScope,
    request: HttpRequest,
    Kind(kind): Kind,
    query: ViewQuery,
    id: Path<String>,
    resources: Data<Resources>,
) -> Result<HttpResponse, Error> {
    let exchange = Exchange::new(&request, &scope);
    let known = exchange.if_none_match();
    let view = query.view(exchange.base_url());
    let id = resource_id(&id)?;
    let shown = resources
        .get(exchange.reader(), kind, id, known.as_ref(), view)
        .await?;
    Ok(exchange.ok_or_not_modified(shown))
}

/// `GET` of the endpoint, RFC 7644 section 3.4.2.
///
/// # Errors
/// As the provider says.
pub async fn query(
    scope: TenantScope,
    request: HttpRequest,
    Kind(kind): Kind,
    query: ListQuery,
    resources: Data<Resources>,
) -> Result<HttpResponse, Error> {
    let exchange = Exchange::new(&request, &scope);
    let list = resources
        .query(exchange.reader(), &[kind], exchange.base_url(), &query.0)
        .await?;
    Ok(exchange.list(list))
}

/// `PUT` of a resource, RFC 7644 section 3.5.1.
///
/// # Errors
/// As the provider says.
pub async fn replace(
    scope: TenantScope,
    request: HttpRequest,
    Kind(kind): Kind,
    query: ViewQuery,
    id: Path<String>,
    body: Bytes,
    resources: Data<Resources>,
) -> Result<HttpResponse, Error> {
    let exchange = Exchange::new(&request, &scope);
    let caller = exchange.writer(&body);
    let body = exchange.resource(kind, &body)?;
    let expected = exchange.if_match();
    let view = query.view(exchange.base_url());
    let id = resource_id(&id)?;
    let shown = resources
        .replace(caller, kind, id, expected.as_ref(), body, view)
        .await?;
    Ok(exchange.ok(shown))
}

/// `PATCH` of a resource, RFC 7644 section 3.5.2: 200 with the resource, or 204 where members of
/// a large group were changed.
///
/// # Errors
/// As the provider says.
pub async fn patch(
    scope: TenantScope,
    request: HttpRequest,
    Kind(kind): Kind,
    query: ViewQuery,
    id: Path<String>,
    body: Bytes,
    resources: Data<Resources>,
) -> Result<HttpResponse, Error> {
    let exchange = Exchange::new(&request, &scope);
    let caller = exchange.writer(&body);
    let patch = exchange.patch(kind, &body)?;
    let expected = exchange.if_match();
    let view = query.view(exchange.base_url());
    let id = resource_id(&id)?;
    let shown = resources
        .patch(caller, kind, id, expected.as_ref(), patch, view)
        .await?;
    Ok(exchange.ok_or_no_content(shown))
}

/// `DELETE` of a resource, RFC 7644 section 3.6.
///
/// # Errors
/// As the provider says.
pub async fn delete(
    scope: TenantScope,
    request: HttpRequest,
    Kind(kind): Kind,
    id: Path<String>,
    resources: Data<Resources>,
) -> Result<HttpResponse, Error> {
    let exchange = Exchange::new(&request, &scope);
    let expected = exchange.if_match();
    let id = resource_id(&id)?;
    resources
        .delete(exchange.writer(&[]), kind, id, expected.as_ref())
        .await?;
    Ok(HttpResponse::NoContent().finish())
}
