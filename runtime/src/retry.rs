//! Trying again with growing, jittered delays, always within a bound.
//!
//! The only place that uses `backoff`: the customer named it, it is unmaintained, and no type of
//! it leaves this file. It gives the growth of the delays; jitter and bounds are ours.

use std::future::Future;
use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::ids;

/// The bound of a policy that names none.
pub const DEFAULT_MAX_ELAPSED: Duration = Duration::from_mins(15);

/// No bound is longer, whatever a policy says: clocks overflow.
const LONGEST_BOUND: Duration = Duration::from_hours(365 * 24);

/// No limit is shorter: a limit of zero would never grow and spin.
const SHORTEST_LIMIT: Duration = Duration::from_millis(1);

/// How long to try, and how fast.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryPolicy {
    /// The longest the first delay may be.
    pub initial: Duration,
    /// The longest any delay may be.
    pub max_interval: Duration,
    /// Growth of that limit from one delay to the next; below 1 counts as 1.
    pub multiplier: f64,
    /// From the first try, including the tries themselves; `None` means [`DEFAULT_MAX_ELAPSED`].
    pub max_elapsed: Option<Duration>,
}

impl Default for RetryPolicy {
    /// Up to 100 ms, doubling to 10 s, for one minute.
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(100),
            max_interval: Duration::from_secs(10),
            multiplier: 2.0,
            max_elapsed: Some(Duration::from_mins(1)),
        }
    }
}

/// What an error says about trying again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retryable {
    /// It may work next time.
    Transient,
    /// The other side asked for at least this delay.
    After(Duration),
    /// It will never work.
    Permanent,
}

/// Why [`retry`] gave up.
#[derive(Debug, thiserror::Error)]
pub enum RetryError<E: std::error::Error + 'static> {
    #[error("cannot {what}")]
    Permanent {
        what: &'static str,
        #[source]
        source: E,
    },
    /// The bound passed. Without a source, the only try was still under way.
    #[error("cannot {what}: gave up after {attempts} tries in {:.1} s", elapsed.as_secs_f64())]
    Exhausted {
        what: &'static str,
        attempts: u32,
        elapsed: Duration,
        #[source]
        source: Option<E>,
    },
    #[error("stopped trying to {what}: the process is shutting down")]
    Shutdown {
        what: &'static str,
        #[source]
        source: Option<E>,
    },
}

impl<E: std::error::Error + 'static> RetryError<E> {
    /// The last error of the operation, if a try came back.
    pub fn into_source(self) -> Option<E> {
        match self {
            Self::Permanent { source, .. } => Some(source),
            Self::Exhausted { source, .. } | Self::Shutdown { source, .. } => source,
        }
    }
}

/// Runs `op` until it succeeds, fails for good, the policy's bound passes, or `shutdown` comes.
///
/// `what` completes "cannot ..." and "trying to ...". A try under way when the bound passes or
/// shutdown comes is dropped, so `op` must be repeatable and safe to drop; give a fresh token to
/// let work outlive the process's shutdown.
pub async fn retry<T, E, F, Fut>(
    policy: RetryPolicy,
    what: &'static str,
    shutdown: &CancellationToken,
    mut op: F,
    classify: impl Fn(&E) -> Retryable,
) -> Result<T, RetryError<E>>
where
    E: std::error::Error + 'static,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let started = Instant::now();
    let bound = started + policy.max_elapsed.unwrap_or(DEFAULT_MAX_ELAPSED).min(LONGEST_BOUND);
    let mut delays = Delays::of(&policy);
    let mut attempts = 0;
    let mut last = None;
    loop {
        if shutdown.is_cancelled() {
            return Err(RetryError::Shutdown { what, source: last });
        }
        attempts += 1;
        let tried = tokio::select! {
            // The outcome of a try that has ended is not thrown away.
            biased;
            tried = timeout_at(bound, op()) => tried,
            () = shutdown.cancelled() => return Err(RetryError::Shutdown { what, source: last }),
        };
        let exhausted = |source| {
            Err(RetryError::Exhausted { what, attempts, elapsed: started.elapsed(), source })
        };
        let error = match tried {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => error,
            Err(_) => return exhausted(last),
        };
        let delay = match classify(&error) {
            Retryable::Permanent => return Err(RetryError::Permanent { what, source: error }),
            Retryable::Transient => delays.next_delay(),
            Retryable::After(wait) => delays.next_delay().max(wait),
        };
        if bound.saturating_duration_since(Instant::now()) <= delay {
            return exhausted(Some(error));
        }
        debug!(what, attempts, ?delay, %error, "trying again");
        last = Some(error);
        tokio::select! {
            () = shutdown.cancelled() => return Err(RetryError::Shutdown { what, source: last }),
            () = sleep(delay) => {}
        }
    }
}

/// An endless sequence of delays for a loop that must never give up, such as a reconnect.
///
/// Each delay is uniform between zero and a limit that doubles up to the cap ("full jitter"), so
/// that a fleet that lost its broker does not come back in step.
#[derive(Debug)]
pub struct Delays {
    limits: ExponentialBackoff,
}

impl Delays {
    /// The first delay is at most `initial`, none is over `max_interval`.
    pub fn new(initial: Duration, max_interval: Duration) -> Self {
        Self::of(&RetryPolicy { initial, max_interval, ..RetryPolicy::default() })
    }

    fn of(policy: &RetryPolicy) -> Self {
        let max_interval = policy.max_interval.max(SHORTEST_LIMIT);
        let initial = policy.initial.clamp(SHORTEST_LIMIT, max_interval);
        let limits = ExponentialBackoff {
            current_interval: initial,
            initial_interval: initial,
            max_interval,
            multiplier: policy.multiplier.max(1.0),
            randomization_factor: 0.0,
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        Self { limits }
    }

    /// The next delay.
    pub fn next_delay(&mut self) -> Duration {
        let limit = self.limits.next_backoff().unwrap_or(self.limits.max_interval);
        limit.min(self.limits.max_interval).mul_f64(ids::jitter())
    }

    /// Starts over with short delays: call it once the connection has proved itself.
    pub fn reset(&mut self) {
        self.limits.reset();
    }

    /// Waits for the next delay; `false` if shutdown came first.
    pub async fn wait(&mut self, shutdown: &CancellationToken) -> bool {
        let delay = self.next_delay();
        tokio::select! {
            biased;
            () = shutdown.cancelled() => false,
            () = sleep(delay) => true,
        }
    }
}

#[cfg(test)]
#[path = "retry/tests.rs"]
mod tests;
