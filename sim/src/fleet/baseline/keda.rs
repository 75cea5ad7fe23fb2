//! KEDA's `RabbitMQ` scaler with the Kubernetes horizontal autoscaler's defaults: evaluated every 15 s, within
//! 10 % nothing changes, up by at most 4 or 100 %, down to the most wanted in 300 s, to zero after 300 s
//! without activity and from zero at a poll every 30 s.

use crate::fleet::baseline::Window;
use crate::fleet::job::{Millis, count, whole};
use crate::fleet::policy::{Orders, Policy, View};

/// What is compared with the value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mode {
    /// Messages, running ones included.
    QueueLength,
    /// Seconds until the queue is empty at the rate at which it is delivered.
    ConsumptionTime,
}

#[derive(Debug, Clone)]
pub struct Keda {
    pub mode: Mode,
    pub value: f64,
    pub min: usize,
    wants: Window,
    delivered: usize,
    published: usize,
    active_at: Millis,
}

const STABILIZATION: Millis = 300_000;
const COOLDOWN: Millis = 300_000;
const POLL: Millis = 30_000;
const MOST: usize = 100;

impl Keda {
    pub fn new(mode: Mode, value: f64, min: usize) -> Self {
        let (wants, active_at) = (Window::default(), 0);
        Self { mode, value, min, wants, delivered: 0, published: 0, active_at }
    }

    fn metric(&mut self, view: &View<'_>) -> f64 {
        let messages = count(view.waiting.len() + view.running);
        let delivered = view.totals.started();
        let published = view.totals.arrived();
        let out = count(delivered - self.delivered) / 15.0;
        let into = count(published - self.published) / 15.0;
        (self.delivered, self.published) = (delivered, published);
        match self.mode {
            Mode::QueueLength => messages,
            Mode::ConsumptionTime if messages == 0.0 || out == 0.0 => 0.0,
            Mode::ConsumptionTime => ((into - out) / out + messages / out).max(0.0),
        }
    }
}

impl Policy for Keda {
    fn name(&self) -> String {
        let mode = match self.mode {
            Mode::QueueLength => "queue length",
            Mode::ConsumptionTime => "consumption time",
        };
        format!("KEDA {mode} {:.1}, min {}", self.value, self.min)
    }

    fn act(&mut self, view: &View<'_>, orders: &mut Orders) {
        let current = view.ready() + view.booting();
        let metric = self.metric(view);
        if view.waiting.len() + view.running > 0 {
            self.active_at = view.now;
        }
        if current == 0 {
            let up = view.now % POLL == 0 && !view.waiting.is_empty();
            orders.launch(view.on_demand(), usize::from(up || self.min > 0));
            return;
        }
        let ratio = metric / (self.value * count(current));
        let wanted = if (ratio - 1.0).abs() <= 0.1 { current } else { whole(metric / self.value) };
        let wanted = wanted.min(current + current.max(4)).clamp(self.min.max(1), MOST);
        let held = self.wants.max(view.now, wanted, STABILIZATION);
        let idle_long = view.now - self.active_at >= COOLDOWN;
        let target = if idle_long { self.min } else { held.max(wanted) };
        orders.toward(view, view.on_demand(), target);
    }
}
