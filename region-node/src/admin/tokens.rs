//! `/tokens`: the tenant's API tokens. Each is also an OAuth 2.0 client: its id is the client's,
//! and the token itself is the secret.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{Bytes, Data, Path};
use serde::Deserialize;
use serde_json::{Value, json};
use shared::link::PUBLIC_SCIM_PATH;
use shared::{Dialect, Networks, ScimError, ScimType, Scope, Timestamp, TokenId};

use super::{answer, read};
use crate::error::Error;
use crate::provider::expiry;
use crate::provider::tokens::{IssuedToken, Rotation, TokenRequest, TokenState};
use crate::scim::datetime;
use crate::startup::Parts;
use crate::store::{StoreError, StoredToken};
use crate::tenant_scope::{AdminScope, BaseUrl, TenantScope};

const HOUR: Duration = Duration::from_secs(60 * 60);
/// Longest life that can be asked for, in days.
const MOST_DAYS: u64 = 3650;
/// Longest overlap of a rotation, in hours.
const MOST_OVERLAP_HOURS: u64 = 90 * 24;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct NewToken {
    name: Option<String>,
    #[serde(default = "provisioning")]
    scope: Scope,
    #[serde(default)]
    dialect: Dialect,
    expires_in_days: Option<u64>,
    #[serde(default)]
    networks: Networks,
}

fn provisioning() -> Scope {
    Scope::Scim
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RotationBody {
    overlap_hours: Option<u64>,
    expires_in_days: Option<u64>,
    networks: Option<Networks>,
}

/// `GET /tokens`: ended ones too, in the order of their creation.
///
/// # Errors
/// As the store.
pub async fn list(
    AdminScope { scope, .. }: AdminScope,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let now = parts.clock.now();
    let tokens = parts.tokens.list_own(&scope.access).await?;
    let clients = parts.activities.clients(&scope.access).await?;
    let tokens: Vec<Value> = tokens
        .iter()
        .map(|token| {
            let client = clients.iter().find(|(of, _)| *of == token.id);
            let mut shown = show(token, now);
            if let Value::Object(members) = &mut shown {
                let client = client.map(|(_, client)| client.code());
                members.insert("client".to_owned(), client.into());
            }
            shown
        })
        .collect();
    Ok(answer(StatusCode::OK, &json!({ "tokens": tokens })))
}

/// `POST /tokens`: the only time, with rotation, that a token is shown.
///
/// # Errors
/// 400 for a body that is not right, and as the store.
pub async fn create(
    AdminScope { scope, .. }: AdminScope,
    body: Bytes,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let members = "name, scope (scim or admin), dialect (2.0 or 1.1), expiresInDays, networks";
    let body: NewToken = read(&body, members)?;
    let request = TokenRequest {
        name: body.name,
        scope: body.scope,
        dialect: body.dialect,
        life: days("expiresInDays", body.expires_in_days)?,
        created_by: scope.token_id.to_string(),
        networks: body.networks,
    };
    let issued = parts.tokens.create_own(&scope.access, &request).await?;
    Ok(answer(
        StatusCode::CREATED,
        &show_issued(&issued, &scope, parts.clock.now()),
    ))
}

/// `GET /tokens/{id}`
///
/// # Errors
/// 404 if the tenant has none with that id, and as the store.
pub async fn get(
    AdminScope { scope, .. }: AdminScope,
    id: Path<String>,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let token = parts.tokens.get_own(&scope.access, &token_id(&id)?).await?;
    Ok(answer(StatusCode::OK, &show(&token, parts.clock.now())))
}

/// `POST /tokens/{id}/rotate`: a successor, which is shown this once; the token itself lives on for
/// the overlap.
///
/// # Errors
/// 400 for a body that is not right or a token that has ended, 404 if the tenant has none with that
/// id, and as the store.
pub async fn rotate(
    AdminScope { scope, .. }: AdminScope,
    id: Path<String>,
    body: Bytes,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let body: RotationBody = read(&body, "overlapHours, expiresInDays, networks")?;
    let rotation = Rotation {
        overlap: overlap(body.overlap_hours)?,
        life: days("expiresInDays", body.expires_in_days)?,
        networks: body.networks,
    };
    let issued = parts
        .tokens
        .rotate_own(&scope.access, &token_id(&id)?, rotation, &scope.token_id)
        .await?;
    Ok(answer(
        StatusCode::CREATED,
        &show_issued(&issued, &scope, parts.clock.now()),
    ))
}

/// `POST /tokens/{id}/revoke`: effective when it returns.
///
/// # Errors
/// 404 if the tenant has none with that id, and as the store.
pub async fn revoke(
    AdminScope { scope, .. }: AdminScope,
    id: Path<String>,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let token = parts
        .tokens
        .revoke_own(&scope.access, &token_id(&id)?, &scope.author())
        .await?;
    Ok(answer(StatusCode::OK, &show(&token, parts.clock.now())))
}

/// What is no id names no token.
pub(crate) fn token_id(text: &str) -> Result<TokenId, Error> {
    TokenId::parse(text).map_err(|_| StoreError::NotFound.into())
}

/// A life in days.
pub(crate) fn days(name: &str, days: Option<u64>) -> Result<Option<Duration>, Error> {
    in_range(name, days, 1, MOST_DAYS)?;
    Ok(days.map(|days| Duration::from_secs(days * 24 * 60 * 60)))
}

/// An overlap in hours.
pub(crate) fn overlap(hours: Option<u64>) -> Result<Option<Duration>, Error> {
    in_range("overlapHours", hours, 0, MOST_OVERLAP_HOURS)?;
    Ok(hours.map(|hours| Duration::from_secs(hours * HOUR.as_secs())))
}

fn in_range(name: &str, value: Option<u64>, least: u64, most: u64) -> Result<(), Error> {
    match value {
        Some(value) if !(least..=most).contains(&value) => {
            let detail = format!("'{name}' must be from {least} to {most}.");
            Err(ScimError::typed(400, ScimType::InvalidValue, detail).into())
        }
        _ => Ok(()),
    }
}

/// Where a client that speaks OAuth 2.0 only asks for access tokens.
pub(crate) fn token_url(base_url: &BaseUrl) -> String {
    let base_url = base_url.as_str();
    let origin = base_url.strip_suffix(PUBLIC_SCIM_PATH).unwrap_or(base_url);
    format!("{origin}/oauth2/token")
}

fn show(token: &StoredToken, now: Timestamp) -> Value {
    json!({
        "id": token.id,
        "name": token.name,
        "scope": token.scope,
        "dialect": token.dialect,
        "state": TokenState::of(token, now).as_str(),
        "created": datetime::format(token.created),
        "createdBy": token.created_by,
        "expires": token.expires.map(datetime::format),
        "expiresInDays": expiry::days_left(token, now),
        "lastUsed": token.last_used.map(datetime::format),
        "revoked": token.revoked.map(datetime::format),
        "networks": token.networks,
    })
}

fn show_issued(issued: &IssuedToken, scope: &TenantScope, now: Timestamp) -> Value {
    let mut shown = show(&issued.stored, now);
    if let Value::Object(members) = &mut shown {
        members.insert("token".to_owned(), issued.secret.reveal().into());
        members.insert("baseUrl".to_owned(), scope.base_url.as_str().into());
        members.insert("tokenUrl".to_owned(), token_url(&scope.base_url).into());
    }
    shown
}
