//! Applies what time brings: lease expiry, redispatch, retries, deadlines; and removes what has been
//! kept long enough. When silence may be held against workers is [`Amnesty`]'s to say; a coordinator that
//! begins to lead starts with a new one.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use stoker_broker::Publisher;
use stoker_core::fleet::Fleet;
use stoker_core::job::{Amnesty, StateKind};
use stoker_core::outbox::is_intact;
use stoker_core::time::Timestamp;
use stoker_runtime::clock::Clock;
use stoker_runtime::crash;
use stoker_runtime::retry::Delays;
use stoker_runtime::tasks::Tasks;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::events::Events;
use crate::metrics;
use crate::store::{JobStore, Lane, Role, StoreError};

/// Jobs in one commit.
const BATCH: u32 = 512;
/// Sweeps come at least this often.
const TICK: Duration = Duration::from_secs(1);
/// What the broker said of its queues is believed for so long at most.
const DEPTH_AGE: Duration = Duration::from_secs(5);
/// A broker that takes longer to say it counts as one that lost everything.
const DEPTH_LIMIT: Duration = Duration::from_millis(500);
/// Machines are kept in the ledger for so long after their end: three months and what is open of a fourth, for
/// reports of what they cost.
const MACHINES_KEPT: Duration = Duration::from_hours(125 * 24);
/// Pause between rounds of retention.
const RETENTION_TICK: Duration = Duration::from_secs(30);

/// What the sweeper works with.
#[derive(Debug, Clone)]
pub struct Sweeper {
    pub store: Arc<dyn JobStore>,
    pub publisher: Arc<dyn Publisher>,
    pub events: Arc<Events>,
    pub clock: Arc<dyn Clock>,
    pub fleet: Arc<Fleet>,
}

impl Sweeper {
    /// Starts the tasks; they end with the tasks' shutdown token.
    pub fn start(self, tasks: &Tasks) {
        let shutdown = tasks.shutdown_token();
        tasks.spawn_critical("sweeper", sweep(self.clone(), shutdown.clone()));
        tasks.spawn_critical("retention", retain(self, shutdown));
    }
}

async fn sweep(sweeper: Sweeper, shutdown: CancellationToken) {
    let mut delays = Delays::new(Duration::from_millis(100), Duration::from_secs(5));
    let mut amnesty = Amnesty::new(sweeper.fleet.job_policy.lease.ttl);
    let mut intact = Intact::default();
    loop {
        if !sweeper.store.leads(Role::Sweep) {
            if shutdown.run_until_cancelled(sweeper.store.lead(Role::Sweep)).await.is_none() {
                return;
            }
            amnesty = Amnesty::new(sweeper.fleet.job_policy.lease.ttl);
        }
        intact.refresh(&sweeper).await;
        let round = sweep_round(&sweeper, &mut amnesty, &intact).await;
        let pause = match round {
            Ok(pause) => {
                delays.reset();
                pause
            }
            Err(StoreError::NotLeading) => continue,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "timers could not be applied; trying again"
                );
                if !delays.wait(&shutdown).await {
                    return;
                }
                Duration::ZERO
            }
        };
        // Cancel-safe: a permit of `notified` that is not taken stays for the next round.
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = sweeper.events.sweeper.notified() => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// Applies what is due; answers how long nothing will be.
async fn sweep_round(
    sweeper: &Sweeper,
    amnesty: &mut Amnesty,
    intact: &Intact,
) -> Result<Duration, StoreError> {
    // Before anything that may be held up: how late the answers come is what amnesty is about.
    let asked_at = sweeper.clock.now();
    if amnesty.is_owed(asked_at) {
        let leases = crash::around("amnesty", sweeper.store.grant_amnesty()).await?;
        if leases > 0 {
            tracing::info!(leases, "leases get a full life: nobody could be heard for a while");
        }
    }
    let sweep = sweeper.store.sweep(BATCH, intact.lanes.clone());
    let swept = crash::around("sweep", sweep).await?;
    amnesty.swept(asked_at);
    metrics::swept(swept.changed);
    if swept.changed >= BATCH {
        return Ok(Duration::ZERO);
    }
    let asked_for = sweeper.events.take_sweep_at();
    let next = swept.next_due.into_iter().chain(asked_for).min();
    let now = sweeper.clock.now();
    Ok(next.map_or(TICK, |at| at.since(now).clamp(Duration::from_millis(1), TICK)))
}

/// Queues that have lost nothing, see [`is_intact`].
#[derive(Debug, Default)]
struct Intact {
    asked_at: Option<Timestamp>,
    lanes: Vec<Lane>,
}

impl Intact {
    /// Asks the broker, if it has not been asked a moment ago.
    async fn refresh(&mut self, sweeper: &Sweeper) {
        let now = sweeper.clock.now();
        let fresh = DEPTH_AGE.min(sweeper.fleet.job_policy.lease.redispatch_after / 4);
        if self.asked_at.is_some_and(|at| now.since(at) < fresh) {
            return;
        }
        self.asked_at = Some(now);
        let counts = sweeper.store.counts();
        let dispatched = |lane: &Lane| counts.of_lane(lane).get(StateKind::Dispatched);
        let lanes = counts.lanes().into_iter().filter(|lane| dispatched(lane) > 0);
        let asked = lanes.map(|lane| async move {
            let depth = timeout(DEPTH_LIMIT, sweeper.publisher.depth(&lane)).await;
            (lane, depth.ok().and_then(Result::ok))
        });
        self.lanes = join_all(asked)
            .await
            .into_iter()
            .filter(|(lane, depth)| {
                depth.is_some_and(|depth| is_intact(depth.ready, dispatched(lane)))
            })
            .map(|(lane, _)| lane)
            .collect();
    }
}

async fn retain(sweeper: Sweeper, shutdown: CancellationToken) {
    loop {
        if !sweeper.store.leads(Role::Retention)
            && shutdown.run_until_cancelled(sweeper.store.lead(Role::Retention)).await.is_none()
        {
            return;
        }
        let removed = remove_old(&sweeper).await;
        let pause = if removed { Duration::from_millis(20) } else { RETENTION_TICK };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// One small round, so that submits are not held up; true when there may be more.
async fn remove_old(sweeper: &Sweeper) -> bool {
    let now = sweeper.clock.now();
    let retention = &sweeper.fleet.retention;
    let (results, jobs) = (now.before(retention.results), now.before(retention.jobs));
    let machines = sweeper.store.expire_machines(now.before(MACHINES_KEPT), BATCH / 4);
    if let Err(error) = machines.await {
        tracing::debug!(%error, "machines of long ago are forgotten later");
    }
    let expire = sweeper.store.expire_retention(results, jobs, BATCH / 4);
    match crash::around("retention", expire).await {
        Ok(removed) => removed > 0,
        Err(StoreError::NotLeading) => false,
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "old jobs could not be removed; trying again"
            );
            false
        }
    }
}
