//! Jobs that may wait: which machines work them off for the least money, those that are there included.

use crate::fleet::capacity::{Capacity, EPSILON, Shape};
use crate::fleet::number::ceil;
use crate::fleet::provision::REWORK;

use super::mix::Kind;

/// One machine that is not needed for jobs that start at once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Machine {
    pub(crate) capacity: Capacity,
    /// Dollars an hour.
    pub(crate) price: f64,
    /// Whether it works already, and is to go on: then it costs something to let it go.
    pub(crate) ready: bool,
}

impl Machine {
    /// Dollars an hour for a throughput of 1 in full batches: what a job costs.
    pub(crate) fn job_price(&self) -> f64 {
        self.price / self.capacity.bulk
    }
}

/// The work, and what does it anyway.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Backlog {
    /// Seconds of work on a worker of speed 1.
    pub(crate) work: f64,
    /// The throughput that finishes each job by its time.
    pub(crate) rate: f64,
    /// Throughput that is left over by machines that are there for other jobs, and costs nothing.
    pub(crate) free: f64,
    /// Hours that a launch is paid for before it works, or has to be paid for at least.
    pub(crate) boot_hours: f64,
    /// Machines that may be launched.
    pub(crate) room: u32,
}

/// What works off a backlog for the least money.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Choice {
    /// How many of the machines stay, from the first.
    pub(crate) stay: usize,
    /// The shape of what is launched, and how many of it.
    pub(crate) launch: Option<(Shape, u32)>,
    /// Dollars until the backlog is done.
    pub(crate) dollars: f64,
}

/// Compares whole fleets: some of the machines, which are in the order of [`Machine::job_price`], with as many of one
/// offered kind as finish the work by its time. A fleet costs its hours until the work is done, the boots of what
/// is launched, and for what leaves the same time again and a minute of work done twice.
pub(crate) fn choose(machines: &[Machine], offered: &[Kind], backlog: &Backlog) -> Choice {
    let choice = within(machines, offered, backlog);
    // What does not fit is ordered all the same: the bound is said where it is met.
    let unbounded = Backlog { room: u32::MAX, ..*backlog };
    if choice.dollars.is_finite() { choice } else { within(machines, offered, &unbounded) }
}

fn within(machines: &[Machine], offered: &[Kind], backlog: &Backlog) -> Choice {
    let nothing = Choice { stay: machines.len(), launch: None, dollars: f64::INFINITY };
    if backlog.work <= EPSILON {
        return Choice { dollars: 0.0, ..nothing };
    }
    let mut fleet = Fleet { price: 0.0, rate: backlog.free, leaving: 0.0 };
    for machine in machines {
        fleet.price += machine.price;
        fleet.rate += machine.capacity.bulk;
    }
    let mut best = nothing;
    // Of what costs the same, the first is taken: what is there stays.
    for stay in (0..=machines.len()).rev() {
        for (launch, dollars) in fleet.with(offered, backlog) {
            if dollars < best.dollars - EPSILON {
                best = Choice { stay, launch, dollars };
            }
        }
        let Some(last) = stay.checked_sub(1).and_then(|at| machines.get(at)) else { break };
        fleet.price -= last.price;
        fleet.rate -= last.capacity.bulk;
        fleet.leaving += if last.ready { last.price } else { 0.0 };
    }
    best
}

/// The part of a fleet that is there.
#[derive(Debug, Clone, Copy)]
struct Fleet {
    price: f64,
    rate: f64,
    /// Dollars an hour of what works and would leave.
    leaving: f64,
}

impl Fleet {
    /// What it costs alone, and with as many of each kind as it takes.
    fn with<'a>(
        self,
        offered: &'a [Kind],
        backlog: &'a Backlog,
    ) -> impl Iterator<Item = (Option<(Shape, u32)>, f64)> + 'a {
        let missing = (backlog.rate - self.rate).max(0.0);
        let again = REWORK.as_secs_f64() / 3600.0;
        let alone = (missing <= EPSILON && self.rate > EPSILON).then(|| {
            let hours = backlog.work / self.rate / 3600.0;
            (None, hours * self.price + self.leaving * again)
        });
        let with = move |kind: &Kind| {
            let fits = |count: &u32| *count <= backlog.room;
            let count = Some(ceil((missing - EPSILON) / kind.capacity.bulk).max(1)).filter(fits)?;
            let more = f64::from(count) * kind.price;
            let rate = self.rate + f64::from(count) * kind.capacity.bulk;
            let hours = backlog.work / rate / 3600.0;
            let boots = (more + self.leaving) * backlog.boot_hours;
            let dollars = hours * (self.price + more) + boots + self.leaving * again;
            Some((Some((kind.capacity.shape(), count)), dollars))
        };
        alone.into_iter().chain(offered.iter().filter_map(with))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Capacity = Capacity { prompt: 1.0, bulk: 1.0 };
    const LARGE: Capacity = Capacity { prompt: 2.0, bulk: 8.0 };

    fn offered() -> [Kind; 2] {
        [(SMALL, 1.0), (LARGE, 3.0)].map(|(capacity, price)| Kind { capacity, price, count: 99 })
    }

    fn backlog(work: f64, rate: f64) -> Backlog {
        Backlog { work, rate, free: 0.0, boot_hours: 0.05, room: 100 }
    }

    const SMALL_ONE: Machine = Machine { capacity: SMALL, price: 1.0, ready: true };
    const LARGE_ONE: Machine = Machine { capacity: LARGE, price: 3.0, ready: true };

    #[test]
    fn few_jobs_are_for_a_small_machine_and_many_for_a_large_one() {
        let launch = |work| choose(&[], &offered(), &backlog(work, 0.1)).launch;
        assert_eq!(launch(10.0), Some((SMALL.shape(), 1)));
        // With the boot of each, they cost the same at 576 s.
        assert_eq!(launch(570.0), Some((SMALL.shape(), 1)));
        assert_eq!(launch(580.0), Some((LARGE.shape(), 1)));
        assert_eq!(choose(&[], &offered(), &backlog(9e4, 20.0)).launch, Some((LARGE.shape(), 3)));
    }

    #[test]
    fn what_is_there_counts_as_far_as_it_is_used() {
        let small = [SMALL_ONE];
        // One more small one would do, but a large one does all of it for less.
        let many = choose(&small, &offered(), &backlog(16_000.0, 1.1));
        assert_eq!((many.stay, many.launch), (0, Some((LARGE.shape(), 1))));
        // A few minutes more are not worth the move.
        let few = choose(&small, &offered(), &backlog(500.0, 0.5));
        assert_eq!((few.stay, few.launch), (1, None));
        let both = [Machine { ready: false, ..LARGE_ONE }, SMALL_ONE];
        let later = choose(&both, &offered(), &backlog(16_000.0, 1.1));
        assert_eq!((later.stay, later.launch), (1, None), "the large one is on its way");
    }

    #[test]
    fn what_is_left_over_by_others_is_used_first() {
        let free = Backlog { free: 2.0, ..backlog(10_000.0, 1.5) };
        assert_eq!(choose(&[], &offered(), &free).launch, None);
        let short = Backlog { free: 2.0, ..backlog(10_000.0, 2.5) };
        assert!(choose(&[], &offered(), &short).launch.is_some());
    }

    #[test]
    fn what_does_not_fit_is_not_chosen_while_something_does() {
        let offered = [(SMALL, 1.0), (LARGE, 9.0)].map(|(capacity, price)| Kind {
            capacity,
            price,
            count: 99,
        });
        let few = |room| choose(&[], &offered, &Backlog { room, ..backlog(9e4, 6.0) }).launch;
        assert_eq!(few(6), Some((SMALL.shape(), 6)));
        assert_eq!(few(5), Some((LARGE.shape(), 1)));
        assert_eq!(few(0), Some((SMALL.shape(), 6)));
    }

    #[test]
    fn without_work_or_offers_everything_stays() {
        let both = [LARGE_ONE, SMALL_ONE];
        assert_eq!(choose(&both, &offered(), &backlog(0.0, 0.0)).stay, 2);
        let none = choose(&both, &[], &backlog(1e6, 100.0));
        assert_eq!((none.stay, none.launch), (2, None));
    }
}
