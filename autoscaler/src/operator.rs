//! What an operator asks of a cloud directly: whether all is set up, and the end of everything.

mod check;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use stoker_core::ids::{InstanceName, RegionName};
use tokio::time::Instant;

use crate::cloud::{CloudError, CloudProvider};

pub use check::{Checked, check};

const AGAIN: Duration = Duration::from_secs(2);

/// A list may lack a new machine for so long (see [`CloudProvider::list`]), and a launch may be under way when the
/// machines are ended: only after so long without one is none left.
pub const SETTLED: Duration = Duration::from_mins(5);

/// What is left of a fleet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Left {
    /// Machines that may still cost money, by region.
    pub machines: BTreeMap<RegionName, BTreeSet<InstanceName>>,
    /// Regions that could not be listed.
    pub unknown: BTreeMap<RegionName, CloudError>,
    /// Machines that could not be ended, by the last answer.
    pub refused: BTreeMap<InstanceName, CloudError>,
    /// Nothing was seen, and not for long enough to be sure.
    pub settles: bool,
}

impl Left {
    /// Whether nothing is left for certain.
    pub fn is_nothing(&self) -> bool {
        self.is_empty() && !self.settles
    }

    fn is_empty(&self) -> bool {
        self.machines.is_empty() && self.unknown.is_empty()
    }
}

/// Ends every machine of the fleet, again and again until none has been seen for `settled` or the time is over. Needs nothing
/// but the cloud: no coordinator, no ledger. `news` hears what is left after each look.
pub async fn panic(
    cloud: &dyn CloudProvider,
    (settled, within): (Duration, Duration),
    mut news: impl FnMut(&Left),
) -> Left {
    let deadline = Instant::now() + within;
    let mut nothing_since = None;
    loop {
        let looked = Instant::now();
        let mut left = look(cloud).await;
        for (region, names) in &left.machines {
            for (name, answer) in cloud.terminate(region, names).await {
                if let Err(error) = answer {
                    left.refused.insert(name, error);
                }
            }
        }
        nothing_since = left.is_empty().then(|| nothing_since.unwrap_or(looked));
        left.settles = nothing_since.is_some_and(|since| looked - since < settled);
        news(&left);
        if left.is_nothing() || Instant::now() >= deadline {
            return left;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn look(cloud: &dyn CloudProvider) -> Left {
    let mut left = Left::default();
    for region in cloud.regions() {
        match cloud.list(&region).await {
            Ok(machines) => {
                let live = machines.into_iter().filter(|machine| machine.state.is_live());
                let names: BTreeSet<InstanceName> = live.map(|machine| machine.name).collect();
                if !names.is_empty() {
                    left.machines.insert(region, names);
                }
            }
            Err(error) => {
                left.unknown.insert(region, error);
            }
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use stoker_core::fleet::{CapacityType, Offering};
    use stoker_core::ids::{FleetName, OfferingName, PoolName};
    use stoker_core::money::{HourlyPrice, Money};
    use stoker_runtime::clock::{Clock, ManualClock, SystemClock};

    use super::*;
    use crate::cloud::memory::{Fault, MemoryCloud, MemoryConfig};
    use crate::cloud::{ErrorClass, Launch, LaunchToken, Verb};

    fn offering() -> (OfferingName, Offering) {
        let offering = Offering {
            instance_type: "g5".to_owned(),
            zone: "us-east-1a".to_owned(),
            capacity: CapacityType::OnDemand,
            price: HourlyPrice::new(Money::from_micros(1_000_000)),
            speed: 1.0,
            bulk_speed: 1.0,
        };
        (OfferingName::new("g5.us-east-1a.on-demand").unwrap(), offering)
    }

    fn cloud(lag: Duration, clock: Arc<dyn Clock>) -> MemoryCloud {
        let (name, sold) = offering();
        let config = MemoryConfig {
            regions: vec![RegionName::new("us-east-1").unwrap()],
            stock: BTreeMap::from([(name, (sold, 9))]),
            types: BTreeMap::new(),
            quotas: BTreeMap::new(),
            boot: Duration::ZERO,
            stop: Duration::ZERO,
            lag,
            seed: 1,
        };
        MemoryCloud::new(config, clock)
    }

    fn launch() -> Launch {
        Launch {
            token: LaunchToken::new("t").unwrap(),
            pool: PoolName::new("default").unwrap(),
            template: None,
            offerings: BTreeMap::from([offering()]),
            count: 5,
            tags: BTreeMap::new(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_ends_every_machine_although_calls_fail() {
        let cloud = cloud(Duration::ZERO, Arc::new(SystemClock::new()));
        let provider = cloud.provider(FleetName::new("x").unwrap());
        provider.launch(&launch()).await.unwrap();
        cloud.fail_next(Verb::List, Fault::Refused(ErrorClass::Transient));
        cloud.fail_next(Verb::Terminate, Fault::Refused(ErrorClass::Throttle));
        let mut looks = Vec::new();
        let times = (SETTLED, Duration::from_mins(10));
        let left = panic(&provider, times, |left| looks.push(left.clone())).await;
        assert!(left.is_nothing(), "{left:?}");
        assert!(!looks[0].unknown.is_empty() && !looks[1].refused.is_empty(), "{looks:?}");
        assert!(cloud.machines().iter().all(|machine| !machine.state.is_live()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_waits_for_machines_that_are_not_listed_yet() {
        let clock = Arc::new(ManualClock::new(SystemClock::new().now()));
        let cloud = cloud(Duration::from_mins(4), Arc::clone(&clock) as Arc<dyn Clock>);
        let provider = cloud.provider(FleetName::new("x").unwrap());
        provider.launch(&launch()).await.unwrap();
        let mut seen = false;
        let left = panic(&provider, (SETTLED, Duration::from_mins(20)), |left| {
            // A look every two seconds.
            clock.advance(AGAIN);
            seen |= !left.machines.is_empty();
        })
        .await;
        assert!(seen && left.is_nothing(), "{left:?}");
        assert!(cloud.machines().iter().all(|machine| !machine.state.is_live()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_that_has_no_time_to_be_sure_does_not_say_so() {
        let provider = cloud(Duration::ZERO, Arc::new(SystemClock::new()))
            .provider(FleetName::new("x").unwrap());
        let left = panic(&provider, (SETTLED, Duration::from_mins(1)), |_| {}).await;
        assert!(left.settles && !left.is_nothing(), "{left:?}");
    }
}
