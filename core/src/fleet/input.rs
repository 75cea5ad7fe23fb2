//! From a snapshot to what the rules may trust, or to what they have to wait for.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{ClassName, ModelName};
use crate::time::Timestamp;
use crate::units::HumanDuration;

use super::backlog::Lot;
use super::counters::Counters;
use super::policy::PoolPolicy;
use super::snapshot::{Instance, PoolSnapshot, Queue, Reading, Waiting};

/// A reading older than this says nothing about now.
pub const STALE_AFTER: Duration = Duration::from_secs(90);

/// Clocks may differ by this much.
const SKEW: Duration = Duration::from_mins(5);

/// More jobs or instances than this are a broken counter.
const MOST_JOBS: u64 = 100_000_000;
const MOST_INSTANCES: usize = 100_000;

/// What of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    Queues,
    Instances,
}

/// Why a pool is left as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hold {
    /// The snapshot does not speak of the pool.
    NotObserved,
    Unknown {
        part: Part,
        why: String,
    },
    Stale {
        part: Part,
        age: Duration,
    },
    Future {
        part: Part,
    },
    Absurd {
        part: Part,
        what: String,
    },
    /// The clock went back.
    ClockWentBack {
        by: Duration,
    },
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Queues => "the queues",
            Self::Instances => "the instances",
        })
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |d: &Duration| HumanDuration::new(Duration::from_secs(d.as_secs()));
        match self {
            Self::NotObserved => f.write_str("waits for a first look at the pool"),
            Self::Unknown { part, why } => write!(f, "waits for {part}: {why}"),
            Self::Stale { part, age } => {
                write!(f, "waits for news of {part}, which are {} old", time(age))
            }
            Self::Future { part } => write!(f, "waits until {part} are not of the future"),
            Self::Absurd { part, what } => write!(f, "waits for credible {part}: {what}"),
            Self::ClockWentBack { by } => write!(f, "waits as the clock went back by {}", time(by)),
        }
    }
}

/// What is known of a pool, and credible.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Input<'a> {
    pub(crate) instances: &'a [Instance],
    /// Of all classes.
    pub(crate) counters: Counters,
    /// Of classes that are staffed for.
    pub(crate) waiting: u64,
    /// The same by class and model.
    pub(crate) prompt: Vec<Lot<'a>>,
    /// Classes with jobs that wait or run.
    pub(crate) present: BTreeSet<&'a ClassName>,
    pub(crate) running: u64,
    /// Of these, jobs that could have waited, and their models.
    pub(crate) bulk_running: u64,
    pub(crate) bulk_models: BTreeSet<&'a ModelName>,
    /// Of classes that may wait for a launch.
    pub(crate) bulk: Vec<BulkLot<'a>>,
}

/// Jobs that may wait for a launch and are about as old.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct BulkLot<'a> {
    /// Seconds until the promise ends, of those that the class allows.
    pub(crate) left: f64,
    pub(crate) max_wait: f64,
    pub(crate) model: &'a ModelName,
    pub(crate) jobs: u64,
}

/// Takes what is credible, or says what is not. `boot` tells which classes are bulk.
pub(crate) fn read<'a>(
    snapshot: Option<&'a PoolSnapshot>,
    policy: &PoolPolicy,
    boot: Duration,
    now: Timestamp,
) -> Result<Input<'a>, Hold> {
    let snapshot = snapshot.ok_or(Hold::NotObserved)?;
    let instances = current(&snapshot.instances, Part::Instances, now)?;
    credible_instances(instances, now)?;
    let mut input = Input {
        instances,
        counters: Counters::default(),
        waiting: 0,
        prompt: Vec::new(),
        present: BTreeSet::new(),
        running: 0,
        bulk_running: 0,
        bulk_models: BTreeSet::new(),
        bulk: Vec::new(),
    };
    for queue in current(&snapshot.queues, Part::Queues, now)? {
        credible_queue(queue)?;
        input.add(queue, policy, boot);
    }
    if input.waiting > MOST_JOBS || input.counters.is_full() {
        return Err(Hold::Absurd { part: Part::Queues, what: "too many jobs".to_owned() });
    }
    Ok(input)
}

impl<'a> Input<'a> {
    fn add(&mut self, queue: &'a Queue, policy: &PoolPolicy, boot: Duration) {
        let class = policy.classes.get(&queue.class);
        self.counters.add(queue);
        self.running = self.running.saturating_add(queue.running);
        if queue.running > 0 || queue.waiting.iter().any(|waiting| waiting.jobs > 0) {
            self.present.insert(&queue.class);
        }
        // Nothing is promised any more to what the fleet file does not name: it may wait for as long as anything.
        let max_wait = class.map_or_else(|| policy.longest_wait(boot), |class| class.max_wait);
        let max_wait = max_wait.as_secs_f64();
        let left = |age: Duration| max_wait - age.as_secs_f64();
        if class.is_some_and(|class| PoolPolicy::is_bulk(class, boot)) {
            self.bulk_running = self.bulk_running.saturating_add(queue.running);
            if queue.running > 0 {
                self.bulk_models.insert(&queue.model);
            }
            let (model, lots) = (&queue.model, queue.waiting.iter());
            let lot = |w: &Waiting| BulkLot { left: left(w.age), max_wait, model, jobs: w.jobs };
            self.bulk.extend(lots.map(lot));
            return;
        }
        let (class, model, waiting) = (&queue.class, &queue.model, &queue.waiting[..]);
        self.prompt.push(Lot { class, model, max_wait, waiting });
        let jobs = queue.waiting.iter().map(|w| w.jobs).fold(0, u64::saturating_add);
        self.waiting = self.waiting.saturating_add(jobs);
    }
}

fn current<T>(reading: &Reading<T>, part: Part, now: Timestamp) -> Result<&T, Hold> {
    match reading {
        Reading::Unknown { why } => Err(Hold::Unknown { part, why: why.clone() }),
        Reading::Known { at, .. } if at.since(now) > SKEW => Err(Hold::Future { part }),
        Reading::Known { at, .. } if now.since(*at) > STALE_AFTER => {
            Err(Hold::Stale { part, age: now.since(*at) })
        }
        Reading::Known { value, .. } => Ok(value),
    }
}

fn credible_instances(instances: &[Instance], now: Timestamp) -> Result<(), Hold> {
    let absurd = |what: &str| Err(Hold::Absurd { part: Part::Instances, what: what.to_owned() });
    if instances.len() > MOST_INSTANCES {
        return absurd("too many of them");
    }
    if instances.iter().any(|instance| instance.launched_at.since(now) > SKEW) {
        return absurd("one was launched in the future");
    }
    let names: BTreeSet<_> = instances.iter().map(|instance| &instance.name).collect();
    if names.len() < instances.len() {
        return absurd("two have the same name");
    }
    Ok(())
}

fn credible_queue(queue: &Queue) -> Result<(), Hold> {
    let absurd = |what: &str| Err(Hold::Absurd { part: Part::Queues, what: what.to_owned() });
    let waiting = queue.waiting.iter().map(|w| w.jobs).fold(0, u64::saturating_add);
    if waiting > MOST_JOBS || queue.running > MOST_JOBS {
        return absurd("too many jobs");
    }
    let sums = [queue.service_seconds, queue.service_squares];
    if sums.iter().any(|sum| !sum.is_finite() || *sum < 0.0) {
        return absurd("service times are not numbers");
    }
    Ok(())
}
