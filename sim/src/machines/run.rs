//! One seed's world for some hours.

use std::time::Duration;

use super::referee::Violation;
use super::sabotage::Sabotage;
use super::tally::Tally;
use super::world::World;

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub seed: u64,
    /// Virtual time until the end, or until a rule was broken.
    pub lasted: Duration,
    pub tally: Tally,
    pub violation: Option<Violation>,
}

/// Runs a seed until `hours` are over or a rule is broken.
pub fn run(seed: u64, hours: u64, bug: Option<Sabotage>) -> Outcome {
    let mut world = World::new(seed, bug);
    let begin = world.now;
    let end = begin.after(Duration::from_hours(hours));
    let mut violation = None;
    while world.now < end && violation.is_none() {
        violation = world.tick().cloned();
    }
    Outcome { seed, lasted: world.now.since(begin), tally: world.tally(), violation }
}
