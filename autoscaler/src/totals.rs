//! Totals that only grow, from counts of a recent time that is looked at again and again.
//!
//! The coordinator says what happened in each slot to jobs of a limited past. A slot's counts grow while it is not
//! over, and shrink when the jobs that they are about leave that past; the largest that was seen is right.

use std::collections::BTreeMap;
use std::time::Duration;

use stoker_core::fleet::Queue;
use stoker_core::ids::{ClassName, ModelName, PoolName};
use stoker_core::time::Timestamp;
use stoker_proto::{convert, v1};

/// Slots are compared for so long. Longer than any past that is asked for.
const KEPT: Duration = Duration::from_hours(2);

/// Totals by pool, model and class since this was made.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Totals {
    lanes: BTreeMap<(String, String, String), Lane>,
}

#[derive(Debug, Clone, PartialEq, Default)]
struct Lane {
    total: Counts,
    slots: BTreeMap<Timestamp, Counts>,
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Counts {
    arrived: u64,
    started: u64,
    started_late: u64,
    finished: u64,
    service_seconds: f64,
    service_squares: f64,
}

impl Totals {
    /// Takes in an answer. `share` is what a second of a job's run time in a pool is worth in seconds of a worker of
    /// speed 1 that does nothing else: less where a worker runs several jobs at a time, more where it is fast.
    pub(crate) fn observe(
        &mut self,
        answer: &v1::ObserveDemandResponse,
        share: impl Fn(&str) -> f64,
    ) {
        for demand in &answer.demands {
            let key = (demand.pool.clone(), demand.model.clone(), demand.class.clone());
            let lane = self.lanes.entry(key).or_default();
            let share = share(&demand.pool);
            for slot in &demand.slots {
                let begins = slot.begins_at.as_ref();
                let Some(Ok(begins)) = begins.map(|at| convert::timestamp(at, "begins_at")) else {
                    continue;
                };
                lane.see(begins, Counts::of(slot), share);
            }
            if let Some(newest) = lane.slots.keys().next_back().copied() {
                lane.slots.retain(|begins, _| newest.since(*begins) <= KEPT);
            }
        }
    }

    /// Fills in a pool's queues. What has no queue waits and runs nowhere; it is added, so that no total is lost.
    pub(crate) fn fill(&self, pool: &PoolName, queues: &mut Vec<Queue>) {
        for ((_, model, class), lane) in
            self.lanes.iter().filter(|((of, ..), _)| of == pool.as_str())
        {
            let is_it =
                |queue: &&mut Queue| queue.model.as_str() == model && queue.class.as_str() == class;
            if queues.iter_mut().find(is_it).is_none() {
                queues.extend(empty(model, class));
            }
            let Some(queue) = queues.iter_mut().find(is_it) else { continue };
            let total = &lane.total;
            queue.arrived = total.arrived;
            queue.started = total.started;
            queue.started_late = total.started_late;
            queue.finished = total.finished;
            queue.service_seconds = total.service_seconds;
            queue.service_squares = total.service_squares;
        }
    }
}

/// A queue in which nothing waits; `None` if there can be no such names.
fn empty(model: &str, class: &str) -> Option<Queue> {
    Some(Queue {
        class: ClassName::new(class).ok()?,
        model: ModelName::new(model).ok()?,
        waiting: Vec::new(),
        running: 0,
        arrived: 0,
        started: 0,
        started_late: 0,
        finished: 0,
        service_seconds: 0.0,
        service_squares: 0.0,
    })
}

impl Lane {
    fn see(&mut self, begins: Timestamp, now: Counts, share: f64) {
        let before = self.slots.entry(begins).or_default();
        let grown = |was: u64, is: u64| is.saturating_sub(was);
        self.total.arrived += grown(before.arrived, now.arrived);
        self.total.started += grown(before.started, now.started);
        self.total.started_late += grown(before.started_late, now.started_late);
        // Sums belong to the jobs that were measured: they grow together with their number.
        if now.finished > before.finished {
            let seconds = (now.service_seconds - before.service_seconds).max(0.0);
            let squares = (now.service_squares - before.service_squares).max(0.0);
            self.total.finished += now.finished - before.finished;
            self.total.service_seconds += seconds * share;
            self.total.service_squares += squares * share * share;
            before.finished = now.finished;
            before.service_seconds = now.service_seconds;
            before.service_squares = now.service_squares;
        }
        before.arrived = before.arrived.max(now.arrived);
        before.started = before.started.max(now.started);
        before.started_late = before.started_late.max(now.started_late);
    }
}

impl Counts {
    fn of(slot: &v1::DemandSlot) -> Self {
        Self {
            arrived: slot.accepted,
            started: slot.started,
            started_late: slot.started_late,
            finished: slot.measured,
            service_seconds: slot.run_seconds,
            service_squares: slot.run_seconds_squared,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(second: i64, accepted: u64, measured: u64) -> v1::DemandSlot {
        let begins_at = Some(stoker_proto::well_known::Timestamp { seconds: second, nanos: 0 });
        let seconds = 4.0 * f64::from(u32::try_from(measured).unwrap());
        v1::DemandSlot {
            begins_at,
            accepted,
            measured,
            run_seconds: seconds,
            run_seconds_squared: 4.0 * seconds,
            ..v1::DemandSlot::default()
        }
    }

    fn answer(slots: Vec<v1::DemandSlot>) -> v1::ObserveDemandResponse {
        let (pool, model, class) = ("default".to_owned(), "echo".to_owned(), "bulk".to_owned());
        let demand = v1::Demand { pool, model, class, slots, ..v1::Demand::default() };
        v1::ObserveDemandResponse { demands: vec![demand], ..v1::ObserveDemandResponse::default() }
    }

    fn queue(totals: &Totals) -> Queue {
        let mut queues = Vec::new();
        totals.fill(&PoolName::new("default").unwrap(), &mut queues);
        queues.remove(0)
    }

    #[test]
    fn a_slot_that_is_seen_again_counts_what_is_new() {
        let mut totals = Totals::default();
        totals.observe(&answer(vec![slot(0, 5, 1), slot(15, 2, 0)]), |_| 0.5);
        totals.observe(&answer(vec![slot(0, 5, 1), slot(15, 7, 3)]), |_| 0.5);
        let queue = queue(&totals);
        assert_eq!((queue.arrived, queue.finished), (12, 4));
        assert!((queue.service_seconds - 8.0).abs() < 1e-9, "half of 16: {queue:?}");
        assert!((queue.service_squares - 16.0).abs() < 1e-9, "a quarter of 64: {queue:?}");
    }

    #[test]
    fn what_leaves_the_past_that_is_asked_for_takes_nothing_away() {
        let mut totals = Totals::default();
        totals.observe(&answer(vec![slot(0, 5, 4)]), |_| 1.0);
        totals.observe(&answer(vec![slot(0, 1, 1)]), |_| 1.0);
        totals.observe(&answer(Vec::new()), |_| 1.0);
        assert_eq!((queue(&totals).arrived, queue(&totals).finished), (5, 4));
    }

    #[test]
    fn a_queue_that_is_there_keeps_what_waits_in_it() {
        let mut totals = Totals::default();
        totals.observe(&answer(vec![slot(0, 5, 4)]), |_| 1.0);
        let mut queues = vec![Queue {
            class: ClassName::new("bulk").unwrap(),
            model: ModelName::new("echo").unwrap(),
            running: 3,
            ..queue(&Totals { ..totals.clone() })
        }];
        totals.fill(&PoolName::new("default").unwrap(), &mut queues);
        assert_eq!((queues.len(), queues[0].running, queues[0].arrived), (1, 3, 5));
    }
}
