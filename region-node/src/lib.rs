//! The SCIM service provider of one region. Owns its tenants, their API tokens and resources.

pub mod scim;
pub mod store;
