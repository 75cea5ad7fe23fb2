//! How fast each queue's jobs end, which decides how many of them are let out at once.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stoker_core::job::StateKind;
use stoker_core::time::Timestamp;
use stoker_core::window::{self, WindowPolicy};

use crate::store::{Counts, Lane};

/// Readings that are closer together say little.
const TICK: Duration = Duration::from_secs(1);
/// Weight of the newest reading: at one reading a second, a rate follows within some ten seconds.
const NEWEST: f64 = 0.2;

/// Jobs that ended per second, smoothed, by queue.
#[derive(Debug, Default)]
pub struct Throughput(Mutex<Readings>);

#[derive(Debug, Default)]
struct Readings {
    observed_at: Option<Timestamp>,
    lanes: BTreeMap<Lane, Rate>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Rate {
    ended: u64,
    per_second: f64,
}

impl Throughput {
    /// Takes a new reading if the last one is old enough.
    pub fn observe(&self, now: Timestamp, counts: &Counts) {
        let mut readings = self.readings();
        let seconds = match readings.observed_at {
            Some(at) if now.since(at) < TICK => return,
            Some(at) => now.since(at).as_secs_f64(),
            None => f64::INFINITY,
        };
        readings.observed_at = Some(now);
        for lane in counts.lanes() {
            let of_lane = counts.of_lane(&lane);
            let ended: u64 = StateKind::ALL
                .into_iter()
                .filter(|state| state.is_terminal())
                .map(|state| of_lane.get(state))
                .sum();
            let rate = readings.lanes.entry(lane).or_insert(Rate { ended, per_second: 0.0 });
            // Retention lowers the count; that is no throughput.
            let newly = u32::try_from(ended.saturating_sub(rate.ended)).unwrap_or(u32::MAX);
            let measured = f64::from(newly) / seconds;
            rate.per_second += NEWEST * (measured - rate.per_second);
            rate.ended = ended;
        }
    }

    /// Jobs of a queue that may be in flight, when ready workers have this many slots for it.
    pub fn window(&self, lane: &Lane, slots: u32) -> u32 {
        let per_second = self.readings().lanes.get(lane).map_or(0.0, |rate| rate.per_second);
        window::size(slots, per_second, WindowPolicy::default())
    }

    fn readings(&self) -> MutexGuard<'_, Readings> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use stoker_core::ids::{ClassName, ModelName, PoolName, TenantName};

    use super::*;
    use crate::store::StateCounts;

    fn lane() -> Lane {
        Lane { pool: PoolName::new("default").unwrap(), model: ModelName::new("mini").unwrap() }
    }

    fn ended(jobs: u64) -> Counts {
        let mut counts = StateCounts::default();
        counts.add(StateKind::Succeeded, jobs);
        let names = (TenantName::new("a").unwrap(), ClassName::new("b").unwrap());
        Counts([((lane(), names.0, names.1), counts)].into())
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_millis(seconds * 1_000)
    }

    #[test]
    fn the_window_follows_the_rate_up_and_down() {
        let throughput = Throughput::default();
        // What had ended before the first reading is no throughput.
        throughput.observe(at(0), &ended(5_000));
        assert_eq!(throughput.window(&lane(), 10), 20);
        for second in 1..=30 {
            throughput.observe(at(second), &ended(5_000 + 1_000 * second.unsigned_abs()));
        }
        let busy = throughput.window(&lane(), 10);
        assert!((990..=1_000).contains(&busy), "{busy}");
        for second in 31..=90 {
            throughput.observe(at(second), &ended(35_000));
        }
        assert_eq!(throughput.window(&lane(), 10), 20);
    }

    #[test]
    fn readings_that_are_too_close_are_left_out_and_retention_is_no_work() {
        let throughput = Throughput::default();
        throughput.observe(at(0), &ended(0));
        throughput.observe(Timestamp::from_unix_millis(10), &ended(4_000));
        assert_eq!(throughput.window(&lane(), 0), 2);
        throughput.observe(at(1), &ended(4_000));
        let before = throughput.window(&lane(), 0);
        assert_eq!(before, 800);
        throughput.observe(at(2), &ended(10));
        assert!(throughput.window(&lane(), 0) < before);
    }
}
