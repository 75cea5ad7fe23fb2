//! Ends of attempts on their way to the coordinator: grouped into calls, repeated until there is a
//! definitive answer, kept in the spool when there is none.
//!
//! A delivery is settled only after the answer. While the coordinator cannot be reached, `reporting`
//! is false and no further work is claimed.

mod calls;
mod pending;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use stoker_core::ids::WorkerId;
use stoker_core::worker::Definitive;
use stoker_proto::v1::{BegunTexts, ReleaseReason, ResultPart};
use stoker_runtime::retry::Delays;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{Span, debug, error, info, warn};

use calls::{Answer, Calls, Contact};
use pending::{Entry, PendingReports};

use crate::agent::Event;
use crate::attempt::{Fence, Ticket};
use crate::blocking::blocking;
use crate::board::{Failure, JobKey, part_bytes};
use crate::link::{Link, LinkError};
use crate::spool::Spool;

/// Calls under way at once.
const CALLS: usize = 4;

const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(2);

/// Results that wait in memory for a coordinator that is away; more goes to the spool.
const MEMORY_BYTES: usize = 64 << 20;

/// What is to be told of an attempt.
#[derive(Debug)]
pub enum Verdict {
    Complete {
        parts: Vec<ResultPart>,
        busy: Duration,
    },
    Fail(Failure),
    Release {
        reason: ReleaseReason,
        parts: Vec<ResultPart>,
        /// What is generated so far of items that are in no part.
        begun: Option<BegunTexts>,
    },
    /// A completion that an earlier time has left in the spool, or one that did not fit in memory.
    Spooled {
        path: PathBuf,
        bytes: usize,
    },
}

impl Verdict {
    fn bytes(&self) -> usize {
        match self {
            Self::Complete { parts, .. } | Self::Release { parts, .. } => {
                parts.iter().map(part_bytes).sum()
            }
            Self::Spooled { bytes, .. } => *bytes,
            Self::Fail(_) => 0,
        }
    }
}

/// The end of one attempt.
#[derive(Debug)]
pub struct Report {
    /// The attempt in this process; none for one of an earlier process.
    pub key: Option<JobKey>,
    pub fence: Option<Fence>,
    pub verdict: Verdict,
    pub ticket: Option<Ticket>,
    /// The attempt's span, to which the call is linked.
    pub span: Span,
}

/// How a reported attempt was settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    pub key: JobKey,
    /// The coordinator took it over; otherwise it had no use for it.
    pub recorded: bool,
}

/// Everything that reports need.
#[derive(Debug)]
pub struct Reporter {
    pub worker: WorkerId,
    pub link: Link,
    pub events: mpsc::Sender<Event>,
    pub settle: mpsc::Sender<Ticket>,
    /// Told whether reports get through.
    pub reporting: watch::Sender<bool>,
    /// Most result bytes in one call; the coordinator says it when the worker registers.
    pub max_bytes: watch::Receiver<usize>,
    pub spool: Option<Spool>,
}

/// When the reporter has to end, set once.
#[derive(Debug, Clone)]
pub struct Finish {
    /// Cancelled when no further reports come.
    pub begun: CancellationToken,
    /// From then on, how long to go on trying.
    pub limit: Duration,
}

impl Reporter {
    /// Reports until `finish` begins and everything is delivered, or its limit has passed; then
    /// what is left goes to the spool.
    pub async fn run(self, mut reports: mpsc::Receiver<Report>, finish: Finish) {
        let calls = Arc::new(Calls::new(self.worker, self.link.clone(), self.spool.clone()));
        let mut desk = Desk::new();
        self.load_spool(&mut desk).await;
        let mut under_way = FuturesUnordered::new();
        let mut deadline = None;
        let mut open = true;
        while open || !desk.pending.is_empty() || !under_way.is_empty() {
            // One call at a time tries whether a coordinator that was away is back.
            let most = if *self.reporting.borrow() { CALLS } else { 1 };
            if under_way.len() < most && desk.has_work() {
                let max_bytes = *self.max_bytes.borrow();
                let group = desk.pending.take(max_bytes);
                under_way.push(Arc::clone(&calls).make(group, max_bytes));
                continue;
            }
            // Every branch is cancel-safe: calls under way live in `under_way`.
            tokio::select! {
                report = reports.recv(), if open => match report {
                    Some(report) => {
                        desk.accept(report);
                        while let Ok(report) = reports.try_recv() {
                            desk.accept(report);
                        }
                    }
                    None => open = false,
                },
                Some(answer) = under_way.next() => self.apply(answer, &mut desk).await,
                () = sleep_until(desk.not_before), if desk.is_waiting() => {}
                () = finish.begun.cancelled(), if deadline.is_none() => {
                    reports.close();
                    deadline = Some(Instant::now() + finish.limit);
                }
                () = sleep_until(deadline.unwrap_or(desk.not_before)), if deadline.is_some() => break,
            }
        }
        // Calls that are left now may have arrived; repeating them does no harm.
        calls.leave();
        while let Some(answer) = under_way.next().await {
            self.apply(answer, &mut desk).await;
        }
        self.give_up(desk.pending).await;
    }

    async fn apply(&self, answer: Answer, desk: &mut Desk) {
        if matches!(answer.contact, Contact::Answered) {
            desk.delays.reset();
            self.reachable();
        }
        for (entry, definitive) in answer.settled {
            let ticket = desk.tickets.remove(&entry.id);
            self.settled(entry, definitive, ticket).await;
        }
        desk.pending.put_back(answer.again);
        if let Contact::Missed(error) = answer.contact {
            self.unreachable(error.as_ref());
            desk.not_before = Instant::now() + desk.delays.next_delay();
            self.relieve_memory(&mut desk.pending).await;
        }
    }

    fn reachable(&self) {
        if !self.reporting.send_replace(true) {
            info!("results are delivered again");
        }
    }

    fn unreachable(&self, error: Option<&LinkError>) {
        let error = error.map(tracing::field::display);
        if self.reporting.send_replace(false) {
            warn!(error, "results cannot be delivered; taking no further work meanwhile");
        } else {
            debug!(error, "results still cannot be delivered");
        }
    }

    async fn settled(&self, entry: Entry, definitive: Definitive, ticket: Option<Ticket>) {
        let Entry { key, verdict, fence, .. } = entry;
        if let (Some(spool), Verdict::Spooled { path, .. }) = (&self.spool, &verdict)
            && definitive != Definitive::Unreadable
        {
            spool.remove(path);
        }
        if definitive == Definitive::Lost {
            let job = fence.map(|fence| fence.job.to_string());
            error!(job, "the coordinator does not take this report; dropped");
        }
        if let Some(ticket) = ticket {
            // The settler ends after the reporter.
            let _ = self.settle.send(ticket).await;
        }
        if let Some(key) = key {
            let recorded = matches!(definitive, Definitive::Recorded);
            // An agent that has ended wants no news.
            let _ = self.events.send(Event::Settled(Settled { key, recorded })).await;
        }
    }

    /// Results of an earlier process.
    async fn load_spool(&self, desk: &mut Desk) {
        let Some(spool) = self.spool.clone() else { return };
        match blocking(move || spool.list()).await {
            Ok(paths) => {
                for path in paths {
                    let bytes = std::fs::metadata(&path).map_or(0, |file| file.len());
                    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
                    info!(path = %path.display(), "delivering a result from the spool");
                    let verdict = Verdict::Spooled { path, bytes };
                    let (key, fence, ticket, span) = (None, None, None, Span::none());
                    desk.accept(Report { key, fence, verdict, ticket, span });
                }
            }
            Err(error) => error!(%error, "results in the spool are not delivered"),
        }
    }

    /// Moves results from memory to the spool while they are too many.
    async fn relieve_memory(&self, pending: &mut PendingReports) {
        let Some(spool) = &self.spool else { return };
        while pending.bytes_in_memory() > MEMORY_BYTES {
            let Some((at, spooled)) = pending.largest_in_memory() else { return };
            let (spool, bytes) = (spool.clone(), spooled.parts.iter().map(part_bytes).sum());
            match blocking(move || spool.write(&spooled)).await {
                Ok(path) => pending.moved_to_spool(at, path, bytes),
                Err(error) => {
                    error!(error = &error as &dyn std::error::Error, "results stay in memory");
                    return;
                }
            }
        }
    }

    async fn give_up(&self, pending: PendingReports) {
        let mut lost = 0_usize;
        for spooled in pending.into_completions() {
            let Some(spool) = self.spool.clone() else {
                lost += 1;
                continue;
            };
            if let Err(error) = blocking(move || spool.write(&spooled)).await {
                error!(error = &error as &dyn std::error::Error, "a result is lost");
                lost += 1;
            }
        }
        if lost > 0 {
            warn!(lost, "results could not be delivered; their jobs run again elsewhere");
        }
    }
}

/// What waits, and when it may be tried again.
struct Desk {
    pending: PendingReports,
    /// Of the reports that wait or are under way, by their ids.
    tickets: BTreeMap<u64, Ticket>,
    next_id: u64,
    delays: Delays,
    not_before: Instant,
}

impl Desk {
    fn new() -> Self {
        Self {
            pending: PendingReports::new(),
            tickets: BTreeMap::new(),
            next_id: 0,
            delays: Delays::new(FIRST_RETRY, LAST_RETRY),
            not_before: Instant::now(),
        }
    }

    fn accept(&mut self, report: Report) {
        let (entry, ticket) = Entry::new(self.next_id, report);
        self.next_id += 1;
        if let Some(ticket) = ticket {
            self.tickets.insert(entry.id, ticket);
        }
        self.pending.push(entry);
    }

    fn is_waiting(&self) -> bool {
        !self.pending.is_empty() && Instant::now() < self.not_before
    }

    fn has_work(&self) -> bool {
        !self.pending.is_empty() && !self.is_waiting()
    }
}
