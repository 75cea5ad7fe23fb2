//! Many seeds, what they add up to, and what can be left out of one that fails.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use super::log::Trace;
use super::run::{Outcome, run};
use super::sabotage::Sabotage;
use super::setup::{Fault, Setup};
use super::tally::Tally;

/// What many seeds came to.
#[derive(Debug, Clone, Default)]
pub struct Campaign {
    pub seeds: u64,
    pub events: u64,
    /// Virtual time.
    pub lasted: Duration,
    pub tally: Tally,
    /// The first seed in which an invariant did not hold; it is the last one that was run.
    pub failure: Option<Outcome>,
}

/// Runs seeds until one fails.
pub fn campaign(seeds: Range<u64>, sabotage: Option<Sabotage>) -> Campaign {
    let mut campaign = Campaign::default();
    for seed in seeds {
        let setup = Setup::of(seed, &BTreeSet::new());
        let outcome = run(setup, sabotage, Trace::Hash);
        campaign.seeds += 1;
        campaign.events += outcome.events;
        campaign.lasted += outcome.lasted;
        campaign.tally.merge(&outcome.tally);
        if outcome.violation.is_some() {
            campaign.failure = Some(outcome);
            break;
        }
    }
    campaign
}

/// A seed with less in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reduced {
    /// Faults that are left out.
    pub without: BTreeSet<Fault>,
    /// Jobs that are submitted; `None`: as many as the seed has.
    pub jobs: Option<usize>,
}

impl Reduced {
    /// The world of a seed with this left out.
    pub fn setup(&self, seed: u64) -> Setup {
        let mut setup = Setup::of(seed, &self.without);
        setup.jobs = self.jobs.unwrap_or(setup.jobs);
        setup
    }
}

/// Leaves faults out, one after the other, and jobs, as long as the same invariant does not hold.
/// The seed's story changes with each of them, so this finds a short one, not the shortest.
pub fn shrink(failure: &Outcome, sabotage: Option<Sabotage>) -> Reduced {
    let Some(violation) = &failure.violation else { return Reduced::default() };
    let still_fails = |reduced: &Reduced| {
        let outcome = run(reduced.setup(failure.seed), sabotage, Trace::Hash);
        outcome.violation.is_some_and(|again| again.invariant == violation.invariant)
    };
    let mut best = Reduced::default();
    for fault in Setup::of(failure.seed, &BTreeSet::new()).faults.into_keys() {
        let mut fewer = best.clone();
        fewer.without.insert(fault);
        if still_fails(&fewer) {
            best = fewer;
        }
    }
    let mut jobs = best.setup(failure.seed).jobs;
    while jobs > 1 {
        let fewer = Reduced { jobs: Some(jobs / 2), ..best.clone() };
        if !still_fails(&fewer) {
            break;
        }
        best = fewer;
        jobs /= 2;
    }
    best
}
