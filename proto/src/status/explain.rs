//! A status as its receiver needs it: for a person's terminal, and for the decision to try again.

use std::error::Error as _;
use std::fmt;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::text::clean;

use super::{DOMAIN, FieldViolation, MESSAGE_BYTES, Reason};

/// What a status says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    pub code: Code,
    /// What was wrong and what to do, without control characters.
    pub message: String,
    /// Fields that are wrong; the message repeats the first ones.
    pub violations: Vec<FieldViolation>,
    /// `None`: the status is not one of ours, or of a newer server.
    pub reason: Option<Reason>,
    /// When the same call may succeed.
    pub retry_after: Option<Duration>,
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Reads a status and its details. Details that cannot be read count as absent.
pub fn explain(status: &Status) -> Explained {
    let details = status.get_error_details();
    let violations = details
        .bad_request()
        .map(|bad| {
            bad.field_violations
                .iter()
                .map(|violation| FieldViolation::new(&violation.field, &violation.description))
                .collect()
        })
        .unwrap_or_default();
    let reason = details
        .error_info()
        .filter(|info| info.domain == DOMAIN)
        .and_then(|info| Reason::from_name(&info.reason));
    Explained {
        code: status.code(),
        message: message(status),
        violations,
        reason,
        retry_after: details.retry_info().and_then(|info| info.retry_delay),
    }
}

/// Whether the same call may succeed when it is repeated later. Every call of `stoker/v1` is safe to
/// repeat (submits with their idempotency key).
pub fn is_retryable(status: &Status) -> bool {
    // A source means that no answer came: this side's transport made the status.
    let no_answer = status.source().is_some();
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Aborted => true,
        // Ours say when to come back. Without that it is a limit that repeating does not change,
        // such as the size of a message.
        Code::ResourceExhausted => status.get_details_retry_info().is_some() || no_answer,
        Code::Unknown | Code::Internal | Code::Cancelled => no_answer,
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::DataLoss
        | Code::Unauthenticated => false,
    }
}

/// The status's message with the causes that this side's transport knows.
fn message(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = status.source();
    while let Some(error) = source {
        let cause = error.to_string();
        // Layers often repeat what they wrap.
        if !text.contains(&cause) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&cause);
        }
        source = error.source();
    }
    if text.is_empty() {
        status.code().description().clone_into(&mut text);
    }
    clean(&text, MESSAGE_BYTES)
}
