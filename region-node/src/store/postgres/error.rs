//! What PostgreSQL says, in the store's words. Its own messages can quote values, so only the
//! SQLSTATE and the system's error travel on as a cause, and may reach a log.

use deadpool_postgres::{PoolError, TimeoutType};
use tokio_postgres::error::SqlState;

use crate::store::StoreError;

/// Why PostgreSQL did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum PostgresError {
    /// It refused; the code is in its manual, appendix A.
    #[error("PostgreSQL answered with SQLSTATE {0}")]
    State(String),
    /// The connection broke.
    #[error("the connection to PostgreSQL failed")]
    Connection(#[source] std::io::Error),
    /// The connection is closed.
    #[error("the connection to PostgreSQL is closed")]
    Closed,
    /// No connection could be had in time.
    #[error("no connection to PostgreSQL could be had in time ({0})")]
    Wait(&'static str),
    /// It took too long to answer.
    #[error("PostgreSQL did not answer in time")]
    Slow,
    /// Too many writes wait already.
    #[error("too many writes are waiting")]
    QueueFull,
    /// The store is closing, or the write was given up with others that shared its transaction.
    #[error("the writer has stopped")]
    Stopped,
    /// The transaction that a write shared with others was lost, or with the connection the
    /// knowledge of what became of it.
    #[error("the commit failed")]
    CommitFailed(#[source] std::sync::Arc<StoreError>),
    /// The store could not begin.
    #[error("PostgreSQL was reached, and went away")]
    Setup(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Anything else that the client library complains about.
    #[error("the exchange with PostgreSQL failed")]
    Exchange,
}

impl From<PostgresError> for StoreError {
    fn from(error: PostgresError) -> Self {
        Self::Unavailable(Box::new(error))
    }
}

impl PostgresError {
    /// What the client library says, without what could hold a value.
    pub(super) fn of(error: &tokio_postgres::Error) -> Self {
        if let Some(state) = error.code() {
            return Self::State(state.code().to_owned());
        }
        if error.is_closed() {
            return Self::Closed;
        }
        let mut cause = std::error::Error::source(error);
        while let Some(inner) = cause {
            if let Some(io) = inner.downcast_ref::<std::io::Error>() {
                return Self::Connection(std::io::Error::from(io.kind()));
            }
            cause = inner.source();
        }
        Self::Exchange
    }
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.code() {
            Some(state) if *state == SqlState::UNIQUE_VIOLATION => Self::Taken { attribute: "id" },
            Some(state) => of_state(state.code()),
            None => PostgresError::of(&error).into(),
        }
    }
}

impl From<PoolError> for StoreError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => error.into(),
            PoolError::Timeout(TimeoutType::Wait) => PostgresError::Wait("all are in use").into(),
            PoolError::Timeout(_) => PostgresError::Wait("it does not answer").into(),
            PoolError::Closed => PostgresError::Stopped.into(),
            PoolError::PostCreateHook(_) | PoolError::NoRuntimeSpecified => {
                PostgresError::Exchange.into()
            }
        }
    }
}

/// An error by its SQLSTATE: what passes by itself or by the operator's hand is a store that is
/// away; what does not is a bug of ours, or damage.
pub(super) fn of_state(state: &str) -> StoreError {
    /// Classes of states that say nothing about the statement: connection, authentication,
    /// transaction rolled back, resources, object state, intervention, the system, configuration.
    const PASSING: [&str; 9] = ["08", "28", "3D", "40", "53", "55", "57", "58", "F0"];
    /// A standby, or a database that is set to read only.
    const READ_ONLY: &str = "25006";
    /// The transaction had failed before this statement.
    const IN_FAILED_TRANSACTION: &str = "25P02";
    let class = state.get(..2).unwrap_or_default();
    if PASSING.contains(&class) || state == READ_ONLY || state == IN_FAILED_TRANSACTION {
        return PostgresError::State(state.to_owned()).into();
    }
    match state {
        "MR001" => StoreError::Corrupt("a tenant's writes have run out of numbers"),
        "XX001" | "XX002" => StoreError::Corrupt("PostgreSQL finds its files damaged"),
        _ => StoreError::Corrupt("PostgreSQL does not take a statement"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_unavailable_and_what_does_not_is_ours() {
        for state in [
            "57P01", "57014", "53100", "53300", "40P01", "08006", "25006", "25P02",
        ] {
            assert!(
                matches!(of_state(state), StoreError::Unavailable(_)),
                "{state}"
            );
        }
        for state in ["42P01", "22P02", "XX001", "MR001", ""] {
            assert!(matches!(of_state(state), StoreError::Corrupt(_)), "{state}");
        }
    }
}
