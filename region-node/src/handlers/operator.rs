//! The operator API: tenants and tokens of the region. Every call needs the operator key; what is
//! unknown in a body is refused, so that a typing error never looks like success.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{Bytes, Data, Path};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use shared::link::TenantLimits;
use shared::{Dialect, Networks, Scope, TenantId, Timestamp, TokenId};

use crate::admin::audit::show_verified;
use crate::error::Error;
use crate::provider::expiry::{self, Expiring};
use crate::provider::tokens::{IssuedToken, Rotation, TokenRequest, TokenState};
use crate::scim::datetime;
use crate::startup::Parts;
use crate::store::{
    Author, GroupsRule, StoredToken, Tenant, TenantSettings, TenantState, UserNameRule,
};
use crate::tenant_scope::FromOperator;

/// Who made a token, when the operator did.
const OPERATOR: &str = "operator";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewTenant {
    name: String,
    #[serde(default)]
    settings: SettingsBody,
}

/// [`TenantSettings`] as an operator sets them: nothing unknown, and what is absent is default.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct SettingsBody {
    user_name: UserNameRule,
    groups: GroupsRule,
    limits: LimitsBody,
    activity_days: Option<u32>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct LimitsBody {
    requests_per_s: Option<u32>,
    burst: Option<u32>,
    in_flight: Option<u32>,
}

impl From<SettingsBody> for TenantSettings {
    fn from(body: SettingsBody) -> Self {
        let default = TenantLimits::default();
        let limits = body.limits;
        Self {
            user_name: body.user_name,
            groups: body.groups,
            limits: TenantLimits {
                requests_per_s: limits.requests_per_s.unwrap_or(default.requests_per_s),
                burst: limits.burst.unwrap_or(default.burst),
                in_flight: limits.in_flight.unwrap_or(default.in_flight),
            },
            activity_days: body.activity_days,
            ..Self::default()
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewTokenBody {
    name: Option<String>,
    #[serde(default = "provisioning")]
    scope: Scope,
    #[serde(default)]
    dialect: Dialect,
    expires_s: Option<u64>,
    #[serde(default)]
    networks: Networks,
}

fn provisioning() -> Scope {
    Scope::Scim
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RotationBody {
    overlap_s: Option<u64>,
    expires_s: Option<u64>,
    networks: Option<Networks>,
}

/// `GET …/region`: which region this is, so that an operator's command can be sure of it.
pub async fn get_region(_operator: FromOperator, parts: Data<Parts>) -> HttpResponse {
    answer(StatusCode::OK, &json!({ "region": parts.region }))
}

/// `GET …/node`: what the operator's command compares with the region's other nodes.
///
/// # Errors
/// As the store.
pub async fn get_node(_operator: FromOperator, parts: Data<Parts>) -> Result<HttpResponse, Error> {
    let store = parts.store.condition().await?;
    let body = json!({
        "region": parts.region,
        "version": env!("CARGO_PKG_VERSION"),
        "store": {
            "engine": store.engine,
            "schema": store.schema,
            "newest_schema": store.newest_schema,
            "free_bytes": store.free_bytes,
        },
        "keys": {
            "link": parts.link_keys.fingerprints(),
            "operator": parts.operator_keys.fingerprints(),
            "grant": parts.grant_keys.fingerprints(),
        },
    });
    Ok(answer(StatusCode::OK, &body))
}

/// `POST …/tenants`
///
/// # Errors
/// 400 for a body that is not right, and as the store.
pub async fn create_tenant(
    _operator: FromOperator,
    body: Bytes,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let request: NewTenant = read(&body)?;
    let tenant = parts
        .tenants
        .create(&request.name, &request.settings.into())
        .await?;
    Ok(answer(StatusCode::CREATED, &tenant_json(&parts, &tenant)))
}

/// `GET …/tenants`
///
/// # Errors
/// As the store.
pub async fn list_tenants(
    _operator: FromOperator,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let tenants = parts.tenants.list().await?;
    let tenants: Vec<Value> = tenants
        .iter()
        .map(|tenant| tenant_json(&parts, tenant))
        .collect();
    Ok(answer(StatusCode::OK, &json!({ "tenants": tenants })))
}

/// `GET …/tenants/{id}`
///
/// # Errors
/// 404 if there is none, and as the store.
pub async fn get_tenant(
    _operator: FromOperator,
    id: Path<String>,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let tenant = parts.tenants.get(&tenant_id(&id)?).await?;
    Ok(answer(StatusCode::OK, &tenant_json(&parts, &tenant)))
}

/// `DELETE …/tenants/{id}`: answers what was erased, and that nothing is left.
///
/// # Errors
/// 404 if there is none, and as the store.
pub async fn delete_tenant(
    _operator: FromOperator,
    id: Path<String>,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let id = tenant_id(&id)?;
    let erased = parts.tenants.delete(&id).await?;
    let body = json!({
        "id": id,
        "deleted": true,
        "erased": {
            "tokens": erased.tokens,
            "users": erased.users,
            "groups": erased.groups,
            "members": erased.members,
            "index_rows": erased.index_rows,
            "changes": erased.changes,
            "outcomes": erased.outcomes,
            "activity": erased.activity,
            "audit": erased.audit,
            "endpoints": erased.endpoints,
            "dead_letters": erased.dead_letters,
        },
        "left": erased.left,
    });
    Ok(answer(StatusCode::OK, &body))
}

/// `POST …/tenants/{id}/suspend`
///
/// # Errors
/// 404 if there is none, and as the store.
pub async fn suspend_tenant(
    _operator: FromOperator,
    id: Path<String>,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let id = tenant_id(&id)?;
    let tenant = parts.tenants.set_state(&id, TenantState::Suspended).await?;
    Ok(answer(StatusCode::OK, &tenant_json(&parts, &tenant)))
}

/// `POST …/tenants/{id}/resume`
///
/// # Errors
/// 404 if there is none, and as the store.
pub async fn resume_tenant(
    _operator: FromOperator,
    id: Path<String>,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let id = tenant_id(&id)?;
    let tenant = parts.tenants.set_state(&id, TenantState::Active).await?;
    Ok(answer(StatusCode::OK, &tenant_json(&parts, &tenant)))
}

/// `GET …/tenants/{id}/audit/verify`: walks along the chain of the tenant's audit records.
///
/// # Errors
/// 404 if there is no such tenant, and as the store.
pub async fn verify_audit(
    _operator: FromOperator,
    id: Path<String>,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let id = tenant_id(&id)?;
    let verified = parts.audit.verify(&id).await?;
    let mut body = show_verified(&verified);
    if let Value::Object(body) = &mut body {
        body.insert("tenant".to_owned(), json!(id));
    }
    Ok(answer(StatusCode::OK, &body))
}

/// `PUT …/tenants/{id}/settings`: replaces all of them.
///
/// # Errors
/// 400 for settings that are not right, 404 if there is no such tenant, and as the store.
pub async fn set_tenant_settings(
    _operator: FromOperator,
    id: Path<String>,
    body: Bytes,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let id = tenant_id(&id)?;
    let settings: SettingsBody = read(&body)?;
    let tenant = parts.tenants.set_settings(&id, &settings.into()).await?;
    Ok(answer(StatusCode::OK, &tenant_json(&parts, &tenant)))
}

/// `POST …/tenants/{id}/tokens`: the only time, with rotation, that a token is shown.
///
/// # Errors
/// 400 for a body that is not right, 404 if there is no such tenant, and as the store.
pub async fn create_token(
    _operator: FromOperator,
    id: Path<String>,
    body: Bytes,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let id = tenant_id(&id)?;
    let body: NewTokenBody = read(&body)?;
    let request = TokenRequest {
        name: body.name,
        scope: body.scope,
        dialect: body.dialect,
        life: body.expires_s.map(Duration::from_secs),
        created_by: OPERATOR.to_owned(),
        networks: body.networks,
    };
    let issued = parts.tokens.create(&id, &request).await?;
    Ok(answer(StatusCode::CREATED, &issued_json(&issued)))
}

/// `GET …/tenants/{id}/tokens`
///
/// # Errors
/// 404 if there is no such tenant, and as the store.
pub async fn list_tokens(
    _operator: FromOperator,
    id: Path<String>,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let tokens = parts.tokens.list(&tenant_id(&id)?).await?;
    let now = parts.clock.now();
    let tokens: Vec<Value> = tokens
        .iter()
        .map(|token| Value::Object(token_json(token, now)))
        .collect();
    Ok(answer(StatusCode::OK, &json!({ "tokens": tokens })))
}

/// `GET …/tokens/{id}`
///
/// # Errors
/// 404 if there is none, and as the store.
pub async fn get_token(
    _operator: FromOperator,
    id: Path<String>,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let token = parts.tokens.get(&token_id(&id)?).await?;
    let body = Value::Object(token_json(&token, parts.clock.now()));
    Ok(answer(StatusCode::OK, &body))
}

/// `POST …/tokens/{id}/rotate`
///
/// # Errors
/// 400 for a body that is not right or a token that has ended, 404 if there is none, and as the
/// store.
pub async fn rotate_token(
    _operator: FromOperator,
    id: Path<String>,
    body: Bytes,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let id = token_id(&id)?;
    let body: RotationBody = read(&body)?;
    let rotation = Rotation {
        overlap: body.overlap_s.map(Duration::from_secs),
        life: body.expires_s.map(Duration::from_secs),
        networks: body.networks,
    };
    let issued = parts.tokens.rotate(&id, rotation, OPERATOR).await?;
    Ok(answer(StatusCode::CREATED, &issued_json(&issued)))
}

/// `POST …/tokens/{id}/revoke`: effective when it returns.
///
/// # Errors
/// 404 if there is none, and as the store.
pub async fn revoke_token(
    _operator: FromOperator,
    id: Path<String>,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let token = parts
        .tokens
        .revoke(&token_id(&id)?, &Author::operator())
        .await?;
    let body = Value::Object(token_json(&token, parts.clock.now()));
    Ok(answer(StatusCode::OK, &body))
}

/// What is not there, for the operator alone to know.
///
/// # Errors
/// Always.
pub async fn no_such_endpoint(_operator: FromOperator) -> Result<HttpResponse, Error> {
    Err(Error::NoSuchEndpoint)
}

/// Reads a body; an empty one is an empty object.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body)
        .map_err(|error| Error::OperatorRequest(format!("The body is not right: {error}.").into()))
}

/// What is no id names no tenant.
pub(super) fn tenant_id(text: &str) -> Result<TenantId, Error> {
    TenantId::parse(text).map_err(|_| crate::store::StoreError::NotFound.into())
}

fn token_id(text: &str) -> Result<TokenId, Error> {
    TokenId::parse(text).map_err(|_| crate::store::StoreError::NotFound.into())
}

pub(super) fn answer(status: StatusCode, body: &Value) -> HttpResponse {
    HttpResponse::build(status).json(body)
}

fn tenant_json(parts: &Parts, tenant: &Tenant) -> Value {
    json!({
        "id": tenant.id,
        "region": parts.region,
        "name": tenant.name,
        "state": tenant.state,
        "users": tenant.users,
        "groups": tenant.groups,
        "settings": tenant.settings,
        "created": datetime::format(tenant.created),
    })
}

fn token_json(token: &StoredToken, now: Timestamp) -> Map<String, Value> {
    let members = [
        ("id", json!(token.id)),
        ("tenant", json!(token.tenant)),
        ("name", json!(token.name)),
        ("scope", json!(token.scope)),
        ("dialect", json!(token.dialect)),
        ("state", json!(TokenState::of(token, now).as_str())),
        ("created", json!(datetime::format(token.created))),
        ("created_by", json!(token.created_by)),
        ("expires", json!(token.expires.map(datetime::format))),
        ("last_used", json!(token.last_used.map(datetime::format))),
        ("revoked", json!(token.revoked.map(datetime::format))),
        ("networks", json!(token.networks)),
        ("expires_in_days", json!(expiry::days_left(token, now))),
        (
            "warning",
            json!(Expiring::of(token, now).map(|expiring| expiring.sentence())),
        ),
    ];
    members
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn issued_json(issued: &IssuedToken) -> Value {
    let token = &issued.stored;
    json!({
        "id": token.id,
        "token": issued.secret.reveal(),
        "tenant": token.tenant,
        "name": token.name,
        "scope": token.scope,
        "dialect": token.dialect,
        "created": datetime::format(token.created),
        "created_by": token.created_by,
        "expires": token.expires.map(datetime::format),
        "networks": token.networks,
    })
}
