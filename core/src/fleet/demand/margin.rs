//! How far above the forecast a pool is staffed: adjusted by how well the promise was kept lately.
//!
//! Jobs that were late because nothing was ready at all say nothing about the margin; they are the
//! business of [`super::quiet`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::fleet::number::real;

use super::history::SLOT;

/// Deviations above the forecast with which a pool starts.
const FIRST: f64 = 0.95;
/// Bounds; beyond the upper one more workers cost more than they help, as late jobs then have other causes.
const LEAST: f64 = 0.33;
const MOST: f64 = 1.6;
/// Share of the allowance of late jobs that the margin may use.
pub(super) const SHARE: f64 = 0.8;
/// How long what happened counts.
pub(super) const MEMORY: Duration = Duration::from_hours(48);
/// Jobs as many as this are taken for granted: those that others lend, and for the rest, ones that were kept as well as
/// promised.
const PRIOR_JOBS: f64 = 300.0;
/// Slots in which a new pool learns how long its jobs run.
const FIRST_SLOTS: u64 = 120;
/// Slots between adjustments, and the size of one.
const EVERY: u64 = 60;
const STEP: f64 = 0.025;
/// An adjustment is halved when as few jobs as this speak for it.
const EVIDENCE: f64 = 30.0;

/// Jobs that started, and those of them that started late, by weight.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) started: f64,
    pub(crate) late: f64,
}

impl Record {
    pub(crate) fn plus(self, other: Self) -> Self {
        Self { started: self.started + other.started, late: self.late + other.late }
    }

    pub(crate) fn without(self, other: Self) -> Self {
        Self {
            started: (self.started - other.started).max(0.0),
            late: (self.late - other.late).max(0.0),
        }
    }

    pub(crate) fn times(self, weight: f64) -> Self {
        Self { started: self.started * weight, late: self.late * weight }
    }
}

/// What is new to a margin.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Starts {
    pub(crate) own: Record,
    /// Of others in the same line.
    pub(crate) lent: Record,
    /// Whether no worker was ready.
    pub(crate) cold: bool,
}

/// The margin and the record that adjusts it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Margin {
    deviations: f64,
    /// Decayed counts of jobs that started, and of those that started late.
    started: f64,
    late: f64,
    /// The same of jobs that others lend.
    #[serde(default)]
    lent: Record,
    /// Slots since the last adjustment, and jobs that started in them.
    age: u64,
    fresh: f64,
    /// Slots until late starts count again after a cold start, and slots in all.
    cold: u64,
    lived: u64,
}

impl Default for Margin {
    fn default() -> Self {
        Self {
            deviations: FIRST,
            started: 0.0,
            late: 0.0,
            lent: Record::default(),
            age: 0,
            fresh: 0.0,
            cold: 0,
            lived: 0,
        }
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

    /// The same record as others' jobs, for a class of which nothing is known.
    pub(crate) fn as_lent(&self) -> Self {
        let lent =
            Record { started: self.started + self.lent.started, late: self.late + self.lent.late };
        Self { started: 0.0, late: 0.0, lent, ..*self }
    }

    /// Takes in what happened in `slots`, of which the share `allowed` may be late.
    pub(crate) fn observe(&mut self, news: Starts, slots: u64, allowed: f64) {
        /// Slots after a cold start in which jobs are late because of it.
        const COLD_SLOTS: u64 = 8;
        if news.cold {
            self.cold = COLD_SLOTS;
        }
        let fade = (-real(slots) * SLOT.as_secs_f64() / MEMORY.as_secs_f64()).exp();
        // Before service times are known, late starts say nothing about the margin either.
        self.lived = self.lived.saturating_add(slots);
        let excused = self.cold > 0 || self.lived < FIRST_SLOTS;
        let late = |of: Record| if excused { 0.0 } else { of.late.min(of.started) };
        self.started = self.started * fade + news.own.started;
        self.late = self.late * fade + late(news.own);
        self.lent.started = self.lent.started * fade + news.lent.started;
        self.lent.late = self.lent.late * fade + late(news.lent);
        self.cold = self.cold.saturating_sub(slots);
        self.age = self.age.saturating_add(slots);
        self.fresh += news.own.started + news.lent.started;
        if self.age >= EVERY {
            self.age = 0;
            let goal = allowed.max(1e-6) * SHARE;
            let ratio = self.expected_share(goal) / goal;
            // Few jobs are little evidence: a quiet day must not talk the margin down.
            let evidence = self.fresh / (self.fresh + EVIDENCE);
            self.fresh = 0.0;
            let step = (STEP * evidence * (ratio.min(3.0) - 1.0)).exp();
            self.deviations = (self.deviations * step).clamp(LEAST, MOST);
        }
    }

    /// The share of late jobs by the record and the prior.
    fn expected_share(&self, goal: f64) -> f64 {
        let borrowed = self.lent.started.min(PRIOR_JOBS);
        let lent = if borrowed > 0.0 { borrowed * self.lent.late / self.lent.started } else { 0.0 };
        (self.late + lent + goal * (PRIOR_JOBS - borrowed)) / (self.started + PRIOR_JOBS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The margin after a week.
    fn after(news: Starts) -> f64 {
        let mut margin = Margin::default();
        for _ in 0..7 * 5760 {
            margin.observe(news, 1, 0.01);
        }
        margin.deviations()
    }

    const KEPT: Starts = Starts {
        own: Record { started: 10.0, late: 0.0 },
        lent: Record { started: 0.0, late: 0.0 },
        cold: false,
    };
    const LATE: Starts = Starts { own: Record { started: 10.0, late: 1.0 }, ..KEPT };

    #[test]
    fn late_jobs_raise_the_margin_and_kept_promises_lower_it() {
        assert!((after(LATE) - MOST).abs() < 1e-9);
        assert!((after(KEPT) - LEAST).abs() < 1e-9);
    }

    #[test]
    fn cold_starts_do_not_raise_the_margin() {
        assert!((after(Starts { cold: true, ..LATE }) - LEAST).abs() < 1e-9);
    }

    #[test]
    fn a_few_jobs_borrow_what_others_know_and_many_do_not() {
        let others = Record { started: 10.0, late: 0.3 };
        let few = Starts { own: Record { started: 0.001, late: 0.0 }, lent: others, cold: false };
        assert!((after(few) - MOST).abs() < 1e-9, "others were late at these times");
        let many = Starts { lent: others, ..KEPT };
        assert!((after(many) - LEAST).abs() < 1e-9, "its own record is long enough");
    }
}
