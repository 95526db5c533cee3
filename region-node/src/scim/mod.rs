//! The protocol as pure functions: schema, resources, filters, paths, PATCH, projection, lists.
//!
//! Nothing here does I/O, knows SQL or asks for the time. It looks at nothing but `shared`.

pub mod attribute;
pub mod bulk;
pub mod client;
pub mod datetime;
pub mod document;
mod error;
pub mod filter;
pub mod group;
pub mod json;
pub mod list;
pub mod patch;
pub mod path;
pub mod projection;
pub mod resource;
pub mod schema;
pub mod scim11;
pub mod sort;
pub mod text;
pub mod tolerance;
pub mod user;
pub mod version;

pub use filter::Filter;
pub use list::ListRequest;
pub use patch::PatchRequest;
pub use projection::Projection;
pub use resource::{ResourceId, ResourceKind, Version};
pub use tolerance::Notes;
pub use version::EntityTags;
