//! Which machines a launch gets of a cloud that we play ourselves: the cheapest that are there. Pure.

use std::collections::{BTreeMap, BTreeSet};

use stoker_core::fleet::{CapacityType, Offering};
use stoker_core::ids::OfferingName;

use super::error::{CloudError, ErrorClass, Verb};
use super::request::{Launch, Refusal};

/// What is there to be had of each offering, and of the quota.
#[derive(Debug)]
pub(crate) struct Shelf<'a> {
    pub(crate) stock: &'a BTreeMap<OfferingName, (Offering, u32)>,
    /// Live machines of each offering.
    pub(crate) taken: BTreeMap<OfferingName, u32>,
    pub(crate) quotas: &'a BTreeMap<CapacityType, u32>,
}

/// Offerings to take one machine each of, and why there are not more.
pub(crate) fn take(mut shelf: Shelf<'_>, launch: &Launch) -> (Vec<OfferingName>, Vec<Refusal>) {
    let mut sold: Vec<(&OfferingName, &Offering)> = launch.offerings.iter().collect();
    sold.retain(|(name, _)| shelf.stock.contains_key(*name));
    sold.sort_by_key(|(_, offering)| offering.price);
    let mut taken = Vec::new();
    let mut refusals = Vec::new();
    let unsold: BTreeSet<_> =
        launch.offerings.keys().filter(|name| !shelf.stock.contains_key(*name)).cloned().collect();
    while u32::try_from(taken.len()).is_ok_and(|count| count < launch.count) {
        if let Some(quota) = shelf.quota_reached(sold.first().map(|(_, first)| first.capacity)) {
            refusals.push(refusal(launch.offering_names(), ErrorClass::Quota, quota));
            break;
        }
        let Some((name, _)) = sold.iter().find(|(name, _)| shelf.left(name) > 0) else {
            let empty: BTreeSet<_> = sold.iter().map(|(name, _)| (*name).clone()).collect();
            if !empty.is_empty() {
                refusals.push(refusal(empty, ErrorClass::Capacity, "none left".to_owned()));
            }
            break;
        };
        *shelf.taken.entry((*name).clone()).or_default() += 1;
        taken.push((*name).clone());
    }
    if !unsold.is_empty() && u32::try_from(taken.len()).is_ok_and(|count| count < launch.count) {
        refusals.push(refusal(unsold, ErrorClass::Invalid, "not sold here".to_owned()));
    }
    (taken, refusals)
}

impl Shelf<'_> {
    fn left(&self, name: &OfferingName) -> u32 {
        let sold = self.stock.get(name).map_or(0, |(_, capacity)| *capacity);
        sold.saturating_sub(self.taken.get(name).copied().unwrap_or(0))
    }

    fn quota_reached(&self, capacity: Option<CapacityType>) -> Option<String> {
        let capacity = capacity?;
        let most = *self.quotas.get(&capacity)?;
        let of_type = |name: &OfferingName| {
            self.stock.get(name).is_some_and(|(offering, _)| offering.capacity == capacity)
        };
        let have: u32 =
            self.taken.iter().filter(|(name, _)| of_type(name)).map(|(_, count)| count).sum();
        (have >= most).then(|| format!("at most {most} {} machines", capacity.as_str()))
    }
}

fn refusal(offerings: BTreeSet<OfferingName>, class: ErrorClass, why: String) -> Refusal {
    Refusal { offerings, error: CloudError::new(class, Verb::Launch, why) }
}
