//! What is remembered of machines that are replaced by others of another size.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::fleet::capacity::Capacity;
use crate::ids::InstanceName;

/// How long machines of other sizes have been cheaper, in dollars, and which machines they replace.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Resize {
    /// Dollars that the best exchange would have saved since there has been one without a break.
    pub(crate) missed: f64,
    /// Machines whose successors are on their way, and the dollars an hour that this saves.
    pub(crate) marked: Vec<InstanceName>,
    pub(crate) saving: f64,
    /// What was ready when they were marked, less what has gone since.
    pub(crate) attained: Capacity,
    /// How long they have been marked.
    waited: Duration,
}

/// For so many boots what may wait is not done more slowly than before; by then the successors are there.
const PATIENT_BOOTS: u32 = 3;
/// A break that is shorter than about this many boots is none.
const FORGOTTEN_BOOTS: f64 = 1.0;

impl Resize {
    /// Marks machines whose successors have been launched, while so much is ready.
    pub(crate) fn mark(&mut self, names: &[InstanceName], ready: Capacity) {
        self.marked.extend_from_slice(names);
        (self.missed, self.attained, self.waited) = (0.0, ready, Duration::ZERO);
    }

    /// Takes in what is ready, the marked ones included. What others give up meanwhile is not made up for; and what may wait is
    /// done in time by what is needed for it, so that no marked machine stays until there is none of it left.
    pub(crate) fn wait(&mut self, ready: Capacity, elapsed: Duration, boot: Duration) {
        self.attained = self.attained.least(ready);
        self.waited = self.waited.saturating_add(elapsed);
        if self.waited > boot.saturating_mul(PATIENT_BOOTS) {
            self.attained.bulk = 0.0;
        }
    }

    /// Takes in that an exchange would have saved this much an hour for so many hours; `None`: there is none.
    pub(crate) fn observe(&mut self, saving: Option<f64>, hours: f64, boot_hours: f64) {
        match saving {
            Some(saving) => self.missed += saving * hours,
            None => self.missed *= (-hours / (boot_hours * FORGOTTEN_BOOTS).max(1e-6)).exp(),
        }
        if !self.missed.is_finite() || self.missed < 1e-6 {
            self.missed = 0.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_attained_comes_down_with_what_is_ready_and_counts_for_some_boots() {
        let (mut resize, boot) = (Resize::default(), Duration::from_mins(3));
        let of = |prompt, bulk| Capacity { prompt, bulk };
        resize.mark(&[], of(9.0, 20.0));
        resize.wait(of(4.0, 10.0), boot, boot);
        resize.wait(of(12.0, 30.0), boot, boot);
        assert_eq!(resize.attained, of(4.0, 10.0), "what comes is a successor");
        resize.wait(of(12.0, 30.0), boot * 2, boot);
        assert_eq!(resize.attained, of(4.0, 0.0));
        resize.mark(&[], of(9.0, 20.0));
        resize.wait(of(9.0, 20.0), boot, boot);
        assert_eq!(resize.attained, of(9.0, 20.0));
    }

    #[test]
    fn what_was_missed_adds_up_and_is_forgotten_after_a_break() {
        let mut resize = Resize::default();
        for _ in 0..10 {
            resize.observe(Some(2.0), 0.01, 0.05);
        }
        assert!((resize.missed - 0.2).abs() < 1e-9);
        resize.observe(None, 0.004, 0.05);
        assert!(resize.missed > 0.18, "a moment is no break: {}", resize.missed);
        resize.observe(None, 1.0, 0.05);
        assert!(resize.missed.abs() < 1e-9);
        resize.observe(Some(f64::NAN), 1.0, 0.05);
        assert!(resize.missed.abs() < 1e-9);
    }
}
