//! Knative's pod autoscaler: concurrency averaged over 60 s, and over 6 s in a panic, per worker.

use std::collections::VecDeque;

use crate::fleet::job::{Millis, count, whole};
use crate::fleet::policy::{Orders, Policy, View};

#[derive(Debug, Clone)]
pub struct Knative {
    /// Share of a worker's one job that is aimed at.
    pub target: f64,
    pub min: usize,
    samples: VecDeque<(Millis, usize)>,
    panic_until: Millis,
    panic_most: usize,
    zero_since: Option<Millis>,
}

const STABLE: Millis = 60_000;
const PANIC: Millis = 6_000;
const ZERO_GRACE: Millis = 30_000;

impl Knative {
    pub fn new(target: f64, min: usize) -> Self {
        let samples = VecDeque::new();
        Self { target, min, samples, panic_until: 0, panic_most: 0, zero_since: None }
    }

    fn average(&self, now: Millis, span: Millis) -> f64 {
        let recent = self.samples.iter().rev().take_while(|(at, _)| *at > now - span);
        let (sum, n) = recent.fold((0, 0), |(sum, n), (_, jobs)| (sum + jobs, n + 1));
        if n == 0 { 0.0 } else { count(sum) / count(n) }
    }
}

impl Policy for Knative {
    fn name(&self) -> String {
        format!("Knative {}, min {}", self.target, self.min)
    }

    fn interval(&self) -> Millis {
        2_000
    }

    fn act(&mut self, view: &View<'_>, orders: &mut Orders) {
        self.samples.push_back((view.now, view.waiting.len() + view.running));
        while self.samples.front().is_some_and(|(at, _)| *at <= view.now - STABLE) {
            self.samples.pop_front();
        }
        let ready = view.ready().max(1);
        let bound = |want: usize| want.clamp(ready / 2, ready.saturating_mul(1000));
        let stable = bound(whole(self.average(view.now, STABLE) / self.target));
        let quick = bound(whole(self.average(view.now, PANIC) / self.target));
        if quick >= 2 * ready {
            self.panic_until = view.now + STABLE;
        }
        let mut want = stable;
        if view.now < self.panic_until {
            self.panic_most = self.panic_most.max(stable).max(quick);
            want = self.panic_most;
        } else {
            self.panic_most = 0;
        }
        if want == 0 {
            let since = *self.zero_since.get_or_insert(view.now);
            want = usize::from(view.now - since < ZERO_GRACE);
        } else {
            self.zero_since = None;
        }
        orders.toward(view, view.on_demand(), want.max(self.min));
    }
}
