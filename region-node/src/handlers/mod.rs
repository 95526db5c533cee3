//! HTTP in, HTTP out. Extractors say what a call needs, the body says what happens.

pub mod backup;
pub mod discovery;
pub mod fallback;
pub mod health;
pub mod notices;
pub mod operator;
pub mod resolve;
pub mod resources;
pub mod scim_http;
pub mod search;
