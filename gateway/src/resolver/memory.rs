//! What the gateway remembers of tokens: live ones with their grants, and bad ones for a moment.
//!
//! Two caches, so that a flood of bad tokens cannot evict a live one. Both are bounded. Times are
//! checked against the clock that is handed in. Live tokens are looked up by every request, so they
//! are in a cache that notes a use by one bit and does its housekeeping when something is kept: those
//! that are not used give way to others.

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use quick_cache::Weighter;
use quick_cache::sync::{Cache as LiveCache, DefaultLifecycle};
use shared::link::Refusal;
use shared::{RegionId, Timestamp, TokenDigest};

use crate::config::CacheSettings;
use crate::provisioning_client::ProvisioningClient;
use crate::resolver::BadToken;

/// How long a tenant's suspension is remembered.
const SUSPENDED_FOR: Duration = Duration::from_secs(1);

/// A token at a region. The region stands in the key, so that no entry of one region is ever
/// found for another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The region that was asked.
    pub region: RegionId,
    /// The token.
    pub digest: TokenDigest,
}

/// A token that its region called live. Lies within the cache: the way to a client is one step.
#[derive(Clone, Debug)]
pub struct Live {
    /// Whose it is, and the grant.
    pub client: Arc<ProvisioningClient>,
    keep_until: Timestamp,
    refresh_from: Timestamp,
    /// Until when it is worth remembering that the token was live.
    formerly_until: Timestamp,
}

/// What the memory says about a token.
#[derive(Debug)]
pub enum Known {
    /// It is live.
    Live(Live),
    /// It was live; what we knew is too old.
    Formerly,
    /// It is bad.
    Refused(BadToken),
    /// Nothing.
    Nothing,
}

/// The two caches.
#[derive(Debug)]
pub struct Memory {
    live: LiveCache<Key, Live, Weight, BuildHasherDefault<DigestHash>>,
    refused: Cache<Key, (BadToken, Timestamp)>,
    keep_max: Duration,
    refused_for: Duration,
}

/// After a refresh was started, the next one waits so long: a region that does not answer is not
/// asked again by every request.
const REFRESH_PAUSE: Duration = Duration::from_secs(2);

impl Live {
    /// An answer that was asked for at `asked` and may be kept for `keep`.
    ///
    /// It is refreshed in its last part, between 60 and 80 % of its time; where exactly depends
    /// on the token, so that tokens which came together part ways.
    #[must_use]
    pub fn new(
        client: Arc<ProvisioningClient>,
        key: &Key,
        asked: Timestamp,
        keep: Duration,
    ) -> Self {
        let spread = key.digest.as_bytes().first().copied().unwrap_or(0);
        let share = 0.6 + 0.2 * f64::from(spread) / 255.0;
        Self {
            keep_until: asked.after(keep),
            refresh_from: asked.after(keep.mul_f64(share)),
            formerly_until: asked.after(client.remembered_for()),
            client,
        }
    }

    /// Whether the caller should refresh this entry. Says yes to one caller at a time.
    #[must_use]
    pub fn claim_refresh(&self, now: Timestamp) -> bool {
        now >= self.refresh_from && self.client.claim_refresh(now, REFRESH_PAUSE)
    }
}

/// No access token lives longer, and its client asks for a new one: what is dead takes no room from
/// tokens in use.
const ACCESS_TOKEN_REMEMBERED: Duration = Duration::from_secs(3600);

impl ProvisioningClient {
    /// For how long after its token was asked about it is of use.
    fn remembered_for(&self) -> Duration {
        match self.is_access_token {
            true => ACCESS_TOKEN_REMEMBERED,
            false => Duration::MAX,
        }
    }
}

/// What an entry takes of the memory.
#[derive(Clone, Debug)]
struct Weight;

impl Weighter<Key, Live> for Weight {
    fn weight(&self, _: &Key, live: &Live) -> u64 {
        u64::from(live.client.weight())
    }
}

/// A digest is as good as random already.
#[derive(Clone, Debug, Default)]
struct DigestHash(u64);

impl Hasher for DigestHash {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut eight = [0; 8];
            for (to, from) in eight.iter_mut().zip(part) {
                *to = *from;
            }
            self.0 = self.0.rotate_left(5) ^ u64::from_le_bytes(eight);
        }
    }
}

impl Memory {
    /// Empty caches.
    #[must_use]
    pub fn new(settings: &CacheSettings) -> Self {
        let room = u64::from(settings.live_mib) * 1024 * 1024;
        let usual_weight = 1024;
        let live = LiveCache::with(
            usize::try_from(room / usual_weight).unwrap_or(usize::MAX),
            room,
            Weight,
            BuildHasherDefault::default(),
            DefaultLifecycle::default(),
        );
        let refused_for = Duration::from_secs(settings.refused_s.into());
        let refused = Cache::builder()
            .max_capacity(settings.refused_entries)
            .time_to_live(refused_for)
            .build();
        Self {
            live,
            refused,
            keep_max: Duration::from_secs(settings.keep_max_s.into()),
            refused_for,
        }
    }

    /// What is known about a token.
    #[must_use]
    pub fn get(&self, key: &Key, now: Timestamp) -> Known {
        let formerly = match self.live.get(key) {
            Some(live) if now < live.keep_until => return Known::Live(live),
            found => found.is_some_and(|live| now < live.formerly_until),
        };
        match self.refused.get(key) {
            Some((bad, until)) if now < until => Known::Refused(bad),
            _ if formerly => Known::Formerly,
            _ => Known::Nothing,
        }
    }

    /// Keeps a live token, for as long as its region allows and the settings do.
    pub fn keep(&self, key: &Key, live: Live) {
        self.refused.invalidate(key);
        self.live.insert(key.clone(), live);
    }

    /// Longest time that an answer may be kept.
    #[must_use]
    pub fn keep_at_most(&self, keep: Duration) -> Duration {
        keep.min(self.keep_max)
    }

    /// Remembers for a moment that a token is bad. That its tenant is suspended is remembered for
    /// a second only: the token is good, and works again soon after the operator's next command.
    pub fn refuse(&self, key: &Key, bad: BadToken, now: Timestamp) {
        self.live.remove(key);
        let refused_for = match bad.reason {
            Refusal::TenantSuspended => self.refused_for.min(SUSPENDED_FOR),
            Refusal::Unknown | Refusal::Expired | Refusal::Revoked => self.refused_for,
        };
        let until = now.after(refused_for);
        self.refused.insert(key.clone(), (bad, until));
    }

    /// Forgets a live token, if its grant is still the one that is meant: another request may
    /// have resolved it anew in the meantime.
    pub fn forget(&self, key: &Key, stale: &ProvisioningClient) {
        let is_meant = self
            .live
            .get(key)
            .is_some_and(|live| live.client.authorization == stale.authorization);
        if is_meant {
            self.live.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;
    use crate::provisioning_client::tests::{client, client_with};

    fn memory() -> Memory {
        Memory::new(&Settings::defaults().unwrap().cache)
    }

    fn key(region: &str) -> Key {
        let region = RegionId::parse(region).unwrap();
        let digest = shared::ApiToken::generate(&region).unwrap().digest();
        Key { region, digest }
    }

    #[test]
    fn an_entry_ends_and_is_remembered_as_formerly_live() {
        let (memory, key) = (memory(), key("us"));
        let start = Timestamp(1_000_000);
        let live = Live::new(client(), &key, start, Duration::from_secs(100));
        memory.keep(&key, live);
        let last = start.after(Duration::from_millis(99_999));
        assert!(matches!(memory.get(&key, last), Known::Live(_)));
        let end = start.after(Duration::from_secs(100));
        assert!(matches!(memory.get(&key, end), Known::Formerly));
    }

    #[test]
    fn an_access_token_is_remembered_for_an_hour_only() {
        let (memory, key) = (memory(), key("us"));
        let start = Timestamp(1_000_000);
        let (hour, keep) = (Duration::from_secs(3600), Duration::from_secs(300));
        for is_access_token in [true, false] {
            let client = client_with(|resolved| resolved.is_access_token = is_access_token);
            let live = Live::new(client, &key, start, keep);
            memory.keep(&key, live);
            let last = start.after(hour - Duration::from_millis(1));
            assert!(matches!(memory.get(&key, last), Known::Formerly));
            let over = memory.get(&key, start.after(hour));
            assert_eq!(matches!(over, Known::Nothing), is_access_token);
        }
    }

    #[test]
    fn an_entry_of_one_region_is_not_found_for_another() {
        let (memory, us) = (memory(), key("us"));
        let start = Timestamp(0);
        memory.keep(&us, Live::new(client(), &us, start, Duration::from_secs(9)));
        let de = Key {
            region: RegionId::parse("de").unwrap(),
            ..us
        };
        assert!(matches!(memory.get(&de, start), Known::Nothing));
    }

    fn revoked() -> BadToken {
        BadToken {
            reason: Refusal::Revoked,
            tenant_id: None,
        }
    }

    #[test]
    fn a_bad_token_is_remembered_for_its_moment_only() {
        let (memory, key) = (memory(), key("us"));
        let start = Timestamp(0);
        memory.refuse(&key, revoked(), start);
        let within = start.after(Duration::from_millis(4_999));
        assert!(matches!(
            memory.get(&key, within),
            Known::Refused(bad) if bad == revoked()
        ));
        let after = start.after(Duration::from_secs(5));
        assert!(matches!(memory.get(&key, after), Known::Nothing));
    }

    #[test]
    fn the_last_verdict_wins() {
        let (memory, key) = (memory(), key("us"));
        let start = Timestamp(0);
        let live = || Live::new(client(), &key, start, Duration::from_secs(9));
        memory.keep(&key, live());
        memory.refuse(&key, revoked(), start);
        assert!(matches!(memory.get(&key, start), Known::Refused(_)));
        memory.keep(&key, live());
        assert!(matches!(memory.get(&key, start), Known::Live(_)));
    }

    #[test]
    fn only_the_entry_that_is_meant_is_forgotten() {
        let (memory, key) = (memory(), key("us"));
        let start = Timestamp(0);
        let (old, new) = (client(), client());
        let live = Live::new(Arc::clone(&new), &key, start, Duration::from_secs(9));
        memory.keep(&key, live);
        memory.forget(&key, &old);
        assert!(matches!(memory.get(&key, start), Known::Live(_)));
        memory.forget(&key, &new);
        assert!(matches!(memory.get(&key, start), Known::Nothing));
    }

    #[test]
    fn a_refresh_falls_in_the_last_part_and_to_one_caller() {
        let key = key("us");
        let start = Timestamp(0);
        let live = Live::new(client(), &key, start, Duration::from_secs(100));
        assert!(!live.claim_refresh(start.after(Duration::from_secs(59))));
        let late = start.after(Duration::from_secs(81));
        assert!(live.claim_refresh(late));
        assert!(!live.claim_refresh(late));
        assert!(live.claim_refresh(late.after(REFRESH_PAUSE)));
    }
}
