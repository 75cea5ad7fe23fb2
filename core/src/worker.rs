//! What a worker does with the coordinator's answers, and when it settles a delivery.
//!
//! A delivery is settled, which takes its message off the queue, only after a definitive answer:
//! the claim was refused, or the attempt's end was recorded or is of no use. A refused delivery is
//! never returned to the queue: the store owns the job and sends another message if one is needed.

use crate::job::ClaimRefusal;

/// The answer to a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimReply {
    Granted,
    Refused(ClaimRefusal),
    /// There is no such job.
    Unknown,
    /// The answer was full.
    Deferred,
    /// Not an answer that this version knows.
    Meaningless,
    /// None came.
    Unanswered,
}

/// What follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterClaim {
    Run,
    /// Ask again with the same claim id, which gets the grant that was made, if one was.
    ClaimAgain,
    /// Acknowledge the delivery and forget it.
    Settle,
}

/// What to do with a delivery whose claim was answered so.
pub const fn after_claim(reply: ClaimReply) -> AfterClaim {
    match reply {
        ClaimReply::Granted => AfterClaim::Run,
        ClaimReply::Deferred | ClaimReply::Unanswered => AfterClaim::ClaimAgain,
        ClaimReply::Refused(ClaimRefusal::Busy | ClaimRefusal::Terminal | ClaimRefusal::Stale)
        | ClaimReply::Unknown
        | ClaimReply::Meaningless => AfterClaim::Settle,
    }
}

/// How an attempt came to its end at the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportKind {
    /// A result, in memory or in a file.
    Complete,
    /// A result of which only the file is known, that an earlier process left.
    Inherited,
    Fail,
    Release,
}

/// The answer to a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportReply {
    /// Now or by an earlier call.
    Recorded,
    /// The job had ended, or the attempt is no longer its current one.
    Fenced,
    /// Not an answer that this version knows.
    Meaningless,
    /// The report itself is wrong; to repeat it is no use.
    Refused,
    /// The result's file does not give it back; the coordinator was not asked.
    Unreadable,
    /// None came; it may have been recorded.
    Unanswered,
}

/// A definitive end of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Definitive {
    Recorded,
    /// The coordinator has no use for it.
    Discarded,
    /// The coordinator cannot take it, now or ever.
    Lost,
    /// The file does not give the result back. Says nothing of the coordinator; a file that is still
    /// there is left alone.
    Unreadable,
}

/// What is reported in the place of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instead {
    /// A permanent failure: the coordinator does not take the result, which the job's owner sees.
    ResultRefused,
    /// A failure that a retry may mend: the worker has lost the result, and the job need not wait
    /// until the lease expires.
    ResultLost,
}

/// What follows from the answer to a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterReport {
    /// Acknowledge the delivery and forget the attempt.
    Settle(Definitive),
    /// Keep it, with its delivery, and send it again.
    SendAgain,
    /// Report a failure instead, with the delivery kept until that is settled.
    Fail(Instead),
}

/// What to do with a report that was answered so.
pub const fn after_report(kind: ReportKind, reply: ReportReply) -> AfterReport {
    match (reply, kind) {
        (ReportReply::Recorded, _) => AfterReport::Settle(Definitive::Recorded),
        (ReportReply::Fenced, _) => AfterReport::Settle(Definitive::Discarded),
        (ReportReply::Unanswered, _) => AfterReport::SendAgain,
        (ReportReply::Refused, ReportKind::Complete) => AfterReport::Fail(Instead::ResultRefused),
        (ReportReply::Unreadable, ReportKind::Complete) => AfterReport::Fail(Instead::ResultLost),
        (ReportReply::Unreadable, _) => AfterReport::Settle(Definitive::Unreadable),
        (ReportReply::Refused, ReportKind::Inherited | ReportKind::Fail | ReportKind::Release)
        | (ReportReply::Meaningless, _) => AfterReport::Settle(Definitive::Lost),
    }
}

/// The answer to a heartbeat about one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BeatReply {
    /// The lease is extended and the parts are stored.
    Continue,
    /// The job was cancelled.
    Stop,
    /// The attempt is not the current one.
    Fenced,
    /// None came, or none that this version knows.
    Unanswered,
}

/// Where an attempt is at its worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Running,
    /// Its end is being reported; whichever the coordinator commits first counts.
    Reporting,
}

/// What follows from the answer to a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterBeat {
    GoOn,
    /// The parts may not be stored: send them again.
    SendPartsAgain,
    /// Stop and give the attempt back as stopped.
    GiveBack,
    /// Stop, acknowledge the delivery and forget the attempt.
    Forget,
}

/// What to do with an attempt whose heartbeat was answered so. An attempt whose end is being
/// reported is let be: the answer to the report is the definitive one.
pub const fn after_beat(phase: Phase, reply: BeatReply) -> AfterBeat {
    match (reply, phase) {
        (BeatReply::Stop, Phase::Running) => AfterBeat::GiveBack,
        (BeatReply::Fenced, Phase::Running) => AfterBeat::Forget,
        (BeatReply::Unanswered, _) => AfterBeat::SendPartsAgain,
        (BeatReply::Continue, _) | (BeatReply::Stop | BeatReply::Fenced, Phase::Reporting) => {
            AfterBeat::GoOn
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [ReportKind; 4] =
        [ReportKind::Complete, ReportKind::Inherited, ReportKind::Fail, ReportKind::Release];

    #[test]
    fn a_refused_delivery_is_settled_and_never_returned() {
        let refusals = [ClaimRefusal::Busy, ClaimRefusal::Terminal, ClaimRefusal::Stale];
        for reply in refusals.map(ClaimReply::Refused) {
            assert_eq!(after_claim(reply), AfterClaim::Settle);
        }
        assert_eq!(after_claim(ClaimReply::Unknown), AfterClaim::Settle);
    }

    #[test]
    fn without_an_answer_nothing_is_settled() {
        assert_eq!(after_claim(ClaimReply::Unanswered), AfterClaim::ClaimAgain);
        for kind in KINDS {
            assert_eq!(after_report(kind, ReportReply::Unanswered), AfterReport::SendAgain);
        }
        for phase in [Phase::Running, Phase::Reporting] {
            assert_eq!(after_beat(phase, BeatReply::Unanswered), AfterBeat::SendPartsAgain);
        }
    }

    #[test]
    fn a_definitive_answer_settles_whatever_was_reported() {
        for kind in KINDS {
            for (reply, end) in [
                (ReportReply::Recorded, Definitive::Recorded),
                (ReportReply::Fenced, Definitive::Discarded),
                (ReportReply::Meaningless, Definitive::Lost),
            ] {
                assert_eq!(after_report(kind, reply), AfterReport::Settle(end));
            }
        }
    }

    #[test]
    fn a_result_that_is_refused_or_lost_fails_its_job_and_nothing_is_repeated_for_ever() {
        let after = |reply, kind| after_report(kind, reply);
        let complete = ReportKind::Complete;
        let refused = AfterReport::Fail(Instead::ResultRefused);
        assert_eq!(after(ReportReply::Refused, complete), refused);
        let lost = AfterReport::Fail(Instead::ResultLost);
        assert_eq!(after(ReportReply::Unreadable, complete), lost);
        for kind in [ReportKind::Inherited, ReportKind::Fail, ReportKind::Release] {
            let settled = AfterReport::Settle(Definitive::Lost);
            assert_eq!(after(ReportReply::Refused, kind), settled);
            let settled = AfterReport::Settle(Definitive::Unreadable);
            assert_eq!(after(ReportReply::Unreadable, kind), settled);
        }
    }

    #[test]
    fn an_end_that_is_being_reported_is_let_be() {
        for reply in [BeatReply::Continue, BeatReply::Stop, BeatReply::Fenced] {
            assert_eq!(after_beat(Phase::Reporting, reply), AfterBeat::GoOn);
        }
        assert_eq!(after_beat(Phase::Running, BeatReply::Stop), AfterBeat::GiveBack);
        assert_eq!(after_beat(Phase::Running, BeatReply::Fenced), AfterBeat::Forget);
    }
}
