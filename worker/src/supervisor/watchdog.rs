//! Does an engine that has work make progress, on every lane? The time it may take grows with its
//! batches.
//!
//! Each batch and each `Prepare` has a clock of its own, so that one lane that hangs is noticed while
//! the others go on.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stoker_engine_api::{FromEngine, ItemKey, MAX_PREPARE_THREADS, ToEngine};
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
    /// By the first item, which the answer begins with.
    prepares: Line<ItemKey>,
    batches: Line<u64>,
}

/// Work that the engine takes in the order of its keys, `width` at a time.
#[derive(Debug)]
struct Line<K> {
    width: usize,
    work: BTreeMap<K, Work>,
}

#[derive(Debug)]
struct Work {
    tokens: u64,
    /// When the engine can have begun with it; none while it waits behind others.
    since: Option<Instant>,
}

impl<K: Ord> Line<K> {
    const fn new(width: usize) -> Self {
        Self { width, work: BTreeMap::new() }
    }

    fn add(&mut self, key: K, tokens: u64, now: Instant) {
        self.work.insert(key, Work { tokens, since: None });
        self.begin(now);
    }

    fn remove(&mut self, key: &K, now: Instant) {
        self.work.remove(key);
        self.begin(now);
    }

    fn begin(&mut self, now: Instant) {
        for work in self.work.values_mut().take(self.width) {
            work.since.get_or_insert(now);
        }
    }

    /// All of it makes progress together.
    fn begin_anew(&mut self, now: Instant) {
        for work in self.work.values_mut() {
            work.since = work.since.map(|_| now);
        }
    }

    fn oldest(&self) -> Option<Instant> {
        self.work.values().filter_map(|work| work.since).min()
    }

    fn tokens(&self) -> u64 {
        self.work.values().map(|work| work.tokens).sum()
    }
}

impl Watchdog {
    /// `lanes`: batches that the engine runs at the same time.
    pub(super) fn new(stall_limit: Duration, lanes: u32) -> Self {
        let lanes = usize::try_from(lanes).unwrap_or(usize::MAX).max(1);
        let (prepares, batches) = (Line::new(MAX_PREPARE_THREADS), Line::new(lanes));
        Self { stall_limit, state: Mutex::new(State { prepares, batches }) }
    }

    /// A message goes to the engine; `tokens` is what it costs if it is a batch.
    pub(super) fn sent(&self, message: &ToEngine, tokens: u64, now: Instant) {
        let mut state = self.state();
        match message {
            ToEngine::Prepare { items } => {
                if let Some((first, _)) = items.first() {
                    state.prepares.add(*first, 0, now);
                }
            }
            ToEngine::Run { batch, .. } => state.batches.add(*batch, tokens, now),
            ToEngine::Forget { .. } | ToEngine::Shutdown => {}
        }
    }

    /// A message came from the engine: one piece of work is done.
    pub(super) fn heard(&self, message: &FromEngine, now: Instant) {
        let mut state = self.state();
        match message {
            FromEngine::Prepared { items } => {
                if let Some((first, _)) = items.first() {
                    state.prepares.remove(first, now);
                }
            }
            FromEngine::Done { batch, .. } | FromEngine::Failed { batch, .. } => {
                state.batches.remove(batch, now);
            }
            FromEngine::Said { .. } => state.batches.begin_anew(now),
            FromEngine::Hello { .. } | FromEngine::Ready(_) | FromEngine::Fatal { .. } => {}
        }
    }

    /// When to look again. An engine that gets work meanwhile is overdue no earlier.
    pub(super) fn deadline(&self, now: Instant) -> Instant {
        let due = self.clocks().into_iter().flatten().map(|(_, due)| due).min();
        due.unwrap_or(now + self.stall_limit)
    }

    /// How long the engine has been busy with one thing, if that is too long.
    pub(super) fn overdue(&self, now: Instant) -> Option<Duration> {
        let clocks = self.clocks().into_iter().flatten();
        clocks.filter(|(_, due)| *due <= now).map(|(since, _)| now - since).max()
    }

    /// When the oldest `Prepare` and the oldest batch began, and when they must be done.
    fn clocks(&self) -> [Option<(Instant, Instant)>; 2] {
        let state = self.state();
        // In the worst case the batches run one after another.
        let tokens = u32::try_from(state.batches.tokens()).unwrap_or(u32::MAX);
        let for_batches = self.stall_limit + PER_TOKEN.saturating_mul(tokens).min(LONGEST);
        [
            state.prepares.oldest().map(|since| (since, since + self.stall_limit)),
            state.batches.oldest().map(|since| (since, since + for_batches)),
        ]
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use stoker_engine_api::ItemInput;

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
        let dog = Watchdog::new(LIMIT, 1);
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
        let dog = Watchdog::new(LIMIT, 1);
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

    fn prepare(first: u64) -> ToEngine {
        ToEngine::Prepare { items: vec![(ItemKey(first), ItemInput::Text(String::new()))] }
    }

    fn prepared(first: u64) -> FromEngine {
        FromEngine::Prepared { items: vec![(ItemKey(first), Ok(1))] }
    }

    #[test]
    fn preparing_is_watched_too() {
        let start = Instant::now();
        let dog = Watchdog::new(LIMIT, 1);
        dog.sent(&prepare(1), 0, start);
        assert_eq!(dog.overdue(start + LIMIT), Some(LIMIT));
        dog.heard(&prepared(1), start + LIMIT);
        assert_eq!(dog.overdue(start + LIMIT * 3), None);
    }

    #[test]
    fn one_lane_that_hangs_is_noticed_while_others_make_progress() {
        let start = Instant::now();
        let dog = Watchdog::new(LIMIT, 2);
        dog.sent(&run(0), 0, start);
        let mut now = start;
        for batch in 1..20 {
            dog.sent(&run(batch), 0, now);
            now += Duration::from_secs(1);
            dog.heard(&done(batch), now);
            let expected = (now >= start + LIMIT).then(|| now - start);
            assert_eq!(dog.overdue(now), expected);
        }
    }

    #[test]
    fn texts_that_are_generated_together_begin_anew_together() {
        let start = Instant::now();
        let dog = Watchdog::new(LIMIT, 2);
        dog.sent(&run(1), 0, start);
        dog.sent(&run(2), 0, start);
        let later = start + LIMIT / 2;
        let piece = stoker_engine_api::Piece::default();
        dog.heard(&FromEngine::Said { batch: 1, item: ItemKey(1), piece }, later);
        assert_eq!((dog.overdue(start + LIMIT), dog.deadline(later)), (None, later + LIMIT));
        assert_eq!(dog.overdue(later + LIMIT), Some(LIMIT));
    }

    #[test]
    fn one_prepare_that_hangs_is_noticed_while_others_make_progress() {
        let start = Instant::now();
        let dog = Watchdog::new(LIMIT, 1);
        dog.sent(&prepare(0), 0, start);
        for first in 1..20 {
            dog.sent(&prepare(first), 0, start);
            dog.heard(&prepared(first), start + LIMIT);
        }
        assert_eq!(dog.overdue(start + LIMIT), Some(LIMIT));
    }

    #[test]
    fn a_batch_that_waits_behind_the_lanes_gets_its_full_time_afterwards() {
        let start = Instant::now();
        let dog = Watchdog::new(LIMIT, 1);
        dog.sent(&run(1), 0, start);
        dog.sent(&run(2), 0, start);
        let later = start + LIMIT / 2;
        dog.heard(&done(1), later);
        assert_eq!(dog.deadline(later), later + LIMIT);
        assert_eq!(dog.overdue(start + LIMIT), None);
    }
}
