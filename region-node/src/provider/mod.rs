//! What a service provider does, free of HTTP.
//!
//! Handlers call these; Bulk will call them without any request of its own. What never lives
//! here: headers, status codes, SQL.

pub mod last_used;
pub mod settings;
pub mod tenants;
pub mod tokens;
