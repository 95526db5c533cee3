//! [`Redis`]: what gateways tell each other about live tokens, so that one look-up serves all.
//!
//! Never needed: any failure is as good as an entry that is not there. A call has a budget, a
//! server that fails is left alone for a while, and nothing that is found there is believed
//! unless the token itself opens it ([`super::sealed`]). What never lives here: a verdict that a
//! token is bad.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use deadpool_redis::{Connection, Manager, Pool, PoolError, Runtime};
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo,
    Pipeline, RedisError, RedisResult, TlsCertificates, Value,
};
use rustls::RootCertStore;
use serde_json::json;
use shared::link::Resolved;
use shared::{Clock, Secret, Timestamp};
use tokio::time::timeout;

use super::sealed::{Entry, MAX_ENTRY_BYTES, Opened, Sealing};
use crate::config::{ConfigError, RedisSettings};
use crate::limits::{Bucket, Rate};

/// For making a connection, and for an answer that nobody waits for any more: what comes late
/// leaves a connection that the next call can use.
const GIVE_UP: Duration = Duration::from_secs(1);

/// Why Redis was of no use. The texts are fixed: nothing that a server says gets into the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedisTrouble {
    /// The budget was over.
    #[error("it does not answer in time (setting redis.budget_ms)")]
    Slow,
    /// All connections are waiting for answers.
    #[error("all connections are waiting for answers (setting redis.connections)")]
    Busy,
    /// No connection, or one that broke.
    #[error("it cannot be reached (setting redis.url)")]
    Unreachable,
    /// It does not let us in.
    #[error("it refuses the user or the password (setting redis.url)")]
    Credentials,
    /// It answers, and not with what was asked for.
    #[error("it answers with an error: look into its log, and at its memory and its ACL")]
    Answer,
}

impl From<RedisError> for RedisTrouble {
    fn from(error: RedisError) -> Self {
        match (error.kind(), error.code()) {
            (ErrorKind::AuthenticationFailed, _) | (_, Some("NOAUTH" | "WRONGPASS")) => {
                Self::Credentials
            }
            _ if error.is_timeout() => Self::Slow,
            (ErrorKind::Io, _) => Self::Unreachable,
            _ => Self::Answer,
        }
    }
}

impl From<PoolError> for RedisTrouble {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Timeout(deadpool_redis::TimeoutType::Wait) => Self::Busy,
            PoolError::Timeout(_) => Self::Slow,
            PoolError::Backend(error) => error.into(),
            _ => Self::Unreachable,
        }
    }
}

/// An entry that was found, opened, and has time left.
#[derive(Debug)]
pub struct Found {
    /// When the region was asked, by our own clock and at the latest.
    pub asked: Timestamp,
    /// For how long from then it may be kept.
    pub keep: Duration,
    /// The region's answer.
    pub resolved: Resolved,
}

/// A server that gateways share.
pub struct Redis {
    pool: Pool,
    budget: Duration,
    breaker: Breaker,
    /// The last one.
    trouble: Mutex<Option<RedisTrouble>>,
    rate: Rate,
    bucket: Bucket,
    counts: Counts,
    clock: Arc<dyn Clock>,
}

#[derive(Debug, Default)]
struct Counts {
    hits: AtomicU64,
    misses: AtomicU64,
    rejected: AtomicU64,
    stored: AtomicU64,
    removed: AtomicU64,
    failures: AtomicU64,
    spared: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Redis {
    /// The server of the settings, if they name one. Connects to nothing: a gateway starts the
    /// same with its Redis down.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with the setting's name. Never holds the URL, which may have a
    /// password in it.
    pub fn build(
        settings: &RedisSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<Option<Self>, ConfigError> {
        let Some(url) = settings.read_url()? else {
            return Ok(None);
        };
        let budget = Duration::from_millis(settings.budget_ms);
        let server = server(&url, settings.ca_file.as_deref())?;
        let connecting = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(GIVE_UP))
            .set_response_timeout(Some(GIVE_UP));
        let unusable = || ConfigError::invalid("redis.url", UNUSABLE_URL);
        let manager = Manager::new_with_config(server, connecting).map_err(|_| unusable())?;
        let pool = Pool::builder(manager)
            .max_size(settings.connections)
            .wait_timeout(Some(budget))
            .create_timeout(Some(GIVE_UP))
            .recycle_timeout(Some(GIVE_UP))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|_| unusable())?;
        Ok(Some(Self {
            pool,
            budget,
            breaker: Breaker::new(
                settings.breaker_after,
                Duration::from_millis(settings.breaker_ms),
            ),
            trouble: Mutex::default(),
            rate: Rate {
                per_s: settings.lookups_per_s,
                burst: settings.lookups_per_s,
            },
            bucket: Bucket::default(),
            counts: Counts::default(),
            clock,
        }))
    }

    /// Whether one more stranger may be looked up here. A flood of made-up tokens shall not
    /// become a flood at a server that others may share.
    #[must_use]
    pub fn admits_stranger(&self) -> bool {
        self.bucket.take(self.rate, self.clock.now()).is_ok()
    }

    /// What other gateways have said about a token.
    pub async fn get(&self, sealing: &Sealing) -> Option<Found> {
        // The time of asking: what is kept may only end too early.
        let now = self.clock.now();
        let mut question = redis::pipe();
        // Never more than an entry can have, whatever lies there.
        question
            .cmd("GETRANGE")
            .arg(sealing.name())
            .arg(0)
            .arg(MAX_ENTRY_BYTES)
            .cmd("PTTL")
            .arg(sealing.name())
            .ignore_errors();
        let mut answers = self.ask(question).await?.into_iter();
        let (Some(bytes), ends) = (answers.next(), answers.next()) else {
            self.failed(RedisTrouble::Answer);
            return None;
        };
        let bytes = match bytes.and_then(|value| Ok(redis::from_redis_value::<Vec<u8>>(value)?)) {
            Ok(bytes) => bytes,
            // A list or a set under an entry's name: somebody else's work, and not a failure.
            Err(error) if error.code() == Some("WRONGTYPE") => {
                return self.reject();
            }
            Err(error) => {
                self.failed(error.into());
                return None;
            }
        };
        self.worked();
        if bytes.is_empty() {
            count(&self.counts.misses);
            return None;
        }
        let entry = match sealing.open(&bytes) {
            Opened::Entry(entry) => *entry,
            Opened::Foreign => return self.reject(),
            Opened::OtherVersion => {
                count(&self.counts.misses);
                return None;
            }
        };
        let ends = ends
            .and_then(Result::ok)
            .and_then(|value| redis::from_redis_value::<i64>(value).ok());
        let found = in_time(entry, ends, now);
        count(match found {
            Some(_) => &self.counts.hits,
            None => &self.counts.misses,
        });
        found
    }

    /// Tells other gateways what a region has said about a live token.
    pub async fn put(&self, sealing: &Sealing, entry: &Entry) {
        let ends = entry.asked.after(entry.keep());
        let left_ms = ends.since(self.clock.now()).as_millis();
        let Ok(bytes) = sealing.seal(entry) else {
            return;
        };
        if left_ms == 0 {
            return;
        }
        let mut order = redis::pipe();
        order
            .cmd("SET")
            .arg(sealing.name())
            .arg(bytes)
            .arg("PX")
            .arg(u64::try_from(left_ms).unwrap_or(u64::MAX))
            .ignore_errors();
        self.order(order, &self.counts.stored).await;
    }

    /// Takes back what was said about a token.
    pub async fn remove(&self, name: &str) {
        let mut order = redis::pipe();
        order.cmd("DEL").arg(name).ignore_errors();
        self.order(order, &self.counts.removed).await;
    }

    /// How it is, and what came of it since the start. Asks the server, within the budget and
    /// unless the breaker is open: whoever looks whether the gateway is ready is not kept waiting
    /// by a Redis that hangs, and one that is back is found even when nobody is looked up.
    pub async fn status(&self) -> serde_json::Value {
        let is_reachable = self.breaker.admits(self.clock.now()) && {
            let mut question = redis::pipe();
            question.cmd("PING");
            match self.send(question, self.budget).await {
                Ok(_) => {
                    self.worked();
                    true
                }
                Err(trouble) => {
                    self.trip(trouble);
                    false
                }
            }
        };
        let trouble = *self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let number = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counts = &self.counts;
        json!({
            "reachable": is_reachable,
            "trouble": trouble.filter(|_| !is_reachable).map(|trouble| trouble.to_string()),
            "resting": self.breaker.is_open(self.clock.now()),
            "hits": number(&counts.hits),
            "misses": number(&counts.misses),
            "rejected": number(&counts.rejected),
            "stored": number(&counts.stored),
            "removed": number(&counts.removed),
            "failures": number(&counts.failures),
            "spared": number(&counts.spared),
        })
    }

    /// What came of it since the start: for each of these words.
    #[must_use]
    pub fn counts(&self) -> [(&'static str, u64); 5] {
        let number = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counts = &self.counts;
        [
            ("hit", number(&counts.hits)),
            ("miss", number(&counts.misses)),
            ("rejected", number(&counts.rejected)),
            ("failed", number(&counts.failures)),
            ("spared", number(&counts.spared)),
        ]
    }

    /// Whether it is left alone at the moment.
    #[must_use]
    pub fn is_resting(&self) -> bool {
        self.breaker.is_open(self.clock.now())
    }

    fn reject(&self) -> Option<Found> {
        self.worked();
        count(&self.counts.rejected);
        tracing::warn!(
            "an entry in Redis does not open and is ignored: somebody else writes there"
        );
        None
    }

    /// Sends a command whose answer tells nothing but whether it was carried out.
    async fn order(&self, order: Pipeline, done: &AtomicU64) {
        let Some(answers) = self.ask(order).await else {
            return;
        };
        match answers.into_iter().find_map(RedisResult::err) {
            None => {
                self.worked();
                count(done);
            }
            Some(error) => self.failed(error.into()),
        }
    }

    /// Asks within the budget, unless the breaker is open.
    async fn ask(&self, pipeline: Pipeline) -> Option<Vec<RedisResult<Value>>> {
        if !self.breaker.admits(self.clock.now()) {
            count(&self.counts.spared);
            return None;
        }
        match self.send(pipeline, self.budget).await {
            Ok(answers) => Some(answers),
            Err(trouble) => {
                self.failed(trouble);
                None
            }
        }
    }

    /// Sends commands in a task of their own. Who asks stops waiting when the time is over; the
    /// task goes on for a moment, so that a connection that was being made is there for the next
    /// call, and an answer that comes late is read by the one that it is for.
    async fn send(
        &self,
        pipeline: Pipeline,
        budget: Duration,
    ) -> Result<Vec<RedisResult<Value>>, RedisTrouble> {
        let pool = self.pool.clone();
        let exchange = async move {
            let mut connection = pool.get().await?;
            match pipeline.query_async(&mut *connection).await {
                Ok(answers) => Ok(answers),
                Err(error) => {
                    // Never back into the pool: what is still to come on it is anybody's guess.
                    drop(Connection::take(connection));
                    Err(RedisTrouble::from(error))
                }
            }
        };
        let exchange = tokio::spawn(timeout(GIVE_UP, exchange));
        match timeout(budget, exchange).await {
            Ok(Ok(Ok(outcome))) => outcome,
            _ => Err(RedisTrouble::Slow),
        }
    }

    fn worked(&self) {
        if self.breaker.close() {
            tracing::info!("Redis is in use again");
        }
    }

    fn failed(&self, trouble: RedisTrouble) {
        count(&self.counts.failures);
        self.trip(trouble);
    }

    fn trip(&self, trouble: RedisTrouble) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(trouble);
        if self.breaker.fail(self.clock.now()) {
            tracing::warn!(
                trouble = %trouble,
                "Redis is left alone for a while, and regions are asked instead: {trouble}"
            );
        }
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redis({:?})", self.counts)
    }
}

/// What is left of an entry's time: by the clock of the gateway that wrote it and ours, by the
/// server's count (`PTTL`: below zero is none), and never more than it had in the beginning. Each
/// of these may be off, so the shortest counts. `None` when it is over.
fn in_time(entry: Entry, server_ms: Option<i64>, now: Timestamp) -> Option<Found> {
    let keep = entry.keep();
    let by_clock = entry.asked.after(keep).since(now);
    let by_server = server_ms
        .and_then(|left| u64::try_from(left).ok())
        .map_or(Duration::MAX, Duration::from_millis);
    let left = by_clock.min(by_server).min(keep);
    (left > Duration::ZERO).then(|| Found {
        asked: now.after(left).before(keep),
        keep,
        resolved: entry.resolved,
    })
}

/// Stops the asking while a server fails. One call in each pause finds out whether it is back.
#[derive(Debug)]
struct Breaker {
    /// Open from so many failures in a row on.
    after: u32,
    pause: Duration,
    failures: AtomicU32,
    /// When it opened, or when the last probe was sent, in milliseconds since the epoch.
    since: AtomicI64,
}

impl Breaker {
    fn new(after: u32, pause: Duration) -> Self {
        Self {
            after,
            pause,
            failures: AtomicU32::new(0),
            since: AtomicI64::new(0),
        }
    }

    fn has_tripped(&self) -> bool {
        self.failures.load(Ordering::Relaxed) >= self.after
    }

    fn is_pausing(&self, since: Timestamp, now: Timestamp) -> bool {
        // A clock that was set back must not make the pause longer.
        since <= now && now < since.after(self.pause)
    }

    fn is_open(&self, now: Timestamp) -> bool {
        let since = Timestamp(self.since.load(Ordering::Relaxed));
        self.has_tripped() && self.is_pausing(since, now)
    }

    /// Whether a call may be made. Says yes to one caller only when the pause is over.
    fn admits(&self, now: Timestamp) -> bool {
        if !self.has_tripped() {
            return true;
        }
        let since = self.since.load(Ordering::Relaxed);
        !self.is_pausing(Timestamp(since), now)
            && self
                .since
                .compare_exchange(since, now.as_millis(), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// A call worked. True if it was the first after the breaker had tripped.
    fn close(&self) -> bool {
        // Most calls find nothing to change, and all threads pass here.
        self.failures.load(Ordering::Relaxed) > 0
            && self.failures.swap(0, Ordering::Relaxed) >= self.after
    }

    /// A call failed. True if that trips the breaker.
    fn fail(&self, now: Timestamp) -> bool {
        let before = self.failures.fetch_add(1, Ordering::Relaxed);
        if before.saturating_add(1) >= self.after {
            self.since.store(now.as_millis(), Ordering::Relaxed);
        }
        before.saturating_add(1) == self.after
    }
}

const UNUSABLE_URL: &str = "must be redis://[user:password@]host:port[/database], the same with \
                            rediss:// for TLS, or unix:///path";

/// Where the server is, and whom its certificate must come from.
fn server(url: &Secret, authorities: Option<&Path>) -> Result<ConnectionInfo, ConfigError> {
    let unusable = || ConfigError::invalid("redis.url", UNUSABLE_URL);
    let server = url
        .reveal()
        .into_connection_info()
        .map_err(|_| unusable())?
        .set_tcp_settings(TcpSettings::default().set_nodelay(true));
    match server.addr() {
        ConnectionAddr::TcpTls { insecure: true, .. } => Err(ConfigError::invalid(
            "redis.url",
            "must not end in #insecure: the server's certificate is always verified",
        )),
        ConnectionAddr::TcpTls { .. } => {
            // The library takes the process's provider; there is one, whichever crates bring more.
            drop(rustls::crypto::ring::default_provider().install_default());
            let certificates = TlsCertificates {
                client_tls: None,
                root_cert: Some(match authorities {
                    Some(file) => authorities_of_file(file)?,
                    None => authorities_of_system()?,
                }),
            };
            let client = Client::build_with_tls(server, certificates).map_err(|_| {
                ConfigError::invalid("redis.ca_file", "holds no certificates in PEM form")
            })?;
            Ok(client.get_connection_info().clone())
        }
        _ => match authorities {
            Some(_) => Err(ConfigError::invalid(
                "redis.ca_file",
                "is of use with a redis.url that begins with rediss:// only",
            )),
            None => Ok(server),
        },
    }
}

fn authorities_of_file(file: &Path) -> Result<Vec<u8>, ConfigError> {
    let pem = std::fs::read(file).map_err(|error| {
        ConfigError::invalid("redis.ca_file", format!("cannot be read: {error}"))
    })?;
    let has_some = pem
        .windows(PEM_BEGIN.len())
        .any(|part| part == PEM_BEGIN.as_bytes());
    match has_some {
        true => Ok(pem),
        false => Err(ConfigError::invalid(
            "redis.ca_file",
            "holds no certificates in PEM form",
        )),
    }
}

const PEM_BEGIN: &str = "-----BEGIN CERTIFICATE-----";

/// The system's authorities, read once: the library would read them for each connection, and
/// refuse all for one that it cannot use.
fn authorities_of_system() -> Result<Vec<u8>, ConfigError> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs().certs;
    let usable = found
        .into_iter()
        .filter(|certificate| roots.add(certificate.clone()).is_ok())
        .map(|certificate| {
            let text = BASE64_STANDARD.encode(&certificate);
            format!("{PEM_BEGIN}\n{text}\n-----END CERTIFICATE-----\n")
        })
        .collect::<String>();
    match usable.is_empty() {
        false => Ok(usable.into_bytes()),
        true => Err(ConfigError::invalid(
            "redis.ca_file",
            "is not set, and the system knows no certificate authorities: name a file with that \
             of the server's certificate",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolver::sealed::tests::entry;

    #[test]
    fn an_entry_is_kept_for_the_shortest_of_its_times() {
        let ends = |asked, server_ms, now| {
            let found = in_time(entry(asked, 300, "a.grant"), server_ms, Timestamp(now))?;
            Some(found.asked.after(found.keep).as_millis())
        };
        // By the clocks, by the server, by neither more than the whole.
        assert_eq!(ends(1_000, Some(250), 1_100), Some(1_300));
        assert_eq!(ends(1_000, Some(50), 1_100), Some(1_150));
        assert_eq!(ends(1_000, None, 1_100), Some(1_300));
        // Without an end at the server, or gone in between.
        assert_eq!(ends(1_000, Some(-1), 1_100), Some(1_300));
        assert_eq!(ends(1_000, Some(-2), 1_100), Some(1_300));
        // The writer's clock is ahead by an hour.
        assert_eq!(ends(3_601_000, Some(200), 1_100), Some(1_300));
        assert_eq!(ends(3_601_000, None, 1_100), Some(1_400));
        assert_eq!(ends(1_000, Some(500), 1_300), None);
        assert_eq!(ends(1_000, Some(0), 1_100), None);
    }

    #[test]
    fn the_breaker_opens_probes_once_and_closes() {
        let breaker = Breaker::new(3, Duration::from_millis(100));
        let at = |millis: i64| Timestamp(1_000 + millis);
        assert!(!breaker.fail(at(0)) && !breaker.fail(at(0)));
        assert!(breaker.admits(at(0)) && !breaker.is_open(at(0)));
        assert!(breaker.fail(at(0)), "the third trips it");
        assert!(breaker.is_open(at(0)));
        assert!(!breaker.admits(at(99)));
        assert!(breaker.admits(at(100)), "a probe");
        assert!(!breaker.admits(at(100)), "and not another one");
        assert!(!breaker.fail(at(120)), "said once");
        assert!(!breaker.admits(at(219)));
        assert!(breaker.admits(at(220)));
        assert!(breaker.close(), "said once");
        assert!(!breaker.close());
        assert!(breaker.admits(at(221)) && breaker.admits(at(221)));
    }

    #[test]
    fn a_success_begins_the_count_anew_and_a_clock_set_back_opens_nothing_for_long() {
        let breaker = Breaker::new(2, Duration::from_millis(100));
        assert!(!breaker.fail(Timestamp(9_000)));
        assert!(!breaker.close());
        assert!(!breaker.fail(Timestamp(9_000)));
        assert!(breaker.fail(Timestamp(9_000)));
        assert!(!breaker.admits(Timestamp(9_050)));
        assert!(breaker.admits(Timestamp(5_000)));
    }

    fn settings(url: &str) -> RedisSettings {
        let mut settings = crate::config::Settings::defaults().unwrap().redis;
        settings.url = Some(Secret::new(url));
        settings
    }

    #[test]
    fn a_url_is_checked_at_the_start_and_shown_nowhere() {
        let clock = Arc::new(shared::SystemClock);
        for good in [
            "redis://127.0.0.1",
            "redis://:a-password@127.0.0.1:6380/2",
            "rediss://user:a-password@redis.example:6380",
            "unix:///run/redis.sock",
        ] {
            let built = Redis::build(&settings(good), clock.clone()).unwrap();
            let shown = format!("{:?} {:?}", built.unwrap(), settings(good));
            assert!(!shown.contains("a-password"), "{shown}");
        }
        for bad in [
            "",
            "127.0.0.1:6379",
            "http://:a-password@127.0.0.1",
            "rediss://:a-password@redis.example#insecure",
            "redis://:a-password@",
        ] {
            let error = Redis::build(&settings(bad), clock.clone()).unwrap_err();
            let message = error.to_string();
            assert!(message.contains("`redis.url`"), "{bad}: {message}");
            assert!(!message.contains("a-password"), "{message}");
        }
        for (url, file) in [
            ("rediss://a", "/nonexistent"),
            ("rediss://a", "/proc/self/comm"),
            ("redis://a", "/proc/self/comm"),
        ] {
            let mut settings = settings(url);
            settings.ca_file = Some(file.into());
            let message = Redis::build(&settings, clock.clone())
                .unwrap_err()
                .to_string();
            assert!(message.contains("`redis.ca_file`"), "{message}");
        }
    }
}
