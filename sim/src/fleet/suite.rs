//! Every policy on a workload, and what perfect foresight would have paid.

use std::fmt::Write as _;

use crate::fleet::baseline::delayed_off::DelayedOff;
use crate::fleet::baseline::fixed::Static;
use crate::fleet::baseline::keda::{Keda, Mode};
use crate::fleet::baseline::knative::Knative;
use crate::fleet::baseline::runpod::{Rule as RunPodRule, RunPod};
use crate::fleet::baseline::skyserve::SkyServe;
use crate::fleet::baseline::staffing::{Rule, Staffing};
use crate::fleet::baseline::tracking::Tracking;
use crate::fleet::clairvoyant;
use crate::fleet::job::{Workload, seconds, whole};
use crate::fleet::planner::Stoker;
use crate::fleet::policy::Policy;
use crate::fleet::score::Outcome;
use crate::fleet::world::{self, Setup};

/// The policies to compare, each with its defaults and with what a careful user would try.
pub fn baselines(setup: &Setup, workload: &Workload) -> Vec<Box<dyn Policy>> {
    let service = workload.mean_service();
    let wait = seconds(setup.classes[0].max_wait);
    let tuned = 1.0 + wait / service;
    let mut policies: Vec<Box<dyn Policy>> = vec![
        Box::new(Keda::new(Mode::QueueLength, 20.0, 0)),
        Box::new(Keda::new(Mode::QueueLength, 1.0, 0)),
        Box::new(Keda::new(Mode::QueueLength, 1.0, 1)),
        Box::new(Keda::new(Mode::QueueLength, tuned, 1)),
        Box::new(Keda::new(Mode::ConsumptionTime, wait, 1)),
        Box::new(Tracking::new(wait / service, 1)),
        Box::new(Tracking::sagemaker(5.0, 1)),
        Box::new(RunPod { rule: RunPodRule::QueueDelay { threshold: 4000 }, idle: 5000, min: 0 }),
        Box::new(RunPod {
            rule: RunPodRule::QueueDelay { threshold: 4000 },
            idle: 300_000,
            min: 1,
        }),
        Box::new(RunPod {
            rule: RunPodRule::RequestCount { per_worker: 1.0 },
            idle: 300_000,
            min: 1,
        }),
        Box::new(SkyServe::new(1.0 / service, 0, 1)),
        Box::new(SkyServe::new(0.7 / service, 0, 1)),
        Box::new(SkyServe::new(0.4 / service, 0, 1)),
        Box::new(Knative::new(0.7, 0)),
        Box::new(Knative::new(0.7, 1)),
        Box::new(Knative::new(0.4, 1)),
        Box::new(DelayedOff { idle: setup.boot.mean, min: 0 }),
        Box::new(DelayedOff { idle: 600_000, min: 1 }),
        Box::new(DelayedOff { idle: 1_200_000, min: 1 }),
    ];
    for beta in [0.5, 0.8, 1.0, 1.5, 2.0] {
        for (window, hold) in [(300, 300), (600, 600)] {
            policies.push(Box::new(Staffing::new(Rule::SquareRoot { beta }, window, hold, 1)));
        }
    }
    for late in [0.05, 0.01] {
        policies.push(Box::new(Staffing::new(Rule::ErlangC { late }, 600, 600, 1)));
    }
    policies
}

/// The fewest instances, always there, that would have kept every class's promise on this very workload.
pub fn fewest(setup: &Setup, workload: &Workload) -> usize {
    let (mut low, mut high) = (1, setup.max_instances.max(1));
    while low < high {
        let middle = usize::midpoint(low, high);
        let kept = world::run(setup, workload, &mut Static(middle)).keeps(setup);
        if kept { high = middle } else { low = middle + 1 }
    }
    low
}

/// [`fewest`], and those of the first half's peak (the busiest five minutes) and a fifth more.
fn fixed(setup: &Setup, workload: &Workload) -> Vec<Outcome> {
    let half = workload.part(0, workload.end / 2);
    let bin = |job: &crate::fleet::job::Job| job.at / 300_000;
    let busiest = half
        .jobs
        .chunk_by(|a, b| bin(a) == bin(b))
        .map(|jobs| jobs.iter().map(|job| seconds(job.service)).sum::<f64>() / 300.0);
    let peak = whole(busiest.fold(0.0, f64::max) * 1.2).max(1);
    [fewest(setup, workload), peak].map(|n| world::run(setup, workload, &mut Static(n))).into()
}

/// All of it on one workload, by cost.
#[derive(Debug)]
pub struct Comparison {
    pub outcomes: Vec<Outcome>,
    /// Cost and launches of the schedule made with perfect foresight.
    pub clairvoyant: clairvoyant::Schedule,
}

impl Comparison {
    pub fn run(setup: &Setup, workload: &Workload) -> Self {
        let mut outcomes = fixed(setup, workload);
        for mut policy in baselines(setup, workload) {
            outcomes.push(world::run(setup, workload, policy.as_mut()));
        }
        outcomes.push(world::run(setup, workload, &mut Stoker::new(setup)));
        outcomes.sort_by(|a, b| a.usage.cost.total_cmp(&b.usage.cost));
        Self { outcomes, clairvoyant: clairvoyant::schedule(setup, workload) }
    }

    pub fn ours(&self) -> Option<&Outcome> {
        self.outcomes.iter().find(|outcome| outcome.policy == "Stoker")
    }

    /// The cheapest of the others that kept at least this share of promises.
    pub fn best_other(&self, share: f64) -> Option<&Outcome> {
        self.outcomes.iter().find(|o| o.policy != "Stoker" && o.attainment >= share)
    }

    /// A table in Markdown, cheapest first.
    pub fn table(&self, days: f64) -> String {
        let mut table = String::from(
            "| policy | kept | mean wait s | p99 s | GPU-h | x clairvoyant | launches/day |\n|---|---|---|---|---|---|---|\n",
        );
        for outcome in &self.outcomes {
            let bold = if outcome.policy == "Stoker" { "**" } else { "" };
            let _ = writeln!(
                table,
                "| {bold}{}{bold} | {:.2} % | {:.1} | {:.0} | {:.0} | {:.2} | {:.0} |",
                outcome.policy,
                outcome.attainment * 100.0,
                outcome.mean_wait,
                outcome.p99,
                outcome.hours(),
                outcome.hours() / self.clairvoyant.hours,
                crate::fleet::job::count(outcome.usage.launches) / days,
            );
        }
        let _ = writeln!(
            table,
            "| perfect foresight | 100 % | | | {:.0} | 1.00 | {:.0} |",
            self.clairvoyant.hours,
            crate::fleet::job::count(self.clairvoyant.launches) / days
        );
        table
    }
}
