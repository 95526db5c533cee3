//! `/ServiceProviderConfig`, `/Schemas`, `/ResourceTypes` (RFC 7644 section 4, RFC 7643 sections
//! 5 to 7), rendered from what the code enforces.

use actix_web::http::StatusCode;
use actix_web::web::Path;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Value, json};
use shared::{ScimError, urn};

use super::scim_http;
use crate::error::Error;
use crate::scim::list::{DEFAULT_COUNT, MAX_COUNT, list_response};
use crate::scim::schema::{ResourceSchema, Schema, USER};
use crate::tenant_scope::TenantScope;

/// The resource types that are served.
fn resource_types() -> [&'static ResourceSchema; 1] {
    [&USER]
}

fn schemas() -> impl Iterator<Item = &'static Schema> {
    resource_types().into_iter().flat_map(|t| std::iter::once(&t.core).chain(&t.extensions))
}

/// `GET /ServiceProviderConfig`.
pub async fn get_service_provider_config(
    scope: TenantScope,
    request: HttpRequest,
) -> Result<HttpResponse, Error> {
    refuse_filter(&request)?;
    let base_url = scope.base_url.as_str();
    let scheme = |kind: &str, name: &str, description: &str, spec: &str| {
        json!({"type": kind, "name": name, "description": description, "specUri": spec})
    };
    let config = json!({
        "schemas": [urn::SERVICE_PROVIDER_CONFIG],
        "patch": {"supported": true},
        "bulk": {"supported": false, "maxOperations": 0, "maxPayloadSize": 0},
        "filter": {"supported": true, "maxResults": MAX_COUNT},
        "changePassword": {"supported": false},
        "sort": {"supported": false},
        "etag": {"supported": true},
        "pagination": {
            "cursor": false,
            "index": true,
            "defaultPaginationMethod": "index",
            "defaultPageSize": DEFAULT_COUNT,
            "maxPageSize": MAX_COUNT,
        },
        "authenticationSchemes": [
            scheme(
                "oauthbearertoken",
                "API token as bearer token",
                "The API token in the Authorization header, with or without the word Bearer.",
                "https://www.rfc-editor.org/rfc/rfc6750",
            ),
            scheme(
                "httpbasic",
                "API token as password",
                "The API token as the password of HTTP Basic, with any user name.",
                "https://www.rfc-editor.org/rfc/rfc7617",
            ),
        ],
        "meta": {
            "resourceType": "ServiceProviderConfig",
            "location": format!("{base_url}/ServiceProviderConfig"),
        },
    });
    Ok(scim_http::answer(&request, StatusCode::OK, config.to_string()))
}

/// `GET /Schemas`.
pub async fn list_schemas(scope: TenantScope, request: HttpRequest) -> Result<HttpResponse, Error> {
    list(&request, schemas().map(|schema| schema.to_json(scope.base_url.as_str())))
}

/// `GET /Schemas/{urn}`.
pub async fn get_schema(
    scope: TenantScope,
    request: HttpRequest,
    urn: Path<String>,
) -> Result<HttpResponse, Error> {
    let mut schemas = schemas();
    let schema = schemas.find(|s| s.urn.eq_ignore_ascii_case(&urn)).ok_or(Error::NotFound)?;
    let body = schema.to_json(scope.base_url.as_str()).to_string();
    Ok(scim_http::answer(&request, StatusCode::OK, body))
}

/// `GET /ResourceTypes`.
pub async fn list_resource_types(
    scope: TenantScope,
    request: HttpRequest,
) -> Result<HttpResponse, Error> {
    list(&request, resource_types().iter().map(|t| t.to_json(scope.base_url.as_str())))
}

/// `GET /ResourceTypes/{name}`.
pub async fn get_resource_type(
    scope: TenantScope,
    request: HttpRequest,
    name: Path<String>,
) -> Result<HttpResponse, Error> {
    let mut types = resource_types().into_iter();
    let resource_type =
        types.find(|t| t.kind.name().eq_ignore_ascii_case(&name)).ok_or(Error::NotFound)?;
    let body = resource_type.to_json(scope.base_url.as_str()).to_string();
    Ok(scim_http::answer(&request, StatusCode::OK, body))
}

fn list(
    request: &HttpRequest,
    entries: impl Iterator<Item = Value>,
) -> Result<HttpResponse, Error> {
    refuse_filter(request)?;
    let entries: Vec<String> = entries.map(|entry| entry.to_string()).collect();
    let total = u64::try_from(entries.len()).unwrap_or(0);
    Ok(scim_http::answer(request, StatusCode::OK, list_response(total, 1, &entries)))
}

/// RFC 7644 section 4: a filter on these endpoints is 403, so that nobody takes the whole list
/// for the filtered one.
fn refuse_filter(request: &HttpRequest) -> Result<(), Error> {
    let query = request.query_string();
    let names_filter = |pair: &str| pair.split('=').next().is_some_and(|k| k.eq_ignore_ascii_case("filter"));
    if query.split('&').any(names_filter) {
        return Err(Error::Scim(ScimError::new(403, "This endpoint does not take a filter.")));
    }
    Ok(())
}
