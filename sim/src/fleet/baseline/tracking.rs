//! Target tracking on the backlog per instance, once a minute: EC2's and `SageMaker`'s asynchronous inference.
//! Scale-in is "more gradual" in the documents; here a tenth, at least one, a minute.

use crate::fleet::job::{Millis, count, whole};
use crate::fleet::policy::{Orders, Policy, View};

#[derive(Debug, Clone)]
pub struct Tracking {
    pub target: f64,
    pub min: usize,
    /// Waits after a change, where the example of `SageMaker` has them.
    pub cooldown_out: Millis,
    pub cooldown_in: Millis,
    above: u32,
    below: u32,
    empty: u32,
    changed: Millis,
}

impl Tracking {
    pub fn new(target: f64, min: usize) -> Self {
        let (cooldown_out, cooldown_in) = (0, 0);
        Self { target, min, cooldown_out, cooldown_in, above: 0, below: 0, empty: 0, changed: 0 }
    }

    /// The example of `SageMaker`'s guide: 5 per instance, 300 s after scaling out and 600 s after scaling in.
    pub fn sagemaker(target: f64, min: usize) -> Self {
        Self { cooldown_out: 300_000, cooldown_in: 600_000, ..Self::new(target, min) }
    }
}

impl Policy for Tracking {
    fn name(&self) -> String {
        let kind = if self.cooldown_in > 0 { "SageMaker async" } else { "target tracking" };
        format!("{kind} {:.2}, min {}", self.target, self.min)
    }

    fn interval(&self) -> Millis {
        60_000
    }

    fn act(&mut self, view: &View<'_>, orders: &mut Orders) {
        let (ready, booting) = (view.ready(), view.booting());
        let have = ready + booting;
        let cooled = |span: Millis| view.now - self.changed >= span;
        if have < self.min.max(1) {
            self.empty = if view.waiting.is_empty() { 0 } else { self.empty + 1 };
            if have < self.min || self.empty >= 2 {
                orders.launch(view.on_demand(), 1);
                (self.empty, self.changed) = (0, view.now);
            }
            return;
        }
        let metric = count(view.waiting.len()) / count(ready.max(1));
        self.above = if metric > self.target { self.above + 1 } else { 0 };
        self.below = if metric < 0.9 * self.target { self.below + 1 } else { 0 };
        if self.above >= 3 && cooled(self.cooldown_out) {
            // Capacity that warms up counts as there.
            let want = whole(count(ready) * metric / self.target);
            let more = want.saturating_sub(have);
            orders.launch(view.on_demand(), more);
            if more > 0 {
                self.changed = view.now;
            }
        } else if self.below >= 15 && booting == 0 && cooled(self.cooldown_in) {
            let fewer = (have / 10).max(1);
            let target = have.saturating_sub(fewer).max(self.min);
            orders.toward(view, view.on_demand(), target);
            if target < have {
                self.changed = view.now;
            }
        }
    }
}
