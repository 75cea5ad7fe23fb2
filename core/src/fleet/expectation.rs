//! How long jobs are expected to wait with what is there, and with what a plan makes of it.

use std::collections::{BTreeMap, BTreeSet};

use super::backlog::Due;
use super::demand::{Demand, Need, Outlook, Terms};
use super::memory::PoolMemory;
use super::number::{ceil, duration, real};
use super::plan::Step;
use super::pool::Context;
use super::report::{ClassFindings, Findings, Note};
use super::roster::Roster;
use super::snapshot::InstanceState;
use super::wait::{self, Foreseen, Prediction, Situation};

/// What is expected from.
#[derive(Debug)]
pub(crate) struct Expected<'a> {
    pub(crate) context: &'a Context<'a>,
    pub(crate) roster: &'a Roster<'a>,
    pub(crate) outlook: &'a Outlook,
    /// What waits, the most urgent first.
    pub(crate) due: &'a [Due],
    pub(crate) terms: &'a Terms,
}

/// What is wanted and what there is, in workers of speed 1, and the jobs that wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stock {
    pub(crate) wanted: u32,
    pub(crate) ready: f64,
    pub(crate) booting: f64,
    pub(crate) waiting: u64,
}

impl Expected<'_> {
    /// The numbers behind a plan, with what is predicted without and with it.
    pub(crate) fn findings(
        &self,
        memory: &PoolMemory,
        stock: Stock,
        (predictions, planned): (&[Foreseen], &[Foreseen]),
        notes: Vec<Note>,
    ) -> Findings {
        let hardest = self.outlook.hardest();
        Findings {
            load: self.outlook.load,
            deviation: hardest.map_or(0.0, Need::deviation),
            margin: hardest.map_or(0.0, |need| need.margin),
            late_share: memory.demand.margin.late_share(),
            service: duration(self.outlook.service),
            boot: self.terms.boot,
            wanted: stock.wanted,
            ready: stock.ready,
            booting: stock.booting,
            waiting: stock.waiting,
            prediction: self.worst(predictions),
            classes: self.classes(predictions, planned),
            notes,
        }
    }

    /// If nothing is done, by class as in the outlook. `gone` holds positions of what is lost.
    pub(crate) fn of_staying(&self, gone: &[usize]) -> Vec<Foreseen> {
        self.predict(self.forthcoming(gone))
    }

    /// Once these steps are carried out, where `staying` is what is expected without them.
    pub(crate) fn of_plan(&self, steps: &[Step], staying: &[Foreseen]) -> Vec<Foreseen> {
        if steps.is_empty() {
            return staying.to_vec();
        }
        let (mut left, mut launched) = (BTreeSet::new(), 0.0);
        for step in steps {
            match step {
                Step::Launch { offering, count, .. } => {
                    let offering = self.context.policy.scaling.offerings.get(offering);
                    launched += f64::from(*count) * offering.map_or(1.0, |offering| offering.speed);
                }
                Step::Drain { instance, .. } | Step::Terminate { instance, .. } => {
                    left.insert(instance);
                }
            }
        }
        let members = self.roster.members.iter().enumerate();
        let gone = members.filter(|(_, member)| left.contains(&member.instance.name));
        let gone: Vec<usize> = gone.map(|(at, _)| at).collect();
        let mut capacity = self.forthcoming(&gone);
        capacity.push((self.terms.boot.as_secs_f64(), launched));
        capacity.sort_by(|a, b| a.0.total_cmp(&b.0));
        self.predict(capacity)
    }

    /// Notes what a plan makes of the waits, so that it can be compared with what comes.
    pub(crate) fn note(&self, planned: &[Foreseen], demand: &mut Demand) {
        for (need, foreseen) in self.outlook.needs.iter().zip(planned) {
            if let Some(class) = &need.class {
                demand.predicted(class, foreseen.kept);
            }
        }
    }

    /// Whether a class is expected to miss its objective, and more workers could change that.
    pub(crate) fn is_broken(&self, predictions: &[Foreseen]) -> bool {
        let mut all = self.outlook.needs.iter().zip(predictions);
        all.any(|(need, prediction)| prediction.kept < need.objective)
    }

    /// That of the class that misses its objective by most.
    fn worst(&self, predictions: &[Foreseen]) -> Prediction {
        let over = |(need, of): &(&Need, &Foreseen)| of.prediction.kept - need.objective;
        let all = self.outlook.needs.iter().zip(predictions);
        let worst = all.min_by(|a, b| over(a).total_cmp(&over(b)));
        worst.map_or_else(Prediction::default, |(_, foreseen)| foreseen.prediction)
    }

    /// What is said of each class.
    fn classes(&self, predictions: &[Foreseen], planned: &[Foreseen]) -> Vec<ClassFindings> {
        let all = self.outlook.needs.iter().zip(predictions.iter().zip(planned));
        let of_class = all.filter_map(|(need, (prediction, planned))| {
            Some(ClassFindings {
                class: need.class.clone()?,
                max_wait: need.max_wait,
                objective: need.objective,
                margin: need.margin,
                late_share: need.late_share,
                wanted: ceil(need.workers()),
                prediction: prediction.prediction,
                planned: planned.prediction,
            })
        });
        of_class.collect()
    }

    fn predict(&self, capacity: Vec<(f64, f64)>) -> Vec<Foreseen> {
        let horizon = self.terms.prediction().as_secs_f64();
        let boot = self.terms.boot.as_secs_f64();
        wait::predict(self.outlook, &Situation { capacity, due: self.due, boot, horizon })
    }

    /// Capacity in workers of speed 1, and in how many seconds it is there, in order of time.
    fn forthcoming(&self, gone: &[usize]) -> Vec<(f64, f64)> {
        let mut capacity: BTreeMap<u64, f64> = BTreeMap::new();
        for (_, member) in self.roster.staying(gone) {
            let wait = match member.instance.state {
                InstanceState::Booting => {
                    self.terms.boot.saturating_sub(member.age(self.context.now)).as_secs()
                }
                InstanceState::Ready { .. } | InstanceState::Draining { .. } => 0,
            };
            *capacity.entry(wait).or_default() += member.speed();
        }
        capacity.into_iter().map(|(from, workers)| (real(from), workers)).collect()
    }
}
