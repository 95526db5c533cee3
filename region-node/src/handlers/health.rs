//! Is the process alive, can it serve, how much has it written: for the management listener, and
//! for the gateways.

use actix_web::HttpResponse;
use actix_web::web::Data;
use serde_json::json;
use shared::link::STOPPING;
use telemetry::prometheus;

use crate::error::Error;
use crate::metrics;
use crate::startup::Parts;
use crate::tenant_scope::FromGateway;

/// `GET /livez`: the process answers, and which release it is.
pub async fn livez() -> HttpResponse {
    let version = env!("CARGO_PKG_VERSION");
    HttpResponse::Ok().json(json!({"status": "alive", "version": version}))
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

/// `GET /metrics`: all figures, in Prometheus' text format.
pub async fn metrics(parts: Data<Parts>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type(prometheus::MEDIA_TYPE)
        .body(prometheus::text(&metrics::snapshot(&parts).await))
}

/// `GET /internal/v1/health`: a gateway looks whether this node answers, and whether it should go to
/// another one. The store is not asked: all nodes of a region may stand on one, and what it is in
/// trouble with is told by each call.
pub async fn link(_gateway: FromGateway, parts: Data<Parts>) -> HttpResponse {
    if parts.is_stopping() {
        return HttpResponse::ServiceUnavailable()
            .insert_header((STOPPING, "1"))
            .finish();
    }
    HttpResponse::Ok().json(json!({"status": "ready"}))
}
