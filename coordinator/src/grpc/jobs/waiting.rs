//! Why a job waits and for what, in words.

use std::time::Duration;

use stoker_core::job::{Job, JobRecord, State, StateKind};
use stoker_core::time::Timestamp;
use stoker_core::units::HumanDuration;

use crate::context::{Context, serves};
use crate::store::Lane;

/// What is known of the queue that the job is in.
#[derive(Debug, Clone, Default)]
struct Surroundings {
    slots: u32,
    /// Workers of the queue that are loading.
    starting: usize,
    queued: u64,
    in_flight: u64,
    broker_problem: Option<String>,
    /// The fleet file does not name the queue.
    unknown: bool,
}

/// Empty when the job does not wait.
pub(super) fn waiting_for(context: &Context, record: &JobRecord) -> String {
    if record.job.state.is_terminal() || record.job.lease().is_some() {
        return String::new();
    }
    let lane = Lane { pool: record.pool.clone(), model: record.model.clone() };
    explain(&record.job, &lane, &surroundings(context, &lane), context.now())
}

fn surroundings(context: &Context, lane: &Lane) -> Surroundings {
    let counts = context.store.counts().of_lane(lane);
    Surroundings {
        slots: context.registry.slots(lane),
        starting: context.registry.starting(lane),
        queued: counts.get(StateKind::Queued),
        in_flight: counts.in_flight(),
        broker_problem: context.broker.problem().or_else(|| context.aside.problem(lane)),
        unknown: !serves(&context.fleet, lane),
    }
}

fn explain(job: &Job, lane: &Lane, around: &Surroundings, now: Timestamp) -> String {
    match &job.state {
        State::Queued => held_up(lane, around).unwrap_or_else(|| {
            format!(
                "its turn: {} other jobs wait in the queue {lane}, and {} are with its workers, \
                 which have {} slots",
                around.queued.saturating_sub(1),
                around.in_flight,
                around.slots
            )
        }),
        State::Dispatched { .. } => held_up(lane, around).unwrap_or_else(|| {
            format!(
                "a free slot: it is released, with {} other jobs of the queue {lane}, to workers \
                 that have {} slots",
                around.in_flight.saturating_sub(1),
                around.slots
            )
        }),
        State::RetryWait { until } => {
            let failure = job
                .failure
                .as_ref()
                .map(|failure| format!(" after {}: {}", failure.code, failure.message))
                .unwrap_or_default();
            format!("its next attempt, {}{failure}", due(until.since(now)))
        }
        State::Leased(_) | State::Succeeded | State::Failed | State::Cancelled | State::Expired => {
            String::new()
        }
    }
}

/// What keeps the whole queue from moving.
fn held_up(lane: &Lane, around: &Surroundings) -> Option<String> {
    if around.unknown {
        return Some(format!(
            "its model: `fleet.toml` has no model `{}` in the pool `{}` any more; name it there \
             again, or cancel the job",
            lane.model, lane.pool
        ));
    }
    if let Some(problem) = &around.broker_problem {
        return Some(format!("the broker, which is not available: {problem}"));
    }
    if around.slots > 0 {
        return None;
    }
    let (model, pool) = (&lane.model, &lane.pool);
    Some(match around.starting {
        0 => format!(
            "a worker: no ready worker serves the model `{model}` in the pool `{pool}`; start one"
        ),
        workers => format!(
            "a worker: {workers} that serve the model `{model}` in the pool `{pool}` are starting, or load \
             it when that pays"
        ),
    })
}

fn due(left: Duration) -> String {
    if left.is_zero() {
        return "which is due now".to_owned();
    }
    format!("due in {}", HumanDuration::new(left))
}

#[cfg(test)]
mod tests {
    use stoker_core::ids::{JobId, ModelName, PoolName};
    use stoker_core::job::{Failure, FailureReason};

    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_unix_millis(10_000)
    }

    fn job(state: State) -> Job {
        let job = Job::accepted(JobId::from_bytes([1; 16]), 1, now(), Timestamp::MAX);
        Job { state, ..job }
    }

    fn text(state: State, around: &Surroundings) -> String {
        let lane =
            Lane { pool: PoolName::new("gpu").unwrap(), model: ModelName::new("mini").unwrap() };
        explain(&job(state), &lane, around, now())
    }

    #[test]
    fn a_queue_without_workers_says_which_are_missing() {
        let around = Surroundings { queued: 1, ..Surroundings::default() };
        let said = text(State::Queued, &around);
        assert!(
            said.contains("no ready worker serves the model `mini` in the pool `gpu`"),
            "{said}"
        );
        let around = Surroundings { starting: 2, ..around };
        let said = text(State::Dispatched { at: now() }, &around);
        assert!(said.contains("2 that serve the model `mini`"), "{said}");
    }

    #[test]
    fn a_busy_queue_says_how_much_there_is() {
        let around = Surroundings { slots: 4, queued: 13, in_flight: 9, ..Surroundings::default() };
        let said = text(State::Queued, &around);
        assert!(said.contains("12 other jobs wait in the queue gpu/mini"), "{said}");
        assert!(said.contains("9 are with its workers, which have 4 slots"), "{said}");
        let said = text(State::Dispatched { at: now() }, &around);
        assert!(said.contains("with 8 other jobs"), "{said}");
    }

    #[test]
    fn a_broken_broker_comes_first() {
        let around = Surroundings {
            broker_problem: Some("start the broker".to_owned()),
            ..Surroundings::default()
        };
        for state in [State::Queued, State::Dispatched { at: now() }] {
            assert!(text(state, &around).contains("start the broker"));
        }
    }

    #[test]
    fn a_retry_says_when_and_why() {
        let mut waiting = job(State::RetryWait { until: Timestamp::from_unix_millis(12_500) });
        waiting.failure = Some(Failure {
            reason: FailureReason::RetriesExhausted,
            code: "OUT_OF_MEMORY".to_owned(),
            message: "too large".to_owned(),
        });
        let queue =
            Lane { pool: PoolName::new("gpu").unwrap(), model: ModelName::new("mini").unwrap() };
        let around = Surroundings::default();
        let said = explain(&waiting, &queue, &around, now());
        assert_eq!(said, "its next attempt, due in 2s 500ms after OUT_OF_MEMORY: too large");
        let overdue = explain(&waiting, &queue, &around, Timestamp::from_unix_millis(13_000));
        assert!(overdue.contains("due now"), "{overdue}");
    }

    #[test]
    fn a_job_that_ended_waits_for_nothing() {
        assert_eq!(text(State::Succeeded, &Surroundings::default()), "");
    }
}
