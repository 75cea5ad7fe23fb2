//! The policies by name, each with the settings that its document or a careful user would choose.

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
use crate::fleet::job::{Workload, seconds};
use crate::fleet::planner::Stoker;
use crate::fleet::policy::Policy;
use crate::fleet::suite;
use crate::fleet::world::Setup;

/// A policy of the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyName {
    /// The planner that production runs
    Stoker,
    /// The fewest machines, always on, that would have kept the promise
    AlwaysOn,
    /// KEDA on the queue's length, 20 jobs per worker as by default
    KedaDefault,
    /// KEDA on the queue's length, one job per worker
    Keda,
    /// KEDA on the expected time to consume the queue
    KedaTime,
    /// Target tracking on the backlog per instance, as EC2's guide has it
    TargetTracking,
    #[value(help = "SageMaker's asynchronous inference, as its guide has it")]
    Sagemaker,
    #[value(help = "RunPod serverless by queue delay, idle workers live five minutes")]
    Runpod,
    #[value(help = "RunPod serverless by request count")]
    RunpodCount,
    #[value(help = "SkyServe by request rate, on spot where it is offered")]
    Skyserve,
    #[value(help = "SpotHedge: SkyServe with one spare, and on-demand for what is not ready")]
    Spothedge,
    /// Knative's pod autoscaler
    Knative,
    /// "Can't Be Late": spot while there is time, on-demand when there is not
    CantBeLate,
    /// Square-root staffing of the last five minutes' load
    SquareRoot,
    /// Erlang-C staffing of the last ten minutes' load
    ErlangC,
    /// A worker for each job that finds none, idle workers live ten minutes
    DelayedOff,
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("policy", |value| value.get_name()))
    }
}

impl PolicyName {
    /// The policy, for this setup and workload. Settings that take service times are given the workload's mean,
    /// and [`PolicyName::AlwaysOn`] all of it: both know more than they would in life.
    pub fn make(self, setup: &Setup, workload: &Workload) -> Box<dyn Policy> {
        let service = workload.mean_service();
        let wait = setup.classes.iter().map(|class| class.max_wait).min().map_or(60.0, seconds);
        let idle = 300_000;
        match self {
            Self::Stoker => Box::new(Stoker::new(setup)),
            Self::AlwaysOn => Box::new(Static(suite::fewest(setup, workload))),
            Self::KedaDefault => Box::new(Keda::new(Mode::QueueLength, 20.0, 0)),
            Self::Keda => Box::new(Keda::new(Mode::QueueLength, 1.0, 1)),
            Self::KedaTime => Box::new(Keda::new(Mode::ConsumptionTime, wait, 1)),
            Self::TargetTracking => Box::new(Tracking::new(wait / service, 1)),
            Self::Sagemaker => Box::new(Tracking::sagemaker(5.0, 1)),
            Self::Runpod => {
                let rule = RunPodRule::QueueDelay { threshold: 4000 };
                Box::new(RunPod { rule, idle, min: 1 })
            }
            Self::RunpodCount => {
                let rule = RunPodRule::RequestCount { per_worker: 1.0 };
                Box::new(RunPod { rule, idle, min: 1 })
            }
            Self::Skyserve => Box::new(SkyServe::new(0.7 / service, 0, 1)),
            Self::Spothedge => Box::new(SkyServe::new(0.7 / service, 1, 1)),
            Self::Knative => Box::new(Knative::new(0.7, 1)),
            Self::CantBeLate => Box::new(CantBeLate::default()),
            Self::SquareRoot => {
                Box::new(Staffing::new(Rule::SquareRoot { beta: 1.0 }, 300, 300, 1))
            }
            Self::ErlangC => Box::new(Staffing::new(Rule::ErlangC { late: 0.01 }, 600, 600, 1)),
            Self::DelayedOff => Box::new(DelayedOff { idle: 600_000, min: 1 }),
        }
    }
}
