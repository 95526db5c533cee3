//! `/Users` (RFC 7644 section 3): HTTP in, HTTP out.

use actix_web::web::{Bytes, Data, Path};
use actix_web::{HttpRequest, HttpResponse};

use super::scim_http::{self, ListQuery, ScimBody};
use crate::error::Error;
use crate::provider::users::{Users, View};
use crate::scim::PatchRequest;
use crate::tenant_scope::TenantScope;

/// `POST /Users`, RFC 7644 section 3.3.
pub async fn create_user(
    scope: TenantScope,
    request: HttpRequest,
    body: Bytes,
    users: Data<Users>,
) -> Result<HttpResponse, Error> {
    let body = ScimBody::parse(&request, &body)?;
    let projection = scim_http::projection(&request, users.schema())?;
    let view = View { base_url: scope.base_url.as_str(), projection: &projection };
    let shown = users.create(&scope.access, body.0, view).await?;
    Ok(scim_http::created(&request, shown))
}

/// `GET /Users/{id}`, RFC 7644 section 3.4.1.
pub async fn get_user(
    scope: TenantScope,
    request: HttpRequest,
    id: Path<String>,
    users: Data<Users>,
) -> Result<HttpResponse, Error> {
    let id = scim_http::resource_id(&id)?;
    let known = scim_http::if_none_match(&request);
    let projection = scim_http::projection(&request, users.schema())?;
    let view = View { base_url: scope.base_url.as_str(), projection: &projection };
    let shown = users.get(&scope.access, id, known.as_ref(), view).await?;
    Ok(scim_http::ok_or_not_modified(&request, shown))
}

/// `GET /Users`, RFC 7644 section 3.4.2.
pub async fn query_users(
    scope: TenantScope,
    request: HttpRequest,
    query: ListQuery,
    users: Data<Users>,
) -> Result<HttpResponse, Error> {
    let list = users.query(&scope.access, scope.base_url.as_str(), &query.0).await?;
    Ok(scim_http::list(&request, list))
}

/// `PUT /Users/{id}`, RFC 7644 section 3.5.1.
pub async fn replace_user(
    scope: TenantScope,
    request: HttpRequest,
    id: Path<String>,
    body: Bytes,
    users: Data<Users>,
) -> Result<HttpResponse, Error> {
    let id = scim_http::resource_id(&id)?;
    let body = ScimBody::parse(&request, &body)?;
    let expected = scim_http::if_match(&request);
    let projection = scim_http::projection(&request, users.schema())?;
    let view = View { base_url: scope.base_url.as_str(), projection: &projection };
    let shown = users.replace(&scope.access, id, expected.as_ref(), body.0, view).await?;
    Ok(scim_http::ok(&request, shown))
}

/// `PATCH /Users/{id}`, RFC 7644 section 3.5.2. Answers 200 with the resource.
pub async fn patch_user(
    scope: TenantScope,
    request: HttpRequest,
    id: Path<String>,
    body: Bytes,
    users: Data<Users>,
) -> Result<HttpResponse, Error> {
    let id = scim_http::resource_id(&id)?;
    let patch = PatchRequest::parse(ScimBody::parse(&request, &body)?.0)?;
    let expected = scim_http::if_match(&request);
    let projection = scim_http::projection(&request, users.schema())?;
    let view = View { base_url: scope.base_url.as_str(), projection: &projection };
    let shown = users.patch(&scope.access, id, expected.as_ref(), &patch, view).await?;
    Ok(scim_http::ok(&request, shown))
}

/// `DELETE /Users/{id}`, RFC 7644 section 3.6.
pub async fn delete_user(
    scope: TenantScope,
    request: HttpRequest,
    id: Path<String>,
    users: Data<Users>,
) -> Result<HttpResponse, Error> {
    let id = scim_http::resource_id(&id)?;
    let expected = scim_http::if_match(&request);
    users.delete(&scope.access, id, expected.as_ref()).await?;
    Ok(HttpResponse::NoContent().finish())
}
