//! Releases waiting jobs, a small window at a time: chooses, commits, and hands what is committed to
//! the publisher. Of several coordinators only the one that leads does.

use std::sync::Arc;
use std::time::Duration;

use stoker_core::dispatch::{Head, TenantQueue, choose, free_places};
use stoker_core::fleet::Fleet;
use stoker_core::job::StateKind;
use stoker_runtime::clock::Clock;
use stoker_runtime::crash;
use stoker_runtime::retry::Delays;
use stoker_runtime::tasks::Tasks;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::context::serves;
use crate::events::Events;
use crate::registry::Registry;
use crate::store::{Counts, JobStore, OutboxEntry, Role, StoreError, WaitingTenant};
use crate::throughput::Throughput;

/// Jobs in one commit.
const BATCH: u32 = 512;
/// The window follows slots and throughput at least this often.
const TICK: Duration = Duration::from_secs(1);

/// What the dispatcher works with.
#[derive(Debug, Clone)]
pub struct Dispatcher {
    pub store: Arc<dyn JobStore>,
    pub registry: Arc<Registry>,
    pub events: Arc<Events>,
    pub clock: Arc<dyn Clock>,
    pub fleet: Arc<Fleet>,
    pub throughput: Arc<Throughput>,
}

impl Dispatcher {
    /// Starts the task, which ends with the tasks' shutdown token. What it commits goes to `rounds`.
    pub fn start(self, tasks: &Tasks, rounds: mpsc::Sender<Vec<OutboxEntry>>) {
        let shutdown = tasks.shutdown_token();
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
        if !dispatcher.store.leads(Role::Dispatch) {
            let leading = shutdown.run_until_cancelled(dispatcher.store.lead(Role::Dispatch)).await;
            if leading.is_none() {
                return;
            }
            // What another one released, and did not get to send.
            dispatcher.events.outbox.notify_one();
        }
        let counts = dispatcher.store.counts();
        dispatcher.throughput.observe(dispatcher.clock.now(), &counts);
        let more = match fill_windows(&dispatcher, &counts, &rounds).await {
            Ok(more) => {
                delays.reset();
                more
            }
            Err(StoreError::NotLeading) => true,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "jobs could not be released; trying again"
                );
                // If they were released all the same, their messages wait in the outbox.
                dispatcher.events.outbox.notify_one();
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
    counts: &Counts,
    rounds: &mpsc::Sender<Vec<OutboxEntry>>,
) -> Result<bool, StoreError> {
    let mut more = false;
    for lane in &counts.lanes() {
        let of_lane = counts.of_lane(lane);
        // Nobody serves a queue that the file no longer names: its jobs wait until it does again.
        if of_lane.get(StateKind::Queued) == 0 || !serves(&dispatcher.fleet, lane) {
            continue;
        }
        let window = dispatcher.throughput.window(lane, dispatcher.registry.slots(lane));
        let free = free_places(window, of_lane.in_flight(), BATCH);
        if free == 0 {
            continue;
        }
        let waiting = dispatcher.store.waiting(lane.clone(), free).await?;
        let chosen = choose(free, &tenant_queues(&dispatcher.fleet, waiting));
        let entries = crash::around("dispatch", dispatcher.store.dispatch(chosen)).await?;
        more |= entries.len() == BATCH as usize;
        // Waits for the publisher: what is committed but not sent is bounded.
        if !entries.is_empty() && rounds.send(entries).await.is_err() {
            return Ok(false);
        }
    }
    Ok(more)
}

/// What waits in a queue, with the weights of the fleet file.
pub(crate) fn tenant_queues(fleet: &Fleet, waiting: Vec<WaitingTenant>) -> Vec<TenantQueue> {
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
