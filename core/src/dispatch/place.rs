//! Where a waiting job stands: what would be released before it.

use std::collections::BTreeMap;

use crate::ids::{JobId, TenantName};

use super::{TenantQueue, choose};

/// What would be released before a job, if nothing else came and nothing ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// Jobs before it, by tenant; tenants without any are left out.
    pub ahead: BTreeMap<TenantName, u32>,
    /// The queues that were looked at may hold more jobs before it.
    pub at_least: bool,
}

/// The place of `job` among what waits; `heads` is how many jobs of each tenant were asked for.
///
/// It follows [`choose`], so it says what is released next and not what ends next: places that become free are
/// given anew.
#[must_use]
pub fn place(job: JobId, tenants: &[TenantQueue], heads: usize) -> Place {
    let order = choose(u32::MAX, tenants);
    let owners: BTreeMap<JobId, &TenantName> = tenants
        .iter()
        .flat_map(|queue| queue.heads.iter().map(|head| (head.job, &queue.tenant)))
        .collect();
    let found = order.iter().position(|other| *other == job);
    let before = &order[..found.unwrap_or(order.len())];
    let mut ahead: BTreeMap<TenantName, u32> = BTreeMap::new();
    for owner in before.iter().filter_map(|other| owners.get(other)) {
        *ahead.entry((*owner).clone()).or_default() += 1;
    }
    // All that was asked for of a tenant is before it, so the rest of that tenant's may be as well.
    let cut = |queue: &TenantQueue| {
        let all = ahead.get(&queue.tenant).is_some_and(|jobs| *jobs as usize == queue.heads.len());
        queue.heads.len() >= heads && all
    };
    let at_least = found.is_none() || tenants.iter().any(cut);
    Place { ahead, at_least }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::dispatch::Head;
    use crate::time::Timestamp;

    fn job(number: u8) -> JobId {
        JobId::from_bytes([number; 16])
    }

    fn queue(name: &str, weight: u32, in_flight: u32, jobs: &[(u8, i64)]) -> TenantQueue {
        let head = |(number, millis): &(u8, i64)| Head {
            job: job(*number),
            start_by: Timestamp::from_unix_millis(*millis),
        };
        let tenant = TenantName::new(name).unwrap();
        TenantQueue { tenant, weight, in_flight, heads: jobs.iter().map(head).collect() }
    }

    fn ahead(place: &Place) -> Vec<(&str, u32)> {
        place.ahead.iter().map(|(tenant, jobs)| (tenant.as_str(), *jobs)).collect()
    }

    #[test]
    fn the_share_of_others_is_counted_and_no_more() {
        let tenants = [
            queue("flood", 1, 4, &[(1, 0), (2, 0), (3, 0)]),
            queue("mine", 1, 3, &[(10, 1), (11, 2), (12, 3)]),
        ];
        let place = place(job(12), &tenants, 100);
        // `mine` goes first until both have four places; then they take turns, and `flood` has less slack.
        assert_eq!(ahead(&place), [("flood", 2), ("mine", 2)]);
        assert!(!place.at_least);
    }

    #[test]
    fn what_was_not_looked_at_may_be_before_it() {
        let tenants = [queue("mine", 1, 0, &[(1, 0), (2, 0)])];
        let far = place(job(9), &tenants, 2);
        assert_eq!((ahead(&far), far.at_least), (vec![("mine", 2)], true));
        let tenants = [queue("big", 9, 0, &[(1, 0), (2, 0)]), queue("mine", 1, 0, &[(10, 0)])];
        assert!(place(job(10), &tenants, 2).at_least, "`big` may have more than two");
        assert!(!place(job(10), &tenants, 3).at_least);
    }

    proptest! {
        #[test]
        fn the_place_is_where_choose_releases_it(
            shapes in vec((0_u32..4, 0_u32..9, vec(0_i64..9, 0..9)), 1..5),
            wanted in 0_usize..30,
        ) {
            let mut number = 0;
            let tenants: Vec<TenantQueue> = shapes.iter().enumerate().map(|(index, shape)| {
                let jobs: Vec<(u8, i64)> = shape.2.iter().map(|slack| {
                    number += 1;
                    (number, *slack)
                }).collect();
                queue(&format!("t{index}"), shape.0, shape.1, &jobs)
            }).collect();
            let order = choose(u32::MAX, &tenants);
            let Some(job) = order.get(wanted) else { return Ok(()) };
            let place = place(*job, &tenants, 100);
            prop_assert_eq!(place.ahead.values().sum::<u32>() as usize, wanted);
            prop_assert!(!place.at_least);
        }
    }
}
