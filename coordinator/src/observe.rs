//! Once a second: what the coordinator sees of itself becomes gauges and readiness.

use std::sync::Arc;
use std::time::Duration;

use stoker_core::ids::JobId;
use stoker_core::job::StateKind;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::metrics;
use crate::readiness::{Readiness, Verdict};
use crate::registry::WorkerState;
use crate::store::{LedgerQuery, StoreError, TenantScope};

const TICK: Duration = Duration::from_secs(1);

/// A store that does not answer a reading for so long is of no use to callers.
const STORE_LIMIT: Duration = Duration::from_secs(5);

/// Observes until shutdown.
pub async fn observe(context: Arc<Context>, readiness: Readiness, shutdown: CancellationToken) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        let verdict = verdict(&context).await;
        tell(&readiness.get(), &verdict);
        metrics::readiness(&verdict);
        readiness.set(verdict);
        if let Err(error) = gauges(&context).await {
            tracing::debug!(%error, "the gauges of queues could not be refreshed");
        }
    }
}

/// Logs what has changed, once.
fn tell(before: &Verdict, now: &Verdict) {
    if before == now {
        return;
    }
    if let Some(problem) = now.problem() {
        tracing::warn!(problem, "the coordinator is not ready");
    } else {
        tracing::info!("the coordinator is ready");
    }
}

async fn verdict(context: &Context) -> Verdict {
    // Any reading will do; this job never exists.
    let probe = context.store.get(TenantScope::All, JobId::from_bytes([0; 16]));
    let store_problem = match timeout(STORE_LIMIT, probe).await {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(format!("the store cannot be read: {error}")),
        Err(_) => Some("the store does not answer".to_owned()),
    };
    Verdict { store_problem, broker_problem: context.broker.problem() }
}

async fn gauges(context: &Context) -> Result<(), StoreError> {
    let counts = context.store.counts();
    let now = context.now();
    for lane in &context.lanes() {
        let of_lane = counts.of_lane(lane);
        let oldest = context.store.oldest_waiting(lane.clone()).await?;
        metrics::queue(&metrics::QueueGauges {
            lane,
            jobs: StateKind::ALL.into_iter().map(|kind| (kind, of_lane.get(kind))).collect(),
            oldest_wait: oldest.map(|at| now.since(at)).unwrap_or_default(),
            slots: context.registry.slots(lane),
        });
    }
    let workers = context.registry.list();
    for state in WorkerState::ALL {
        metrics::workers(state, workers.iter().filter(|worker| worker.state == state).count());
    }
    metrics::outbox(context.store.outbox_len().await?);
    let counts = LedgerQuery { ended_since: None, after: None, limit: 0, with_memory: false };
    metrics::ledger(&context.store.ledger(counts).await?);
    if let Some(bytes) = context.store.free_disk() {
        metrics::free_disk(bytes);
    }
    Ok(())
}
