//! The tenant admin's API: `/api/v1/admin/…` at the regional host. JSON with camel-case names;
//! errors as SCIM error bodies. Every call needs a token of the scope `admin`.
//!
//! HTTP in, HTTP out, as in `handlers`. What never lives here: what the provider does.

pub mod schemas;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde_json::Value;
use shared::urn;

/// An answer with a JSON body.
fn answer(status: StatusCode, body: &Value) -> HttpResponse {
    HttpResponse::build(status)
        .content_type(urn::JSON)
        .body(body.to_string())
}
