//! Statuses survive the wire, stay within its limits and say what to do.

use std::collections::BTreeSet;

use tonic::Code;
use tonic_types::StatusExt as _;

use super::*;

/// What the other side receives.
fn over_the_wire(status: &Status) -> Status {
    let response: http::Response<()> = status.clone().into_http();
    Status::from_header_map(response.headers()).expect("a status is in the headers")
}

#[test]
fn every_reason_has_its_own_upper_case_name() {
    let names: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.name()).collect();
    assert_eq!(names.len(), Reason::ALL.len());
    for reason in Reason::ALL {
        assert_eq!(Reason::from_name(reason.name()), Some(reason));
        assert!(reason.name().bytes().all(|b| b.is_ascii_uppercase() || b == b'_'));
    }
    assert_eq!(Reason::from_name("FROM_THE_FUTURE"), None);
}

#[test]
fn violations_arrive_with_their_fields() {
    let sent = [
        FieldViolation::new("job.model", "is missing: name a model"),
        FieldViolation::new("job.labels", "too many"),
    ];
    let explained = explain(&over_the_wire(&invalid(&sent)));
    assert_eq!(explained.code, Code::InvalidArgument);
    assert_eq!(explained.reason, Some(Reason::InvalidRequest));
    assert_eq!(explained.violations, sent);
    assert_eq!(explained.message, "job.model: is missing: name a model; job.labels: too many");
}

#[test]
fn hostile_violations_fit_into_the_trailers() {
    let hostile = "\u{1b}[2J\u{0}ä\u{10ffff}".repeat(10_000);
    let many: Vec<FieldViolation> =
        (0..1000).map(|_| FieldViolation::new(&hostile, &hostile)).collect();
    let status = invalid(&many);
    let response: http::Response<()> = status.clone().into_http();
    let bytes: usize = response.headers().iter().map(|(k, v)| k.as_str().len() + v.len()).sum();
    assert!(bytes < 14 << 10, "{bytes} bytes of headers");
    let explained = explain(&over_the_wire(&status));
    assert!(!explained.violations.is_empty());
    assert!(!explained.message.chars().any(char::is_control));
}

#[test]
fn a_shed_says_when_to_come_back() {
    let shed = Shed {
        reason: ShedReason::FleetFull { queued: 5, asked: 1, limit: 5 },
        retry_after: Duration::from_secs(5),
    };
    let status = over_the_wire(&super::shed(&shed));
    let explained = explain(&status);
    assert_eq!(explained.code, Code::ResourceExhausted);
    assert_eq!(explained.reason, Some(Reason::FleetQueueFull));
    assert_eq!(explained.retry_after, Some(Duration::from_secs(5)));
    assert!(is_retryable(&status));
}

#[test]
fn a_reused_key_names_the_job_that_owns_it() {
    let job = JobId::from_bytes([7; 16]);
    let explained = explain(&over_the_wire(&key_reused("job.idempotency_key", job)));
    assert_eq!(explained.code, Code::AlreadyExists);
    assert_eq!(explained.reason, Some(Reason::IdempotencyKeyReused));
    assert!(explained.message.contains(&job.to_string()), "{explained}");
    assert_eq!(explained.violations[0].field, "job.idempotency_key");
}

#[test]
fn a_failed_precondition_ends_with_the_remedy() {
    let status = failed_precondition(
        Reason::JobNotSucceeded,
        "job 1",
        "it is queued",
        "watch it to its end",
    );
    let status = over_the_wire(&status);
    assert_eq!(explain(&status).message, "job 1: it is queued; watch it to its end");
    let violations = status.get_details_precondition_failure().unwrap().violations;
    assert_eq!(violations[0].r#type, "JOB_NOT_SUCCEEDED");
}

#[test]
fn what_is_missing_is_named() {
    let status = over_the_wire(&not_found(Resource::Worker, "w\n1"));
    assert_eq!(status.code(), Code::NotFound);
    assert!(status.message().starts_with("there is no worker `w\u{fffd}1`: list"));
}

#[test]
fn only_what_time_can_mend_is_retryable() {
    let later = Duration::from_secs(1);
    for (status, expected) in [
        (unavailable(Reason::StoreUnavailable, "the store is busy: wait", later), true),
        (exhausted(Reason::TooManyStreams, "too many watches: close some", later), true),
        (internal("01"), false),
        (invalid_field("a", "b"), false),
        (Status::resource_exhausted("message too large"), false),
        (Status::deadline_exceeded(""), true),
        (Status::unknown("from a proxy"), false),
    ] {
        assert_eq!(is_retryable(&over_the_wire(&status)), expected, "{status}");
    }
}

#[test]
fn a_broken_connection_is_retryable_and_tells_its_causes() {
    let reset = std::io::Error::new(std::io::ErrorKind::ConnectionReset, "reset by peer");
    let status = Status::from_error(Box::new(reset));
    assert!(is_retryable(&status));
    assert_eq!(explain(&status).message, "reset by peer");
}

#[test]
fn statuses_of_others_are_explained_too() {
    let explained = explain(&Status::new(Code::Unimplemented, ""));
    assert_eq!(explained.reason, None);
    assert!(!explained.message.is_empty());
}
