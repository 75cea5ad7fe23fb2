//! What can go wrong in a store.

/// What a database's driver said.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a verb has no answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Too much is waiting for the writer; nothing was changed.
    #[error("the store has more to write than it can take; try again shortly")]
    Overloaded,
    /// The store is closed or cannot be reached; nothing was changed.
    #[error("the store is not available")]
    Unavailable,
    /// Another coordinator has the part in which the verb may be called; nothing was changed.
    #[error("another coordinator leads now")]
    NotLeading,
    /// The disk is full; nothing was changed.
    #[error("the disk that holds the store is full: free some space")]
    DiskFull,
    /// The commit failed half way: it may or may not be durable.
    #[error("the outcome of a commit is not known")]
    InDoubt(#[source] Cause),
    /// An idempotency key was used before with another request.
    #[error("the idempotency key was used before with a different request")]
    KeyReused {
        /// Which of the submitted jobs, from 0.
        index: usize,
        job: stoker_core::ids::JobId,
    },
    /// What is stored contradicts itself or this version.
    #[error("the store holds what it should not: {0}")]
    Corrupt(String),
    #[error("while {doing}")]
    Database {
        doing: &'static str,
        #[source]
        source: Cause,
    },
    #[error("{0}")]
    Open(String),
}

impl StoreError {
    pub(crate) fn database(doing: &'static str) -> impl FnOnce(rusqlite::Error) -> Self {
        move |source| match source.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Self::DiskFull,
            None if is_unreadable(&source) => Self::Corrupt(format!("{doing}: {source}")),
            _ => Self::Database { doing, source: source.into() },
        }
    }
}

/// A value that this version cannot make sense of.
fn is_unreadable(error: &rusqlite::Error) -> bool {
    matches!(
        error,
        rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::InvalidColumnType(..)
    )
}
