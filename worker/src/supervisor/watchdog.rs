//! Does an engine that has work make progress? The time it may take grows with its batches.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stoker_engine_api::{FromEngine, ToEngine};
use tokio::time::Instant;

/// Time that each token of a batch may take: a small model on a slow core needs a tenth of it.
const PER_TOKEN: Duration = Duration::from_millis(20);

/// No batch may take longer, whatever its tokens.
const LONGEST: Duration = Duration::from_hours(1);

/// Follows the messages of one engine. Shared by the tasks that write and read them.
#[derive(Debug)]
pub(super) struct Watchdog {
    stall_limit: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The last sign of progress, or the start of work after idleness.
    since: Instant,
    prepares: u64,
    /// Tokens of each batch that is under way.
    batches: BTreeMap<u64, u64>,
}

impl State {
    fn is_idle(&self) -> bool {
        self.prepares == 0 && self.batches.is_empty()
    }
}

impl Watchdog {
    pub(super) fn new(stall_limit: Duration, now: Instant) -> Self {
        let state = State { since: now, prepares: 0, batches: BTreeMap::new() };
        Self { stall_limit, state: Mutex::new(state) }
    }

    /// A message goes to the engine; `tokens` is what it costs if it is a batch.
    pub(super) fn sent(&self, message: &ToEngine, tokens: u64, now: Instant) {
        let mut state = self.state();
        if state.is_idle() {
            state.since = now;
        }
        match message {
            ToEngine::Prepare { .. } => state.prepares += 1,
            ToEngine::Run { batch, .. } => {
                state.batches.insert(*batch, tokens);
            }
            ToEngine::Forget { .. } | ToEngine::Shutdown => {}
        }
    }

    /// A message came from the engine: progress.
    pub(super) fn heard(&self, message: &FromEngine, now: Instant) {
        let mut state = self.state();
        state.since = now;
        match message {
            FromEngine::Prepared { .. } => state.prepares = state.prepares.saturating_sub(1),
            FromEngine::Done { batch, .. } | FromEngine::Failed { batch, .. } => {
                state.batches.remove(batch);
            }
            FromEngine::Hello { .. } | FromEngine::Ready(_) | FromEngine::Fatal { .. } => {}
        }
    }

    /// When to look again. An engine that gets work meanwhile is overdue no earlier.
    pub(super) fn deadline(&self, now: Instant) -> Instant {
        let state = self.state();
        if state.is_idle() { now + self.stall_limit } else { self.due(&state) }
    }

    /// How long the engine has been silent, if that is too long.
    pub(super) fn overdue(&self, now: Instant) -> Option<Duration> {
        let state = self.state();
        (!state.is_idle() && now >= self.due(&state)).then(|| now - state.since)
    }

    fn due(&self, state: &State) -> Instant {
        // In the worst case the batches run one after another.
        let tokens = u32::try_from(state.batches.values().sum::<u64>()).unwrap_or(u32::MAX);
        state.since + self.stall_limit + PER_TOKEN.saturating_mul(tokens).min(LONGEST)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use stoker_engine_api::ItemKey;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn run(batch: u64) -> ToEngine {
        ToEngine::Run { batch, items: vec![ItemKey(batch)] }
    }

    fn done(batch: u64) -> FromEngine {
        FromEngine::Done { batch, outputs: Vec::new(), busy_micros: 1 }
    }

    #[test]
    fn an_idle_engine_may_be_silent_for_ever() {
        let start = Instant::now();
        let dog = Watchdog::new(LIMIT, start);
        let much_later = start + Duration::from_secs(1_000_000);
        assert_eq!(dog.overdue(much_later), None);
        assert_eq!(dog.deadline(much_later), much_later + LIMIT);
        // Work that begins after a long silence gets its full time.
        dog.sent(&run(1), 0, much_later);
        assert_eq!(dog.overdue(much_later), None);
        assert_eq!(dog.overdue(much_later + LIMIT), Some(LIMIT));
    }

    #[test]
    fn a_large_batch_may_take_longer_and_progress_starts_the_time_anew() {
        let start = Instant::now();
        let dog = Watchdog::new(LIMIT, start);
        dog.sent(&run(1), 500, start);
        dog.sent(&run(2), 500, start);
        let allowed = LIMIT + PER_TOKEN * 1_000;
        assert_eq!(dog.deadline(start), start + allowed);
        assert_eq!(dog.overdue(start + allowed - Duration::from_millis(1)), None);
        let later = start + Duration::from_secs(9);
        dog.heard(&done(1), later);
        assert_eq!(dog.deadline(later), later + LIMIT + PER_TOKEN * 500);
        dog.heard(&done(2), later);
        assert_eq!(dog.overdue(later + LONGEST * 2), None);
    }

    #[test]
    fn preparing_is_watched_too() {
        let start = Instant::now();
        let dog = Watchdog::new(LIMIT, start);
        dog.sent(&ToEngine::Prepare { items: Vec::new() }, 0, start);
        assert_eq!(dog.overdue(start + LIMIT), Some(LIMIT));
        dog.heard(&FromEngine::Prepared { items: Vec::new() }, start + LIMIT);
        assert_eq!(dog.overdue(start + LIMIT * 3), None);
    }
}
