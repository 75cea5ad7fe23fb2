//! How long the executor waits for what, and how much it does at a time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Times and bounds of the executor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rules {
    /// A reading or a ledger that is older says nothing about now.
    pub stale_after: Duration,
    /// A provider may not list a new machine for so long.
    pub visible_after: Duration,
    /// A machine that listings have lacked for so long, and whose worker is gone, is gone.
    pub absent_after: Duration,
    /// The same, when most of a region's machines are lacking at once.
    pub distrusted_for: Duration,
    /// A call without an answer is asked after.
    pub resolve_after: Duration,
    /// If nothing is found, the call is repeated with its token after this long, until it was made so often.
    pub repeat_after: Duration,
    pub most_calls: u32,
    /// What is not found so long after the last call will not come.
    pub give_up_after: Duration,
    /// An intent that was not asked for in this time is dropped: the plan is old.
    pub intent_life: Duration,
    /// Calls that ask for machines, in one step.
    pub calls_per_step: u32,
    /// From launch to the first sign of the worker.
    pub register_within: Duration,
    /// A coordinator that started more recently may not know all workers.
    pub workers_settle: Duration,
    /// A worker that was not heard for so long is gone.
    pub worker_lost_after: Duration,
    /// How long a drain that names no time may take.
    pub drain_within: Duration,
    /// A machine that takes longer to end is reported.
    pub stuck_after: Duration,
    /// Time between two listings that both show a machine which the ledger does not know.
    pub reap_after: Duration,
    pub orphans: Orphans,
    /// Machines that may be doing something are ended in this window: so many, or this share of the fleet,
    /// whichever is more.
    pub guard_window: Duration,
    pub guard_least: u32,
    pub guard_percent: u32,
    /// Failed boots of one template within the window that pause its launches; for how long at first and at most.
    pub breaker_boots: u32,
    pub breaker_window: Duration,
    pub breaker_pause: Duration,
    pub breaker_longest: Duration,
    /// With [`AtLimit::Drain`]: how long before the budget is used up all machines are drained.
    ///
    /// [`AtLimit::Drain`]: crate::fleet::AtLimit::Drain
    pub budget_reserve: Duration,
}

/// What becomes of machines with our tag that stand in no entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Orphans {
    /// They are taken into the ledger, and judged like all others: one whose worker does not register ends.
    #[default]
    Adopt,
    /// They are taken into the ledger and ended; one whose worker runs jobs is drained first.
    End,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            stale_after: Duration::from_secs(90),
            visible_after: Duration::from_mins(5),
            absent_after: Duration::from_mins(5),
            distrusted_for: Duration::from_hours(1),
            resolve_after: Duration::from_secs(30),
            repeat_after: Duration::from_mins(1),
            most_calls: 3,
            give_up_after: Duration::from_mins(5),
            intent_life: Duration::from_mins(2),
            calls_per_step: 50,
            register_within: Duration::from_mins(15),
            workers_settle: Duration::from_mins(3),
            worker_lost_after: Duration::from_mins(2),
            drain_within: Duration::from_hours(1),
            stuck_after: Duration::from_mins(15),
            reap_after: Duration::from_mins(2),
            orphans: Orphans::Adopt,
            guard_window: Duration::from_mins(10),
            guard_least: 3,
            guard_percent: 10,
            breaker_boots: 3,
            breaker_window: Duration::from_hours(1),
            breaker_pause: Duration::from_mins(5),
            breaker_longest: Duration::from_hours(6),
            budget_reserve: Duration::from_mins(30),
        }
    }
}
