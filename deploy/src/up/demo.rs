//! The tenant `demo` that the first start makes in each region, so that there is something to
//! try at once.

use serde::Serialize;
use serde_json::Value;
use shared::{Dialect, Scope, TenantId};

use crate::operator_api::{NewToken, OperatorApi, OperatorApiError};

/// A tenant and its first two tokens. They are secrets: shown once, kept nowhere.
#[derive(Serialize)]
pub(super) struct Demo {
    /// Its id.
    pub(super) tenant: TenantId,
    /// For an identity provider.
    pub(super) scim_token: String,
    /// For the tenant's administrator.
    pub(super) admin_token: String,
}

/// Makes the tenant in a region that has none at all; a region that has tenants has an operator
/// who needs no demonstration.
pub(super) async fn make(api: &OperatorApi) -> Result<Option<Demo>, OperatorApiError> {
    if !api.list_tenants().await?.is_empty() {
        return Ok(None);
    }
    let tenant = api.create_tenant("demo").await?;
    let id = tenant.get("id").and_then(Value::as_str);
    let tenant = id
        .and_then(|id| TenantId::parse(id).ok())
        .ok_or_else(|| api.foreign())?;
    Ok(Some(Demo {
        scim_token: token(api, &tenant, Scope::Scim).await?,
        admin_token: token(api, &tenant, Scope::Admin).await?,
        tenant,
    }))
}

async fn token(
    api: &OperatorApi,
    tenant: &TenantId,
    scope: Scope,
) -> Result<String, OperatorApiError> {
    let name = format!("demo {}", scope.as_str());
    let new = NewToken {
        name: Some(&name),
        scope,
        dialect: Dialect::Scim20,
        expires: None,
        networks: &[],
    };
    let token = api.create_token(tenant, new).await?;
    let secret = token.get("token").and_then(Value::as_str);
    secret.map(str::to_owned).ok_or_else(|| api.foreign())
}
