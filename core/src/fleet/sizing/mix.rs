//! The cheapest mix of machines of several kinds that covers a need.

use crate::fleet::capacity::{Capacity, EPSILON};

/// Machines that are alike.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Kind {
    pub(crate) capacity: Capacity,
    /// Dollars an hour of one, with what its interruptions cost.
    pub(crate) price: f64,
    /// How many there are.
    pub(crate) count: u32,
}

impl Kind {
    /// Dollars an hour for a worker of speed 1.
    pub(crate) fn unit_price(&self) -> f64 {
        self.price / self.capacity.prompt
    }
}

/// Steps of the search. More than this takes longer than a better mix is worth, and what was found by then is
/// used.
const MOST_STEPS: u32 = 20_000;

/// How many of each kind cover `need` workers of speed 1 at the least price; `None` if all of them together do not.
///
/// Branch and bound in order of the price of a worker of speed 1: the first mix that is looked at is the greedy one, and
/// what is left of the need costs at least as much as in the next kind if its machines could be divided.
pub(crate) fn cheapest(need: f64, kinds: &[Kind]) -> Option<Vec<u32>> {
    let mut order: Vec<usize> =
        (0..kinds.len()).filter(|at| kinds[*at].capacity.prompt > EPSILON).collect();
    order.sort_by(|a, b| kinds[*a].unit_price().total_cmp(&kinds[*b].unit_price()));
    let mut reach = vec![0.0; order.len() + 1];
    for (at, kind) in order.iter().enumerate().rev() {
        let kind = &kinds[*kind];
        reach[at] = reach[at + 1] + kind.capacity.prompt * f64::from(kind.count);
    }
    let counts = vec![0; kinds.len()];
    let mut search = Search { kinds, order, reach, counts, best: None, steps: 0 };
    search.descend(0, need, 0.0);
    search.best.map(|(_, counts)| counts)
}

struct Search<'a> {
    kinds: &'a [Kind],
    /// Positions of `kinds`, the cheapest per worker of speed 1 first.
    order: Vec<usize>,
    /// What this kind and all after it reach together.
    reach: Vec<f64>,
    counts: Vec<u32>,
    best: Option<(f64, Vec<u32>)>,
    steps: u32,
}

impl Search<'_> {
    fn descend(&mut self, at: usize, left: f64, cost: f64) {
        self.steps = self.steps.saturating_add(1);
        if left <= EPSILON {
            if self.improves(cost) {
                self.best = Some((cost, self.counts.clone()));
            }
            return;
        }
        if self.reach[at] < left - EPSILON || !self.improves(cost + left * self.unit_price(at)) {
            return;
        }
        let kind = self.kinds[self.order[at]];
        let most = crate::fleet::number::ceil(left / kind.capacity.prompt).min(kind.count);
        for count in (0..=most).rev() {
            let (left, cost) = (
                left - f64::from(count) * kind.capacity.prompt,
                cost + f64::from(count) * kind.price,
            );
            let least = cost + left.max(0.0) * self.unit_price(at + 1);
            // With fewer of this kind, what is left is dearer still. The most may be more than is needed, and says nothing.
            if count < most && !self.improves(least) || self.steps > MOST_STEPS {
                break;
            }
            self.counts[self.order[at]] = count;
            self.descend(at + 1, left, cost);
        }
        self.counts[self.order[at]] = 0;
    }

    fn unit_price(&self, at: usize) -> f64 {
        self.order.get(at).map_or(0.0, |kind| self.kinds[*kind].unit_price())
    }

    fn improves(&self, cost: f64) -> bool {
        self.best.as_ref().is_none_or(|(best, _)| cost < best - EPSILON)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn kind(speed: f64, price: f64, count: u32) -> Kind {
        Kind { capacity: Capacity { prompt: speed, bulk: speed }, price, count }
    }

    #[test]
    fn a_need_is_covered_by_what_is_cheapest_as_a_whole() {
        let kinds = [kind(1.0, 1.0, 9), kind(4.0, 3.0, 9)];
        let of = |need| cheapest(need, &kinds).unwrap();
        assert_eq!(of(1.0), [1, 0]);
        assert_eq!(of(2.0), [2, 0]);
        assert_eq!(of(4.0), [0, 1]);
        assert_eq!(of(8.0), [0, 2]);
        assert_eq!(of(9.0), [1, 2]);
        assert_eq!(of(0.0), [0, 0]);
        assert_eq!(cheapest(46.0, &kinds), None);
        assert_eq!(cheapest(1.0, &[]), None);
    }

    proptest! {
        #[test]
        fn no_other_mix_is_cheaper(
            kinds in proptest::collection::vec((1..9_u32, 1..20_u32, 0..4_u32), 1..4),
            need in 0..30_u32,
        ) {
            let kinds: Vec<Kind> = kinds
                .into_iter()
                .map(|(speed, price, count)| kind(f64::from(speed), f64::from(price), count))
                .collect();
            let need = f64::from(need);
            let mut all = vec![vec![]];
            for kind in &kinds {
                all = all.iter().flat_map(|mix: &Vec<u32>| {
                    (0..=kind.count).map(|n| [mix.clone(), vec![n]].concat())
                }).collect();
            }
            let sum = |mix: &[u32], of: fn(&Kind) -> f64| -> f64 {
                mix.iter().zip(&kinds).map(|(n, kind)| f64::from(*n) * of(kind)).sum()
            };
            let price = |mix: &[u32]| sum(mix, |kind| kind.price);
            let best = all
                .iter()
                .filter(|mix| sum(mix, |kind| kind.capacity.prompt) >= need - EPSILON)
                .map(|mix| price(mix))
                .min_by(f64::total_cmp);
            let found = cheapest(need, &kinds).map(|mix| price(&mix));
            prop_assert_eq!(found.is_some(), best.is_some());
            prop_assert!(found.is_none_or(|found| found <= best.unwrap() + EPSILON));
        }
    }
}
