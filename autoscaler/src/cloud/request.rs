//! What is asked of a cloud when machines are launched, and what it answers.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use stoker_core::fleet::{CapacityType, Offering};
use stoker_core::ids::{OfferingName, PoolName};

use super::error::{CloudError, ErrorClass, Verb};
use super::machine::Machine;
use super::owner;
use super::token::LaunchToken;

/// Most machines of one launch.
pub const MOST_MACHINES: u32 = 1_000;
/// Most tags that a request adds; EC2 takes 50 in all.
pub const MOST_TAGS: usize = 40;
const LONGEST_TAG_KEY: usize = 128;
const LONGEST_TAG_VALUE: usize = 256;

/// Machines to launch.
#[derive(Debug, Clone, PartialEq)]
pub struct Launch {
    pub token: LaunchToken,
    pub pool: PoolName,
    /// What the machines boot, as the ledger has it: of EC2, a launch template and its version. `None`: what the cloud
    /// is set up with for the pool.
    pub template: Option<String>,
    /// Whichever of these the cloud gives. All in one region and of one capacity type.
    pub offerings: BTreeMap<OfferingName, Offering>,
    pub count: u32,
    /// More tags than those of [`owner`], such as the version of what the machines run.
    pub tags: BTreeMap<String, String>,
}

/// What became of a launch that the cloud has looked at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Launched {
    /// At most as many as were asked for. Each is in one of the offerings.
    pub machines: Vec<Machine>,
    /// Why others are missing. Empty if none are.
    pub refusals: Vec<Refusal>,
}

/// Why machines of a launch are missing. The launch is over: what is missing is asked for under another token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Which offerings it is about. Never empty.
    pub offerings: BTreeSet<OfferingName>,
    /// Of a class that leaves nothing in doubt.
    pub error: CloudError,
}

/// Why a launch is none that any cloud could carry out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LaunchProblem {
    #[error("it names no offering")]
    NoOffering,
    #[error("{0} machines are not between 1 and {MOST_MACHINES}")]
    Count(u32),
    #[error("its offerings are of several capacity types: launch them one by one")]
    CapacityTypes,
    #[error("the tag `{0}` begins with `{prefix}`, which is kept for the owner", prefix = owner::PREFIX)]
    OwnersTag(String),
    #[error("it has more than {MOST_TAGS} tags, or one that is empty or too long")]
    Tags,
    #[error("the zone `{0}` is in no region that is configured")]
    UnknownZone(String),
    #[error("its offerings are in several regions: launch them one by one")]
    Regions,
}

impl From<LaunchProblem> for CloudError {
    fn from(problem: LaunchProblem) -> Self {
        Self::new(ErrorClass::Invalid, Verb::Launch, problem.to_string())
    }
}

impl Launch {
    /// Checks what no cloud has to be asked for, and returns the capacity type of all offerings and what `region`
    /// says of their zones.
    pub fn check<R: PartialEq>(
        &self,
        region: impl Fn(&str) -> Option<R>,
    ) -> Result<(CapacityType, R), LaunchProblem> {
        if !(1..=MOST_MACHINES).contains(&self.count) {
            return Err(LaunchProblem::Count(self.count));
        }
        let mut offerings = self.offerings.values();
        let first = offerings.next().ok_or(LaunchProblem::NoOffering)?;
        let of = |offering: &Offering| {
            region(&offering.zone).ok_or_else(|| LaunchProblem::UnknownZone(offering.zone.clone()))
        };
        let (capacity, found) = (first.capacity, of(first)?);
        for offering in offerings {
            if offering.capacity != capacity {
                return Err(LaunchProblem::CapacityTypes);
            }
            if of(offering)? != found {
                return Err(LaunchProblem::Regions);
            }
        }
        self.check_tags()?;
        Ok((capacity, found))
    }

    fn check_tags(&self) -> Result<(), LaunchProblem> {
        if let Some(key) = self.tags.keys().find(|key| key.starts_with(owner::PREFIX)) {
            return Err(LaunchProblem::OwnersTag(key.clone()));
        }
        let fits = |(key, value): (&String, &String)| {
            (1..=LONGEST_TAG_KEY).contains(&key.chars().count())
                && value.chars().count() <= LONGEST_TAG_VALUE
        };
        let all_fit = self.tags.len() <= MOST_TAGS && self.tags.iter().all(fits);
        if all_fit { Ok(()) } else { Err(LaunchProblem::Tags) }
    }

    /// Every offering of the launch.
    pub fn offering_names(&self) -> BTreeSet<OfferingName> {
        self.offerings.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use stoker_core::money::{HourlyPrice, Money};

    use super::*;

    fn offering(zone: &str, capacity: CapacityType) -> (OfferingName, Offering) {
        let name = format!("g5.xlarge.{zone}.{}", capacity.as_str());
        let offering = Offering {
            instance_type: "g5.xlarge".to_owned(),
            zone: zone.to_owned(),
            capacity,
            price: HourlyPrice::new(Money::from_micros(1)),
            speed: 1.0,
            bulk_speed: 1.0,
        };
        (OfferingName::new(&name).unwrap(), offering)
    }

    fn launch(offerings: impl IntoIterator<Item = (OfferingName, Offering)>) -> Launch {
        Launch {
            token: LaunchToken::new("t").unwrap(),
            pool: PoolName::new("p").unwrap(),
            template: None,
            offerings: offerings.into_iter().collect(),
            count: 1,
            tags: BTreeMap::new(),
        }
    }

    /// All but the last letter, of zones on this side of the Atlantic.
    fn region(zone: &str) -> Option<String> {
        zone.starts_with("us-").then(|| zone[..zone.len() - 1].to_owned())
    }

    #[test]
    fn a_launch_is_of_one_region_and_capacity_type() {
        use CapacityType::{OnDemand, Spot};
        let good = launch([offering("us-east-1a", Spot), offering("us-east-1b", Spot)]);
        assert_eq!(good.check(region), Ok((Spot, "us-east-1".to_owned())));
        for (offerings, problem) in [
            (vec![], LaunchProblem::NoOffering),
            (vec![("us-east-1a", Spot), ("us-east-1b", OnDemand)], LaunchProblem::CapacityTypes),
            (vec![("us-east-1a", Spot), ("us-west-2a", Spot)], LaunchProblem::Regions),
            (vec![("moon-1a", Spot)], LaunchProblem::UnknownZone("moon-1a".to_owned())),
        ] {
            let offerings = offerings.into_iter().map(|(zone, capacity)| offering(zone, capacity));
            assert_eq!(launch(offerings).check(region), Err(problem));
        }
    }

    #[test]
    fn counts_and_tags_are_bounded_and_an_owner_cannot_be_forged() {
        let good = launch([offering("us-east-1a", CapacityType::Spot)]);
        for count in [0, MOST_MACHINES + 1] {
            let bad = Launch { count, ..good.clone() };
            assert_eq!(bad.check(region), Err(LaunchProblem::Count(count)));
        }
        let with = |key: &str, value: &str| Launch {
            tags: BTreeMap::from([(key.to_owned(), value.to_owned())]),
            ..good.clone()
        };
        assert!(with("version", "3").check(region).is_ok());
        let forged = with(owner::FLEET, "other").check(region);
        assert_eq!(forged, Err(LaunchProblem::OwnersTag(owner::FLEET.to_owned())));
        assert_eq!(with("", "x").check(region), Err(LaunchProblem::Tags));
        assert_eq!(with("x", &"y".repeat(257)).check(region), Err(LaunchProblem::Tags));
    }
}
