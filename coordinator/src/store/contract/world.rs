//! An empty store with its surroundings, and short names for what the tests do to it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use stoker_core::ids::{ClassName, JobId, ModelName, PoolName, TenantName, WorkerId};
use stoker_core::job::{AttemptError, FailureKind, StateKind};
use stoker_core::request::{Labels, Task};
use stoker_core::time::Timestamp;
use stoker_runtime::clock::{Clock as _, ManualClock};
use stoker_runtime::ids;
use stoker_runtime::trace_context::TraceContext;

use crate::store::{
    AttemptRef, Change, ChangeListener, Checkpoint, Claim, ClaimOutcome, CompleteOutcome, Filter,
    Grant, HeartbeatOutcome, JobStore, Lane, LaneSet, NewJob, OutboxEntry, SettleOutcome,
    StoredPart, TenantScope,
};

/// A store to test, with its surroundings.
#[derive(Debug)]
pub struct World {
    pub store: Arc<dyn JobStore>,
    pub clock: ManualClock,
    pub changes: Arc<Mutex<Vec<Change>>>,
}

/// A listener that keeps what it is told.
pub fn recording_listener() -> (ChangeListener, Arc<Mutex<Vec<Change>>>) {
    let changes: Arc<Mutex<Vec<Change>>> = Arc::default();
    let sink = Arc::clone(&changes);
    (Arc::new(move |new: &[Change], _| sink.lock().unwrap().extend_from_slice(new)), changes)
}

pub const START: Timestamp = Timestamp::from_unix_millis(1_700_000_000_000);

pub(super) fn tenant(name: &str) -> TenantName {
    TenantName::new(name).unwrap()
}

pub(super) fn lane() -> Lane {
    Lane { pool: PoolName::new("default").unwrap(), model: ModelName::new("mini").unwrap() }
}

impl World {
    pub fn new_job(&self, items: u32) -> NewJob {
        let now = self.clock.now();
        NewJob {
            id: ids::job_id(now),
            tenant: tenant("default"),
            class: ClassName::new("standard").unwrap(),
            lane: lane(),
            task: Task::TextEmbedding,
            input: Bytes::from_static(b"input"),
            items,
            idempotency: None,
            accepted_at: now,
            deadline_at: Timestamp::MAX,
            start_by: now.after(Duration::from_mins(1)),
            labels: Labels::new(),
            trace: TraceContext::default(),
        }
    }

    pub async fn submit(&self, job: NewJob) -> JobId {
        self.store.submit(vec![job]).await.unwrap()[0].job
    }

    pub async fn submit_one(&self, items: u32) -> JobId {
        self.submit(self.new_job(items)).await
    }

    pub async fn state(&self, job: JobId) -> StateKind {
        let record = self.store.get(TenantScope::All, job).await.unwrap().unwrap();
        record.job.state.kind()
    }

    pub async fn claim(&self, worker: WorkerId, claim: Claim) -> ClaimOutcome {
        self.store.claim(worker, vec![claim], usize::MAX).await.unwrap().pop().unwrap()
    }

    /// Dispatches and claims a queued job.
    pub async fn run(&self, job: JobId) -> Grant {
        let entries = self.store.dispatch(vec![job]).await.unwrap();
        assert_eq!(entries.len(), 1, "the job was queued");
        let claim =
            Claim { job, seq: entries[0].seq, claim: ids::claim_id(), token: ids::lease_token() };
        match self.claim(ids::worker_id(), claim).await {
            ClaimOutcome::Granted(grant) => *grant,
            other => panic!("not granted: {other:?}"),
        }
    }

    /// Some of what waits for a confirm.
    pub async fn outbox(&self) -> Vec<OutboxEntry> {
        self.store.outbox(10, LaneSet::AllBut(Vec::new())).await.unwrap()
    }

    pub async fn complete(&self, attempt: AttemptRef, parts: Vec<StoredPart>) -> CompleteOutcome {
        self.store.complete(vec![Checkpoint { attempt, parts, begun: None }]).await.unwrap()[0]
    }

    pub async fn heartbeat(&self, attempt: AttemptRef, parts: Vec<StoredPart>) -> HeartbeatOutcome {
        self.store.heartbeat(vec![Checkpoint { attempt, parts, begun: None }]).await.unwrap()[0]
    }

    pub async fn fail(&self, attempt: AttemptRef, kind: FailureKind) -> SettleOutcome {
        let error = AttemptError { kind, code: "E".into(), message: "broke".into() };
        self.store.fail(vec![(attempt, error)]).await.unwrap()[0]
    }

    pub fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }
}

/// Submits an ordinary job.
pub async fn submit_one(world: &World) -> JobId {
    world.submit_one(1).await
}

pub(super) fn attempt_of(job: JobId, grant: &Grant) -> AttemptRef {
    AttemptRef { job, attempt: grant.attempt, token: grant.token }
}

pub(super) fn part(first_item: u32, items: u32, text: &'static str) -> StoredPart {
    StoredPart { first_item, items, data: Bytes::from_static(text.as_bytes()) }
}

pub(super) fn filter() -> Filter {
    Filter {
        scope: TenantScope::All,
        states: Vec::new(),
        model: None,
        class: None,
        labels: Labels::new(),
        accepted_after: None,
        accepted_before: None,
        only_dead_letters: false,
        failure: None,
        before: None,
        limit: 100,
    }
}
