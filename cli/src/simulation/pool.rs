//! The pool that is simulated: one of a fleet file, or a plain one where there is no file.

use std::collections::BTreeMap;
use std::time::Duration;

use stoker_core::fleet::{
    Budget, CapacityType, Class, Disruption, Fleet, Offering, Policy, PoolPolicy, Scaling,
};
use stoker_core::ids::{ClassName, OfferingName};
use stoker_core::money::{HourlyPrice, Money};

use crate::failure::Failure;

/// A pool with what bounds it.
#[derive(Debug, Clone)]
pub(crate) struct Pool {
    /// `None` without a fleet file.
    pub(crate) name: Option<String>,
    pub(crate) policy: PoolPolicy,
    pub(crate) budget: Budget,
    /// Position of the default class.
    pub(crate) default_class: usize,
}

impl Pool {
    /// The pool of that name, or the only one that has offerings.
    pub(crate) fn of(fleet: &Fleet, name: Option<&str>) -> Result<Self, Failure> {
        let mut pools = Policy::of(fleet).pools;
        let names: Vec<String> = pools.keys().map(ToString::to_string).collect();
        let chosen = match name {
            Some(name) => pools.keys().find(|pool| pool.as_str() == name).cloned(),
            None if names.len() == 1 => pools.keys().next().cloned(),
            None => None,
        };
        let Some((name, policy)) = chosen.and_then(|name| pools.remove_entry(&name)) else {
            return Err(unclear(fleet, name, &names));
        };
        let default_class = policy.classes.keys().position(|class| *class == fleet.default_class);
        Ok(Self {
            name: Some(name.to_string()),
            policy,
            budget: fleet.budget,
            default_class: default_class.unwrap_or(0),
        })
    }

    /// Names of the classes, in the order of the simulation.
    pub(crate) fn classes(&self) -> Vec<String> {
        self.policy.classes.keys().map(ToString::to_string).collect()
    }
}

fn unclear(fleet: &Fleet, name: Option<&str>, scaled: &[String]) -> Failure {
    match name {
        _ if scaled.is_empty() => Failure::usage("no pool of the fleet file has offerings")
            .hint("add [[pools.NAME.offerings]] with instance-type, zone and price")
            .hint("or leave --fleet out to simulate a plain pool"),
        Some(name) if fleet.pools.keys().any(|pool| pool.as_str() == name) => Failure::usage(
            format!("pool `{name}` has no offerings; those that do: {}", scaled.join(", ")),
        ),
        Some(name) => Failure::usage(format!(
            "the fleet file has no pool `{name}`; pools with offerings: {}",
            scaled.join(", ")
        )),
        None => Failure::usage("several pools have offerings; say which one to simulate")
            .hint(format!("--pool with one of: {}", scaled.join(", "))),
    }
}

/// A pool with one class, on-demand and, in as many zones, spot.
pub(crate) fn without_file(
    price: f64,
    spot: Option<f64>,
    zones: &[String],
) -> Result<Pool, Failure> {
    let class = Class { max_wait: Duration::from_mins(1), objective: 0.99, cold_start: true };
    let mut offerings = BTreeMap::from([offering("a", CapacityType::OnDemand, price)?]);
    if let Some(spot) = spot {
        for zone in zones {
            let (name, of) = offering(zone, CapacityType::Spot, spot)?;
            offerings.insert(name, of);
        }
    }
    let scaling = Scaling {
        min: 0,
        max: u32::MAX,
        warm: 0,
        boot: Duration::from_mins(3),
        expire_after: None,
        disruption: Disruption::default(),
        offerings,
    };
    let name = ClassName::new("standard").map_err(|error| Failure::failed(error.to_string()))?;
    let policy = PoolPolicy { classes: BTreeMap::from([(name, class)]), scaling };
    Ok(Pool { name: None, policy, budget: Budget::default(), default_class: 0 })
}

fn offering(
    zone: &str,
    capacity: CapacityType,
    price: f64,
) -> Result<(OfferingName, Offering), Failure> {
    let name = OfferingName::new(&format!("gpu.{zone}.{}", capacity.as_str()))
        .map_err(|error| Failure::usage(format!("zone `{zone}`: {error}")))?;
    let money = Money::from_dollars(price).filter(|price| *price > Money::ZERO);
    let money = money
        .ok_or_else(|| Failure::usage(format!("{price} is not a price in dollars an hour")))?;
    let of = Offering {
        instance_type: "gpu".to_owned(),
        zone: zone.to_owned(),
        capacity,
        price: HourlyPrice::new(money),
        speed: 1.0,
        bulk_speed: 1.0,
    };
    Ok((name, of))
}
