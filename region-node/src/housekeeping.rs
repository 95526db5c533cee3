//! What a node does by itself, beside requests: writes activity and times of last use, forgets what
//! is old, warns of API tokens that end soon, counts refused requests. Nothing that a client waits for lives here.

use std::time::Duration;

use actix_web::web::Data;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::provider::expiry::{Expiring, ExpiryWatch};
use crate::startup::Parts;
use crate::store::activity::ActivityRetention;
use crate::store::{Retention, StoreError};

/// How often it is asked whether the day's warnings are due.
const WARN_EVERY: Duration = Duration::from_secs(10 * 60);
/// How often old changes, outcomes and access tokens are looked for.
const PRUNE_EVERY: Duration = Duration::from_secs(10 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How often the audit is told of refused requests.
const COUNT_REFUSALS_EVERY: Duration = Duration::from_secs(60);

/// How often, and how long.
#[derive(Clone, Copy, Debug)]
pub struct Housekeeping {
    /// Between two writes of times of last use.
    pub flush_every: Duration,
    /// Between two writes of the tenants' activity.
    pub write_activity_every: Duration,
    /// How long a tenant's activity is kept, if the tenant does not want it shorter.
    pub keep_activity: Duration,
    /// How many requests of a tenant are kept.
    pub most_activity: u64,
    /// How long changes are kept.
    pub keep_changes: Duration,
    /// How long outcomes of requests that clients named are kept.
    pub keep_client_keys: Duration,
    /// How long changes are kept that a receiver of events has not had.
    pub keep_for_endpoints: Duration,
    /// How long audit records are kept.
    pub keep_audit: Duration,
}

/// Keeps house until the node stops.
pub async fn keep_house(parts: Data<Parts>, housekeeping: Housekeeping) {
    let store = &*parts.store;
    tokio::join!(
        regularly(
            housekeeping.flush_every,
            "times of last use wait for the store",
            || parts.last_used.flush(store),
        ),
        regularly(
            housekeeping.write_activity_every,
            "activity waits for the store",
            || parts.activity.flush(store),
        ),
        regularly(
            PRUNE_EVERY,
            "old changes, outcomes and access tokens wait for the store",
            || prune(&parts, housekeeping),
        ),
        warn_regularly(&parts),
        regularly(
            COUNT_REFUSALS_EVERY,
            "counts of refused requests were lost",
            || parts.refusals.flush(store, parts.clock.now()),
        ),
    );
}

fn every(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Does something again and again; where the store does not let it, `complaint` says what waits.
async fn regularly<F: Future<Output = Result<(), StoreError>>>(
    period: Duration,
    complaint: &'static str,
    deed: impl Fn() -> F,
) {
    let mut ticks = every(period);
    loop {
        ticks.tick().await;
        if let Err(error) = deed().await {
            tracing::debug!(
                error = &error as &(dyn std::error::Error + 'static),
                "{complaint}"
            );
        }
    }
}

/// A line a day for each API token that is in use and ends soon. Each node of a region writes it.
async fn warn_regularly(parts: &Parts) {
    let mut watch = ExpiryWatch::default();
    let mut ticks = every(WARN_EVERY);
    loop {
        ticks.tick().await;
        match watch.look(&*parts.store, parts.clock.now()).await {
            Ok(expiring) => expiring.iter().for_each(warn),
            Err(error) => tracing::debug!(
                error = &error as &(dyn std::error::Error + 'static),
                "warnings of API tokens that end soon wait for the store"
            ),
        }
    }
}

fn warn(expiring: &Expiring) {
    let Expiring { token, days_left } = expiring;
    tracing::warn!(
        token_id = token.id.as_str(),
        tenant_id = token.tenant.as_str(),
        days_left,
        "an API token that is in use ends in {days_left} days"
    );
}

/// Access tokens that have ended, then tenant after tenant, in small steps between which writes get their turn.
async fn prune(parts: &Parts, housekeeping: Housekeeping) -> Result<(), StoreError> {
    let now = parts.clock.now();
    while !parts.store.prune_access_tokens(now).await? {
        tokio::task::yield_now().await;
    }
    let keep = Retention::at(
        now,
        housekeeping.keep_changes,
        housekeeping.keep_client_keys,
    );
    for tenant in parts.store.list_tenants().await? {
        let endpoints = parts.store.list_endpoints(Some(&tenant.id)).await;
        let endpoints = match endpoints {
            // It is gone by now.
            Err(StoreError::NotFound) => continue,
            endpoints => endpoints?,
        };
        let told = endpoints
            .iter()
            .map(|endpoint| endpoint.progress.cursor)
            .min();
        let told = Retention {
            changes_behind: told.unwrap_or(i64::MAX),
            ..keep
        };
        // What somebody still has to be told of stays longer, though not for ever.
        let in_any_case = Retention {
            changes_since: now.before(
                housekeeping
                    .keep_for_endpoints
                    .max(housekeeping.keep_changes),
            ),
            ..keep
        };
        for keep in [told, in_any_case] {
            while !parts.store.prune(&tenant.id, keep).await? {
                tokio::task::yield_now().await;
            }
        }
        let audit_since = now.before(housekeeping.keep_audit);
        while !parts
            .store
            .prune_audit(&tenant.id, audit_since, now)
            .await?
        {
            tokio::task::yield_now().await;
        }
        let days = tenant.settings.activity_days.map(|days| DAY * days);
        let life = days.map_or(housekeeping.keep_activity, |own| {
            own.min(housekeeping.keep_activity)
        });
        let keep = ActivityRetention {
            since: now.before(life),
            most: housekeeping.most_activity,
        };
        parts.store.prune_activity(&tenant.id, keep).await?;
    }
    Ok(())
}
