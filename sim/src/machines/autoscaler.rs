//! One autoscaler: leads, looks, plans, writes, calls; and may die or stand still between any two of these.

use std::collections::VecDeque;
use std::time::Duration;

use stoker_core::fleet::execute::{
    Command, Listings, Outcome, Proposal, Rules, Sites, Situation, step,
};
use stoker_core::fleet::ledger::{Entry, Failure, Ledger, Mode, State, WorkerList, instances};
use stoker_core::fleet::{
    Instance, InstanceState, LaunchReason, Plan, Policy, Reading, RemoveReason, Step,
};
use stoker_core::ids::{Epoch, MachineId};
use stoker_core::time::Timestamp;

use crate::protocol::random::Random;

use super::cloud::{Cloud, FAULT};
use super::referee::{DRAIN, Referee};
use super::sabotage::Sabotage;
use super::store::Store;
use super::tally::Tally;
use super::workers::Workers;

/// What all autoscalers share, and the world around them.
#[derive(Debug)]
pub(super) struct Around<'a> {
    pub(super) cloud: &'a mut Cloud,
    pub(super) store: &'a mut Store,
    pub(super) workers: &'a mut Workers,
    pub(super) referee: &'a mut Referee,
    pub(super) tally: &'a mut Tally,
    pub(super) policy: &'a Policy,
    pub(super) sites: &'a Sites,
    /// Machines that the load needs.
    pub(super) wanted: u32,
    pub(super) bug: Option<Sabotage>,
    pub(super) now: Timestamp,
}

#[derive(Debug)]
pub(super) struct Autoscaler {
    who: usize,
    random: Random,
    rules: Rules,
    /// Calls that were decided and are not made yet, with the entries as they were written.
    calls: VecDeque<(Command, Entry)>,
    outcomes: Vec<Outcome>,
    /// What was looked at, if it stood still before it decided.
    seen: Option<Seen>,
    away_until: Timestamp,
}

/// What a round is based on.
#[derive(Debug)]
struct Seen {
    epoch: Epoch,
    ledger: Ledger,
    mode: Mode,
    switch_version: u64,
    listings: Listings,
    workers: Reading<WorkerList>,
    at: Timestamp,
}

impl Autoscaler {
    pub(super) fn new(who: usize, random: Random, bug: Option<Sabotage>, now: Timestamp) -> Self {
        let mut rules = Rules { drain_within: DRAIN, ..Rules::default() };
        match bug {
            Some(Sabotage::NoReaper) => rules.reap_after = Duration::from_hours(1_000_000),
            Some(Sabotage::AbsentIsGone) => {
                rules.visible_after = Duration::ZERO;
                rules.absent_after = Duration::ZERO;
                rules.distrusted_for = Duration::ZERO;
            }
            _ => {}
        }
        let (calls, outcomes) = (VecDeque::new(), Vec::new());
        Self { who, random, rules, calls, outcomes, seen: None, away_until: now }
    }

    /// As far as it comes in this moment.
    pub(super) fn act(&mut self, around: &mut Around<'_>) {
        if around.now < self.away_until {
            return;
        }
        if !self.make_calls(around) || self.stumbles(around) {
            return;
        }
        let seen = match self.seen.take() {
            Some(seen) => seen,
            None => match self.look(around) {
                Some(seen) => seen,
                None => return,
            },
        };
        if self.stands_still(around) {
            self.seen = Some(seen);
            return;
        }
        self.decide(&seen, around);
        if !self.stumbles(around) {
            self.make_calls(around);
        }
    }

    /// Dies and is started again, with nothing that it knew; or stands still and knows all of it.
    fn stumbles(&mut self, around: &mut Around<'_>) -> bool {
        if self.random.chance(0.002) {
            around.tally.crashes += 1;
            (self.calls, self.outcomes, self.seen) = (VecDeque::new(), Vec::new(), None);
            self.away_until = around.now.after(self.random.millis(5_000, 40_000));
            return true;
        }
        self.stands_still(around)
    }

    fn stands_still(&mut self, around: &mut Around<'_>) -> bool {
        if !self.random.chance(0.002) {
            return false;
        }
        around.tally.pauses += 1;
        self.away_until = around.now.after(self.random.millis(5_000, 80_000));
        true
    }

    /// True when all are made.
    fn make_calls(&mut self, around: &mut Around<'_>) -> bool {
        while let Some((command, entry)) = self.calls.pop_front() {
            self.call(&command, &entry, around);
            if !self.calls.is_empty() && self.stumbles(around) {
                return false;
            }
        }
        true
    }

    fn call(&mut self, command: &Command, entry: &Entry, around: &mut Around<'_>) {
        let (machine, now) = (entry.id, around.now);
        match command {
            Command::Launch { .. } => {
                let outcome = around.cloud.launch(entry, around.bug, now);
                let failed = around.bug == Some(Sabotage::UnknownIsFailed);
                self.outcomes.push(match outcome {
                    Outcome::Unsure { why, .. } if failed => {
                        Outcome::Refused { machine, class: Failure::Transient, why }
                    }
                    outcome => outcome,
                });
            }
            Command::Resolve { machine } => {
                self.outcomes.push(around.cloud.resolve(*machine, now));
            }
            Command::Drain { worker, .. } => {
                around.tally.drained += u64::from(around.workers.drain(*worker, now));
                let at_once = around.bug == Some(Sabotage::DrainWithoutDeadline);
                if let Some(instance) = entry.state.instance().filter(|_| at_once) {
                    around.referee.ends(instance, (around.store, around.workers), now);
                }
            }
            Command::Terminate { instance, .. } => {
                let once = around.bug == Some(Sabotage::TerminateOnce);
                let first = entry.times.terminating == Some(now);
                if once && !first {
                    return;
                }
                around.referee.ends(instance, (around.store, around.workers), now);
                if !around.cloud.terminate(instance, now) {
                    let why = "the provider does not answer".to_owned();
                    self.outcomes.push(Outcome::NotDone {
                        machine,
                        class: Failure::Transient,
                        why,
                    });
                }
            }
        }
    }

    fn look(&mut self, around: &mut Around<'_>) -> Option<Seen> {
        let now = around.now;
        let away = self.random.chance(FAULT);
        let epoch = around.store.lead(self.who, now).filter(|_| !away);
        if epoch.is_none() {
            around.tally.call_faults += u64::from(away);
            // It does not lead, so what it asked for is another's to find out.
            self.outcomes.clear();
            return None;
        }
        let (ledger, switch) = around.store.read();
        let listed = around.cloud.list(now);
        let listings = [("r".to_owned(), listed)].into();
        let workers = around.workers.list(around.cloud, now);
        let (mode, switch_version) = (switch.mode, switch.version);
        epoch.map(|epoch| Seen { epoch, ledger, mode, switch_version, listings, workers, at: now })
    }

    fn decide(&mut self, seen: &Seen, around: &mut Around<'_>) {
        let now = around.now;
        let plan = plan(&seen.ledger, &seen.workers, around, now);
        let proposal = Proposal { plan, intents: seen.ledger.account.intents };
        let mut policy = around.policy.clone();
        if around.bug == Some(Sabotage::NoCaps) {
            policy.budget = stoker_core::fleet::Budget::default();
        }
        let outcomes = std::mem::take(&mut self.outcomes);
        let situation = Situation {
            policy: &policy,
            sites: around.sites,
            rules: &self.rules,
            epoch: seen.epoch,
            mode: seen.mode,
            read_at: seen.at,
            listings: &seen.listings,
            workers: &seen.workers,
            outcomes: &outcomes,
            proposal: Some(&proposal),
            quotas: &[],
            now,
        };
        let random = &mut self.random;
        let mut fresh = || MachineId::from_bytes(random.bytes());
        let mut ledger = seen.ledger.clone();
        if around.bug == Some(Sabotage::NoPauses) {
            ledger.account.pauses.clear();
        }
        let done = step(&ledger, &situation, &mut fresh);
        note(&done.findings, around.tally);
        let mut after = seen.ledger.clone();
        done.writes.apply_to(&mut after);
        let entry = |command: &Command| {
            let (Command::Launch { machine }
            | Command::Resolve { machine }
            | Command::Drain { machine, .. }
            | Command::Terminate { machine, .. }) = command;
            after.entries.get(machine).cloned()
        };
        let calls: VecDeque<(Command, Entry)> =
            done.commands.iter().filter_map(|c| Some((c.clone(), entry(c)?))).collect();
        if around.bug == Some(Sabotage::LaunchBeforeIntent) {
            self.calls = calls;
            if !self.make_calls(around) {
                return;
            }
            self.write(seen, &done.writes, around);
            return;
        }
        if around.bug == Some(Sabotage::ReaperWithoutGrace) {
            reap_at_once(seen, around);
        }
        if self.write(seen, &done.writes, around) {
            self.calls = calls;
        }
    }

    /// Whether the writes are known to be committed.
    fn write(
        &mut self,
        seen: &Seen,
        writes: &stoker_core::fleet::execute::Writes,
        around: &mut Around<'_>,
    ) -> bool {
        let fails = self.random.chance(FAULT);
        let lost = self.random.chance(0.5);
        if fails && !lost {
            around.tally.call_faults += 1;
            return false;
        }
        let by = (self.who, seen.epoch);
        let taken = around.store.write(by, seen.switch_version, writes, around.bug);
        around.tally.refused_writes += u64::from(!taken);
        around.tally.lost_answers += u64::from(fails && taken);
        taken && !fails
    }
}

fn note(findings: &[stoker_core::fleet::execute::Finding], tally: &mut Tally) {
    use stoker_core::fleet::execute::Finding;
    for finding in findings {
        match finding {
            Finding::Adopted { .. } => tally.adopted += 1,
            Finding::Capped { .. } => tally.capped += 1,
            _ => {}
        }
    }
}

/// A bug: what a listing has and the ledger that was read before it has not, ends.
fn reap_at_once(seen: &Seen, around: &mut Around<'_>) {
    let Some(Reading::Known { value, .. }) = seen.listings.get("r") else { return };
    let entries = || seen.ledger.entries.values();
    for machine in value {
        let known = entries().any(|entry| entry.state.instance() == Some(&machine.instance));
        if !known {
            around.referee.ends(&machine.instance, (around.store, around.workers), around.now);
        }
    }
}

/// A planner of a few lines: as many machines as are wanted, and the ones that go are drained.
fn plan(
    ledger: &Ledger,
    workers: &Reading<WorkerList>,
    around: &Around<'_>,
    now: Timestamp,
) -> Plan {
    let Reading::Known { value: workers, .. } = workers else { return Plan::default() };
    let mut steps = Vec::new();
    let mut pools = instances(ledger, workers);
    for (pool, policy) in &around.policy.pools {
        let all = pools.remove(pool).unwrap_or_default();
        let staying: Vec<&Instance> = all.iter().filter(|instance| !instance.leaving()).collect();
        for instance in all.iter().filter(|instance| instance.notice.is_some()) {
            let reason = RemoveReason::Interrupted { lost_at: None };
            let (pool, instance) = (pool.clone(), instance.name.clone());
            steps.push(Step::Drain { pool, instance, deadline: now.after(DRAIN), reason });
        }
        let have = u32::try_from(staying.len()).unwrap_or(u32::MAX);
        if have < around.wanted {
            let offering = policy.scaling.offerings.keys().next();
            let reason = LaunchReason::Load { wanted: around.wanted, have: f64::from(have) };
            let count = around.wanted - have;
            let launch = |offering: &stoker_core::ids::OfferingName| Step::Launch {
                pool: pool.clone(),
                offering: offering.clone(),
                count,
                reason: reason.clone(),
            };
            steps.extend(offering.map(launch));
        }
        let surplus = usize::try_from(have.saturating_sub(around.wanted)).unwrap_or(0);
        for instance in staying.into_iter().rev().take(surplus) {
            let (pool, name) = (pool.clone(), instance.name.clone());
            let deadline = now.after(DRAIN);
            let reason = RemoveReason::Empty { wanted: around.wanted, have: f64::from(have) };
            steps.push(match instance.state {
                InstanceState::Booting => Step::Terminate { pool, instance: name, reason },
                InstanceState::Ready { .. } | InstanceState::Draining { .. } => {
                    Step::Drain { pool, instance: name, deadline, reason }
                }
            });
        }
        dead(ledger, &all, (pool, now), &mut steps);
    }
    Plan { steps }
}

/// Workers that were not heard for long.
fn dead(
    ledger: &Ledger,
    all: &[Instance],
    (pool, now): (&stoker_core::ids::PoolName, Timestamp),
    steps: &mut Vec<Step>,
) {
    for instance in all {
        let silent = now.since(instance.seen_at);
        let id: Option<MachineId> = instance.name.as_str().parse().ok();
        let ready = id.and_then(|id| ledger.entries.get(&id));
        let ready = ready.is_some_and(|entry| matches!(entry.state, State::Ready { .. }));
        if ready && silent > Duration::from_mins(5) {
            let reason = RemoveReason::Dead { silent };
            let (pool, instance) = (pool.clone(), instance.name.clone());
            steps.push(Step::Terminate { pool, instance, reason });
        }
    }
}
