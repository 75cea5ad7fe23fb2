//! What was observed, and when: the planner's input.
//!
//! A reading that could not be taken is [`Reading::Unknown`], never zero.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{ClassName, InstanceName, ModelName, OfferingName, PoolName};
use crate::time::Timestamp;

/// One dated set of observations.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Snapshot {
    pub pools: BTreeMap<PoolName, PoolSnapshot>,
}

/// Something that was read at a time, or could not be read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Reading<T> {
    Known { at: Timestamp, value: T },
    Unknown { why: String },
}

/// What is known of a pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolSnapshot {
    pub queues: Reading<Vec<Queue>>,
    pub instances: Reading<Vec<Instance>>,
    /// Totals per offering; one that is missing has not been used.
    pub markets: BTreeMap<OfferingName, Market>,
}

/// The jobs of one class and model. Totals only grow; one that shrinks was reset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Queue {
    pub class: ClassName,
    pub model: ModelName,
    /// By age; in any order.
    pub waiting: Vec<Waiting>,
    pub running: u64,
    pub arrived: u64,
    pub started: u64,
    /// Of those that started, how many had waited longer than their class allows.
    pub started_late: u64,
    pub finished: u64,
    /// Sum of the service times of finished jobs, in seconds on a worker of speed 1.
    pub service_seconds: f64,
    /// Sum of their squares.
    pub service_squares: f64,
}

impl Queue {
    /// One that has had no job yet.
    pub const fn new(class: ClassName, model: ModelName) -> Self {
        Self {
            class,
            model,
            waiting: Vec::new(),
            running: 0,
            arrived: 0,
            started: 0,
            started_late: 0,
            finished: 0,
            service_seconds: 0.0,
            service_squares: 0.0,
        }
    }
}

/// Jobs that wait and are about this old.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    pub age: Duration,
    pub jobs: u64,
}

/// Totals of an offering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Market {
    /// Instances that were made.
    pub launched: u64,
    /// Launches that failed, whatever the reason: there is none to be had.
    pub refused: u64,
    /// Launches that were not asked for, as others like them failed: there is none to be had either, and the market
    /// has not said so.
    #[serde(default)]
    pub held_back: u64,
    /// Instances that the provider took back.
    pub interrupted: u64,
}

/// A machine that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    pub name: InstanceName,
    pub offering: OfferingName,
    pub state: InstanceState,
    pub launched_at: Timestamp,
    /// When it last gave a sign of life; before it is ready, when it was launched.
    pub seen_at: Timestamp,
    pub notice: Option<Notice>,
    /// Runs another image or configuration than new ones do.
    pub outdated: bool,
    /// Models in its memory, which need not be loaded for their next job.
    pub warm: Vec<ModelName>,
    /// How long it needs for all that it holds, as its worker told; `None`: it did not.
    #[serde(default)]
    pub remaining: Option<Duration>,
}

/// Where an instance is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum InstanceState {
    /// Asked for, and not ready yet.
    Booting,
    /// May be given work, and runs this many jobs. `idle_since` is set when it runs none.
    Ready { ready_at: Timestamp, running: u32, idle_since: Option<Timestamp> },
    /// Takes no new work.
    Draining { running: u32, since: Timestamp },
}

/// What the provider announced about an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notice {
    /// It is taken back at this time.
    Interruption { lost_at: Timestamp },
    /// It is likely to be taken back.
    Rebalance,
}

/// What is left to do is more than this by a broken clock or counter only: a quarter of a year.
const MOST_REMAINING: Duration = Duration::from_hours(90 * 24);

impl Instance {
    /// How long it needs for all that it holds, if its worker told and that can be.
    pub fn credible_remaining(&self) -> Option<Duration> {
        self.remaining.filter(|told| *told <= MOST_REMAINING)
    }

    /// Jobs that it runs.
    pub const fn running(&self) -> u32 {
        match self.state {
            InstanceState::Booting => 0,
            InstanceState::Ready { running, .. } | InstanceState::Draining { running, .. } => {
                running
            }
        }
    }

    /// Whether it is on its way out, by our decision or the provider's.
    pub const fn leaving(&self) -> bool {
        matches!(self.state, InstanceState::Draining { .. }) || self.notice.is_some()
    }

    /// Whether it is ready and may be given work for long.
    pub const fn works(&self) -> bool {
        matches!(self.state, InstanceState::Ready { .. }) && self.notice.is_none()
    }
}
