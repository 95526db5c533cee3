//! The tenant admin's API: `/api/v1/admin/…` at the regional host. JSON with camel-case names;
//! errors as SCIM error bodies. Every call needs a token of the scope `admin`.
//!
//! HTTP in, HTTP out, as in `handlers`. What never lives here: what the provider does.

pub mod activity;
pub mod audit;
pub mod directory;
pub mod doctor;
pub mod events;
pub mod export;
pub mod openapi;
pub mod schemas;
pub mod settings;
pub mod tokens;
pub mod webhooks;

use actix_web::http::StatusCode;
use actix_web::web::Query;
use actix_web::{HttpRequest, HttpResponse};
use serde::de::DeserializeOwned;
use serde_json::Value;
use shared::{ScimError, ScimType, urn};

use crate::error::Error;
use crate::scim::json as strict;

/// An answer with a JSON body.
fn answer(status: StatusCode, body: &Value) -> HttpResponse {
    HttpResponse::build(status)
        .content_type(urn::JSON)
        .body(body.to_string())
}

/// Reads a body; an empty one is an empty object. `members` says which there are, for one who sent
/// another.
fn read<T: DeserializeOwned>(body: &[u8], members: &str) -> Result<T, Error> {
    let body = if body.is_empty() { b"{}" } else { body };
    let body = strict::parse(body).map_err(ScimError::from)?;
    serde_json::from_value(body).map_err(|_| {
        let detail = format!("The body is a JSON object with these members only: {members}.");
        ScimError::typed(400, ScimType::InvalidSyntax, detail).into()
    })
}

/// Reads a query string, likewise.
fn read_query<T: DeserializeOwned>(request: &HttpRequest, parameters: &str) -> Result<T, Error> {
    Query::from_query(request.query_string())
        .map(Query::into_inner)
        .map_err(|_| {
            let detail = format!("The query has these parameters only: {parameters}.");
            ScimError::typed(400, ScimType::InvalidValue, detail).into()
        })
}
