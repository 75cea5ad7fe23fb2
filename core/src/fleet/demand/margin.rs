//! How far above the forecast a pool is staffed: adjusted by how well the promise was kept lately.
//!
//! Jobs that were late because nothing was ready at all say nothing about the margin; they are the
//! business of [`super::quiet`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::fleet::number::real;

use super::News;
use super::history::SLOT;

/// Deviations above the forecast with which a pool starts.
const FIRST: f64 = 0.95;
/// Bounds; beyond the upper one more workers cost more than they help, as late jobs then have other causes.
const LEAST: f64 = 0.33;
const MOST: f64 = 1.6;
/// Share of the allowance of late jobs that the margin may use.
const SHARE: f64 = 0.8;
/// How long what happened counts.
const MEMORY: Duration = Duration::from_hours(48);
/// Jobs as many as this, kept as well as promised, are taken for granted.
const PRIOR_JOBS: f64 = 300.0;
/// Slots in which a new pool learns how long its jobs run.
const FIRST_SLOTS: u64 = 120;
/// Slots between adjustments, and the size of one.
const EVERY: u64 = 60;
const STEP: f64 = 0.025;
/// An adjustment is halved when as few jobs as this speak for it.
const EVIDENCE: f64 = 30.0;

/// The margin and the record that adjusts it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Margin {
    deviations: f64,
    /// Decayed counts of jobs that started, and of those that started late.
    started: f64,
    late: f64,
    /// Slots since the last adjustment, and jobs that started in them.
    age: u64,
    fresh: f64,
    /// Slots until late starts count again after a cold start, and slots in all.
    cold: u64,
    lived: u64,
}

impl Default for Margin {
    fn default() -> Self {
        Self { deviations: FIRST, started: 0.0, late: 0.0, age: 0, fresh: 0.0, cold: 0, lived: 0 }
    }
}

impl Margin {
    pub(crate) fn deviations(&self) -> f64 {
        self.deviations
    }

    /// Decayed share of jobs that started late though something was ready.
    pub(crate) fn late_share(&self) -> f64 {
        if self.started > 0.0 { self.late / self.started } else { 0.0 }
    }

    /// Takes in what happened in `slots`, of which the share `allowed` may be late.
    pub(crate) fn observe(&mut self, news: News, slots: u64, allowed: f64) {
        /// Slots after a cold start in which jobs are late because of it.
        const COLD_SLOTS: u64 = 8;
        if news.cold {
            self.cold = COLD_SLOTS;
        }
        let fade = (-real(slots) * SLOT.as_secs_f64() / MEMORY.as_secs_f64()).exp();
        self.started = self.started * fade + real(news.started);
        // Before service times are known, late starts say nothing about the margin either.
        self.lived = self.lived.saturating_add(slots);
        let late = if self.cold > 0 || self.lived < FIRST_SLOTS {
            0
        } else {
            news.started_late.min(news.started)
        };
        self.late = self.late * fade + real(late);
        self.cold = self.cold.saturating_sub(slots);
        self.age = self.age.saturating_add(slots);
        self.fresh += real(news.started);
        if self.age >= EVERY {
            self.age = 0;
            let goal = allowed.max(1e-6) * SHARE;
            let ratio = (self.late + goal * PRIOR_JOBS) / (self.started + PRIOR_JOBS) / goal;
            // Few jobs are little evidence: a quiet day must not talk the margin down.
            let evidence = self.fresh / (self.fresh + EVIDENCE);
            self.fresh = 0.0;
            let step = (STEP * evidence * (ratio.min(3.0) - 1.0)).exp();
            self.deviations = (self.deviations * step).clamp(LEAST, MOST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The margin after a week.
    fn after(news: News) -> f64 {
        let mut margin = Margin::default();
        for _ in 0..7 * 5760 {
            margin.observe(news, 1, 0.01);
        }
        margin.deviations()
    }

    const KEPT: News = News { arrived: 10.0, started: 10, started_late: 0, cold: false };
    const LATE: News = News { started_late: 1, ..KEPT };

    #[test]
    fn late_jobs_raise_the_margin_and_kept_promises_lower_it() {
        assert!((after(LATE) - MOST).abs() < 1e-9);
        assert!((after(KEPT) - LEAST).abs() < 1e-9);
    }

    #[test]
    fn cold_starts_do_not_raise_the_margin() {
        assert!((after(News { cold: true, ..LATE }) - LEAST).abs() < 1e-9);
    }
}
