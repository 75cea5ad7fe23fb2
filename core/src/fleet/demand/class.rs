//! What the jobs of one class have taught: how often they come, and what margin keeps its promise.
//!
//! A class with few jobs has few that can be late, so that its own record alone would say something only after weeks. It
//! borrows that of the classes with the same wait: they stand in the same line, so a job of either that had come at the same
//! moment would have been late alike. Their jobs count by how much more of them than usual are of this class at the time, so
//! that a class which comes when the load is highest is judged by those hours. This is empirical Bayes with a
//! beta prior that others' jobs fill (Efron and Morris, "Data analysis using Stein's estimator and its generalizations",
//! 1975; Casella, "An introduction to empirical Bayes data analysis", 1985), with importance weights; everything decays.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::fleet::number::real;

use super::history::SLOT;
use super::margin::{MEMORY, Margin};
use super::surprise::Surprise;

/// How far back "now" and "usually" reach when it is asked how many of the jobs are of a class.
const NOW: Duration = Duration::from_mins(30);
/// No job of others counts for more than this many.
const MOST_WEIGHT: f64 = 8.0;

/// One class's record.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ClassDemand {
    pub(crate) margin: Margin,
    /// Decayed numbers of jobs, each counted as so many of the mean service time: of the last half hour, and usually.
    recent: f64,
    usual: f64,
    pub(crate) surprise: Surprise,
}

impl ClassDemand {
    /// A class of which nothing is known, in a pool with this record.
    pub(crate) fn first(pool: &Margin) -> Self {
        Self { margin: *pool, ..Self::default() }
    }

    /// Books `arrived` jobs over the `slots` that ended.
    pub(crate) fn arrive(&mut self, arrived: f64, slots: u64) {
        let fade =
            |memory: Duration| (-real(slots) * SLOT.as_secs_f64() / memory.as_secs_f64()).exp();
        self.recent = self.recent * fade(NOW) + arrived;
        self.usual = self.usual * fade(MEMORY) + arrived;
    }

    /// Work of it that came lately, in jobs of the mean service time.
    pub(crate) fn recent(&self) -> f64 {
        self.recent
    }

    /// How much more than usual of the jobs of `all` are of this class now: 1 as usual, 0 none.
    pub(crate) fn presence(&self, all: &Self) -> f64 {
        let share = |of: f64, all: f64| if all > 0.0 { of / all } else { 0.0 };
        let (now, usually) = (share(self.recent, all.recent), share(self.usual, all.usual));
        let presence = if usually > 0.0 { now / usually } else { 0.0 };
        if presence.is_finite() { presence.clamp(0.0, MOST_WEIGHT) } else { 0.0 }
    }

    /// The sum of the numbers of several.
    pub(crate) fn total<'a>(classes: impl Iterator<Item = &'a Self>) -> Self {
        classes.fold(Self::default(), |sum, class| Self {
            recent: sum.recent + class.recent,
            usual: sum.usual + class.usual,
            ..sum
        })
    }
}
