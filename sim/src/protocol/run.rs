//! One seed, from start to end.

use std::time::Duration;

use super::invariants::Violation;
use super::log::Trace;
use super::sabotage::Sabotage;
use super::setup::Setup;
use super::tally::Tally;
use super::world::World;

/// Events after which a run is taken for one that never ends.
const MOST_EVENTS: u64 = 3_000_000;

/// What became of one seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub seed: u64,
    pub violation: Option<Violation>,
    /// Of the whole log: the same for the same seed, always.
    pub hash: u64,
    pub events: u64,
    /// Virtual time.
    pub lasted: Duration,
    pub tally: Tally,
    /// The log, if it was to be kept.
    pub lines: Vec<String>,
}

/// Simulates a seed until everything has come to rest, or an invariant does not hold.
pub fn run(setup: Setup, sabotage: Option<Sabotage>, trace: Trace) -> Outcome {
    let seed = setup.seed;
    let mut world = World::new(setup, sabotage, trace);
    let start = world.now();
    let mut events = 0;
    while world.step() && world.checker.violation().is_none() {
        events += 1;
        if events > MOST_EVENTS {
            world.checker.fail(super::invariants::Invariant::NothingWaitsForEver, || {
                format!("{MOST_EVENTS} events were not enough")
            });
        }
    }
    let violation = world.checker.violation().cloned();
    if let Some(violation) = &violation {
        world.note(format_args!("{violation}"));
    }
    Outcome {
        seed,
        violation,
        hash: world.log.hash(),
        events,
        lasted: world.since_start(start),
        tally: world.checker.tally.clone(),
        lines: world.log.into_lines(),
    }
}
