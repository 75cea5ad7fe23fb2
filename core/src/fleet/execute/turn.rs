//! One step under way: the ledger as it will be, and short names for what the rules ask.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::fleet::ledger::{Account, Entry, Event, Ledger, WorkerList, WorkerSeen, apply};
use crate::fleet::ledger::{Leave, Presence};
use crate::fleet::snapshot::Reading;
use crate::ids::MachineId;
use crate::money::Money;
use crate::time::Timestamp;

use super::command::Command;
use super::finding::Finding;
use super::guard::Guard;
use super::listing::Machine;
use super::outcomes::market;
use super::pause;
use super::{Executed, Situation, Writes};

/// Money is charged at least this often, if nothing else is to be written.
const CHARGE_EVERY: Duration = Duration::from_mins(1);

pub(super) struct Turn<'a> {
    pub(super) situation: &'a Situation<'a>,
    before: &'a Ledger,
    pub(super) entries: BTreeMap<MachineId, Entry>,
    pub(super) account: Account,
    pub(super) commands: Vec<Command>,
    pub(super) findings: Vec<Finding>,
    pub(super) guard: Guard,
    /// Asked for in this step.
    pub(super) asked: BTreeSet<MachineId>,
}

/// What is known of the worker of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work<'a> {
    /// The workers are not known, or not all of them.
    Unknown,
    /// It has none, or one that was not heard for long.
    Absent,
    /// It was heard a moment ago.
    Present(&'a WorkerSeen),
}

impl<'a> Turn<'a> {
    pub(super) fn new(before: &'a Ledger, situation: &'a Situation<'a>) -> Self {
        let (entries, mut account) = (before.entries.clone(), before.account.clone());
        if !situation.quotas.is_empty() {
            account.quotas = situation.quotas.to_vec();
        }
        let guard = Guard::new(&entries, situation.rules, situation.now);
        let (commands, findings) = (Vec::new(), Vec::new());
        let asked = BTreeSet::new();
        Self { situation, before, entries, account, commands, findings, guard, asked }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.situation.now
    }

    /// Ids of entries that count.
    pub(super) fn open(&self) -> Vec<MachineId> {
        let open = self.entries.values().filter(|entry| entry.state.counts());
        open.map(|entry| entry.id).collect()
    }

    /// Applies an event; one that does not fit is a finding, and changes nothing.
    pub(super) fn apply(&mut self, machine: MachineId, event: &Event) -> bool {
        let Some(entry) = self.entries.get(&machine) else { return false };
        match apply(entry, event, self.situation.now) {
            Ok(next) => {
                let order = next.order.clone();
                let is_new = entry.state.instance().is_none() && next.state.instance().is_some();
                self.entries.insert(machine, next);
                if is_new {
                    pause::over(&mut self.account.pauses, &order);
                    market(self, (&order.pool, &order.offering), |market| market.launched += 1);
                }
                if *event == Event::Asked {
                    self.asked.insert(machine);
                }
                true
            }
            Err(error) => {
                let why = error.to_string();
                self.findings.push(Finding::Illegal { machine, why });
                false
            }
        }
    }

    /// Ends a machine, unless the guard holds it.
    pub(super) fn terminate(&mut self, machine: MachineId, why: Leave) -> bool {
        if why.is_blind() && !self.guard.allows() {
            return false;
        }
        self.apply(machine, &Event::Terminate { why })
    }

    /// Whether a reading says something about now.
    fn is_fresh(&self, at: Timestamp) -> bool {
        self.now().since(at) <= self.situation.rules.stale_after
    }

    /// A region's listing, if it is fresh.
    pub(super) fn listing(&self, region: &str) -> Option<(Timestamp, &'a [Machine])> {
        match self.situation.listings.get(region)? {
            Reading::Known { at, value } if self.is_fresh(*at) => Some((*at, value)),
            Reading::Known { .. } | Reading::Unknown { .. } => None,
        }
    }

    /// The workers, if the list is fresh.
    pub(super) fn workers(&self) -> Option<&'a WorkerList> {
        match self.situation.workers {
            Reading::Known { at, value } if self.is_fresh(*at) => Some(value),
            Reading::Known { .. } | Reading::Unknown { .. } => None,
        }
    }

    /// What is known of the worker of an entry.
    pub(super) fn work(&self, entry: &Entry) -> Work<'a> {
        let rules = self.situation.rules;
        let Some(workers) = self.workers() else { return Work::Unknown };
        let silent = |worker: &WorkerSeen| self.now().since(worker.seen_at);
        match workers.of(entry) {
            Some(worker) if silent(worker) <= rules.worker_lost_after => {
                if worker.presence == Presence::Lost {
                    Work::Unknown
                } else {
                    Work::Present(worker)
                }
            }
            None if self.now().since(workers.complete_since) < rules.workers_settle => {
                Work::Unknown
            }
            Some(_) | None => Work::Absent,
        }
    }

    /// What open entries cost an hour, and how many there are.
    pub(super) fn running(&self) -> (u32, Money) {
        let open = self.entries.values().filter(|entry| entry.state.counts());
        open.fold((0, Money::ZERO), |(count, money), entry| {
            (count + 1, money.plus(self.situation.policy.price_of(&entry.order).hour()))
        })
    }

    pub(super) fn charge(&mut self) {
        let Situation { policy, now, .. } = *self.situation;
        self.account.spend.charge_at(&self.entries, |entry| policy.price_of(&entry.order), now);
    }

    /// What changed, with the versions that it will have.
    pub(super) fn finish(mut self) -> Executed {
        let (held, allowed) = (self.guard.held(), self.guard.allowed());
        if held > 0 {
            self.findings.push(Finding::MassTermination { held, allowed });
        }
        let mut entries = Vec::new();
        for (id, mut entry) in self.entries {
            if self.before.entries.get(&id) != Some(&entry) {
                entry.version += 1;
                entries.push(entry);
            }
        }
        let account = (!entries.is_empty() || is_due(&self.before.account, &self.account))
            .then(|| Account { version: self.account.version + 1, ..self.account });
        let writes = Writes { entries, account };
        Executed { writes, commands: self.commands, findings: self.findings }
    }
}

/// Whether an account is worth writing for itself.
fn is_due(before: &Account, after: &Account) -> bool {
    let (old, new) = (&before.spend, &after.spend);
    let charged = match (old.charged_until, new.charged_until) {
        (Some(old), Some(new)) => new.since(old) >= CHARGE_EVERY,
        (old, new) => old != new,
    };
    let besides = Account { spend: *old, ..after.clone() };
    charged || old.day != new.day || besides != *before
}
