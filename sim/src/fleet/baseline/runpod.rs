//! `RunPod` serverless: by queue delay (one more worker every 5 s while the oldest job waits longer than the
//! threshold and fewer boot than wait, as the step is not documented) or by request count.

use crate::fleet::job::{Millis, count, whole};
use crate::fleet::policy::{Orders, Policy, View};
use crate::fleet::world::instance::Phase;

/// What adds workers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    QueueDelay { threshold: Millis },
    RequestCount { per_worker: f64 },
}

#[derive(Debug, Clone, Copy)]
pub struct RunPod {
    pub rule: Rule,
    /// How long an idle worker lives.
    pub idle: Millis,
    pub min: usize,
}

impl Policy for RunPod {
    fn name(&self) -> String {
        let idle = self.idle / 1000;
        match self.rule {
            Rule::QueueDelay { threshold } => {
                format!("RunPod delay {} s, idle {idle} s, min {}", threshold / 1000, self.min)
            }
            Rule::RequestCount { per_worker } => {
                format!("RunPod count {per_worker}, idle {idle} s, min {}", self.min)
            }
        }
    }

    fn interval(&self) -> Millis {
        5_000
    }

    fn act(&mut self, view: &View<'_>, orders: &mut Orders) {
        let (have, booting) = (view.ready() + view.booting(), view.booting());
        let more = match self.rule {
            Rule::QueueDelay { threshold } => {
                let slow = view.oldest_wait() > threshold && booting < view.waiting.len();
                usize::from(slow)
            }
            Rule::RequestCount { per_worker } => {
                let jobs = count(view.waiting.len() + view.running);
                whole(jobs / per_worker).saturating_sub(have)
            }
        };
        orders.launch(view.on_demand(), more.max(self.min.saturating_sub(have)));
        let idle = view.instances.iter().filter(|i| {
            i.phase == Phase::Idle && !i.leaving() && view.now - i.idle_since >= self.idle
        });
        for instance in idle.take(have.saturating_sub(self.min)) {
            orders.drain(instance.id);
        }
    }
}
