//! The board's batches: which to run, and what their ends mean for the jobs in them.

use std::collections::BTreeSet;
use std::time::Duration;

use stoker_core::batch::{Arrivals, Decision, Limits, Supply};
use stoker_core::time::Timestamp;
use stoker_engine_api::{EngineError, ItemKey, ItemOutput, MAX_PREPARE_THREADS, ToEngine};

use super::results::Labeled;
use super::{Board, Ended, Failure, FailureKind, Job, JobKey, Outcome, Started, Step};

/// How long a batch with room may wait for more while every lane is busy and it would be the one
/// queued behind them. Ends early when a lane falls free.
const HOLD: Duration = Duration::from_millis(5);

/// The engine's answer does not fit what it was asked; it cannot be trusted any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    #[error("it answered batch {batch}, which was not asked for")]
    UnknownBatch { batch: u64 },
    #[error("it gave {got} outputs for a batch of {expected} items")]
    Outputs { got: usize, expected: usize },
}

/// An item of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BatchItem {
    pub(super) key: ItemKey,
    pub(super) job: JobKey,
    cost: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) items: Vec<BatchItem>,
}

/// Whether it is known what killed an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    Open,
    /// It said which batch ends it, and the jobs in that have failed already.
    Named,
}

/// A batch that came back.
#[derive(Debug)]
pub struct Finished {
    pub items: usize,
    pub tokens: u64,
    pub ended: Vec<Ended>,
}

impl Batch {
    fn tokens(&self) -> u64 {
        self.items.iter().map(|item| u64::from(item.cost)).sum()
    }

    pub(super) fn has(&self, key: ItemKey) -> bool {
        self.items.iter().any(|item| item.key == key)
    }

    fn jobs(&self) -> Vec<JobKey> {
        let jobs: BTreeSet<JobKey> = self.items.iter().map(|item| item.job).collect();
        jobs.into_iter().collect()
    }
}

impl Board {
    /// Fills the free lanes, and the one place behind them.
    pub(super) fn start_batches(&mut self, now: Timestamp, step: &mut Step) {
        let Some(capacity) = self.engine else { return };
        while self.running.len() <= capacity.lanes {
            if let Some(batch) = self.next_retry() {
                self.start(batch, now, step);
                continue;
            }
            let all_busy = self.running.len() == capacity.lanes;
            let limits = Limits {
                max_tokens: self.size.next(capacity.max_tokens),
                max_items: capacity.max_items,
                hold: if all_busy { HOLD } else { Duration::ZERO },
            };
            let supply = Supply { idle_lanes: 1, arrivals: Arrivals::Possible };
            match self.queue.next(&limits, supply, self.turn, now) {
                Decision::Run(items) => {
                    let item = |pending: stoker_core::batch::Pending<JobKey, ItemKey>| BatchItem {
                        key: pending.key,
                        job: pending.job,
                        cost: pending.cost_tokens,
                    };
                    self.start(Batch { items: items.into_iter().map(item).collect() }, now, step);
                }
                Decision::WaitUntil(time) => {
                    step.wake_at = Some(time);
                    return;
                }
                Decision::Idle => return,
            }
        }
    }

    /// A part of a failed batch whose turn it is, without the items of jobs that are gone.
    fn next_retry(&mut self) -> Option<Batch> {
        for batch in &mut self.retries {
            batch.items.retain(|item| self.jobs.contains_key(&item.job));
        }
        self.retries.retain(|batch| !batch.items.is_empty());
        let admits = |item: &BatchItem| {
            self.jobs.get(&item.job).is_some_and(|job| job.turn(item.job) == self.turn)
        };
        let at = self.retries.iter().position(|batch| batch.items.iter().all(admits))?;
        self.retries.remove(at)
    }

    fn start(&mut self, batch: Batch, now: Timestamp, step: &mut Step) {
        let number = self.next_batch;
        self.next_batch += 1;
        let mut waited = Vec::new();
        let jobs = batch.jobs();
        for key in &jobs {
            if let Some(job) = self.jobs.get_mut(key).filter(|job| !job.started) {
                job.started = true;
                waited.push(now.since(job.granted_at));
            }
        }
        let items: Vec<ItemKey> = batch.items.iter().map(|item| item.key).collect();
        let (count, tokens) = (items.len(), batch.tokens());
        step.started.push(Started { batch: number, items: count, tokens, jobs, waited });
        step.messages.push(ToEngine::Run { batch: number, items });
        self.running.insert(number, batch);
    }

    /// The batch ran.
    ///
    /// # Errors
    /// When the answer does not fit; the engine must be ended then.
    pub fn done(
        &mut self,
        number: u64,
        outputs: Vec<ItemOutput>,
        busy: Duration,
    ) -> Result<Finished, ProtocolError> {
        let batch = self.take_running(number)?;
        if outputs.len() != batch.items.len() {
            let (got, expected) = (outputs.len(), batch.items.len());
            // Its jobs are not to blame; they are found again when the engine is reported lost.
            self.running.insert(number, batch);
            return Err(ProtocolError::Outputs { got, expected });
        }
        let (items, tokens) = (batch.items.len(), batch.tokens());
        self.pace.measured(u64::try_from(items).unwrap_or(u64::MAX), busy);
        self.size.measured(tokens, busy);
        let mut ended = Vec::new();
        for (item, output) in batch.items.iter().zip(outputs) {
            let Some((key, index)) = self.items.remove(&item.key) else { continue };
            let Some(job) = self.jobs.get_mut(&key) else { continue };
            let took = share(busy, u64::from(item.cost), tokens);
            job.busy += took;
            job.pace.measured(1, took);
            let output = Labeled { output, labels: job.labels(self.labels.as_ref()) };
            if let Err(error) = job.done(index, output) {
                ended.extend(self.fail(key, &engine_internal(&error.to_string())));
            }
        }
        for key in batch.jobs() {
            ended.extend(self.finish_if_done(key));
        }
        Ok(Finished { items, tokens, ended })
    }

    /// The batch failed as a whole.
    ///
    /// # Errors
    /// When no such batch is running; the engine must be ended then.
    pub fn failed(&mut self, number: u64, error: &EngineError) -> Result<Finished, ProtocolError> {
        let batch = self.take_running(number)?;
        let (items, tokens) = (batch.items.len(), batch.tokens());
        let ended = match error {
            EngineError::OutOfMemory { .. } => {
                self.shrink_budget(tokens);
                self.split_or_fail(batch, || Failure {
                    kind: FailureKind::Retryable,
                    code: "OUT_OF_MEMORY",
                    message: error.to_string(),
                })
            }
            EngineError::Input { .. } => self.split_or_fail(batch, || Failure {
                kind: FailureKind::Permanent,
                code: "INVALID_INPUT",
                message: error.to_string(),
            }),
            EngineError::Device { .. } => self.crash(&batch, "DEVICE_ERROR", &error.to_string()),
            EngineError::Internal { .. } => {
                self.crash(&batch, "ENGINE_INTERNAL", &error.to_string())
            }
        };
        Ok(Finished { items, tokens, ended })
    }

    /// The engine died. Unless it named the batch that ended it, the jobs that it was running or
    /// preparing are charged with it. Where one of them has been before, it was by itself.
    #[must_use]
    pub fn engine_lost(&mut self, reason: &str, code: &'static str, blame: Blame) -> Vec<Ended> {
        let lanes = self.engine.take().map_or(1, |capacity| capacity.lanes);
        // The engine takes both in order: those beyond its lanes and threads had not begun.
        let running = self.running.values().take(lanes).flat_map(Batch::jobs);
        let mut suspects: BTreeSet<JobKey> = running.collect();
        let preparing = self.preparing.iter().take(MAX_PREPARE_THREADS);
        suspects.extend(preparing.flat_map(|message| &message.jobs));
        match blame {
            Blame::Open => {}
            Blame::Named => suspects.clear(),
        }
        self.running.clear();
        self.retries.clear();
        self.preparing.clear();
        self.items.clear();
        self.queue = stoker_core::batch::Queue::new();
        let failure =
            Failure { kind: FailureKind::Crash, code, message: format!("the engine {reason}") };
        let mut ended: Vec<Ended> =
            suspects.into_iter().filter_map(|key| self.fail(key, &failure)).collect();
        for job in self.jobs.values_mut() {
            job.reset();
        }
        ended.extend(self.leave_without_engine());
        self.forget.clear();
        ended
    }

    fn take_running(&mut self, number: u64) -> Result<Batch, ProtocolError> {
        self.running.remove(&number).ok_or(ProtocolError::UnknownBatch { batch: number })
    }

    /// The device had no room for `tokens`: from now on half of that is the most.
    fn shrink_budget(&mut self, tokens: u64) {
        if let Some(capacity) = &mut self.engine {
            let half = u32::try_from(tokens / 2).unwrap_or(u32::MAX).max(1);
            capacity.max_tokens = capacity.max_tokens.min(half);
        }
    }

    /// Runs both halves of the batch next; an item that fails alone fails its job.
    fn split_or_fail(&mut self, mut batch: Batch, failure: impl Fn() -> Failure) -> Vec<Ended> {
        batch.items.retain(|item| {
            let alive = self.jobs.contains_key(&item.job);
            if !alive {
                // It stayed prepared, and nobody wants it.
                self.forget.push(item.key);
            }
            alive
        });
        match batch.items.as_slice() {
            [] => Vec::new(),
            [item] => {
                let key = item.job;
                let mut failure = failure();
                if let Some((_, index)) = self.items.get(&item.key) {
                    failure.message = format!("item {index}: {}", failure.message);
                }
                self.fail(key, &failure).into_iter().collect()
            }
            items => {
                let (first, second) = items.split_at(items.len() / 2);
                self.retries.push_front(Batch { items: second.to_vec() });
                self.retries.push_front(Batch { items: first.to_vec() });
                Vec::new()
            }
        }
    }

    /// The engine said that this batch ends it.
    fn crash(&mut self, batch: &Batch, code: &'static str, message: &str) -> Vec<Ended> {
        let failure = Failure { kind: FailureKind::Crash, code, message: message.to_owned() };
        batch.jobs().into_iter().filter_map(|key| self.fail(key, &failure)).collect()
    }

    fn fail(&mut self, key: JobKey, failure: &Failure) -> Option<Ended> {
        let _job: Job = self.take(key)?;
        Some(Ended { key, outcome: Outcome::Failed(failure.clone()) })
    }
}

fn engine_internal(message: &str) -> Failure {
    let (kind, code) = (FailureKind::Retryable, "ENGINE_INTERNAL");
    Failure { kind, code, message: message.to_owned() }
}

fn share(busy: Duration, cost: u64, tokens: u64) -> Duration {
    let nanos = u128::from(cost) * busy.as_nanos() / u128::from(tokens.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
