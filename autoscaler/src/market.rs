//! What the cloud shows: machines of each region, spot prices, and the account's quotas. Read in the background, so that a slow region
//! holds up no decision.

mod quotas;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use stoker_core::fleet::execute::{EndedBy, Listings, Machine, MachineState};
use stoker_core::fleet::ledger::Quota;
use stoker_core::fleet::{CapacityType, Policy, Reading};
use stoker_core::ids::{MachineId, RegionName};
use stoker_core::time::Timestamp;
use stoker_runtime::clock::Clock;
use tokio::task::{AbortHandle, JoinSet};

use crate::cloud::{self, CloudError, CloudProvider, SpotPrice};
use quotas::Quotas;

pub(crate) use quotas::wanted;

/// Prices change every few minutes at the most.
const PRICES_EVERY: Duration = Duration::from_mins(5);
/// Spot prices of so far back are asked for; that in force comes with them.
const PRICES_PAST: Duration = Duration::from_hours(1);

/// The cloud as it was seen last.
#[derive(Debug)]
pub(crate) struct Market {
    cloud: Arc<dyn CloudProvider>,
    clock: Arc<dyn Clock>,
    list_every: Duration,
    looks: JoinSet<Look>,
    lists: BTreeMap<RegionName, Shelf>,
    prices: BTreeMap<RegionName, Vec<SpotPrice>>,
    priced: Option<Instant>,
    quotas: Quotas,
}

#[derive(Debug)]
struct Shelf {
    reading: Reading<Vec<Machine>>,
    /// When the last look brought something, or if it has not yet, began; `None` before the first.
    looked: Option<Instant>,
    /// That look.
    look: Option<AbortHandle>,
}

/// What a look brought.
#[derive(Debug)]
enum Look {
    Machines { region: RegionName, at: Timestamp, found: Result<Vec<cloud::Machine>, CloudError> },
    Prices { region: RegionName, found: Result<Vec<SpotPrice>, CloudError> },
    Quotas { region: RegionName, found: Result<Vec<Quota>, CloudError> },
}

impl Market {
    pub(crate) fn new(
        cloud: Arc<dyn CloudProvider>,
        clock: Arc<dyn Clock>,
        list_every: Duration,
    ) -> Self {
        Self {
            cloud,
            clock,
            list_every,
            looks: JoinSet::new(),
            lists: BTreeMap::new(),
            prices: BTreeMap::new(),
            priced: None,
            quotas: Quotas::default(),
        }
    }

    /// Takes in what has been seen, and looks again where it is time to.
    pub(crate) fn refresh(&mut self, policy: &Policy) {
        while let Some(look) = self.looks.try_join_next() {
            match look {
                Ok(look) => self.take(look),
                Err(error) => {
                    tracing::error!(%error, "a look at the cloud ended without an answer");
                }
            }
        }
        for region in self.cloud.regions() {
            let seen = self.lists.entry(region.clone()).or_insert_with(|| Shelf {
                reading: Reading::Unknown { why: "it has not been listed yet".to_owned() },
                looked: None,
                look: None,
            });
            let due = seen.looked.is_none_or(|looked| looked.elapsed() >= self.list_every);
            if !due || seen.look.as_ref().is_some_and(|look| !look.is_finished()) {
                continue;
            }
            seen.looked = Some(Instant::now());
            let (cloud, at) = (Arc::clone(&self.cloud), self.clock.now());
            seen.look = Some(self.looks.spawn(async move {
                let found = cloud.list(&region).await;
                Look::Machines { region, at, found }
            }));
        }
        if self.priced.is_none_or(|asked| asked.elapsed() >= PRICES_EVERY) {
            self.priced = Some(Instant::now());
            self.ask_prices(policy);
        }
        if self.quotas.is_due() {
            self.ask_quotas(policy);
        }
    }

    fn take(&mut self, look: Look) {
        match look {
            Look::Machines { region, at, found } => {
                let Some(seen) = self.lists.get_mut(&region) else { return };
                seen.looked = Some(Instant::now());
                match found {
                    Ok(machines) => {
                        let value = machines.into_iter().map(machine).collect();
                        seen.reading = Reading::Known { at, value };
                    }
                    Err(error) => {
                        tracing::warn!(%region, %error, "machines cannot be listed");
                        // What was seen stays good for as long as it is fresh.
                        if let Reading::Unknown { why } = &mut seen.reading {
                            *why = error.to_string();
                        }
                    }
                }
            }
            Look::Prices { region, found: Ok(found) } => {
                self.prices.insert(region, found);
            }
            Look::Prices { region, found: Err(error) } => {
                tracing::warn!(%region, %error, "spot prices cannot be read; the last ones stay");
            }
            Look::Quotas { region, found } => self.quotas.take(region, found),
        }
    }

    fn ask_prices(&mut self, policy: &Policy) {
        let mut types: BTreeMap<RegionName, BTreeSet<String>> = BTreeMap::new();
        let offerings = policy.pools.values().flat_map(|pool| pool.scaling.offerings.values());
        for offering in offerings.filter(|offering| offering.capacity == CapacityType::Spot) {
            if let Some(region) = self.cloud.region_of(&offering.zone) {
                types.entry(region).or_default().insert(offering.instance_type.clone());
            }
        }
        let since = self.clock.now().before(PRICES_PAST);
        for (region, types) in types {
            let cloud = Arc::clone(&self.cloud);
            self.looks.spawn(async move {
                let found = cloud.prices(&region, &types, since).await;
                Look::Prices { region, found }
            });
        }
    }

    fn ask_quotas(&mut self, policy: &Policy) {
        for (region, types) in wanted(&*self.cloud, policy) {
            let cloud = Arc::clone(&self.cloud);
            self.looks.spawn(async move {
                let found = cloud.quotas(&region, &types).await;
                Look::Quotas { region, found }
            });
        }
    }

    /// How much the account may have, as far as that is known.
    pub(crate) fn quotas(&self) -> Vec<Quota> {
        self.quotas.all()
    }

    /// What was seen of each region.
    pub(crate) fn listings(&self) -> Listings {
        let seen =
            |(region, shelf): (&RegionName, &Shelf)| (region.to_string(), shelf.reading.clone());
        self.lists.iter().map(seen).collect()
    }

    /// The policy with the spot prices of now, where they are known.
    #[must_use]
    pub(crate) fn priced(&self, policy: &Policy) -> Policy {
        let latest = cloud::latest_prices(self.prices.values().flatten(), self.clock.now());
        let mut policy = policy.clone();
        let pools = policy.pools.values_mut();
        for offering in pools.flat_map(|pool| pool.scaling.offerings.values_mut()) {
            let key = (offering.instance_type.clone(), offering.zone.clone());
            if offering.capacity == CapacityType::Spot
                && let Some(latest) = latest.get(&key)
            {
                offering.price = latest.price;
            }
        }
        policy
    }
}

/// In the words of those who decide.
fn machine(seen: cloud::Machine) -> Machine {
    let state = match seen.state {
        cloud::MachineState::Pending => MachineState::Pending,
        cloud::MachineState::Running => MachineState::Running,
        cloud::MachineState::Stopping => MachineState::ShuttingDown,
        cloud::MachineState::Terminated if seen.taken_back => {
            MachineState::Ended(EndedBy::Interruption)
        }
        cloud::MachineState::Terminated => MachineState::Ended(EndedBy::Request),
    };
    Machine {
        tag: seen.token().and_then(|token| token.as_str().parse::<MachineId>().ok()),
        pool: seen.pool(),
        offering: seen.offering(),
        state,
        launched_at: seen.launched_at,
        instance: seen.name,
    }
}

#[cfg(test)]
mod tests {
    use stoker_core::ids::FleetName;
    use stoker_runtime::clock::SystemClock;

    use super::*;
    use crate::cloud::memory::{MemoryCloud, MemoryConfig};

    #[tokio::test]
    async fn a_region_whose_look_panicked_is_looked_at_again() {
        let region = RegionName::new("us-east-1").unwrap();
        let config = MemoryConfig {
            regions: vec![region.clone()],
            stock: BTreeMap::new(),
            types: BTreeMap::new(),
            quotas: BTreeMap::new(),
            boot: Duration::ZERO,
            stop: Duration::ZERO,
            lag: Duration::ZERO,
            seed: 1,
        };
        let clock = Arc::new(SystemClock::new());
        let cloud = MemoryCloud::new(config, Arc::clone(&clock) as Arc<dyn Clock>);
        let provider = Arc::new(cloud.provider(FleetName::new("x").unwrap()));
        let mut market = Market::new(provider, clock, Duration::ZERO);
        let look = market.looks.spawn(async { panic!("a bug in a look") });
        let reading = Reading::Unknown { why: "it has not been listed yet".to_owned() };
        let shelf = Shelf { reading, looked: Some(Instant::now()), look: Some(look) };
        market.lists.insert(region.clone(), shelf);
        while !matches!(market.listings()[region.as_str()], Reading::Known { .. }) {
            market.refresh(&Policy::default());
            tokio::task::yield_now().await;
        }
    }
}
