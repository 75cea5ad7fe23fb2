//! The memory cloud as one fleet sees it.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use stoker_core::fleet::CapacityType;
use stoker_core::fleet::ledger::Quota;
use stoker_core::ids::{FleetName, InstanceName, RegionName};
use stoker_core::time::Timestamp;

use super::MemoryCloud;
use super::world::World;
use crate::cloud::error::{CloudError, ErrorClass, Verb};
use crate::cloud::machine::Machine;
use crate::cloud::market::{MachineType, SpotPrice};
use crate::cloud::provider::{CloudProvider, Terminated};
use crate::cloud::request::{Launch, Launched};

/// A fleet's access to a [`MemoryCloud`].
#[derive(Debug, Clone)]
pub struct MemoryProvider {
    cloud: MemoryCloud,
    fleet: FleetName,
}

impl MemoryProvider {
    pub(super) const fn new(cloud: MemoryCloud, fleet: FleetName) -> Self {
        Self { cloud, fleet }
    }

    /// Carries a call out, unless it meets a fault.
    fn call<T>(
        &self,
        verb: Verb,
        act: impl FnOnce(&mut World, Timestamp) -> Result<T, CloudError>,
    ) -> Result<T, CloudError> {
        let now = self.cloud.clock.now();
        let mut world = self.cloud.world();
        *world.calls.entry(verb).or_default() += 1;
        match world.faults.next(verb) {
            None => act(&mut world, now),
            Some(fault) => {
                if fault.is_done() {
                    // What it would have answered is lost.
                    let _ = act(&mut world, now);
                }
                Err(fault.error(verb))
            }
        }
    }

    fn known(world: &World, region: &RegionName, verb: Verb) -> Result<(), CloudError> {
        if world.regions().contains(region) {
            return Ok(());
        }
        Err(CloudError::new(ErrorClass::Invalid, verb, format!("there is no region {region}")))
    }
}

#[async_trait]
impl CloudProvider for MemoryProvider {
    fn regions(&self) -> BTreeSet<RegionName> {
        self.cloud.world().regions().clone()
    }

    fn region_of(&self, zone: &str) -> Option<RegionName> {
        self.cloud.world().region_of(zone)
    }

    async fn launch(&self, launch: &Launch) -> Result<Launched, CloudError> {
        self.call(Verb::Launch, |world, now| world.launch(launch, &self.fleet, now))
    }

    async fn rehearse(&self, launch: &Launch) -> Result<(), CloudError> {
        self.call(Verb::Rehearse, |world, _| {
            launch.check(|zone| world.region_of(zone))?;
            Ok(())
        })
    }

    async fn list(&self, region: &RegionName) -> Result<Vec<Machine>, CloudError> {
        self.call(Verb::List, |world, now| {
            Self::known(world, region, Verb::List)?;
            Ok(world.list(region, &self.fleet, now))
        })
    }

    async fn terminate(
        &self,
        region: &RegionName,
        names: &BTreeSet<InstanceName>,
    ) -> BTreeMap<InstanceName, Result<Terminated, CloudError>> {
        let ended = self.call(Verb::Terminate, |world, now| {
            Self::known(world, region, Verb::Terminate)?;
            let end = |name: &InstanceName| {
                let known = world.terminate(region, name, now);
                let ended = if known { Terminated::Accepted } else { Terminated::NotFound };
                (name.clone(), Ok(ended))
            };
            Ok(names.iter().map(end).collect())
        });
        ended.unwrap_or_else(|error| {
            names.iter().map(|name| (name.clone(), Err(error.clone()))).collect()
        })
    }

    async fn prices(
        &self,
        region: &RegionName,
        types: &BTreeSet<String>,
        since: Timestamp,
    ) -> Result<Vec<SpotPrice>, CloudError> {
        self.call(Verb::Prices, |world, _| {
            Self::known(world, region, Verb::Prices)?;
            Ok(world.prices(region, types, since))
        })
    }

    async fn types(
        &self,
        region: &RegionName,
        types: &BTreeSet<String>,
    ) -> Result<BTreeMap<String, MachineType>, CloudError> {
        self.call(Verb::Types, |world, _| {
            Self::known(world, region, Verb::Types)?;
            let known = world.config.types.iter().filter(|(name, _)| types.contains(*name));
            Ok(known.map(|(name, what)| (name.clone(), what.clone())).collect())
        })
    }

    async fn quotas(
        &self,
        region: &RegionName,
        types: &BTreeSet<(String, CapacityType)>,
    ) -> Result<Vec<Quota>, CloudError> {
        self.call(Verb::Quotas, |world, _| {
            Self::known(world, region, Verb::Quotas)?;
            let quota = |(capacity, most): (&CapacityType, &u32)| Quota {
                name: format!("machines of {}", capacity.as_str()),
                region: region.to_string(),
                capacity: *capacity,
                most: *most,
                units: types
                    .iter()
                    .filter(|(_, of)| of == capacity)
                    .map(|(name, _)| (name.clone(), 1))
                    .collect(),
            };
            Ok(world.config.quotas.iter().map(quota).filter(|one| !one.units.is_empty()).collect())
        })
    }

    async fn setup_problems(&self, region: &RegionName) -> Result<Vec<String>, CloudError> {
        self.call(Verb::Setup, |world, _| {
            Self::known(world, region, Verb::Setup)?;
            Ok(world.setup_problems.clone())
        })
    }
}
