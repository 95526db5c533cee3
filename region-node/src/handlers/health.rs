//! The management listener: is the process alive, can it serve, how much has it written.

use actix_web::HttpResponse;
use actix_web::web::Data;
use serde_json::json;

use crate::error::Error;
use crate::startup::Parts;

/// `GET /livez`: the process answers.
pub async fn livez() -> HttpResponse {
    HttpResponse::Ok().json(json!({"status": "alive"}))
}

/// `GET /readyz`: the store reads and writes, and the node is not about to stop.
///
/// # Errors
/// 503 when it cannot serve.
pub async fn readyz(parts: Data<Parts>) -> Result<HttpResponse, Error> {
    if parts.is_stopping() {
        return Err(Error::Stopping);
    }
    parts.store.check().await?;
    Ok(HttpResponse::Ok().json(json!({"status": "ready", "region": parts.region})))
}

/// `GET /metrics`: counters since the start, in Prometheus' text format.
pub async fn metrics(parts: Data<Parts>) -> HttpResponse {
    let text = parts
        .store
        .write_counts()
        .map_or_else(String::new, |counts| {
            format!(
                "# HELP meridian_store_commits_total Transactions that the store made durable.\n\
             # TYPE meridian_store_commits_total counter\n\
             meridian_store_commits_total {}\n\
             # HELP meridian_store_writes_total Writes that were kept by them.\n\
             # TYPE meridian_store_writes_total counter\n\
             meridian_store_writes_total {}\n",
                counts.commits, counts.writes
            )
        });
    HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4")
        .body(text)
}
