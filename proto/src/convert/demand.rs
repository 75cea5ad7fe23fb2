//! What waits, runs and happened, as the planner takes it.

use std::time::Duration;

use stoker_core::fleet::{PastSlot, PoolPolicy, Queue, Reading, Waiting};
use stoker_core::ids::{ClassName, ModelName, PoolName};
use stoker_core::time::Timestamp;

use crate::v1;

use super::time::timestamp;

/// What waits for a pool now, or why that is not known. Its totals are zero.
pub fn queues(
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
    let start_by = at(jobs.start_by.as_ref())?;
    let left = start_by.since(now);
    let late = now.since(start_by);
    Some(Waiting { age: max_wait.saturating_sub(left).saturating_add(late), jobs: jobs.jobs })
}

fn at(time: Option<&crate::well_known::Timestamp>) -> Option<Timestamp> {
    timestamp(time?, "").ok()
}

/// What happened to a pool's jobs, for workers that run `slots` of them at a time. Slots without a time are left out.
pub fn past_slots(
    answer: &v1::ObserveDemandResponse,
    pool: &PoolName,
    slots: f64,
) -> Vec<PastSlot> {
    let mut past = Vec::new();
    for demand in answer.demands.iter().filter(|demand| demand.pool == pool.as_str()) {
        let names = (ClassName::new(&demand.class), ModelName::new(&demand.model));
        let (Ok(class), Ok(model)) = names else { continue };
        past.extend(demand.slots.iter().filter_map(|slot| {
            Some(PastSlot {
                class: class.clone(),
                model: model.clone(),
                begins_at: at(slot.begins_at.as_ref())?,
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

/// Jobs that a worker of the pool runs at a time, on average; `None` where there is none.
pub fn mean_slots(answer: &v1::ListWorkersResponse, pool: &PoolName) -> Option<f64> {
    let workers = answer.workers.iter().filter(|worker| worker.pool == pool.as_str());
    let slots = workers.map(|worker| f64::from(worker.slots.max(1)));
    let (sum, number) = slots.fold((0.0, 0_u32), |(sum, number), of| (sum + of, number + 1));
    (number > 0).then(|| sum / f64::from(number))
}

#[cfg(test)]
mod tests {
    use stoker_core::fleet::{Disruption, Scaling};

    use super::*;
    use crate::convert::wire_timestamp;

    const NOW: Timestamp = Timestamp::from_unix_millis(1_700_000_010_000);

    fn pool() -> PoolName {
        PoolName::new("default").unwrap()
    }

    #[test]
    fn slots_are_those_of_the_pools_workers() {
        let worker =
            |pool: &str, slots| v1::Worker { pool: pool.into(), slots, ..Default::default() };
        let workers = vec![worker("default", 4), worker("default", 0), worker("other", 9)];
        let answer = v1::ListWorkersResponse { workers, ..Default::default() };
        assert_eq!(mean_slots(&answer, &pool()), Some(2.5));
        assert_eq!(mean_slots(&v1::ListWorkersResponse::default(), &pool()), None);
    }

    #[test]
    fn a_job_that_does_not_say_how_long_it_may_wait_makes_the_queue_unknown() {
        let of = |start_by| {
            let waiting = vec![v1::WaitingJobs { start_by, jobs: 2 }];
            let (class, model) = ("standard".to_owned(), "echo".to_owned());
            let pool = "default".to_owned();
            let demand = v1::Demand { pool, class, model, waiting, ..Default::default() };
            v1::ObserveDemandResponse { demands: vec![demand], ..Default::default() }
        };
        let scaling = Scaling {
            min: 0,
            max: 1,
            warm: 0,
            boot: Duration::ZERO,
            expire_after: None,
            disruption: Disruption::default(),
            offerings: [].into(),
        };
        let policy = PoolPolicy { classes: [].into(), scaling };
        let known = queues(&of(Some(wire_timestamp(NOW))), &pool(), &policy, NOW);
        let Reading::Known { value, .. } = known else { panic!("{known:?}") };
        assert_eq!(value[0].waiting, [Waiting { age: Duration::ZERO, jobs: 2 }]);
        let unknown = queues(&of(None), &pool(), &policy, NOW);
        assert!(matches!(unknown, Reading::Unknown { .. }), "{unknown:?}");
    }
}
