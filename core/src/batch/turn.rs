//! Whose turn it is on an engine: that of all jobs that share batches, or that of one suspect.
//!
//! A job in whose batch an engine crashed is a suspect. If anything else ran or was prepared beside it,
//! the next crash could not be laid at its door, and the innocent would be charged together with the
//! guilty. So a suspect has the whole engine to itself, all lanes of it.

use crate::time::Timestamp;

/// Whose work an engine may be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn<J> {
    /// The jobs that share batches.
    Shared,
    /// This suspect and nothing else.
    Alone(J),
}

/// A job that has work for the engine or in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want<J> {
    pub job: J,
    /// When its slack ends.
    pub start_by: Timestamp,
    pub arrived_at: Timestamp,
    /// When its work may be given to the engine.
    pub turn: Turn<J>,
}

impl<J: Copy + Ord> Turn<J> {
    /// Whose turn comes when the engine is empty: that of the most urgent job (least slack, then
    /// arrival, then the job's id); `None` when nobody wants it.
    ///
    /// A turn ends only where it would not be given again, so it changes at most twice for each
    /// job that arrives, and each change costs what is under way at that time. Nobody starves: once
    /// a job is the most urgent, what arrives behind it changes nothing.
    #[must_use]
    pub fn of_most_urgent(wants: impl IntoIterator<Item = Want<J>>) -> Option<Self> {
        let first = wants.into_iter().min_by_key(|want| (want.start_by, want.arrived_at, want.job));
        first.map(|want| want.turn)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn want(job: u32, start_by: i64, turn: Turn<u32>) -> Want<u32> {
        let (start_by, arrived_at) =
            (Timestamp::from_unix_millis(start_by), Timestamp::from_unix_millis(0));
        Want { job, start_by, arrived_at, turn }
    }

    fn suspect(job: u32, start_by: i64) -> Want<u32> {
        want(job, start_by, Turn::Alone(job))
    }

    fn any_want(job: u32, (start_by, alone): (i64, bool)) -> Want<u32> {
        if alone { suspect(job, start_by) } else { want(job, start_by, Turn::Shared) }
    }

    #[test]
    fn the_most_urgent_job_decides() {
        assert_eq!(Turn::<u32>::of_most_urgent([]), None);
        let shared = want(1, 10, Turn::Shared);
        assert_eq!(Turn::of_most_urgent([shared, suspect(2, 20)]), Some(Turn::Shared));
        assert_eq!(Turn::of_most_urgent([shared, suspect(2, 5)]), Some(Turn::Alone(2)));
        let suspects = [suspect(3, 5), suspect(2, 5)];
        assert_eq!(Turn::of_most_urgent(suspects), Some(Turn::Alone(2)));
    }

    proptest! {
        #[test]
        fn what_arrives_later_with_later_slack_takes_nobody_s_turn(
            jobs in vec((0_i64..50, any::<bool>()), 1..20),
            flood in vec((0_i64..50, any::<bool>()), 0..40),
        ) {
            let waiting = || (0..).zip(jobs.clone()).map(|(job, want)| any_want(job, want));
            let before = Turn::of_most_urgent(waiting());
            let latest = jobs.iter().map(|(by, _)| *by).max().unwrap_or(0);
            let later = (100..)
                .zip(flood)
                .map(|(job, (by, alone))| any_want(job, (latest + by, alone)));
            prop_assert_eq!(Turn::of_most_urgent(waiting().chain(later)), before);
        }
    }
}
