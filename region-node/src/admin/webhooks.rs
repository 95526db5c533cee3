//! `/webhooks`: who is told of the tenant's events.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::web::{Bytes, Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::{answer, read, read_query};
use crate::error::Error;
use crate::events::LONGEST_WAIT;
use crate::events::delivery::Polled;
use crate::events::endpoints::{EndpointUpdate, IssuedEndpoint};
use crate::events::event::EventType;
use crate::scim::datetime;
use crate::startup::Parts;
use crate::store::events::EndpointKind;
use crate::store::{DeadLetter, Endpoint};
use crate::tenant_scope::{AdminScope, TenantScope};

/// Dead letters on a page at most.
const PAGE: u32 = 100;
/// Tokens in one answer at most.
const MOST_TOKENS: usize = 100;
/// How much of a receiver's reason is kept, in characters.
const LONGEST_REASON: usize = 200;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewWebhook {
    #[serde(default)]
    kind: EndpointKind,
    #[serde(default)]
    url: String,
    #[serde(default)]
    audience: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    events: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangedWebhook {
    url: Option<String>,
    audience: Option<String>,
    description: Option<String>,
    events: Option<Vec<String>>,
}

/// `POST /webhooks`: makes one. The only time, with rotation, that the secret is shown.
///
/// # Errors
/// 400 for a body that is not right, and as the store.
pub async fn create(
    AdminScope { scope, .. }: AdminScope,
    bytes: Bytes,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let new: NewWebhook = read(&bytes, "kind, url, audience, description, events")?;
    let update = EndpointUpdate {
        url: Some(new.url),
        description: Some(new.description),
        events: Some(new.events),
        audience: Some(new.audience),
    };
    let tenant = &scope.access.tenant;
    let issued = parts
        .endpoints
        .create(tenant, scope.author(), new.kind, update)
        .await?;
    Ok(answer(StatusCode::CREATED, &show_issued(&issued)))
}

/// `GET /webhooks`
///
/// # Errors
/// As the store.
pub async fn list(
    AdminScope { scope, .. }: AdminScope,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let endpoints = parts.endpoints.list(&scope.access.tenant).await?;
    let shown: Vec<Value> = endpoints.iter().map(show).collect();
    Ok(answer(StatusCode::OK, &json!({ "webhooks": shown })))
}

/// `GET /webhooks/{id}`
///
/// # Errors
/// 404 if there is none, and as the store.
pub async fn get(
    AdminScope { scope, .. }: AdminScope,
    id: Path<String>,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let endpoint = parts.endpoints.get(&scope.access.tenant, &id).await?;
    Ok(answer(StatusCode::OK, &show(&endpoint)))
}

/// `PATCH /webhooks/{id}`: changes what the body names.
///
/// # Errors
/// 400 for a body that is not right, 404 if there is none, and as the store.
pub async fn change(
    AdminScope { scope, .. }: AdminScope,
    id: Path<String>,
    bytes: Bytes,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let ChangedWebhook {
        url,
        audience,
        description,
        events,
    } = read(&bytes, "url, audience, description, events")?;
    let update = EndpointUpdate {
        url,
        description,
        events,
        audience,
    };
    let (tenant, by) = (&scope.access.tenant, scope.author());
    let endpoint = parts.endpoints.update(tenant, &id, by, update).await?;
    Ok(answer(StatusCode::OK, &show(&endpoint)))
}

/// `DELETE /webhooks/{id}`
///
/// # Errors
/// 404 if there is none, and as the store.
pub async fn delete(
    AdminScope { scope, .. }: AdminScope,
    id: Path<String>,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let (tenant, by) = (&scope.access.tenant, scope.author());
    parts.endpoints.delete(tenant, &id, by).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// `POST /webhooks/{id}/rotate`: a new secret, shown this once.
///
/// # Errors
/// 404 if there is none, and as the store.
pub async fn rotate(
    AdminScope { scope, .. }: AdminScope,
    id: Path<String>,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let (tenant, by) = (&scope.access.tenant, scope.author());
    let issued = parts.endpoints.rotate(tenant, &id, by).await?;
    Ok(answer(StatusCode::OK, &show_issued(&issued)))
}

/// `POST /webhooks/{id}/pause`
///
/// # Errors
/// 404 if there is none, and as the store.
pub async fn pause(
    AdminScope { scope, .. }: AdminScope,
    id: Path<String>,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    set_paused(&scope, &id, &parts, true).await
}

/// `POST /webhooks/{id}/resume`
///
/// # Errors
/// 404 if there is none, and as the store.
pub async fn resume(
    AdminScope { scope, .. }: AdminScope,
    id: Path<String>,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    set_paused(&scope, &id, &parts, false).await
}

async fn set_paused(
    scope: &TenantScope,
    id: &str,
    parts: &Parts,
    is_paused: bool,
) -> Result<HttpResponse, Error> {
    let (tenant, by) = (&scope.access.tenant, scope.author());
    let endpoint = parts
        .endpoints
        .set_paused(tenant, id, by, is_paused)
        .await?;
    Ok(answer(StatusCode::OK, &show(&endpoint)))
}

/// `POST /webhooks/{id}/test`: sends a test event now.
///
/// # Errors
/// 404 if there is none, and as the store.
pub async fn test(
    AdminScope { scope, .. }: AdminScope,
    id: Path<String>,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let sent = parts.endpoints.test(&scope.access.tenant, &id).await?;
    let error = sent.err().map(|error| error.to_string());
    Ok(answer(
        StatusCode::OK,
        &json!({ "delivered": error.is_none(), "error": error }),
    ))
}

/// `POST /webhooks/{id}/replay`: sends all dead letters once more.
///
/// # Errors
/// 404 if there is none, and as the store.
pub async fn replay(
    AdminScope { scope, .. }: AdminScope,
    id: Path<String>,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let replayed = parts.endpoints.replay(&scope.access.tenant, &id).await?;
    Ok(answer(StatusCode::OK, &json!({ "replayed": replayed })))
}

/// What a receiver says (RFC 8936 section 2.2).
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PollBody {
    max_events: Option<usize>,
    #[serde(default)]
    return_immediately: bool,
    #[serde(default)]
    ack: HashSet<String>,
    #[serde(default)]
    set_errs: HashMap<String, SetError>,
}

/// Why it cannot use a token (RFC 8936 section 2.6).
#[derive(Deserialize)]
struct SetError {
    err: String,
    #[serde(default)]
    description: String,
}

/// `POST /webhooks/{id}/poll`: tokens for a receiver that comes for them (RFC 8936).
///
/// # Errors
/// 400 for a body that is not right, 404 if there is no such receiver, and as the store.
pub async fn poll(
    AdminScope { scope, .. }: AdminScope,
    id: Path<String>,
    bytes: Bytes,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let asked: PollBody = read(&bytes, "maxEvents, returnImmediately, ack, setErrs")?;
    let most = asked.max_events.unwrap_or(MOST_TOKENS).min(MOST_TOKENS);
    let refused = asked.set_errs.into_iter().map(|(id, error)| {
        let reason: String = format!("{}: {}", error.err, error.description);
        (id, reason.chars().take(LONGEST_REASON).collect())
    });
    let refused: HashMap<String, String> = refused.collect();
    let turn = parts.long_polls.try_acquire().ok();
    let waits = !asked.return_immediately && most > 0 && turn.is_some();
    let end = Instant::now() + if waits { LONGEST_WAIT } else { Duration::ZERO };
    let mut rung = parts.bell.listen();
    loop {
        // It has to hold at each look.
        parts.store.head(&scope.access).await?;
        let tenant = &scope.access.tenant;
        let polled = parts
            .endpoints
            .poll(tenant, &id, &asked.ack, &refused, most)
            .await?;
        if !polled.sets.is_empty() || Instant::now() >= end {
            return Ok(answer(StatusCode::OK, &show_polled(polled)));
        }
        rung.next_or_look(end).await;
    }
}

fn show_polled(polled: Polled) -> Value {
    let sets: Map<String, Value> = polled
        .sets
        .into_iter()
        .map(|(id, token)| (id, Value::String(token)))
        .collect();
    json!({ "sets": sets, "moreAvailable": polled.has_more })
}

/// Where a page of dead letters begins.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LettersQuery {
    cursor: Option<i64>,
}

/// `GET /webhooks/{id}/dead-letters`: what it did not take, oldest first.
///
/// # Errors
/// 400 for a query that is not right, 404 if there is none, and as the store.
pub async fn dead_letters(
    AdminScope { scope, .. }: AdminScope,
    id: Path<String>,
    request: HttpRequest,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let query: LettersQuery = read_query(&request, "cursor")?;
    let (tenant, after) = (&scope.access.tenant, query.cursor.unwrap_or(0));
    let letters = parts
        .endpoints
        .dead_letters(tenant, &id, after, PAGE)
        .await?;
    let next = letters
        .last()
        .filter(|_| letters.len() == PAGE as usize)
        .map(|last| last.number.to_string());
    let shown: Vec<Value> = letters.iter().map(show_letter).collect();
    Ok(answer(
        StatusCode::OK,
        &json!({ "deadLetters": shown, "nextCursor": next }),
    ))
}

fn show_issued(issued: &IssuedEndpoint) -> Value {
    let mut shown = show(&issued.endpoint);
    // Tokens are signed with the region's key.
    let is_webhook = issued.endpoint.settings.kind == EndpointKind::Webhook;
    if let (true, Value::Object(members)) = (is_webhook, &mut shown) {
        members.insert("secret".to_owned(), json!(issued.secret));
    }
    shown
}

fn show(endpoint: &Endpoint) -> Value {
    let (settings, progress) = (&endpoint.settings, &endpoint.progress);
    json!({
        "id": endpoint.id,
        "kind": settings.kind,
        "url": settings.url,
        "audience": settings.audience,
        "description": settings.description,
        "events": settings.events,
        "state": if endpoint.paused.is_some() { "paused" } else { "active" },
        "reason": endpoint.paused,
        "sequence": progress.cursor,
        "lag": endpoint.lag(),
        "attempts": progress.attempts,
        "failingSince": progress.failing_since.map(datetime::format),
        "lastError": progress.last_error,
        "lastSuccess": progress.last_success.map(datetime::format),
        "deadLetters": endpoint.dead_letters,
        "created": datetime::format(endpoint.created),
        "createdBy": endpoint.created_by,
    })
}

fn show_letter(letter: &DeadLetter) -> Value {
    let change = &letter.change;
    json!({
        "number": letter.number,
        "type": EventType::of(change).as_str(),
        "resourceType": change.kind.name(),
        "id": change.id.to_string(),
        "sequence": change.seq,
        "changed": change.attributes,
        "at": datetime::format(letter.at),
        "reason": letter.reason,
        "attempts": letter.attempts,
    })
}
