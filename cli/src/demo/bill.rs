//! What the second act did and cost. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Serialize, Serializer};
use stoker_core::fleet::CapacityType;
use stoker_core::fleet::ledger::{Ending, Entry, State, cost};
use stoker_core::ids::MachineId;
use stoker_core::money::Money;
use stoker_core::time::Timestamp;
use stoker_proto::v1;

use super::summary::{percentile, waits};
use crate::render::money::dollars;
use crate::render::table::pairs;
use crate::render::time::span;

/// Whether the cloud took a machine back, or has said that it will.
pub(super) fn taken_back(entry: &Entry) -> bool {
    let gone = matches!(&entry.state, State::Gone { why: Ending::Interrupted, .. });
    gone || entry.times.noticed.is_some()
}

/// The numbers of one run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Bill {
    jobs: u64,
    /// Attempts that ended because their machine was taken back: with their work handed over, and without.
    attempts_handed_over: u64,
    attempts_lost: u64,
    wait_p50_seconds: f64,
    wait_p99_seconds: f64,
    spot_machines: u64,
    on_demand_machines: u64,
    taken_back: u64,
    most_machines: u32,
    seconds: f64,
    #[serde(serialize_with = "as_dollars")]
    paid: Money,
    /// What that many on-demand machines cost in that time.
    #[serde(serialize_with = "as_dollars")]
    always_on: Money,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn as_dollars<S: Serializer>(money: &Money, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(money.dollars())
}

impl Bill {
    /// Of all jobs and machines from a first to a last moment; `peak` is how many were there at most.
    pub(crate) fn new(
        jobs: &[v1::Job],
        machines: &BTreeMap<MachineId, Entry>,
        peak: u32,
        (from, until): (Timestamp, Timestamp),
    ) -> Self {
        let sum = |number: fn(&v1::Job) -> u32| jobs.iter().map(|job| u64::from(number(job))).sum();
        let number = |keeps: &dyn Fn(&Entry) -> bool| {
            // What was never there is no machine.
            let had = machines.values().filter(|entry| entry.times.launched.is_some());
            had.filter(|entry| keeps(entry)).count() as u64
        };
        let capacity = |of: CapacityType| number(&|entry| entry.order.capacity == of);
        let waits = waits(jobs);
        let lasted = until.since(from);
        let dearest = machines.values().map(|entry| entry.order.price).max();
        Self {
            jobs: jobs.len() as u64,
            attempts_handed_over: sum(|job| job.interruptions),
            attempts_lost: sum(|job| job.lost_workers),
            wait_p50_seconds: percentile(&waits, 50),
            wait_p99_seconds: percentile(&waits, 99),
            spot_machines: capacity(CapacityType::Spot),
            on_demand_machines: capacity(CapacityType::OnDemand),
            taken_back: number(&taken_back),
            most_machines: peak,
            seconds: lasted.as_secs_f64(),
            paid: machines.values().map(|entry| cost(entry, until)).sum(),
            always_on: dearest.map_or(Money::ZERO, |price| price.of(lasted).times(peak)),
        }
    }

    /// For people.
    pub(crate) fn table(&self) -> String {
        let time = |seconds| span(Duration::from_secs_f64(seconds));
        let (p50, p99) = (time(self.wait_p50_seconds), time(self.wait_p99_seconds));
        let (handed, lost) = (self.attempts_handed_over, self.attempts_lost);
        let (spot, demand) = (self.spot_machines, self.on_demand_machines);
        let (back, most) = (self.taken_back, self.most_machines);
        let (paid, always) = (dollars(self.paid), dollars(self.always_on));
        pairs([
            ("jobs", format!("{}, all succeeded", self.jobs)),
            ("interrupted", format!("{handed} attempts handed over, {lost} lost with a machine")),
            ("wait", format!("p50 {p50}, p99 {p99}")),
            ("machines", format!("{spot} spot, {demand} on-demand; {back} taken back")),
            ("time", time(self.seconds)),
            ("paid", paid),
            ("always on", format!("{always} for {most} machines at the highest of these prices")),
        ])
    }
}

#[cfg(test)]
mod tests {
    use stoker_core::fleet::ledger::Event;
    use stoker_core::ids::InstanceName;

    use super::*;
    use crate::demo::machines::tests::{START, at, bought, ledger, next};
    use crate::render::time::to_wire;

    #[test]
    fn what_was_there_is_paid_for() {
        let found = |entry: &Entry, name: &str| {
            let instance = InstanceName::new(name).unwrap();
            let asked = next(entry, &Event::Asked, 0);
            next(&asked, &Event::Found { instance, launched_at: START }, 1)
        };
        let spot = next(&found(&bought(1, CapacityType::Spot), "i-1"), &Event::Noticed, 50);
        let demand = found(&bought(2, CapacityType::OnDemand), "i-2");
        let never = bought(3, CapacityType::Spot);
        let job = |wait| v1::Job {
            accepted_at: Some(to_wire(START)),
            started_at: Some(to_wire(at(wait))),
            interruptions: 1,
            ..v1::Job::default()
        };
        let machines = ledger(&[&spot, &demand, &never]);
        let bill = Bill::new(&[job(1), job(3)], &machines, 3, (START, at(100)));
        assert_eq!(
            bill.table(),
            "jobs:         2, all succeeded\n\
             interrupted:  2 attempts handed over, 0 lost with a machine\n\
             wait:         p50 1s, p99 3s\n\
             machines:     1 spot, 1 on-demand; 1 taken back\n\
             time:         1m40s\n\
             paid:         $0.20\n\
             always on:    $0.30 for 3 machines at the highest of these prices\n"
        );
        assert_eq!(serde_json::to_value(&bill).unwrap()["paid"], 0.2);
    }
}
