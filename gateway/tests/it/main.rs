//! The gateway as its clients and its nodes see it: a real gateway, real sockets, and at the far
//! end of the network a small HTTP server that stands where a region-node stands.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on must stop"
)]

#[path = "../../../tests/it/support/authority.rs"]
mod authority;
#[path = "../../../tests/it/support/redis.rs"]
mod redis_server;
mod support;

mod flood;
mod forwarding;
mod hostile;
mod hostnames;
mod log;
mod networks;
mod oauth;
mod panics;
mod redis;
mod resolving;
mod stopping;
mod tls;
