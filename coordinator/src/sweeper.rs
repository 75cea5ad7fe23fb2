//! Applies what time brings: lease expiry, redispatch, retries, deadlines; and removes what has been
//! kept long enough.
//!
//! A coordinator that was not listening must not punish workers for it: after a start, a store that
//! could not be reached, or a pause of the whole process, every lease gets a full life first.

use std::sync::Arc;
use std::time::Duration;

use stoker_core::fleet::Fleet;
use stoker_core::time::Timestamp;
use stoker_runtime::clock::Clock;
use stoker_runtime::retry::Delays;
use stoker_runtime::tasks::Tasks;
use tokio_util::sync::CancellationToken;

use crate::events::Events;
use crate::metrics;
use crate::store::{JobStore, StoreError};

/// Jobs in one commit.
const BATCH: u32 = 512;
/// Sweeps come at least this often.
const TICK: Duration = Duration::from_secs(1);
/// Pause between rounds of retention.
const RETENTION_TICK: Duration = Duration::from_secs(30);

/// What the sweeper works with.
#[derive(Debug, Clone)]
pub struct Sweeper {
    pub store: Arc<dyn JobStore>,
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
    loop {
        let round = sweep_round(&sweeper, &mut amnesty).await;
        let pause = match round {
            Ok(pause) => {
                delays.reset();
                pause
            }
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
async fn sweep_round(sweeper: &Sweeper, amnesty: &mut Amnesty) -> Result<Duration, StoreError> {
    if amnesty.is_owed(sweeper.clock.now()) {
        let leases = sweeper.store.grant_amnesty().await?;
        if leases > 0 {
            tracing::info!(leases, "leases get a full life: nobody could be heard for a while");
        }
    }
    let swept = sweeper.store.sweep(BATCH).await?;
    let now = sweeper.clock.now();
    amnesty.swept(now);
    metrics::swept(swept.changed);
    if swept.changed >= BATCH {
        return Ok(Duration::ZERO);
    }
    let asked_for = sweeper.events.take_sweep_at();
    let next = swept.next_due.into_iter().chain(asked_for).min();
    Ok(next.map_or(TICK, |at| at.since(now).clamp(Duration::from_millis(1), TICK)))
}

/// Whether leases may be expired, or everyone has to be given time to be heard first.
#[derive(Debug)]
struct Amnesty {
    lease: Duration,
    last_sweep: Option<Timestamp>,
}

impl Amnesty {
    fn new(lease: Duration) -> Self {
        Self { lease, last_sweep: None }
    }

    /// At the first sweep, and when the last one that went through is half a lease ago.
    fn is_owed(&self, now: Timestamp) -> bool {
        self.last_sweep.is_none_or(|at| now.since(at) > self.lease / 2)
    }

    fn swept(&mut self, now: Timestamp) {
        self.last_sweep = Some(now);
    }
}

async fn retain(sweeper: Sweeper, shutdown: CancellationToken) {
    loop {
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
    match sweeper.store.expire_retention(results, jobs, BATCH / 4).await {
        Ok(removed) => removed > 0,
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "old jobs could not be removed; trying again"
            );
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_unix_millis(1_000_000);

    #[test]
    fn amnesty_is_owed_at_the_start_and_after_a_pause() {
        let mut amnesty = Amnesty::new(Duration::from_secs(30));
        assert!(amnesty.is_owed(START));
        amnesty.swept(START);
        assert!(!amnesty.is_owed(START.after(Duration::from_secs(1))));
        assert!(amnesty.is_owed(START.after(Duration::from_secs(16))));
    }
}
