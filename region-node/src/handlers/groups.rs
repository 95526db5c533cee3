//! `/Groups` while a tenant has no groups: Okta and Entra probe the list before they save their
//! settings, so it answers, empty; what would make a group answers 501 (DESIGN section 7).

use actix_web::{HttpRequest, HttpResponse};
use shared::ScimError;

use super::scim_http::{self, ListQuery};
use crate::error::Error;
use crate::scim::list::list_response;
use crate::tenant_scope::TenantScope;

/// `GET /Groups`: an empty list.
pub async fn query_groups(
    _scope: TenantScope,
    request: HttpRequest,
    query: ListQuery,
) -> Result<HttpResponse, Error> {
    Ok(scim_http::list(&request, list_response(0, query.0.start_index, &[])))
}

/// `GET /Groups/{id}`: there is none.
pub async fn get_group(_scope: TenantScope) -> Result<HttpResponse, Error> {
    Err(Error::NotFound)
}

/// Every write.
pub async fn refuse_write(_scope: TenantScope) -> Result<HttpResponse, Error> {
    Err(Error::Scim(ScimError::new(501, "Groups are not provisioned in this tenant.")))
}
