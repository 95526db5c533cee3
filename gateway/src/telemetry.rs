//! The one line in the log for each request.
//!
//! A line may hold tenant id, token id, region, route template, method, status, durations, byte
//! counts and request id, and nothing else of a request (DESIGN section 8).

use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::http::{Method, StatusCode};
use actix_web::web::Bytes;
use shared::{Fault, RegionId, TenantId, TokenId};
use tokio::time::Instant;

use crate::forward::CallIds;

/// What is known of a request. Written as one line when it is dropped, which is when the answer's
/// last byte was handed over or the client was gone.
#[derive(Debug)]
pub struct RequestRecord {
    /// When it began.
    pub started: Instant,
    /// The request's names, if it could be given any.
    pub ids: Option<CallIds>,
    /// The method; one that HTTP does not define is `other`.
    pub method: &'static str,
    /// The route template.
    pub route: &'static str,
    /// The host's region.
    pub region: Option<RegionId>,
    /// Whose users.
    pub tenant_id: Option<TenantId>,
    /// With which token.
    pub token_id: Option<TokenId>,
    /// The answer's status.
    pub status: Option<StatusCode>,
    /// Who is at fault, and what our error says about itself: a fixed text for each kind.
    pub failure: Option<(Fault, String)>,
    /// Body bytes that were read.
    pub bytes_in: usize,
    /// How long the region took until its answer began.
    pub upstream_ms: Option<u64>,
    bytes_out: usize,
    complete: bool,
}

impl RequestRecord {
    /// A request has begun.
    #[must_use]
    pub fn begin(ids: Option<CallIds>, method: &Method) -> Self {
        Self {
            started: Instant::now(),
            ids,
            method: method_name(method),
            route: "none",
            region: None,
            tenant_id: None,
            token_id: None,
            status: None,
            failure: None,
            bytes_in: 0,
            upstream_ms: None,
            bytes_out: 0,
            complete: false,
        }
    }
}

impl Drop for RequestRecord {
    fn drop(&mut self) {
        let duration_ms = millis_since(self.started);
        let status = self.status.map_or(0, |status| status.as_u16());
        tracing::info!(
            request_id = self.ids.as_ref().map_or("", CallIds::request_id),
            method = self.method,
            route = self.route,
            region = self.region.as_ref().map(RegionId::as_str),
            tenant_id = self.tenant_id.as_ref().map(TenantId::as_str),
            token_id = self.token_id.as_ref().map(TokenId::as_str),
            status,
            duration_ms,
            upstream_ms = self.upstream_ms,
            bytes_in = self.bytes_in,
            bytes_out = self.bytes_out,
            complete = self.complete,
            fault = self.failure.as_ref().map(|(fault, _)| fault.as_str()),
            reason = self.failure.as_ref().map(|(_, reason)| reason.as_str()),
            "request finished"
        );
    }
}

/// Whole milliseconds since a moment.
#[must_use]
pub fn millis_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::TRACE => "TRACE",
        Method::CONNECT => "CONNECT",
        _ => "other",
    }
}

/// An answer's body that counts for its request's line, and holds `keep` until it is sent.
pub struct Observed<K> {
    body: BoxBody,
    record: RequestRecord,
    _keep: K,
}

impl<K> Observed<K> {
    /// Observes a body.
    pub fn new(body: BoxBody, mut record: RequestRecord, keep: K) -> Self {
        record.complete = body.size().is_eof();
        Self {
            body,
            record,
            _keep: keep,
        }
    }
}

impl<K: Unpin> MessageBody for Observed<K> {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let this = Pin::get_mut(self);
        let next = std::task::ready!(Pin::new(&mut this.body).poll_next(cx));
        match &next {
            Some(Ok(part)) => this.record.bytes_out += part.len(),
            Some(Err(_)) => {}
            None => this.record.complete = true,
        }
        Poll::Ready(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_of_the_clients_invention_is_not_logged() {
        let method = Method::from_bytes(b"jdoe@example.com").ok();
        assert_eq!(method.as_ref().map(method_name), None);
        assert_eq!(method_name(&Method::from_bytes(b"JDOE").unwrap()), "other");
    }
}
