//! Which waiting jobs are released to the broker next: fair over tenants, least slack first within.
//!
//! Fairness is max-min on jobs in flight (released and not ended), by weight: each free place goes
//! to the tenant that would have the least in flight for its weight with that place. Places are held
//! for as long as jobs take, so equal shares of places are equal shares of processing time (by
//! Little's law: jobs in flight = rate × time in flight), whatever the lengths of the jobs. Counting
//! jobs instead would give a tenant with long jobs most of the fleet, and estimating their cost
//! would need estimates that a tenant could game. It needs no memory of the past either: idle
//! tenants save up nothing, and a restart forgets nothing.
//!
//! Order within a broker's queue is the order of the result, so the window has to stay small (see
//! [`crate::window`]).

mod place;

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use crate::ids::{JobId, TenantName};
use crate::time::Timestamp;

pub use place::{Place, place};

/// What one tenant has in flight and waiting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantQueue {
    pub tenant: TenantName,
    /// Share under contention, relative to the others; 0 counts as 1.
    pub weight: u32,
    /// Jobs released and not ended.
    pub in_flight: u32,
    /// Waiting jobs in any order. Must hold the tenant's most urgent ones; more than the free places
    /// of the window are never needed.
    pub heads: Vec<Head>,
}

/// A waiting job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub job: JobId,
    /// When its class's promise ends.
    pub start_by: Timestamp,
}

/// Places to fill now: what the window leaves free, at most `most`.
#[must_use]
pub fn free_places(window: u32, in_flight: u64, most: u32) -> u32 {
    let in_flight = u32::try_from(in_flight).unwrap_or(u32::MAX);
    window.saturating_sub(in_flight).min(most)
}

/// Chooses at most `window_free` jobs, in the order in which they shall be released.
///
/// Leaves no place free while a job waits. Ties go to the tenant whose next job has the least slack,
/// then by name. Takes `O((waiting + chosen) log)` time.
#[must_use]
pub fn choose(window_free: u32, tenants: &[TenantQueue]) -> Vec<JobId> {
    let most = usize::try_from(window_free).unwrap_or(usize::MAX);
    let mut turns: BinaryHeap<Reverse<Turn<'_>>> =
        tenants.iter().filter_map(Turn::first).map(Reverse).collect();
    let waiting: usize = tenants.iter().map(|tenant| tenant.heads.len()).sum();
    let mut chosen = Vec::with_capacity(most.min(waiting));
    while chosen.len() < most {
        let Some(Reverse(mut turn)) = turns.pop() else { break };
        chosen.push(turn.head.job);
        if let Some(head) = turn.rest.pop() {
            turn.head = head;
            turn.next_in_flight += 1;
            turns.push(Reverse(turn));
        }
    }
    chosen
}

/// A tenant's claim to the next place.
#[derive(Debug)]
struct Turn<'a> {
    /// In flight if it gets the place.
    next_in_flight: u64,
    weight: u32,
    head: Head,
    name: &'a TenantName,
    /// Waiting jobs after `head`, the most urgent last.
    rest: Vec<Head>,
}

impl<'a> Turn<'a> {
    fn first(queue: &'a TenantQueue) -> Option<Self> {
        let mut rest = queue.heads.clone();
        rest.sort_unstable_by_key(|head| Reverse((head.start_by, head.job)));
        Some(Self {
            head: rest.pop()?,
            next_in_flight: u64::from(queue.in_flight) + 1,
            weight: queue.weight.max(1),
            name: &queue.tenant,
            rest,
        })
    }
}

impl Ord for Turn<'_> {
    /// The lesser one gets the place. `a/x < b/y` is compared as `a*y < b*x`, so no rounding can
    /// favor anybody; the products fit since a weight has 32 bits.
    fn cmp(&self, other: &Self) -> Ordering {
        let mine = u128::from(self.next_in_flight) * u128::from(other.weight);
        let theirs = u128::from(other.next_in_flight) * u128::from(self.weight);
        mine.cmp(&theirs)
            .then_with(|| self.head.start_by.cmp(&other.head.start_by))
            .then_with(|| self.name.cmp(other.name))
            .then_with(|| self.head.job.cmp(&other.head.job))
    }
}

impl PartialOrd for Turn<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Turn<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Turn<'_> {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn job(number: u64) -> JobId {
        let mut bytes = [0; 16];
        bytes[8..].copy_from_slice(&number.to_be_bytes());
        JobId::from_bytes(bytes)
    }

    fn queue(name: &str, weight: u32, in_flight: u32, jobs: &[(u64, i64)]) -> TenantQueue {
        let heads = jobs
            .iter()
            .map(|(id, millis)| Head {
                job: job(*id),
                start_by: Timestamp::from_unix_millis(*millis),
            })
            .collect();
        TenantQueue { tenant: TenantName::new(name).unwrap(), weight, in_flight, heads }
    }

    #[test]
    fn places_are_what_the_window_leaves() {
        assert_eq!(free_places(10, 4, 100), 6);
        assert_eq!(free_places(10, 4, 5), 5);
        assert_eq!(free_places(10, 11, 5), 0);
        assert_eq!(free_places(10, u64::MAX, 5), 0);
    }

    #[test]
    fn a_flood_of_one_tenant_does_not_delay_another() {
        let flood: Vec<(u64, i64)> = (0..100).map(|n| (n, 0)).collect();
        let tenants =
            [queue("flood", 1, 50, &flood), queue("small", 1, 0, &[(900, 99), (901, 99)])];
        assert_eq!(choose(3, &tenants), [job(900), job(901), job(0)]);
    }

    #[test]
    fn places_follow_weights() {
        let jobs = |from: u64| -> Vec<(u64, i64)> { (from..from + 100).map(|n| (n, 0)).collect() };
        let tenants = [queue("one", 1, 0, &jobs(0)), queue("three", 3, 0, &jobs(1000))];
        let chosen = choose(40, &tenants);
        assert_eq!(chosen.iter().filter(|id| **id >= job(1000)).count(), 30);
    }

    #[test]
    fn ties_go_to_the_least_slack_then_to_the_name() {
        let tenants =
            [queue("b", 1, 0, &[(1, 5)]), queue("c", 1, 0, &[(2, 3)]), queue("a", 1, 0, &[(3, 5)])];
        assert_eq!(choose(9, &tenants), [job(2), job(3), job(1)]);
    }

    #[test]
    fn extreme_counts_neither_overflow_nor_starve() {
        let tenants = [
            queue("max", u32::MAX, u32::MAX, &[(1, 0)]),
            queue("zero", 0, 0, &[(2, 0)]),
            queue("idle", 1, 0, &[]),
        ];
        assert_eq!(choose(u32::MAX, &tenants).len(), 2);
        assert!(choose(0, &tenants).is_empty());
    }

    fn tenants() -> impl Strategy<Value = Vec<TenantQueue>> {
        vec((0_u32..5, 0_u32..20, vec(0_i64..10, 0..15)), 0..5).prop_map(|all| {
            all.into_iter()
                .zip(0_u64..)
                .map(|((weight, in_flight, slacks), t)| {
                    let jobs: Vec<(u64, i64)> =
                        slacks.into_iter().zip(0..).map(|(slack, n)| (n * 10 + t, slack)).collect();
                    queue(&format!("tenant-{t}"), weight, in_flight, &jobs)
                })
                .collect()
        })
    }

    /// Chosen jobs of each tenant, in order.
    fn by_tenant(tenants: &[TenantQueue], chosen: &[JobId]) -> Vec<Vec<Head>> {
        let heads: BTreeMap<JobId, (usize, Head)> = tenants
            .iter()
            .enumerate()
            .flat_map(|(t, queue)| queue.heads.iter().map(move |head| (head.job, (t, *head))))
            .collect();
        let mut result = vec![Vec::new(); tenants.len()];
        for id in chosen {
            let (t, head) = heads[id];
            result[t].push(head);
        }
        result
    }

    proptest! {
        #[test]
        fn the_window_is_filled_and_never_exceeded(tenants in tenants(), free in 0_u32..40) {
            let waiting: usize = tenants.iter().map(|queue| queue.heads.len()).sum();
            let chosen = choose(free, &tenants);
            prop_assert_eq!(chosen.len(), waiting.min(usize::try_from(free).unwrap()));
            let mut distinct = chosen.clone();
            distinct.sort_unstable();
            distinct.dedup();
            prop_assert_eq!(distinct.len(), chosen.len());
        }

        #[test]
        fn nobody_gets_a_place_that_another_had_the_better_claim_to(
            tenants in tenants(),
            free in 0_u32..40,
        ) {
            let chosen = by_tenant(&tenants, &choose(free, &tenants));
            let in_flight =
                |t: usize| u64::from(tenants[t].in_flight) + u64::try_from(chosen[t].len()).unwrap();
            let weight = |t: usize| u64::from(tenants[t].weight.max(1));
            for winner in (0..tenants.len()).filter(|t| !chosen[*t].is_empty()) {
                for other in (0..tenants.len()).filter(|t| chosen[*t].len() < tenants[*t].heads.len()) {
                    prop_assert!(
                        in_flight(winner) * weight(other) <= (in_flight(other) + 1) * weight(winner)
                    );
                }
            }
        }

        #[test]
        fn the_least_slack_goes_first_within_a_tenant(tenants in tenants(), free in 0_u32..40) {
            for (queue, chosen) in tenants.iter().zip(by_tenant(&tenants, &choose(free, &tenants))) {
                let mut sorted = queue.heads.clone();
                sorted.sort_unstable_by_key(|head| (head.start_by, head.job));
                sorted.truncate(chosen.len());
                prop_assert_eq!(chosen, sorted);
            }
        }

        #[test]
        fn the_order_of_the_input_does_not_matter(mut tenants in tenants(), free in 0_u32..40) {
            let before = choose(free, &tenants);
            tenants.reverse();
            for queue in &mut tenants {
                queue.heads.reverse();
            }
            prop_assert_eq!(choose(free, &tenants), before);
        }
    }
}
