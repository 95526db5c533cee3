//! The one line in the log for each request.
//!
//! A line may hold tenant id, token id, region, route template, method, status, durations, byte
//! counts and request id, and nothing else of a request (DESIGN section 8).

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::{RegionId, TenantId, TokenId};

use crate::provider::noted::Noted;

/// What is known of a request while it is served. Shared between the middleware, which writes the
/// line, and the extractors, which learn who is calling.
#[derive(Clone, Debug)]
pub struct RequestRecord(Rc<RefCell<Facts>>);

#[derive(Debug)]
struct Facts {
    started: Instant,
    region: RegionId,
    request_id: String,
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
    pub fn begin(region: RegionId, request_id: &str, method: &'static str) -> Self {
        Self(Rc::new(RefCell::new(Facts {
            started: Instant::now(),
            region,
            request_id: request_id.to_owned(),
            method,
            route: None,
            tenant: None,
            token: None,
            noted: None,
            written: false,
        })))
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
        let route = self.route.as_deref().unwrap_or("-");
        tracing::info!(
            region = self.region.as_str(),
            tenant_id = self.tenant.as_ref().map(TenantId::as_str),
            token_id = self.token.as_ref().map(TokenId::as_str),
            route,
            method = self.method,
            status,
            duration_us = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX),
            bytes,
            request_id = self.request_id,
            "request finished"
        );
    }
}

impl Drop for Facts {
    /// A caller that hung up leaves no status, and a line all the same.
    fn drop(&mut self) {
        self.write(None, 0);
    }
}
