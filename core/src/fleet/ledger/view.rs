//! The ledger as the planner sees it: instances of each pool, with what their workers say.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::fleet::snapshot::{Instance, InstanceState, Notice};
use crate::ids::{InstanceName, MachineId, ModelName, PoolName, WorkerId};
use crate::time::Timestamp;

use super::Ledger;
use super::entry::Entry;
use super::state::State;

/// The workers that the coordinator knows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WorkerList {
    /// Since when it knows all: a coordinator that has just started waits for its workers to come back. Before that
    /// and for some time after, a worker that is not in the list may well be there.
    pub complete_since: Timestamp,
    pub workers: Vec<WorkerSeen>,
}

/// A worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerSeen {
    pub id: WorkerId,
    /// The machine that it says it runs on: by our id, by the provider's name, or both.
    pub machine: Option<MachineId>,
    pub instance: Option<InstanceName>,
    pub presence: Presence,
    /// Jobs that it runs.
    pub running: u32,
    /// Since when it runs none.
    pub idle_since: Option<Timestamp>,
    pub seen_at: Timestamp,
    pub notice: Option<Notice>,
    /// It runs another version or configuration than new ones do.
    pub outdated: bool,
    /// Models in its memory.
    pub warm: Vec<ModelName>,
    /// How long it needs for all that it holds; `None`: it does not tell.
    #[serde(default)]
    pub remaining: Option<Duration>,
}

/// Whether a worker is there, and takes work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Presence {
    /// Registered, and loading its models.
    Starting,
    Ready,
    /// Takes no new work until an operator lifts that, and goes on with what it has.
    Cordoned,
    /// Takes no new work, and goes when it is done with what it has.
    Draining,
    /// Its stream broke and it has not come back.
    Lost,
}

impl WorkerList {
    /// The worker of a machine: one that is there rather than one that is lost, and of those the latest.
    pub fn of(&self, entry: &Entry) -> Option<&WorkerSeen> {
        let on_it = |worker: &&WorkerSeen| {
            worker.machine == Some(entry.id)
                || (worker.instance.is_some() && worker.instance.as_ref() == entry.state.instance())
        };
        let rank = |worker: &&WorkerSeen| (worker.presence != Presence::Lost, worker.seen_at);
        self.workers.iter().filter(on_it).max_by_key(rank)
    }
}

/// What the planner plans with. Machines are named by their ids ([`Entry::name`]). One that an operator keeps out of
/// work is no capacity and is not to be taken out: the planner does not see it.
#[must_use]
pub fn instances(ledger: &Ledger, workers: &WorkerList) -> BTreeMap<PoolName, Vec<Instance>> {
    let mut pools: BTreeMap<PoolName, Vec<Instance>> = BTreeMap::new();
    for entry in ledger.open() {
        let cordoned = workers.of(entry).is_some_and(|one| one.presence == Presence::Cordoned);
        if cordoned && matches!(entry.state, State::Launched { .. } | State::Ready { .. }) {
            continue;
        }
        let instance = instance(entry, workers);
        pools.entry(entry.order.pool.clone()).or_default().push(instance);
    }
    pools
}

fn instance(entry: &Entry, workers: &WorkerList) -> Instance {
    let worker = workers.of(entry);
    let running = worker.map_or(0, |worker| worker.running);
    let times = &entry.times;
    let launched_at = times.launched.or(times.requested).unwrap_or(times.intended);
    let state = match &entry.state {
        State::Ready { .. }
            if worker.is_some_and(|worker| worker.presence == Presence::Draining) =>
        {
            // It drains by itself, or an operator told it to.
            InstanceState::Draining { running, since: times.ready.unwrap_or(launched_at) }
        }
        State::Ready { .. }
            if worker.is_none_or(|worker| worker.presence != Presence::Starting) =>
        {
            let idle_since = worker.and_then(|worker| worker.idle_since);
            let ready_at = times.ready.unwrap_or(launched_at);
            InstanceState::Ready { ready_at, running, idle_since }
        }
        State::Draining { .. } | State::Terminating { .. } => {
            let since = times.draining.or(times.terminating).unwrap_or(launched_at);
            InstanceState::Draining { running, since }
        }
        State::Ready { .. }
        | State::Intended
        | State::Requested { .. }
        | State::Launched { .. }
        | State::Gone { .. }
        | State::Failed { .. } => InstanceState::Booting,
    };
    // Nothing is held against a worker before the list can be trusted to be complete.
    let heard = worker.map_or(workers.complete_since, |worker| worker.seen_at);
    let seen_at = times.ready.map_or(launched_at, |ready| ready.max(heard));
    let notice = worker.and_then(|worker| worker.notice);
    let outdated = worker.is_some_and(|worker| worker.outdated);
    let warm = worker.map_or_else(Vec::new, |worker| worker.warm.clone());
    let remaining = worker.and_then(|worker| worker.remaining);
    let (name, offering) = (entry.name(), entry.order.offering.clone());
    Instance { name, offering, state, launched_at, seen_at, notice, outdated, warm, remaining }
}
