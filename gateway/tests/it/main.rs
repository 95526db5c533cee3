//! The gateway as its clients and its nodes see it: a real gateway, real sockets, and at the far
//! end of the network a small HTTP server that stands where a region-node stands.

mod support;

mod flood;
mod forwarding;
mod hostile;
mod resolving;
