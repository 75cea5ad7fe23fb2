//! The settings that each policy is run with: those of its document, and a grid from which the cheapest that keeps the
//! promise is taken in hindsight.

use crate::fleet::catalog::PolicyName;
use crate::fleet::catalog::setting::Values;
use crate::fleet::job::{Workload, seconds};
use crate::fleet::world::Setup;

/// What settings are made from. Times are in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Known {
    /// The shortest of the classes.
    pub wait: f64,
    /// Mean time of a job on what is launched.
    pub service: f64,
    pub boot: f64,
    /// Share of jobs that may be late, of the strictest class.
    pub late: f64,
}

impl Known {
    pub fn of(setup: &Setup, workload: &Workload) -> Self {
        let waits = setup.classes.iter().map(|class| seconds(class.max_wait));
        let objectives = setup.classes.iter().map(|class| class.objective);
        let late = 1.0 - objectives.fold(0.0, f64::max);
        Self {
            wait: waits.min_by(f64::total_cmp).unwrap_or(60.0).max(1.0),
            service: setup.mean_service(workload).max(1e-3),
            boot: seconds(setup.boot.mean),
            // Without what is left over of writing 0.01 as 1 - 0.99.
            late: ((late * 1e9).round() / 1e9).clamp(1e-6, 0.999),
        }
    }

    /// Jobs that a worker does one after the other within the wait.
    fn within_wait(&self) -> f64 {
        (self.wait / self.service).clamp(0.01, 1e6)
    }
}

/// Idle times that are tried, in seconds.
const IDLE: [f64; 3] = [60.0, 300.0, 600.0];

impl PolicyName {
    /// What its document says, and where it leaves a setting to the user, what follows from the promise.
    pub fn defaults(self, known: &Known) -> Values {
        match self {
            Self::Stoker | Self::AlwaysOn => Values::default(),
            Self::LastPeak => Values::of([("factor", 1.2)]),
            Self::KedaQueueLength => Values::of([("target", 20.0), ("min", 0.0)]),
            Self::KedaConsumptionTime => Values::of([("target", known.wait), ("min", 0.0)]),
            Self::TargetTracking => Values::of([("target", known.within_wait()), ("min", 1.0)]),
            Self::Sagemaker => Values::of([("target", 5.0), ("min", 1.0)]),
            Self::RunpodDelay => Values::of([("threshold", 4.0), ("idle", 5.0), ("min", 0.0)]),
            Self::RunpodCount => Values::of([("target", 4.0), ("idle", 5.0), ("min", 0.0)]),
            Self::Skyserve => Values::of([("load", 1.0), ("min", 1.0)]),
            Self::Spothedge => Values::of([("load", 1.0), ("extra", 1.0), ("min", 1.0)]),
            Self::Knative => Values::of([("target", 0.7), ("min", 0.0)]),
            Self::CantBeLate => Values::of([("changeovers", 2.0), ("factor", 1.0)]),
            Self::SquareRoot => staffing(("beta", 1.0), 600.0),
            Self::ErlangC => staffing(("late", known.late), 600.0),
            Self::DelayedOff => Values::of([("idle", known.boot.min(86_400.0)), ("min", 0.0)]),
        }
    }

    /// What a careful user would try, besides the defaults.
    pub fn grid(self, known: &Known) -> Vec<Values> {
        let target = |target: f64| Values::of([("target", target.clamp(0.01, 1e6)), ("min", 1.0)]);
        match self {
            Self::Stoker | Self::AlwaysOn => Vec::new(),
            Self::LastPeak => each([1.0, 1.5, 2.0, 3.0], |factor| Values::of([("factor", factor)])),
            Self::KedaQueueLength => each([0.5, 0.7, 1.0, 2.0, 1.0 + known.within_wait()], target),
            Self::KedaConsumptionTime => {
                each([0.5, 0.25, 0.1, 0.05], |share| target(known.wait * share))
            }
            Self::TargetTracking => {
                each([0.5, 0.25, 0.1, 0.03], |share| target(known.within_wait() * share))
            }
            Self::Sagemaker => each([2.0, 1.0, 0.5, 0.2], target),
            Self::RunpodDelay => pairs([1.0, 4.0], IDLE, |threshold, idle| {
                Values::of([("threshold", threshold), ("idle", idle), ("min", 1.0)])
            }),
            Self::RunpodCount => pairs([1.0, 0.7], IDLE, |target, idle| {
                Values::of([("target", target), ("idle", idle), ("min", 1.0)])
            }),
            Self::Skyserve => {
                each([0.9, 0.7, 0.5, 0.35, 0.2], |load| Values::of([("load", load), ("min", 1.0)]))
            }
            Self::Spothedge => pairs([0.7, 0.4], [0.0, 1.0, 2.0], |load, extra| {
                Values::of([("load", load), ("extra", extra), ("min", 1.0)])
            }),
            Self::Knative => each([0.7, 0.4, 0.15], target),
            Self::CantBeLate => pairs([1.0, 2.0, 4.0], [1.0, 1.5], |changeovers, factor| {
                Values::of([("changeovers", changeovers), ("factor", factor)])
            }),
            Self::SquareRoot => pairs([0.5, 0.8, 1.0, 1.5, 2.0], [300.0, 600.0], |beta, window| {
                staffing(("beta", beta), window)
            }),
            Self::ErlangC => pairs([0.1, 0.05, 0.01, 0.001], [300.0, 600.0], |late, window| {
                staffing(("late", late), window)
            }),
            Self::DelayedOff => each([known.boot, 300.0, 600.0, 1200.0], |idle| {
                Values::of([("idle", idle.min(86_400.0)), ("min", 1.0)])
            }),
        }
    }

    /// The grid in words, for tables. Waits are `D`, service times `S`, boots `B`.
    pub const fn grid_in_words(self) -> &'static str {
        match self {
            Self::Stoker => "none: one configuration",
            Self::AlwaysOn => "none: the fewest machines that keep the promise",
            Self::LastPeak => "factor 1, 1.5, 2, 3",
            Self::KedaQueueLength => "target 0.5, 0.7, 1, 2, 1 + D/S; min 1",
            Self::KedaConsumptionTime => "target D times 0.5, 0.25, 0.1, 0.05; min 1",
            Self::TargetTracking => "target D/S times 0.5, 0.25, 0.1, 0.03; min 1",
            Self::Sagemaker => "target 2, 1, 0.5, 0.2; min 1",
            Self::RunpodDelay => "threshold 1, 4 and idle 60, 300, 600 s; min 1",
            Self::RunpodCount => "target 1, 0.7 and idle 60, 300, 600 s; min 1",
            Self::Skyserve => "load 0.9, 0.7, 0.5, 0.35, 0.2; min 1",
            Self::Spothedge => "load 0.7, 0.4 and extra 0, 1, 2; min 1",
            Self::Knative => "target 0.7, 0.4, 0.15; min 1",
            Self::CantBeLate => "changeovers 1, 2, 4 and factor 1, 1.5",
            Self::SquareRoot => "beta 0.5, 0.8, 1, 1.5, 2 and window = hold = 300, 600 s; min 1",
            Self::ErlangC => "late 0.1, 0.05, 0.01, 0.001 and window = hold = 300, 600 s; min 1",
            Self::DelayedOff => "idle B, 300, 600, 1200 s; min 1",
        }
    }
}

fn staffing((key, value): (&'static str, f64), window: f64) -> Values {
    Values::of([(key, value), ("window", window), ("hold", window), ("min", 1.0)])
}

fn each<const N: usize>(of: [f64; N], make: impl Fn(f64) -> Values) -> Vec<Values> {
    of.into_iter().map(make).collect()
}

fn pairs<const N: usize, const M: usize>(
    first: [f64; N],
    second: [f64; M],
    make: impl Fn(f64, f64) -> Values,
) -> Vec<Values> {
    first.into_iter().flat_map(|a| second.map(|b| (a, b))).map(|(a, b)| make(a, b)).collect()
}
