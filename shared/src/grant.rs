//! [`Grant`]: the short-lived signed capability by which a region-node recognises its own
//! earlier answer about a token.
//!
//! The region-node mints and verifies; the gateway only carries. So the claims are spelled here
//! and the keys are known to the region-node alone (DESIGN section 4).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::api_token::{Scope, TokenId};
use crate::region::RegionId;
use crate::scim_error::Dialect;
use crate::tenant::TenantId;

/// A grant in its compact form, as it travels in `Authorization: Bearer`. `Debug` hides it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Grant(String);

impl Grant {
    /// Wraps the compact form.
    #[must_use]
    pub fn from_compact(text: String) -> Self {
        Self(text)
    }

    /// The compact form, for the header that carries it.
    #[must_use]
    pub fn as_compact(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Grant(…)")
    }
}

/// What a grant says. Every claim is required.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantClaims {
    /// The region that minted it.
    pub iss: RegionId,
    /// The region that it is for: the same one.
    pub aud: RegionId,
    /// The token that was resolved.
    pub sub: TokenId,
    /// The tenant.
    pub tid: TenantId,
    /// The tenant's credential version at the time of minting. It moves when anything that a
    /// grant rests on changes (a token revoked, the tenant suspended, settings), and the store
    /// refuses a grant that carries another one: that is what makes a revocation immediate.
    pub cvr: i64,
    /// What the token may be used for.
    pub scp: Scope,
    /// What the token's client speaks where neither path nor body says: a GET carries no hint.
    pub dia: Dialect,
    /// Minted at, seconds since the epoch.
    pub iat: i64,
    /// Ends at, seconds since the epoch.
    pub exp: i64,
}
