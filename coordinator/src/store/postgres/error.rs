//! What the driver's errors mean to a caller.

use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use crate::store::StoreError;

/// What a failed statement means. It has changed nothing, unless it was a commit.
pub(super) fn database(doing: &'static str) -> impl FnOnce(Error) -> StoreError {
    move |error| match kind(&error) {
        Kind::Away => {
            tracing::debug!(%error, doing, "the database is away");
            StoreError::Unavailable
        }
        Kind::Conflict => StoreError::Overloaded,
        Kind::Full => StoreError::DiskFull,
        Kind::Other => StoreError::Database { doing, source: error.into() },
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The connection is gone, or the server is starting, ending or not the one that takes writes.
    Away,
    /// Another transaction was in the way; the same may go well a moment later.
    Conflict,
    Full,
    Other,
}

pub(super) fn kind(error: &Error) -> Kind {
    let Some(code) = error.code() else {
        // Without the server's word it is the connection, unless a value did not fit its column.
        let of_value = error.to_string().starts_with("error serializing parameter")
            || error.to_string().starts_with("error deserializing column");
        return if of_value { Kind::Other } else { Kind::Away };
    };
    let away = [
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::TOO_MANY_CONNECTIONS,
        SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
        SqlState::READ_ONLY_SQL_TRANSACTION,
    ];
    let conflict = [
        SqlState::QUERY_CANCELED,
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::T_R_SERIALIZATION_FAILURE,
    ];
    if away.contains(code) || code.code().starts_with("08") {
        Kind::Away
    } else if conflict.contains(code) {
        Kind::Conflict
    } else if *code == SqlState::DISK_FULL {
        Kind::Full
    } else {
        Kind::Other
    }
}
