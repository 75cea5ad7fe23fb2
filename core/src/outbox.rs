//! What the publisher sends, what leaves the outbox, and what is taken for lost.
//!
//! A row of the outbox is a message that is owed to the broker. It leaves when the broker has
//! confirmed that very message, and is sent again otherwise: two copies are harmless, none is not.

mod aside;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::job::Job;
use crate::policy::LeasePolicy;
use crate::time::Timestamp;

pub use aside::{Aside, Standing};

/// The publisher looks into the outbox at least this often. A commit whose outcome nobody learned may
/// have left a row there that no bell rings for; without another look it would stay for ever if its
/// job ended before it was dispatched again.
pub const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(30);

/// How long a job whose queue is intact is left alone: a queue may lose its messages at any time.
const CHECK_AGAIN: Duration = Duration::from_secs(15);

/// Whether something may be in the outbox that nobody hands over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publisher {
    owes: bool,
}

impl Publisher {
    /// A publisher that begins: what an earlier one left behind is owed.
    #[expect(clippy::new_without_default, reason = "a beginning that owes is no default")]
    pub const fn new() -> Self {
        Self { owes: true }
    }

    /// Whether the outbox is to be read.
    pub const fn owes(self) -> bool {
        self.owes
    }

    /// Rows may be in the outbox that no round will bring: a message is sent anew, a commit of the
    /// dispatcher has an unknown outcome, or it is time to look again.
    pub const fn rung(&mut self) {
        self.owes = true;
    }

    /// The outbox is being read from here on; what comes into it later rings anew.
    pub const fn reads(&mut self) {
        self.owes = false;
    }

    /// What was sent came to an end. What is left for other reasons than its queue is owed.
    pub const fn sent(&mut self, end: Sent) {
        self.owes |= matches!(end, Sent::MoreLeft | Sent::Failed);
    }
}

/// How a sending ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// Everything was handed to the broker, and cleared where it was confirmed.
    All,
    /// As `All`, and the outbox may hold more.
    MoreLeft,
    /// The outbox could not be read or cleared.
    Failed,
}

/// What the broker said of a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirms<T, Q, E> {
    /// May be cleared.
    pub confirmed: Vec<T>,
    /// Stay in the outbox.
    pub unconfirmed: usize,
    /// Queues that they are of, each with the last problem.
    pub refused: BTreeMap<Q, E>,
}

/// Sorts the entries of a round by their outcomes. Only what is confirmed may be cleared.
pub fn confirms<T, Q: Ord, E>(
    entries: impl IntoIterator<Item = T>,
    outcomes: impl IntoIterator<Item = Result<(), E>>,
    queue: impl Fn(&T) -> Q,
) -> Confirms<T, Q, E> {
    let mut confirms = Confirms { confirmed: Vec::new(), unconfirmed: 0, refused: BTreeMap::new() };
    for (entry, outcome) in entries.into_iter().zip(outcomes) {
        match outcome {
            Ok(()) => confirms.confirmed.push(entry),
            Err(error) => {
                confirms.unconfirmed += 1;
                confirms.refused.insert(queue(&entry), error);
            }
        }
    }
    confirms
}

/// Whether a queue holds a message for each of its dispatched jobs, as far as its depth tells: then
/// nothing was lost, the workers are only busy or away, and sending again would pile up duplicates
/// without end. A duplicate may stand for a lost message; it goes away as the queue is worked off.
pub const fn is_intact(ready: u64, dispatched: u64) -> bool {
    ready >= dispatched
}

/// When to look again at a job whose message was not claimed in time and whose queue is intact. Its
/// deadline runs on.
pub fn look_again_at(job: &Job, now: Timestamp, policy: &LeasePolicy) -> Timestamp {
    now.after(CHECK_AGAIN.min(policy.redispatch_after / 2)).min(job.deadline_at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::JobId;

    #[test]
    fn what_an_earlier_process_left_is_owed() {
        let mut publisher = Publisher::new();
        assert!(publisher.owes());
        publisher.reads();
        publisher.sent(Sent::All);
        assert!(!publisher.owes());
    }

    #[test]
    fn what_could_not_be_sent_or_read_is_owed() {
        for end in [Sent::MoreLeft, Sent::Failed] {
            let mut publisher = Publisher::new();
            publisher.reads();
            publisher.sent(end);
            assert!(publisher.owes());
        }
    }

    #[test]
    fn a_bell_that_rings_while_something_is_sent_is_not_lost() {
        let mut publisher = Publisher::new();
        publisher.reads();
        publisher.rung();
        publisher.sent(Sent::All);
        assert!(publisher.owes());
    }

    #[test]
    fn only_what_is_confirmed_is_cleared() {
        let outcomes = [Ok(()), Err("returned"), Ok(()), Err("lost")];
        let sorted = confirms(1..=4, outcomes, |entry| entry / 3);
        assert_eq!(sorted.confirmed, [1, 3]);
        assert_eq!(sorted.unconfirmed, 2);
        assert_eq!(sorted.refused, BTreeMap::from([(0, "returned"), (1, "lost")]));
        // An answer that is too short confirms nothing beyond it.
        assert_eq!(confirms(1..=2, [Ok::<(), &str>(())], |_| ()).confirmed, [1]);
    }

    #[test]
    fn a_queue_with_fewer_messages_than_jobs_has_lost_some() {
        assert!(is_intact(3, 3) && is_intact(4, 3) && !is_intact(2, 3));
    }

    #[test]
    fn a_job_in_an_intact_queue_is_looked_at_soon_and_at_its_deadline() {
        let now = Timestamp::from_unix_millis(1_000_000);
        let job = |deadline| Job::accepted(JobId::from_uuid(uuid::Uuid::nil()), 1, now, deadline);
        let in_seconds = |seconds| now.after(Duration::from_secs(seconds));
        let (long, short) = (
            LeasePolicy::default(),
            LeasePolicy { redispatch_after: Duration::from_secs(4), ..LeasePolicy::default() },
        );
        assert_eq!(look_again_at(&job(Timestamp::MAX), now, &long), in_seconds(15));
        assert_eq!(look_again_at(&job(Timestamp::MAX), now, &short), in_seconds(2));
        assert_eq!(look_again_at(&job(in_seconds(1)), now, &short), in_seconds(1));
    }
}
