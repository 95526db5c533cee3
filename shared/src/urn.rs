//! Schema and message URNs, and media types (RFC 7643, RFC 7644, SCIM 1.1 core schema).

/// Core User schema, RFC 7643 section 4.1.
pub const USER: &str = "urn:ietf:params:scim:schemas:core:2.0:User";
/// Core Group schema, RFC 7643 section 4.2.
pub const GROUP: &str = "urn:ietf:params:scim:schemas:core:2.0:Group";
/// Enterprise User extension, RFC 7643 section 4.3.
pub const ENTERPRISE_USER: &str = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";
/// RFC 7643 section 5.
pub const SERVICE_PROVIDER_CONFIG: &str =
    "urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig";
/// RFC 7643 section 6.
pub const RESOURCE_TYPE: &str = "urn:ietf:params:scim:schemas:core:2.0:ResourceType";
/// RFC 7643 section 7.
pub const SCHEMA: &str = "urn:ietf:params:scim:schemas:core:2.0:Schema";
/// RFC 7644 section 3.4.2.
pub const LIST_RESPONSE: &str = "urn:ietf:params:scim:api:messages:2.0:ListResponse";
/// RFC 7644 section 3.7.
pub const BULK_RESPONSE: &str = "urn:ietf:params:scim:api:messages:2.0:BulkResponse";
/// RFC 7644 section 3.12.
pub const ERROR: &str = "urn:ietf:params:scim:api:messages:2.0:Error";
/// SCIM 1.1: users, groups and lists.
pub const CORE_1: &str = "urn:scim:schemas:core:1.0";
/// SCIM 1.1: the enterprise extension.
pub const ENTERPRISE_1: &str = "urn:scim:schemas:extension:enterprise:1.0";

/// `application/scim+json`, RFC 7644 section 8.1.
pub const SCIM_JSON: &str = "application/scim+json";
/// What we answer with when a client accepts nothing else; also the type of SCIM 1.1.
pub const JSON: &str = "application/json";
