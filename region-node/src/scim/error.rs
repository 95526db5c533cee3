//! Which status and keyword each failure of the protocol has (RFC 7644 table 9). One place.

use shared::{ScimError, ScimType};

use super::attribute::ValueError;
use super::document::IdentifierError;
use super::filter::FilterError;
use super::json::JsonError;
use super::list::QueryError;
use super::patch::PatchError;
use super::sort::SortError;

fn bad_request(scim_type: ScimType, error: impl ToString) -> ScimError {
    ScimError::typed(400, scim_type, error.to_string())
}

impl From<JsonError> for ScimError {
    fn from(error: JsonError) -> Self {
        bad_request(ScimType::InvalidSyntax, error)
    }
}

impl From<QueryError> for ScimError {
    fn from(error: QueryError) -> Self {
        let scim_type = match error {
            QueryError::FilterEncoding => ScimType::InvalidFilter,
            _ => ScimType::InvalidValue,
        };
        bad_request(scim_type, error)
    }
}

impl From<ValueError> for ScimError {
    fn from(error: ValueError) -> Self {
        bad_request(ScimType::InvalidValue, error)
    }
}

impl From<IdentifierError> for ScimError {
    fn from(error: IdentifierError) -> Self {
        bad_request(ScimType::InvalidValue, error)
    }
}

impl From<FilterError> for ScimError {
    fn from(error: FilterError) -> Self {
        let scim_type = match error {
            FilterError::Sensitive { .. } => ScimType::Sensitive,
            _ => ScimType::InvalidFilter,
        };
        bad_request(scim_type, error)
    }
}

impl From<SortError> for ScimError {
    fn from(error: SortError) -> Self {
        let scim_type = match error {
            SortError::SortBy => ScimType::InvalidPath,
            SortError::SortOrder => ScimType::InvalidValue,
        };
        bad_request(scim_type, error)
    }
}

impl From<PatchError> for ScimError {
    fn from(error: PatchError) -> Self {
        let scim_type = match error {
            PatchError::Syntax(_) => ScimType::InvalidSyntax,
            PatchError::Path(_) => ScimType::InvalidPath,
            PatchError::Value(_) | PatchError::Missing { .. } => ScimType::InvalidValue,
            PatchError::ReadOnly { .. } | PatchError::Required { .. } => ScimType::Mutability,
            PatchError::NoTarget { .. } | PatchError::RemoveWithoutPath => ScimType::NoTarget,
        };
        bad_request(scim_type, error)
    }
}
