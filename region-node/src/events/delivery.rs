//! [`Deliverer`]: sends events to the endpoints that want to be told.
//!
//! An endpoint is served by one node at a time, which holds a lease in the store, and one event
//! after the other, so what it hears of a resource is in order. An event is done when it was taken,
//! or when all attempts are used up: then it is a dead letter. How far an endpoint is, is noted
//! after each run of events; what was sent since is sent again after a crash.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use shared::api_token::random_base62;
use shared::{Clock, Timestamp};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::egress::{Egress, SendError};
use super::event::{Event, GAP, Showing};
use super::signature;
use super::token::{self, Tokens};
use super::{Bell, LOOK_EVERY};
use crate::provider::ProviderError;
use crate::store::events::{EndpointKind, Progress};
use crate::store::{
    Access, AuditKind, AuditNote, Author, Change, Endpoint, Report, Store, StoreError, TenantState,
};

/// How long a node has the right to deliver to an endpoint without saying so again.
const LEASE: Duration = Duration::from_secs(10);
/// Changes that are read at once.
const CHANGES_AT_ONCE: u32 = 50;
/// Endpoints that are served at the same time.
const MOST_AT_ONCE: usize = 64;
/// Between two attempts at most.
const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);

/// How deliveries are tried.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Between the first attempt and the second; then three times as long each time, up to an hour.
    pub first_wait: Duration,
    /// How often an event is tried.
    pub attempts: u32,
    /// How long an endpoint may take nothing before it is paused.
    pub pause_after: Duration,
}

impl Patience {
    /// How long to wait after so many attempts; `chance` is from 0 to 255 and takes up to a fifth
    /// away, so that receivers that failed together are not tried together.
    fn wait(&self, attempts: i64, chance: u8) -> Duration {
        let exponent = u32::try_from(attempts - 1).unwrap_or(0).min(20);
        let full = self
            .first_wait
            .saturating_mul(3_u32.saturating_pow(exponent));
        let full = full.min(LONGEST_WAIT);
        full - full / 5 * u32::from(chance) / 255
    }
}

/// What deliveries are made with.
pub struct Means {
    /// Where changes and receivers are.
    pub store: Arc<dyn Store>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Rings when there may be changes.
    pub bell: Bell,
    /// The way out.
    pub egress: Egress,
    /// Shows resources as they are.
    pub showing: Showing,
    /// Makes security event tokens.
    pub tokens: Arc<Tokens>,
}

/// Sends events.
pub struct Deliverer {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    bell: Bell,
    egress: Egress,
    showing: Showing,
    tokens: Arc<Tokens>,
    patience: Patience,
    /// Who holds the leases.
    node: String,
}

/// Why a delivery failed, for the administrator and for what comes next.
struct Failed {
    reason: String,
    /// The receiver wants nothing any more.
    is_final: bool,
}

impl From<SendError> for Failed {
    fn from(error: SendError) -> Self {
        Self {
            is_final: matches!(error, SendError::Status(410)),
            reason: error.to_string(),
        }
    }
}

impl Deliverer {
    /// Deliveries of a node. Where no other node serves the store, `node` is the same after each
    /// start, so that a lease from before is its own.
    #[must_use]
    pub fn new(means: Means, patience: Patience, is_alone: bool) -> Self {
        let Means {
            store,
            clock,
            bell,
            egress,
            showing,
            tokens,
        } = means;
        let node = if is_alone {
            "the only one".to_owned()
        } else {
            random_base62(22).unwrap_or_default()
        };
        Self {
            store,
            clock,
            bell,
            egress,
            showing,
            tokens,
            patience,
            node,
        }
    }

    /// Sends a test event now; nothing is noted of it.
    ///
    /// # Errors
    /// [`SendError`]: what came of it.
    pub async fn test(&self, endpoint: &Endpoint) -> Result<(), SendError> {
        let now = self.clock.now();
        let event = Event::test(&endpoint.id, now);
        self.send(endpoint, &event, None).await
    }

    /// Delivers until the task is ended.
    pub async fn run(self: Arc<Self>) {
        let mut rung = self.bell.listen();
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut under_way: JoinSet<String> = JoinSet::new();
        let mut served: HashSet<String> = HashSet::new();
        let mut has_any = true;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                // Writes wake nobody where nobody is to be told.
                () = rung.next(), if has_any => {}
                Some(ended) = under_way.join_next(), if !under_way.is_empty() => {
                    if let Ok(id) = ended {
                        served.remove(&id);
                    } else {
                        // Nobody knows which: they are found again.
                        served.clear();
                        under_way.abort_all();
                    }
                }
            }
            let endpoints = match self.store.list_endpoints(None).await {
                Ok(endpoints) => endpoints,
                Err(error) => {
                    tracing::debug!(
                        error = &error as &(dyn std::error::Error + 'static),
                        "events wait for the store"
                    );
                    continue;
                }
            };
            has_any = !endpoints.is_empty();
            let now = self.clock.now();
            for endpoint in endpoints {
                let is_free = under_way.len() < MOST_AT_ONCE && !served.contains(&endpoint.id);
                if is_free && self.is_due(&endpoint, now) {
                    served.insert(endpoint.id.clone());
                    under_way.spawn(Arc::clone(&self).serve(endpoint));
                }
            }
        }
    }

    fn is_due(&self, endpoint: &Endpoint, now: Timestamp) -> bool {
        let progress = &endpoint.progress;
        let is_mine = endpoint.lease.0 == self.node || endpoint.lease.1 <= now;
        endpoint.settings.kind != EndpointKind::SetPoll
            && endpoint.paused.is_none()
            && progress.next_attempt <= now
            && is_mine
            && (endpoint.head > progress.cursor || endpoint.has_replays)
    }

    /// Sends what there is for an endpoint; answers its id.
    async fn serve(self: Arc<Self>, mut endpoint: Endpoint) -> String {
        if let Err(error) = self.serve_now(&mut endpoint).await {
            tracing::debug!(
                error = &error as &(dyn std::error::Error + 'static),
                tenant_id = endpoint.tenant.as_str(),
                "events wait for the store"
            );
        }
        endpoint.id
    }

    async fn serve_now(&self, endpoint: &mut Endpoint) -> Result<(), StoreError> {
        if endpoint.has_replays && !self.replay(endpoint).await? {
            return Ok(());
        }
        loop {
            let Some(access) = self.access(endpoint).await? else {
                return Ok(());
            };
            let progress = &endpoint.progress;
            let (tenant, cursor) = (&endpoint.tenant, progress.cursor);
            let changes = self.store.changes(tenant, cursor, CHANGES_AT_ONCE).await?;
            let first = changes.first().map_or(endpoint.head + 1, |first| first.seq);
            if changes.is_empty() && endpoint.head <= cursor {
                return Ok(());
            }
            if !self.keep_lease(endpoint).await? {
                return Ok(());
            }
            let mut run = Run::begin(endpoint);
            if first > cursor + 1 && run.report.progress.done == 0 {
                self.tell_of_gap(endpoint, &mut run, cursor + 1, first - 1)
                    .await;
            }
            if run.goes_on {
                self.send_changes(endpoint, &access, &changes, &mut run)
                    .await?;
            }
            let Run {
                report, goes_on, ..
            } = run;
            let now = self.clock.now();
            let is_ours = self
                .store
                .report_endpoint(&endpoint.id, &self.node, &report, now)
                .await?;
            endpoint.progress = report.progress;
            if !goes_on || !is_ours {
                return Ok(());
            }
        }
    }

    /// The right to read the tenant's resources; nothing while it is not served.
    async fn access(&self, endpoint: &Endpoint) -> Result<Option<Access>, StoreError> {
        let tenant = self.store.get_tenant(&endpoint.tenant).await?;
        let tenant = tenant.filter(|tenant| tenant.state == TenantState::Active);
        Ok(tenant.map(|tenant| Access {
            tenant: tenant.id,
            credential_version: tenant.credential_version,
        }))
    }

    /// Whether the endpoint is ours for long enough to try once more.
    async fn keep_lease(&self, endpoint: &mut Endpoint) -> Result<bool, StoreError> {
        let now = self.clock.now();
        let (holder, until) = &endpoint.lease;
        if *holder == self.node && now.after(LEASE / 2) < *until {
            return Ok(true);
        }
        let until = now.after(LEASE);
        let has = self
            .store
            .lease_endpoint(&endpoint.id, &self.node, now, until)
            .await?;
        endpoint.lease = (self.node.clone(), until);
        Ok(has)
    }

    async fn send_changes(
        &self,
        endpoint: &mut Endpoint,
        access: &Access,
        changes: &[Change],
        run: &mut Run,
    ) -> Result<(), StoreError> {
        // The first events of the first write may be done.
        let mut skip = usize::try_from(run.report.progress.done).unwrap_or(0);
        for of_write in changes.chunk_by(|one, next| one.seq == next.seq) {
            for change in of_write.iter().skip(std::mem::take(&mut skip)) {
                let event = match self.showing.event(access, change).await {
                    Ok(event) => event,
                    // Settings or credentials moved: the next round reads with what holds then.
                    Err(error) => {
                        tracing::debug!(
                            error = &error as &(dyn std::error::Error + 'static),
                            "an event waits for the store"
                        );
                        run.goes_on = matches!(error, ProviderError::Store(StoreError::Refused));
                        return Ok(());
                    }
                };
                if !self.keep_lease(endpoint).await? {
                    run.goes_on = false;
                    return Ok(());
                }
                if wants(endpoint, event.name) {
                    let sent = self.send(endpoint, &event, Some(change)).await;
                    self.note(run, change, sent.map_err(Failed::from));
                } else {
                    run.report.progress.done += 1;
                }
                if !run.goes_on {
                    return Ok(());
                }
            }
            if let Some(change) = of_write.first() {
                run.report.progress.cursor = change.seq;
                run.report.progress.done = 0;
            }
        }
        Ok(())
    }

    /// Says that changes were forgotten, and goes on behind them.
    async fn tell_of_gap(&self, endpoint: &Endpoint, run: &mut Run, from: i64, to: i64) {
        let now = self.clock.now();
        let event = Event::gap(&endpoint.id, from, to, now);
        let sent = if wants(endpoint, GAP) {
            self.send(endpoint, &event, None).await
        } else {
            Ok(())
        };
        match sent {
            Ok(()) => {
                let mut note = AuditNote::new(AuditKind::EventsLost, Author::node(), &endpoint.id);
                note.names = vec![from.to_string(), to.to_string()];
                run.report.notes.push(note);
                run.report.progress.cursor = to;
                run.taken(now);
            }
            Err(error) => self.failed(run, error.into()),
        }
    }

    /// What came of an attempt.
    fn note(&self, run: &mut Run, change: &Change, sent: Result<(), Failed>) {
        match sent {
            Ok(()) => {
                run.taken(self.clock.now());
                run.report.progress.done += 1;
            }
            Err(failed) => {
                let attempts = run.report.progress.attempts + 1;
                let reason = failed.reason.clone();
                self.failed(run, failed);
                if run.report.pause.is_none() && attempts >= i64::from(self.patience.attempts) {
                    run.report.dead.push((change.clone(), reason, attempts));
                    run.report.progress.done += 1;
                    run.report.progress.attempts = 0;
                }
            }
        }
    }

    fn failed(&self, run: &mut Run, failed: Failed) {
        let now = self.clock.now();
        let progress = &mut run.report.progress;
        progress.attempts += 1;
        let since = *progress.failing_since.get_or_insert(now);
        progress.next_attempt = now.after(self.patience.wait(progress.attempts, chance()));
        progress.last_error = Some(failed.reason.clone());
        run.goes_on = false;
        let has_waited = now.since(since) >= self.patience.pause_after;
        if failed.is_final || has_waited {
            let reason = if failed.is_final {
                "it answered 410 Gone".to_owned()
            } else {
                format!("it has taken nothing for too long: {}", failed.reason)
            };
            let by = Author::node();
            let note = AuditNote::new(AuditKind::EndpointPaused, by, &run.endpoint);
            run.report.notes.push(note);
            run.report.pause = Some(reason);
        }
    }

    /// Sends dead letters once more; answers whether the rest can go on.
    async fn replay(&self, endpoint: &mut Endpoint) -> Result<bool, StoreError> {
        let Some(access) = self.access(endpoint).await? else {
            return Ok(false);
        };
        loop {
            if !self.keep_lease(endpoint).await? {
                return Ok(false);
            }
            let letters = self
                .store
                .dead_letters(&endpoint.tenant, &endpoint.id, true, 0, CHANGES_AT_ONCE)
                .await?;
            if letters.is_empty() {
                endpoint.has_replays = false;
                return Ok(true);
            }
            let mut run = Run::begin(endpoint);
            for letter in letters {
                let Ok(event) = self.showing.event(&access, &letter.change).await else {
                    return Ok(false);
                };
                if !self.keep_lease(endpoint).await? {
                    return Ok(false);
                }
                let change = Some(&letter.change);
                let failed = self.send(endpoint, &event, change).await.err();
                let failed = failed.map(|error| error.to_string());
                if failed.is_none() {
                    run.taken(self.clock.now());
                }
                run.report.replayed.push((letter.number, failed));
            }
            let now = self.clock.now();
            let report = run.report;
            let is_ours = self
                .store
                .report_endpoint(&endpoint.id, &self.node, &report, now)
                .await?;
            endpoint.progress = report.progress;
            if !is_ours {
                return Ok(false);
            }
        }
    }

    async fn send(
        &self,
        endpoint: &Endpoint,
        event: &Event,
        change: Option<&Change>,
    ) -> Result<(), SendError> {
        let (headers, body) = match endpoint.settings.kind {
            EndpointKind::Webhook => self.webhook(endpoint, event),
            EndpointKind::SetPush | EndpointKind::SetPoll => {
                let token = self.tokens.token(endpoint, event, change).await;
                // RFC 8935 section 2.1.
                let headers = vec![
                    (CONTENT_TYPE, token::MEDIA_TYPE.to_owned()),
                    (ACCEPT, "application/json".to_owned()),
                ];
                (headers, token.map_err(|_| SendError::Unsigned)?)
            }
        };
        let headers = headers
            .into_iter()
            .filter_map(|(name, value)| Some((name, HeaderValue::try_from(value).ok()?)));
        let url = &endpoint.settings.url;
        self.egress.post(url, headers.collect(), body).await
    }

    fn webhook(&self, endpoint: &Endpoint, event: &Event) -> (Vec<(HeaderName, String)>, String) {
        let now = self.clock.now();
        let signature = signature::sign(&endpoint.secrets, &event.id, now, &event.body);
        let headers = vec![
            (CONTENT_TYPE, "application/json".to_owned()),
            (HeaderName::from_static("webhook-id"), event.id.clone()),
            (
                HeaderName::from_static("webhook-timestamp"),
                now.as_seconds().to_string(),
            ),
            (HeaderName::from_static("webhook-signature"), signature),
        ];
        (headers, event.body.clone())
    }

    /// What a receiver that comes for its tokens has to say, and what there is for it (RFC 8936
    /// section 2.4): `acked` are done, and of those that it cannot use, `refused` says why.
    ///
    /// # Errors
    /// As the store; the receiver comes again.
    pub async fn poll(
        &self,
        endpoint: &mut Endpoint,
        acked: &HashSet<String>,
        refused: &HashMap<String, String>,
        most: usize,
    ) -> Result<Polled, ProviderError> {
        let mut polled = Polled::default();
        let Some(access) = self.access(endpoint).await? else {
            return Ok(polled);
        };
        let mut run = Run::begin(endpoint);
        if endpoint.has_replays {
            let letters = self
                .store
                .dead_letters(&endpoint.tenant, &endpoint.id, true, 0, CHANGES_AT_ONCE)
                .await?;
            for letter in letters {
                let event = self.showing.event(&access, &letter.change).await?;
                if acked.contains(&event.id) {
                    run.report.replayed.push((letter.number, None));
                } else if let Some(reason) = refused.get(&event.id) {
                    let reason = Some(reason.clone());
                    run.report.replayed.push((letter.number, reason));
                } else if polled.sets.len() < most {
                    let token = self.token(endpoint, event, &letter.change).await?;
                    polled.sets.push(token);
                } else {
                    polled.has_more = true;
                }
            }
        }
        let mut is_at_the_front = true;
        let mut cursor = endpoint.progress.cursor;
        'walk: loop {
            let changes = self
                .store
                .changes(&endpoint.tenant, cursor, CHANGES_AT_ONCE)
                .await?;
            let Some(last) = changes.last() else {
                break;
            };
            cursor = last.seq;
            for of_write in changes.chunk_by(|one, next| one.seq == next.seq) {
                for change in of_write {
                    let event = self.showing.event(&access, change).await?;
                    let is_done = !wants(endpoint, event.name) || acked.contains(&event.id);
                    if let Some(reason) = refused.get(&event.id) {
                        // Behind one that is not done it comes again, and is refused again.
                        if is_at_the_front {
                            run.report.dead.push((change.clone(), reason.clone(), 1));
                        }
                    } else if !is_done {
                        is_at_the_front = false;
                        if polled.sets.len() == most {
                            polled.has_more = true;
                            break 'walk;
                        }
                        polled.sets.push(self.token(endpoint, event, change).await?);
                    }
                }
                if let (true, Some(change)) = (is_at_the_front, of_write.first()) {
                    run.report.progress.cursor = change.seq;
                }
            }
        }
        let has_moved = run.report.progress.cursor > endpoint.progress.cursor;
        if has_moved || !run.report.replayed.is_empty() {
            let now = self.clock.now();
            run.taken(now);
            self.store
                .lease_endpoint(&endpoint.id, &self.node, now, now)
                .await?;
            self.store
                .report_endpoint(&endpoint.id, &self.node, &run.report, now)
                .await?;
            endpoint.progress = run.report.progress;
        }
        Ok(polled)
    }

    /// An event's id, and its token.
    async fn token(
        &self,
        endpoint: &Endpoint,
        event: Event,
        change: &Change,
    ) -> Result<(String, String), StoreError> {
        let token = self.tokens.token(endpoint, &event, Some(change)).await;
        let token = token.map_err(|_| StoreError::Corrupt("a token unsigned"))?;
        Ok((event.id, token))
    }
}

/// What there is for a receiver that comes for its tokens.
#[derive(Debug, Default)]
pub struct Polled {
    /// Ids and tokens, in order.
    pub sets: Vec<(String, String)>,
    /// Whether there are more.
    pub has_more: bool,
}

/// Whether an endpoint wants events of a type. That some are lost is for everybody.
fn wants(endpoint: &Endpoint, name: &str) -> bool {
    let events = &endpoint.settings.events;
    events.is_empty() || name == GAP || events.iter().any(|wanted| wanted == name)
}

fn chance() -> u8 {
    let mut byte = [0];
    // Without randomness there is no jitter.
    let _filled = getrandom::fill(&mut byte);
    let [byte] = byte;
    byte
}

/// Some events of one endpoint, one after the other, and what is to be noted of them.
struct Run {
    endpoint: String,
    report: Report,
    goes_on: bool,
}

impl Run {
    fn begin(endpoint: &Endpoint) -> Self {
        Self {
            endpoint: endpoint.id.clone(),
            report: Report {
                progress: endpoint.progress.clone(),
                dead: Vec::new(),
                replayed: Vec::new(),
                pause: None,
                notes: Vec::new(),
            },
            goes_on: true,
        }
    }

    fn taken(&mut self, now: Timestamp) {
        let progress = &mut self.report.progress;
        *progress = Progress {
            attempts: 0,
            failing_since: None,
            last_error: None,
            last_success: Some(now),
            next_attempt: Timestamp(0),
            ..progress.clone()
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_end_at_an_hour() {
        let patience = Patience {
            first_wait: Duration::from_secs(1),
            attempts: 12,
            pause_after: Duration::from_secs(1),
        };
        let waits: Vec<u64> = [1, 2, 3, 8, 9, 1000]
            .map(|attempts| patience.wait(attempts, 0).as_secs())
            .to_vec();
        assert_eq!(waits, [1, 3, 9, 2187, 3600, 3600]);
        assert_eq!(patience.wait(9, 255), Duration::from_secs(3600 - 720));
    }
}
