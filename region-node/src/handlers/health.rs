//! The management listener: is the process alive, can it serve.

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
