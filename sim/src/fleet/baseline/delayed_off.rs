//! Setup per waiting job with delayed off (Gandhi, Harchol-Balter: `AutoScale`, 2012): a worker is started for
//! each job that finds none, and an idle worker lives on for a while.

use crate::fleet::job::Millis;
use crate::fleet::policy::{Orders, Policy, View};
use crate::fleet::world::instance::Phase;

#[derive(Debug, Clone, Copy)]
pub struct DelayedOff {
    pub idle: Millis,
    pub min: usize,
}

impl Policy for DelayedOff {
    fn name(&self) -> String {
        format!("DelayedOff {} s, min {}", self.idle / 1000, self.min)
    }

    fn interval(&self) -> Millis {
        5_000
    }

    fn act(&mut self, view: &View<'_>, orders: &mut Orders) {
        let have = view.ready() + view.booting();
        let want = (view.waiting.len() + view.running).max(self.min);
        orders.launch(view.on_demand(), want.saturating_sub(have));
        let idle = view.instances.iter().filter(|i| {
            i.phase == Phase::Idle && !i.leaving() && view.now - i.idle_since >= self.idle
        });
        for instance in idle.take(have.saturating_sub(want.max(self.min))) {
            orders.drain(instance.id);
        }
    }
}
