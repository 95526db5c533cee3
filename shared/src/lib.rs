//! The words that the gateway and the region-node share.
//!
//! Here live the types that cross the link between the two programs, and the vocabulary of the
//! protocol that both must spell alike: regions, tenants, API tokens, networks, grants, the resolve
//! contract, SCIM error bodies, URNs and media types; the log that both write alike, the
//! certificate and settings files that both read alike, and their command line. What never lives here: any other I/O, a web framework,
//! SQL, or anything that only one of the two programs needs.

pub mod api_token;
pub mod clock;
pub mod file_watch;
pub mod grant;
pub mod link;
pub mod log;
pub mod network;
pub mod program;
pub mod region;
pub mod scim_error;
pub mod secret;
pub mod settings;
mod short;
pub mod tenant;
pub mod tls;
pub mod urn;

pub use api_token::{ApiToken, Scope, TokenDigest, TokenId};
pub use clock::{Clock, SystemClock, TestClock, Timestamp};
pub use grant::{Grant, GrantClaims};
pub use log::{Fault, LogFormat, LogLevel};
pub use network::{Network, Networks};
pub use region::RegionId;
pub use scim_error::{Dialect, ScimError, ScimType};
pub use secret::Secret;
pub use tenant::TenantId;
