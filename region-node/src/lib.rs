//! The SCIM service provider of one region. Owns its tenants, their API tokens and resources.
//!
//! A request enters at [`routes`], is accompanied by [`request`], is given an identity by
//! [`tenant_scope`], is read and answered by one of the [`handlers`] ([`admin`] and
//! [`console`] for the tenant's administrator), carried out by a [`provider`], decided by [`scim`] and kept by a [`store`].
//! Direction: `handlers -> provider -> {scim, store}`, and `store -> scim` for its types.

pub mod admin;
mod coded;
pub mod config;
pub mod console;
pub mod error;
pub mod events;
pub mod grant;
pub mod handlers;
pub mod housekeeping;
pub mod keys;
pub mod link_tls;
pub mod metrics;
pub mod provider;
pub mod request;
pub mod routes;
pub mod scim;
pub mod startup;
pub mod store;
pub mod telemetry;
pub mod tenant_scope;
