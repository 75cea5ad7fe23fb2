//! What a refused or broken call means, for a person and for the exit code.

use std::collections::BTreeMap;
use std::error::Error;

use stoker_proto::status::{explain, is_retryable};
use stoker_runtime::retry::Retryable;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::time::span;

/// Longest list of violations that is shown.
const MAX_VIOLATIONS: usize = 10;

/// Whether the same call may succeed a moment later.
pub(super) fn retryable(status: &Status) -> Retryable {
    if !is_retryable(status) {
        return Retryable::Permanent;
    }
    match explain(status).retry_after {
        Some(delay) => Retryable::After(delay),
        None => Retryable::Transient,
    }
}

/// `what` completes "cannot ...".
pub(super) fn failure(what: &str, server: &str, status: &Status) -> Failure {
    if let Some(cause) = transport_cause(status) {
        return unreachable(server, &cause);
    }
    let details = status.get_error_details();
    let message = match status.message() {
        "" => status.code().description(),
        message => message,
    };
    Failure::new(exit_of(status.code()), format!("cannot {what}: {message}"))
        .hints(violations(&details, message))
        .hints(remedy(status.code(), &details))
}

const fn exit_of(code: Code) -> Exit {
    match code {
        Code::Ok => Exit::Ok,
        Code::NotFound => Exit::NotFound,
        Code::Unavailable => Exit::Unreachable,
        Code::DeadlineExceeded => Exit::TimedOut,
        Code::InvalidArgument
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Unauthenticated => Exit::Refused,
        Code::Cancelled | Code::Unknown | Code::Aborted | Code::Internal | Code::DataLoss => {
            Exit::Failed
        }
    }
}

/// The innermost cause, if the call never got an answer from a coordinator.
fn transport_cause(status: &Status) -> Option<String> {
    let mut error = status.source()?;
    while let Some(cause) = error.source() {
        error = cause;
    }
    Some(error.to_string())
}

fn unreachable(server: &str, cause: &str) -> Failure {
    Failure::new(Exit::Unreachable, format!("cannot reach the coordinator at {server}: {cause}"))
        .hint("start a fleet on this machine with `stoker dev`, or name another with --server")
}

fn violations(details: &ErrorDetails, message: &str) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(request) = details.bad_request() {
        lines.extend(request.field_violations.iter().map(|v| pair(&v.field, &v.description)));
    }
    // A coordinator may say the same in the message.
    lines.retain(|line| !message.contains(line.as_str()));
    if let Some(failure) = details.precondition_failure() {
        let new = failure.violations.iter().filter(|v| !message.contains(&v.description));
        lines.extend(new.map(|v| pair(&v.subject, &v.description)));
    }
    if let Some(failure) = details.quota_failure() {
        let new = failure.violations.iter().filter(|v| !message.contains(&v.description));
        lines.extend(new.map(|v| pair(&v.subject, &v.description)));
    }
    let more = lines.len().saturating_sub(MAX_VIOLATIONS);
    lines.truncate(MAX_VIOLATIONS);
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines
}

fn pair(subject: &str, description: &str) -> String {
    if subject.is_empty() { description.to_owned() } else { format!("{subject}: {description}") }
}

fn remedy(code: Code, details: &ErrorDetails) -> Vec<String> {
    let mut lines = Vec::new();
    // Violations say more than the reason that stands above them.
    if let Some(info) = details.error_info().filter(|_| details.bad_request().is_none()) {
        let sorted: BTreeMap<_, _> = info.metadata.iter().collect();
        let mut words = vec![format!("reason: {}", info.reason)];
        words.extend(sorted.iter().map(|(key, value)| format!("{key}={value}")));
        if !info.reason.is_empty() {
            lines.push(words.join(" "));
        }
    }
    if let Some(help) = details.help() {
        lines.extend(help.links.iter().map(|link| pair(&link.description, &link.url)));
    }
    if let Some(delay) = details.retry_info().and_then(|info| info.retry_delay) {
        lines.push(format!("try again in {}", span(delay)));
    }
    match code {
        Code::Internal | Code::Unknown | Code::DataLoss => {
            lines.push("this is a fault of the coordinator; its log says more".to_owned());
        }
        Code::Unimplemented => lines.push(
            "this command and the coordinator may have different versions: `stoker version`"
                .to_owned(),
        ),
        _ => {}
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use super::*;

    fn text(code: Code, message: &str, details: ErrorDetails) -> String {
        let status = Status::with_error_details(code, message, details);
        failure("submit the job", "http://h:1", &status).text()
    }

    #[test]
    fn every_field_violation_is_shown() {
        let details = ErrorDetails::with_bad_request(vec![
            tonic_types::FieldViolation::new("job.model", "unknown model `x`; known: `echo`"),
            tonic_types::FieldViolation::new("job.input.echo.texts[3]", "is empty; leave it out"),
        ]);
        assert_eq!(
            text(Code::InvalidArgument, "the job is not valid", details),
            "error: cannot submit the job: the job is not valid\n  \
             job.model: unknown model `x`; known: `echo`\n  \
             job.input.echo.texts[3]: is empty; leave it out\n"
        );
    }

    #[test]
    fn a_violation_that_the_message_holds_is_not_repeated() {
        let violation = tonic_types::FieldViolation::new("job.model", "is empty");
        let details = ErrorDetails::with_bad_request(vec![violation]);
        let text = text(Code::InvalidArgument, "job.model: is empty", details);
        assert_eq!(text, "error: cannot submit the job: job.model: is empty\n");
    }

    #[test]
    fn a_remedy_that_the_message_holds_is_not_repeated() {
        let mut details = ErrorDetails::new();
        details.add_precondition_failure_violation("JOB_ENDED", "job a", "nothing is left to do");
        details.add_precondition_failure_violation("JOB_ENDED", "job b", "wait for it");
        let text = text(Code::FailedPrecondition, "job a: nothing is left to do", details);
        let expected = "error: cannot submit the job: job a: nothing is left to do\n  \
                        job b: wait for it\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_flood_of_violations_is_cut() {
        let many = (0..25).map(|n| tonic_types::FieldViolation::new(format!("f[{n}]"), "bad"));
        let details = ErrorDetails::with_bad_request(many.collect::<Vec<_>>());
        let text = text(Code::InvalidArgument, "invalid", details);
        assert_eq!(text.lines().count(), 1 + MAX_VIOLATIONS + 1);
        assert!(text.ends_with("and 15 more\n"), "{text}");
    }

    #[test]
    fn reason_and_retry_delay_are_shown() {
        let mut details = ErrorDetails::with_retry_info(Some(Duration::from_secs(5)));
        let metadata = HashMap::from([("limit".to_owned(), "10".to_owned())]);
        details.set_error_info("QUEUE_FULL", "stoker", metadata);
        assert_eq!(
            text(Code::ResourceExhausted, "the queue is full", details),
            "error: cannot submit the job: the queue is full\n  \
             reason: QUEUE_FULL limit=10\n  try again in 5s\n"
        );
    }

    #[test]
    fn the_code_decides_the_exit() {
        let exit = |code| failure("get the job", "http://h:1", &Status::new(code, "m")).exit();
        assert_eq!(exit(Code::NotFound), Exit::NotFound);
        assert_eq!(exit(Code::Unavailable), Exit::Unreachable);
        assert_eq!(exit(Code::DeadlineExceeded), Exit::TimedOut);
        assert_eq!(exit(Code::FailedPrecondition), Exit::Refused);
        assert_eq!(exit(Code::Internal), Exit::Failed);
    }

    #[test]
    fn a_coordinator_that_asks_for_a_pause_gets_it() {
        let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(3)));
        let status = Status::with_error_details(Code::Unavailable, "starting", details);
        assert_eq!(retryable(&status), Retryable::After(Duration::from_secs(3)));
        assert_eq!(retryable(&Status::unavailable("gone")), Retryable::Transient);
        assert_eq!(retryable(&Status::internal("bug")), Retryable::Permanent);
    }
}
