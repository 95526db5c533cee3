//! [`Activities`]: what administrators of a tenant see of its provisioning requests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use shared::{Clock, Timestamp, TokenId};

use crate::scim::client::Client;
use crate::store::activity::{
    ActivityPage, ActivityQuery, Cycle, Entry, EntryNumber, Finding, Hour, Latencies, hour_of,
};
use crate::store::{Access, Store, StoreError};

/// Cycles that are looked at to know how regularly a client comes.
const LOOKED_AT: u32 = 1000;
/// A client that has come so often is missed when it does not come.
const REGULAR: usize = 6;
/// How many of its last pauses say how long it stays away.
const PAUSES: usize = 20;
/// How many times longer than usual it is away before it is missed.
const PATIENCE: u32 = 3;
/// And at least so long.
const LEAST_SILENCE: Duration = Duration::from_secs(60 * 60);
/// Hours that an overview shows one by one.
const HOURS: i64 = 24;

/// Reads the activity of tenants.
#[derive(Clone)]
pub struct Activities {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
}

/// How a tenant's provisioning goes.
#[derive(Clone, Debug)]
pub struct Overview {
    /// The last 24 hours, those without requests too.
    pub hours: Vec<Span>,
    /// Each day with requests, UTC.
    pub days: Vec<Span>,
    /// Who provisions, the last one first.
    pub clients: Vec<Seen>,
}

/// Counts of an hour or a day.
#[derive(Clone, Debug)]
pub struct Span {
    /// When it began.
    pub from: Timestamp,
    /// Requests.
    pub requests: u64,
    /// Of these, those that failed.
    pub failed: u64,
    latencies: Latencies,
}

impl Span {
    /// How long a part of the requests took at most: see [`Latencies::percentile`].
    #[must_use]
    pub fn percentile_us(&self, percent: u64) -> Option<u64> {
        self.latencies.percentile(percent)
    }

    fn begin(from: Timestamp) -> Self {
        Self {
            from,
            requests: 0,
            failed: 0,
            latencies: Latencies::default(),
        }
    }

    fn add(&mut self, hour: &Hour) {
        self.requests += hour.requests;
        self.failed += hour.failed;
        self.latencies.merge(&hour.latencies);
    }
}

/// A client that provisions, or did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Who.
    pub client: Client,
    /// With which API tokens.
    pub tokens: Vec<TokenId>,
    /// When last.
    pub last: Timestamp,
    /// How many cycles are known.
    pub cycles: usize,
    /// Where it used to come regularly and does not any more.
    pub alarm: Option<Alarm>,
}

/// A client that used to come is missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// Half of its cycles began sooner after the one before.
    pub usual: Duration,
    /// For how long it has been silent.
    pub silence: Duration,
}

impl Activities {
    /// Of the tenants in this store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock }
    }

    /// Requests, newest first.
    ///
    /// # Errors
    /// As the store.
    pub async fn page(
        &self,
        access: &Access,
        query: &ActivityQuery,
    ) -> Result<ActivityPage, StoreError> {
        self.store.activity(access, query).await
    }

    /// One request, and who sent it.
    ///
    /// # Errors
    /// `NotFound` if there is none; otherwise as the store.
    pub async fn get(
        &self,
        access: &Access,
        number: EntryNumber,
    ) -> Result<(Entry, Client), StoreError> {
        let found = self.store.activity_entry(access, number).await?;
        found.ok_or(StoreError::NotFound)
    }

    /// Sync cycles that began before a time, newest first.
    ///
    /// # Errors
    /// As the store.
    pub async fn cycles(
        &self,
        access: &Access,
        before: Option<Timestamp>,
        count: u32,
    ) -> Result<Vec<Cycle>, StoreError> {
        let before = before.unwrap_or(Timestamp(i64::MAX));
        self.store.cycles(access, before, count).await
    }

    /// What an administrator should put right, newest first.
    ///
    /// # Errors
    /// As the store.
    pub async fn findings(&self, access: &Access) -> Result<Vec<Finding>, StoreError> {
        self.store.findings(access).await
    }

    /// Who uses which API token, as the token's newest cycle says.
    ///
    /// # Errors
    /// As the store.
    pub async fn clients(&self, access: &Access) -> Result<Vec<(TokenId, Client)>, StoreError> {
        let newest = Timestamp(i64::MAX);
        let cycles = self.store.cycles(access, newest, LOOKED_AT).await?;
        let clients = seen(&cycles, self.clock.now()).into_iter();
        Ok(clients
            .flat_map(|seen| {
                seen.tokens
                    .into_iter()
                    .map(move |token| (token, seen.client))
            })
            .collect())
    }

    /// How it goes.
    ///
    /// # Errors
    /// As the store.
    pub async fn overview(&self, access: &Access) -> Result<Overview, StoreError> {
        let now = self.clock.now();
        let hours = self.store.activity_hours(access, 0).await?;
        let cycles = self
            .store
            .cycles(access, Timestamp(i64::MAX), LOOKED_AT)
            .await?;
        Ok(Overview {
            hours: last_hours(&hours, now),
            days: days(&hours),
            clients: seen(&cycles, now),
        })
    }
}

fn beginning(hour: i64) -> Timestamp {
    Timestamp(hour.saturating_mul(60 * 60 * 1000))
}

fn last_hours(hours: &[Hour], now: Timestamp) -> Vec<Span> {
    let this = hour_of(now);
    let spans = (this - HOURS + 1..=this).map(|hour| {
        let mut span = Span::begin(beginning(hour));
        hours
            .iter()
            .filter(|one| one.hour == hour)
            .for_each(|one| span.add(one));
        span
    });
    spans.collect()
}

fn days(hours: &[Hour]) -> Vec<Span> {
    let mut days: BTreeMap<i64, Span> = BTreeMap::new();
    for hour in hours {
        let day = hour.hour.div_euclid(HOURS);
        let begin = || Span::begin(beginning(day * HOURS));
        let span = days.entry(day).or_insert_with(begin);
        span.add(hour);
    }
    days.into_values().collect()
}

/// Who made the cycles, which are given newest first.
fn seen(cycles: &[Cycle], now: Timestamp) -> Vec<Seen> {
    // A token's newest cycle knows best who uses it.
    let mut of_token: Vec<(&TokenId, Client)> = Vec::new();
    for cycle in cycles {
        if !of_token.iter().any(|(token, _)| **token == cycle.token) {
            of_token.push((&cycle.token, cycle.client()));
        }
    }
    let mut seen: Vec<Seen> = Vec::new();
    for (token, client) in &of_token {
        match seen.iter_mut().find(|one| one.client == *client) {
            Some(one) => one.tokens.push((*token).clone()),
            None => seen.push(Seen {
                client: *client,
                tokens: vec![(*token).clone()],
                last: Timestamp(0),
                cycles: 0,
                alarm: None,
            }),
        }
    }
    for one in &mut seen {
        let of_one = cycles
            .iter()
            .filter(|cycle| one.tokens.contains(&cycle.token));
        let (starts, ends): (Vec<Timestamp>, Vec<Timestamp>) =
            of_one.map(|cycle| (cycle.started, cycle.ended)).unzip();
        one.last = ends.into_iter().max().unwrap_or(Timestamp(0));
        one.cycles = starts.len();
        one.alarm = alarm(&starts, one.last, now);
    }
    seen.sort_by_key(|one| std::cmp::Reverse(one.last));
    seen
}

/// Whether a client is missed, by the beginnings of its cycles, newest first. One long absence is
/// not what it usually does.
fn alarm(starts: &[Timestamp], last: Timestamp, now: Timestamp) -> Option<Alarm> {
    if starts.len() < REGULAR {
        return None;
    }
    let mut pauses: Vec<Duration> = starts
        .windows(2)
        .filter_map(|pair| match pair {
            [later, earlier] => Some(later.since(*earlier)),
            _ => None,
        })
        .take(PAUSES)
        .collect();
    pauses.sort_unstable();
    let usual = *pauses.get(pauses.len() / 2)?;
    let long = *pauses.get((pauses.len() * 9).div_ceil(10).saturating_sub(1))?;
    let silence = now.since(last);
    (silence > (long * PATIENCE).max(LEAST_SILENCE)).then_some(Alarm { usual, silence })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scim::client::Clues;
    use crate::store::activity::Effects;

    const MINUTE: Duration = Duration::from_secs(60);

    /// Beginnings of cycles, newest first, each so many minutes after the one before.
    fn starts(minutes: &[u32]) -> Vec<Timestamp> {
        let mut at = Timestamp(0);
        let mut starts = vec![at];
        for pause in minutes {
            at = at.after(MINUTE * *pause);
            starts.push(at);
        }
        starts.reverse();
        starts
    }

    #[test]
    fn a_client_that_came_regularly_is_missed() {
        let regular = starts(&[40, 40, 41, 39, 40]);
        let last = regular[0];
        assert_eq!(alarm(&regular, last, last.after(MINUTE * 120)), None);
        let missed = alarm(&regular, last, last.after(MINUTE * 124)).unwrap();
        assert_eq!(missed.usual, MINUTE * 40);
        assert_eq!(missed.silence, MINUTE * 124);
        // One long absence is no habit, several are.
        let once = starts(&[40, 40, 40, 40, 4000, 40, 40, 40, 40, 40, 40]);
        assert!(alarm(&once, once[0], once[0].after(MINUTE * 200)).is_some());
        let often = starts(&[40, 4000, 40, 4000, 40, 4000, 40]);
        assert_eq!(alarm(&often, often[0], often[0].after(MINUTE * 200)), None);
    }

    #[test]
    fn who_came_only_now_and_then_is_not_missed() {
        let few = starts(&[40, 40, 40, 40]);
        assert_eq!(alarm(&few, few[0], few[0].after(MINUTE * 100_000)), None);
        // And who comes every minute may be away for an hour.
        let busy = starts(&[11; 10]);
        assert_eq!(alarm(&busy, busy[0], busy[0].after(MINUTE * 60)), None);
    }

    #[test]
    fn tokens_of_one_client_are_one() {
        let tokens = [TokenId::generate().unwrap(), TokenId::generate().unwrap()];
        let cycle = |token: &TokenId, minute: u32| Cycle {
            token: token.clone(),
            started: Timestamp(0).after(MINUTE * minute),
            ended: Timestamp(0).after(MINUTE * minute),
            clues: Clues::of_user_agent("Okta SCIM Client 1.0.0"),
            requests: 1,
            failed: 0,
            effects: Effects::default(),
        };
        // The second token took over after a rotation: nobody is missed.
        let mut cycles: Vec<Cycle> = (1..10).map(|n| cycle(&tokens[0], n * 40)).collect();
        cycles.extend((10..14).map(|n| cycle(&tokens[1], n * 40)));
        cycles.reverse();
        let seen = seen(&cycles, Timestamp(0).after(MINUTE * 14 * 40));
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].client, Client::Okta);
        assert_eq!(seen[0].tokens.len(), 2);
        assert_eq!((seen[0].cycles, seen[0].alarm), (13, None));
    }
}
