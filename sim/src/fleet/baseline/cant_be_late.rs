//! "Can't Be Late" (NSDI'24), its Uniform Progress rule: take spot whenever there is some; on-demand when progress
//! lags behind a straight line to the deadline, until it is ahead by two changeovers; on-demand to the end when the
//! slack is two changeovers.
//!
//! The paper has one job on one machine. For a stream of jobs, each must be begun within the class's wait `D`, so
//! its share `age / D` is due by now: the line is the sum of these over the jobs of the last `D`, and progress is how
//! many of them were begun. As many machines are wanted as do the work of the last `D` in `D`. For a wait
//! below two boots the slack is always too small, and the rule is to be on-demand while there is work.

use std::collections::VecDeque;

use crate::fleet::job::{Millis, count, millis, seconds, whole};
use crate::fleet::policy::{Orders, Policy, View};
use crate::fleet::world::instance::Instance;

#[derive(Debug, Clone)]
pub struct CantBeLate {
    /// How many boots ahead it looks; two in the paper.
    changeovers: f64,
    /// Machines over those that do the work in its time; one in the paper.
    factor: f64,
    /// (time, jobs that had arrived by then).
    arrivals: VecDeque<(Millis, usize)>,
    lagging: bool,
    /// The slack was too small; on-demand until there is nothing to do.
    to_the_end: bool,
}

impl Default for CantBeLate {
    fn default() -> Self {
        Self::new(2.0, 1.0)
    }
}

impl CantBeLate {
    pub fn new(changeovers: f64, factor: f64) -> Self {
        Self { changeovers, factor, arrivals: VecDeque::new(), lagging: false, to_the_end: false }
    }

    /// Jobs that should have been begun by `ahead` from now, counted by the line, and those that were.
    fn progress(&self, view: &View<'_>, wait: Millis, ahead: Millis) -> (f64, f64) {
        let before = self.arrivals.front().map_or(0, |(_, arrived)| *arrived);
        let mut last = before;
        let mut due = count(before);
        for (at, arrived) in &self.arrivals {
            let age = seconds((view.now + ahead - at).min(wait));
            due += count(arrived - last) * age / seconds(wait).max(1.0);
            last = *arrived;
        }
        (due, count(view.totals.started()))
    }

    fn look(&mut self, view: &View<'_>, wait: Millis) -> usize {
        let arrived = view.totals.arrived();
        self.arrivals.push_back((view.now, arrived));
        while self.arrivals.front().is_some_and(|(at, _)| *at < view.now - wait) {
            self.arrivals.pop_front();
        }
        arrived - self.arrivals.front().map_or(0, |(_, before)| *before)
    }
}

impl Policy for CantBeLate {
    fn name(&self) -> String {
        let Self { changeovers, factor, .. } = self;
        format!("Can't Be Late {changeovers} changeovers, x{factor}")
    }

    fn interval(&self) -> Millis {
        30_000
    }

    fn act(&mut self, view: &View<'_>, orders: &mut Orders) {
        let wait = view.classes.iter().map(|class| class.max_wait).min().unwrap_or(60_000);
        let recent = self.look(view, wait);
        let changeovers = millis(self.changeovers * seconds(view.mean_boot));
        let work = view.waiting.len() + view.running;
        let (due, begun) = self.progress(view, wait, 0);
        let (later, _) = self.progress(view, wait, changeovers);
        self.lagging = !view.waiting.is_empty() && (begun < due || (self.lagging && begun < later));
        let urgent = !view.waiting.is_empty() && view.oldest_wait() >= wait - changeovers;
        self.to_the_end = work > 0 && (self.to_the_end || urgent);
        // What is worked off within the time in which it came, or within a boot where the wait is shorter.
        let span = seconds(wait.max(view.mean_boot)).max(1.0);
        let wanted = whole(self.factor * count(recent.max(work)) * view.mean_service / span);
        let wanted = if work == 0 { 0 } else { wanted.max(1) };
        let is_spot = |instance: &&&Instance| view.offerings[instance.offering].spot;
        let stays = |instance: &&&Instance| !instance.leaving();
        let spot = view.instances.iter().filter(is_spot).filter(stays).count();
        let ready = view.instances.iter().filter(is_spot).filter(|i| i.takes_work()).count();
        let bridge = if self.lagging || self.to_the_end { wanted.saturating_sub(ready) } else { 0 };
        orders.toward(view, view.on_demand(), bridge);
        if wanted == 0 {
            let idle = view.instances.iter().filter(is_spot).filter(stays);
            idle.for_each(|instance| orders.drain(instance.id));
        }
        let offered: Vec<usize> =
            (0..view.offerings.len()).filter(|index| view.offerings[*index].spot).collect();
        // In turn, as a zone that has none refuses.
        for n in 0..wanted.saturating_sub(spot) {
            let turn = usize::try_from(view.now / 30_000).unwrap_or(0);
            if !offered.is_empty() {
                orders.launch(offered[(turn + n) % offered.len()], 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::job::{Class, Job, Workload};
    use crate::fleet::market::{Offering, Steps};
    use crate::fleet::world::{self, Setup};

    fn setup(capacity: Option<Steps>) -> Setup {
        let mut setup = Setup::simple(4 * 3600, 180);
        setup.classes = vec![Class { max_wait: 4 * 3_600_000, objective: 0.99 }];
        setup.offerings.push(Offering::spot("a", 0.4, capacity));
        setup
    }

    /// 200 jobs of a minute at once, in a day.
    fn batch() -> Workload {
        let jobs =
            (0..200).map(|_| Job { at: 3_600_000, service: 60_000, class: 0, model: 0 }).collect();
        Workload::new("batch", jobs, 86_400_000)
    }

    #[test]
    fn spot_does_the_work_while_there_is_some() {
        let setup = setup(None);
        let outcome = world::run(&setup, &batch(), &mut CantBeLate::default());
        assert!(outcome.attainment > 0.999, "{outcome:?}");
        let [on_demand, spot] = outcome.usage.hours[..] else { panic!("two offerings") };
        assert!(on_demand < 0.5 * spot, "{on_demand} {spot}");
    }

    #[test]
    fn on_demand_saves_the_deadline_when_spot_never_comes() {
        let setup = setup(Some(Steps::default()));
        let outcome = world::run(&setup, &batch(), &mut CantBeLate::default());
        assert!(outcome.attainment > 0.97, "{outcome:?}");
        assert!(outcome.usage.hours[1].abs() < 1e-9, "{outcome:?}");
    }
}
