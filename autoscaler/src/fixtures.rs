//! What the tests of several modules begin with.

use stoker_core::fleet::CapacityType;
use stoker_core::fleet::ledger::Order;
use stoker_core::ids::{OfferingName, PoolName};
use stoker_core::money::{HourlyPrice, Money};

/// A machine of pool `gpu`, for a dollar an hour.
pub(crate) fn order() -> Order {
    Order {
        pool: PoolName::new("gpu").unwrap(),
        offering: OfferingName::new("g5.a").unwrap(),
        provider: "ec2".into(),
        region: "r".into(),
        zone: "a".into(),
        instance_type: "g5".into(),
        capacity: CapacityType::Spot,
        price: HourlyPrice::new(Money::from_micros(1_000_000)),
        template: "lt-1:1".into(),
        reason: "load".into(),
    }
}
