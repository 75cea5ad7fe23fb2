//! The calls that carry reports, and what their answers mean.

use std::sync::Arc;
use std::time::Instant;

use stoker_core::ids::WorkerId;
use stoker_core::worker::{AfterReport, Definitive, Instead, ReportReply, after_report};
use stoker_proto::v1;
use stoker_proto::v1::{CompleteOutcome, HeartbeatOutcome, ResultPart, SettleOutcome};
use stoker_runtime::trace_context::TraceContext;
use tokio_util::sync::CancellationToken;
use tracing::{error, info_span};

use super::Verdict;
use super::pending::{Entry, Kind};
use crate::attempt::Fence;
use crate::blocking::blocking;
use crate::board::{Failure, FailureKind, part_bytes};
use crate::link::{Link, LinkError};
use crate::metrics;
use crate::spool::{Spool, Spooled};

/// What is known of the coordinator after a call.
#[derive(Debug, Default)]
pub(super) enum Contact {
    /// There was nothing to ask it.
    #[default]
    NotNeeded,
    Answered,
    /// It gave no usable answer, and why if that is known.
    Missed(Option<LinkError>),
}

/// What became of a group of reports.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) settled: Vec<(Entry, Definitive)>,
    pub(super) again: Vec<Entry>,
    pub(super) contact: Contact,
}

impl Answer {
    fn missed(group: Vec<Entry>, error: Option<LinkError>) -> Self {
        Self { again: group, contact: Contact::Missed(error), ..Self::default() }
    }

    /// Does with one report what its answer asks for; `why` tells of a refusal.
    fn conclude(&mut self, entry: Entry, reply: ReportReply, why: &str) {
        match reply {
            ReportReply::Unanswered | ReportReply::Unreadable => {}
            ReportReply::Recorded
            | ReportReply::Fenced
            | ReportReply::Meaningless
            | ReportReply::Refused => self.contact = Contact::Answered,
        }
        let failure = match after_report(entry.report_kind(), reply) {
            AfterReport::Settle(definitive) => return self.settled.push((entry, definitive)),
            AfterReport::SendAgain => return self.again.push(entry),
            AfterReport::Fail(Instead::ResultRefused) => {
                let (kind, code) = (FailureKind::Permanent, "RESULT_REFUSED");
                Failure { kind, code, message: why.to_owned() }
            }
            AfterReport::Fail(Instead::ResultLost) => {
                let message = "the worker lost the result that it had kept on its disk".to_owned();
                Failure { kind: FailureKind::Retryable, code: "RESULT_LOST", message }
            }
        };
        self.again.push(entry.with_verdict(Verdict::Fail(failure)));
    }
}

/// A call's answers, one per report; or none.
type Replies = Result<Vec<ReportReply>, LinkError>;

pub(super) struct Calls {
    worker: WorkerId,
    link: Link,
    spool: Option<Spool>,
    leave: CancellationToken,
}

/// A completion as it is sent.
struct Completion {
    fence: Fence,
    parts: Vec<ResultPart>,
    busy: std::time::Duration,
}

impl Calls {
    pub(super) fn new(worker: WorkerId, link: Link, spool: Option<Spool>) -> Self {
        Self { worker, link, spool, leave: CancellationToken::new() }
    }

    /// Makes every call return its reports unanswered, now.
    pub(super) fn leave(&self) {
        self.leave.cancel();
    }

    /// Reports a group of one kind.
    pub(super) async fn make(self: Arc<Self>, group: Vec<Entry>, max_bytes: usize) -> Answer {
        let started = Instant::now();
        let kind = group.first().map_or(Kind::Complete, Entry::kind);
        let replies = self.leave.run_until_cancelled(self.call(kind, &group, max_bytes)).await;
        let answer = match replies {
            None => Answer::missed(group, None),
            Some(Ok(replies)) if replies.len() == group.len() => {
                let mut answer = Answer::default();
                for (entry, reply) in group.into_iter().zip(replies) {
                    answer.conclude(entry, reply, "");
                }
                answer
            }
            Some(Ok(replies)) => {
                error!(got = replies.len(), expected = group.len(), "bad answer to a report");
                Answer::missed(group, None)
            }
            Some(Err(error)) if error.is_transient() => Answer::missed(group, Some(error)),
            // Rare, and large.
            Some(Err(error)) => return Box::pin(self.refused(group, max_bytes, &error)).await,
        };
        metrics::reported(label(kind), started.elapsed());
        answer
    }

    /// The call as a whole was refused: each report by itself shows which one is to blame.
    async fn refused(&self, group: Vec<Entry>, max_bytes: usize, error: &LinkError) -> Answer {
        let mut answer = Answer { contact: Contact::Answered, ..Answer::default() };
        let alone = group.len() == 1;
        for entry in group {
            if alone {
                self.refused_alone(entry, error, &mut answer);
                continue;
            }
            let single = std::slice::from_ref(&entry);
            let replies =
                self.leave.run_until_cancelled(self.call(entry.kind(), single, max_bytes)).await;
            match replies {
                Some(Ok(replies)) if replies.len() == 1 => {
                    let reply = replies.first().copied().unwrap_or(ReportReply::Meaningless);
                    answer.conclude(entry, reply, "");
                }
                Some(Err(error)) if !error.is_transient() => {
                    self.refused_alone(entry, &error, &mut answer);
                }
                Some(Ok(_) | Err(_)) | None => answer.again.push(entry),
            }
        }
        answer
    }

    fn refused_alone(&self, entry: Entry, error: &LinkError, answer: &mut Answer) {
        error!(%error, "the coordinator refused a report");
        // A file whose attempt is known goes with the failure that takes the result's place.
        if let (Verdict::Spooled { path, .. }, Some(_), Some(spool)) =
            (&entry.verdict, entry.fence, &self.spool)
        {
            spool.remove(path);
        }
        answer.conclude(entry, ReportReply::Refused, &error.to_string());
    }

    async fn call(&self, kind: Kind, group: &[Entry], max_bytes: usize) -> Replies {
        match kind {
            // On the heap: both hold whole requests.
            Kind::Complete => Box::pin(self.complete(group, max_bytes)).await,
            Kind::Fail => self.fail(group).await,
            Kind::Release => Box::pin(self.release(group, max_bytes)).await,
        }
    }

    async fn complete(&self, group: &[Entry], max_bytes: usize) -> Replies {
        let span = info_span!("report", jobs = group.len());
        match group {
            [only] => TraceContext::of(&only.span).set_parent(&span),
            several => {
                for entry in several {
                    TraceContext::of(&entry.span).link(&span);
                }
            }
        }
        let mut completions = Vec::with_capacity(group.len());
        let mut outcomes = Vec::with_capacity(group.len());
        for entry in group {
            match self.completion(entry, max_bytes).await? {
                Ok(completion) => {
                    completions.push(completion);
                    outcomes.push(None);
                }
                Err(reply) => outcomes.push(Some(reply)),
            }
        }
        let mut answers = Vec::new().into_iter();
        if !completions.is_empty() {
            let worker_id = self.worker.to_string();
            let request = v1::CompleteRequest { worker_id, completions };
            let response = self.link.complete(request, &TraceContext::of(&span)).await?;
            answers = response.outcomes.into_iter();
        }
        // A short answer is found by its length.
        let fill = |known: Option<ReportReply>| known.or_else(|| Some(completed(answers.next()?)));
        Ok(outcomes.into_iter().map_while(fill).collect())
    }

    /// The completion on the wire; parts that are too many for one call are stored before.
    async fn completion(
        &self,
        entry: &Entry,
        max_bytes: usize,
    ) -> Result<Result<v1::Completion, ReportReply>, LinkError> {
        let Completion { fence, parts, busy } = match self.load(entry).await {
            Ok(completion) => completion,
            Err(reply) => return Ok(Err(reply)),
        };
        let rest = match self.store_front(fence, parts, max_bytes).await? {
            Ok(rest) => rest,
            Err(reply) => return Ok(Err(reply)),
        };
        let busy = prost_duration(busy);
        Ok(Ok(v1::Completion { fence: Some(fence.to_wire()), parts: rest, busy }))
    }

    /// Each entry is decided by itself: a file that cannot be read holds nothing else up.
    async fn load(&self, entry: &Entry) -> Result<Completion, ReportReply> {
        match (&entry.verdict, entry.fence, &self.spool) {
            (Verdict::Complete { parts, busy }, Some(fence), _) => {
                Ok(Completion { fence, parts: parts.clone(), busy: *busy })
            }
            (Verdict::Spooled { path, .. }, _, Some(spool)) => {
                let (spool, path) = (spool.clone(), path.clone());
                match blocking(move || spool.read(&path)).await {
                    Ok(Spooled { fence, parts, busy }) => Ok(Completion { fence, parts, busy }),
                    Err(error) => {
                        let error = &error as &dyn std::error::Error;
                        error!(error, "result in the spool not delivered");
                        Err(ReportReply::Unreadable)
                    }
                }
            }
            _ => Err(ReportReply::Meaningless),
        }
    }

    /// Stores parts as checkpoints until the rest fits into one call, and gives the rest.
    async fn store_front(
        &self,
        fence: Fence,
        parts: Vec<ResultPart>,
        max_bytes: usize,
    ) -> Result<Result<Vec<ResultPart>, ReportReply>, LinkError> {
        let mut rest = std::collections::VecDeque::from(parts);
        let mut left: usize = rest.iter().map(part_bytes).sum();
        while left > max_bytes {
            let mut front = Vec::new();
            let mut bytes = 0;
            while let Some(part) =
                rest.pop_front_if(|part| front.is_empty() || bytes + part_bytes(part) <= max_bytes)
            {
                bytes += part_bytes(&part);
                front.push(part);
            }
            left -= bytes;
            let progress =
                v1::AttemptProgress { fence: Some(fence.to_wire()), parts: front, begun: None };
            let request = v1::HeartbeatRequest {
                worker_id: self.worker.to_string(),
                attempts: vec![progress],
                status: None,
            };
            let response = self.link.heartbeat(request).await?;
            let outcome = response.outcomes.first().copied().unwrap_or_default();
            match HeartbeatOutcome::try_from(outcome) {
                // A cancelled attempt may still complete: whichever commits first counts.
                Ok(HeartbeatOutcome::Continue | HeartbeatOutcome::Stop) => {}
                Ok(HeartbeatOutcome::Fenced) => return Ok(Err(ReportReply::Fenced)),
                Ok(HeartbeatOutcome::Unspecified) | Err(_) => {
                    let reason = "its answer to a checkpoint makes no sense".to_owned();
                    return Err(LinkError::Unreachable { reason });
                }
            }
        }
        Ok(Ok(rest.into()))
    }

    async fn fail(&self, group: &[Entry]) -> Replies {
        let failures = group.iter().filter_map(|entry| {
            let (Verdict::Fail(failure), Some(fence)) = (&entry.verdict, entry.fence) else {
                return None;
            };
            Some(v1::AttemptFailure {
                fence: Some(fence.to_wire()),
                kind: wire_kind(failure.kind).into(),
                code: failure.code.to_owned(),
                message: failure.message.clone(),
            })
        });
        let request =
            v1::FailRequest { worker_id: self.worker.to_string(), failures: failures.collect() };
        let response = self.link.fail(request).await?;
        Ok(response.outcomes.into_iter().map(settled).collect())
    }

    async fn release(&self, group: &[Entry], max_bytes: usize) -> Replies {
        let mut outcomes = Vec::with_capacity(group.len());
        let mut releases = Vec::with_capacity(group.len());
        for entry in group {
            let (Verdict::Release { reason, parts, begun }, Some(fence)) =
                (&entry.verdict, entry.fence)
            else {
                outcomes.push(Some(ReportReply::Meaningless));
                continue;
            };
            match self.store_front(fence, parts.clone(), max_bytes).await? {
                Ok(parts) => {
                    let (fence, reason) = (Some(fence.to_wire()), (*reason).into());
                    let begun = begun.clone();
                    releases.push(v1::AttemptRelease { fence, reason, parts, begun });
                    outcomes.push(None);
                }
                Err(reply) => outcomes.push(Some(reply)),
            }
        }
        let mut answers = Vec::new().into_iter();
        if !releases.is_empty() {
            let worker_id = self.worker.to_string();
            let response = self.link.release(v1::ReleaseRequest { worker_id, releases }).await?;
            answers = response.outcomes.into_iter();
        }
        let fill = |known: Option<ReportReply>| known.or_else(|| Some(settled(answers.next()?)));
        Ok(outcomes.into_iter().map_while(fill).collect())
    }
}

fn prost_duration(duration: std::time::Duration) -> Option<stoker_proto::well_known::Duration> {
    duration.try_into().ok()
}

fn completed(outcome: i32) -> ReportReply {
    match CompleteOutcome::try_from(outcome) {
        Ok(CompleteOutcome::Recorded | CompleteOutcome::AlreadyRecorded) => ReportReply::Recorded,
        Ok(CompleteOutcome::Terminal | CompleteOutcome::Fenced) => ReportReply::Fenced,
        Ok(CompleteOutcome::Unspecified) | Err(_) => ReportReply::Meaningless,
    }
}

fn settled(outcome: i32) -> ReportReply {
    match SettleOutcome::try_from(outcome) {
        Ok(SettleOutcome::Recorded) => ReportReply::Recorded,
        Ok(SettleOutcome::Fenced) => ReportReply::Fenced,
        Ok(SettleOutcome::Unspecified) | Err(_) => ReportReply::Meaningless,
    }
}

const fn wire_kind(kind: FailureKind) -> v1::FailureKind {
    match kind {
        FailureKind::Retryable => v1::FailureKind::Retryable,
        FailureKind::Permanent => v1::FailureKind::Permanent,
        FailureKind::Crash => v1::FailureKind::Crash,
    }
}

const fn label(kind: Kind) -> &'static str {
    match kind {
        Kind::Complete => "complete",
        Kind::Fail => "fail",
        Kind::Release => "release",
    }
}
