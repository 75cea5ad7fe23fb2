//! Releases waiting jobs to the broker, a small window at a time, and publishes the outbox.
//!
//! Two tasks: `release` chooses and commits, `publish` sends what is committed and clears what
//! the broker confirmed. A message that was not confirmed stays in the outbox and is sent again.

use std::sync::Arc;
use std::time::Duration;

use stoker_broker::{Hint, Publisher};
use stoker_core::dispatch::{Head, TenantQueue, choose};
use stoker_core::fleet::Fleet;
use stoker_core::job::StateKind;
use stoker_runtime::clock::Clock;
use stoker_runtime::retry::Delays;
use stoker_runtime::tasks::Tasks;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::events::Events;
use crate::metrics;
use crate::registry::Registry;
use crate::store::{JobStore, OutboxEntry, StoreError, WaitingTenant};
use crate::throughput::Throughput;

/// Jobs in one commit and in one round of publishing.
const BATCH: u32 = 512;
/// Rounds of publishing that may wait behind the present one.
const ROUNDS: usize = 4;
/// The window follows slots and throughput at least this often.
const TICK: Duration = Duration::from_secs(1);

/// What the dispatcher works with.
#[derive(Debug, Clone)]
pub struct Dispatcher {
    pub store: Arc<dyn JobStore>,
    pub publisher: Arc<dyn Publisher>,
    pub registry: Arc<Registry>,
    pub events: Arc<Events>,
    pub clock: Arc<dyn Clock>,
    pub fleet: Arc<Fleet>,
    pub throughput: Arc<Throughput>,
}

impl Dispatcher {
    /// Starts both tasks; they end with the tasks' shutdown token.
    pub fn start(self, tasks: &Tasks) {
        let (rounds, inbox) = mpsc::channel(ROUNDS);
        let shutdown = tasks.shutdown_token();
        tasks.spawn_critical("publisher", publish(self.clone(), inbox, shutdown.clone()));
        tasks.spawn_critical("dispatcher", release(self, rounds, shutdown));
    }
}

/// Fills each queue's window whenever something changes.
async fn release(
    dispatcher: Dispatcher,
    rounds: mpsc::Sender<Vec<OutboxEntry>>,
    shutdown: CancellationToken,
) {
    let mut delays = Delays::new(Duration::from_millis(100), Duration::from_secs(5));
    loop {
        dispatcher.throughput.observe(dispatcher.clock.now(), &dispatcher.store.counts());
        let more = match fill_windows(&dispatcher, &rounds).await {
            Ok(more) => {
                delays.reset();
                more
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "jobs could not be released; trying again"
                );
                if !delays.wait(&shutdown).await {
                    return;
                }
                true
            }
        };
        if more {
            if shutdown.is_cancelled() {
                return;
            }
            continue;
        }
        // Cancel-safe: a permit of `notified` that is not taken stays for the next round.
        tokio::select! {
            () = dispatcher.events.dispatcher.notified() => {}
            () = tokio::time::sleep(TICK) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// One pass over all queues; true when a batch was full, so that another pass may release more.
async fn fill_windows(
    dispatcher: &Dispatcher,
    rounds: &mpsc::Sender<Vec<OutboxEntry>>,
) -> Result<bool, StoreError> {
    let counts = dispatcher.store.counts();
    let mut more = false;
    for lane in &counts.lanes() {
        let of_lane = counts.of_lane(lane);
        if of_lane.get(StateKind::Queued) == 0 {
            continue;
        }
        let in_flight = u32::try_from(of_lane.in_flight()).unwrap_or(u32::MAX);
        let window = dispatcher.throughput.window(lane, dispatcher.registry.slots(lane));
        let free = window.saturating_sub(in_flight).min(BATCH);
        if free == 0 {
            continue;
        }
        let waiting = dispatcher.store.waiting(lane.clone(), free).await?;
        let chosen = choose(free, &tenant_queues(&dispatcher.fleet, waiting));
        let entries = dispatcher.store.dispatch(chosen).await?;
        more |= entries.len() == BATCH as usize;
        // Waits for the publisher: what is committed but not sent is bounded.
        if !entries.is_empty() && rounds.send(entries).await.is_err() {
            return Ok(false);
        }
    }
    Ok(more)
}

fn tenant_queues(fleet: &Fleet, waiting: Vec<WaitingTenant>) -> Vec<TenantQueue> {
    waiting
        .into_iter()
        .map(|WaitingTenant { tenant, in_flight, heads }| TenantQueue {
            // A tenant that was taken out of the file still has its jobs done.
            weight: fleet.tenants.get(&tenant).map_or(1, |known| known.weight),
            tenant,
            in_flight,
            heads: heads.into_iter().map(|(job, start_by)| Head { job, start_by }).collect(),
        })
        .collect()
}

/// Sends what the dispatcher committed, and from time to time what was never confirmed.
async fn publish(
    dispatcher: Dispatcher,
    mut inbox: mpsc::Receiver<Vec<OutboxEntry>>,
    shutdown: CancellationToken,
) {
    let mut delays = Delays::new(Duration::from_millis(200), Duration::from_secs(5));
    // What an earlier process left behind comes first.
    let mut resend = true;
    loop {
        if resend {
            resend = !send_outbox(&dispatcher).await;
            if resend && !delays.wait(&shutdown).await {
                return;
            }
            continue;
        }
        delays.reset();
        // Cancel-safe: a round that was not received stays in the channel.
        let mut round = tokio::select! {
            round = inbox.recv() => match round {
                Some(round) => round,
                None => return,
            },
            () = dispatcher.events.outbox.notified() => {
                resend = true;
                continue;
            }
            () = shutdown.cancelled() => return,
        };
        while round.len() < BATCH as usize
            && let Ok(next) = inbox.try_recv()
        {
            round.extend(next);
        }
        resend = !send(&dispatcher, round).await;
    }
}

/// Sends everything in the outbox; false when something stayed in it.
async fn send_outbox(dispatcher: &Dispatcher) -> bool {
    loop {
        let entries = match dispatcher.store.outbox(BATCH).await {
            Ok(entries) => entries,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the outbox could not be read"
                );
                return false;
            }
        };
        let last = entries.len() < BATCH as usize;
        if entries.is_empty() {
            return true;
        }
        if !send(dispatcher, entries).await {
            return false;
        }
        if last {
            return true;
        }
    }
}

/// Publishes a round and clears what was confirmed; false when something was not.
async fn send(dispatcher: &Dispatcher, entries: Vec<OutboxEntry>) -> bool {
    let hints = entries
        .iter()
        .map(|entry| Hint {
            job: entry.job,
            seq: entry.seq,
            queue: entry.lane.clone(),
            trace: entry.trace.to_pairs(),
        })
        .collect();
    let outcomes = dispatcher.publisher.publish(hints).await;
    let sent = entries.len();
    let mut confirmed = Vec::with_capacity(sent);
    let mut problem = None;
    for (entry, outcome) in entries.into_iter().zip(outcomes) {
        match outcome {
            Ok(()) => confirmed.push(entry),
            Err(error) => problem = Some(error),
        }
    }
    metrics::published(confirmed.len(), sent - confirmed.len());
    if let Some(error) = &problem {
        tracing::warn!(
            error = error as &dyn std::error::Error,
            unconfirmed = sent - confirmed.len(),
            "messages stay in the outbox"
        );
    }
    match dispatcher.store.clear_outbox(confirmed).await {
        Ok(()) => problem.is_none(),
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the outbox could not be cleared"
            );
            false
        }
    }
}
