//! What is told of each request when it has ended: its line in the log, its figures, and its spans
//! if it is traced.
//!
//! All three may hold tenant id, token id, region, route template, method, status, durations, byte
//! counts, request id and trace id, and nothing else of a request (DESIGN section 8).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::http::{Method, StatusCode};
use actix_web::web::Bytes;
use shared::{Fault, RegionId, TenantId, TokenId};
use telemetry::{Label, Part, Trace, Tracing, method_name};
use tokio::time::Instant;

use crate::connection::Serving;
use crate::error::Error;
use crate::forward::CallIds;
use crate::local::Local;
use crate::metrics::{Metrics, is_failure};
use crate::provisioning_client::ProvisioningClient;

/// What is known of a request. Counted when its answer's last byte is there or the client is gone,
/// and told when it is dropped, which is when that byte was sent.
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
    /// Whose it is, and with which token, once the token was resolved.
    pub client: Option<Arc<ProvisioningClient>>,
    /// The answer's status.
    pub status: Option<StatusCode>,
    /// What went wrong here.
    pub failure: Option<Failure>,
    /// Body bytes that were read.
    pub bytes_in: usize,
    /// How long the region took until its answer began.
    pub upstream_ms: Option<u64>,
    bytes_out: usize,
    complete: bool,
    /// How long it took, once it was counted.
    duration: Option<Duration>,
    metrics: Local<Metrics>,
    traced: Option<Box<Traced>>,
}

/// Why a request was not answered by its region.
#[derive(Debug)]
pub struct Failure {
    /// Who is at fault.
    pub fault: Fault,
    /// In a word, for figures.
    pub reason: &'static str,
    /// What the error says about itself: a fixed text for each kind.
    pub text: String,
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        Self {
            fault: error.fault(),
            reason: error.reason(),
            text: error.to_string(),
        }
    }
}

/// The trace of a request that is traced.
#[derive(Debug)]
struct Traced {
    trace: Trace,
    /// The part that is under way.
    open: Option<(Step, Instant)>,
}

/// A part of a request's road that has a span of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Finding out whose the token is.
    Resolve,
    /// Sending the call to its region, until its answer begins.
    Forward,
}

impl RequestRecord {
    /// A request has begun. Whether it is traced is decided here, before anything is made for it.
    #[must_use]
    pub fn begin(
        ids: Option<CallIds>,
        method: &Method,
        metrics: &Local<Metrics>,
        tracing: &Tracing,
    ) -> Self {
        let traced = ids
            .as_ref()
            .filter(|ids| ids.is_sampled())
            .and_then(|ids| tracing.begin(ids.trace(), ids.parent()))
            .map(|trace| Box::new(Traced { trace, open: None }));
        Self {
            started: Instant::now(),
            ids,
            method: method_name(method.as_str()),
            route: "none",
            region: None,
            client: None,
            status: None,
            failure: None,
            bytes_in: 0,
            upstream_ms: None,
            bytes_out: 0,
            complete: false,
            duration: None,
            metrics: metrics.clone(),
            traced,
        }
    }

    /// A part of its road begins.
    pub fn enter(&mut self, step: Step) {
        if let Some(traced) = &mut self.traced {
            traced.open = Some((step, Instant::now()));
        }
    }

    /// The part that was begun last is over.
    pub fn leave(&mut self, has_failed: bool) {
        let Self {
            traced: Some(traced),
            ids: Some(ids),
            region,
            ..
        } = self
        else {
            return;
        };
        let Some((step, begun)) = traced.open.take() else {
            return;
        };
        let part = |name| Part {
            name,
            begun: begun.into_std(),
            ended: std::time::Instant::now(),
            has_failed,
        };
        let region = region.as_ref().map(|region| ("region", region.into()));
        match step {
            Step::Resolve => traced.trace.part(&part("resolve"), region),
            Step::Forward => traced.trace.call(&part("forward"), ids.span(), region),
        }
    }

    /// Counts it, once; answers how long it took.
    fn count(&mut self) -> Duration {
        if let Some(duration) = self.duration {
            return duration;
        }
        let duration = self.started.elapsed();
        self.duration = Some(duration);
        self.metrics.note(self, duration, self.bytes_out);
        duration
    }

    fn end_trace(&mut self) {
        // A client that is gone ended what was under way.
        self.leave(true);
        let Some(traced) = self.traced.take() else {
            return;
        };
        let client = self.client.as_ref();
        let number = |number: usize| Label::number(number as u64);
        let labels = [
            ("http.request.method", Some(Label::word(self.method))),
            ("http.route", Some(Label::word(self.route))),
            (
                "http.response.status_code",
                self.status.map(|it| Label::number(it.as_u16().into())),
            ),
            ("region", self.region.as_ref().map(Label::from)),
            ("tenant.id", client.map(|it| (&it.tenant_id).into())),
            ("token.id", client.map(|it| (&it.token_id).into())),
            (
                "request.id",
                self.ids
                    .as_ref()
                    .and_then(|ids| Label::request_id(ids.request_id())),
            ),
            ("http.request.body.size", Some(number(self.bytes_in))),
            ("http.response.body.size", Some(number(self.bytes_out))),
            (
                "error.type",
                self.failure
                    .as_ref()
                    .map(|failure| Label::word(failure.reason)),
            ),
        ];
        let labels = labels
            .into_iter()
            .filter_map(|(name, label)| Some((name, label?)));
        let name = (self.method, self.route);
        let begun = self.started.into_std();
        traced
            .trace
            .request(name, begun, is_failure(self.status), labels);
    }
}

impl Drop for RequestRecord {
    fn drop(&mut self) {
        let duration = self.count();
        if self.traced.is_some() {
            self.end_trace();
        }
        let status = self.status.map_or(0, |status| status.as_u16());
        let client = self.client.as_ref();
        let failure = self.failure.as_ref();
        tracing::info!(
            request_id = self.ids.as_ref().map_or("", CallIds::request_id),
            trace_id = self.ids.as_ref().map_or("", CallIds::trace),
            method = self.method,
            route = self.route,
            region = self.region.as_ref().map(RegionId::as_str),
            tenant_id = client.map(|client| TenantId::as_str(&client.tenant_id)),
            token_id = client.map(|client| TokenId::as_str(&client.token_id)),
            status,
            duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            upstream_ms = self.upstream_ms,
            bytes_in = self.bytes_in,
            bytes_out = self.bytes_out,
            complete = self.complete,
            fault = failure.map(|failure| failure.fault.as_str()),
            reason = failure.map(|failure| failure.text.as_str()),
            "request finished"
        );
    }
}

/// Whole milliseconds since a moment.
#[must_use]
pub fn millis_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// An answer's body that counts for its request's line. The line is written when the connection has
/// sent the answer: no client waits for it.
pub struct Observed {
    body: BoxBody,
    /// There until it is dropped.
    record: Option<RequestRecord>,
    serving: Serving,
}

impl Observed {
    /// Observes a body.
    #[must_use]
    pub fn new(body: BoxBody, mut record: RequestRecord, serving: Serving) -> Self {
        record.complete = body.size().is_eof();
        Self {
            body,
            record: Some(record),
            serving,
        }
    }
}

impl MessageBody for Observed {
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
        if let Some(record) = &mut this.record {
            match &next {
                Some(Ok(part)) => record.bytes_out += part.len(),
                Some(Err(_)) => {}
                None => record.complete = true,
            }
        }
        Poll::Ready(next)
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        if let Some(mut record) = self.record.take() {
            let ended = record.started + record.count();
            self.serving.tell_when_sent(record, ended);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_of_the_clients_invention_is_not_logged() {
        for odd in ["jdoe", "JDOE", "get"] {
            assert_eq!(method_name(odd), "other");
        }
    }
}
