//! What the verbs see of a store: the rows of one open transaction.

use bytes::Bytes;
use stoker_core::ids::{Attempt, DispatchSeq, JobId, LeaseToken, TenantName, WorkerId};
use stoker_core::job::{AttemptEnd, Issued};
use stoker_core::policy::JobPolicy;
use stoker_core::request::Idempotency;
use stoker_core::time::Timestamp;

use super::StoreError;
use super::job_row::StoredJob;
use super::lanes::{Delta, LaneId, LaneNames, SharedLanes};
use super::types::{Change, StoredPart};

/// Rows of one open transaction, which sees its own writes. The verbs are written once over it, so
/// that every store keeps the same rules.
pub(super) trait Tables {
    /// The time of the transaction, by the store's clock.
    fn now(&self) -> Timestamp;
    fn policy(&self) -> &JobPolicy;
    fn lanes(&self) -> &SharedLanes;

    /// The number of a lane, new if need be.
    fn lane_id(&mut self, names: &LaneNames) -> Result<LaneId, StoreError>;

    fn job(&mut self, job: JobId) -> Result<Option<StoredJob>, StoreError>;
    /// Writes everything of a job that can change.
    fn save(&mut self, job: &StoredJob) -> Result<(), StoreError>;
    fn insert_job(
        &mut self,
        job: &StoredJob,
        key: Option<&Idempotency>,
        input: &Bytes,
    ) -> Result<(), StoreError>;
    /// A job's encoded input; `None` when retention removed it.
    fn input(&mut self, job: JobId) -> Result<Option<Bytes>, StoreError>;

    /// The job that an idempotency key was used for.
    fn key_owner(&mut self, tenant: &TenantName, key: &str)
    -> Result<Option<KeyOwner>, StoreError>;
    /// Stores a key that has no owner.
    fn take_key(
        &mut self,
        tenant: &TenantName,
        key: &str,
        owner: KeyOwner,
    ) -> Result<(), StoreError>;

    /// An attempt's token and outcome.
    fn attempt(&mut self, job: JobId, attempt: Attempt) -> Result<Option<Issued>, StoreError>;
    fn begin_attempt(&mut self, job: JobId, begun: Begun) -> Result<(), StoreError>;
    fn end_attempt(&mut self, job: JobId, end: &AttemptEnd) -> Result<(), StoreError>;

    fn insert_part(&mut self, job: JobId, part: &StoredPart) -> Result<(), StoreError>;
    /// Removes results from an item on and answers their bytes; `None`, and nothing is removed,
    /// when a stored part reaches across it.
    fn cut_results(&mut self, job: JobId, first_item: u32) -> Result<Option<u64>, StoreError>;

    /// Notes that the job's last dispatch is to be published.
    fn put_into_outbox(&mut self, job: JobId, seq: DispatchSeq) -> Result<(), StoreError>;
    fn clear_outbox(&mut self, job: JobId, seq: DispatchSeq) -> Result<(), StoreError>;

    /// Looks at a job's timer again at this time.
    fn put_off(&mut self, job: JobId, until: Timestamp) -> Result<(), StoreError>;
    /// Jobs whose timer is due at this time, oldest first.
    fn due(&mut self, at: Timestamp, limit: u32) -> Result<Vec<JobId>, StoreError>;
    /// Leased jobs, of one worker or of all.
    fn leased(&mut self, worker: Option<WorkerId>) -> Result<Vec<JobId>, StoreError>;

    /// Notes a change, to be told of once it is durable.
    fn changed(&mut self, change: Change, delta: Delta);
}

/// What an idempotency key was used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyOwner {
    pub(super) job: JobId,
    pub(super) digest: [u8; 32],
}

/// An attempt that begins now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Begun {
    pub(super) attempt: Attempt,
    pub(super) worker: WorkerId,
    pub(super) token: LeaseToken,
}
