//! Tests of the whole system: the real `meridian` program on free ports, spoken to as an
//! identity provider or an operator would.

mod support;

mod activity;
mod admin;
mod audit;
mod backup;
mod cli;
mod concurrency;
mod console;
mod conversations;
mod discovery;
mod disk_faults;
mod durability;
mod events;
mod example;
mod extensions;
mod faults;
mod flood;
mod groups;
mod honesty;
mod idempotency;
mod link_tls;
mod malformed;
mod networks;
mod oauth;
mod openapi;
mod postgres_faults;
mod power_cut;
mod privacy;
mod redis;
mod regions;
mod residency;
mod restart;
mod revocation;
mod rfc7643;
mod rfc7644;
mod scim11;
mod soak;
mod telemetry;
mod tenancy;
mod users;
