//! What a picture over time is drawn from.

use super::World;
use super::instance::Instance;
use crate::fleet::score::Sample;

impl World<'_> {
    /// The world as it is now.
    pub(super) fn sample(&self) -> Sample {
        let live = || self.live.iter().map(|id| &self.instances[*id]);
        let paid = |instance: &Instance| {
            let hours = self.setup.billing.hours(instance.launched, self.now);
            hours * self.setup.offerings[instance.offering].price
        };
        let first = self.queue.first().map(|(job, _)| self.workload.jobs[job].at);
        Sample {
            at: self.now,
            waiting: self.queue.len(),
            first_waits: first.map_or(0, |at| self.now - at),
            running: live().map(|instance| instance.running.len()).sum(),
            ready: live().filter(|instance| instance.takes_work()).count(),
            instances: self.live.len(),
            cost: self.usage.cost + live().map(paid).sum::<f64>(),
        }
    }
}
