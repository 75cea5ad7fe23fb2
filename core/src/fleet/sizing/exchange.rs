//! Several machines for one or a few of another size, or one for a smaller one: what saves the most, and what the move
//! costs.

use crate::fleet::capacity::{EPSILON, Shape};
use crate::fleet::number::ceil;
use crate::fleet::provision::REWORK;

use super::mix::Kind;

/// Successors cost at most this share of what they replace, so that prices that swing a little move nothing.
const SHARE: f64 = 0.8;
/// Most successors that are looked at for one exchange.
const MOST_SUCCESSORS: u32 = 64;

/// Machines to be replaced, and by what.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Exchange {
    /// How many go of each kind that is there.
    pub(crate) out: Vec<u32>,
    /// The shape of the successors, and how many they are.
    pub(crate) shape: Shape,
    pub(crate) count: u32,
    /// Dollars an hour.
    pub(crate) saving: f64,
    /// Dollars, once: both are paid for while the successors boot, and again on the way back should the need
    /// change; and what is handed over is done twice.
    pub(crate) cost: f64,
}

/// What an exchange has to observe.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rules {
    /// Workers of speed 1 that must be there afterwards.
    pub(crate) need: f64,
    /// Hours that a successor is paid for before it works, or has to be paid for at least.
    pub(crate) boot_hours: f64,
    /// Machines that may be replaced at a time.
    pub(crate) budget: u32,
    /// Whether what one machine takes the place of has to be within that, too.
    pub(crate) firm: bool,
    /// Machines that may be launched.
    pub(crate) room: u32,
}

/// The exchange that saves the most an hour, if any does. `kept` covers the need, and nothing of it is superfluous.
/// `offered` are kinds that can be launched.
pub(crate) fn best(kept: &[Kind], offered: &[Kind], rules: &Rules) -> Option<Exchange> {
    let have: f64 = kept.iter().map(|kind| kind.capacity.prompt * f64::from(kind.count)).sum();
    let slack = have - rules.need;
    if slack < -EPSILON {
        return None;
    }
    let mut order: Vec<usize> = (0..kept.len()).collect();
    order.sort_by(|a, b| kept[*b].unit_price().total_cmp(&kept[*a].unit_price()));
    let mut best: Option<Exchange> = None;
    for successor in offered {
        let enough = ceil(rules.need / successor.capacity.prompt).max(1);
        let most = enough.min(MOST_SUCCESSORS).min(rules.room);
        // Each of a few, and some of many.
        let counts = (1..8).chain(std::iter::successors(Some(8_u32), |count| Some(count * 2)));
        for count in counts.take_while(|count| *count < most).chain((most > 0).then_some(most)) {
            let room = f64::from(count) * successor.capacity.prompt + slack;
            let out = fitting(kept, &order, successor, room);
            let found = exchange(kept, out, (successor, count), rules);
            let better = |found: &Exchange| {
                best.as_ref().is_none_or(|best| {
                    found.saving > best.saving + EPSILON
                        || found.saving > best.saving - EPSILON && found.cost < best.cost - EPSILON
                })
            };
            best = found.filter(better).or(best);
        }
    }
    best
}

/// The dearest machines that `room` workers of speed 1 can do without.
fn fitting(kept: &[Kind], order: &[usize], successor: &Kind, mut room: f64) -> Vec<u32> {
    let mut out = vec![0; kept.len()];
    for at in order {
        let kind = &kept[*at];
        // The same machine for another price is not another size.
        if kind.capacity.shape() == successor.capacity.shape() {
            continue;
        }
        let fit = (room + EPSILON) / kind.capacity.prompt;
        let count = ceil(fit.floor()).min(kind.count);
        out[*at] = count;
        room -= f64::from(count) * kind.capacity.prompt;
    }
    out
}

fn exchange(
    kept: &[Kind],
    out: Vec<u32>,
    (successor, count): (&Kind, u32),
    rules: &Rules,
) -> Option<Exchange> {
    let number: u32 = out.iter().sum();
    let old: f64 = out.iter().zip(kept).map(|(n, kind)| f64::from(*n) * kind.price).sum();
    let new = f64::from(count) * successor.price;
    let allowed = number <= rules.budget || count == 1 && !rules.firm;
    let pays = number > 0 && new <= old * SHARE;
    let again = REWORK.as_secs_f64() / 3600.0;
    let cost = new * rules.boot_hours + old * (rules.boot_hours + again);
    let shape = successor.capacity.shape();
    (allowed && pays).then_some(Exchange { out, shape, count, saving: old - new, cost })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fleet::capacity::Capacity;

    fn kind(speed: f64, price: f64, count: u32) -> Kind {
        Kind { capacity: Capacity { prompt: speed, bulk: speed }, price, count }
    }

    fn rules(need: f64, budget: u32) -> Rules {
        Rules { need, boot_hours: 0.05, budget, firm: false, room: 100 }
    }

    const OFFERED: [(f64, f64); 2] = [(1.0, 1.0), (4.0, 3.0)];

    fn offered() -> [Kind; 2] {
        OFFERED.map(|(speed, price)| kind(speed, price, u32::MAX))
    }

    #[test]
    fn small_ones_are_exchanged_for_large_ones_within_the_budget() {
        let small = [kind(1.0, 1.0, 8)];
        let all = best(&small, &offered(), &rules(8.0, 8)).unwrap();
        assert_eq!((all.out, all.count), (vec![8], 2));
        assert!((all.saving - 2.0).abs() < EPSILON);
        // Two boots of $6 and $8, and a minute of $8.
        assert!((all.cost - (0.05 * 14.0 + 8.0 / 60.0)).abs() < EPSILON, "{}", all.cost);
        let half = best(&small, &offered(), &rules(8.0, 4)).unwrap();
        assert_eq!((half.out, half.count), (vec![4], 1));
        // What one takes the place of goes at once, or it could never go.
        let last = [kind(1.0, 1.0, 4), kind(4.0, 3.0, 1)];
        let last = best(&last, &offered(), &rules(8.0, 3)).unwrap();
        assert_eq!((last.out, last.count), (vec![4, 0], 1));
        assert_eq!(best(&small, &offered(), &Rules { firm: true, ..rules(8.0, 3) }), None);
        assert_eq!(best(&small, &offered(), &Rules { room: 0, ..rules(8.0, 8) }), None);
    }

    #[test]
    fn a_large_one_is_exchanged_for_what_is_needed_of_it() {
        let large = [kind(4.0, 3.0, 1)];
        let one = best(&large, &offered(), &rules(1.0, 1)).unwrap();
        assert_eq!((one.out, one.count, one.saving), (vec![1], 1, 2.0));
        let two = best(&large, &offered(), &rules(2.0, 1)).unwrap();
        assert_eq!((two.out, two.count, two.saving), (vec![1], 2, 1.0));
        assert_eq!(best(&large, &offered(), &rules(3.0, 1)), None, "it costs the same");
    }

    proptest! {
        #[test]
        fn an_exchange_covers_the_need_and_costs_less(
            small in 0..20_u32,
            large in 0..6_u32,
            need in 0..40_u32,
            budget in 1..12_u32,
        ) {
            let kept = [kind(1.0, 1.0, small), kind(4.0, 3.0, large)];
            let rules = rules(f64::from(need), budget);
            if let Some(found) = best(&kept, &offered(), &rules) {
                let new = offered().into_iter().find(|kind| kind.capacity.shape() == found.shape);
                let new = new.unwrap();
                let count = f64::from(found.count);
                let sum = |of: fn(&Kind) -> f64| -> f64 {
                    let stay = kept.iter().zip(&found.out);
                    stay.map(|(kind, out)| f64::from(kind.count - out) * of(kind)).sum::<f64>()
                };
                prop_assert!(sum(|k| k.capacity.prompt) + count * new.capacity.prompt >= rules.need);
                let before = f64::from(small) + 3.0 * f64::from(large);
                let after = sum(|k| k.price) + count * new.price;
                prop_assert!((before - after - found.saving).abs() < EPSILON && found.saving > 0.0);
            }
        }
    }
}
