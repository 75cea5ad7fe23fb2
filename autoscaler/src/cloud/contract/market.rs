//! Promises about what a cloud says of its wares.

use std::collections::BTreeSet;

use stoker_core::fleet::CapacityType;
use stoker_core::money::Money;
use stoker_core::time::Timestamp;

use super::{Harness, of, region};
use crate::cloud::market::latest_prices;

pub async fn spot_prices_are_known(harness: &dyn Harness) {
    let offerings = of(harness, CapacityType::Spot);
    let types: BTreeSet<_> = offerings.values().map(|o| o.instance_type.clone()).collect();
    let since = Timestamp::default();
    let history = harness.cloud().prices(&region(harness), &types, since).await;
    let history = history.expect("prices can be read");
    let latest = latest_prices(&history, Timestamp::MAX);
    for offering in offerings.values() {
        let key = (offering.instance_type.clone(), offering.zone.clone());
        let price = latest.get(&key).unwrap_or_else(|| panic!("{key:?} has a price: {history:?}"));
        assert!(price.price.hour() > Money::ZERO, "{price:?}");
    }
    assert!(
        history.iter().all(|price| types.contains(&price.instance_type)),
        "only what was asked"
    );
}

pub async fn types_are_known(harness: &dyn Harness) {
    let offerings = harness.offerings();
    let mut types: BTreeSet<_> = offerings.values().map(|o| o.instance_type.clone()).collect();
    types.insert("q9.nano".to_owned());
    let known = harness.cloud().types(&region(harness), &types).await.expect("types can be read");
    assert!(!known.contains_key("q9.nano"), "what is not sold is missing");
    for offering in offerings.values() {
        let what = &known[&offering.instance_type];
        assert!(what.vcpus > 0 && what.memory_mib > 0, "{what:?}");
        assert!(what.zones.contains(&offering.zone), "{what:?}");
    }
}

pub async fn what_works_has_no_problems(harness: &dyn Harness) {
    let problems = harness.cloud().setup_problems(&region(harness)).await;
    assert_eq!(problems.expect("the setup can be read"), Vec::<String>::new());
}

pub async fn quotas_are_of_what_was_asked_for(harness: &dyn Harness) {
    let offerings = harness.offerings();
    let types: BTreeSet<_> =
        offerings.values().map(|one| (one.instance_type.clone(), one.capacity)).collect();
    let region = region(harness);
    let quotas = harness.cloud().quotas(&region, &types).await.expect("quotas can be read");
    for quota in quotas {
        assert_eq!(quota.region, region.as_str());
        assert!(!quota.units.is_empty(), "{quota:?}");
        for (name, units) in &quota.units {
            assert!(types.contains(&(name.clone(), quota.capacity)), "{quota:?}");
            assert!(*units > 0, "{quota:?}");
        }
    }
}
