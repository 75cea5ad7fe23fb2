//! The policies by name, with their settings: those of their documents, and a small grid of what a careful user would
//! try.

mod chosen;
mod grid;
mod setting;

use std::fmt;

use clap::ValueEnum;
use serde::Serialize;

use crate::fleet::baseline::cant_be_late::CantBeLate;
use crate::fleet::baseline::delayed_off::DelayedOff;
use crate::fleet::baseline::fixed::Static;
use crate::fleet::baseline::keda::{Keda, Mode};
use crate::fleet::baseline::knative::Knative;
use crate::fleet::baseline::runpod::{Rule as RunPodRule, RunPod};
use crate::fleet::baseline::skyserve::SkyServe;
use crate::fleet::baseline::staffing::{Rule, Staffing};
use crate::fleet::baseline::tracking::Tracking;
use crate::fleet::job::Workload;
use crate::fleet::planner::Stoker;
use crate::fleet::policy::Policy;
use crate::fleet::suite;
use crate::fleet::world::Setup;

pub use chosen::{Chosen, ChosenParser};
pub use grid::Known;
pub use setting::{Setting, Values};

/// A policy of the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyName {
    /// The planner that production runs
    Stoker,
    /// Machines that are always on: the fewest that would have kept the promise
    AlwaysOn,
    /// Machines that are always on: the peak of the first half times a factor
    LastPeak,
    /// KEDA on the queue's length, in jobs per worker
    KedaQueueLength,
    /// KEDA on the expected time to consume the queue, in seconds
    KedaConsumptionTime,
    /// Target tracking on the backlog per instance, as EC2's guide has it
    TargetTracking,
    #[value(help = "SageMaker's asynchronous inference, as its guide has it")]
    Sagemaker,
    #[value(help = "RunPod serverless by queue delay")]
    RunpodDelay,
    #[value(help = "RunPod serverless by request count per worker")]
    RunpodCount,
    #[value(help = "SkyServe by request rate, each replica at a load, on spot where it is offered")]
    Skyserve,
    #[value(help = "SpotHedge: SkyServe with spares, and on-demand for what is not ready")]
    Spothedge,
    /// Knative's pod autoscaler, by jobs per worker
    Knative,
    /// "Can't Be Late": spot while there is time, on-demand when there is not
    CantBeLate,
    /// Square-root staffing of the last minutes' load
    SquareRoot,
    /// Erlang-C staffing of the last minutes' load
    ErlangC,
    /// A worker for each job that finds none; idle workers live on for a while
    DelayedOff,
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("policy", |value| value.get_name()))
    }
}

const MACHINES: (f64, f64) = (0.0, 1000.0);
const MIN_0: Setting = Setting::whole("min", "0", MACHINES);
const MIN_1: Setting = Setting::whole("min", "1", MACHINES);
const TIMES: (f64, f64) = (0.0, 86_400.0);
const IDLE: Setting = Setting::number("idle", "5", TIMES);
const PER_WORKER: (f64, f64) = (0.01, 1e6);
const WINDOW: Setting = Setting::number("window", "600", (1.0, 3600.0));
const HOLD: Setting = Setting::number("hold", "600", TIMES);
const LOAD: Setting = Setting::number("load", "1", (0.01, 10.0));

impl PolicyName {
    /// What it can be told. Times are in seconds.
    pub fn settings(self) -> Vec<Setting> {
        match self {
            Self::Stoker => Vec::new(),
            Self::AlwaysOn => vec![Setting::whole("machines", "fewest", (1.0, 1000.0))],
            Self::LastPeak => vec![Setting::number("factor", "1.2", (0.1, 10.0))],
            Self::KedaQueueLength => vec![Setting::number("target", "20", PER_WORKER), MIN_0],
            Self::KedaConsumptionTime => vec![Setting::number("target", "wait", PER_WORKER), MIN_0],
            Self::TargetTracking => {
                vec![Setting::number("target", "wait/service", PER_WORKER), MIN_1]
            }
            Self::Sagemaker => vec![Setting::number("target", "5", PER_WORKER), MIN_1],
            Self::RunpodDelay => vec![Setting::number("threshold", "4", TIMES), IDLE, MIN_0],
            Self::RunpodCount => vec![Setting::number("target", "4", PER_WORKER), IDLE, MIN_0],
            Self::Skyserve => vec![LOAD, MIN_1],
            Self::Spothedge => vec![LOAD, Setting::whole("extra", "1", MACHINES), MIN_1],
            Self::Knative => vec![Setting::number("target", "0.7", PER_WORKER), MIN_0],
            Self::CantBeLate => vec![
                Setting::number("changeovers", "2", (0.0, 100.0)),
                Setting::number("factor", "1", (0.1, 10.0)),
            ],
            Self::SquareRoot => {
                vec![Setting::number("beta", "1", (0.0, 10.0)), WINDOW, HOLD, MIN_1]
            }
            Self::ErlangC => {
                vec![Setting::number("late", "1-objective", (1e-6, 0.999)), WINDOW, HOLD, MIN_1]
            }
            Self::DelayedOff => vec![Setting::number("idle", "boot", TIMES), MIN_0],
        }
    }

    /// The policy, for this setup and workload. Settings that take service times are given the workload's mean,
    /// and [`PolicyName::AlwaysOn`] all of it: both know more than they would in life.
    pub fn make(self, values: &Values, setup: &Setup, workload: &Workload) -> Box<dyn Policy> {
        let of = |key: &str| values.get(key);
        let (min, idle) = (values.count("min"), values.millis("idle"));
        let rate = || of("load") / setup.mean_service(workload);
        let staffing = |rule| {
            let (window, hold) = (values.millis("window"), values.millis("hold"));
            Staffing::new(rule, window / 1000, hold / 1000, min)
        };
        match self {
            Self::Stoker => Box::new(Stoker::new(setup)),
            Self::AlwaysOn if values.has("machines") => Box::new(Static(values.count("machines"))),
            Self::AlwaysOn => Box::new(Static(suite::fewest(setup, workload))),
            Self::LastPeak => Box::new(Static(suite::last_peak(setup, workload, of("factor")))),
            Self::KedaQueueLength => Box::new(Keda::new(Mode::QueueLength, of("target"), min)),
            Self::KedaConsumptionTime => {
                Box::new(Keda::new(Mode::ConsumptionTime, of("target"), min))
            }
            Self::TargetTracking => Box::new(Tracking::new(of("target"), min)),
            Self::Sagemaker => Box::new(Tracking::sagemaker(of("target"), min)),
            Self::RunpodDelay => {
                let rule = RunPodRule::QueueDelay { threshold: values.millis("threshold") };
                Box::new(RunPod { rule, idle, min })
            }
            Self::RunpodCount => {
                let rule = RunPodRule::RequestCount { per_worker: of("target") };
                Box::new(RunPod { rule, idle, min })
            }
            Self::Skyserve => Box::new(SkyServe::new(rate(), 0, min)),
            Self::Spothedge => Box::new(SkyServe::new(rate(), values.count("extra"), min)),
            Self::Knative => Box::new(Knative::new(of("target"), min)),
            Self::CantBeLate => Box::new(CantBeLate::new(of("changeovers"), of("factor"))),
            Self::SquareRoot => Box::new(staffing(Rule::SquareRoot { beta: of("beta") })),
            Self::ErlangC => Box::new(staffing(Rule::ErlangC { late: of("late") })),
            Self::DelayedOff => Box::new(DelayedOff { idle, min }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::synthetic;

    #[test]
    fn defaults_are_what_the_help_says_and_they_and_the_grids_are_in_range() {
        let (setup, workload) = (Setup::simple(60, 180), synthetic::daily(1, 0.05, 1));
        let known = Known::of(&setup, &workload);
        for policy in PolicyName::value_variants() {
            let settings = policy.settings();
            let defaults = policy.defaults(&known);
            for setting in &settings {
                if let Ok(number) = setting.otherwise.parse::<f64>() {
                    assert!((defaults.get(setting.key) - number).abs() < 1e-9, "{policy}");
                }
            }
            for values in policy.grid(&known).iter().chain([&defaults]) {
                for setting in settings.iter().filter(|setting| values.has(setting.key)) {
                    let value = values.get(setting.key);
                    assert!(setting.parse(&value.to_string()).is_ok(), "{policy} {values:?}");
                }
                assert!(!policy.make(values, &setup, &workload).name().is_empty());
            }
        }
    }
}
