//! Queues now and in the past, from what the coordinator counts.

use std::time::Duration;

use stoker_core::fleet::{PastSlot, PoolPolicy, Queue, Reading, Waiting};
use stoker_core::ids::{ClassName, ModelName, PoolName};
use stoker_core::time::Timestamp;
use stoker_proto::v1;

use crate::render::time::from_wire;

/// What waits for a pool now. Its totals are zero: they count from this look on.
pub(super) fn queues(
    answer: &v1::ObserveDemandResponse,
    pool: &PoolName,
    policy: &PoolPolicy,
    now: Timestamp,
) -> Reading<Vec<Queue>> {
    let mut queues = Vec::new();
    for demand in answer.demands.iter().filter(|demand| demand.pool == pool.as_str()) {
        let names = (ClassName::new(&demand.class), ModelName::new(&demand.model));
        let (Ok(class), Ok(model)) = names else {
            let why = format!("the coordinator names a class `{}` that cannot be", demand.class);
            return Reading::Unknown { why };
        };
        let max_wait = policy.classes.get(&class).map_or(Duration::ZERO, |class| class.max_wait);
        let waiting = demand.waiting.iter().map(|jobs| waiting(jobs, max_wait, now));
        let Some(waiting) = waiting.collect::<Option<Vec<_>>>() else {
            let why = "the coordinator does not say how long jobs have waited".to_owned();
            return Reading::Unknown { why };
        };
        queues.push(Queue {
            class,
            model,
            waiting,
            running: demand.running,
            arrived: 0,
            started: 0,
            started_late: 0,
            finished: 0,
            service_seconds: 0.0,
            service_squares: 0.0,
        });
    }
    Reading::Known { at: now, value: queues }
}

fn waiting(jobs: &v1::WaitingJobs, max_wait: Duration, now: Timestamp) -> Option<Waiting> {
    let start_by = from_wire(jobs.start_by.as_ref())?;
    let left = start_by.since(now);
    let late = now.since(start_by);
    Some(Waiting { age: max_wait.saturating_sub(left).saturating_add(late), jobs: jobs.jobs })
}

/// What happened to a pool's jobs, for workers that run `slots` of them at a time.
pub(super) fn past(
    answer: &v1::ObserveDemandResponse,
    pool: &PoolName,
    slots: f64,
) -> Vec<PastSlot> {
    let mut past = Vec::new();
    for demand in answer.demands.iter().filter(|demand| demand.pool == pool.as_str()) {
        let Ok(class) = ClassName::new(&demand.class) else { continue };
        past.extend(demand.slots.iter().filter_map(|slot| {
            Some(PastSlot {
                class: class.clone(),
                begins_at: from_wire(slot.begins_at.as_ref())?,
                arrived: slot.accepted,
                started: slot.started,
                started_late: slot.started_late,
                finished: slot.measured,
                service_seconds: slot.run_seconds / slots,
                service_squares: slot.run_seconds_squared / (slots * slots),
            })
        }));
    }
    past
}
