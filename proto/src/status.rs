//! The one place where an error becomes a `tonic::Status`, and where a client reads it again.
//!
//! Every status carries a `google.rpc.ErrorInfo` of the domain [`DOMAIN`] whose reason is a stable
//! name from [`Reason`], and what else fits: the fields that are wrong, when to retry, what is in
//! the way. Messages say what was wrong and what to do, and quote input only in short, without
//! control characters. A status travels in HTTP trailers of limited size, so all of it is bounded.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use stoker_core::admission::{Shed, ShedReason};
use stoker_core::ids::JobId;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::text::clean;

mod explain;
mod reason;
#[cfg(test)]
mod tests;

pub use explain::{Explained, explain, is_retryable};
pub use reason::Reason;

/// Domain of the reasons, in `google.rpc.ErrorInfo`.
pub const DOMAIN: &str = "stoker";

/// Largest message, in bytes.
const MESSAGE_BYTES: usize = 1024;
/// Largest total of the violations that a status lists, in bytes.
const VIOLATION_BYTES: usize = 4096;
/// Violations that a request is searched for: nobody reads more, and a status has room for no more.
pub const MAX_VIOLATIONS: usize = 20;
/// Violations that are repeated in the message.
const VIOLATIONS_IN_MESSAGE: usize = 3;

/// A field of a request, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldViolation {
    /// Path in the request, such as `jobs[2].input.text_embedding.texts[3]`.
    pub field: String,
    /// What is wrong and what to do.
    pub problem: String,
}

impl FieldViolation {
    /// Both parts are cut and cleaned of control characters, so they may quote input.
    pub fn new(field: impl AsRef<str>, problem: impl fmt::Display) -> Self {
        Self { field: clean(field.as_ref(), 200), problem: clean(&problem.to_string(), 500) }
    }
}

impl fmt::Display for FieldViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.problem)
    }
}

/// What a request named and the fleet does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    Job,
    Worker,
    Machine,
}

impl Resource {
    const fn name(self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::Worker => "worker",
            Self::Machine => "machine",
        }
    }

    const fn remedy(self) -> &'static str {
        match self {
            Self::Job => "check the id; ended jobs are removed after `retention.jobs`",
            Self::Worker => "list the workers for the ids of those that are known",
            Self::Machine => "read the ledger for the ids of those that are known",
        }
    }
}

/// `INVALID_ARGUMENT`: these fields are wrong. Lists as many as fit.
pub fn invalid(violations: &[FieldViolation]) -> Status {
    let mut details = ErrorDetails::new();
    let mut bytes = 0;
    for violation in violations {
        bytes += violation.field.len() + violation.problem.len();
        if bytes > VIOLATION_BYTES {
            break;
        }
        details.add_bad_request_violation(&violation.field, &violation.problem);
    }
    status(Reason::InvalidRequest, &summary(violations), details)
}

fn summary(violations: &[FieldViolation]) -> String {
    let mut parts: Vec<String> =
        violations.iter().take(VIOLATIONS_IN_MESSAGE).map(ToString::to_string).collect();
    let more = violations.len() - parts.len();
    if more > 0 {
        parts.push(format!("and {more} more problems"));
    }
    if parts.is_empty() {
        parts.push("the request is not valid".to_owned());
    }
    parts.join("; ")
}

/// `INVALID_ARGUMENT`: one field is wrong.
pub fn invalid_field(field: impl AsRef<str>, problem: impl fmt::Display) -> Status {
    invalid(&[FieldViolation::new(field, problem)])
}

/// `NOT_FOUND`: there is no such thing.
pub fn not_found(resource: Resource, id: impl fmt::Display) -> Status {
    let (name, id) = (resource.name(), clean(&id.to_string(), 100));
    let message = format!("there is no {name} `{id}`: {}", resource.remedy());
    let mut details = ErrorDetails::new();
    details.set_resource_info(name, id, "", resource.remedy());
    status(Reason::NotFound, &message, details)
}

/// `ALREADY_EXISTS`: the idempotency key in `field` belongs to another request, which made `job`.
pub fn key_reused(field: &str, job: JobId) -> Status {
    let problem = format!(
        "job {job} was made with the same key by a different request: repeat that request \
         unchanged, or use a new key"
    );
    let mut details = ErrorDetails::new();
    details.add_bad_request_violation(field, &problem);
    details.set_resource_info("job", job.to_string(), "", "made with the same idempotency key");
    status(Reason::IdempotencyKeyReused, &format!("{field}: {problem}"), details)
}

/// `FAILED_PRECONDITION`: `subject` (such as `job 0192…`) is not in a state that allows the call.
pub fn failed_precondition(
    reason: Reason,
    subject: &str,
    message: impl fmt::Display,
    remedy: &str,
) -> Status {
    let subject = clean(subject, 200);
    let message = format!("{subject}: {message}; {remedy}");
    let mut details = ErrorDetails::new();
    details.add_precondition_failure_violation(reason.name(), subject, remedy);
    status(reason, &message, details)
}

/// `PERMISSION_DENIED`: the call names a tenant that the fleet does not have. The others are not
/// listed.
pub fn unknown_tenant(tenant: &str, remedy: &str) -> Status {
    let tenant = clean(tenant, 100);
    let message = format!("tenant `{tenant}` is not known here: {remedy}");
    let mut details = ErrorDetails::new();
    details.set_resource_info("tenant", tenant, "", remedy);
    status(Reason::UnknownTenant, &message, details)
}

/// `UNAUTHENTICATED`: the call has not the fleet's join token; `problem` says whether it is missing or wrong.
pub fn join_token_wrong(problem: &str) -> Status {
    let message = format!(
        "{problem}: give the worker the coordinator's token (--join-token-file or STOKER_JOIN_TOKEN)"
    );
    status(Reason::JoinTokenWrong, &message, ErrorDetails::new())
}

/// `UNAUTHENTICATED`: the call has not the fleet's operator token; `problem` says what is wrong with what it has.
pub fn operator_token_wrong(problem: &str) -> Status {
    let message = format!(
        "{problem}: give both the command and the coordinator the same operator token \
         (--operator-token-file or STOKER_OPERATOR_TOKEN)"
    );
    status(Reason::OperatorTokenWrong, &message, ErrorDetails::new())
}

/// `UNAUTHENTICATED`: the call has not the fleet's autoscaler token; `problem` says what is wrong with what it has.
pub fn autoscaler_token_wrong(problem: &str) -> Status {
    let message = format!(
        "{problem}: give both the autoscaler and the coordinator the same autoscaler token \
         (--autoscaler-token-file or STOKER_AUTOSCALER_TOKEN)"
    );
    status(Reason::AutoscalerTokenWrong, &message, ErrorDetails::new())
}

/// `UNAUTHENTICATED`: a worker has not proved that it runs on the machine that it names; `problem` says what was
/// wrong and what to do.
pub fn instance_not_proven(problem: impl fmt::Display) -> Status {
    status(Reason::InstanceNotProven, &problem.to_string(), ErrorDetails::new())
}

/// `PERMISSION_DENIED`: a worker's machine may not work for this fleet; `problem` says why and what to do.
pub fn instance_not_allowed(problem: impl fmt::Display) -> Status {
    status(Reason::InstanceNotAllowed, &problem.to_string(), ErrorDetails::new())
}

/// `RESOURCE_EXHAUSTED`: there is no room now; `message` says in what, and what to do.
pub fn exhausted(reason: Reason, message: impl fmt::Display, retry_after: Duration) -> Status {
    retry_later(reason, message, retry_after)
}

/// The status of a refusal by [`stoker_core::admission::check`].
pub fn shed(shed: &Shed) -> Status {
    let reason = match shed.reason {
        ShedReason::DiskFull { .. } => Reason::DiskFull,
        ShedReason::FleetFull { .. } => Reason::FleetQueueFull,
        ShedReason::TenantFull { .. } => Reason::TenantQueueFull,
    };
    exhausted(reason, shed.reason, shed.retry_after)
}

/// `UNAVAILABLE`: something that the call needs is away; the same call may succeed later.
pub fn unavailable(reason: Reason, message: impl fmt::Display, retry_after: Duration) -> Status {
    retry_later(reason, message, retry_after)
}

/// `DEADLINE_EXCEEDED`: no answer within `limit`; the call may still take effect.
pub fn timed_out(limit: Duration) -> Status {
    let message = format!(
        "the coordinator found no answer within {} s, and whether the call took effect is not known: \
         repeat it, which is safe (a submit: with the same idempotency key)",
        limit.as_secs()
    );
    retry_later(Reason::TimedOut, message, Duration::from_secs(1))
}

/// `INTERNAL`: a fault of ours. `id` stands beside its cause in the coordinator's log; the cause
/// itself stays there.
pub fn internal(id: impl fmt::Display) -> Status {
    let id = clean(&id.to_string(), 100);
    let message = format!(
        "internal error {id}: this is a fault of the coordinator; its log tells the cause beside \
         this id"
    );
    let mut details = ErrorDetails::new();
    details.set_request_info(id, "");
    status(Reason::Internal, &message, details)
}

fn retry_later(reason: Reason, message: impl fmt::Display, retry_after: Duration) -> Status {
    let mut details = ErrorDetails::new();
    details.set_retry_info(Some(retry_after));
    status(reason, &message.to_string(), details)
}

fn status(reason: Reason, message: &str, mut details: ErrorDetails) -> Status {
    details.set_error_info(reason.name(), DOMAIN, HashMap::new());
    Status::with_error_details(code(reason), clean(message, MESSAGE_BYTES), details)
}

/// The code of a reason: the second exhaustive match of every error on its way to the wire.
const fn code(reason: Reason) -> Code {
    match reason {
        Reason::InvalidRequest => Code::InvalidArgument,
        Reason::NotFound => Code::NotFound,
        Reason::IdempotencyKeyReused => Code::AlreadyExists,
        Reason::JobEnded
        | Reason::JobNotSucceeded
        | Reason::JobNotRetryable
        | Reason::DataRemoved
        | Reason::WorkerNotRegistered
        | Reason::BrokerNotEmbedded
        | Reason::NotFleetLeader
        | Reason::SwitchChanged
        | Reason::MachineNotThere
        | Reason::LedgerConflict
        | Reason::LedgerFull => Code::FailedPrecondition,
        Reason::UnknownTenant | Reason::InstanceNotAllowed => Code::PermissionDenied,
        Reason::JoinTokenWrong
        | Reason::OperatorTokenWrong
        | Reason::AutoscalerTokenWrong
        | Reason::InstanceNotProven => Code::Unauthenticated,
        Reason::DiskFull
        | Reason::FleetQueueFull
        | Reason::TenantQueueFull
        | Reason::TooManyStreams
        | Reason::Overloaded => Code::ResourceExhausted,
        Reason::BrokerUnavailable | Reason::ShuttingDown | Reason::StoreUnavailable => {
            Code::Unavailable
        }
        Reason::TimedOut => Code::DeadlineExceeded,
        Reason::Internal => Code::Internal,
    }
}
