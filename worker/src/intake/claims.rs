//! Claims: deliveries that are ready at the same time are claimed with one call.

use std::sync::Arc;
use std::time::{Duration, Instant};

use stoker_broker::Acker;
use stoker_core::ids::{ClaimId, JobId, WorkerId};
use stoker_core::job::ClaimRefusal;
use stoker_core::worker::{AfterClaim, ClaimReply, after_claim};
use stoker_proto::v1;
use stoker_proto::v1::claim_outcome::Outcome;
use stoker_runtime::retry::Delays;
use stoker_runtime::tasks::Tasks;
use stoker_runtime::trace_context::TraceContext;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use super::Claimable;
use crate::agent::Event;
use crate::attempt::{Granted, Ticket, read_grant};
use crate::link::{Link, LinkError};
use crate::metrics::{self, ClaimLabel};

/// Claims of one call, a limit of the wire.
const AT_ONCE: usize = 256;

/// Calls under way at once: the next deliveries do not wait for the answer to the last ones.
const CALLS: usize = 4;

const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(1);

/// Turns deliveries into granted jobs.
#[derive(Debug, Clone)]
pub struct Claims {
    pub worker: WorkerId,
    pub link: Link,
    pub events: mpsc::Sender<Event>,
    /// Tickets of deliveries that need no run.
    pub settle: mpsc::Sender<Ticket>,
    /// False while results cannot be delivered: then no further work is taken.
    pub reporting: watch::Receiver<bool>,
    /// The worker drains: nothing more is claimed.
    pub stop: CancellationToken,
    pub tasks: Tasks,
}

/// A delivery on its way to a grant.
struct Pending {
    index: usize,
    job: JobId,
    seq: u32,
    claim: ClaimId,
    /// Of the delivery, in case the grant has none.
    trace: TraceContext,
    acker: Box<dyn Acker>,
    slot: OwnedSemaphorePermit,
}

/// Claims until `stop`, then waits for the calls under way.
pub async fn run(mut claims: Claims, mut deliveries: mpsc::Receiver<Claimable>) {
    let calls = Arc::new(Semaphore::new(CALLS));
    let mut ready = Vec::with_capacity(AT_ONCE);
    while let Some(call) = claims.next(&mut deliveries, &mut ready, &calls).await {
        let pending = ready.drain(..).map(Pending::new).collect();
        let claims = claims.clone();
        claims.tasks.clone().spawn("claim", async move {
            claims.claim(pending).await;
            drop(call);
        });
    }
    // What was received and not claimed goes back when its consumer closes.
    let all = u32::try_from(CALLS).unwrap_or(u32::MAX);
    let _ended = calls.acquire_many(all).await;
    // A worker that is gone needs no news.
    let _ = claims.events.send(Event::ClaimsEnded).await;
}

impl Claims {
    /// Fills `ready` and gives the right to make a call; `None` at the end.
    async fn next(
        &mut self,
        deliveries: &mut mpsc::Receiver<Claimable>,
        ready: &mut Vec<Claimable>,
        calls: &Arc<Semaphore>,
    ) -> Option<OwnedSemaphorePermit> {
        let stop = self.stop.clone();
        let next = async {
            let call = Arc::clone(calls).acquire_owned().await.ok()?;
            // What was received stays in `ready` if this is given up; it is not claimed then.
            if deliveries.recv_many(ready, AT_ONCE).await == 0 {
                return None;
            }
            self.reporting.wait_for(|reporting| *reporting).await.ok()?;
            Some(call)
        };
        stop.run_until_cancelled(next).await.flatten()
    }

    async fn claim(&self, mut pending: Vec<Pending>) {
        let started = Instant::now();
        let mut delays = Delays::new(FIRST_RETRY, LAST_RETRY);
        let mut complained = false;
        let mut refused = false;
        while !pending.is_empty() {
            let answer = self.link.claim(self.request(&pending)).await;
            self.tell(&mut refused, answer.as_ref().err()).await;
            match answer {
                Ok(answer) if answer.outcomes.len() == pending.len() => {
                    let before = pending.len();
                    pending = self.apply(pending, answer.outcomes).await;
                    if pending.len() < before {
                        delays.reset();
                        continue;
                    }
                }
                Ok(answer) => {
                    error!(
                        got = answer.outcomes.len(),
                        expected = pending.len(),
                        "bad claim answer"
                    );
                }
                Err(error) if complained => debug!(%error, "still cannot claim"),
                Err(error) => {
                    warn!(%error, jobs = pending.len(), "cannot claim; trying again");
                    complained = true;
                }
            }
            if !delays.wait(&self.stop).await {
                // The deliveries go back. A grant that was made all the same expires.
                return;
            }
        }
        metrics::claim_took(started.elapsed());
    }

    /// Says whether claims are refused as wrong, when that changes. No answer changes nothing.
    async fn tell(&self, refused: &mut bool, error: Option<&LinkError>) {
        let taken = match error {
            Some(error) if error.is_transient() => return,
            Some(error) => Err(error.to_string()),
            None => Ok(()),
        };
        if std::mem::replace(refused, taken.is_err()) != taken.is_err() {
            // An agent that has ended wants no news.
            let _ = self.events.send(Event::Claiming(taken)).await;
        }
    }

    fn request(&self, pending: &[Pending]) -> v1::ClaimRequest {
        let claim = |pending: &Pending| v1::Claim {
            job_id: pending.job.to_string(),
            dispatch_seq: pending.seq,
            claim_id: pending.claim.to_string(),
        };
        v1::ClaimRequest {
            worker_id: self.worker.to_string(),
            claims: pending.iter().map(claim).collect(),
        }
    }

    /// Passes grants on and settles refusals; gives back what is to be claimed again.
    async fn apply(&self, pending: Vec<Pending>, outcomes: Vec<v1::ClaimOutcome>) -> Vec<Pending> {
        let mut granted = Vec::new();
        let mut deferred = Vec::new();
        for (pending, outcome) in pending.into_iter().zip(outcomes) {
            let reply = reply(outcome.outcome.as_ref());
            metrics::claimed(label(reply));
            match (after_claim(reply), outcome.outcome) {
                (AfterClaim::Run, Some(Outcome::Granted(grant))) => {
                    match pending.granted(*grant) {
                        Ok(job) => granted.push(job),
                        // Unsettled, it would take a place of the prefetch for good.
                        Err(ticket) => self.settle(ticket).await,
                    }
                }
                (AfterClaim::ClaimAgain, _) => deferred.push(pending),
                (AfterClaim::Settle | AfterClaim::Run, _) => {
                    debug!(job = %pending.job, ?reply, "claim refused");
                    self.settle(pending.ticket()).await;
                }
            }
        }
        if !granted.is_empty() {
            // Without an agent the worker is gone, and the grants expire.
            let _ = self.events.send(Event::Granted(granted)).await;
        }
        deferred
    }

    async fn settle(&self, ticket: Ticket) {
        // The settler outlives the claims.
        let _ = self.settle.send(ticket).await;
    }
}

impl Pending {
    fn new(claimable: Claimable) -> Self {
        let Claimable { index, delivery, slot } = claimable;
        let stoker_broker::Delivery { hint, redelivered: _, acker } = delivery;
        let claim = stoker_runtime::ids::claim_id();
        let trace = TraceContext::from_pairs(hint.trace);
        Self { index, job: hint.job, seq: hint.seq.number(), claim, trace, acker, slot }
    }

    fn ticket(self) -> Ticket {
        Ticket::new(self.acker, self.slot)
    }

    /// Only the ticket, with an entry in the log, for a grant without a usable fence.
    fn granted(self, grant: v1::Grant) -> Result<Granted, Ticket> {
        match read_grant(self.job, grant) {
            Ok((fence, work, terms)) => Ok(Granted {
                index: self.index,
                fence,
                work,
                first_item: terms.first_item,
                alone: terms.alone,
                slack: terms.slack,
                trace: if terms.trace.is_empty() { self.trace } else { terms.trace },
                ticket: Ticket::new(self.acker, self.slot),
            }),
            Err(error) => {
                error!(job = %self.job, %error, "grant not usable; its lease will expire");
                Err(self.ticket())
            }
        }
    }
}

/// The answer to one claim.
fn reply(outcome: Option<&Outcome>) -> ClaimReply {
    match outcome {
        Some(Outcome::Granted(_)) => ClaimReply::Granted,
        Some(Outcome::Deferred(_)) => ClaimReply::Deferred,
        Some(Outcome::Refused(refusal)) => match v1::ClaimRefusal::try_from(*refusal) {
            Ok(v1::ClaimRefusal::Busy) => ClaimReply::Refused(ClaimRefusal::Busy),
            Ok(v1::ClaimRefusal::Terminal) => ClaimReply::Refused(ClaimRefusal::Terminal),
            Ok(v1::ClaimRefusal::Stale) => ClaimReply::Refused(ClaimRefusal::Stale),
            Ok(v1::ClaimRefusal::Unknown) => ClaimReply::Unknown,
            Ok(v1::ClaimRefusal::Unspecified) | Err(_) => ClaimReply::Meaningless,
        },
        None => {
            error!("claim answer without an outcome; update the worker");
            ClaimReply::Meaningless
        }
    }
}

const fn label(reply: ClaimReply) -> ClaimLabel {
    match reply {
        ClaimReply::Granted => ClaimLabel::Granted,
        ClaimReply::Deferred => ClaimLabel::Deferred,
        ClaimReply::Refused(ClaimRefusal::Busy) => ClaimLabel::Busy,
        ClaimReply::Refused(ClaimRefusal::Terminal) => ClaimLabel::Terminal,
        ClaimReply::Refused(ClaimRefusal::Stale) => ClaimLabel::Stale,
        ClaimReply::Unknown | ClaimReply::Meaningless | ClaimReply::Unanswered => {
            ClaimLabel::Unknown
        }
    }
}
