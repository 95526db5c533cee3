//! `/openapi.json`: the admin API described, by OpenAPI 3.1.

use actix_web::HttpResponse;
use shared::urn;

use crate::tenant_scope::AdminScope;

/// The description. Tests of the whole system hold it against the routes and their answers.
const DOCUMENT: &str = include_str!("openapi.json");

/// `GET /openapi.json`
pub async fn get(_scope: AdminScope) -> HttpResponse {
    HttpResponse::Ok().content_type(urn::JSON).body(DOCUMENT)
}
