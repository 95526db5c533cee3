//! `/activity`: the tenant's provisioning requests, sync cycles, an overview. Times are RFC 3339.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::web::{Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::{Value, json};
use shared::{ScimError, ScimType, Timestamp};

use super::answer;
use crate::error::Error;
use crate::provider::activity::reading::{Alarm, Overview, Seen, Span};
use crate::scim::client::Client;
use crate::scim::tolerance::Note;
use crate::scim::{ResourceId, ResourceKind, datetime};
use crate::startup::Parts;
use crate::store::activity::{
    ActivityQuery, Cycle, Effects, Entry, EntryNumber, Gap, GapReason, Operation,
};
use crate::tenant_scope::AdminScope;

/// Requests or cycles on a page, where the call does not say.
const DEFAULT_COUNT: u32 = 100;
/// Most of them on a page.
const MAX_COUNT: u32 = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ActivityParameters {
    client: Option<String>,
    outcome: Option<String>,
    operation: Option<String>,
    resource_id: Option<String>,
    request_id: Option<String>,
    from: Option<String>,
    to: Option<String>,
    count: Option<u32>,
    cursor: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct CycleParameters {
    before: Option<String>,
    count: Option<u32>,
}

/// `GET /activity`: requests, newest first.
///
/// # Errors
/// 400 for a parameter that is not right, and as the store.
pub async fn list(
    AdminScope { scope, .. }: AdminScope,
    request: HttpRequest,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let query = read_query(&request)?;
    write_what_waits(&parts).await;
    let page = parts.activities.page(&scope.access, &query).await?;
    let entries: Vec<Value> = page.entries.iter().map(show_entry).collect();
    let gaps: Vec<Value> = page.gaps.iter().map(show_gap).collect();
    let mut body = json!({"activity": entries, "gaps": gaps});
    if let (Some(next), Some(body)) = (page.next, body.as_object_mut()) {
        body.insert("nextCursor".to_owned(), next.0.to_string().into());
    }
    Ok(answer(StatusCode::OK, &body))
}

/// `GET /activity/{number}`: one request.
///
/// # Errors
/// 404 where there is none, and as the store.
pub async fn get(
    AdminScope { scope, .. }: AdminScope,
    number: Path<String>,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let not_found = || Error::Store(crate::store::StoreError::NotFound);
    let number = number.parse().map(EntryNumber).map_err(|_| not_found())?;
    write_what_waits(&parts).await;
    let found = parts.activities.get(&scope.access, number).await?;
    Ok(answer(StatusCode::OK, &show_entry(&found)))
}

/// `GET /activity/cycles`: sync cycles, newest first.
///
/// # Errors
/// 400 for a parameter that is not right, and as the store.
pub async fn cycles(
    AdminScope { scope, .. }: AdminScope,
    request: HttpRequest,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let parameters: CycleParameters = super::read_query(&request, "before, count")?;
    let before = moment("before", parameters.before.as_deref())?;
    let count = page_size(parameters.count);
    write_what_waits(&parts).await;
    let cycles = parts.activities.cycles(&scope.access, before, count);
    let cycles: Vec<Value> = cycles.await?.iter().map(show_cycle).collect();
    Ok(answer(StatusCode::OK, &json!({"cycles": cycles})))
}

/// `GET /activity/overview`: how it goes.
///
/// # Errors
/// As the store.
pub async fn overview(
    AdminScope { scope, .. }: AdminScope,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    write_what_waits(&parts).await;
    let Overview {
        hours,
        days,
        clients,
    } = parts.activities.overview(&scope.access).await?;
    let spans = |spans: &[Span]| -> Vec<Value> { spans.iter().map(show_span).collect() };
    let clients: Vec<Value> = clients.iter().map(show_seen).collect();
    let body = json!({
        "hours": spans(&hours),
        "days": spans(&days),
        "clients": clients,
    });
    Ok(answer(StatusCode::OK, &body))
}

/// Administrators see what has just been done; where that cannot be written now, what was written.
pub(crate) async fn write_what_waits(parts: &Parts) {
    if let Err(error) = parts.activity.flush(&*parts.store).await {
        tracing::debug!(
            error = &error as &(dyn std::error::Error + 'static),
            "activity waits for the store"
        );
    }
}

fn read_query(request: &HttpRequest) -> Result<ActivityQuery, Error> {
    const NAMES: &str =
        "client, outcome, operation, resourceId, requestId, from, to, count, cursor";
    let parameters: ActivityParameters = super::read_query(request, NAMES)?;
    let client = named("client", parameters.client, Client::from_code)?;
    let operation = named("operation", parameters.operation, Operation::from_code)?;
    let has_failed = named("outcome", parameters.outcome, |outcome| match outcome {
        "failed" => Some(true),
        "ok" => Some(false),
        _ => None,
    })?;
    let resource = named("resourceId", parameters.resource_id, |id| {
        ResourceId::parse(id).ok()
    })?;
    let cursor = named("cursor", parameters.cursor, |cursor| {
        cursor.parse().ok().map(EntryNumber)
    })?;
    let from = moment("from", parameters.from.as_deref())?;
    let to = moment("to", parameters.to.as_deref())?;
    let end = to.map_or(EntryNumber(i64::MAX), EntryNumber::least_at);
    Ok(ActivityQuery {
        before: cursor.map_or(end, |cursor| cursor.min(end)),
        from: EntryNumber::least_at(from.unwrap_or(Timestamp(0))),
        count: page_size(parameters.count),
        client,
        has_failed,
        operation,
        resource,
        request_id: parameters.request_id,
    })
}

fn named<T>(
    name: &str,
    text: Option<String>,
    read: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, Error> {
    let Some(text) = text else {
        return Ok(None);
    };
    read(&text)
        .map(Some)
        .ok_or_else(|| refuse(format!("The parameter '{name}' has no such value.")))
}

fn moment(name: &str, text: Option<&str>) -> Result<Option<Timestamp>, Error> {
    let Some(text) = text else {
        return Ok(None);
    };
    datetime::parse(text)
        .map(|moment| Some(Timestamp(moment.as_millisecond())))
        .ok_or_else(|| {
            refuse(format!(
                "The parameter '{name}' must be a date and time such as 2026-01-31T09:30:00Z."
            ))
        })
}

fn page_size(count: Option<u32>) -> u32 {
    count.unwrap_or(DEFAULT_COUNT).clamp(1, MAX_COUNT)
}

fn refuse(detail: String) -> Error {
    Error::Scim(ScimError::typed(400, ScimType::InvalidValue, detail))
}

fn show_entry((entry, client): &(Entry, Client)) -> Value {
    let outcome = if entry.has_failed() { "failed" } else { "ok" };
    let tolerated: Vec<Value> = entry.tolerated.as_slice().iter().map(show_note).collect();
    let mut shown = json!({
        "number": entry.number.0.to_string(),
        "at": datetime::format(entry.number.at()),
        "client": client.code(),
        "clientName": client.name(),
        "tokenId": entry.token,
        "operation": entry.operation.code(),
        "resourceType": entry.kind.map(ResourceKind::name),
        "resourceId": entry.resource.map(|id| id.to_string()),
        "display": entry.display,
        "filter": entry.filter,
        "filterShape": entry.filter_shape,
        "outcome": outcome,
        "status": entry.status,
        "scimType": entry.scim_type,
        "detail": entry.detail,
        "durationUs": entry.duration_us,
        "requestId": entry.request_id,
        "dialect": entry.dialect.as_str(),
        "tolerated": tolerated,
    });
    add_effects(&mut shown, entry.effects);
    shown
}

fn add_effects(shown: &mut Value, effects: Effects) {
    if let Some(shown) = shown.as_object_mut() {
        for (name, count) in [
            ("created", effects.created),
            ("updated", effects.updated),
            ("unchanged", effects.unchanged),
            ("deleted", effects.deleted),
        ] {
            shown.insert(name.to_owned(), count.into());
        }
        shown.retain(|_, value| !value.is_null());
    }
}

fn show_note(note: &Note) -> Value {
    json!({"code": note.what.code(), "subject": note.subject, "sentence": note.sentence()})
}

fn show_gap(gap: &Gap) -> Value {
    json!({
        "from": datetime::format(gap.from),
        "to": datetime::format(gap.to),
        "lost": gap.lost,
        "reason": gap.reason.code(),
        "sentence": gap_in_words(gap),
    })
}

/// What is missing, for an administrator.
pub(crate) fn gap_in_words(gap: &Gap) -> String {
    match (gap.reason, gap.lost) {
        (GapReason::Overflow, Some(lost)) => {
            format!("{lost} requests are missing: more came than could be written.")
        }
        (GapReason::Overflow, None) => "Requests are missing.".to_owned(),
        (GapReason::Ended, _) => {
            "A node ended suddenly. What it had not written yet is missing, if there was anything."
                .to_owned()
        }
    }
}

fn show_cycle(cycle: &Cycle) -> Value {
    let client = cycle.client();
    let mut shown = json!({
        "client": client.code(),
        "clientName": client.name(),
        "tokenId": cycle.token,
        "started": datetime::format(cycle.started),
        "ended": datetime::format(cycle.ended),
        "requests": cycle.requests,
        "failed": cycle.failed,
    });
    add_effects(&mut shown, cycle.effects);
    shown
}

fn show_span(span: &Span) -> Value {
    json!({
        "from": datetime::format(span.from),
        "requests": span.requests,
        "failed": span.failed,
        "p50Us": span.percentile_us(50),
        "p95Us": span.percentile_us(95),
    })
}

fn show_seen(seen: &Seen) -> Value {
    let alarm = seen.alarm.map(|alarm| {
        json!({
            "silentSince": datetime::format(seen.last),
            "usualS": alarm.usual.as_secs(),
            "sentence": alarm_in_words(seen, alarm),
        })
    });
    json!({
        "client": seen.client.code(),
        "clientName": seen.client.name(),
        "tokenIds": seen.tokens,
        "lastSeen": datetime::format(seen.last),
        "cycles": seen.cycles,
        "alarm": alarm,
    })
}

/// That a client is missed, for an administrator.
pub(crate) fn alarm_in_words(seen: &Seen, alarm: Alarm) -> String {
    let minutes = |duration: Duration| duration.as_secs() / 60;
    format!(
        "{} used to come about every {} minutes and has been silent for {} minutes. Look in the \
         identity provider whether provisioning still runs.",
        seen.client,
        minutes(alarm.usual),
        minutes(alarm.silence)
    )
}
