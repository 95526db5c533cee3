//! What SQLite's failures mean to the rest of the program.
//!
//! The texts that SQLite gives name tables and columns, never values, so they may travel as a
//! cause into a log.

use rusqlite::ErrorCode;
use rusqlite::ffi::{SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_UNIQUE};

use crate::store::StoreError;

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        let rusqlite::Error::SqliteFailure(cause, message) = &error else {
            // Everything else is a value or a statement that does not fit the schema.
            return Self::Corrupt("a row or a statement does not fit the schema");
        };
        match cause.code {
            ErrorCode::ConstraintViolation
                if cause.extended_code == SQLITE_CONSTRAINT_UNIQUE
                    || cause.extended_code == SQLITE_CONSTRAINT_PRIMARYKEY =>
            {
                taken(message.as_deref().unwrap_or_default())
            }
            ErrorCode::ConstraintViolation => Self::Corrupt("a constraint of the schema is broken"),
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => {
                Self::Corrupt("SQLite finds the file damaged")
            }
            ErrorCode::Unknown | ErrorCode::ApiMisuse | ErrorCode::TypeMismatch => {
                Self::Corrupt("SQLite does not understand the statement")
            }
            _ => Self::Unavailable(Box::new(error)),
        }
    }
}

/// The attribute whose value is taken, by the columns that SQLite names.
fn taken(message: &str) -> StoreError {
    let attribute = if message.contains("resource.user_name") {
        "userName"
    } else if message.contains("resource.display_name") {
        "displayName"
    } else {
        // Ids are random: 122 bits collide by a bug only, and still nothing is overwritten.
        "id"
    };
    StoreError::Taken { attribute }
}
