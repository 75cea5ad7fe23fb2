//! Jobs in one `SQLite` file: the embedded store, for one coordinator.
//!
//! One thread writes (`writer`), and what waits for it at the same time shares a commit; a few
//! connections read. Write-ahead log with `synchronous=FULL`: an answered call survives a power
//! failure. Names repeat a million times, so a job row holds the number of its lane (tenant,
//! class, pool and model) instead (`lanes`).

mod dispatch;
pub(super) mod export;
mod lanes;
mod machines;
mod query;
mod reader;
mod retention;
mod rows;
mod schema;
mod tables;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use stoker_core::fleet::ledger::{EndOrder, Mode, Switch};
use stoker_core::ids::{InstanceName, JobId, MachineId, TenantName, WorkerId};
use stoker_core::job::{AttemptError, AttemptRecord, JobRecord};
use stoker_core::policy::JobPolicy;
use stoker_core::request::Idempotency;
use stoker_core::time::Timestamp;
use stoker_runtime::clock::Clock;
use uuid::Uuid;

use self::reader::Readers;
use self::writer::Writer;
use super::lanes::SharedLanes;
use super::{
    AttemptRef, Cancelled, ChangeListener, Checkpoint, Claim, ClaimOutcome, CompleteOutcome,
    Counts, Demand, Filter, HeartbeatOutcome, JobStore, KnownWorker, Lane, LaneSet, LedgerPage,
    LedgerQuery, LedgerWrite, LedgerWritten, MachineEnded, NewJob, OutboxEntry, Page, Reign,
    Release, Retried, Role, SettleOutcome, StoreError, StoredPart, Submitted, Swept, TenantScope,
    Usage, WaitingTenant, WorkerOrder, WorkerRow, data_bytes, verbs,
};

/// What a store needs besides its file.
pub struct SqliteOptions {
    pub policy: JobPolicy,
    pub clock: Arc<dyn Clock>,
    pub listener: ChangeListener,
}

impl std::fmt::Debug for SqliteOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteOptions").field("policy", &self.policy).finish_non_exhaustive()
    }
}

/// The store; cheap to share behind an `Arc`.
#[derive(Debug)]
pub struct SqliteStore {
    directory: PathBuf,
    writer: Writer,
    readers: Readers,
    lanes: SharedLanes,
    clock: Arc<dyn Clock>,
    /// Held locked for the life of the store, so that no second coordinator opens the same file.
    _lock: File,
}

impl SqliteStore {
    /// Opens the store in `directory` and makes it if there is none. Checks the file's integrity,
    /// migrates an older schema and refuses a newer one.
    ///
    /// # Errors
    /// [`StoreError::Open`] says what is wrong and what to do.
    pub fn open(directory: &Path, options: SqliteOptions) -> Result<Self, StoreError> {
        std::fs::create_dir_all(directory).map_err(|error| {
            StoreError::Open(format!(
                "cannot make the data directory {}: {error}; choose another with --data",
                directory.display()
            ))
        })?;
        let lock = lock(directory)?;
        let file = directory.join("stoker.db");
        let connection = schema::open(&file)?;
        let lanes = lanes::load(&connection)?;
        let readers = Readers::open(&file)?;
        let clock = Arc::clone(&options.clock);
        let writer = Writer::start(connection, lanes.clone(), options)?;
        let directory = directory.to_owned();
        Ok(Self { directory, writer, readers, lanes, clock, _lock: lock })
    }
}

fn lock(directory: &Path) -> Result<File, StoreError> {
    let path = directory.join("lock");
    let open = || {
        let file = File::options().create(true).truncate(false).write(true).open(&path)?;
        file.try_lock()?;
        Ok::<_, std::io::Error>(file)
    };
    open().map_err(|error| {
        let reason = if error.kind() == std::io::ErrorKind::WouldBlock {
            "another coordinator uses it; stop that one, or choose another with --data".to_owned()
        } else {
            format!("{error}; check its permissions, or choose another with --data")
        };
        StoreError::Open(format!("cannot use the data directory {}: {reason}", directory.display()))
    })
}

#[async_trait]
impl JobStore for SqliteStore {
    async fn submit(&self, jobs: Vec<NewJob>) -> Result<Vec<Submitted>, StoreError> {
        let bytes = jobs.iter().map(|job| job.input.len()).sum();
        self.writer.call_with(bytes, move |write| verbs::submit(write, &jobs)).await
    }

    async fn repeated(
        &self,
        tenant: TenantName,
        keys: Vec<Idempotency>,
    ) -> Result<Option<Vec<JobId>>, StoreError> {
        self.readers.call(move |db| query::repeated(db, &tenant, &keys)).await
    }

    async fn get(&self, scope: TenantScope, job: JobId) -> Result<Option<JobRecord>, StoreError> {
        Ok(self.get_many(scope, vec![job]).await?.pop())
    }

    async fn get_many(
        &self,
        scope: TenantScope,
        jobs: Vec<JobId>,
    ) -> Result<Vec<JobRecord>, StoreError> {
        let lanes = self.lanes.clone();
        self.readers.call(move |db| query::get_many(db, &lanes, &scope, &jobs)).await
    }

    async fn list(&self, filter: Filter) -> Result<Page, StoreError> {
        let lanes = self.lanes.clone();
        self.readers.call(move |db| query::list(db, &lanes, &filter)).await
    }

    async fn results(
        &self,
        job: JobId,
        first_item: u32,
        max_bytes: usize,
    ) -> Result<Vec<StoredPart>, StoreError> {
        self.readers.call(move |db| query::results(db, job, first_item, max_bytes)).await
    }

    async fn attempts(&self, job: JobId) -> Result<Vec<AttemptRecord>, StoreError> {
        self.readers.call(move |db| query::attempts(db, job)).await
    }

    async fn cancel(&self, scope: TenantScope, job: JobId) -> Result<Cancelled, StoreError> {
        self.writer.call(move |write| verbs::cancel(write, &scope, job)).await
    }

    async fn retry(
        &self,
        scope: TenantScope,
        job: JobId,
        new_id: JobId,
    ) -> Result<Retried, StoreError> {
        self.writer.call(move |write| verbs::retry(write, &scope, job, new_id)).await
    }

    async fn discard(&self, jobs: Vec<JobId>) -> Result<u32, StoreError> {
        self.writer.call(move |write| verbs::discard(write, &jobs)).await
    }

    async fn waiting(&self, lane: Lane, heads: u32) -> Result<Vec<WaitingTenant>, StoreError> {
        let lanes = self.lanes.clone();
        self.readers.call(move |db| dispatch::waiting(db, &lanes, &lane, heads)).await
    }

    async fn dispatch(&self, jobs: Vec<JobId>) -> Result<Vec<OutboxEntry>, StoreError> {
        self.writer.call(move |write| verbs::dispatch(write, &jobs)).await
    }

    async fn republish(&self) -> Result<u64, StoreError> {
        self.writer.call(dispatch::republish).await
    }

    async fn outbox(&self, limit: u32, of: LaneSet) -> Result<Vec<OutboxEntry>, StoreError> {
        let lanes = self.lanes.clone();
        self.readers.call(move |db| dispatch::outbox(db, &lanes, limit, &of)).await
    }

    async fn outbox_len(&self) -> Result<u64, StoreError> {
        self.readers.call(dispatch::outbox_len).await
    }

    async fn clear_outbox(&self, entries: Vec<OutboxEntry>) -> Result<(), StoreError> {
        self.writer.call(move |write| verbs::clear_outbox(write, &entries)).await
    }

    async fn claim(
        &self,
        worker: WorkerId,
        claims: Vec<Claim>,
        max_bytes: usize,
    ) -> Result<Vec<ClaimOutcome>, StoreError> {
        self.writer.call(move |write| verbs::claim(write, worker, &claims, max_bytes)).await
    }

    async fn heartbeat(
        &self,
        progress: Vec<Checkpoint>,
    ) -> Result<Vec<HeartbeatOutcome>, StoreError> {
        let bytes = data_bytes(&progress);
        self.writer.call_with(bytes, move |write| verbs::heartbeat(write, &progress)).await
    }

    async fn complete(
        &self,
        completions: Vec<Checkpoint>,
    ) -> Result<Vec<CompleteOutcome>, StoreError> {
        let bytes = data_bytes(&completions);
        self.writer.call_with(bytes, move |write| verbs::complete(write, &completions)).await
    }

    async fn fail(
        &self,
        failures: Vec<(AttemptRef, AttemptError)>,
    ) -> Result<Vec<SettleOutcome>, StoreError> {
        self.writer.call(move |write| verbs::fail(write, &failures)).await
    }

    async fn release(&self, releases: Vec<Release>) -> Result<Vec<SettleOutcome>, StoreError> {
        let bytes = data_bytes(releases.iter().map(|release| &release.checkpoint));
        self.writer.call_with(bytes, move |write| verbs::release(write, &releases)).await
    }

    async fn disconnect(&self, worker: WorkerId) -> Result<(), StoreError> {
        self.writer.call(move |write| verbs::disconnect(write, worker)).await
    }

    async fn grant_amnesty(&self) -> Result<u64, StoreError> {
        self.writer.call(|write| verbs::grant_amnesty(write)).await
    }

    async fn sweep(&self, limit: u32, intact: Vec<Lane>) -> Result<Swept, StoreError> {
        // A writer that was held up must not take its own lateness for that of workers, whose
        // heartbeats may be waiting behind this call.
        let asked_at = self.clock.now();
        let work = verbs::Sweep { asked_at, limit, intact };
        let changed = self.writer.call(move |write| verbs::sweep(write, &work)).await?;
        let next_due = self.readers.call(dispatch::next_due).await?;
        Ok(Swept { changed, next_due })
    }

    async fn expire_retention(
        &self,
        results_before: Timestamp,
        jobs_before: Timestamp,
        limit: u32,
    ) -> Result<u64, StoreError> {
        self.writer
            .call(move |write| retention::expire(write, results_before, jobs_before, limit))
            .await
    }

    async fn dead_letters(&self, limit: u32) -> Result<u64, StoreError> {
        self.readers.call(move |db| query::dead_letters(db, limit)).await
    }

    fn leads(&self, _: Role) -> bool {
        true
    }

    async fn lead(&self, _: Role) {}

    fn counts(&self) -> Counts {
        self.lanes.counts()
    }

    async fn oldest_waiting(&self, lane: Lane) -> Result<Option<Timestamp>, StoreError> {
        let lanes = self.lanes.clone();
        self.readers.call(move |db| dispatch::oldest_waiting(db, &lanes, &lane)).await
    }

    async fn first_start(&self, lane: Lane) -> Result<Option<Timestamp>, StoreError> {
        let lanes = self.lanes.clone();
        self.readers.call(move |db| dispatch::first_start(db, &lanes, &lane)).await
    }

    async fn demand(&self, since: Option<Timestamp>) -> Result<Vec<Demand>, StoreError> {
        let lanes = self.lanes.clone();
        self.readers.call(move |db| query::demand(db, &lanes, since)).await
    }

    async fn leases(&self) -> Result<BTreeMap<WorkerId, u64>, StoreError> {
        self.readers.call(query::leases).await
    }

    async fn usage(&self, from: Timestamp, until: Timestamp) -> Result<Vec<Usage>, StoreError> {
        let lanes = self.lanes.clone();
        self.readers.call(move |db| query::usage(db, &lanes, from, until)).await
    }

    async fn exchange_workers(
        &self,
        _: Vec<WorkerRow>,
    ) -> Result<Option<Vec<KnownWorker>>, StoreError> {
        Ok(None)
    }

    async fn order_worker(&self, _: WorkerId, _: WorkerOrder) -> Result<bool, StoreError> {
        Ok(false)
    }

    async fn lead_fleet(&self, holder: Uuid, term: Duration) -> Result<Reign, StoreError> {
        self.writer.call(move |write| machines::lead(write, holder, term)).await
    }

    async fn resign_fleet(&self, holder: Uuid) -> Result<(), StoreError> {
        self.writer.call(move |write| machines::resign(write, holder)).await
    }

    async fn ledger(&self, query: LedgerQuery) -> Result<LedgerPage, StoreError> {
        let now = self.clock.now();
        self.readers.call(move |db| machines::read(db, query, now)).await
    }

    async fn write_ledger(&self, ledger: LedgerWrite) -> Result<LedgerWritten, StoreError> {
        let bytes = ledger.memory.as_ref().map_or(0, bytes::Bytes::len);
        self.writer.call_with(bytes, move |write| machines::write(write, &ledger)).await
    }

    async fn is_leaving(&self, instance: InstanceName) -> Result<bool, StoreError> {
        self.readers.call(move |db| machines::is_leaving(db, &instance)).await
    }

    async fn set_switch(&self, mode: Mode, by: String, why: String) -> Result<Switch, StoreError> {
        self.writer.call(move |write| machines::set_switch(write, (mode, &by, &why))).await
    }

    async fn end_machine(
        &self,
        machine: MachineId,
        order: EndOrder,
    ) -> Result<MachineEnded, StoreError> {
        self.writer.call(move |write| machines::end_machine(write, machine, &order)).await
    }

    async fn expire_machines(
        &self,
        ended_before: Timestamp,
        limit: u32,
    ) -> Result<u64, StoreError> {
        self.writer.call(move |write| machines::expire(write, ended_before, limit)).await
    }

    async fn failed(&self) {
        self.writer.ended().await;
    }

    fn free_disk(&self) -> Option<u64> {
        let disk = stoker_runtime::fs::free_space(&self.directory).ok()?;
        // Whatever goes into the file goes through the log first, which needs room of its own.
        let within = if disk < schema::LOG_BYTES { 0 } else { self.writer.free_bytes() };
        Some(disk.saturating_add(within))
    }

    fn name(&self) -> &'static str {
        "sqlite"
    }

    async fn close(&self) {
        self.writer.close().await;
    }
}
