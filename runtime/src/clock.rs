//! What time it is, as a value that tests can set.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use stoker_core::time::Timestamp;

/// Tells the time. Shared as `Arc<dyn Clock>`; nothing outside this crate reads the time otherwise.
pub trait Clock: Send + Sync + Debug {
    /// The present time. Never goes back within one process.
    fn now(&self) -> Timestamp;
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> Timestamp {
        (**self).now()
    }
}

/// The machine's time: the wall clock read once, then a monotonic clock.
///
/// An operator or a time daemon that sets the wall clock while the process runs therefore expires
/// no lease and fires no deadline; the jump takes effect at the next start.
#[derive(Debug, Clone)]
pub struct SystemClock {
    base: Timestamp,
    started: Instant,
}

impl SystemClock {
    /// Reads the wall clock once.
    pub fn new() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { base: Timestamp::from_unix_millis(0).after(since_epoch), started: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        self.base.after(self.started.elapsed())
    }
}

/// A clock that stands still until a test moves it. Clones show the same time.
#[derive(Debug, Clone, Default)]
pub struct ManualClock {
    millis: Arc<AtomicI64>,
}

impl ManualClock {
    pub fn new(start: Timestamp) -> Self {
        Self { millis: Arc::new(AtomicI64::new(start.as_unix_millis())) }
    }

    /// Moves to `now`, which may be earlier than the present time.
    pub fn set(&self, now: Timestamp) {
        self.millis.store(now.as_unix_millis(), Ordering::SeqCst);
    }

    /// Moves forward by `duration`, saturating at [`Timestamp::MAX`].
    pub fn advance(&self, duration: Duration) {
        let step = |millis| Some(Timestamp::from_unix_millis(millis).after(duration));
        self.millis
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |millis| {
                step(millis).map(Timestamp::as_unix_millis)
            })
            .expect("the update function never refuses");
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_millis(self.millis.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_clock_tells_the_wall_time_and_never_goes_back() {
        let clock = SystemClock::new();
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let first = clock.now();
        let wall = Timestamp::from_unix_millis(0).after(wall);
        assert!(wall.since(first) < Duration::from_mins(1));
        assert!(first.since(wall) < Duration::from_mins(1));
        for _ in 0..1_000 {
            assert!(clock.now() >= first);
        }
    }

    #[test]
    fn manual_clock_moves_for_every_holder() {
        let clock = ManualClock::new(Timestamp::from_unix_millis(1_000));
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        clock.advance(Duration::from_secs(2));
        assert_eq!(shared.now(), Timestamp::from_unix_millis(3_000));
        clock.set(Timestamp::from_unix_millis(5));
        assert_eq!(Arc::clone(&shared).now(), Timestamp::from_unix_millis(5));
        clock.advance(Duration::MAX);
        assert_eq!(shared.now(), Timestamp::MAX);
    }
}
