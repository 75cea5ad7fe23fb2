//! Reports that wait for a call, and which of them go together. No I/O.

use std::collections::VecDeque;
use std::path::PathBuf;

use stoker_core::worker::ReportKind;
use tracing::Span;

use super::{Report, Verdict};
use crate::attempt::{Fence, Ticket};
use crate::board::JobKey;
use crate::spool::Spooled;

/// Reports of one call.
const AT_ONCE: usize = 256;

/// Which call carries a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Complete,
    Fail,
    Release,
}

/// A report on its way, without its ticket, which is settled in the end.
#[derive(Debug)]
pub(super) struct Entry {
    /// Names the report among those of this process.
    pub(super) id: u64,
    pub(super) key: Option<JobKey>,
    pub(super) fence: Option<Fence>,
    pub(super) verdict: Verdict,
    pub(super) span: Span,
    bytes: usize,
}

impl Entry {
    pub(super) fn new(id: u64, report: Report) -> (Self, Option<Ticket>) {
        let Report { key, fence, verdict, ticket, span } = report;
        (Self { id, key, fence, bytes: verdict.bytes(), verdict, span }, ticket)
    }

    pub(super) const fn kind(&self) -> Kind {
        match self.verdict {
            Verdict::Complete { .. } | Verdict::Spooled { .. } => Kind::Complete,
            Verdict::Fail(_) => Kind::Fail,
            Verdict::Release { .. } => Kind::Release,
        }
    }

    /// What is reported, as the rules see it.
    pub(super) const fn report_kind(&self) -> ReportKind {
        match (&self.verdict, self.fence) {
            (Verdict::Complete { .. } | Verdict::Spooled { .. }, Some(_)) => ReportKind::Complete,
            (Verdict::Complete { .. } | Verdict::Spooled { .. }, None) => ReportKind::Inherited,
            (Verdict::Fail(_), _) => ReportKind::Fail,
            (Verdict::Release { .. }, _) => ReportKind::Release,
        }
    }

    /// The same attempt with another verdict.
    pub(super) fn with_verdict(self, verdict: Verdict) -> Self {
        Self { bytes: verdict.bytes(), verdict, ..self }
    }

    fn bytes_in_memory(&self) -> usize {
        match self.verdict {
            Verdict::Complete { .. } => self.bytes,
            // Only completions can be moved to the spool.
            Verdict::Spooled { .. } | Verdict::Fail(_) | Verdict::Release { .. } => 0,
        }
    }

    fn spooled(&self) -> Option<Spooled> {
        match (&self.verdict, self.fence) {
            (Verdict::Complete { parts, busy }, Some(fence)) => {
                Some(Spooled { fence, parts: parts.clone(), busy: *busy })
            }
            _ => None,
        }
    }
}

/// Reports in the order in which they are to be sent.
#[derive(Debug, Default)]
pub(super) struct PendingReports {
    entries: VecDeque<Entry>,
}

impl PendingReports {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn push(&mut self, entry: Entry) {
        self.entries.push_back(entry);
    }

    /// Reports of a call without an answer: they keep their place.
    pub(super) fn put_back(&mut self, entries: Vec<Entry>) {
        for entry in entries.into_iter().rev() {
            self.entries.push_front(entry);
        }
    }

    /// The first report and all others that fit into the same call: same kind, together at most
    /// `max_bytes`. A first one that alone is larger goes by itself.
    pub(super) fn take(&mut self, max_bytes: usize) -> Vec<Entry> {
        let Some(first) = self.entries.pop_front() else { return Vec::new() };
        let (kind, mut bytes) = (first.kind(), first.bytes);
        let mut group = vec![first];
        let mut others = VecDeque::with_capacity(self.entries.len());
        for entry in self.entries.drain(..) {
            let fits = bytes.saturating_add(entry.bytes) <= max_bytes && group.len() < AT_ONCE;
            if fits && entry.kind() == kind {
                bytes += entry.bytes;
                group.push(entry);
            } else {
                others.push_back(entry);
            }
        }
        self.entries = others;
        group
    }

    pub(super) fn bytes_in_memory(&self) -> usize {
        self.entries.iter().map(Entry::bytes_in_memory).sum()
    }

    /// The completion that frees most memory, and its place.
    pub(super) fn largest_in_memory(&self) -> Option<(usize, Spooled)> {
        let in_memory = self.entries.iter().enumerate();
        let (at, entry) = in_memory.max_by_key(|(_, entry)| entry.bytes_in_memory())?;
        Some((at, entry.spooled()?))
    }

    /// The completion at this place is in a file now.
    pub(super) fn moved_to_spool(&mut self, at: usize, path: PathBuf, bytes: usize) {
        if let Some(entry) = self.entries.get_mut(at) {
            entry.verdict = Verdict::Spooled { path, bytes };
            entry.bytes = bytes;
        }
    }

    /// The completions that are only in memory.
    pub(super) fn into_completions(self) -> impl Iterator<Item = Spooled> {
        self.entries.into_iter().filter_map(|entry| entry.spooled())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use stoker_core::ids::{Attempt, JobId, LeaseToken};
    use stoker_proto::v1::{Embeddings, ReleaseReason, ResultPart, result_part::Output};

    use super::*;
    use crate::board::{Failure, FailureKind};

    fn entry(key: u64, verdict: Verdict) -> Entry {
        let fence = Fence {
            job: JobId::from_bytes([u8::try_from(key).unwrap(); 16]),
            attempt: Attempt::FIRST,
            token: LeaseToken::from_bytes([0; 16]),
        };
        let (key, fence) = (Some(JobKey(key)), Some(fence));
        Entry::new(0, Report { key, fence, verdict, ticket: None, span: Span::none() }).0
    }

    fn complete(key: u64, bytes: usize) -> Entry {
        let embeddings = Embeddings { dimensions: 1, vectors: vec![0; bytes].into() };
        let part =
            ResultPart { first_item: 0, items: 1, output: Some(Output::Embeddings(embeddings)) };
        entry(key, Verdict::Complete { parts: vec![part], busy: Duration::ZERO })
    }

    fn fail(key: u64) -> Entry {
        let (kind, code, message) = (FailureKind::Crash, "X", String::new());
        entry(key, Verdict::Fail(Failure { kind, code, message }))
    }

    fn release(key: u64) -> Entry {
        entry(
            key,
            Verdict::Release { reason: ReleaseReason::Draining, parts: Vec::new(), begun: None },
        )
    }

    fn keys(entries: &[Entry]) -> Vec<u64> {
        entries.iter().filter_map(|entry| Some(entry.key?.0)).collect()
    }

    #[test]
    fn reports_of_a_kind_go_together_within_the_limit() {
        let mut pending = PendingReports::new();
        for entry in [complete(1, 40), fail(2), complete(3, 50), complete(4, 40), release(5)] {
            pending.push(entry);
        }
        assert_eq!(keys(&pending.take(100)), [1, 3]);
        assert_eq!(keys(&pending.take(100)), [2]);
        assert_eq!(keys(&pending.take(100)), [4]);
        assert_eq!(keys(&pending.take(100)), [5]);
        assert!(pending.take(100).is_empty());
    }

    #[test]
    fn an_oversized_report_goes_alone_and_a_call_is_bounded() {
        let mut pending = PendingReports::new();
        pending.push(complete(1, 101));
        pending.push(complete(2, 1));
        assert_eq!(keys(&pending.take(100)), [1]);
        let mut pending = PendingReports::new();
        for _ in 0..300 {
            pending.push(fail(1));
        }
        assert_eq!(pending.take(100).len(), AT_ONCE);
    }

    #[test]
    fn what_was_not_answered_keeps_its_place() {
        let mut pending = PendingReports::new();
        for entry in [complete(1, 1), complete(2, 1)] {
            pending.push(entry);
        }
        let group = pending.take(1);
        pending.put_back(group);
        assert_eq!(keys(&pending.take(2)), [1, 2]);
    }

    #[test]
    fn the_largest_completion_moves_to_the_spool_and_the_rest_is_kept() {
        let mut pending = PendingReports::new();
        for entry in [complete(1, 10), complete(2, 30), fail(3)] {
            pending.push(entry);
        }
        assert_eq!(pending.bytes_in_memory(), 40);
        let (at, spooled) = pending.largest_in_memory().unwrap();
        assert_eq!(spooled.fence.job, JobId::from_bytes([2; 16]));
        pending.moved_to_spool(at, "x.result".into(), 30);
        assert_eq!(pending.bytes_in_memory(), 10);
        let left: Vec<Spooled> = pending.into_completions().collect();
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].fence.job, JobId::from_bytes([1; 16]));
    }
}
