//! What the planner has to keep, taken from a checked fleet.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ids::{ClassName, PoolName};
use crate::money::HourlyPrice;

use super::check::{Budget, Class, Fleet, Offering, Scaling};
use super::ledger::Order;
use super::snapshot::Instance;
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
    /// The stated speed of those of these machines that work, on average; of all offerings, while none does. Run times
    /// are measured on them, and the planner counts in seconds of a worker of speed 1.
    pub fn mean_speed(&self, instances: &[Instance]) -> f64 {
        let offerings = &self.scaling.offerings;
        let works = instances.iter().filter(|instance| instance.works());
        let mut working = works.filter_map(|instance| offerings.get(&instance.offering));
        let mean = |speeds: &mut dyn Iterator<Item = &Offering>| {
            let (sum, count) = speeds.fold((0.0, 0.0), |(s, n), of| (s + of.speed, n + 1.0));
            (count > 0.0).then(|| sum / count)
        };
        mean(&mut working).or_else(|| mean(&mut offerings.values())).unwrap_or(1.0)
    }

    /// Whether jobs of a class may wait so long that workers are launched for the backlog alone, when
    /// `boot` is how long that takes.
    pub(crate) fn is_bulk(class: &Class, boot: Duration) -> bool {
        class.max_wait >= boot.saturating_mul(4).max(Duration::from_mins(15))
    }
}

#[cfg(test)]
mod tests {
    use crate::fleet::snapshot::InstanceState;
    use crate::ids::{InstanceName, OfferingName};
    use crate::money::Money;
    use crate::time::Timestamp;

    use super::*;

    #[test]
    fn the_mean_speed_is_that_of_the_machines_that_work() {
        let name = |name: &str| OfferingName::new(name).unwrap();
        let offering = |speed| Offering {
            instance_type: "g".to_owned(),
            zone: "a".to_owned(),
            capacity: CapacityType::OnDemand,
            price: HourlyPrice::new(Money::from_micros(1_000_000)),
            speed,
            bulk_speed: speed,
        };
        let offerings = [(name("slow"), offering(1.0)), (name("fast"), offering(4.0))];
        let scaling = Scaling {
            min: 0,
            max: 9,
            warm: 0,
            boot: Duration::from_mins(3),
            expire_after: None,
            offerings: offerings.into(),
        };
        let pool = PoolPolicy { classes: BTreeMap::new(), scaling };
        let at = Timestamp::from_unix_millis(0);
        let ready = InstanceState::Ready { ready_at: at, running: 1, idle_since: None };
        let instance = |number: u32, offering: &str, state| Instance {
            name: InstanceName::new(&format!("i-{number}")).unwrap(),
            offering: name(offering),
            state,
            launched_at: at,
            seen_at: at,
            notice: None,
            outdated: false,
            warm: Vec::new(),
        };
        let fast = [1, 2, 3].map(|number| instance(number, "fast", ready));
        let booting = instance(4, "slow", InstanceState::Booting);
        let unknown = instance(5, "gone", ready);
        let all = [&fast[..], &[booting.clone(), unknown]].concat();
        assert!((pool.mean_speed(&all) - 4.0).abs() < 1e-12);
        let mixed = [fast[0].clone(), instance(6, "slow", ready)];
        assert!((pool.mean_speed(&mixed) - 2.5).abs() < 1e-12);
        // Nothing has run yet: any offering may be bought.
        assert!((pool.mean_speed(&[booting]) - 2.5).abs() < 1e-12);
    }
}
