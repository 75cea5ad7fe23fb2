//! What became of a job that has ended.

use stoker_proto::v1;

use super::{Facts, Verdict};
use crate::render::job::{failure_line, run, wait};
use crate::render::text::count;
use crate::render::time::{from_wire, span};

/// How it got there: `after 2 interruptions and 1 lost worker`.
fn troubles(job: &v1::Job) -> String {
    let all = [
        (job.failures, "failure"),
        (job.crashes, "engine crash"),
        (job.lost_workers, "lost worker"),
        (job.interruptions, "interruption"),
    ];
    let some: Vec<String> = all
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, noun)| match (*number, *noun) {
            (number, "engine crash") if number > 1 => format!("{number} engine crashes"),
            (number, noun) => count(u64::from(number), noun),
        })
        .collect();
    match some.as_slice() {
        [] => String::new(),
        [one] => format!(" after {one}"),
        [first @ .., last] => format!(" after {} and {last}", first.join(", ")),
    }
}

/// How the wait was, against the promise.
fn kept(facts: &Facts<'_>) -> String {
    let Some(waited) = wait(facts.job) else { return String::new() };
    let started = from_wire(facts.job.started_at.as_ref());
    let promise = from_wire(facts.answer.start_by.as_ref());
    let kept = match started.zip(promise) {
        None => String::new(),
        Some((started, promise)) if started <= promise => ", in time".to_owned(),
        Some((started, promise)) => {
            format!(", {} later than promised", span(started.since(promise)))
        }
    };
    format!(" It waited {}{kept}.", span(waited))
}

pub(super) fn succeeded(facts: &Facts<'_>) -> Verdict {
    let job = facts.job;
    let ran =
        run(job).map_or_else(String::new, |ran| format!(" {} after its first start", span(ran)));
    let text = format!("It succeeded{ran}{}.{}", troubles(job), kept(facts));
    Verdict::new("succeeded", text)
}

pub(super) fn failed(facts: &Facts<'_>) -> Verdict {
    let job = facts.job;
    let failure = job.failure.as_ref();
    let why = failure.map(|failure| failure_line(failure, None)).unwrap_or_default();
    let reason = failure.map_or(v1::FailureReason::Unspecified, v1::Failure::reason);
    let retried = (!job.retried_as.is_empty())
        .then(|| format!("It was started again as {}.", job.retried_as));
    let retry = format!("Mend the cause, then start it again: `stoker retry {}`.", job.id);
    let verdict = match reason {
        v1::FailureReason::Permanent => {
            Verdict::new("failed_permanent", format!("It cannot succeed: {why}."))
        }
        v1::FailureReason::RetriesExhausted => {
            let limit = facts.answer.max_failures;
            let text = format!("It failed as often as it may ({limit} times), at last with {why}.");
            Verdict::new("failed_retries", text)
        }
        v1::FailureReason::Poison => {
            let text = format!(
                "It was given up as poison{}: at most {} crashes and {} lost workers are allowed. {why}.",
                troubles(job),
                facts.answer.max_crashes,
                facts.answer.max_lost_workers
            );
            Verdict::new("failed_poison", text)
        }
        v1::FailureReason::Unspecified => Verdict::new("failed", format!("It failed: {why}.")),
    };
    let verdict = verdict.and(retried.clone());
    if retried.is_some() { verdict } else { verdict.advise(retry) }
}

pub(super) fn cancelled(facts: &Facts<'_>) -> Verdict {
    let job = facts.job;
    let text = if job.started_at.is_some() {
        format!(
            "It was cancelled in attempt {}, with {} of {} items done.",
            job.attempts, job.items_done, job.items_total
        )
    } else {
        "It was cancelled before it ever started.".to_owned()
    };
    Verdict::new("cancelled", text)
}

pub(super) fn expired(facts: &Facts<'_>) -> Verdict {
    let job = facts.job;
    let again = format!("Give it more time, or start it again: `stoker retry {}`.", job.id);
    if job.started_at.is_none() {
        let text = "Its deadline passed before it ever started.";
        return Verdict::new("expired_waiting", text).advise(again);
    }
    let text = format!(
        "Its deadline passed in attempt {}{}, with {} of {} items done.{}",
        job.attempts,
        troubles(job),
        job.items_done,
        job.items_total,
        kept(facts)
    );
    Verdict::new("expired_running", text).advise(again)
}
