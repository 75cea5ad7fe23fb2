//! What the planner has to keep, taken from a checked fleet.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ids::{ClassName, PoolName};
use crate::money::HourlyPrice;

use super::check::{Budget, Class, Fleet, Scaling};
use super::ledger::Order;
use super::spec::CapacityType;

/// Pools that are scaled, and what may be spent on them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Policy {
    pub pools: BTreeMap<PoolName, PoolPolicy>,
    pub budget: Budget,
}

/// One pool's part.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolPolicy {
    pub classes: BTreeMap<ClassName, Class>,
    pub scaling: Scaling,
}

impl Policy {
    /// The pools of a fleet that have offerings; the others are started by somebody else.
    pub fn of(fleet: &Fleet) -> Self {
        let scaled = fleet.pools.iter().filter(|(_, pool)| !pool.scaling.offerings.is_empty());
        let pools = scaled.map(|(name, pool)| {
            let classes = fleet.classes.clone();
            (name.clone(), PoolPolicy { classes, scaling: pool.scaling.clone() })
        });
        Self { pools: pools.collect(), budget: fleet.budget }
    }

    /// What a machine costs an hour at present. Spot machines are priced anew all the time, so it is what new ones of
    /// the offering cost, and never less than at the launch: prices may not be known for a while, and a budget is
    /// better used up too early than exceeded.
    pub fn price_of(&self, order: &Order) -> HourlyPrice {
        let pool = self.pools.get(&order.pool);
        let offering = pool.and_then(|pool| pool.scaling.offerings.get(&order.offering));
        match (order.capacity, offering) {
            (CapacityType::Spot, Some(offering)) => offering.price.max(order.price),
            (CapacityType::Spot, None) | (CapacityType::OnDemand, _) => order.price,
        }
    }
}

impl PoolPolicy {
    /// Whether jobs of a class may wait so long that workers are launched for the backlog alone, when
    /// `boot` is how long that takes.
    pub(crate) fn is_bulk(class: &Class, boot: Duration) -> bool {
        class.max_wait >= boot.saturating_mul(4).max(Duration::from_mins(15))
    }
}
