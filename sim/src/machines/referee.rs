//! What must hold, looked at in the world: machines as they are, not as the executor thinks.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use stoker_core::fleet::AtLimit;
use stoker_core::fleet::ledger::{Entry, Leave, Mode, State};
use stoker_core::ids::{InstanceName, MachineId};
use stoker_core::money::{HourlyPrice, Money};
use stoker_core::time::Timestamp;

use super::cloud::{Cloud, Real};
use super::store::Store;
use super::workers::Workers;

/// A rule of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Never more machines than the cap.
    Instances,
    /// Never more intents in ten minutes than the cap.
    Launches,
    /// Never more spent in a day than the budget, if it is kept strictly; otherwise nothing asked for after that.
    Budget,
    /// An outage of the provider is not met with one launch after another.
    Outage,
    /// No machine stands in no entry for more than ten minutes.
    Accounted,
    /// One machine for one entry.
    OnePerEntry,
    /// A machine is told to end only if its entry says so.
    EndedByLedger,
    /// No worker that runs a job is ended short of its deadline.
    BusySpared,
    /// No leader of the past writes after its successor.
    Fenced,
    /// After panic nothing is left.
    PanicEnds,
}

/// A rule that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub rule: Rule,
    pub at: Timestamp,
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {}: {}", self.rule, self.at, self.what)
    }
}

/// How long a machine may stand in no entry.
const UNACCOUNTED: Duration = Duration::from_mins(10);
/// By when nothing is left after panic: calls fail, and what was asked for has to be seen first.
const PANIC_LIMIT: Duration = Duration::from_mins(20);
/// What drains of this world grant, and the shortest, when the budget is used up.
pub(super) const DRAIN: Duration = Duration::from_mins(20);
const SHORTEST_DRAIN: Duration = Duration::from_mins(15);
/// Launches that an outage may come upon, twice if one from before turns out well meanwhile, and trials in ten minutes.
const OUTAGE_BURST: usize = 20;
const OUTAGE_TRIALS: usize = 3;
/// How old a list of workers may be that a decision is made from.
const LIST_AGE: Duration = Duration::from_secs(90);

/// What the referee holds the world to.
#[derive(Debug, Clone)]
pub(super) struct Bounds {
    pub(super) instances: u32,
    pub(super) launches: u32,
    pub(super) per_day: Money,
    pub(super) at_limit: AtLimit,
    pub(super) prices: BTreeMap<String, HourlyPrice>,
}

/// Whether a machine was there before its entry.
fn is_adopted(entry: &Entry) -> bool {
    entry.order.reason.starts_with("it has the fleet's tag")
}

#[derive(Debug)]
pub(super) struct Referee {
    bounds: Bounds,
    unknown_since: BTreeMap<InstanceName, Timestamp>,
    /// Spent in the present day, and whether the budget could be kept in it.
    day: i64,
    spent: Money,
    /// Since when it has been more than the budget.
    over_since: Option<Timestamp>,
    was_frozen: bool,
    last: Timestamp,
    pub(super) violation: Option<Violation>,
}

impl Referee {
    pub(super) fn new(bounds: Bounds, now: Timestamp) -> Self {
        let unknown_since = BTreeMap::new();
        Self {
            bounds,
            unknown_since,
            day: 0,
            spent: Money::ZERO,
            over_since: None,
            was_frozen: true,
            last: now,
            violation: None,
        }
    }

    pub(super) fn broken(&mut self, rule: Rule, at: Timestamp, what: String) {
        self.violation.get_or_insert(Violation { rule, at, what });
    }

    /// A machine is told to end.
    pub(super) fn ends(
        &mut self,
        instance: &InstanceName,
        (store, workers): (&Store, &Workers),
        now: Timestamp,
    ) {
        let mut entries = store.ledger.entries.values();
        let entry = entries.find(|entry| entry.state.instance() == Some(instance));
        let Some(entry) = entry else {
            self.broken(Rule::EndedByLedger, now, format!("{instance} stands in no entry"));
            return;
        };
        let why = match &entry.state {
            State::Terminating { why, .. } => why,
            State::Gone { .. } => return,
            other => {
                let what = format!("{instance} is {} in the ledger", other.kind().name());
                self.broken(Rule::EndedByLedger, now, what);
                return;
            }
        };
        let decided = entry.times.terminating.unwrap_or(now);
        let busy = workers.by_machine.get(instance).is_some_and(|worker| {
            // One that registered after the decision, which nobody could know of, is no news.
            worker.is_busy(now) && worker.registered_at < decided.before(LIST_AGE)
        });
        let allowed = match why {
            Leave::Panic | Leave::Interrupted | Leave::OverBudget | Leave::Ordered { .. } => true,
            Leave::Overdue { .. } | Leave::DrainSwitch => {
                entry.times.draining.is_some_and(|since| decided.since(since) >= SHORTEST_DRAIN)
            }
            Leave::Planned { .. } | Leave::Dead { .. } | Leave::NeverRegistered | Leave::Orphan => {
                false
            }
        };
        if busy && !allowed {
            let what = format!("{instance} ran a job and was ended: {why}");
            self.broken(Rule::BusySpared, now, what);
        }
    }

    /// Looks at the world.
    pub(super) fn look(&mut self, cloud: &Cloud, store: &Store, now: Timestamp) {
        self.count(cloud, store, now);
        self.account(cloud, store, now);
        self.charge(cloud, store, now);
        if store.went_back {
            let what = "a write of an older epoch was taken".to_owned();
            self.broken(Rule::Fenced, now, what);
        }
        let panic = store.switch.mode == Mode::Panic;
        // What somebody else made meanwhile has to be seen first.
        let old = |real: &&Real| real.lives() && now.since(real.launched_at) > UNACCOUNTED;
        if panic
            && now.since(store.switch.set_at) > PANIC_LIMIT
            && let Some(real) = cloud.machines.values().find(old)
        {
            self.broken(Rule::PanicEnds, now, format!("{} is still there", real.instance));
        }
    }

    fn count(&mut self, cloud: &Cloud, store: &Store, now: Timestamp) {
        // Machines that somebody else made are beyond any cap of ours.
        let ours = cloud.machines.values().filter(|real| real.lives() && real.tag.is_some());
        let (count, most) = (ours.count(), self.bounds.instances);
        if count > most as usize {
            let what = format!("{count} machines, and {most} are allowed");
            self.broken(Rule::Instances, now, what);
        }
        let lately = store.ledger.entries.values().filter(|entry| {
            let asked = entry.times.requested.is_some();
            asked && !is_adopted(entry) && now.since(entry.times.intended) < Duration::from_mins(10)
        });
        let (count, most) = (lately.count(), self.bounds.launches);
        if count > most as usize {
            let what = format!("{count} launches in ten minutes, and {most} are allowed");
            self.broken(Rule::Launches, now, what);
        }
        if let Some(since) = cloud.out_since(now) {
            let asked = store.ledger.entries.values().filter(|entry| {
                let asked = entry.times.requested.is_some() && !is_adopted(entry);
                asked && entry.times.intended > since
            });
            let tens = usize::try_from(now.since(since).as_secs() / 600).unwrap_or(usize::MAX);
            let (count, most) = (asked.count(), OUTAGE_BURST + OUTAGE_TRIALS * (tens + 1));
            if count > most {
                let what = format!("{count} launches in an outage since {since}");
                self.broken(Rule::Outage, now, what);
            }
        }
        let mut tags: BTreeSet<MachineId> = BTreeSet::new();
        for real in cloud.machines.values().filter(|real| real.lives()) {
            if let Some(tag) = real.tag.filter(|tag| !tags.insert(*tag)) {
                self.broken(Rule::OnePerEntry, now, format!("{tag} has two machines"));
            }
        }
    }

    fn account(&mut self, cloud: &Cloud, store: &Store, now: Timestamp) {
        let open = store.ledger.entries.values().filter(|entry| entry.state.counts());
        let (mut instances, mut tags) = (BTreeSet::new(), BTreeSet::new());
        for entry in open {
            match entry.state.instance() {
                Some(instance) => drop(instances.insert(instance)),
                None => drop(tags.insert(entry.id)),
            }
        }
        let known = |instance: &InstanceName, tag: Option<MachineId>| {
            instances.contains(instance) || tag.is_some_and(|tag| tags.contains(&tag))
        };
        let runs = cloud.machines.values().filter(|real| real.runs());
        let unknown: BTreeSet<InstanceName> = runs
            .filter(|real| !known(&real.instance, real.tag))
            .map(|real| real.instance.clone())
            .collect();
        self.unknown_since.retain(|instance, _| unknown.contains(instance));
        for instance in unknown {
            let since = *self.unknown_since.entry(instance.clone()).or_insert(now);
            if now.since(since) > UNACCOUNTED {
                let what = format!("{instance} has stood in no entry since {since}");
                self.broken(Rule::Accounted, now, what);
            }
        }
    }

    /// What the provider would bill. A day that was frozen for a while, or that began before the run, is not judged:
    /// nothing may be ended in it.
    fn charge(&mut self, cloud: &Cloud, store: &Store, now: Timestamp) {
        let day = now.as_unix_millis().div_euclid(86_400_000);
        if day != self.day {
            self.was_frozen = self.day == 0;
            (self.day, self.spent, self.over_since) = (day, Money::ZERO, None);
        }
        self.was_frozen |= store.switch.mode == Mode::Freeze;
        let took = now.since(self.last);
        self.last = now;
        for real in cloud.machines.values().filter(|real| real.lives()) {
            let price = self.bounds.prices.get(real.offering.as_str()).copied().unwrap_or_default();
            self.spent = self.spent.plus(price.of(took));
        }
        if self.spent <= self.bounds.per_day {
            return;
        }
        let since = *self.over_since.get_or_insert(now);
        match self.bounds.at_limit {
            AtLimit::Drain if self.was_frozen => {}
            AtLimit::Drain => {
                let what = format!("{} spent in a day", self.spent);
                self.broken(Rule::Budget, now, what);
            }
            AtLimit::Stop => {
                let late = |entry: &&Entry| entry.times.intended > since && !is_adopted(entry);
                if let Some(entry) = store.ledger.entries.values().find(late) {
                    let what = format!("{} was asked for when {} was spent", entry.id, self.spent);
                    self.broken(Rule::Budget, now, what);
                }
            }
        }
    }
}
