//! What one seed simulates: sizes, policies, and which faults come at which rates.
//!
//! Each seed enables a random subset of the faults (swarm testing: Groce et al., "Swarm Testing",
//! ISSTA 2012), since faults that come together all the time hide what each of them would show.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use stoker_core::policy::{JobPolicy, LeasePolicy, RetryPolicy};

use super::random::Random;

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    CoordinatorKilled,
    CoordinatorPaused,
    StoreAway,
    StoreCallFails,
    StoreAnswerLost,
    BrokerKilled,
    BrokerAlarm,
    QueuePurged,
    QueueDeleted,
    ConfirmLost,
    MessageDoubled,
    MessageLost,
    ChannelBroken,
    WorkerKilled,
    AllWorkersKilled,
    WorkerPaused,
    WorkerDrained,
    WorkerInterrupted,
    WorkerCutOff,
    StreamBroken,
    CallLost,
    CallSlow,
    ClockJump,
    ForgedReport,
    BadJob,
    ClientCancels,
}

impl Fault {
    pub const ALL: [Self; 26] = [
        Self::CoordinatorKilled,
        Self::CoordinatorPaused,
        Self::StoreAway,
        Self::StoreCallFails,
        Self::StoreAnswerLost,
        Self::BrokerKilled,
        Self::BrokerAlarm,
        Self::QueuePurged,
        Self::QueueDeleted,
        Self::ConfirmLost,
        Self::MessageDoubled,
        Self::MessageLost,
        Self::ChannelBroken,
        Self::WorkerKilled,
        Self::AllWorkersKilled,
        Self::WorkerPaused,
        Self::WorkerDrained,
        Self::WorkerInterrupted,
        Self::WorkerCutOff,
        Self::StreamBroken,
        Self::CallLost,
        Self::CallSlow,
        Self::ClockJump,
        Self::ForgedReport,
        Self::BadJob,
        Self::ClientCancels,
    ];

    /// Faults that strike at a moment, with the mean time between two of them at rate 1.
    pub(super) const fn interval(self) -> Option<Duration> {
        let seconds = match self {
            Self::CoordinatorKilled | Self::StoreAway => 60,
            Self::CoordinatorPaused | Self::BrokerAlarm | Self::ClockJump => 50,
            Self::BrokerKilled | Self::WorkerCutOff => 40,
            Self::QueuePurged | Self::QueueDeleted | Self::WorkerInterrupted => 30,
            Self::WorkerDrained | Self::WorkerPaused => 25,
            Self::ChannelBroken | Self::WorkerKilled | Self::StreamBroken => 20,
            Self::AllWorkersKilled => 120,
            Self::ForgedReport => 5,
            Self::StoreCallFails
            | Self::StoreAnswerLost
            | Self::ConfirmLost
            | Self::MessageDoubled
            | Self::MessageLost
            | Self::CallLost
            | Self::CallSlow
            | Self::BadJob
            | Self::ClientCancels => return None,
        };
        Some(Duration::from_secs(seconds))
    }

    /// Name on the command line.
    pub fn name(self) -> String {
        let mut name = String::new();
        for letter in format!("{self:?}").chars() {
            if letter.is_ascii_uppercase() && !name.is_empty() {
                name.push('-');
            }
            name.push(letter.to_ascii_lowercase());
        }
        name
    }
}

/// Where the store and the broker are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One coordinator with the store in its process, and a broker of its own.
    OneWithQueue,
    /// One coordinator with both in its process: a restart empties the queues.
    OneAlone,
    /// Several coordinators with a store that they share.
    Several,
}

/// One seed's world.
#[derive(Debug, Clone)]
pub struct Setup {
    pub seed: u64,
    pub shape: Shape,
    pub coordinators: usize,
    pub machines: usize,
    pub slots: usize,
    pub lanes: usize,
    pub tenants: usize,
    /// Jobs that clients submit.
    pub jobs: usize,
    /// How long faults strike and clients submit.
    pub trouble: Duration,
    /// Times a message may go back to its queue.
    pub delivery_limit: u32,
    pub policy: JobPolicy,
    /// Open jobs of the fleet and of each tenant.
    pub max_queued: (u64, Option<u64>),
    /// Enabled faults with their rates.
    pub faults: BTreeMap<Fault, f64>,
}

impl Setup {
    /// The world of a seed. `without` are faults that are left out; everything else stays the same.
    pub fn of(seed: u64, without: &BTreeSet<Fault>) -> Self {
        let mut random = Random::new(seed, 1);
        let shape = match random.index(4) {
            0 => Shape::OneAlone,
            1 => Shape::Several,
            _ => Shape::OneWithQueue,
        };
        let coordinators = if shape == Shape::Several { random.index(2) + 2 } else { 1 };
        let max_queued = match random.index(6) {
            0 => (random.between(5, 20), None),
            1 => (1_000, Some(random.between(2, 8))),
            _ => (1_000, None),
        };
        Self {
            seed,
            shape,
            coordinators,
            machines: random.index(5) + 1,
            slots: random.index(4) + 1,
            lanes: random.index(2) + 1,
            tenants: random.index(3) + 1,
            jobs: random.index(36) + 4,
            trouble: random.millis(20_000, 200_000),
            delivery_limit: if random.chance(0.3) { random.number(2, 5) } else { 100 },
            policy: policy(Duration::from_secs(if random.chance(0.5) { 90 } else { 240 })),
            max_queued,
            faults: faults(seed, without),
        }
    }

    /// The rate of a fault; 0 when it is not enabled.
    pub(super) fn rate(&self, fault: Fault) -> f64 {
        self.faults.get(&fault).copied().unwrap_or(0.0)
    }

    /// Whether nothing goes wrong at all.
    pub(super) fn is_calm(&self) -> bool {
        self.faults.is_empty()
    }
}

/// The production's defaults, but for two durations that would make runs long.
fn policy(max_runtime: Duration) -> JobPolicy {
    JobPolicy {
        retry: RetryPolicy { max_delay: Duration::from_secs(30), ..RetryPolicy::default() },
        lease: LeasePolicy { max_runtime, ..LeasePolicy::default() },
    }
}

fn faults(seed: u64, without: &BTreeSet<Fault>) -> BTreeMap<Fault, f64> {
    let mut random = Random::new(seed, 2);
    // One seed in twelve is calm: there a job runs exactly once.
    let calm = random.chance(1.0 / 12.0);
    let density = random.unit();
    let mut faults = BTreeMap::new();
    for fault in Fault::ALL {
        let (enabled, rate) = (random.chance(density), 0.2 + 1.8 * random.unit());
        if enabled && !calm && !without.contains(&fault) {
            faults.insert(fault, rate);
        }
    }
    faults
}
