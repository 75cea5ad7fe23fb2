//! What a store answers to workers that report of their attempts, before it applies any event.
//!
//! A report is heard only with the attempt's own token. Progress and hand-backs need the current
//! attempt; a completion needs the whole result, from whichever attempt it comes.

use crate::ids::{Attempt, LeaseToken};

use super::record::AttemptOutcome;
use super::state::Job;

/// An attempt as it was granted, and what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Issued {
    pub token: LeaseToken,
    pub outcome: AttemptOutcome,
}

impl Issued {
    /// The outcome of the attempt, for whoever shows its token.
    pub fn shown(self, token: LeaseToken) -> Option<AttemptOutcome> {
        (self.token == token).then_some(self.outcome)
    }
}

/// Consecutive items whose results come or are stored together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub first_item: u32,
    pub items: u32,
}

impl Span {
    /// The item after the last.
    pub const fn end(self) -> u32 {
        self.first_item.saturating_add(self.items)
    }
}

/// Which reported parts are to be stored.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    /// Places in the report, in order.
    pub parts: Vec<usize>,
    /// Items from the first on whose results are stored then.
    pub items_done: u32,
}

/// What to do with a completion.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompletionPlan {
    /// This attempt's result is the job's.
    AlreadyRecorded,
    /// The job has ended otherwise.
    Terminal,
    /// With what is stored, the parts do not make the whole result.
    Incomplete,
    /// Remove stored results from this item on, store all parts, apply `Event::Completed`.
    Record { replace_from: u32 },
}

/// Whether `attempt` is the one that holds the lease.
pub fn is_current(job: &Job, attempt: Attempt) -> bool {
    job.lease().is_some_and(|lease| lease.attempt == attempt)
}

/// Parts that follow what is stored. Those that are stored already are left out; `None` when there
/// is a gap, or a part reaches past the last item.
fn append(job: &Job, parts: impl IntoIterator<Item = Span>) -> Option<Append> {
    let mut plan = Append { parts: Vec::new(), items_done: job.items_done };
    for (index, part) in parts.into_iter().enumerate() {
        if part.end() <= plan.items_done {
            continue;
        }
        if part.first_item != plan.items_done || part.end() > job.items_total {
            return None;
        }
        plan.parts.push(index);
        plan.items_done = part.end();
    }
    Some(plan)
}

/// What progress of an attempt is to be stored; `None`: the attempt is fenced off.
pub fn answer_progress(
    job: &Job,
    attempt: Attempt,
    parts: impl IntoIterator<Item = Span>,
) -> Option<Append> {
    if is_current(job, attempt) { append(job, parts) } else { None }
}

/// What of a hand-back is to be stored; `None`: the attempt is fenced off. Parts with a gap are
/// dropped: the attempt is given back all the same.
pub fn answer_release(
    job: &Job,
    attempt: Attempt,
    parts: impl IntoIterator<Item = Span>,
) -> Option<Append> {
    let nothing = || Append { parts: Vec::new(), items_done: job.items_done };
    is_current(job, attempt).then(|| append(job, parts).unwrap_or_else(nothing))
}

/// What to do with a completion of an attempt whose outcome so far is `outcome`.
pub fn answer_completion(
    job: &Job,
    outcome: AttemptOutcome,
    parts: impl IntoIterator<Item = Span>,
) -> CompletionPlan {
    if outcome == AttemptOutcome::Succeeded {
        return CompletionPlan::AlreadyRecorded;
    }
    if job.state.is_terminal() {
        return CompletionPlan::Terminal;
    }
    let mut first = None;
    let mut next = job.items_total;
    for part in parts {
        if first.is_some() && part.first_item != next {
            return CompletionPlan::Incomplete;
        }
        first.get_or_insert(part.first_item);
        next = part.end();
    }
    let replace_from = first.unwrap_or(job.items_total);
    if replace_from > job.items_done || next != job.items_total {
        return CompletionPlan::Incomplete;
    }
    CompletionPlan::Record { replace_from }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ClaimId, JobId, WorkerId};
    use crate::job::{Lease, State};
    use crate::time::Timestamp;

    const NOW: Timestamp = Timestamp::from_unix_millis(1);

    fn job(items_done: u32) -> Job {
        let mut job = Job::accepted(JobId::from_bytes([1; 16]), 10, NOW, Timestamp::MAX);
        job.items_done = items_done;
        job.last_attempt = Some(Attempt::FIRST);
        job.state = State::Leased(Lease {
            attempt: Attempt::FIRST,
            token: LeaseToken::from_bytes([2; 16]),
            worker: WorkerId::from_bytes([3; 16]),
            claim: ClaimId::from_bytes([4; 16]),
            expires_at: Timestamp::MAX,
            must_end_by: Timestamp::MAX,
            cancel_requested_at: None,
        });
        job
    }

    fn spans(parts: &[(u32, u32)]) -> Vec<Span> {
        parts.iter().map(|&(first_item, items)| Span { first_item, items }).collect()
    }

    #[test]
    fn a_report_with_another_token_is_not_heard() {
        let token = LeaseToken::from_bytes([5; 16]);
        let issued = Issued { token, outcome: AttemptOutcome::Running };
        assert_eq!(issued.shown(token), Some(AttemptOutcome::Running));
        assert_eq!(issued.shown(LeaseToken::from_bytes([6; 16])), None);
    }

    #[test]
    fn parts_are_appended_without_a_gap_and_repeats_are_left_out() {
        let appended = |done, parts: &[(u32, u32)]| {
            append(&job(done), spans(parts)).map(|plan| (plan.parts, plan.items_done))
        };
        assert_eq!(appended(0, &[]), Some((vec![], 0)));
        assert_eq!(appended(0, &[(0, 2), (2, 3)]), Some((vec![0, 1], 5)));
        assert_eq!(appended(5, &[(0, 2), (2, 3), (5, 5)]), Some((vec![2], 10)));
        assert_eq!(appended(5, &[(6, 1)]), None);
        assert_eq!(appended(5, &[(4, 2)]), None);
        assert_eq!(appended(5, &[(5, 6)]), None);
        assert_eq!(appended(5, &[(5, u32::MAX)]), None);
    }

    #[test]
    fn only_the_current_attempt_makes_progress_or_gives_back() {
        let stale = Attempt::FIRST.next();
        assert_eq!(answer_progress(&job(0), stale, spans(&[(0, 1)])), None);
        assert_eq!(answer_release(&job(0), stale, spans(&[(0, 1)])), None);
        let gap = spans(&[(3, 1)]);
        assert_eq!(answer_progress(&job(0), Attempt::FIRST, gap.clone()), None);
        let released = answer_release(&job(0), Attempt::FIRST, gap);
        assert_eq!(released, Some(Append { parts: vec![], items_done: 0 }));
    }

    #[test]
    fn a_completion_needs_the_whole_result() {
        use CompletionPlan::{Incomplete, Record};
        let plan = |done, parts: &[(u32, u32)]| {
            answer_completion(&job(done), AttemptOutcome::Running, spans(parts))
        };
        assert_eq!(plan(0, &[(0, 10)]), Record { replace_from: 0 });
        assert_eq!(plan(4, &[(4, 3), (7, 3)]), Record { replace_from: 4 });
        assert_eq!(plan(7, &[(4, 6)]), Record { replace_from: 4 });
        assert_eq!(plan(10, &[]), Record { replace_from: 10 });
        assert_eq!(plan(4, &[(5, 5)]), Incomplete);
        assert_eq!(plan(4, &[(4, 5)]), Incomplete);
        assert_eq!(plan(4, &[(4, 7)]), Incomplete);
        assert_eq!(plan(4, &[(4, 2), (7, 3)]), Incomplete);
        assert_eq!(plan(9, &[]), Incomplete);
    }

    #[test]
    fn a_repeated_completion_and_one_of_an_ended_job_store_nothing() {
        let whole = spans(&[(0, 10)]);
        let mut ended = job(10);
        ended.state = State::Succeeded;
        let plan = |outcome| answer_completion(&ended, outcome, whole.clone());
        assert_eq!(plan(AttemptOutcome::Succeeded), CompletionPlan::AlreadyRecorded);
        assert_eq!(plan(AttemptOutcome::Revoked), CompletionPlan::Terminal);
        // A zombie's success of an open job counts.
        let late = answer_completion(&job(0), AttemptOutcome::WorkerLost, whole);
        assert_eq!(late, CompletionPlan::Record { replace_from: 0 });
    }
}
