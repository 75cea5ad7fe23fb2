//! What the planner has to keep, taken from a checked fleet.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ids::{ClassName, PoolName};
use crate::money::HourlyPrice;

use super::check::{Budget, Class, Fleet, Scaling};
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
    /// What a second of a job's run time is worth in seconds of a worker of speed 1, by the stated speeds of these machines.
    ///
    /// Run times are measured over all machines of a pool. While jobs run, what runs on each machine says how many of
    /// those seconds are its own. While none does, the next ones may come to any of them: then a job takes the mean of the times, which is
    /// the harmonic mean of the speeds. It is that of all offerings while no machine works.
    pub fn mean_speed(&self, instances: &[Instance]) -> f64 {
        let offerings = &self.scaling.offerings;
        let speed = |instance: &Instance| Some(offerings.get(&instance.offering)?.speed);
        let (mut work, mut seconds) = (0.0, 0.0);
        for instance in instances.iter().filter(|instance| instance.running() > 0) {
            if let Some(speed) = speed(instance) {
                work += f64::from(instance.running()) * speed;
                seconds += f64::from(instance.running());
            }
        }
        if seconds > 0.0 {
            return work / seconds;
        }
        let mean = |speeds: &mut dyn Iterator<Item = f64>| {
            let (times, count) =
                speeds.fold((0.0, 0.0), |(sum, n), speed| (sum + 1.0 / speed, n + 1.0));
            (count > 0.0).then(|| count / times)
        };
        let mut working = instances.iter().filter(|one| one.works()).filter_map(speed);
        let mut offered = offerings.values().map(|offering| offering.speed);
        mean(&mut working).or_else(|| mean(&mut offered)).unwrap_or(1.0)
    }

    /// Whether jobs of a class may wait so long that workers are launched for the backlog alone, when
    /// `boot` is how long that takes.
    pub(crate) fn is_bulk(class: &Class, boot: Duration) -> bool {
        class.max_wait >= least_bulk(boot)
    }

    /// The longest wait of any class, and at least one with which it would be bulk.
    pub(crate) fn longest_wait(&self, boot: Duration) -> Duration {
        self.classes.values().map(|class| class.max_wait).fold(least_bulk(boot), Duration::max)
    }
}

/// From this wait on workers are launched for the backlog alone.
fn least_bulk(boot: Duration) -> Duration {
    boot.saturating_mul(4).max(Duration::from_mins(15))
}

#[cfg(test)]
mod tests {
    use crate::fleet::snapshot::InstanceState;
    use crate::ids::{InstanceName, OfferingName};
    use crate::money::Money;
    use crate::time::Timestamp;

    use super::*;
    use crate::fleet::check::{Disruption, Offering};

    #[test]
    fn the_mean_speed_is_that_of_what_runs() {
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
            disruption: Disruption::default(),
            offerings: offerings.into(),
        };
        let pool = PoolPolicy { classes: BTreeMap::new(), scaling };
        let at = Timestamp::from_unix_millis(0);
        let ready = |running| InstanceState::Ready { ready_at: at, running, idle_since: None };
        let instance = |number: u32, offering: &str, state| Instance {
            name: InstanceName::new(&format!("i-{number}")).unwrap(),
            offering: name(offering),
            state,
            launched_at: at,
            seen_at: at,
            notice: None,
            outdated: false,
            warm: Vec::new(),
            remaining: None,
        };
        let booting = instance(4, "slow", InstanceState::Booting);
        let unknown = instance(5, "gone", ready(1));
        let of = |fast, slow| [instance(1, "fast", ready(fast)), instance(2, "slow", ready(slow))];
        let is = |instances: &[Instance], speed: f64| {
            assert!((pool.mean_speed(instances) - speed).abs() < 1e-12, "{instances:?}");
        };
        // Of four seconds of run time three are the slow machine's.
        is(&of(1, 3), 7.0 / 4.0);
        is(&of(1, 0), 4.0);
        is(&[&of(1, 0)[..], &[booting.clone(), unknown]].concat(), 4.0);
        // A job of 4 s takes 1 s on one and 4 s on the other, 2.5 s on average.
        is(&of(0, 0), 1.6);
        // Nothing has run yet: any offering may be bought.
        is(&[booting], 1.6);
    }
}
