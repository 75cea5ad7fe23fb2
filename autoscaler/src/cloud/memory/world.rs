//! What there is in the memory cloud, and how it was a while ago.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::RngExt as _;
use stoker_core::fleet::CapacityType;
use stoker_core::ids::{FleetName, InstanceName, OfferingName, RegionName};
use stoker_core::money::HourlyPrice;
use stoker_core::time::Timestamp;

use super::MemoryConfig;
use super::faults::Faults;
use crate::cloud::TOKEN_LIFE;
use crate::cloud::error::{CloudError, ErrorClass, Verb};
use crate::cloud::machine::{Machine, MachineState};
use crate::cloud::market::SpotPrice;
use crate::cloud::owner;
use crate::cloud::request::{Launch, Launched};
use crate::cloud::stock::{self, Shelf};
use crate::cloud::token::LaunchToken;

/// How long a machine that has ended is shown.
const SHOWN: Duration = Duration::from_hours(1);

#[derive(Debug)]
pub(super) struct World {
    pub(super) config: MemoryConfig,
    pub(super) faults: Faults,
    pub(super) calls: BTreeMap<Verb, u64>,
    pub(super) setup_problems: Vec<String>,
    regions: BTreeSet<RegionName>,
    machines: BTreeMap<InstanceName, Life>,
    tokens: BTreeMap<(RegionName, LaunchToken), (Launch, Launched)>,
    prices: Vec<SpotPrice>,
    made: u64,
}

/// A machine and when it ends.
#[derive(Debug)]
struct Life {
    machine: Machine,
    offering: OfferingName,
    region: RegionName,
    ended_at: Option<Timestamp>,
    /// What is shown of it is so old.
    lag: Duration,
}

impl World {
    pub(super) fn new(config: MemoryConfig, now: Timestamp) -> Self {
        let spot = config.stock.values().filter(|(sold, _)| sold.capacity == CapacityType::Spot);
        let prices = spot.map(|(sold, _)| SpotPrice {
            instance_type: sold.instance_type.clone(),
            zone: sold.zone.clone(),
            since: now,
            price: sold.price,
        });
        Self {
            faults: Faults::new(config.seed),
            regions: config.regions.iter().cloned().collect(),
            prices: prices.collect(),
            config,
            calls: BTreeMap::new(),
            setup_problems: Vec::new(),
            machines: BTreeMap::new(),
            tokens: BTreeMap::new(),
            made: 0,
        }
    }

    pub(super) fn regions(&self) -> &BTreeSet<RegionName> {
        &self.regions
    }

    pub(super) fn region_of(&self, name: &str) -> Option<RegionName> {
        stoker_core::cloud::region_of(&self.regions, name)
    }

    /// Launches, or repeats the answer that was given under this token.
    pub(super) fn launch(
        &mut self,
        launch: &Launch,
        fleet: &FleetName,
        now: Timestamp,
    ) -> Result<Launched, CloudError> {
        self.forget(now);
        let (_, region) = launch.check(|zone| self.region_of(zone))?;
        let key = (region.clone(), launch.token.clone());
        if let Some((first, launched)) = self.tokens.get(&key) {
            let same = first == launch;
            return if same { Ok(launched.clone()) } else { Err(other_launch()) };
        }
        let on_sale = Shelf {
            stock: &self.config.stock,
            taken: self.taken(now),
            quotas: &self.config.quotas,
        };
        let (taken, refusals) = stock::take(on_sale, launch);
        let tags = owner::tags(fleet, &launch.pool, &launch.token, &launch.tags);
        let machines = taken.into_iter().filter_map(|name| self.make(&name, &region, &tags, now));
        let launched = Launched { machines: machines.collect(), refusals };
        self.tokens.insert(key, (launch.clone(), launched.clone()));
        Ok(launched)
    }

    fn make(
        &mut self,
        name: &OfferingName,
        region: &RegionName,
        tags: &BTreeMap<String, String>,
        now: Timestamp,
    ) -> Option<Machine> {
        let (offering, _) = self.config.stock.get(name)?;
        let price = match offering.capacity {
            CapacityType::OnDemand => offering.price,
            CapacityType::Spot => {
                let same = |price: &&SpotPrice| {
                    price.instance_type == offering.instance_type && price.zone == offering.zone
                };
                self.prices.iter().rev().find(same).map_or(offering.price, |price| price.price)
            }
        };
        self.made += 1;
        let machine = Machine {
            name: InstanceName::new(&format!("i-{:08}", self.made)).ok()?,
            instance_type: offering.instance_type.clone(),
            zone: offering.zone.clone(),
            capacity: offering.capacity,
            state: MachineState::Pending,
            launched_at: now,
            taken_back: false,
            tags: tags.clone(),
            price: Some(price),
        };
        let (offering, region) = (name.clone(), region.clone());
        let share: f64 = self.faults.chance.random();
        let lag = self.config.lag.mul_f64(share);
        let life = Life { machine: machine.clone(), offering, region, ended_at: None, lag };
        self.machines.insert(machine.name.clone(), life);
        Some(machine)
    }

    /// The fleet's machines in a region, as they were a moment ago.
    pub(super) fn list(
        &mut self,
        region: &RegionName,
        fleet: &FleetName,
        now: Timestamp,
    ) -> Vec<Machine> {
        self.forget(now);
        let of_fleet = |life: &&Life| {
            life.region == *region
                && life.machine.tags.get(owner::FLEET).map(String::as_str) == Some(fleet.as_str())
        };
        let lives = self.machines.values().filter(of_fleet);
        lives.filter_map(|life| life.shown(now, &self.config)).collect()
    }

    /// Ends a machine; false if there is none of this name in the region that could be seen by now.
    pub(super) fn terminate(
        &mut self,
        region: &RegionName,
        name: &InstanceName,
        now: Timestamp,
    ) -> bool {
        let life = self.machines.get(name).filter(|life| life.region == *region);
        let seen = life.is_some_and(|life| life.shown(now, &self.config).is_some());
        if seen {
            self.end(name, now);
        }
        seen
    }

    /// Ends a machine at once; false if it has ended or was never there.
    pub(super) fn end(&mut self, name: &InstanceName, now: Timestamp) -> bool {
        let life = self.machines.get_mut(name).filter(|life| life.ended_at.is_none());
        life.is_some_and(|life| life.ended_at.replace(now).is_none())
    }

    /// Ends a machine at once, by the cloud's own hand.
    pub(super) fn take_back(&mut self, name: &InstanceName, now: Timestamp) -> bool {
        let taken = self.end(name, now);
        if let Some(life) = self.machines.get_mut(name).filter(|_| taken) {
            life.machine.taken_back = true;
        }
        taken
    }

    pub(super) fn machines_at(&self, now: Timestamp) -> Vec<Machine> {
        self.machines.values().filter_map(|life| life.at(now, &self.config)).collect()
    }

    pub(super) fn set_spot_price(
        &mut self,
        (instance_type, zone): (&str, &str),
        price: HourlyPrice,
        now: Timestamp,
    ) {
        let (instance_type, zone) = (instance_type.to_owned(), zone.to_owned());
        self.prices.push(SpotPrice { instance_type, zone, since: now, price });
    }

    /// Prices since a time, and the last before it.
    pub(super) fn prices(
        &self,
        region: &RegionName,
        types: &BTreeSet<String>,
        since: Timestamp,
    ) -> Vec<SpotPrice> {
        let asked = |price: &&SpotPrice| {
            types.contains(&price.instance_type)
                && self.region_of(&price.zone).as_ref() == Some(region)
        };
        let replaced = |old: &SpotPrice| {
            let same =
                |new: &SpotPrice| new.instance_type == old.instance_type && new.zone == old.zone;
            self.prices.iter().any(|new| same(new) && new.since > old.since && new.since <= since)
        };
        self.prices.iter().filter(asked).filter(|price| !replaced(price)).cloned().collect()
    }

    /// Live machines of each offering.
    fn taken(&self, now: Timestamp) -> BTreeMap<OfferingName, u32> {
        let mut taken = BTreeMap::new();
        for life in self.machines.values() {
            if life.at(now, &self.config).is_some_and(|machine| machine.state.is_live()) {
                *taken.entry(life.offering.clone()).or_default() += 1;
            }
        }
        taken
    }

    /// Drops what no list shows any more, and tokens whose machines all ended long ago.
    fn forget(&mut self, now: Timestamp) {
        let kept = SHOWN.max(TOKEN_LIFE) + self.config.stop + self.config.lag;
        self.machines.retain(|_, life| life.ended_at.is_none_or(|ended| now.since(ended) < kept));
        let machines = &self.machines;
        self.tokens.retain(|_, (_, launched)| {
            launched.machines.is_empty()
                || launched.machines.iter().any(|machine| machines.contains_key(&machine.name))
        });
    }
}

impl Life {
    /// The machine as lists show it.
    fn shown(&self, now: Timestamp, config: &MemoryConfig) -> Option<Machine> {
        self.at(now.before(self.lag), config)
    }

    /// The machine as it was at a time; `None` before it was launched.
    fn at(&self, time: Timestamp, config: &MemoryConfig) -> Option<Machine> {
        let launched_at = self.machine.launched_at;
        if time < launched_at {
            return None;
        }
        let state = match self.ended_at.filter(|ended| *ended <= time) {
            Some(ended) if time < ended.after(config.stop) => MachineState::Stopping,
            Some(_) => MachineState::Terminated,
            None if time < launched_at.after(config.boot) => MachineState::Pending,
            None => MachineState::Running,
        };
        let taken_back = self.machine.taken_back && !state.is_up();
        Some(Machine { state, taken_back, ..self.machine.clone() })
    }
}

fn other_launch() -> CloudError {
    let message = "another launch was made under this token";
    CloudError::new(ErrorClass::Invalid, Verb::Launch, message)
}
