//! [`ProvisioningClient`]: who is calling, once host and token have been resolved to one.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use reqwest::header::HeaderValue;
use shared::link::{Refusal, Resolved, TenantLimits};
use shared::{ApiToken, Networks, Scope, TenantId, Timestamp, TokenDigest, TokenId};

use crate::error::Error;
use crate::host::ServedHost;
use crate::limits::{HasGate, TenantGate, TenantPass, Tenants, TooMany};
use crate::region::Region;
use crate::resolver::{BadToken, ResolveError, Resolver};
use crate::routes::Base;

/// A caller whose token its region called live.
pub struct ProvisioningClient {
    /// The region, which is the home of the tenant.
    pub region: Arc<Region>,
    /// Whose users are provisioned.
    pub tenant_id: TenantId,
    /// With which of the tenant's tokens.
    pub token_id: TokenId,
    /// What the token may be used for.
    pub scope: Scope,
    /// How much the tenant may ask for.
    pub limits: TenantLimits,
    /// Lets the tenant's requests in, within those limits.
    pub gate: Arc<TenantGate>,
    /// Whether it is an access token, which makes no other.
    pub is_access_token: bool,
    /// From where the token may be used.
    pub networks: Networks,
    /// The token's digest, under which its region and our memory know it.
    pub digest: TokenDigest,
    /// `Bearer <grant>`, which takes the token's place.
    pub authorization: HeaderValue,
    /// No second refresh of what is known before this, in milliseconds since the epoch.
    next_refresh: AtomicI64,
}

/// A request of a client, under way, is one of its tenant.
pub type ClientPass = TenantPass<Arc<ProvisioningClient>>;

/// A client is at hand for each request, so its tenant's gate need not be held besides.
impl HasGate for Arc<ProvisioningClient> {
    fn gate(&self) -> &TenantGate {
        &self.gate
    }
}

impl ProvisioningClient {
    /// Admits one request of the client's tenant.
    ///
    /// # Errors
    /// As [`TenantGate::admit`].
    pub fn admit(self: &Arc<Self>, now: Timestamp) -> Result<ClientPass, TooMany> {
        TenantGate::admit(Arc::clone(self), self.limits, now)
    }

    /// Puts a region's answer together; `None` when its grant cannot travel in a header.
    #[must_use]
    pub fn new(
        region: &Arc<Region>,
        digest: TokenDigest,
        resolved: Resolved,
        tenants: &Tenants,
    ) -> Option<Self> {
        let bearer = format!("Bearer {}", resolved.grant.as_compact());
        let mut authorization = HeaderValue::from_str(&bearer).ok()?;
        authorization.set_sensitive(true);
        Some(Self {
            region: Arc::clone(region),
            gate: tenants.gate(&resolved.tenant_id),
            tenant_id: resolved.tenant_id,
            token_id: resolved.token_id,
            scope: resolved.scope,
            limits: resolved.limits,
            is_access_token: resolved.is_access_token,
            networks: resolved.networks,
            digest,
            authorization,
            next_refresh: AtomicI64::new(0),
        })
    }

    /// Whether the caller should ask its region about it again, and no other caller for `pause`.
    #[must_use]
    pub fn claim_refresh(&self, now: Timestamp, pause: Duration) -> bool {
        let next = self.next_refresh.load(Ordering::Relaxed);
        let then = now.after(pause).as_millis();
        let claim = || {
            self.next_refresh
                .compare_exchange(next, then, Ordering::Relaxed, Ordering::Relaxed)
        };
        now.as_millis() >= next && claim().is_ok()
    }

    /// Refuses an address from which the token may not be used.
    ///
    /// # Errors
    /// [`Error::Network`].
    pub fn check_source(&self, source: IpAddr) -> Result<(), Error> {
        match self.networks.allow(source) {
            true => Ok(()),
            false => Err(Error::Network { address: source }),
        }
    }

    /// About how many bytes this holds in memory.
    #[must_use]
    pub fn weight(&self) -> u32 {
        const BESIDE_THE_GRANT: usize = 512;
        let networks = size_of_val(self.networks.as_slice());
        let weight = self.authorization.len() + networks + BESIDE_THE_GRANT;
        u32::try_from(weight).unwrap_or(u32::MAX)
    }
}

impl fmt::Debug for ProvisioningClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ProvisioningClient({}, {})",
            self.tenant_id, self.token_id
        )
    }
}

/// Who is calling? As [`resolve_at`], and asks for the scope that the base path needs.
///
/// # Errors
/// [`Error::WrongRegion`], [`Error::Resolve`] or [`Error::Scope`].
pub async fn identify(
    resolver: &Arc<Resolver>,
    regions: &[Arc<Region>],
    host: &ServedHost,
    base: Base,
    token: &ApiToken,
    source: IpAddr,
) -> Result<Arc<ProvisioningClient>, Error> {
    let client = resolve_at(resolver, regions, host, base.suffix(), token, source).await?;
    if client.scope == base.scope() {
        Ok(client)
    } else {
        Err(Error::Scope {
            needed: base.scope(),
        })
    }
}

/// Whose token is this, at this host? Applies the region rule and resolves the token. `suffix` is
/// what stands behind a base URL that a client is told.
///
/// # Errors
/// [`Error::WrongRegion`] or [`Error::Resolve`].
pub async fn resolve_at(
    resolver: &Arc<Resolver>,
    regions: &[Arc<Region>],
    host: &ServedHost,
    suffix: &str,
    token: &ApiToken,
    source: IpAddr,
) -> Result<Arc<ProvisioningClient>, Error> {
    if *token.region() != host.region.id {
        // A tenant's own hostname tells others nothing: every token that is not the tenant's is
        // unknown there.
        let home = match host.tenant {
            Some(_) => None,
            None => regions.iter().find(|region| region.id == *token.region()),
        };
        let right_base = match home {
            Some(home) => is_genuine(resolver, home, token, source)
                .await
                .then(|| format!("{}{suffix}", home.base_url)),
            None => None,
        };
        return Err(Error::WrongRegion {
            host: host.region.id.clone(),
            right_base,
        });
    }
    let resolved = resolver.resolve(&host.region, token, source).await;
    let Some(tenant) = &host.tenant else {
        return Ok(resolved?);
    };
    match resolved {
        Ok(client) if client.tenant_id != *tenant => {
            Err(ResolveError::Refused(BadToken::UNKNOWN).into())
        }
        Err(ResolveError::Refused(bad)) => Err(ResolveError::Refused(bad.told_at(tenant)).into()),
        resolved => Ok(resolved?),
    }
}

/// Whether the home region confirms a token that may be used from the source. When it cannot be asked, nobody is told anything:
/// that the token is of no use at this host is certain all the same.
async fn is_genuine(
    resolver: &Arc<Resolver>,
    home: &Arc<Region>,
    token: &ApiToken,
    source: IpAddr,
) -> bool {
    match resolver.resolve(home, token, source).await {
        Ok(client) => client.networks.allow(source),
        Err(ResolveError::Refused(bad)) => match bad.reason {
            Refusal::TenantSuspended => true,
            Refusal::Unknown | Refusal::Expired | Refusal::Revoked => false,
        },
        Err(_) => false,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use shared::{Grant, RegionId, Timestamp};
    use tokio::sync::Semaphore;

    use super::*;
    use crate::limits::{BodyMemory, Bucket, Rate, Tenants};
    use crate::link::RegionLink;
    use crate::region::{LookupCounts, LookupLimits};
    use crate::turns::Turns;

    /// Some client of some region, for tests of what is kept.
    pub(crate) fn client() -> Arc<ProvisioningClient> {
        client_with(|_| {})
    }

    pub(crate) fn client_with(change: impl FnOnce(&mut Resolved)) -> Arc<ProvisioningClient> {
        let id = RegionId::parse("us").unwrap();
        let digest = ApiToken::generate(&id).unwrap().digest();
        let key = HeaderValue::from_static("a link key");
        let link = RegionLink::new(
            Vec::new(),
            key,
            Duration::ZERO,
            (Duration::ZERO, Duration::ZERO),
            crate::link::tests::looks(),
        );
        let region = Arc::new(Region {
            id,
            base_url: "http://global-us.localhost/api/v1/scim".to_owned(),
            link,
            lookups: LookupLimits {
                rate: Rate { per_s: 1, burst: 1 },
                bucket: Bucket::default(),
                strangers: Arc::new(Semaphore::new(1)),
                known: Arc::new(Semaphore::new(1)),
                issuing: Arc::new(Semaphore::new(1)),
                issuing_of_tenant: 1,
            },
            body_memory: BodyMemory::new(1),
            turns: Turns::new(1, 0, Duration::ZERO),
            counts: LookupCounts::default(),
        });
        let tenant_id = TenantId::generate().unwrap();
        let mut resolved = Resolved {
            grant: Grant::from_compact(format!("a.grant.text.{tenant_id}")),
            grant_expires: Timestamp(0),
            tenant_id,
            token_id: TokenId::generate().unwrap(),
            scope: Scope::Scim,
            limits: TenantLimits::default(),
            keep_s: 1,
            is_access_token: false,
            networks: Networks::default(),
        };
        change(&mut resolved);
        Arc::new(ProvisioningClient::new(&region, digest, resolved, &Tenants::new(1)).unwrap())
    }

    #[test]
    fn debug_shows_no_grant() {
        let client = client();
        let shown = format!("{client:?} {:?}", client.authorization);
        assert!(!shown.contains("a.grant.text"), "{shown}");
    }
}
