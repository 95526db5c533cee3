//! The API tokens, and what the region says about each. All of it follows from the token's digest,
//! so that the far end knows every token and the peers' maps hold the same.

use std::time::Duration;

use shared::link::{Resolved, TenantLimits};
use shared::{
    ApiToken, Clock as _, Grant, RegionId, Scope, SystemClock, TenantId, TokenDigest, TokenId,
};

/// For how long an answer holds: longer than a run, so that no round pays for look-ups.
pub(crate) const KEEP: Duration = Duration::from_secs(3600);
/// Nothing in a run comes near it.
pub(crate) const ENOUGH: u32 = 1_000_000_000;

/// Makes so many tokens.
pub(crate) fn generate(region: &RegionId, count: usize) -> Vec<ApiToken> {
    let tokens = (0..count).map(|_| ApiToken::generate(region));
    tokens
        .collect::<Result<_, _>>()
        .expect("the system gives random bytes")
}

/// The region's answer about a token.
pub(crate) fn resolved(digest: TokenDigest) -> Resolved {
    let hex = String::from(digest);
    Resolved {
        grant: Grant::from_compact(grant(&hex)),
        grant_expires: SystemClock.now().after(KEEP),
        tenant_id: TenantId::parse(&format!("ten_{}", &hex[..22])).expect("22 digits"),
        token_id: TokenId::parse(&format!("tok_{}", &hex[22..44])).expect("22 digits"),
        scope: Scope::Scim,
        limits: TenantLimits {
            requests_per_s: ENOUGH,
            burst: ENOUGH,
            in_flight: ENOUGH,
        },
        keep_s: KEEP.as_secs() as u32,
        is_access_token: false,
        networks: shared::Networks::default(),
    }
}

/// Looks like a JSON Web Token (RFC 7519) with the claims of a grant: 301 characters.
fn grant(hex: &str) -> String {
    let claims = hex.repeat(4);
    format!(
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.{}.{}",
        &claims[..219],
        &hex[..43]
    )
}
