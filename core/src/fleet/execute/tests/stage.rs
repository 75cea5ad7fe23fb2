//! A ledger with a provider and workers that do what the test says.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::fleet::check::{Disruption, Offering, Scaling};
use crate::fleet::execute::{
    Command, Executed, Listings, Machine, MachineState, Outcome, Proposal, Rules, Site, Sites,
    Situation, step,
};
use crate::fleet::ledger::{
    Ledger, Mode, Presence, Quota, StateKind, WorkerList, WorkerSeen, instances,
};
use crate::fleet::plan::{Plan, Step};
use crate::fleet::policy::{Policy, PoolPolicy};
use crate::fleet::report::{LaunchReason, RemoveReason};
use crate::fleet::snapshot::{Notice, Reading};
use crate::fleet::spec::CapacityType;
use crate::ids::{Epoch, InstanceName, MachineId, OfferingName, PoolName, WorkerId};
use crate::money::{HourlyPrice, Money};
use crate::time::Timestamp;

pub(super) struct Stage {
    pub(super) ledger: Ledger,
    pub(super) policy: Policy,
    sites: Sites,
    pub(super) rules: Rules,
    pub(super) epoch: Epoch,
    pub(super) mode: Mode,
    pub(super) read_age: Duration,
    pub(super) machines: Vec<Machine>,
    /// Instead of what `seen` says.
    pub(super) workers: Option<Reading<WorkerList>>,
    pub(super) complete_since: Timestamp,
    seen: BTreeMap<MachineId, WorkerSeen>,
    pub(super) outcomes: Vec<Outcome>,
    pub(super) plan: Option<Proposal>,
    pub(super) quotas: Vec<Quota>,
    pub(super) now: Timestamp,
    /// All that were ever commanded.
    pub(super) commands: Vec<Command>,
    ids: u32,
    instances: u32,
}

pub(super) fn pool() -> PoolName {
    PoolName::new("default").unwrap()
}

pub(super) fn offering() -> OfferingName {
    OfferingName::new("g5.a.spot").unwrap()
}

pub(super) fn instance(number: u32) -> InstanceName {
    InstanceName::new(&format!("i-{number}")).unwrap()
}

/// One pool of at most twenty machines at a dollar an hour.
pub(super) fn policy() -> Policy {
    let price = HourlyPrice::new(Money::from_micros(1_000_000));
    let bought = Offering {
        instance_type: "g5".into(),
        zone: "a".into(),
        capacity: CapacityType::Spot,
        price,
        speed: 1.0,
        bulk_speed: 1.0,
    };
    let scaling = Scaling {
        min: 0,
        max: 20,
        warm: 0,
        boot: Duration::from_mins(3),
        expire_after: None,
        disruption: Disruption::default(),
        offerings: [(offering(), bought)].into(),
    };
    let pools = [(pool(), PoolPolicy { classes: BTreeMap::new(), scaling })].into();
    Policy { pools, ..Policy::default() }
}

pub(super) fn sites() -> Sites {
    let site = Site { provider: "memory".into(), region: "r".into(), template: "lt-1".into() };
    [(pool(), [(offering(), site)].into())].into()
}

impl Stage {
    pub(super) fn new() -> Self {
        let now = Timestamp::from_unix_millis(1_700_000_000_000);
        Self {
            ledger: Ledger::default(),
            policy: policy(),
            sites: sites(),
            rules: Rules::default(),
            epoch: Epoch::new(1),
            mode: Mode::Run,
            read_age: Duration::ZERO,
            machines: Vec::new(),
            workers: None,
            complete_since: now.before(Duration::from_hours(1)),
            seen: BTreeMap::new(),
            outcomes: Vec::new(),
            plan: None,
            quotas: Vec::new(),
            now,
            commands: Vec::new(),
            ids: 0,
            instances: 1_000,
        }
    }

    /// One step whose writes are committed.
    pub(super) fn step(&mut self) -> Executed {
        let listed = Reading::Known { at: self.now, value: self.machines.clone() };
        let listings: Listings = [("r".to_owned(), listed)].into();
        let list = self.list_of_workers();
        let workers = self.workers.clone().unwrap_or(Reading::Known { at: self.now, value: list });
        let outcomes = std::mem::take(&mut self.outcomes);
        let situation = Situation {
            policy: &self.policy,
            sites: &self.sites,
            rules: &self.rules,
            epoch: self.epoch,
            mode: self.mode,
            read_at: self.now.before(self.read_age),
            listings: &listings,
            workers: &workers,
            outcomes: &outcomes,
            proposal: self.plan.as_ref(),
            quotas: &self.quotas,
            now: self.now,
        };
        let ids = &mut self.ids;
        let mut fresh = || {
            *ids += 1;
            MachineId::from_bytes(u128::from(*ids).to_be_bytes())
        };
        let done = step(&self.ledger, &situation, &mut fresh);
        done.writes.apply_to(&mut self.ledger);
        self.commands.extend(done.commands.iter().cloned());
        done
    }

    fn list_of_workers(&self) -> WorkerList {
        let workers = self.seen.values().cloned().collect();
        WorkerList { complete_since: self.complete_since, workers }
    }

    /// How many machines of a pool the planner would be shown.
    pub(super) fn planned_with(&self, pool: &PoolName) -> usize {
        let pools = instances(&self.ledger, &self.list_of_workers());
        pools.get(pool).map_or(0, Vec::len)
    }

    fn propose(&mut self, steps: Vec<Step>) {
        let intents = self.ledger.account.intents;
        self.plan = Some(Proposal { plan: Plan { steps }, intents });
    }

    pub(super) fn want(&mut self, count: u32) {
        self.want_of(&offering(), count);
    }

    pub(super) fn want_of(&mut self, offering: &OfferingName, count: u32) {
        let reason = LaunchReason::Load { wanted: count, have: 0.0 };
        let offering = offering.clone();
        self.propose(vec![Step::Launch { pool: pool(), offering, count, reason }]);
    }

    /// What new machines cost from now on.
    pub(super) fn reprice(&mut self, price: Money) {
        let pools = self.policy.pools.values_mut();
        for offering in pools.flat_map(|pool| pool.scaling.offerings.values_mut()) {
            offering.price = HourlyPrice::new(price);
        }
    }

    /// Another offering of the pool, with the same template.
    pub(super) fn offer(&mut self, name: &OfferingName) {
        for pool in self.policy.pools.values_mut() {
            let offerings = &mut pool.scaling.offerings;
            offerings.extend(offerings.get(&offering()).cloned().map(|one| (name.clone(), one)));
        }
        for sites in self.sites.values_mut() {
            sites.extend(sites.get(&offering()).cloned().map(|site| (name.clone(), site)));
        }
    }

    pub(super) fn drain(&mut self, machine: MachineId, within: Duration) {
        let instance = self.ledger.entries[&machine].name();
        let deadline = self.now.after(within);
        let reason = RemoveReason::Cheaper;
        self.propose(vec![Step::Drain { pool: pool(), instance, deadline, reason }]);
    }

    pub(super) fn terminate(&mut self, machine: MachineId) {
        self.terminate_all(&[machine]);
    }

    pub(super) fn terminate_all(&mut self, machines: &[MachineId]) {
        self.remove(machines, RemoveReason::Empty { wanted: 0, have: 1.0 });
    }

    pub(super) fn take_for_dead(&mut self, machines: &[MachineId]) {
        self.remove(machines, RemoveReason::Dead { silent: Duration::from_mins(6) });
    }

    fn remove(&mut self, machines: &[MachineId], reason: RemoveReason) {
        let step = |machine: &MachineId| {
            let instance = self.ledger.entries[machine].name();
            Step::Terminate { pool: pool(), instance, reason }
        };
        let steps = machines.iter().map(step).collect();
        self.propose(steps);
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now = self.now.after(time);
    }

    pub(super) fn list(&mut self, number: u32, tag: Option<MachineId>, state: MachineState) {
        let instance = instance(number);
        self.machines.retain(|machine| machine.instance != instance);
        let (pool, offering) = (Some(pool()), Some(offering()));
        let launched_at = self.now;
        self.machines.push(Machine { instance, tag, pool, offering, state, launched_at });
    }

    /// The provider says something else of the machine of an entry.
    pub(super) fn relist(&mut self, machine: MachineId, state: MachineState) {
        for listed in &mut self.machines {
            if listed.tag == Some(machine) {
                listed.state = state;
            }
        }
    }

    pub(super) fn resolved(
        &mut self,
        machine: MachineId,
        found: Option<(InstanceName, Timestamp)>,
    ) {
        self.outcomes.push(Outcome::Resolved { machine, found, asked_at: self.now });
    }

    /// The machine of an entry was made, and is listed.
    pub(super) fn found(&mut self, machine: MachineId, number: u32) {
        self.list(number, Some(machine), MachineState::Running);
        let (instance, launched_at) = (instance(number), self.now);
        self.outcomes.push(Outcome::Launched { machine, instance, launched_at });
    }

    pub(super) fn worker(&mut self, machine: MachineId, presence: Presence, running: u32) {
        let id = WorkerId::from_bytes(*machine.as_bytes());
        let seen = WorkerSeen {
            id,
            machine: Some(machine),
            instance: None,
            presence,
            running,
            idle_since: None,
            seen_at: self.now,
            notice: None,
            outdated: false,
            warm: Vec::new(),
            remaining: None,
        };
        self.seen.insert(machine, seen);
    }

    pub(super) fn notice(&mut self, machine: MachineId, notice: Notice) {
        if let Some(seen) = self.seen.get_mut(&machine) {
            seen.notice = Some(notice);
        }
    }

    /// All workers give a sign of life.
    pub(super) fn hear(&mut self) {
        for seen in self.seen.values_mut() {
            seen.seen_at = self.now;
        }
    }

    /// So many machines that were made and boot.
    pub(super) fn launched(&mut self, count: u32) -> Vec<MachineId> {
        self.want(count);
        let _ = self.step();
        self.plan = None;
        let machines = self.in_state(StateKind::Requested);
        for machine in &machines {
            self.instances += 1;
            self.found(*machine, self.instances);
        }
        let _ = self.step();
        machines
    }

    /// So many machines whose workers are ready and run `running` jobs each.
    pub(super) fn ready(&mut self, count: u32, running: u32) -> Vec<MachineId> {
        let machines = self.launched(count);
        for machine in &machines {
            self.worker(*machine, Presence::Ready, running);
        }
        let _ = self.step();
        machines
    }

    pub(super) fn state(&self, machine: MachineId) -> StateKind {
        self.ledger.entries[&machine].state.kind()
    }

    pub(super) fn machines(&self) -> Vec<MachineId> {
        self.ledger.entries.keys().copied().collect()
    }

    pub(super) fn in_state(&self, kind: StateKind) -> Vec<MachineId> {
        let entries = self.ledger.entries.values();
        entries.filter(|entry| entry.state.kind() == kind).map(|entry| entry.id).collect()
    }

    pub(super) fn only(&self) -> MachineId {
        let machines = self.machines();
        assert_eq!(machines.len(), 1);
        machines[0]
    }
}
