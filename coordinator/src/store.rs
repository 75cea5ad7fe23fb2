//! Where jobs are kept: the only truth.
//!
//! [`JobStore`] is the seam; every implementation passes the suite in `contract`. A verb that changes jobs
//! loads each, applies `stoker_core::job::apply` and writes the outcome in one transaction, and
//! answers only when that transaction is durable. Several verbs may share a commit.

#[cfg(any(test, feature = "contract"))]
pub mod contract;
mod counts;
mod demand;
mod error;
mod filter;
mod job_row;
mod lanes;
mod machines;
pub mod postgres;
mod room;
pub mod sqlite;
mod tables;
mod transit;
mod types;
mod usage;
mod verbs;
mod waiting;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use stoker_core::fleet::ledger::{EndOrder, Mode, Switch};
use stoker_core::ids::{InstanceName, JobId, MachineId, TenantName, WorkerId};
use stoker_core::job::{AttemptError, AttemptRecord, JobRecord};
use stoker_core::request::Idempotency;
use stoker_core::time::Timestamp;
use uuid::Uuid;

pub use counts::{Counts, StateCounts};
pub use demand::{Demand, DemandSlot};
pub use error::{Cause, StoreError};
pub(crate) use machines::leaving;
pub use machines::{LedgerPage, LedgerQuery, LedgerWrite, LedgerWritten, MachineEnded, Reign};
pub use types::{
    AttemptRef, BEGUN_ITEM, Cancelled, Change, ChangeListener, Checkpoint, Claim, ClaimOutcome,
    CompleteOutcome, Filter, Grant, HeartbeatOutcome, KnownWorker, Lane, LaneSet, NewJob, Origin,
    OutboxEntry, Page, Release, Retried, Role, SettleOutcome, StoredPart, Submitted, Swept,
    TenantScope, WaitingTenant, WorkerOrder, WorkerOrders, WorkerRow,
};

pub use usage::Usage;

use types::data_bytes;

/// Keeps jobs. Durable: what a verb answered survives the death of every process.
///
/// # Errors
/// All verbs: [`StoreError`]. `Overloaded` and `Unavailable` changed nothing and may be repeated;
/// after `InDoubt` the caller must read what became of the call. A refusal by the job's state is
/// not an error but an outcome.
#[async_trait]
pub trait JobStore: Send + Sync + std::fmt::Debug {
    /// Stores new jobs, all or none; an idempotency key that was used answers its job instead.
    async fn submit(&self, jobs: Vec<NewJob>) -> Result<Vec<Submitted>, StoreError>;

    /// The jobs of these keys, in order; `None` unless each was used before by the same request.
    async fn repeated(
        &self,
        tenant: TenantName,
        keys: Vec<Idempotency>,
    ) -> Result<Option<Vec<JobId>>, StoreError>;

    /// One job; `None` when there is none, or it is not the tenant's.
    async fn get(&self, scope: TenantScope, job: JobId) -> Result<Option<JobRecord>, StoreError>;

    /// Those of the jobs that exist and are in scope.
    async fn get_many(
        &self,
        scope: TenantScope,
        jobs: Vec<JobId>,
    ) -> Result<Vec<JobRecord>, StoreError>;

    /// A page of jobs, newest first.
    async fn list(&self, filter: Filter) -> Result<Page, StoreError>;

    /// Stored results from `first_item` on, in order, about `max_bytes` of them, at least one part.
    async fn results(
        &self,
        job: JobId,
        first_item: u32,
        max_bytes: usize,
    ) -> Result<Vec<StoredPart>, StoreError>;

    /// What became of each attempt, first to last.
    async fn attempts(&self, job: JobId) -> Result<Vec<AttemptRecord>, StoreError>;

    async fn cancel(&self, scope: TenantScope, job: JobId) -> Result<Cancelled, StoreError>;

    /// Makes `new_id` a new job with the input of a job that ended without a result.
    async fn retry(
        &self,
        scope: TenantScope,
        job: JobId,
        new_id: JobId,
    ) -> Result<Retried, StoreError>;

    /// Takes failed jobs off the list of dead letters; answers how many were on it.
    async fn discard(&self, jobs: Vec<JobId>) -> Result<u32, StoreError>;

    /// What waits in one queue, by tenant: up to `heads` jobs each, least slack first.
    async fn waiting(&self, lane: Lane, heads: u32) -> Result<Vec<WaitingTenant>, StoreError>;

    /// Releases those of the jobs that still wait, and puts them into the outbox.
    async fn dispatch(&self, jobs: Vec<JobId>) -> Result<Vec<OutboxEntry>, StoreError>;

    /// Puts every dispatched job into the outbox again, because its message may be lost; answers
    /// how many.
    async fn republish(&self) -> Result<u64, StoreError>;

    /// Up to `limit` messages of these queues that no confirm has cleared yet.
    async fn outbox(&self, limit: u32, lanes: LaneSet) -> Result<Vec<OutboxEntry>, StoreError>;

    /// How many messages no confirm has cleared yet.
    async fn outbox_len(&self) -> Result<u64, StoreError>;

    /// Forgets messages that the broker has confirmed.
    async fn clear_outbox(&self, entries: Vec<OutboxEntry>) -> Result<(), StoreError>;

    /// Grants leases; one outcome per claim. Stops granting when the inputs granted so far reach
    /// `max_bytes`.
    async fn claim(
        &self,
        worker: WorkerId,
        claims: Vec<Claim>,
        max_bytes: usize,
    ) -> Result<Vec<ClaimOutcome>, StoreError>;

    /// Extends leases and stores checkpoints; one outcome per attempt.
    async fn heartbeat(
        &self,
        progress: Vec<Checkpoint>,
    ) -> Result<Vec<HeartbeatOutcome>, StoreError>;

    /// Stores results; one outcome per attempt.
    async fn complete(
        &self,
        completions: Vec<Checkpoint>,
    ) -> Result<Vec<CompleteOutcome>, StoreError>;

    async fn fail(
        &self,
        failures: Vec<(AttemptRef, AttemptError)>,
    ) -> Result<Vec<SettleOutcome>, StoreError>;

    async fn release(&self, releases: Vec<Release>) -> Result<Vec<SettleOutcome>, StoreError>;

    /// The worker's stream broke: shortens its leases to the grace period.
    async fn disconnect(&self, worker: WorkerId) -> Result<(), StoreError>;

    /// Gives every lease a full life from now on, since nobody could be heard for a while.
    async fn grant_amnesty(&self) -> Result<u64, StoreError>;

    /// Applies what was due when it was called to up to `limit` jobs.
    ///
    /// A dispatched job whose message counts as lost is put into the outbox again, unless its queue
    /// is among those that are known to be `intact`. A job that cannot be handled is logged and
    /// left for later.
    async fn sweep(&self, limit: u32, intact: Vec<Lane>) -> Result<Swept, StoreError>;

    /// Removes results and jobs that ended before these times, up to `limit` jobs of each; answers
    /// how many were removed.
    async fn expire_retention(
        &self,
        results_before: Timestamp,
        jobs_before: Timestamp,
        limit: u32,
    ) -> Result<u64, StoreError>;

    /// How many failed jobs were neither retried nor discarded; more than `limit` count as `limit`.
    async fn dead_letters(&self, limit: u32) -> Result<u64, StoreError>;

    /// Whether this coordinator has a role now. Its verbs are `NotLeading` to all others.
    fn leads(&self, role: Role) -> bool;

    /// Waits until this coordinator has a role.
    async fn lead(&self, role: Role);

    /// Jobs by queue, tenant, class and state. Other coordinators' changes come in a moment later.
    fn counts(&self) -> Counts;

    /// Acceptance time of the job that waits longest: queued or dispatched, and never started.
    async fn oldest_waiting(&self, lane: Lane) -> Result<Option<Timestamp>, StoreError>;

    /// When the first of the jobs that are queued or dispatched has to start.
    async fn first_start(&self, lane: Lane) -> Result<Option<Timestamp>, StoreError>;

    /// What waits now, and, from a time on, what happened to jobs that were accepted since then.
    async fn demand(&self, since: Option<Timestamp>) -> Result<Vec<Demand>, StoreError>;

    /// How many leases each worker has; those without any are left out.
    async fn leases(&self) -> Result<BTreeMap<WorkerId, u64>, StoreError>;

    /// What attempts that began in `[from, until)` took of workers, by queue, tenant and day. Of jobs that were
    /// accepted more than 8 days before, nothing; nor of jobs that retention has removed.
    async fn usage(&self, from: Timestamp, until: Timestamp) -> Result<Vec<Usage>, StoreError>;

    /// Tells the other coordinators of the workers that this one has, and learns of all; `None` when
    /// there are no others.
    async fn exchange_workers(
        &self,
        mine: Vec<WorkerRow>,
    ) -> Result<Option<Vec<KnownWorker>>, StoreError>;

    /// Leaves an order for a worker, wherever its stream is; false when no coordinator knows it.
    async fn order_worker(&self, worker: WorkerId, order: WorkerOrder) -> Result<bool, StoreError>;

    /// Takes or keeps the fleet's lead for `term`, if it is free, and answers who has it. Time is the store's.
    async fn lead_fleet(&self, holder: Uuid, term: Duration) -> Result<Reign, StoreError>;

    /// Gives the fleet's lead up, if `holder` has it.
    async fn resign_fleet(&self, holder: Uuid) -> Result<(), StoreError>;

    /// A part of the fleet's ledger.
    async fn ledger(&self, query: LedgerQuery) -> Result<LedgerPage, StoreError>;

    /// Writes to the fleet's ledger, all or nothing. A call that was committed before is answered as it was.
    async fn write_ledger(&self, write: LedgerWrite) -> Result<LedgerWritten, StoreError>;

    /// Whether the ledger says that a machine of this name is being ended, or is gone.
    async fn is_leaving(&self, instance: InstanceName) -> Result<bool, StoreError>;

    /// Sets what autoscalers may do.
    async fn set_switch(&self, mode: Mode, by: String, why: String) -> Result<Switch, StoreError>;

    /// Writes an operator's order to end a machine into its entry, whoever leads. A leader that decided about the
    /// machine before is refused, and looks again.
    async fn end_machine(
        &self,
        machine: MachineId,
        order: EndOrder,
    ) -> Result<MachineEnded, StoreError>;

    /// Forgets up to `limit` machines that ended before this time; answers how many.
    async fn expire_machines(&self, ended_before: Timestamp, limit: u32)
    -> Result<u64, StoreError>;

    /// Returns when the store can be used no more and only a new start finds out what is stored: a
    /// commit failed in a way that leaves its outcome unknown. Also after [`JobStore::close`].
    async fn failed(&self);

    /// Free bytes where the store is; `None` when that is not known.
    fn free_disk(&self) -> Option<u64>;

    /// Name for status pages, such as `sqlite`.
    fn name(&self) -> &'static str;

    /// Commits what is under way and closes.
    async fn close(&self);
}
