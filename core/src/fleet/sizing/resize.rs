//! What is remembered of machines that are replaced by others of another size.

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
    /// What was ready when they were marked.
    pub(crate) attained: Capacity,
}

/// A break that is shorter than about this many boots is none.
const FORGOTTEN_BOOTS: f64 = 1.0;

impl Resize {
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
