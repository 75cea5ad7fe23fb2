//! Why a job waits, or what became of it: the verdict over what is known, without asking anybody.

mod ended;
mod waiting;

use std::time::Duration;

use stoker_core::fleet::ledger::Switch;
use stoker_core::time::Timestamp;
use stoker_proto::v1;

use crate::render::job::failure_line;
use crate::render::state::{cloud_notice, drain_cause};
use crate::render::text::count;
use crate::render::time::{from_wire, span};

/// What is known of a job and of what is around it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts<'a> {
    pub(crate) answer: &'a v1::ExplainJobResponse,
    pub(crate) job: &'a v1::Job,
    pub(crate) now: Timestamp,
    /// All workers of the fleet.
    pub(crate) workers: &'a [v1::Worker],
    /// What is bought for the job's pool; `None`: the ledger could not be read.
    pub(crate) buying: Option<&'a Buying>,
}

/// What the autoscaler does about a pool.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Buying {
    pub(crate) switch: Switch,
    /// Machines without a worker yet, and for how long the oldest has been on its way.
    pub(crate) on_their_way: u32,
    pub(crate) oldest: Duration,
    /// Why the last machine that was asked for did not come, if none has come since.
    pub(crate) refused: Option<String>,
}

/// What to tell a person first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// A stable name for programs.
    pub(crate) cause: &'static str,
    /// Sentences.
    pub(crate) text: String,
    /// What to do, if there is something to be done.
    pub(crate) advice: Option<String>,
}

impl Verdict {
    fn new(cause: &'static str, text: impl Into<String>) -> Self {
        Self { cause, text: text.into(), advice: None }
    }

    fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    fn and(mut self, sentence: Option<String>) -> Self {
        if let Some(sentence) = sentence {
            self.text.push(' ');
            self.text.push_str(&sentence);
        }
        self
    }
}

impl<'a> Facts<'a> {
    /// Workers that have been told to serve the job's model, lost ones included.
    pub(crate) fn serving(&self) -> impl Iterator<Item = &'a v1::Worker> {
        let job = self.job;
        self.workers
            .iter()
            .filter(|worker| worker.pool == job.pool && worker.models.contains(&job.model))
    }

    /// Whether its class's promise is kept so far, for a job that has not started.
    fn promise(&self) -> Option<String> {
        let start_by = from_wire(self.answer.start_by.as_ref())?;
        if self.job.started_at.is_some() {
            return None;
        }
        let class = &self.job.class;
        Some(if start_by >= self.now {
            let left = span(start_by.since(self.now));
            format!("Its class `{class}` promises a start within another {left}.")
        } else {
            let late = span(self.now.since(start_by));
            format!("Its class `{class}` promised a start {late} ago.")
        })
    }

    /// What ends it if it goes on like this.
    fn deadline(&self) -> Option<String> {
        let deadline = from_wire(self.job.deadline_at.as_ref())?;
        Some(format!("It expires in {}.", span(deadline.since(self.now))))
    }
}

/// Why the job waits, or what became of it.
pub(crate) fn verdict(facts: &Facts<'_>) -> Verdict {
    match v1::JobState::try_from(facts.job.state) {
        Ok(v1::JobState::Queued | v1::JobState::Dispatched) => {
            waiting::verdict(facts).and(facts.promise()).and(facts.deadline())
        }
        Ok(v1::JobState::RetryWait) => retry(facts).and(facts.deadline()),
        Ok(v1::JobState::Leased) => runs(facts).and(facts.deadline()),
        Ok(v1::JobState::Succeeded) => ended::succeeded(facts),
        Ok(v1::JobState::Failed) => ended::failed(facts),
        Ok(v1::JobState::Cancelled) => ended::cancelled(facts),
        Ok(v1::JobState::Expired) => ended::expired(facts),
        Ok(v1::JobState::Unspecified) | Err(_) => {
            Verdict::new("unknown", "Its state is not known to this version of the command.")
                .advise("Use the version that the coordinator has: `stoker version`.")
        }
    }
}

fn retry(facts: &Facts<'_>) -> Verdict {
    let (job, limit) = (facts.job, facts.answer.max_failures);
    let why = job.failure.as_ref().map(|failure| failure_line(failure, None)).unwrap_or_default();
    let due = from_wire(job.retry_at.as_ref()).map(|at| at.since(facts.now)).unwrap_or_default();
    let when =
        if due.is_zero() { "is due now".to_owned() } else { format!("begins in {}", span(due)) };
    let times = count(u64::from(job.failures), "failure");
    Verdict::new(
        "retry",
        format!(
            "Its last attempt failed: {why}. The next {when}. It has had {times} of at most {limit}."
        ),
    )
}

fn runs(facts: &Facts<'_>) -> Verdict {
    let job = facts.job;
    let since = facts.answer.attempts.last();
    let since = since.and_then(|attempt| from_wire(attempt.started_at.as_ref()));
    let runs = since.map_or(Duration::ZERO, |since| facts.now.since(since));
    let text = format!(
        "It has been running for {} on the worker {}, in attempt {}; {} of {} items are stored.",
        span(runs),
        job.worker_id,
        job.attempts,
        job.items_done,
        job.items_total
    );
    if job.cancel_requested {
        return Verdict::new("stopping", format!("{text} It was asked to stop."));
    }
    let lease = from_wire(facts.answer.next_due.as_ref());
    let left = lease.map_or(Duration::ZERO, |at| at.since(facts.now));
    let again = format!(
        "If nothing is heard within {}, another worker goes on behind what is stored.",
        span(left)
    );
    let worker = facts.workers.iter().find(|worker| worker.id == job.worker_id);
    match worker.map(|worker| (worker, v1::WorkerState::try_from(worker.state))) {
        None => {
            Verdict::new("worker_lost", format!("{text} Its worker is not known here. {again}"))
        }
        Some((worker, Ok(v1::WorkerState::Lost))) => {
            let silent =
                from_wire(worker.last_seen_at.as_ref()).map(|at| span(facts.now.since(at)));
            let silent = silent.unwrap_or_else(|| "some time".to_owned());
            let text = format!("{text} Its worker has not been heard of for {silent}. {again}");
            Verdict::new("worker_lost", text)
        }
        Some((worker, Ok(v1::WorkerState::Draining))) => {
            let why = cloud_notice(worker.notice).or_else(|| drain_cause(worker.drain_cause));
            let why = why.map_or_else(String::new, |why| format!(" ({why})"));
            let text = format!(
                "{text} Its worker is draining{why}: what is not done in time goes on elsewhere."
            );
            Verdict::new("running_on_draining_worker", text)
        }
        Some(_) => Verdict::new("running", text),
    }
}

#[cfg(test)]
#[path = "explanation/tests.rs"]
mod tests;
