//! What a cloud says about what it sells: spot prices, and what is in a machine.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use stoker_core::money::HourlyPrice;
use stoker_core::time::Timestamp;

/// The price of spot machines of one type in one zone, from a time on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpotPrice {
    pub instance_type: String,
    pub zone: String,
    /// In force from here until the next one of the same type and zone.
    pub since: Timestamp,
    pub price: HourlyPrice,
}

/// What a machine of a type is made of, and where it is sold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineType {
    pub vcpus: u32,
    pub memory_mib: u64,
    pub gpus: Vec<Gpu>,
    /// Disks that are part of the machine and lost with it; 0: none.
    pub local_disk_gb: u64,
    /// Sold as spot.
    pub spot: bool,
    pub zones: BTreeSet<String>,
}

/// GPUs of one kind in a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpu {
    /// Such as `A10G`.
    pub name: String,
    pub count: u32,
    /// Of each.
    pub memory_mib: u64,
}

/// The prices that are in force at `now`, by type and zone.
pub fn latest_prices<'a>(
    history: impl IntoIterator<Item = &'a SpotPrice>,
    now: Timestamp,
) -> BTreeMap<(String, String), SpotPrice> {
    let mut latest: BTreeMap<(String, String), SpotPrice> = BTreeMap::new();
    for price in history.into_iter().filter(|price| price.since <= now) {
        let key = (price.instance_type.clone(), price.zone.clone());
        if latest.get(&key).is_none_or(|known| known.since <= price.since) {
            latest.insert(key, price.clone());
        }
    }
    latest
}

#[cfg(test)]
mod tests {
    use stoker_core::money::Money;

    use super::*;

    #[test]
    fn the_price_in_force_is_the_last_that_has_begun() {
        let price = |zone: &str, second: i64, micros: i64| SpotPrice {
            instance_type: "g5.xlarge".to_owned(),
            zone: zone.to_owned(),
            since: Timestamp::from_unix_millis(second * 1000),
            price: HourlyPrice::new(Money::from_micros(micros)),
        };
        let history = [price("a", 20, 2), price("a", 10, 1), price("a", 40, 4), price("b", 5, 7)];
        let latest = latest_prices(&history, Timestamp::from_unix_millis(30_000));
        let micros: Vec<i64> = latest.values().map(|price| price.price.hour().micros()).collect();
        assert_eq!(micros, [2, 7]);
    }
}
