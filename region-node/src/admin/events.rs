//! `/events`: the tenant's events for whoever comes for them.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use shared::{ScimError, ScimType, urn};
use tokio::time::Instant;

use super::read_query;
use crate::error::Error;
use crate::events::LONGEST_WAIT;
use crate::events::token::TokenError;
use crate::startup::Parts;
use crate::store::backup::generation;
use crate::store::{Change, Tenant};
use crate::tenant_scope::AdminScope;

/// Changes that are read at once, unless the call says otherwise, and at most. All events of one
/// write come together, so there can be more.
const PAGE: u32 = 100;
const LONGEST_PAGE: u32 = 500;
/// What stands for the place behind all that there is.
const LATEST: &str = "latest";

/// What is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventsQuery {
    after: Option<String>,
    limit: Option<u32>,
    wait: Option<u64>,
}

/// A place in the tenant's events: by which restore the tenant came, and the number of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cursor {
    generation: i64,
    seq: i64,
}

impl Cursor {
    fn at(tenant: &Tenant, seq: i64) -> Self {
        Self {
            generation: generation(tenant.credential_version),
            seq,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (generation, seq) = text.split_once('.')?;
        let seq: i64 = seq.parse().ok()?;
        Some(Self {
            generation: generation.parse().ok()?,
            seq: (seq >= 0).then_some(seq)?,
        })
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.generation, self.seq)
    }
}

/// `GET /events`: events behind a place, in order. Without `after` they begin with the oldest that
/// there is; `after=latest` gives none, and the place behind the newest.
///
/// # Errors
/// 400 for a query that is not right; 410 for a place whose events are not there any more: then the
/// application reads everything again; and as the store.
pub async fn list(
    AdminScope { scope, .. }: AdminScope,
    request: HttpRequest,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let query: EventsQuery = read_query(&request, "after, limit, wait")?;
    let limit = query.limit.unwrap_or(PAGE).clamp(1, LONGEST_PAGE);
    let wait = Duration::from_secs(query.wait.unwrap_or(0)).min(LONGEST_WAIT);
    let end = Instant::now() + wait;
    let access = &scope.access;
    // Few can wait at the same time: a call that waits takes a place at the gateway.
    let turn = (!wait.is_zero())
        .then(|| parts.long_polls.try_acquire().ok())
        .flatten();
    // Heard from before the look on, so that nothing is missed between the two.
    let mut rung = parts.bell.listen();
    loop {
        let tenant = parts.store.head(access).await?;
        let after = match query.after.as_deref() {
            Some(LATEST) => Cursor::at(&tenant, tenant.seq),
            Some(text) => Cursor::parse(text).ok_or_else(unknown_cursor)?,
            None => Cursor::at(&tenant, oldest(&parts, &tenant).await?),
        };
        check(&parts, &tenant, after).await?;
        let changes = parts
            .store
            .changes(&access.tenant, after.seq, limit)
            .await?;
        let is_late = Instant::now() >= end || query.after.as_deref() == Some(LATEST);
        if !changes.is_empty() || turn.is_none() || is_late {
            return answer(&parts, &scope.access, &tenant, after, &changes).await;
        }
        rung.next_or_look(end).await;
    }
}

fn unknown_cursor() -> Error {
    let detail = "'after' is a cursor that an answer gave, or 'latest'.";
    Error::Scim(ScimError::typed(400, ScimType::InvalidValue, detail))
}

/// `GET /events/jwks`: the keys that security event tokens are verified with.
///
/// # Errors
/// As the store.
pub async fn jwks(_admin: AdminScope, parts: Data<Parts>) -> Result<HttpResponse, Error> {
    let jwks = parts.event_tokens.jwks().await;
    let jwks = jwks.map_err(|error| match error {
        TokenError::Store(error) => Error::Store(error),
        other => Error::Internal(Box::new(other)),
    })?;
    Ok(super::answer(StatusCode::OK, &jwks))
}

/// The place before the oldest event that there is.
async fn oldest(parts: &Parts, tenant: &Tenant) -> Result<i64, Error> {
    let first = parts.store.changes(&tenant.id, 0, 1).await?;
    Ok(first.first().map_or(tenant.seq, |first| first.seq - 1))
}

/// Whether all events behind a place are there.
async fn check(parts: &Parts, tenant: &Tenant, after: Cursor) -> Result<(), Error> {
    let here = Cursor::at(tenant, tenant.seq);
    let oldest = Cursor::at(tenant, oldest(parts, tenant).await?);
    let detail = if after.generation != here.generation {
        "the tenant was restored from a backup since this cursor was given"
    } else if after.seq < oldest.seq {
        "events behind this cursor are older than what is kept"
    } else if after.seq > here.seq {
        return Err(unknown_cursor());
    } else {
        return Ok(());
    };
    Err(Error::Scim(ScimError::new(
        410,
        format!(
            "Events are missing: {detail}. Read all users and groups again, and go on with \
             after={here}; the oldest cursor that can be used is {oldest}."
        ),
    )))
}

async fn answer(
    parts: &Parts,
    access: &crate::store::Access,
    tenant: &Tenant,
    after: Cursor,
    changes: &[Change],
) -> Result<HttpResponse, Error> {
    let mut body = String::from(r#"{"events":["#);
    for (number, change) in changes.iter().enumerate() {
        let event = parts.showing.event(access, change).await?;
        if number > 0 {
            body.push(',');
        }
        // An event's body is an object: its id goes in front.
        let rest = event.body.strip_prefix('{').unwrap_or_default();
        body.push_str(&format!(r#"{{"id":"{}",{rest}"#, event.id));
    }
    let next = changes.last().map_or(after.seq, |last| last.seq);
    let next = Cursor::at(tenant, next);
    body.push_str(&format!(r#"],"nextCursor":"{next}"}}"#));
    Ok(HttpResponse::build(StatusCode::OK)
        .content_type(urn::JSON)
        .body(body))
}
