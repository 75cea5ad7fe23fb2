//! A cloud in memory: with boot times, bounded capacity, prices, quotas, lists that lag behind, and faults on request.
//!
//! Everything happens in the time of the clock that it is given. The same seed and the same calls give the same story.

mod faults;
mod provider;
#[cfg(test)]
mod tests;
mod world;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stoker_core::fleet::{CapacityType, Offering};
use stoker_core::ids::{FleetName, InstanceName, OfferingName, RegionName};
use stoker_core::money::HourlyPrice;
use stoker_runtime::clock::Clock;

use super::error::Verb;
use super::machine::Machine;
use super::market::MachineType;

pub use faults::{Fault, FaultRate};
pub use provider::MemoryProvider;
use world::World;

/// What the cloud is like.
#[derive(Debug, Clone)]
pub struct MemoryConfig {
    pub regions: Vec<RegionName>,
    /// What it sells, and how many of each at a time.
    pub stock: BTreeMap<OfferingName, (Offering, u32)>,
    pub types: BTreeMap<String, MachineType>,
    /// Most machines of a capacity type at a time, over all fleets. One that is missing is not bounded.
    pub quotas: BTreeMap<CapacityType, u32>,
    /// From launch to running.
    pub boot: Duration,
    /// From the order to end to the end.
    pub stop: Duration,
    /// Lists show each machine as it was at most this long ago.
    pub lag: Duration,
    /// Of all chance in it.
    pub seed: u64,
}

/// The cloud, and the hands of fate. Clones are the same cloud.
#[derive(Debug, Clone)]
pub struct MemoryCloud {
    world: Arc<Mutex<World>>,
    clock: Arc<dyn Clock>,
}

impl MemoryCloud {
    pub fn new(config: MemoryConfig, clock: Arc<dyn Clock>) -> Self {
        let world = World::new(config, clock.now());
        Self { world: Arc::new(Mutex::new(world)), clock }
    }

    /// The cloud as one fleet sees it. Several autoscalers of a fleet each have one.
    pub fn provider(&self, fleet: FleetName) -> MemoryProvider {
        MemoryProvider::new(self.clone(), fleet)
    }

    /// How many machines of an offering there are to be had, those that run included.
    pub fn set_capacity(&self, offering: &OfferingName, capacity: u32) {
        if let Some((_, sold)) = self.world().config.stock.get_mut(offering) {
            *sold = capacity;
        }
    }

    pub fn set_quota(&self, capacity: CapacityType, most: u32) {
        self.world().config.quotas.insert(capacity, most);
    }

    /// What a fleet is told to be wrong with what its machines are launched from.
    pub fn set_setup_problems(&self, problems: Vec<String>) {
        self.world().setup_problems = problems;
    }

    /// Changes the price of spot machines from now on.
    pub fn set_spot_price(&self, instance_type: &str, zone: &str, price: HourlyPrice) {
        let now = self.clock.now();
        self.world().set_spot_price((instance_type, zone), price, now);
    }

    /// From now on each call fails in one of these ways, or none, by chance. Replaces what was said before.
    pub fn set_faults(&self, rates: Vec<FaultRate>) {
        self.world().faults.set_rates(rates);
    }

    /// The next call of this kind fails in this way, before any that fails by chance.
    pub fn fail_next(&self, verb: Verb, fault: Fault) {
        self.world().faults.fail_next(verb, fault);
    }

    /// Takes a machine back; false if there is none to be taken.
    pub fn interrupt(&self, name: &InstanceName) -> bool {
        let now = self.clock.now();
        self.world().take_back(name, now)
    }

    /// Every machine of every fleet as it really is.
    pub fn machines(&self) -> Vec<Machine> {
        let now = self.clock.now();
        self.world().machines_at(now)
    }

    /// How many calls of this kind have come in.
    pub fn calls(&self, verb: Verb) -> u64 {
        self.world().calls.get(&verb).copied().unwrap_or(0)
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
