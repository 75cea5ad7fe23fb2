//! Workers on machines: they register, run jobs one after the other, drain, fall silent and come back; and the
//! coordinator that lists them, which forgets all of them when it starts anew.

use std::collections::BTreeMap;
use std::time::Duration;

use stoker_core::fleet::ledger::{Presence, WorkerList, WorkerSeen};
use stoker_core::fleet::{Notice, Reading};
use stoker_core::ids::{InstanceName, WorkerId};
use stoker_core::time::Timestamp;

use crate::protocol::random::Random;

use super::cloud::{Cloud, FAULT, Real};

#[derive(Debug, Clone)]
pub(super) struct Worker {
    id: WorkerId,
    /// Its job's end, while it has one.
    busy_until: Option<Timestamp>,
    rests_until: Timestamp,
    pub(super) draining: bool,
    pub(super) registered_at: Timestamp,
    seen_at: Timestamp,
    /// Cut off from the coordinator until then.
    cut_off_until: Timestamp,
    exited: bool,
}

impl Worker {
    pub(super) fn is_busy(&self, now: Timestamp) -> bool {
        !self.exited && self.busy_until.is_some_and(|end| end > now)
    }
}

#[derive(Debug)]
pub(super) struct Workers {
    pub(super) by_machine: BTreeMap<InstanceName, Worker>,
    complete_since: Timestamp,
    /// The coordinator is away until then.
    pub(super) away_until: Timestamp,
    random: Random,
    made: u64,
}

impl Workers {
    pub(super) fn new(random: Random, now: Timestamp) -> Self {
        let by_machine = BTreeMap::new();
        let complete_since = now.before(Duration::from_hours(1));
        Self { by_machine, complete_since, away_until: now, random, made: 0 }
    }

    /// The coordinator starts anew: nobody is known to it, until they come back.
    pub(super) fn restart_coordinator(&mut self, now: Timestamp) {
        self.away_until = now.after(self.random.millis(5_000, 20_000));
        self.complete_since = self.away_until;
        for worker in self.by_machine.values_mut() {
            let comes_back = self.random.millis(1_000, 15_000);
            worker.cut_off_until = worker.cut_off_until.max(self.complete_since.after(comes_back));
        }
    }

    /// A few workers lose their connection for a while.
    pub(super) fn cut_off(&mut self, now: Timestamp) {
        for worker in self.by_machine.values_mut() {
            if self.random.chance(0.2) {
                worker.cut_off_until = now.after(self.random.millis(5_000, 90_000));
            }
        }
    }

    /// Jobs begin and end, machines come up and go.
    pub(super) fn pass(&mut self, cloud: &Cloud, now: Timestamp) {
        self.by_machine.retain(|name, _| cloud.machines.get(name).is_some_and(Real::lives));
        for (name, real) in &cloud.machines {
            let up = real.runs() && real.boots_at.is_some_and(|at| now >= at);
            if up && now >= self.away_until && !self.by_machine.contains_key(name) {
                self.made += 1;
                let worker = Worker {
                    id: WorkerId::from_bytes(u128::from(self.made).to_be_bytes()),
                    busy_until: None,
                    rests_until: now,
                    draining: false,
                    registered_at: now,
                    seen_at: now,
                    cut_off_until: now,
                    exited: false,
                };
                self.by_machine.insert(name.clone(), worker);
            }
        }
        for worker in self.by_machine.values_mut().filter(|worker| !worker.exited) {
            if now >= worker.cut_off_until && now >= self.away_until {
                worker.seen_at = now;
            }
            if worker.busy_until.is_some_and(|end| now >= end) {
                worker.busy_until = None;
                worker.rests_until = now.after(self.random.wait(Duration::from_mins(2)));
            }
            if worker.busy_until.is_none() && worker.draining {
                worker.exited = true;
            } else if worker.busy_until.is_none() && now >= worker.rests_until {
                worker.busy_until = Some(now.after(self.random.wait(Duration::from_mins(5))));
            }
        }
    }

    /// Tells a worker to drain; one that cannot be reached is told again.
    pub(super) fn drain(&mut self, id: WorkerId, now: Timestamp) -> bool {
        let reaches = now >= self.away_until && !self.random.chance(FAULT);
        let mut all = self.by_machine.values_mut();
        let told = all.find(|worker| worker.id == id && now >= worker.cut_off_until);
        match told {
            Some(worker) if reaches => {
                worker.draining = true;
                true
            }
            Some(_) | None => false,
        }
    }

    pub(super) fn list(&mut self, cloud: &Cloud, now: Timestamp) -> Reading<WorkerList> {
        if now < self.away_until || self.random.chance(FAULT) {
            return Reading::Unknown { why: "the coordinator does not answer".to_owned() };
        }
        let workers = self.by_machine.iter().filter_map(|(name, worker)| {
            if worker.exited || worker.seen_at < self.complete_since {
                return None;
            }
            let real = cloud.machines.get(name)?;
            let silent = now.since(worker.seen_at) > Duration::from_secs(10);
            let presence = match (silent, worker.draining) {
                (true, _) => Presence::Lost,
                (false, true) => Presence::Draining,
                (false, false) => Presence::Ready,
            };
            Some(WorkerSeen {
                id: worker.id,
                machine: real.tag,
                instance: Some(name.clone()),
                presence,
                running: u32::from(worker.busy_until.is_some()),
                idle_since: None,
                seen_at: worker.seen_at,
                notice: real.lost_at.map(|lost_at| Notice::Interruption { lost_at }),
                outdated: false,
                warm: Vec::new(),
                remaining: None,
            })
        });
        let value = WorkerList { complete_since: self.complete_since, workers: workers.collect() };
        Reading::Known { at: now, value }
    }
}
