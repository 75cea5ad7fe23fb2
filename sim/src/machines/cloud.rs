//! A provider: launches by token, listings that lag behind, and calls that fail before or after they had an effect.

use std::collections::BTreeMap;
use std::time::Duration;

use stoker_core::fleet::Reading;
use stoker_core::fleet::execute::{EndedBy, Machine, MachineState, Outcome};
use stoker_core::fleet::ledger::{Entry, Failure};
use stoker_core::ids::{InstanceName, MachineId, OfferingName, PoolName};
use stoker_core::time::Timestamp;

use crate::protocol::random::Random;

use super::sabotage::Sabotage;
use super::tally::Tally;

/// Share of calls that fail, of each kind of call.
pub(super) const FAULT: f64 = 0.05;
/// How long what has ended is listed.
const REMEMBERED: Duration = Duration::from_hours(1);

/// A machine as it really is.
#[derive(Debug, Clone)]
pub(super) struct Real {
    pub(super) instance: InstanceName,
    pub(super) tag: Option<MachineId>,
    pub(super) pool: PoolName,
    pub(super) offering: OfferingName,
    pub(super) state: MachineState,
    pub(super) launched_at: Timestamp,
    visible_at: Timestamp,
    /// When a machine that shuts down is gone.
    gone_at: Option<Timestamp>,
    pub(super) ended_at: Option<Timestamp>,
    /// When its worker registers; `None` for a boot that fails.
    pub(super) boots_at: Option<Timestamp>,
    /// When the provider takes it back, once that is announced.
    pub(super) lost_at: Option<Timestamp>,
}

impl Real {
    pub(super) fn lives(&self) -> bool {
        !matches!(self.state, MachineState::Ended(_))
    }

    pub(super) fn runs(&self) -> bool {
        matches!(self.state, MachineState::Pending | MachineState::Running)
    }
}

#[derive(Debug)]
pub(super) struct Cloud {
    pub(super) machines: BTreeMap<InstanceName, Real>,
    tokens: BTreeMap<(MachineId, u64), InstanceName>,
    made: u64,
    pub(super) random: Random,
    /// No launch is taken from the first to the second.
    pub(super) out: (Timestamp, Timestamp),
    /// Nothing is to be had until then.
    pub(super) sold_out_until: Timestamp,
    /// Listings lack most until then.
    pub(super) blind_until: Timestamp,
    /// Boots fail until then.
    pub(super) boots_fail_until: Timestamp,
    pub(super) tally: Tally,
    salt: u64,
}

impl Cloud {
    pub(super) fn new(random: Random, now: Timestamp) -> Self {
        Self {
            machines: BTreeMap::new(),
            tokens: BTreeMap::new(),
            made: 0,
            random,
            out: (now, now),
            sold_out_until: now,
            blind_until: now,
            boots_fail_until: now,
            tally: Tally::default(),
            salt: 0,
        }
    }

    /// Asks for the machine of an entry.
    pub(super) fn launch(
        &mut self,
        entry: &Entry,
        bug: Option<Sabotage>,
        now: Timestamp,
    ) -> Outcome {
        let machine = entry.id;
        let unsure = |why: &str| Outcome::Unsure { machine, why: why.to_owned() };
        let fails = self.random.chance(FAULT);
        let way = self.random.number(0, 2);
        if fails {
            self.tally.call_faults += 1;
        }
        if self.out_since(now).is_some() {
            self.tally.outages += 1;
            let why = "out of order".to_owned();
            return Outcome::Refused { machine, class: Failure::Transient, why };
        }
        if fails && way == 0 {
            let why = "too many calls".to_owned();
            return Outcome::Refused { machine, class: Failure::Throttled, why };
        }
        if fails && way == 1 {
            self.tally.unsure += 1;
            return unsure("no answer, and no effect");
        }
        if bug == Some(Sabotage::NewTokenEachCall) {
            self.salt += 1;
        }
        let token = (machine, self.salt);
        let instance = if let Some(instance) = self.tokens.get(&token) {
            self.tally.repeated += 1;
            instance.clone()
        } else {
            if now < self.sold_out_until || self.random.chance(0.02) {
                let why = "none left".to_owned();
                return Outcome::Refused { machine, class: Failure::Capacity, why };
            }
            let order = &entry.order;
            let made = self.make(Some(machine), (&order.pool, &order.offering), now);
            self.tokens.insert(token, made.clone());
            made
        };
        if fails {
            self.tally.unsure += 1;
            return unsure("no answer after it was made");
        }
        let launched_at = self.machines.get(&instance).map_or(now, |real| real.launched_at);
        Outcome::Launched { machine, instance, launched_at }
    }

    /// Since when no launch is taken, if none is.
    pub(super) fn out_since(&self, now: Timestamp) -> Option<Timestamp> {
        let (since, until) = self.out;
        (now < until).then_some(since)
    }

    /// A machine comes into being.
    pub(super) fn make(
        &mut self,
        tag: Option<MachineId>,
        (pool, offering): (&PoolName, &OfferingName),
        now: Timestamp,
    ) -> InstanceName {
        self.made += 1;
        self.tally.launched += 1;
        let instance = InstanceName::new(&format!("i-{}", self.made)).expect("a name");
        let fails = now < self.boots_fail_until || self.random.chance(0.03);
        let boot = self.random.millis(60_000, 240_000);
        let lag = self.random.millis(0, 90_000);
        self.tally.failed_boots += u64::from(fails);
        let real = Real {
            instance: instance.clone(),
            tag,
            pool: pool.clone(),
            offering: offering.clone(),
            state: MachineState::Running,
            launched_at: now,
            visible_at: now.after(lag),
            gone_at: None,
            ended_at: None,
            boots_at: (!fails).then(|| now.after(boot)),
            lost_at: None,
        };
        self.machines.insert(instance.clone(), real);
        instance
    }

    pub(super) fn list(&mut self, now: Timestamp) -> Reading<Vec<Machine>> {
        if self.random.chance(FAULT) {
            self.tally.call_faults += 1;
            return Reading::Unknown { why: "the provider does not answer".to_owned() };
        }
        let blind = now < self.blind_until;
        self.tally.bad_listings += u64::from(blind);
        let mut value = Vec::new();
        for (nth, real) in self.machines.values().enumerate() {
            if real.visible_at > now || (blind && nth % 5 > 0) {
                continue;
            }
            value.push(Machine {
                instance: real.instance.clone(),
                tag: real.tag,
                pool: Some(real.pool.clone()),
                offering: Some(real.offering.clone()),
                state: real.state,
                launched_at: real.launched_at,
            });
        }
        Reading::Known { at: now, value }
    }

    pub(super) fn resolve(&mut self, machine: MachineId, now: Timestamp) -> Outcome {
        if self.random.chance(FAULT) {
            self.tally.call_faults += 1;
            let why = "the provider does not answer".to_owned();
            return Outcome::NotDone { machine, class: Failure::Transient, why };
        }
        let mut visible = self.machines.values().filter(|real| real.visible_at <= now);
        let found = visible.find(|real| real.tag == Some(machine));
        let found = found.map(|real| (real.instance.clone(), real.launched_at));
        Outcome::Resolved { machine, found, asked_at: now }
    }

    /// False if the call failed.
    pub(super) fn terminate(&mut self, instance: &InstanceName, now: Timestamp) -> bool {
        let fails = self.random.chance(FAULT);
        let takes = self.random.millis(10_000, 60_000);
        if fails {
            self.tally.call_faults += 1;
            return false;
        }
        if let Some(real) = self.machines.get_mut(instance).filter(|real| real.runs()) {
            real.state = MachineState::ShuttingDown;
            real.gone_at = Some(now.after(takes));
        }
        true
    }

    /// What time does to machines.
    pub(super) fn pass(&mut self, now: Timestamp) {
        let mut ended = 0;
        for real in self.machines.values_mut() {
            if real.lives() && real.lost_at.is_some_and(|at| now >= at) {
                real.state = MachineState::Ended(EndedBy::Interruption);
            } else if real.lives() && real.gone_at.is_some_and(|at| now >= at) {
                real.state = MachineState::Ended(EndedBy::Request);
            }
            if !real.lives() && real.ended_at.is_none() {
                real.ended_at = Some(now);
                ended += 1;
            }
        }
        self.tally.ended += ended;
        let remembered = |real: &Real| real.ended_at.is_none_or(|at| now.since(at) < REMEMBERED);
        self.machines.retain(|_, real| remembered(real));
        let known = &self.machines;
        self.tokens.retain(|_, instance| known.contains_key(instance));
    }
}
