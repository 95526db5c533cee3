//! The operator's calls that carry a whole region or a whole tenant: bodies are streamed both
//! ways, and there is no deadline.

use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{Bytes, Data, Path, Payload, Query};
use futures_util::{Stream, StreamExt as _};
use serde::Deserialize;
use serde_json::json;

use super::operator::{answer, tenant_id};
use crate::error::Error;
use crate::provider::backup::{self, RestoreChoice};
use crate::provider::export::{self, ExportOf};
use crate::startup::Parts;
use crate::store::{AuditKind, AuditNote, Author};
use crate::tenant_scope::{FromOperator, MaybeBaseUrl};

/// JSON Lines.
const LINES: &str = "application/jsonl";

/// `GET …/backup`: the file of a backup. A body that ends early has no last line.
///
/// # Errors
/// As the store, before the first byte; later the body ends in an error.
pub async fn backup(_operator: FromOperator, parts: Data<Parts>) -> Result<HttpResponse, Error> {
    let now = parts.clock.now();
    let bytes = backup::backup(Arc::clone(&parts.store), parts.region.clone(), now);
    let mut bytes = Box::pin(bytes);
    // What fails at once is an answer; later there is no status left to say it with.
    let first = bytes.next().await.transpose()?.unwrap_or_default();
    Ok(lines(first, bytes))
}

/// What an operator chooses of a restore.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestoreQuery {
    #[serde(default)]
    replace: bool,
    #[serde(default)]
    revoke_tokens: bool,
}

/// `POST …/restore`: takes the file of a backup, of any size, and answers what is there now.
///
/// # Errors
/// 400, with a sentence, for a file that is not right or a region that has tenants; as the store.
/// Then nothing has changed.
pub async fn restore(
    _operator: FromOperator,
    query: Option<Query<RestoreQuery>>,
    mut body: Payload,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let Some(Query(query)) = query else {
        let detail = "The query may have `replace` and `revoke_tokens`, each true or false.";
        return Err(Error::OperatorRequest(detail.into()));
    };
    let choice = RestoreChoice {
        replace: query.replace,
        revoke_tokens: query.revoke_tokens,
    };
    let store = Arc::clone(&parts.store);
    let now = parts.clock.now();
    let restored = backup::restore(store, &parts.region, now, choice, &mut body).await;
    // A client that still sends would not read the answer.
    while let Some(Ok(_)) = body.next().await {}
    let restored = restored?;
    let body = serde_json::to_value(restored).map_err(|error| Error::Internal(error.into()))?;
    Ok(answer(
        StatusCode::OK,
        &json!({ "region": parts.region, "restored": body }),
    ))
}

/// `GET …/tenants/{id}/export`: a tenant's users and groups as JSON Lines.
///
/// # Errors
/// 404 if there is no such tenant, and as the store, before the first byte; later the body ends
/// in an error.
pub async fn export(
    _operator: FromOperator,
    id: Path<String>,
    base_url: MaybeBaseUrl,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let of = ExportOf {
        region: parts.region.clone(),
        tenant: tenant_id(&id)?,
        base_url: base_url.0,
        now: parts.clock.now(),
    };
    export_lines(of, Author::operator(), &parts).await
}

/// The answer with an export, which the tenant's audit tells of.
///
/// # Errors
/// As [`export`].
pub(crate) async fn export_lines(
    of: ExportOf,
    by: Author,
    parts: &Parts,
) -> Result<HttpResponse, Error> {
    let tenant = of.tenant.clone();
    let mut bytes = Box::pin(export::export(Arc::clone(&parts.store), of).await?);
    let first = bytes.next().await.transpose()?.unwrap_or_default();
    // Before the first byte leaves.
    let note = AuditNote::new(AuditKind::TenantExported, by, "");
    parts.audit.note(&tenant, note).await?;
    Ok(lines(first, bytes))
}

/// An answer whose body comes as it is made.
pub(crate) fn lines<E: std::error::Error + Send + Sync + 'static>(
    first: Vec<u8>,
    rest: impl Stream<Item = Result<Vec<u8>, E>> + 'static,
) -> HttpResponse {
    let first = futures_util::stream::iter([Ok(Bytes::from(first))]);
    let rest = rest.map(|bytes| {
        bytes.map(Bytes::from).map_err(|error| {
            tracing::warn!(
                error = &error as &(dyn std::error::Error + 'static),
                "a backup or an export ended early"
            );
            Error::Internal(Box::new(error))
        })
    });
    HttpResponse::Ok()
        .content_type(LINES)
        .streaming(first.chain(rest))
}
