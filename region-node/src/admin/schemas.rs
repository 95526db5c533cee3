//! `/schemas`: the tenant's own extension schemas.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{Bytes, Data, Path};
use serde::Deserialize;
use serde_json::{Value, json};
use shared::{ScimError, ScimType};

use super::answer;
use crate::error::Error;
use crate::provider::resources::Resources;
use crate::scim::{ResourceKind, json as strict};
use crate::store::TenantExtension;
use crate::tenant_scope::AdminScope;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct NewExtension {
    resource_type: ResourceKind,
    schema: Value,
    #[serde(default)]
    indexed: Vec<String>,
}

/// `GET /schemas`: the tenant's extension schemas.
///
/// # Errors
/// As the provider says.
pub async fn list_schemas(
    AdminScope { scope, .. }: AdminScope,
    resources: Data<Resources>,
) -> Result<HttpResponse, Error> {
    let extensions = resources.list_extensions(&scope.access).await?;
    let shown: Vec<Value> = extensions.iter().map(show).collect();
    Ok(answer(StatusCode::OK, &json!({"schemas": shown})))
}

/// `POST /schemas`: adds one.
///
/// # Errors
/// As the provider says.
pub async fn create_schema(
    AdminScope { scope, .. }: AdminScope,
    body: Bytes,
    resources: Data<Resources>,
) -> Result<HttpResponse, Error> {
    let body = strict::parse(&body).map_err(ScimError::from)?;
    let NewExtension {
        resource_type,
        schema,
        indexed,
    } = serde_json::from_value(body).map_err(|_| {
        ScimError::typed(
            400,
            ScimType::InvalidSyntax,
            "The body must have 'resourceType' (User or Group), 'schema' and, if wanted, a \
                 list 'indexed', and nothing else.",
        )
    })?;
    let extension = TenantExtension {
        resource_type,
        schema,
        indexed,
    };
    let created = resources
        .create_extension(&scope.access, &scope.author(), extension)
        .await?;
    Ok(answer(StatusCode::CREATED, &show(&created)))
}

/// `DELETE /schemas/{urn}`: removes one with all its values.
///
/// # Errors
/// As the provider says.
pub async fn delete_schema(
    AdminScope { scope, .. }: AdminScope,
    urn: Path<String>,
    resources: Data<Resources>,
) -> Result<HttpResponse, Error> {
    resources
        .delete_extension(&scope.access, &scope.author(), &urn)
        .await?;
    Ok(HttpResponse::NoContent().finish())
}

fn show(extension: &TenantExtension) -> Value {
    json!({
        "resourceType": extension.resource_type.name(),
        "schema": extension.schema,
        "indexed": extension.indexed,
    })
}
