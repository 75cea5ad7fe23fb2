//! Staffing from queueing theory: the square-root rule and Erlang's waiting formula.

use crate::fleet::baseline::Window;
use crate::fleet::job::{Millis, count, seconds, whole};
use crate::fleet::policy::{Orders, Policy, View};

/// How many workers a load needs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// `R + beta sqrt(R)`.
    SquareRoot { beta: f64 },
    /// The least with at most this share of jobs waiting longer than allowed.
    ErlangC { late: f64 },
}

/// Staffs for the load of the last `window` and never below the most it wanted in the last `hold`.
#[derive(Debug, Clone)]
pub struct Staffing {
    pub rule: Rule,
    pub window: Millis,
    pub hold: Millis,
    pub min: usize,
    wants: Window,
}

impl Staffing {
    pub fn new(rule: Rule, window_s: i64, hold_s: i64, min: usize) -> Self {
        Self { rule, window: window_s * 1000, hold: hold_s * 1000, min, wants: Window::default() }
    }
}

impl Policy for Staffing {
    fn name(&self) -> String {
        let (window, hold) = (self.window / 1000, self.hold / 1000);
        match self.rule {
            Rule::SquareRoot { beta } => format!("square root beta {beta}, {window}/{hold} s"),
            Rule::ErlangC { late } => format!("Erlang-C {} %, {window}/{hold} s", late * 100.0),
        }
    }

    fn act(&mut self, view: &View<'_>, orders: &mut Orders) {
        let load = view.rate(self.window.min(view.now.max(1))) * view.mean_service;
        let want = match self.rule {
            Rule::SquareRoot { beta } => whole(load + beta * load.sqrt()),
            Rule::ErlangC { late } => {
                let wait = seconds(view.classes[0].max_wait);
                erlang_c_staffing(load, wait / view.mean_service, late)
            }
        };
        let held = self.wants.max(view.now, want, self.hold);
        orders.toward(view, view.on_demand(), held.max(self.min));
    }
}

/// The least number of workers with `P(W > wait) <= late`; `wait` in service times.
fn erlang_c_staffing(load: f64, wait: f64, late: f64) -> usize {
    let mut blocked = 1.0;
    for workers in 1..10_000 {
        let c = count(workers);
        blocked = load * blocked / (c + load * blocked);
        if c > load {
            let waits = blocked / (1.0 - (load / c) * (1.0 - blocked));
            if waits * (-(c - load) * wait).exp() <= late {
                return if load > 0.0 { workers } else { 0 };
            }
        }
    }
    whole(load)
}
