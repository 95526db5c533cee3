//! Is the process alive, can it serve, how much has it written: for the management listener, and
//! for the gateways.

use actix_web::HttpResponse;
use actix_web::web::Data;
use serde_json::json;
use shared::link::STOPPING;

use crate::error::Error;
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

/// `GET /metrics`: counters since the start, in Prometheus' text format.
pub async fn metrics(parts: Data<Parts>) -> HttpResponse {
    let mut text = parts
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
    text.push_str(&format!(
        "# HELP meridian_activity_lost_total Requests that found no room to be kept as activity.\n\
         # TYPE meridian_activity_lost_total counter\n\
         meridian_activity_lost_total {}\n",
        parts.activity.lost()
    ));
    if let Some(identity) = &parts.link_identity {
        let ends = identity.not_after().as_seconds();
        text.push_str(&format!(
            "# HELP meridian_region_node_link_certificate_ends_seconds When this node's certificate \
             on the link ends.\n\
             # TYPE meridian_region_node_link_certificate_ends_seconds gauge\n\
             meridian_region_node_link_certificate_ends_seconds {ends}\n"
        ));
    }
    HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4")
        .body(text)
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
