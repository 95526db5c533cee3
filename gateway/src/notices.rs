//! [`Notices`]: tells a region what was refused here with its tokens, so that its tenants'
//! administrators can see it. A client never waits for it.
//!
//! A notice has the digest of the token and nothing personal. Equal ones are counted together, there
//! is room for so many different ones, and what cannot be told is counted as lost. The region says
//! whether a token is one of its own; until then nobody is told anything.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shared::link::{
    MAX_NOTICES, NOTICES_PATH, Notice, NoticeKind, NoticesAnswer, NoticesRequest, Refusal,
};
use shared::{ApiToken, Clock, RegionId, Scope, Timestamp, TokenDigest};
use tokio::time::{MissedTickBehavior, interval};

use crate::credential::CredentialError;
use crate::error::Error;
use crate::forward::CallIds;
use crate::oauth::TokenRequestError;
use crate::region::Region;
use crate::resolver::ResolveError;
use crate::resolver::region_node;
use crate::routes::Route;
use crate::telemetry::RequestRecord;

/// How often a region is told.
const EVERY: Duration = Duration::from_secs(1);
/// How long a region may take to listen.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Different notices that wait for a region.
const ROOM: usize = 1000;
/// Of these, such as nobody knows yet whether the token is good: a flood of made-up tokens leaves
/// room for others.
const ROOM_FOR_STRANGERS: usize = 500;

/// What waits to be told.
#[derive(Debug, Default)]
pub struct Notices {
    waiting: Mutex<HashMap<RegionId, HashMap<Subject, Occurrence>>>,
    told: AtomicU64,
    lost: AtomicU64,
}

/// What makes notices equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Subject {
    digest: TokenDigest,
    kind: NoticeKind,
    region: RegionId,
    method: &'static str,
    route: &'static str,
}

#[derive(Debug)]
struct Occurrence {
    times: u32,
    request_id: String,
    at: Timestamp,
}

impl Notices {
    /// Notes that a request was refused, if that is something for the administrators of the tenant
    /// whose token it presented.
    pub fn note(
        &self,
        error: &Error,
        path: &str,
        token: Result<&ApiToken, CredentialError>,
        record: &RequestRecord,
        clock: &dyn Clock,
    ) {
        let (Some((kind, is_known)), Ok(token), Some(region)) =
            (kind_of(error, path), token, &record.region)
        else {
            return;
        };
        // A request that is refused for its method has not come to its route.
        let route = match kind {
            NoticeKind::Method => Route::parse(path).map(|route| route.endpoint.template()),
            _ => None,
        };
        let subject = Subject {
            digest: token.digest(),
            kind,
            region: region.clone(),
            method: record.method,
            route: route.unwrap_or(record.route),
        };
        let at = clock.now();
        let request_id = record.ids.as_ref().map_or("", CallIds::request_id);
        let room = if is_known { ROOM } else { ROOM_FOR_STRANGERS };
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = waiting.entry(token.region().clone()).or_default();
        let has_room = waiting.len() < room;
        match waiting.entry(subject) {
            Entry::Occupied(mut occupied) => {
                let occurrence = occupied.get_mut();
                occurrence.times = occurrence.times.saturating_add(1);
                request_id.clone_into(&mut occurrence.request_id);
                occurrence.at = at;
            }
            Entry::Vacant(vacant) if has_room => {
                vacant.insert(Occurrence {
                    times: 1,
                    request_id: request_id.to_owned(),
                    at,
                });
            }
            Entry::Vacant(_) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Tells the regions until the gateway stops. What is for a region that is not served here is
    /// told by nobody.
    pub async fn keep_telling(self: Arc<Self>, regions: Vec<Arc<Region>>) {
        let each = regions.into_iter().map(|region| {
            let notices = Arc::clone(&self);
            async move {
                let mut ticks = interval(EVERY);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                loop {
                    ticks.tick().await;
                    notices.tell(&region).await;
                }
            }
        });
        futures_util::future::join_all(each).await;
    }

    async fn tell(&self, region: &Region) {
        let waiting = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.remove(&region.id).unwrap_or_default()
        };
        let mut notices = waiting.into_iter().map(|(subject, occurrence)| Notice {
            digest: subject.digest,
            kind: subject.kind,
            region: subject.region,
            method: subject.method.to_owned(),
            route: subject.route.to_owned(),
            request_id: occurrence.request_id,
            at: occurrence.at,
            times: occurrence.times,
        });
        loop {
            let some: Vec<Notice> = notices.by_ref().take(MAX_NOTICES).collect();
            if some.is_empty() {
                return;
            }
            let times: u64 = some.iter().map(|notice| u64::from(notice.times)).sum();
            let request = NoticesRequest { notices: some };
            let answer: Result<NoticesAnswer, _> =
                region_node::ask(region, NOTICES_PATH, &request, TIMEOUT).await;
            let count = match answer {
                Ok(_) => &self.told,
                Err(error) => {
                    tracing::debug!(
                        region = region.id.as_str(),
                        error = &error as &(dyn std::error::Error + 'static),
                        "notices were lost"
                    );
                    &self.lost
                }
            };
            count.fetch_add(times, Ordering::Relaxed);
        }
    }

    /// How many refused requests regions were told of, and could not be told of.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        let [told, lost] = [&self.told, &self.lost];
        (told.load(Ordering::Relaxed), lost.load(Ordering::Relaxed))
    }
}

/// What a refusal says to administrators, and whether the region has called the token its own.
fn kind_of(error: &Error, path: &str) -> Option<(NoticeKind, bool)> {
    Some(match error {
        Error::WrongRegion {
            right_base: Some(_),
            ..
        } => (NoticeKind::WrongRegion, true),
        Error::Resolve(ResolveError::Refused(bad)) => {
            bad.tenant_id.as_ref()?;
            let kind = match bad.reason {
                Refusal::Expired => NoticeKind::Expired,
                Refusal::Revoked => NoticeKind::Revoked,
                Refusal::TenantSuspended => NoticeKind::Suspended,
                Refusal::Unknown => return None,
            };
            (kind, true)
        }
        Error::Scope {
            needed: Scope::Scim,
        } => (NoticeKind::AdminToken, true),
        Error::Scope {
            needed: Scope::Admin,
        } => (NoticeKind::ScimToken, true),
        Error::Network { .. } => (NoticeKind::Network, true),
        Error::TenantLimit(_) | Error::TenantBodies => (NoticeKind::TooMany, true),
        Error::TokenRequest(TokenRequestError::Client) => (NoticeKind::ClientId, false),
        Error::NoSuchEndpoint => {
            let is_of_scim11 = path
                .trim_end_matches('/')
                .ends_with("/ServiceProviderConfigs");
            match is_of_scim11 {
                true => (NoticeKind::Scim11Path, false),
                false => (NoticeKind::UnknownPath, false),
            }
        }
        Error::Method { .. } => (NoticeKind::Method, false),
        Error::BodyEncoding => (NoticeKind::BodyEncoding, false),
        Error::BodyTooLarge { .. } => (NoticeKind::BodyTooLarge, false),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use actix_web::http::Method;
    use shared::TestClock;
    use telemetry::Tracing;

    use super::*;
    use crate::local::Local;
    use crate::metrics::Metrics;

    fn record() -> RequestRecord {
        let metrics = Local::new(Arc::new(Metrics::new(&[], 1)));
        let (ids, tracing) = (CallIds::generate().ok(), Tracing::default());
        let mut record = RequestRecord::begin(ids, &Method::GET, &metrics, &tracing);
        record.region = RegionId::parse("us").ok();
        record
    }

    #[test]
    fn equal_notices_are_one_and_there_is_an_end_of_different_ones() {
        let (notices, region) = (Notices::default(), RegionId::parse("de").unwrap());
        let (record, clock) = (record(), TestClock::at(Timestamp(0)));
        let note = |error: &Error, token: &ApiToken| {
            notices.note(error, "/x", Ok(token), &record, &clock);
        };
        let token = ApiToken::generate(&region).unwrap();
        let wrong = Error::WrongRegion {
            host: RegionId::parse("us").unwrap(),
            right_base: Some("https://de".to_owned()),
        };
        note(&wrong, &token);
        note(&wrong, &token);
        note(&Error::NoSuchEndpoint, &token);
        // What says nothing about a genuine token is no notice.
        let unconfirmed = Error::WrongRegion {
            host: RegionId::parse("us").unwrap(),
            right_base: None,
        };
        note(&unconfirmed, &token);
        note(&Error::Overloaded, &token);
        for _ in 0..ROOM {
            note(
                &Error::NoSuchEndpoint,
                &ApiToken::generate(&region).unwrap(),
            );
        }
        let waiting = notices.waiting.lock().unwrap();
        let of_home = &waiting[&region];
        assert_eq!(of_home.len(), ROOM_FOR_STRANGERS);
        let times: Vec<u32> = of_home
            .iter()
            .filter(|(subject, _)| subject.digest == token.digest())
            .map(|(_, occurrence)| occurrence.times)
            .collect();
        assert_eq!(times.iter().sum::<u32>(), 3);
        assert_eq!(times.len(), 2);
        let lost = notices.lost.load(Ordering::Relaxed);
        assert_eq!(lost, (ROOM + 2 - ROOM_FOR_STRANGERS) as u64);
    }
}
