//! The load in numbers, as the autoscaler plans with it: what waits, and what happened.

use std::collections::BTreeMap;

use stoker_core::ids::{ClassName, JobId};
use stoker_core::job::StateKind;
use stoker_core::time::Timestamp;

use super::lanes::{LaneId, SharedLanes};
use super::types::Lane;

/// Length of the slots in which events are counted.
const SLOT_MILLIS: i64 = 15_000;

/// Jobs of one class for one model in one pool, over all tenants.
#[derive(Debug, Clone, PartialEq)]
pub struct Demand {
    pub lane: Lane,
    pub class: ClassName,
    pub running: u64,
    /// Jobs that wait for a worker, by the second in which their longest wait ends.
    pub waiting: BTreeMap<Timestamp, u64>,
    /// By the begin of the slot; those without events are left out.
    pub slots: BTreeMap<Timestamp, DemandSlot>,
}

/// What happened in a slot to jobs that were accepted within the time that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct DemandSlot {
    pub accepted: u64,
    /// First starts, and those that came after the longest wait.
    pub started: u64,
    pub started_late: u64,
    /// Jobs that succeeded at their first attempt, the sum of their run times in seconds, and of its squares.
    pub measured: u64,
    pub run_seconds: f64,
    pub run_seconds_squared: f64,
}

/// (second, jobs) of what waits in a lane. Covered by the index, as there may be millions.
pub(super) const QUEUED: &str = "SELECT start_by / 1000 AS second, count(*) FROM jobs
    WHERE state = 1 AND lane = $1 GROUP BY second";
/// The same of what is with the broker: few.
pub(super) const DISPATCHED: &str = "SELECT start_by / 1000 AS second, count(*) FROM jobs
    WHERE state = 2 AND lane = $1 GROUP BY second";

/// Events of jobs whose id is `$1` or later, from the time `$2` on: (lane, slot, jobs, late, seconds, squares).
pub(super) const EVENTS: [(Event, &str); 3] = [
    (
        Event::Accepted,
        "SELECT lane, accepted_at / 15000 AS slot, count(*),
            CAST(0 AS bigint), CAST(0 AS double precision), CAST(0 AS double precision)
        FROM jobs WHERE id >= $1 AND accepted_at >= $2 GROUP BY lane, slot",
    ),
    (
        Event::Started,
        "SELECT lane, started_at / 15000 AS slot, count(*),
            count(CASE WHEN started_at > start_by THEN 1 END),
            CAST(0 AS double precision), CAST(0 AS double precision)
        FROM jobs WHERE id >= $1 AND started_at >= $2 GROUP BY lane, slot",
    ),
    (
        Event::Measured,
        "SELECT lane, finished_at / 15000 AS slot, count(*), CAST(0 AS bigint),
            sum(CAST(finished_at - started_at AS double precision) / 1000),
            sum(CAST(finished_at - started_at AS double precision) / 1000
                * CAST(finished_at - started_at AS double precision) / 1000)
        FROM jobs WHERE id >= $1 AND finished_at >= $2 AND state = 5 AND last_attempt = 1
            AND started_at IS NOT NULL GROUP BY lane, slot",
    ),
];

/// What a row of [`EVENTS`] counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    Accepted,
    Started,
    Measured,
}

/// A row of [`EVENTS`].
#[derive(Debug, Clone, Copy)]
pub(super) struct EventRow {
    pub(super) lane: LaneId,
    pub(super) slot: i64,
    pub(super) jobs: i64,
    pub(super) late: i64,
    pub(super) seconds: f64,
    pub(super) squares: f64,
}

/// The first id that a job accepted since then may have.
pub(super) fn first_id(since: Timestamp) -> JobId {
    // See `filter::id_bounds`: an id is made before its job is accepted.
    JobId::first_of(since.before(super::filter::LONGEST_CALL))
}

/// Puts rows together, over tenants.
#[derive(Debug)]
pub(super) struct Tally {
    lanes: SharedLanes,
    demands: BTreeMap<(Lane, ClassName), Demand>,
}

impl Tally {
    pub(super) fn new(lanes: &SharedLanes) -> Self {
        let mut tally = Self { lanes: lanes.clone(), demands: BTreeMap::new() };
        for entry in lanes.matching(|_| true) {
            let running = entry.counts.get(StateKind::Leased);
            if let Some(demand) = tally.of(entry.id) {
                demand.running += running;
            }
        }
        tally
    }

    /// Lanes that hold jobs which wait.
    pub(super) fn waiting_lanes(&self) -> Vec<LaneId> {
        let waits =
            |state: StateKind| move |entry: &super::lanes::LaneEntry| entry.counts.get(state) > 0;
        let (queued, dispatched) = (waits(StateKind::Queued), waits(StateKind::Dispatched));
        let entries = self.lanes.matching(|_| true).into_iter();
        entries.filter(|entry| queued(entry) || dispatched(entry)).map(|entry| entry.id).collect()
    }

    pub(super) fn waiting(&mut self, lane: LaneId, second: i64, jobs: i64) {
        if let Some(demand) = self.of(lane) {
            let start_by = Timestamp::from_unix_millis(second.saturating_mul(1000));
            *demand.waiting.entry(start_by).or_default() += u64::try_from(jobs).unwrap_or(0);
        }
    }

    pub(super) fn event(&mut self, event: Event, row: &EventRow) {
        let begin = Timestamp::from_unix_millis(row.slot.saturating_mul(SLOT_MILLIS));
        let number = |jobs: i64| u64::try_from(jobs).unwrap_or(0);
        let Some(demand) = self.of(row.lane) else { return };
        let slot = demand.slots.entry(begin).or_default();
        match event {
            Event::Accepted => slot.accepted += number(row.jobs),
            Event::Started => {
                slot.started += number(row.jobs);
                slot.started_late += number(row.late);
            }
            Event::Measured => {
                slot.measured += number(row.jobs);
                slot.run_seconds += row.seconds;
                slot.run_seconds_squared += row.squares;
            }
        }
    }

    pub(super) fn finish(self) -> Vec<Demand> {
        self.demands.into_values().collect()
    }

    /// `None` for a lane that was made a moment ago, whose jobs the next look sees.
    fn of(&mut self, lane: LaneId) -> Option<&mut Demand> {
        let names = self.lanes.names(lane)?;
        let key = (names.lane.clone(), names.class.clone());
        Some(self.demands.entry(key).or_insert_with(|| Demand {
            lane: names.lane.clone(),
            class: names.class.clone(),
            running: 0,
            waiting: BTreeMap::new(),
            slots: BTreeMap::new(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_counted_in_slots_of_the_length_that_is_said() {
        let divided = format!("_at / {SLOT_MILLIS} AS slot");
        assert!(EVENTS.iter().all(|(_, sql)| sql.contains(&divided)));
    }
}
