//! `/audit`: who did what to what in the tenant, and whether the chain of the records is whole.

use actix_web::http::StatusCode;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{answer, read_query};
use crate::error::Error;
use crate::provider::audit::{AuditFilter, Verified};
use crate::scim::datetime;
use crate::startup::Parts;
use crate::store::AuditRecord;
use crate::tenant_scope::AdminScope;

/// Records on a page, unless the call says otherwise, and at most.
const PAGE: usize = 100;
const LONGEST_PAGE: usize = 1000;

/// What is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AuditQuery {
    kind: Option<String>,
    actor: Option<String>,
    resource_id: Option<String>,
    cursor: Option<i64>,
    limit: Option<usize>,
}

/// `GET /audit`: records, newest first.
///
/// # Errors
/// 400 for a query that is not right, and as the store.
pub async fn list(
    AdminScope { scope, .. }: AdminScope,
    request: HttpRequest,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let query: AuditQuery = read_query(&request, "kind, actor, resourceId, cursor, limit")?;
    let filter = AuditFilter {
        kind: query.kind,
        actor: query.actor,
        subject: query.resource_id,
    };
    let limit = query.limit.unwrap_or(PAGE).clamp(1, LONGEST_PAGE);
    let tenant = &scope.access.tenant;
    let page = parts
        .audit
        .list(tenant, &filter, query.cursor, limit)
        .await?;
    let records: Vec<Value> = page.records.iter().map(show).collect();
    Ok(answer(
        StatusCode::OK,
        &json!({
            "records": records,
            "nextCursor": page.next.map(|number| number.to_string()),
        }),
    ))
}

/// `GET /audit/verify`: walks along the chain.
///
/// # Errors
/// As the store.
pub async fn verify(
    AdminScope { scope, .. }: AdminScope,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let verified = parts.audit.verify(&scope.access.tenant).await?;
    Ok(answer(StatusCode::OK, &show_verified(&verified)))
}

/// What a walk found, for the admin and for the operator.
#[must_use]
pub fn show_verified(verified: &Verified) -> Value {
    let head = &verified.head;
    json!({
        "whole": verified.damage.is_none(),
        "records": verified.records,
        "first": head.base_number + 1,
        "last": head.number,
        "hash": hex::encode(&head.hash),
        "damage": verified.damage.map(|(record, damage)| json!({
            "record": record,
            "what": damage.as_str(),
        })),
    })
}

fn show(record: &AuditRecord) -> Value {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    json!({
        "number": record.number,
        "at": datetime::format(record.at),
        "kind": record.kind,
        "actor": some(&record.actor),
        "requestId": some(&record.request),
        "subject": some(&record.subject),
        "names": serde_json::from_str(&record.names).unwrap_or(Value::Null),
        "hash": hex::encode(&record.hash),
    })
}
