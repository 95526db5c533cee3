//! The SCIM service provider of one region. Owns its tenants, their API tokens and resources.
//!
//! A request enters at [`routes`], is given an identity by [`tenant_scope`], is read and answered
//! by a handler, carried out by a [`provider`], decided by [`scim`] and kept by a [`store`].
//! Direction: `handlers -> provider -> {scim, store}`, and `store -> scim` for its types.

pub mod config;
pub mod keys;
pub mod scim;
pub mod store;
