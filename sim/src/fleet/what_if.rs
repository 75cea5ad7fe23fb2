//! From a pool of a fleet file, and what would be different, to a world.

use std::time::Duration;

use stoker_core::fleet::{self, CapacityType, PoolPolicy};
use stoker_core::ids::OfferingName;

use crate::fleet::job::{Class, Millis, whole};
use crate::fleet::market::{Billing, Boot, Offering, Steps};
use crate::fleet::service::Batch;
use crate::fleet::service_times::{ServiceTimes, ServiceTimesError};
use crate::fleet::world::Setup;

/// What is to be different from the fleet file. `None` leaves it as it is.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct WhatIf {
    /// Longest wait of every class.
    pub max_wait: Option<Duration>,
    /// Fraction of jobs, of every class.
    pub objective: Option<f64>,
    /// Time from a launch to a worker.
    pub boot: Option<Duration>,
    /// Spread of the logarithm of boot times, and the share of launches that are refused.
    pub boot_spread: f64,
    pub refused: f64,
    /// Dollars an hour of every on-demand and of every spot offering.
    pub price: Option<f64>,
    pub spot_price: Option<f64>,
    /// Interruptions per spot instance and hour.
    pub spot_losses: f64,
    /// Spot capacity over time by zone.
    pub spot_capacity: Vec<(String, Steps)>,
    /// Jobs that a worker runs at a time. Left out: as many as explain `bulk-speed` in the fleet file.
    pub batch: Option<Batch>,
    /// How long each model's jobs run on each instance type, which the planner has to find out.
    pub service_times: Option<ServiceTimes>,
    /// Time from the notice of an interruption to the loss.
    pub notice: Option<Duration>,
    /// How much of the start of a machine's life costs nothing.
    pub pending_free: Duration,
    pub seed: Option<u64>,
}

/// Why there is no such world.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WhatIfError {
    #[error(transparent)]
    ServiceTimes(#[from] ServiceTimesError),
    #[error("the pool has no offerings, so nothing can be launched for it")]
    NoOfferings,
    #[error(
        "the spot capacity has no column for zone `{zone}`; it has: {}", columns.join(", ")
    )]
    NoCapacity { zone: String, columns: Vec<String> },
}

/// The world of a pool for jobs of these models. Classes and offerings are in the order of their names, as in the pool.
pub fn setup(pool: &PoolPolicy, models: &[String], what_if: &WhatIf) -> Result<Setup, WhatIfError> {
    let offerings = pool.scaling.offerings.iter();
    let offerings = offerings.map(|(name, of)| offering(name, of, what_if));
    let mut offerings = offerings.collect::<Result<Vec<_>, _>>()?;
    if offerings.is_empty() {
        return Err(WhatIfError::NoOfferings);
    }
    if let Some(times) = &what_if.service_times {
        times.apply(models, &mut offerings)?;
    }
    let class = |class: &fleet::Class| Class {
        max_wait: millis(what_if.max_wait.unwrap_or(class.max_wait)),
        objective: what_if.objective.unwrap_or(class.objective),
    };
    let boot = Boot {
        mean: millis(what_if.boot.unwrap_or(pool.scaling.boot)),
        sigma: what_if.boot_spread,
        failures: what_if.refused,
    };
    let simple = Setup::simple(60, 180);
    Ok(Setup {
        classes: pool.classes.values().map(class).collect(),
        offerings,
        boot,
        billing: Billing { pending_free: millis(what_if.pending_free), ..simple.billing },
        notice: what_if.notice.map_or(simple.notice, millis),
        max_instances: usize::try_from(pool.scaling.max).map_or(MOST, |max| max.min(MOST)),
        seed: what_if.seed.unwrap_or(simple.seed),
    })
}

/// Instances at a time where the pool has no bound; more would only be a policy that has gone astray.
const MOST: usize = 1000;

fn offering(
    name: &OfferingName,
    offering: &fleet::Offering,
    what_if: &WhatIf,
) -> Result<Offering, WhatIfError> {
    let spot = offering.capacity == CapacityType::Spot;
    let price = if spot { what_if.spot_price } else { what_if.price };
    let capacity = if spot && !what_if.spot_capacity.is_empty() {
        Some(capacity(&offering.zone, what_if)?)
    } else {
        None
    };
    let gain = offering.bulk_speed / offering.speed;
    Ok(Offering {
        name: name.to_string(),
        instance_type: offering.instance_type.clone(),
        zone: offering.zone.clone(),
        spot,
        price: price.unwrap_or_else(|| offering.price.hour().dollars()),
        speed: offering.speed,
        batch: what_if.batch.unwrap_or_else(|| batch(gain)),
        times: Vec::new(),
        capacity,
        losses_per_hour: if spot { what_if.spot_losses } else { 0.0 },
    })
}

/// The smallest batch, and its growth, that does `gain` times as many jobs as one at a time.
fn batch(gain: f64) -> Batch {
    let size = u32::try_from(whole(gain)).unwrap_or(1).max(1);
    let further = f64::from(size - 1);
    let growth = if size > 1 { (f64::from(size) / gain - 1.0) / further } else { 0.0 };
    Batch { size, growth: growth.max(0.0) }
}

fn capacity(zone: &str, what_if: &WhatIf) -> Result<Steps, WhatIfError> {
    let of_zone = what_if.spot_capacity.iter().find(|(column, _)| column == zone);
    of_zone.map(|(_, steps)| steps.clone()).ok_or_else(|| WhatIfError::NoCapacity {
        zone: zone.to_owned(),
        columns: what_if.spot_capacity.iter().map(|(column, _)| column.clone()).collect(),
    })
}

/// The same world with only the offerings that are kept, of which there may be none.
pub fn only(setup: &Setup, keep: impl Fn(&Offering) -> bool) -> Option<Setup> {
    let offerings: Vec<Offering> = setup.offerings.iter().filter(|o| keep(o)).cloned().collect();
    (!offerings.is_empty()).then(|| Setup { offerings, ..setup.clone() })
}

fn millis(time: Duration) -> Millis {
    Millis::try_from(time.as_millis()).unwrap_or(Millis::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use stoker_core::fleet::{Disruption, Scaling};
    use stoker_core::ids::ClassName;
    use stoker_core::money::{HourlyPrice, Money};

    use super::*;

    fn pool() -> PoolPolicy {
        let offering = |zone: &str, capacity: CapacityType, price: f64| {
            let name = format!("g5.{zone}.{}", capacity.as_str());
            let price = HourlyPrice::new(Money::from_dollars(price).unwrap());
            let (instance_type, zone) = ("g5".to_owned(), zone.to_owned());
            let speed = 2.0;
            let of =
                fleet::Offering { instance_type, zone, capacity, price, speed, bulk_speed: 4.0 };
            (OfferingName::new(&name).unwrap(), of)
        };
        let class =
            fleet::Class { max_wait: Duration::from_mins(1), objective: 0.99, cold_start: true };
        let scaling = Scaling {
            min: 0,
            max: 7,
            warm: 0,
            boot: Duration::from_mins(2),
            expire_after: None,
            disruption: Disruption::default(),
            offerings: BTreeMap::from([
                offering("a", CapacityType::Spot, 0.4),
                offering("b", CapacityType::OnDemand, 1.0),
            ]),
        };
        let classes = BTreeMap::from([(ClassName::new("standard").unwrap(), class)]);
        PoolPolicy { classes, scaling }
    }

    #[test]
    fn what_is_not_said_is_as_in_the_file() {
        let setup = setup(&pool(), &[], &WhatIf::default()).unwrap();
        assert_eq!((setup.boot.mean, setup.classes[0].max_wait), (120_000, 60_000));
        assert_eq!(setup.max_instances, 7);
        let prices: Vec<_> = setup.offerings.iter().map(|o| (o.spot, o.price, o.speed)).collect();
        assert_eq!(prices, [(true, 0.4, 2.0), (false, 1.0, 2.0)]);
        assert_eq!(only(&setup, |offering| offering.spot).unwrap().offerings.len(), 1);
        assert!(only(&setup, |offering| offering.price > 5.0).is_none());
    }

    #[test]
    fn what_is_said_is_different() {
        let what_if = WhatIf {
            max_wait: Some(Duration::from_mins(5)),
            boot: Some(Duration::from_secs(30)),
            price: Some(3.0),
            spot_price: Some(2.0),
            spot_losses: 0.5,
            spot_capacity: vec![("a".to_owned(), Steps::new(vec![(0, 3)]))],
            ..WhatIf::default()
        };
        let setup = setup(&pool(), &[], &what_if).unwrap();
        assert_eq!((setup.boot.mean, setup.classes[0].max_wait), (30_000, 300_000));
        let [spot, on_demand] = &setup.offerings[..] else { panic!("two offerings") };
        assert_eq!((spot.price, spot.losses_per_hour), (2.0, 0.5));
        assert_eq!((on_demand.price, on_demand.losses_per_hour), (3.0, 0.0));
        assert!(spot.capacity.is_some() && on_demand.capacity.is_none());
    }

    #[test]
    fn a_batch_gains_what_the_file_says() {
        assert_eq!(batch(1.0), Batch::ONE);
        assert_eq!(batch(2.0), Batch { size: 2, growth: 0.0 });
        let batch_of = batch(2.5);
        assert!(batch_of.size == 3 && (batch_of.gain() - 2.5).abs() < 1e-9, "{batch_of:?}");
        assert_eq!(batch(f64::NAN), Batch::ONE);
    }

    #[test]
    fn a_zone_without_capacity_is_named() {
        let spot_capacity = vec![("z".to_owned(), Steps::default())];
        let what_if = WhatIf { spot_capacity, ..WhatIf::default() };
        let error = setup(&pool(), &[], &what_if).unwrap_err();
        let text = "the spot capacity has no column for zone `a`; it has: z";
        assert_eq!(error.to_string(), text);
        let none = PoolPolicy {
            scaling: Scaling { offerings: BTreeMap::new(), ..pool().scaling },
            ..pool()
        };
        let error = setup(&none, &[], &WhatIf::default()).unwrap_err();
        assert_eq!(error, WhatIfError::NoOfferings);
    }
}
