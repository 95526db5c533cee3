//! The protocol as pure functions: schema, resources, filters, paths, PATCH, projection, lists.
//!
//! Nothing here does I/O, knows SQL or asks for the time. It looks at nothing but `shared`.

pub mod resource;

pub use resource::{ResourceId, ResourceKind, Version};
