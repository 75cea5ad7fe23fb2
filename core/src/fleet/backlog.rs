//! What waits of the classes that are staffed for, by the time that is left, and how much capacity it wants.
//!
//! A job that waits can be saved by a launch only if its promise ends after the boot. The work of those that can be has to be done in
//! the time that is left then, so that it weighs the more the nearer its end is. Other work only delays what is behind it: a
//! wait is soon enough to have worked it off. So it is for a class that may wait for less than two boots and is not late too
//! often: the little that a launch can save there was measured to cost more than it is worth.
//!
//! No launch is made to work for less than a boot. What is left just before the last moment would want any number of workers, each for
//! a moment; those that are launched then come too late for most of it, and all are paid for.

use crate::ids::{ClassName, ModelName};

use super::demand::{Demand, Need, Outlook};
use super::number::real;
use super::snapshot::Waiting;

/// A launch works for a boot or for so many seconds, whichever is longer, unless the class allows less.
const LEAST_SPAN: f64 = 60.0;

/// The jobs of a class and model that wait.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Lot<'a> {
    pub(crate) class: &'a ClassName,
    pub(crate) model: &'a ModelName,
    /// Seconds that the class allows.
    pub(crate) max_wait: f64,
    pub(crate) waiting: &'a [Waiting],
}

/// What waits for a class and has the same time left.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Due {
    /// Seconds until the end of the promise; below 0 when it is past.
    pub(crate) left: f64,
    /// Seconds that the class allows.
    pub(crate) max_wait: f64,
    /// Expected seconds of work, and their variance.
    pub(crate) work: f64,
    pub(crate) variance: f64,
    /// Whether too many jobs of the class have been late.
    pub(crate) pressed: bool,
}

impl Due {
    /// Adds what is alike to it, and says whether it was.
    fn takes(&mut self, other: &Self) -> bool {
        let of = |due: &Self| (due.left.to_bits(), due.max_wait.to_bits(), due.pressed);
        let alike = of(self) == of(other);
        if alike {
            self.work += other.work;
            self.variance += other.variance;
        }
        alike
    }

    /// Seconds in which its work should be done once a launch is ready.
    fn span(&self, boot: f64, service: f64) -> f64 {
        let left = self.left - boot;
        let hurried = self.pressed || self.max_wait >= 2.0 * boot;
        let least = boot.max(LEAST_SPAN).min(self.max_wait);
        (if hurried && left > 0.0 { left.max(least) } else { self.max_wait }) + service
    }
}

/// What the lots come to, the most urgent first.
pub(crate) fn due(lots: &[Lot<'_>], demand: &Demand, outlook: &Outlook) -> Vec<Due> {
    let mut due: Vec<Due> = Vec::new();
    for lot in lots {
        let service = demand.models.get(lot.model).unwrap_or(&demand.service);
        let (mean, scv) = (service.mean(), service.scv());
        let need = outlook.needs.iter().find(|need| need.class.as_ref() == Some(lot.class));
        let pressed = need.is_some_and(Need::is_pressed);
        due.extend(lot.waiting.iter().map(|waiting| {
            let work = real(waiting.jobs) * mean;
            let left = lot.max_wait - waiting.age.as_secs_f64();
            Due { left, max_wait: lot.max_wait, work, variance: work * mean * scv, pressed }
        }));
    }
    due.sort_by(|a, b| a.left.total_cmp(&b.left));
    due.dedup_by(|next, first| first.takes(next));
    due
}

/// Expected seconds of all that is due.
pub(crate) fn work(due: &[Due]) -> f64 {
    due.iter().map(|due| due.work).sum()
}

/// Workers that finish in time what is still waiting when a launch of now is ready, while the present ones work off all but `net` of
/// what arrives.
pub(crate) fn workers(due: &[Due], net: f64, (boot, service): (f64, f64)) -> f64 {
    let work = work(due);
    let left = (work + net * boot).max(0.0);
    let pressure: f64 = due.iter().map(|due| due.work / due.span(boot, service)).sum();
    if work > 0.0 { left * (pressure / work) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(left: f64, max_wait: f64) -> Due {
        Due { left, max_wait, work: 1000.0, variance: 0.0, pressed: true }
    }

    const TIMES: (f64, f64) = (180.0, 20.0);

    #[test]
    fn what_can_still_be_saved_weighs_by_the_time_that_is_left() {
        let near = workers(&[due(390.0, 600.0)], 0.0, TIMES);
        let far = workers(&[due(580.0, 600.0)], 0.0, TIMES);
        assert!((near - 1000.0 / 230.0).abs() < 1e-9, "within 210 s and a service: {near}");
        assert!((far - 1000.0 / 420.0).abs() < 1e-9, "{far}");
    }

    #[test]
    fn just_before_the_last_moment_no_more_are_wanted_than_work_for_a_boot() {
        for left in [350.0, 200.0, 181.0, 180.001] {
            let wanted = workers(&[due(left, 420.0)], 0.0, (180.0, 0.05));
            assert!((wanted - 1000.0 / 180.05).abs() < 1e-9, "{left}: {wanted}");
        }
        let quick = workers(&[due(10.001, 600.0)], 0.0, (10.0, 0.05));
        assert!((quick - 1000.0 / 60.05).abs() < 1e-9, "or for a minute: {quick}");
        let short = workers(&[due(15.001, 30.0)], 0.0, (15.0, 0.05));
        assert!((short - 1000.0 / 30.05).abs() < 1e-9, "or for a wait: {short}");
    }

    #[test]
    fn a_class_with_a_short_wait_is_hurried_only_when_it_is_late_too_often() {
        let calm = Due { pressed: false, ..due(200.0, 300.0) };
        let wanted = workers(&[calm], 0.0, TIMES);
        assert!((wanted - 1000.0 / 320.0).abs() < 1e-9, "{wanted}");
        let pressed = workers(&[Due { pressed: true, ..calm }], 0.0, TIMES);
        assert!((pressed - 1000.0 / 200.0).abs() < 1e-9, "{pressed}");
    }

    #[test]
    fn what_is_late_whatever_is_launched_is_worked_off_within_a_wait() {
        for left in [-500.0, 30.0, 180.0] {
            let late = workers(&[due(left, 60.0)], 0.0, TIMES);
            assert!((late - 1000.0 / 80.0).abs() < 1e-9, "{late}");
        }
    }

    #[test]
    fn what_the_present_workers_do_until_then_is_not_launched_for() {
        assert!(workers(&[due(30.0, 60.0)], -6.0, TIMES) <= 0.0);
        assert!(workers(&[], 5.0, TIMES) <= 0.0);
    }
}
