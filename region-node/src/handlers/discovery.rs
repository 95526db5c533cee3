//! `/ServiceProviderConfig`, `/Schemas`, `/ResourceTypes` (RFC 7644 section 4, RFC 7643 sections
//! 5 to 7), rendered from what the code enforces.

use actix_web::http::StatusCode;
use actix_web::web::{Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Value, json};
use shared::link::MAX_BODY_BYTES;
use shared::{Dialect, ScimError, urn};

use super::scim_http::Exchange;
use crate::error::Error;
use crate::provider::cursor::CURSOR_TIMEOUT_S;
use crate::provider::resources::Resources;
use crate::scim::bulk::MAX_OPERATIONS;
use crate::scim::list::{DEFAULT_COUNT, MAX_COUNT, Standing, list_response};
use crate::scim::schema::Schema;
use crate::scim::scim11;
use crate::store::StoreError;
use crate::tenant_scope::TenantScope;

/// What SCIM 1.1 calls `documentationUrl` and cannot do without.
const DOCUMENTATION: &str = "https://www.rfc-editor.org/rfc/rfc7644";

/// `GET /ServiceProviderConfig`, and `/ServiceProviderConfigs` of SCIM 1.1.
///
/// # Errors
/// 403 for a filter.
pub async fn get_service_provider_config(
    scope: TenantScope,
    request: HttpRequest,
    resources: Data<Resources>,
) -> Result<HttpResponse, Error> {
    refuse_filter(&request)?;
    resources.held_profile(&scope.access).await?;
    let exchange = Exchange::new(&request, &scope);
    let base_url = exchange.base_url();
    let mut config = json!({
        "schemas": [urn::SERVICE_PROVIDER_CONFIG],
        "patch": {"supported": true},
        "bulk": {
            "supported": true,
            "maxOperations": MAX_OPERATIONS,
            "maxPayloadSize": MAX_BODY_BYTES,
        },
        "filter": {"supported": true, "maxResults": MAX_COUNT},
        "changePassword": {"supported": false},
        "sort": {"supported": true},
        "etag": {"supported": true},
        "pagination": {
            "cursor": true,
            "index": true,
            "defaultPaginationMethod": "index",
            "defaultPageSize": DEFAULT_COUNT,
            "maxPageSize": MAX_COUNT,
            "cursorTimeout": CURSOR_TIMEOUT_S,
        },
        "authenticationSchemes": authentication_schemes(),
        "meta": {
            "resourceType": "ServiceProviderConfig",
            "location": format!("{base_url}/ServiceProviderConfig"),
        },
    });
    if scope.dialect == Dialect::Scim11
        && let Value::Object(config) = &mut config
    {
        config.insert("schemas".to_owned(), json!([urn::CORE_1]));
        config.insert(
            "bulk".to_owned(),
            json!({"supported": false, "maxOperations": 0, "maxPayloadSize": 0}),
        );
        config.insert("documentationUrl".to_owned(), DOCUMENTATION.into());
        let schemes = config
            .get_mut("authenticationSchemes")
            .and_then(Value::as_array_mut);
        for scheme in schemes
            .into_iter()
            .flatten()
            .filter_map(Value::as_object_mut)
        {
            if let Some(spec) = scheme.shift_remove("specUri") {
                scheme.insert("specUrl".to_owned(), spec);
            }
        }
        config.insert("xmlDataFormat".to_owned(), json!({"supported": false}));
        config.shift_remove("pagination");
        config.shift_remove("meta");
    }
    Ok(exchange.answer(StatusCode::OK, config.to_string()))
}

fn authentication_schemes() -> Value {
    json!([
        {
            "type": "oauthbearertoken",
            "name": "API token as bearer token",
            "description": "The API token in the Authorization header, with or without the word Bearer.",
            "specUri": "https://www.rfc-editor.org/rfc/rfc6750",
        },
        {
            "type": "httpbasic",
            "name": "API token as password",
            "description": "The API token as the password of HTTP Basic, with any user name.",
            "specUri": "https://www.rfc-editor.org/rfc/rfc7617",
        },
    ])
}

/// `GET /Schemas`.
///
/// # Errors
/// 403 for a filter.
pub async fn list_schemas(
    scope: TenantScope,
    request: HttpRequest,
    resources: Data<Resources>,
) -> Result<HttpResponse, Error> {
    refuse_filter(&request)?;
    let exchange = Exchange::new(&request, &scope);
    let profile = resources.held_profile(&scope.access).await?;
    let base_url = exchange.base_url();
    let entries: Vec<Value> = match scope.dialect {
        Dialect::Scim11 => profile
            .schemas()
            .map(|t| scim11::show_schema(t, base_url))
            .collect(),
        Dialect::Scim20 => {
            let schemas = profile
                .schemas()
                .flat_map(|t| std::iter::once(&t.core).chain(&t.extensions));
            schemas.map(|schema| schema.to_json(base_url)).collect()
        }
    };
    Ok(exchange.answer(StatusCode::OK, list(&entries, scope.dialect)))
}

/// `GET /Schemas/{urn}`.
///
/// # Errors
/// 404 for a schema that the tenant does not have.
pub async fn get_schema(
    scope: TenantScope,
    request: HttpRequest,
    urn: Path<String>,
    resources: Data<Resources>,
) -> Result<HttpResponse, Error> {
    let exchange = Exchange::new(&request, &scope);
    let profile = resources.held_profile(&scope.access).await?;
    let base_url = exchange.base_url();
    let shown = match scope.dialect {
        Dialect::Scim11 => profile
            .schemas()
            .map(|t| scim11::show_schema(t, base_url))
            .find(|shown| {
                shown["id"]
                    .as_str()
                    .is_some_and(|id| id.eq_ignore_ascii_case(&urn))
            }),
        Dialect::Scim20 => profile
            .schemas()
            .flat_map(|t| std::iter::once(&t.core).chain(&t.extensions))
            .find(|schema: &&Schema| schema.urn.eq_ignore_ascii_case(&urn))
            .map(|schema| schema.to_json(base_url)),
    };
    let shown = shown.ok_or(StoreError::NotFound)?;
    Ok(exchange.answer(StatusCode::OK, shown.to_string()))
}

/// `GET /ResourceTypes`.
///
/// # Errors
/// 403 for a filter.
pub async fn list_resource_types(
    scope: TenantScope,
    request: HttpRequest,
    resources: Data<Resources>,
) -> Result<HttpResponse, Error> {
    refuse_filter(&request)?;
    let exchange = Exchange::new(&request, &scope);
    let profile = resources.held_profile(&scope.access).await?;
    let entries: Vec<Value> = profile
        .schemas()
        .map(|t| t.to_json(exchange.base_url()))
        .collect();
    Ok(exchange.answer(StatusCode::OK, list(&entries, scope.dialect)))
}

/// `GET /ResourceTypes/{name}`.
///
/// # Errors
/// 404 for a type that the tenant does not have.
pub async fn get_resource_type(
    scope: TenantScope,
    request: HttpRequest,
    name: Path<String>,
    resources: Data<Resources>,
) -> Result<HttpResponse, Error> {
    let exchange = Exchange::new(&request, &scope);
    let profile = resources.held_profile(&scope.access).await?;
    let resource_type = profile
        .schemas()
        .find(|t| t.kind.name().eq_ignore_ascii_case(&name));
    let resource_type = resource_type.ok_or(StoreError::NotFound)?;
    Ok(exchange.answer(
        StatusCode::OK,
        resource_type.to_json(exchange.base_url()).to_string(),
    ))
}

fn list(entries: &[Value], dialect: Dialect) -> String {
    let entries: Vec<String> = entries.iter().map(Value::to_string).collect();
    let list = list_response(entries.len() as u64, &Standing::StartIndex(1), &entries);
    match dialect {
        Dialect::Scim20 => list,
        // Okta's 1.1 suite looks for this value in the list of schemas; 1.1 has no other name.
        Dialect::Scim11 => list.replacen(
            &format!("\"{}\"", urn::LIST_RESPONSE),
            &format!("\"{}\",\"{}:ListResponse\"", urn::CORE_1, urn::CORE_1),
            1,
        ),
    }
}

/// RFC 7644 section 4: a filter on these endpoints is 403, so that nobody takes the whole list
/// for the filtered one.
fn refuse_filter(request: &HttpRequest) -> Result<(), Error> {
    let names_filter = |pair: &str| {
        pair.split('=')
            .next()
            .is_some_and(|key| key.eq_ignore_ascii_case("filter"))
    };
    if request.query_string().split('&').any(names_filter) {
        return Err(ScimError::new(403, "This endpoint does not take a filter.").into());
    }
    Ok(())
}
