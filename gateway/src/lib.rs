//! The gateway: from a hostname and a token to a region, and there and back.
//!
//! Stateless, any number of them. The road of a request is `serve`; its stops are, in order:
//! `tls` and `connection` (below HTTP), `host`, `routes`, `credential`, `provisioning_client`,
//! `resolver`, `limits`, `forward`, and `error` for whatever ends early. `oauth` is a short road of
//! its own. What never lives here: anything that is stored, anything about users, the meaning of a
//! SCIM body.

pub mod config;
pub mod connection;
pub mod console;
pub mod credential;
pub mod error;
pub mod forward;
pub mod host;
pub mod limits;
pub mod link;
pub mod local;
pub mod metrics;
pub mod notices;
pub mod oauth;
pub mod provisioning_client;
pub mod region;
pub mod reload;
pub mod resolver;
pub mod routes;
pub mod serve;
pub mod source;
pub mod startup;
pub mod telemetry;
pub mod tls;
pub mod turns;
