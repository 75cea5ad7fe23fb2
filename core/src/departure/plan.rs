//! Which jobs of an engine end before the worker has to, and when all of them do.

use std::time::Duration;

/// What runs the jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Engine {
    /// Batches that it runs at the same time; 0 counts as 1.
    pub lanes: usize,
    /// How long a batch may take: nothing is started that would not come back.
    pub batch: Duration,
}

/// What is left of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remaining<J> {
    pub job: J,
    /// Items that are not done, those that run now included.
    pub items: u64,
    /// Time of one lane for one of them; `None`: not measured.
    pub per_item: Option<Duration>,
}

impl<J> Remaining<J> {
    fn work(&self) -> Option<Duration> {
        let nanos = self.per_item?.as_nanos().saturating_mul(u128::from(self.items));
        Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }
}

/// Estimates are taken this much longer (a quarter) than measured: what happens between batches was not.
const MARGIN_DIVISOR: u32 = 4;

/// The jobs that do not end within `left` and are to be handed over now.
///
/// The shortest stay, which are the most that can end in time: all have the same deadline. Work is spread
/// over the lanes, and its last batch runs on one. Jobs without a measurement stay and count nothing. To be
/// asked again whenever something has ended: an estimate that was too good is noticed while there is time.
#[must_use]
pub fn hand_over<J: Copy + Ord>(jobs: &[Remaining<J>], engine: Engine, left: Duration) -> Vec<J> {
    let mut measured: Vec<(Duration, J)> =
        jobs.iter().filter_map(|job| Some((job.work()?, job.job))).collect();
    measured.sort_unstable();
    let mut taken = Duration::ZERO;
    let mut given = Vec::new();
    for (work, job) in measured {
        let all = taken.saturating_add(work);
        if takes(all, engine) <= left {
            taken = all;
        } else {
            given.push(job);
        }
    }
    given
}

/// How long the engine needs for all that is left of the jobs, with the margin that [`hand_over`] has; `None` if of one of
/// them nothing was measured.
#[must_use]
pub fn time_left<J>(jobs: &[Remaining<J>], engine: Engine) -> Option<Duration> {
    let open = jobs.iter().filter(|job| job.items > 0);
    let mut works = open.map(Remaining::work);
    let all = works.try_fold(Duration::ZERO, |all, one| Some(all.saturating_add(one?)))?;
    Some(takes(all, engine))
}

/// How long `work` takes with a margin: all lanes share it but for its last batch.
fn takes(work: Duration, engine: Engine) -> Duration {
    let lanes = u32::try_from(engine.lanes).unwrap_or(u32::MAX).max(1);
    let last = engine.batch.min(work);
    let time = (work.saturating_sub(last) / lanes).saturating_add(last);
    time.saturating_add(time / MARGIN_DIVISOR)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn job(job: u32, items: u64, millis: u64) -> Remaining<u32> {
        Remaining { job, items, per_item: Some(Duration::from_millis(millis)) }
    }

    fn engine(lanes: usize) -> Engine {
        Engine { lanes, batch: Duration::from_millis(100) }
    }

    #[test]
    fn a_job_that_ends_in_time_is_finished_and_one_that_does_not_goes() {
        assert!(hand_over(&[job(1, 100, 10)], engine(1), 2 * SECOND).is_empty());
        assert_eq!(hand_over(&[job(1, 1_000, 10)], engine(1), 2 * SECOND), [1]);
        assert!(hand_over(&[job(1, 1_000, 10)], engine(10), 2 * SECOND).is_empty(), "ten lanes");
    }

    #[test]
    fn the_shortest_stay_so_that_most_end() {
        let jobs = [job(1, 150, 10), job(2, 50, 10), job(3, 60, 10)];
        assert_eq!(hand_over(&jobs, engine(1), 2 * SECOND), [1]);
    }

    #[test]
    fn more_lanes_do_not_make_a_batch_shorter() {
        let slow = Engine { lanes: 8, batch: 3 * SECOND };
        assert_eq!(hand_over(&[job(1, 1, 3_000)], slow, 2 * SECOND), [1]);
        assert!(hand_over(&[job(1, 1, 3_000)], slow, 4 * SECOND).is_empty());
    }

    #[test]
    fn nothing_is_left_without_time_and_the_unmeasured_waits_for_its_first_batch() {
        let unmeasured = Remaining { job: 1, items: 9, per_item: None };
        assert_eq!(hand_over(&[unmeasured, job(2, 1, 1)], engine(1), Duration::ZERO), [2]);
        assert!(hand_over(&[job(2, 9, 0)], engine(1), Duration::ZERO).is_empty(), "takes no time");
    }

    #[test]
    fn the_time_that_is_left_is_of_all_items_over_all_lanes_and_of_nothing_unmeasured() {
        let jobs = [job(1, 150, 10), job(2, 50, 10)];
        // Two seconds of work, of which the last batch runs on one lane, and a quarter more.
        let seconds = |lanes| time_left(&jobs, engine(lanes)).unwrap().as_secs_f64();
        assert!((seconds(1) - 2.5).abs() < 1e-9, "{}", seconds(1));
        assert!((seconds(4) - (1.9 / 4.0 + 0.1) * 1.25).abs() < 1e-9, "{}", seconds(4));
        let unmeasured = Remaining { job: 3, items: 1, per_item: None };
        assert_eq!(time_left(&[jobs[0], unmeasured], engine(1)), None);
        // Of what is done, nothing needs to be known.
        let done = Remaining { items: 0, ..unmeasured };
        assert_eq!(time_left(&[jobs[0], done], engine(1)), time_left(&jobs[..1], engine(1)));
        assert_eq!(time_left::<u32>(&[], engine(1)), Some(Duration::ZERO));
    }

    proptest! {
        /// What a worker tells and what it hands over are one reckoning.
        #[test]
        fn all_stays_as_long_as_the_time_that_is_left_is_there(
            works in vec((1_u64..2_000, 1_u64..50), 0..20),
            lanes in 1_usize..9,
        ) {
            let jobs: Vec<_> =
                (0..).zip(works).map(|(key, (items, millis))| job(key, items, millis)).collect();
            let left = time_left(&jobs, engine(lanes)).unwrap();
            prop_assert!(hand_over(&jobs, engine(lanes), left).is_empty());
            let shorter = left.saturating_sub(Duration::from_nanos(1));
            prop_assert_eq!(hand_over(&jobs, engine(lanes), shorter).is_empty(), jobs.is_empty());
        }

        #[test]
        fn what_stays_fits_and_more_time_never_hands_over_more(
            works in vec((1_u64..2_000, 1_u64..50), 0..20),
            lanes in 1_usize..9,
            left in 0_u64..60_000,
            more in 0_u64..60_000,
        ) {
            let jobs: Vec<_> =
                (0..).zip(works).map(|(number, (items, millis))| job(number, items, millis)).collect();
            let left = Duration::from_millis(left);
            let given = hand_over(&jobs, engine(lanes), left);
            let stays: Duration = jobs
                .iter()
                .filter(|job| !given.contains(&job.job))
                .filter_map(Remaining::work)
                .sum();
            prop_assert!(takes(stays, engine(lanes)) <= left);
            for job in jobs.iter().filter(|job| given.contains(&job.job)) {
                let with = stays + job.work().unwrap_or_default();
                prop_assert!(takes(with, engine(lanes)) > left, "there was room for it");
            }
            let later = hand_over(&jobs, engine(lanes), left + Duration::from_millis(more));
            prop_assert!(later.len() <= given.len());
        }

        #[test]
        fn extreme_figures_do_not_overflow(items: u64, nanos: u64, lanes: usize, left: u64) {
            let jobs = [Remaining { job: 0, items, per_item: Some(Duration::from_nanos(nanos)) }; 3];
            let engine = Engine { lanes, batch: Duration::from_nanos(nanos) };
            prop_assert!(time_left(&jobs, engine).is_some());
            prop_assert!(hand_over(&jobs, engine, Duration::from_millis(left)).len() <= 3);
        }
    }
}
