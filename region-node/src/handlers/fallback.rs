//! Answers for what is not there: endpoints, methods, features. Behind the same doors as what is.

use actix_web::HttpResponse;
use actix_web::web::Data;

use crate::error::Error;
use crate::provider::resources::Resources;
use crate::tenant_scope::TenantScope;

/// `/Me`, RFC 7644 section 3.11: a provisioning client is no user.
///
/// # Errors
/// Always.
pub async fn me(scope: TenantScope, resources: Data<Resources>) -> Result<HttpResponse, Error> {
    resources.held_profile(&scope.access).await?;
    Err(Error::NotOffered("/Me"))
}

/// A SCIM endpoint that does not exist.
///
/// # Errors
/// Always.
pub async fn no_such_scim_endpoint(_scope: TenantScope) -> Result<HttpResponse, Error> {
    Err(Error::NoSuchEndpoint)
}

/// Everything else that does not exist.
///
/// # Errors
/// Always.
pub async fn no_such_endpoint() -> Result<HttpResponse, Error> {
    Err(Error::NoSuchEndpoint)
}
