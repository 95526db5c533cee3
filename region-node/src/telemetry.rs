//! What is told of each request when it has ended: its line in the log, its figures, and its span if
//! it is traced.
//!
//! All three may hold tenant id, token id, region, route template, method, status, durations, byte
//! counts, request id and trace id, and nothing else of a request (DESIGN section 8).

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::{RegionId, TenantId, TokenId};
use telemetry::{Label, Parent, Trace, TraceText, Tracing, requests};

use crate::metrics::Metrics;
use crate::provider::noted::Noted;
use crate::startup::Parts;

/// What is known of a request while it is served. Shared between the middleware, which writes the
/// line, and the extractors, which learn who is calling.
#[derive(Clone, Debug)]
pub struct RequestRecord(Rc<RefCell<Facts>>);

/// The 32 hexadecimal digits of a trace's id.
type TraceId = [u8; 32];

/// What a request is called in traces.
#[derive(Clone, Copy, Debug)]
pub struct Named {
    trace: TraceId,
    parent: Option<Parent>,
    is_sampled: bool,
}

impl Named {
    /// As the caller names it (W3C Trace Context). One that does not begins a trace of its own here,
    /// which is traced as others are if it is an operator's call.
    #[must_use]
    pub fn of(traceparent: Option<&str>, is_operators: bool, tracing: &Tracing) -> Self {
        let given = traceparent.and_then(TraceText::parse).and_then(|given| {
            Some(Self {
                trace: given.trace.as_bytes().try_into().ok()?,
                parent: Parent::of(given),
                is_sampled: given.is_sampled,
            })
        });
        given.unwrap_or_else(|| {
            let mut random = [0; 16];
            let mut trace = [b'0'; 32];
            // Without randomness the id is only less useful.
            let _zero = getrandom::fill(&mut random);
            let _same_length = hex::encode_to_slice(random, &mut trace);
            Self {
                trace,
                parent: None,
                is_sampled: is_operators && tracing.samples(text(&trace)),
            }
        })
    }
}

/// Digits are text.
fn text(digits: &TraceId) -> &str {
    std::str::from_utf8(digits).unwrap_or_default()
}

#[derive(Debug)]
struct Facts {
    started: Instant,
    region: RegionId,
    request_id: String,
    trace_id: TraceId,
    trace: Option<Arc<Trace>>,
    metrics: Arc<Metrics>,
    method: &'static str,
    route: Option<String>,
    tenant: Option<TenantId>,
    token: Option<TokenId>,
    /// For the tenant's activity. Nothing of it is for the log.
    noted: Option<Arc<Noted>>,
    written: bool,
}

impl RequestRecord {
    /// Begins with a request.
    #[must_use]
    pub fn begin(parts: &Parts, request_id: &str, method: &'static str, named: Named) -> Self {
        let region = parts.region.clone();
        let trace = named.is_sampled.then(|| {
            let tracing = parts.export.tracing();
            tracing.begin(text(&named.trace), named.parent)
        });
        Self(Rc::new(RefCell::new(Facts {
            started: Instant::now(),
            region,
            request_id: request_id.to_owned(),
            trace_id: named.trace,
            trace: trace.flatten().map(Arc::new),
            metrics: Arc::clone(&parts.metrics),
            method,
            route: None,
            tenant: None,
            token: None,
            noted: None,
            written: false,
        })))
    }

    /// Its trace, if it is traced.
    #[must_use]
    pub fn trace(&self) -> Option<Arc<Trace>> {
        self.0.borrow().trace.clone()
    }

    /// Notes whose call it is.
    pub fn identify(&self, tenant: &TenantId, token: &TokenId) {
        let mut facts = self.0.borrow_mut();
        facts.tenant = Some(tenant.clone());
        facts.token = Some(token.clone());
    }

    /// Notes that it is a provisioning request, and what takes down its facts.
    pub fn provisioning(&self, noted: Arc<Noted>) {
        self.0.borrow_mut().noted = Some(noted);
    }

    /// Gives the request's facts to whoever takes it down as activity: once.
    pub fn take_down(&self, taker: impl FnOnce(&Noted, &'static str, Option<&str>, Duration)) {
        let noted = self.0.borrow_mut().noted.take();
        if let Some(noted) = noted {
            let facts = self.0.borrow();
            let route = facts.route.as_deref();
            taker(&noted, facts.method, route, facts.started.elapsed());
        }
    }

    /// Notes the route's template; a path is never noted, because it holds resource ids.
    pub fn route(&self, template: Option<String>) {
        let mut facts = self.0.borrow_mut();
        if facts.route.is_none() {
            facts.route = template;
        }
    }

    /// Whether the route is known.
    #[must_use]
    pub fn has_route(&self) -> bool {
        self.0.borrow().route.is_some()
    }

    /// Writes the line.
    pub fn finish(&self, status: u16, bytes: u64) {
        self.0.borrow_mut().write(Some(status), bytes);
    }
}

impl Facts {
    fn write(&mut self, status: Option<u16>, bytes: u64) {
        if std::mem::replace(&mut self.written, true) {
            return;
        }
        let duration = self.started.elapsed();
        let route = self.route.as_deref().unwrap_or("-");
        let status_code = status.unwrap_or(0);
        self.metrics.requests.record(
            Some(&self.region),
            route,
            self.method,
            status_code,
            duration,
        );
        if let Some(trace) = self.trace.take() {
            self.end(&trace, status_code, bytes);
        }
        tracing::info!(
            region = self.region.as_str(),
            tenant_id = self.tenant.as_ref().map(TenantId::as_str),
            token_id = self.token.as_ref().map(TokenId::as_str),
            route,
            method = self.method,
            status,
            duration_us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX),
            bytes,
            request_id = self.request_id,
            trace_id = text(&self.trace_id),
            "request finished"
        );
    }
}

impl Facts {
    fn end(&self, trace: &Trace, status: u16, bytes: u64) {
        let route = self.route.as_deref().unwrap_or_default();
        let template = self.metrics.requests.template(route);
        let template = template.unwrap_or(requests::OTHER);
        let labels = [
            ("http.request.method", Some(Label::word(self.method))),
            ("http.route", Some(Label::word(template))),
            (
                "http.response.status_code",
                Some(Label::number(status.into())),
            ),
            ("region", Some(Label::from(&self.region))),
            ("tenant.id", self.tenant.as_ref().map(Label::from)),
            ("token.id", self.token.as_ref().map(Label::from)),
            ("request.id", Label::request_id(&self.request_id)),
            ("http.response.body.size", Some(Label::number(bytes))),
        ];
        let labels = labels
            .into_iter()
            .filter_map(|(name, label)| Some((name, label?)));
        let has_failed = status == 0 || status >= 500;
        trace.request((self.method, template), self.started, has_failed, labels);
    }
}

impl Drop for Facts {
    /// A caller that hung up leaves no status, and a line all the same.
    fn drop(&mut self) {
        self.write(None, 0);
    }
}
