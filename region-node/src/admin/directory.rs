//! `/users` and `/groups`: looking for them, reading them, and what happened to each. They are
//! changed by provisioning clients alone.

use actix_web::http::StatusCode;
use actix_web::web::{Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{answer, read_query};
use crate::error::Error;
use crate::handlers::scim_http::{Kind, resource_id};
use crate::provider::directory::{DEFAULT_COUNT, Found, Search};
use crate::provider::resources::Resources;
use crate::scim::{ResourceKind, datetime};
use crate::store::Change;
use crate::tenant_scope::AdminScope;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SearchQuery {
    search: Option<String>,
    cursor: Option<String>,
    count: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PageQuery {
    cursor: Option<String>,
    count: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HistoryQuery {
    before: Option<i64>,
    count: Option<u32>,
}

/// `GET /users`, `GET /groups`: those whose names begin with `search`, page by page. Groups come
/// without their members.
///
/// # Errors
/// As the provider says.
pub async fn search(
    AdminScope { scope, .. }: AdminScope,
    Kind(kind): Kind,
    request: HttpRequest,
    resources: Data<Resources>,
) -> Result<HttpResponse, Error> {
    let query: SearchQuery = read_query(&request, "search, cursor, count")?;
    let search = Search {
        text: query.search,
        cursor: query.cursor,
        count: query.count,
    };
    let base_url = scope.base_url.as_str();
    let found = resources
        .search(scope.caller(), kind, base_url, &search)
        .await?;
    Ok(answer(StatusCode::OK, &show(kind, found)))
}

/// `GET /users/{id}`, `GET /groups/{id}`
///
/// # Errors
/// 404 if there is none, and as the provider says.
pub async fn get(
    AdminScope { scope, .. }: AdminScope,
    Kind(kind): Kind,
    id: Path<String>,
    resources: Data<Resources>,
) -> Result<HttpResponse, Error> {
    let (id, base_url) = (resource_id(&id)?, scope.base_url.as_str());
    let resource = resources
        .look_at(scope.caller(), kind, base_url, id)
        .await?;
    Ok(answer(StatusCode::OK, &resource))
}

/// `GET /users/{id}/history`, `GET /groups/{id}/history`: what happened, newest first, as far as
/// changes are kept. Also of one that is gone.
///
/// # Errors
/// As the provider says.
pub async fn history(
    AdminScope { scope, .. }: AdminScope,
    Kind(kind): Kind,
    id: Path<String>,
    request: HttpRequest,
    resources: Data<Resources>,
) -> Result<HttpResponse, Error> {
    let query: HistoryQuery = read_query(&request, "before, count")?;
    let count = query.count.unwrap_or(DEFAULT_COUNT);
    let id = resource_id(&id)?;
    let changes = resources
        .history(scope.caller(), kind, id, query.before, count)
        .await?;
    let changes: Vec<Value> = changes.iter().map(show_change).collect();
    Ok(answer(StatusCode::OK, &json!({ "changes": changes })))
}

/// `GET /groups/{id}/members`: the users who are direct members.
///
/// # Errors
/// 404 if there is no such group, and as the provider says.
pub async fn members(
    AdminScope { scope, .. }: AdminScope,
    id: Path<String>,
    request: HttpRequest,
    resources: Data<Resources>,
) -> Result<HttpResponse, Error> {
    let query: PageQuery = read_query(&request, "cursor, count")?;
    let search = Search {
        text: None,
        cursor: query.cursor,
        count: query.count,
    };
    let (id, base_url) = (resource_id(&id)?, scope.base_url.as_str());
    let found = resources
        .look_at_members(scope.caller(), base_url, id, &search)
        .await?;
    Ok(answer(StatusCode::OK, &show(ResourceKind::User, found)))
}

fn show(kind: ResourceKind, found: Found) -> Value {
    let name = match kind {
        ResourceKind::User => "users",
        ResourceKind::Group => "groups",
    };
    let mut shown = json!({ "total": found.total, name: found.resources });
    if let (Value::Object(members), Some(next)) = (&mut shown, found.next) {
        members.insert("next".to_owned(), next.into());
    }
    shown
}

fn show_change(change: &Change) -> Value {
    json!({
        "number": change.seq,
        "at": datetime::format(change.at),
        "what": change.what,
        "attributes": change.attributes,
    })
}
