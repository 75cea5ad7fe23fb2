//! The account's quotas in each region, as they were read last. They change when somebody asks for more, so they are read
//! seldom, and what was read stays good until it is read again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use stoker_core::fleet::ledger::Quota;
use stoker_core::fleet::{CapacityType, Policy};
use stoker_core::ids::RegionName;

use crate::cloud::{CloudError, CloudProvider};

/// An increase that was granted is used within so long.
const EVERY: Duration = Duration::from_mins(15);

/// Types that a fleet buys in each region.
pub(crate) type Wanted = BTreeMap<RegionName, BTreeSet<(String, CapacityType)>>;

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Quotas {
    known: BTreeMap<RegionName, Vec<Quota>>,
    asked: Option<Instant>,
    /// Regions of which it was said that their quotas cannot be read.
    said: BTreeSet<RegionName>,
}

impl Quotas {
    /// Whether it is time to ask; then it has been.
    pub(super) fn is_due(&mut self) -> bool {
        let due = self.asked.is_none_or(|asked| asked.elapsed() >= EVERY);
        if due {
            self.asked = Some(Instant::now());
        }
        due
    }

    /// Takes in an answer. What is not known bounds nothing: the cloud itself refuses what is too much.
    pub(super) fn take(&mut self, region: RegionName, found: Result<Vec<Quota>, CloudError>) {
        match found {
            Ok(quotas) => {
                self.said.remove(&region);
                self.known.insert(region, quotas);
            }
            Err(error) if self.said.insert(region.clone()) => {
                tracing::warn!(%region, %error, "quotas cannot be read; the last ones stay");
            }
            Err(_) => {}
        }
    }

    pub(super) fn all(&self) -> Vec<Quota> {
        self.known.values().flatten().cloned().collect()
    }
}

/// What a fleet buys, by region.
pub(crate) fn wanted(cloud: &dyn CloudProvider, policy: &Policy) -> Wanted {
    let mut wanted = Wanted::new();
    for offering in policy.pools.values().flat_map(|pool| pool.scaling.offerings.values()) {
        if let Some(region) = cloud.region_of(&offering.zone) {
            let kind = (offering.instance_type.clone(), offering.capacity);
            wanted.entry(region).or_default().insert(kind);
        }
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::{ErrorClass, Verb};

    #[test]
    fn what_was_read_stays_until_it_is_read_again() {
        let region = RegionName::new("us-east-1").unwrap();
        let quota = |most| Quota {
            name: "machines of spot".into(),
            region: region.to_string(),
            capacity: CapacityType::Spot,
            most,
            units: [("g5".to_owned(), 1)].into(),
        };
        let mut quotas = Quotas::default();
        assert!(quotas.is_due() && !quotas.is_due());
        quotas.take(region.clone(), Ok(vec![quota(8)]));
        quotas.take(region.clone(), Err(CloudError::new(ErrorClass::Auth, Verb::Quotas, "no")));
        assert_eq!(quotas.all(), [quota(8)]);
        quotas.take(region.clone(), Ok(vec![quota(16)]));
        assert_eq!(quotas.all(), [quota(16)]);
    }
}
