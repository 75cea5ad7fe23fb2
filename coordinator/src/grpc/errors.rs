//! What a client is told when the store has no answer, and a worker when it is not let in. Causes that are faults of
//! ours stay in the log.

use std::error::Error;
use std::time::Duration;

use stoker_core::identity::Refusal;
use stoker_proto::status::{self, Reason};
use stoker_runtime::error::chain;
use stoker_runtime::ids;
use tonic::Status;

use crate::identity::IdentityError;
use crate::store::StoreError;

/// The writer commits every few milliseconds, so room appears soon.
const RETRY_OVERLOADED: Duration = Duration::from_millis(200);
const RETRY_STORE: Duration = Duration::from_secs(1);
const RETRY_DISK: Duration = Duration::from_secs(30);

/// The status of a verb that failed. [`StoreError::KeyReused`] is better told where the field is
/// known; here it names none.
pub(super) fn store(error: StoreError) -> Status {
    match error {
        StoreError::Overloaded => status::exhausted(
            Reason::Overloaded,
            "more calls wait for the store than it takes at once: send fewer, or larger batches",
            RETRY_OVERLOADED,
        ),
        StoreError::Unavailable | StoreError::NotLeading => status::unavailable(
            Reason::StoreUnavailable,
            "the coordinator cannot use its store: the database is away, or the coordinator is \
             starting or ending; try again",
            RETRY_STORE,
        ),
        StoreError::InDoubt(cause) => {
            log(&*cause, "the outcome of a commit is not known");
            status::unavailable(
                Reason::StoreUnavailable,
                "whether the call took effect is not known: repeat it, which is safe (a submit: \
                 with the same idempotency key)",
                RETRY_STORE,
            )
        }
        StoreError::DiskFull => status::exhausted(
            Reason::DiskFull,
            "the coordinator's disk is full and nothing was stored: free some space there",
            RETRY_DISK,
        ),
        StoreError::KeyReused { index: _, job } => status::key_reused("idempotency_key", job),
        error @ (StoreError::Corrupt(_) | StoreError::Database { .. } | StoreError::Open(_)) => {
            internal(&error)
        }
    }
}

/// The status of a worker that is not let in. Whoever runs it has to act, and reads it in the worker's log.
pub(super) fn identity(error: &IdentityError) -> Status {
    let problem = chain(error);
    match error {
        IdentityError::Unproven { .. } | IdentityError::Refused(Refusal::Unproven { .. }) => {
            status::instance_not_proven(problem)
        }
        IdentityError::Refused(
            Refusal::Nameless
            | Refusal::OtherInstance { .. }
            | Refusal::OtherAccount { .. }
            | Refusal::OtherRegion { .. },
        ) => status::instance_not_allowed(problem),
    }
}

/// `INTERNAL` with an id that stands beside the cause in the log.
pub(super) fn internal(cause: &(dyn Error + 'static)) -> Status {
    let id = log(cause, "a call failed for a fault of the coordinator");
    status::internal(id)
}

fn log(cause: &(dyn Error + 'static), what: &'static str) -> String {
    let id = ids::event_id().to_string();
    tracing::error!(error_id = id, error = cause, what, "a call without an answer");
    id
}

#[cfg(test)]
mod tests {
    use stoker_core::ids::JobId;
    use stoker_proto::status::{explain, is_retryable};
    use tonic::Code;

    use super::*;
    use crate::store::Cause;

    fn database() -> Cause {
        "secret detail".into()
    }

    #[test]
    fn every_error_has_its_code_and_only_passing_ones_are_retryable() {
        let job = JobId::from_bytes([1; 16]);
        for (error, code, reason, retryable) in [
            (StoreError::Overloaded, Code::ResourceExhausted, Reason::Overloaded, true),
            (StoreError::Unavailable, Code::Unavailable, Reason::StoreUnavailable, true),
            (StoreError::DiskFull, Code::ResourceExhausted, Reason::DiskFull, true),
            (StoreError::InDoubt(database()), Code::Unavailable, Reason::StoreUnavailable, true),
            (
                StoreError::KeyReused { index: 0, job },
                Code::AlreadyExists,
                Reason::IdempotencyKeyReused,
                false,
            ),
            (StoreError::Corrupt("x".to_owned()), Code::Internal, Reason::Internal, false),
            (StoreError::Open("x".to_owned()), Code::Internal, Reason::Internal, false),
            (
                StoreError::Database { doing: "reading jobs", source: database() },
                Code::Internal,
                Reason::Internal,
                false,
            ),
        ] {
            let text = format!("{error:?}");
            let status = store(error);
            let explained = explain(&status);
            assert_eq!((explained.code, explained.reason), (code, Some(reason)), "{text}");
            assert_eq!(is_retryable(&status), retryable, "{text}");
        }
    }

    #[test]
    fn internals_stay_in_the_log() {
        let status = store(StoreError::Database { doing: "reading jobs", source: database() });
        assert!(!status.message().contains("secret"), "{status}");
        assert!(!status.message().contains("reading jobs"), "{status}");
    }
}
