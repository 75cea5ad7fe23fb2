//! `SkyServe`'s request-rate autoscaler with `SpotHedge`'s placement and fallback (`EuroSys`'25): the rate of the
//! last 60 s over a target per replica, adopted after 300 s above or 1200 s below; spot in zones that have not
//! preempted lately, one replica more than needed, and on-demand for what spot is not ready.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use crate::fleet::job::{Millis, whole};
use crate::fleet::policy::{Orders, Policy, View};

const UPSCALE: Millis = 300_000;
const DOWNSCALE: Millis = 1_200_000;

#[derive(Debug, Clone)]
pub struct SkyServe {
    /// Requests per second for a replica.
    pub rate: f64,
    pub extra: usize,
    pub min: usize,
    target: usize,
    above_since: Option<Millis>,
    below_since: Option<Millis>,
    preempted: BTreeSet<usize>,
    seen: Vec<(usize, usize, usize)>,
}

impl SkyServe {
    pub fn new(rate: f64, extra: usize, min: usize) -> Self {
        Self {
            rate,
            extra,
            min,
            target: min,
            above_since: None,
            below_since: None,
            preempted: BTreeSet::new(),
            seen: Vec::new(),
        }
    }

    fn adopt(&mut self, now: Millis, want: usize) {
        match want.cmp(&self.target) {
            Ordering::Greater => {
                self.below_since = None;
                if now - *self.above_since.get_or_insert(now) >= UPSCALE {
                    (self.target, self.above_since) = (want, None);
                }
            }
            Ordering::Less => {
                self.above_since = None;
                if now - *self.below_since.get_or_insert(now) >= DOWNSCALE {
                    (self.target, self.below_since) = (want, None);
                }
            }
            Ordering::Equal => (self.above_since, self.below_since) = (None, None),
        }
    }

    /// Moves zones between the lists by what happened since the last look.
    fn learn(&mut self, view: &View<'_>) {
        self.seen.resize(view.tallies.len(), (0, 0, 0));
        for (index, tally) in view.tallies.iter().enumerate() {
            let (launched, refused, interrupted) = self.seen[index];
            if tally.refused > refused || tally.interrupted > interrupted {
                self.preempted.insert(index);
            } else if tally.launched > launched {
                self.preempted.remove(&index);
            }
            self.seen[index] = (tally.launched, tally.refused, tally.interrupted);
        }
    }

    fn place(&mut self, view: &View<'_>, spot: &[usize], n: usize, orders: &mut Orders) {
        let active = spot.iter().filter(|index| !self.preempted.contains(index)).count();
        if active < 2 {
            self.preempted.clear();
        }
        let mut held: Vec<(usize, usize)> = spot
            .iter()
            .filter(|index| !self.preempted.contains(index))
            .map(|index| (view.instances.iter().filter(|i| i.offering == *index).count(), *index))
            .collect();
        for _ in 0..n {
            held.sort_unstable();
            if let Some((count, index)) = held.first_mut() {
                orders.launch(*index, 1);
                *count += 1;
            }
        }
    }
}

impl Policy for SkyServe {
    fn name(&self) -> String {
        format!("SkyServe {:.3}/s +{}, min {}", self.rate, self.extra, self.min)
    }

    fn interval(&self) -> Millis {
        20_000
    }

    fn act(&mut self, view: &View<'_>, orders: &mut Orders) {
        self.adopt(view.now, whole(view.rate(60_000) / self.rate).max(self.min));
        self.learn(view);
        let spot: Vec<usize> =
            (0..view.offerings.len()).filter(|index| view.offerings[*index].spot).collect();
        if spot.is_empty() {
            orders.toward(view, view.on_demand(), self.target);
            return;
        }
        let own = |i: &&&crate::fleet::world::instance::Instance| {
            spot.contains(&i.offering) && !i.leaving()
        };
        let have = view.instances.iter().filter(own).count();
        let ready = view.instances.iter().filter(own).filter(|i| i.takes_work()).count();
        let wanted = if self.target == 0 { 0 } else { self.target + self.extra };
        if wanted > have {
            self.place(view, &spot, wanted - have, orders);
        } else {
            let mut leaving: Vec<_> = view.instances.iter().filter(own).collect();
            leaving.sort_by_key(|i| (i.rank_to_leave(), -i.launched));
            for instance in leaving.iter().take(have - wanted) {
                orders.drain(instance.id);
            }
        }
        let bridge = self.target.min(wanted.saturating_sub(ready));
        orders.toward(view, view.on_demand(), bridge);
    }
}
