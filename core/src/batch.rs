//! Which waiting items an engine runs together, and how long a batch may be held open for more.
//!
//! [`Queue`] keeps the items of several jobs in order of urgency and hands out batches under a
//! token budget. Tokenizing, sorting a batch by length and running it are the worker's.
//!
//! The rules:
//! - Jobs are ordered by the first item that they wait with: least slack first (`start_by`), then
//!   arrival, then the job's id. The items of a job keep the order in which they were pushed.
//! - Each time belongs to the jobs that share batches, or to one job that must run alone (a batch with
//!   it crashed): [`Turn`] says whose it is.
//! - A batch is a prefix of that order within its turn, so an item waits only for more urgent ones,
//!   and every batch takes the most urgent item there is: after `n` batches the `n` first items are
//!   gone whatever arrives behind them.
//! - The budget is exceeded only by a single item that alone is larger than it.
//! - A batch that is not full is held until the oldest of its items has waited for `hold` or one of
//!   them has no slack left, whichever comes first. Nothing is held when no more can arrive.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::time::Timestamp;

mod size;
mod turn;

#[cfg(test)]
mod tests;

pub use size::BatchSize;
pub use turn::{Turn, Want};

/// What fits into one batch, and how long one may be held open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most tokens in a batch; an item that is larger runs by itself.
    pub max_tokens: u32,
    /// Most items in a batch; 0 counts as 1.
    pub max_items: u32,
    /// Longest time to hold a batch open; zero: run what is there at once.
    pub hold: Duration,
}

/// What could run a batch, and what could still join it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Supply {
    /// Engine lanes that are free now.
    pub idle_lanes: usize,
    pub arrivals: Arrivals,
}

/// Whether more items may arrive soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrivals {
    /// A batch that is held may fill up.
    Possible,
    /// Nothing can arrive before a batch has run (all slots are taken, or the worker drains), so
    /// holding one gains nothing.
    Ended,
}

/// An item that waits for its batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending<J, K> {
    /// The worker's own name for the item.
    pub key: K,
    pub job: J,
    pub cost_tokens: u32,
    pub arrived_at: Timestamp,
    /// When the job's slack ends; a past time means as soon as possible.
    pub start_by: Timestamp,
    /// The job runs in turns of its own. Holds for all items of the job from then on.
    pub alone: bool,
}

/// What to do now.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision<J, K> {
    /// Run these together; they have left the queue. Never empty.
    Run(Vec<Pending<J, K>>),
    /// Ask again at this time, or earlier when an item arrives. Always later than `now`.
    WaitUntil(Timestamp),
    /// Nothing to run, or no lane to run it on: ask again after a push or when a lane is free.
    Idle,
}

/// Where a job stands: that of its first waiting item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank<J> {
    start_by: Timestamp,
    arrived_at: Timestamp,
    job: J,
}

#[derive(Debug, Clone)]
struct Waiting<J, K> {
    /// Never empty.
    items: VecDeque<Pending<J, K>>,
    tokens: u64,
    alone: bool,
}

impl<J: Copy, K> Waiting<J, K> {
    fn rank(&self) -> Option<Rank<J>> {
        let first = self.items.front()?;
        Some(Rank { start_by: first.start_by, arrived_at: first.arrived_at, job: first.job })
    }
}

/// Waiting items in order of urgency.
///
/// `push` and `remove_job` take `O(log jobs)`; `next` takes `O(log jobs)` for each item of the batch
/// that it returns, and `O(jobs)` when it decides to wait. The queue is bounded by its owner, who
/// claims no more jobs than it has slots for.
#[derive(Debug, Clone)]
pub struct Queue<J, K> {
    jobs: BTreeMap<J, Waiting<J, K>>,
    shared: BTreeSet<Rank<J>>,
    /// Of the jobs that may share batches.
    shared_items: usize,
    shared_tokens: u64,
    items: usize,
}

impl<J: Copy + Ord, K> Default for Queue<J, K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<J: Copy + Ord, K> Queue<J, K> {
    pub fn new() -> Self {
        Self {
            jobs: BTreeMap::new(),
            shared: BTreeSet::new(),
            shared_items: 0,
            shared_tokens: 0,
            items: 0,
        }
    }

    /// Number of waiting items.
    pub fn len(&self) -> usize {
        self.items
    }

    pub fn is_empty(&self) -> bool {
        self.items == 0
    }

    /// Number of waiting items of `job`.
    pub fn items_of(&self, job: J) -> usize {
        self.jobs.get(&job).map_or(0, |waiting| waiting.items.len())
    }

    /// Adds an item behind the others of its job.
    pub fn push(&mut self, item: Pending<J, K>) {
        let job = item.job;
        let mut waiting = self.take_out(job).unwrap_or_else(|| Waiting {
            items: VecDeque::new(),
            tokens: 0,
            alone: false,
        });
        waiting.alone |= item.alone;
        waiting.tokens += u64::from(item.cost_tokens);
        waiting.items.push_back(item);
        self.put_in(job, waiting);
    }

    /// Takes out all items of `job`, in their order; none when it has none.
    pub fn remove_job(&mut self, job: J) -> Vec<Pending<J, K>> {
        self.take_out(job).map_or_else(Vec::new, |waiting| waiting.items.into())
    }

    /// Decides at `now`, and takes the batch out of the queue if one shall run. Only items of those
    /// whose `turn` it is are looked at.
    pub fn next(
        &mut self,
        limits: &Limits,
        supply: Supply,
        turn: Turn<J>,
        now: Timestamp,
    ) -> Decision<J, K> {
        if supply.idle_lanes == 0 {
            return Decision::Idle;
        }
        match turn {
            Turn::Alone(job) if self.jobs.get(&job).is_some_and(|waiting| waiting.alone) => {
                // What could join this batch is here already: a job's items arrive together.
                Decision::Run(self.run_alone(job, limits))
            }
            Turn::Alone(_) => Decision::Idle,
            Turn::Shared if self.shared.is_empty() => Decision::Idle,
            Turn::Shared => match self.hold_until(limits, supply, now) {
                Some(time) => Decision::WaitUntil(time),
                None => Decision::Run(self.run_shared(limits)),
            },
        }
    }

    /// Until when the batch of the shared jobs stays open; `None`: it shall run now.
    fn hold_until(&self, limits: &Limits, supply: Supply, now: Timestamp) -> Option<Timestamp> {
        let full = self.shared_tokens >= u64::from(limits.max_tokens)
            || self.shared_items >= max_items(limits);
        let worthwhile = match supply.arrivals {
            Arrivals::Possible => !full && !limits.hold.is_zero(),
            Arrivals::Ended => false,
        };
        if !worthwhile {
            return None;
        }
        // The bound `now + hold` keeps an arrival time from the future harmless.
        self.shared
            .iter()
            .map(|rank| rank.start_by.min(rank.arrived_at.after(limits.hold)))
            .min()
            .map(|time| time.min(now.after(limits.hold)))
            .filter(|time| *time > now)
    }

    fn run_alone(&mut self, job: J, limits: &Limits) -> Vec<Pending<J, K>> {
        let mut batch = Batch::new(limits);
        self.fill(job, None, &mut batch);
        batch.items
    }

    fn run_shared(&mut self, limits: &Limits) -> Vec<Pending<J, K>> {
        let mut batch = Batch::new(limits);
        while let Some(rank) = self.shared.pop_first() {
            // The job's turn ends where another job's first item is more urgent than its next one.
            let until = self.shared.first().copied();
            self.shared.insert(rank);
            if !self.fill(rank.job, until, &mut batch) {
                break;
            }
        }
        batch.items
    }

    /// Moves items of `job` that rank before `until` into the batch. False when it is full.
    fn fill(&mut self, job: J, until: Option<Rank<J>>, batch: &mut Batch<J, K>) -> bool {
        let Some(mut waiting) = self.take_out(job) else { return true };
        let mut room = true;
        while let Some(rank) = waiting.rank()
            && until.is_none_or(|until| rank < until)
        {
            let Some(item) = waiting.items.pop_front_if(|item| batch.has_room_for(item)) else {
                room = false;
                break;
            };
            waiting.tokens -= u64::from(item.cost_tokens);
            batch.add(item);
        }
        self.put_in(job, waiting);
        room
    }

    fn take_out(&mut self, job: J) -> Option<Waiting<J, K>> {
        let waiting = self.jobs.remove(&job)?;
        let rank = waiting.rank()?;
        self.items -= waiting.items.len();
        if !waiting.alone {
            self.shared.remove(&rank);
            self.shared_items -= waiting.items.len();
            self.shared_tokens -= waiting.tokens;
        }
        Some(waiting)
    }

    /// Forgets the job when no item is left.
    fn put_in(&mut self, job: J, waiting: Waiting<J, K>) {
        let Some(rank) = waiting.rank() else { return };
        self.items += waiting.items.len();
        if !waiting.alone {
            self.shared.insert(rank);
            self.shared_items += waiting.items.len();
            self.shared_tokens += waiting.tokens;
        }
        self.jobs.insert(job, waiting);
    }
}

/// A batch on its way.
struct Batch<J, K> {
    items: Vec<Pending<J, K>>,
    max_items: usize,
    tokens_left: u32,
}

impl<J, K> Batch<J, K> {
    fn new(limits: &Limits) -> Self {
        Self { items: Vec::new(), max_items: max_items(limits), tokens_left: limits.max_tokens }
    }

    /// The first item always has room: one that is larger than the budget runs by itself.
    fn has_room_for(&self, item: &Pending<J, K>) -> bool {
        self.items.is_empty()
            || (self.items.len() < self.max_items && item.cost_tokens <= self.tokens_left)
    }

    fn add(&mut self, item: Pending<J, K>) {
        // An oversized first item leaves room for nothing, not even for items without cost.
        if item.cost_tokens > self.tokens_left {
            self.max_items = 1;
        }
        self.tokens_left = self.tokens_left.saturating_sub(item.cost_tokens);
        self.items.push(item);
    }
}

fn max_items(limits: &Limits) -> usize {
    usize::try_from(limits.max_items).unwrap_or(usize::MAX).max(1)
}
