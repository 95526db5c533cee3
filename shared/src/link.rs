//! The contract between gateway and region-node: header names, paths, the resolve question and
//! its answer. Changing anything here changes both programs.

use serde::{Deserialize, Serialize};

use crate::api_token::{Scope, TokenDigest, TokenId};
use crate::clock::Timestamp;
use crate::grant::Grant;
use crate::network::Networks;
use crate::region::RegionId;
use crate::tenant::TenantId;

/// Header that proves that the caller is a gateway of this region: the link key.
pub const LINK_KEY: &str = "x-meridian-link-key";
/// Header that proves that the caller is the region's operator: the operator key.
pub const OPERATOR_KEY: &str = "x-meridian-operator-key";
/// Header with the request's id, echoed by the node and compared by the gateway, so that an
/// answer can never reach the wrong client.
pub const REQUEST_ID: &str = "x-request-id";
/// Header with the public base URL of the call (`https://global-us.<domain>/api/v1/scim`), from
/// which the node makes `meta.location` and `$ref`.
pub const BASE_URL: &str = "x-meridian-base-url";
/// Header with the milliseconds that are left for the call.
pub const DEADLINE_MS: &str = "x-meridian-deadline-ms";
/// Header with the key under which the outcome of a write is kept: 32 hexadecimal digits that the
/// gateway makes for one call, of which the first 12 are milliseconds since the epoch, or 64 that
/// stand for the client's own `Idempotency-Key`.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Header that says that this call was sent before, under the same key, and no answer came.
pub const RESENT: &str = "x-meridian-resent";
/// Header with the digest of the access token that is the session of a call to the console: 64
/// hexadecimal digits. What a form of that session must prove to know is made from it, and by it
/// the session is ended.
pub const SESSION: &str = "x-meridian-session";
/// Header of an answer: the node refused the call for a reason that the gateway must act upon.
pub const REFUSED: &str = "x-meridian-refused";
/// Value of [`REFUSED`]: the grant is not good (any more). The gateway drops its entry, resolves
/// again and, if the token is still good, sends again.
pub const REFUSED_GRANT: &str = "grant";

/// Header of an answer to a look at a node's health: it is about to stop, and new work should go to
/// another node.
pub const STOPPING: &str = "x-meridian-stopping";

/// Path of the call by which a gateway looks whether a node is well: 200, or 503 with
/// [`STOPPING`].
pub const HEALTH_PATH: &str = "/internal/v1/health";
/// Path of the resolve call.
pub const RESOLVE_PATH: &str = "/internal/v1/resolve";
/// Path of the call that stores an access token.
pub const ACCESS_TOKENS_PATH: &str = "/internal/v1/access-tokens";
/// Path of the call by which a gateway tells a region what it refused with the region's tokens.
pub const NOTICES_PATH: &str = "/internal/v1/notices";
/// Most notices of one call.
pub const MAX_NOTICES: usize = 100;
/// Prefix of the operator's calls.
pub const OPERATOR_PATH: &str = "/internal/v1/operator";
/// Prefix under which a node serves SCIM 2.0.
pub const SCIM_PATH: &str = "/scim/v2";
/// Prefix under which a node serves SCIM 1.1.
pub const SCIM11_PATH: &str = "/scim/v1";

/// Prefix under which a node serves the tenant admin's API.
pub const ADMIN_PATH: &str = "/admin/v1";

/// Prefix of the console's pages, at a node as in public.
pub const CONSOLE_PATH: &str = "/console";
/// Where a browser without a session is sent. The gateway answers there itself.
pub const CONSOLE_SIGN_IN_PATH: &str = "/console/sign-in";
/// What stands for that path in logs, metrics and notices.
pub const SIGN_IN_ROUTE: &str = "console/sign-in";
/// The page that ends a session. The gateway takes the cookie back when the node has.
pub const CONSOLE_SIGN_OUT_PATH: &str = "/console/sign-out";

/// Public base path of SCIM 2.0, as pasted into an identity provider.
pub const PUBLIC_SCIM_PATH: &str = "/api/v1/scim";

/// Largest body of an ordinary call, in bytes.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;
/// Largest body of a group replace, in bytes.
pub const MAX_GROUP_REPLACE_BYTES: usize = 16 * 1024 * 1024;

/// `POST /internal/v1/resolve`: whose token is this?
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResolveRequest {
    /// SHA-256 of the token.
    pub digest: TokenDigest,
}

/// The region's answer, always with HTTP status 200. Any other status means that the region does
/// not know at the moment, never that the token is bad.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum ResolveAnswer {
    /// The token is live.
    Granted(Resolved),
    /// It is not.
    Refused {
        /// Why.
        reason: Refusal,
        /// Whose it is, where the region knows it. A hostname of one tenant says nothing about
        /// the tokens of others.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tenant_id: Option<TenantId>,
    },
}

/// A live token.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Resolved {
    /// What to send in the token's place.
    pub grant: Grant,
    /// When the grant ends.
    pub grant_expires: Timestamp,
    /// Whose it is.
    pub tenant_id: TenantId,
    /// Which of the tenant's tokens it is.
    pub token_id: TokenId,
    /// What it may be used for.
    pub scope: Scope,
    /// The tenant's limits.
    pub limits: TenantLimits,
    /// How long a gateway may keep this answer, in seconds; never beyond the grant's end.
    pub keep_s: u32,
    /// Whether it is an access token that was made from an API token. `token_id` is the API
    /// token's. An access token makes no other.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_access_token: bool,
    /// From where it may be used. The gateway sees to it: a node sees gateways only.
    #[serde(default, skip_serializing_if = "Networks::is_empty")]
    pub networks: Networks,
}

/// `POST /internal/v1/access-tokens`: stores an access token that a gateway made for the holder of
/// an API token (RFC 6749 section 4.4). The gateway makes the secret and the region sees its digest
/// only, so that the same request can be sent twice and stores one access token.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessTokenRequest {
    /// SHA-256 of the API token.
    pub digest: TokenDigest,
    /// The API token's id, as the client said it.
    pub token_id: TokenId,
    /// SHA-256 of the access token.
    pub access_digest: TokenDigest,
    /// Whether it is the session of an administrator who signs in to the console.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_sign_in: bool,
}

/// The region's answer, always with HTTP status 200; any other status as for [`ResolveAnswer`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum AccessTokenAnswer {
    /// The access token is good from now on.
    Issued {
        /// Whole seconds that it lives.
        expires_in_s: u32,
    },
    /// The API token is not good, or has another id, or is an access token itself.
    Refused {
        /// Why.
        reason: Refusal,
    },
}

/// `POST /internal/v1/notices`: what a gateway refused, for the tenants to whom the tokens belong. The
/// region looks the tokens up: what was never one of its own is passed over. Nothing here is
/// personal.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoticesRequest {
    /// At most [`MAX_NOTICES`].
    pub notices: Vec<Notice>,
}

/// Some equal refusals.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notice {
    /// SHA-256 of the token.
    pub digest: TokenDigest,
    /// Why.
    pub kind: NoticeKind,
    /// The region whose host was asked.
    pub region: RegionId,
    /// The method; one that HTTP does not define is `other`.
    pub method: String,
    /// The template of the route, or `none`.
    pub route: String,
    /// The id of the last one.
    pub request_id: String,
    /// When the last one was.
    pub at: Timestamp,
    /// How many.
    pub times: u32,
}

impl Notice {
    /// Whether somebody wanted to sign in to the console.
    #[must_use]
    pub fn is_sign_in(&self) -> bool {
        self.route == SIGN_IN_ROUTE
    }
}

/// Why a gateway refused a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeKind {
    /// The token is of another region than the host.
    WrongRegion,
    /// The token's time is over.
    Expired,
    /// The token was revoked.
    Revoked,
    /// The tenant is suspended.
    Suspended,
    /// There is no such endpoint.
    UnknownPath,
    /// The endpoint is one of SCIM 1.1, below the base URL of SCIM 2.0.
    Scim11Path,
    /// The endpoint does not have the method.
    Method,
    /// A token of the scope `admin` where one of the scope `scim` is needed.
    AdminToken,
    /// The other way round.
    ScimToken,
    /// The tenant asks for too much.
    TooMany,
    /// The token may not be used from the address.
    Network,
    /// The body is compressed.
    BodyEncoding,
    /// The body is too large.
    BodyTooLarge,
    /// `client_id` is not the id of the API token that is the secret.
    ClientId,
    /// One of a newer gateway.
    #[serde(other)]
    Other,
}

/// The region's answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NoticesAnswer {
    /// How many of the notices were of tokens of the region.
    pub taken: usize,
}

/// Why a token is not good. All four are positive knowledge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The region never issued it, or its tenant is gone.
    Unknown,
    /// Its time is over.
    Expired,
    /// It was revoked.
    Revoked,
    /// It is good, but its tenant is suspended.
    TenantSuspended,
}

/// How much a tenant may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantLimits {
    /// Requests per second that are sustained.
    pub requests_per_s: u32,
    /// Requests that may come at once after a pause.
    pub burst: u32,
    /// Requests under way at the same time.
    pub in_flight: u32,
}

impl Default for TenantLimits {
    /// DESIGN section 5: 100 requests/s with a burst of 500.
    fn default() -> Self {
        Self {
            requests_per_s: 100,
            burst: 500,
            in_flight: 100,
        }
    }
}
