//! The store's verbs: which rows each needs, and which rule runs over them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use deadpool_postgres::Object;
use stoker_core::fleet::ledger::{EndOrder, Mode, Switch};
use stoker_core::ids::{InstanceName, JobId, MachineId, TenantName, WorkerId};
use stoker_core::job::{AttemptError, AttemptRecord, JobRecord};
use stoker_core::request::Idempotency;
use stoker_core::time::Timestamp;
use tokio::time::Instant;
use uuid::Uuid;

use crate::store::{
    AttemptRef, Cancelled, Checkpoint, Claim, ClaimOutcome, CompleteOutcome, Counts, Demand,
    Filter, HeartbeatOutcome, JobStore, KnownWorker, Lane, LaneSet, LedgerPage, LedgerQuery,
    LedgerWrite, LedgerWritten, MachineEnded, NewJob, OutboxEntry, Page, Reign, Release, Retried,
    Role, SettleOutcome, StoreError, StoredPart, Submitted, Swept, TenantScope, Usage,
    WaitingTenant, WorkerOrder, WorkerRow, data_bytes, verbs,
};

use super::needs::{Due, Needs};
use super::session::take;
use super::unit::Unit;
use super::{PostgresStore, demand, machines, query, retention, usage, workers};

/// How long the store's tasks may take to end.
const END_LIMIT: Duration = Duration::from_secs(5);

impl PostgresStore {
    /// Calls as the leader. One that the database does not take for the leader is none from then on.
    async fn call_as<T: Send + 'static>(
        &self,
        role: Role,
        needs: Needs,
        mut run: impl FnMut(&mut Unit<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let needs = Needs { roles: BTreeSet::from([role]), ..needs };
        let run = move |unit: &mut Unit<'_>| {
            unit.require(role)?;
            run(unit)
        };
        let result = self.writer.call(needs, run).await;
        if matches!(result, Err(StoreError::NotLeading)) {
            self.shared.leaders.lost(role);
        }
        result
    }

    async fn reader(&self) -> Result<Object, StoreError> {
        take(&self.readers).await
    }
}

fn about(jobs: impl IntoIterator<Item = JobId>) -> Needs {
    Needs { jobs: jobs.into_iter().collect(), ..Needs::default() }
}

fn attempts<'a>(checkpoints: impl IntoIterator<Item = &'a Checkpoint>) -> Needs {
    let checkpoints: Vec<&Checkpoint> = checkpoints.into_iter().collect();
    let bytes = data_bytes(checkpoints.iter().copied());
    let mut needs = Needs { bytes, ..Needs::default() };
    needs.attempts(checkpoints);
    needs
}

#[async_trait]
impl JobStore for PostgresStore {
    async fn submit(&self, jobs: Vec<NewJob>) -> Result<Vec<Submitted>, StoreError> {
        let mut needs = Needs::default();
        needs.submit(&jobs);
        needs.bytes = jobs.iter().map(|job| job.input.len()).sum();
        self.writer.call(needs, move |unit| verbs::submit(unit, &jobs)).await
    }

    async fn repeated(
        &self,
        tenant: TenantName,
        keys: Vec<Idempotency>,
    ) -> Result<Option<Vec<JobId>>, StoreError> {
        query::repeated(&self.reader().await?, &tenant, &keys).await
    }

    async fn get(&self, scope: TenantScope, job: JobId) -> Result<Option<JobRecord>, StoreError> {
        Ok(self.get_many(scope, vec![job]).await?.pop())
    }

    async fn get_many(
        &self,
        scope: TenantScope,
        jobs: Vec<JobId>,
    ) -> Result<Vec<JobRecord>, StoreError> {
        query::get_many(&self.reader().await?, &self.shared.ledger.lanes, &scope, &jobs).await
    }

    async fn list(&self, filter: Filter) -> Result<Page, StoreError> {
        query::list(&self.reader().await?, &self.shared.ledger.lanes, &filter).await
    }

    async fn results(
        &self,
        job: JobId,
        first_item: u32,
        max_bytes: usize,
    ) -> Result<Vec<StoredPart>, StoreError> {
        query::results(&self.reader().await?, job, first_item, max_bytes).await
    }

    async fn attempts(&self, job: JobId) -> Result<Vec<AttemptRecord>, StoreError> {
        query::attempts(&self.reader().await?, job).await
    }

    async fn cancel(&self, scope: TenantScope, job: JobId) -> Result<Cancelled, StoreError> {
        self.writer.call(about([job]), move |unit| verbs::cancel(unit, &scope, job)).await
    }

    async fn retry(
        &self,
        scope: TenantScope,
        job: JobId,
        new_id: JobId,
    ) -> Result<Retried, StoreError> {
        let needs = Needs { inputs: BTreeSet::from([job]), ..about([job]) };
        self.writer.call(needs, move |unit| verbs::retry(unit, &scope, job, new_id)).await
    }

    async fn discard(&self, jobs: Vec<JobId>) -> Result<u32, StoreError> {
        let needs = about(jobs.iter().copied());
        self.writer.call(needs, move |unit| verbs::discard(unit, &jobs)).await
    }

    async fn waiting(&self, lane: Lane, heads: u32) -> Result<Vec<WaitingTenant>, StoreError> {
        query::waiting(&self.reader().await?, &self.shared.ledger.lanes, &lane, heads).await
    }

    async fn dispatch(&self, jobs: Vec<JobId>) -> Result<Vec<OutboxEntry>, StoreError> {
        let needs = about(jobs.iter().copied());
        let dispatch = move |unit: &mut Unit<'_>| verbs::dispatch(unit, &jobs);
        self.call_as(Role::Dispatch, needs, dispatch).await
    }

    async fn republish(&self) -> Result<u64, StoreError> {
        query::republish(&take(&self.shared.pool).await?).await
    }

    async fn outbox(&self, limit: u32, of: LaneSet) -> Result<Vec<OutboxEntry>, StoreError> {
        query::outbox(&self.reader().await?, &self.shared.ledger.lanes, limit, &of).await
    }

    async fn outbox_len(&self) -> Result<u64, StoreError> {
        query::outbox_len(&self.reader().await?).await
    }

    async fn clear_outbox(&self, entries: Vec<OutboxEntry>) -> Result<(), StoreError> {
        let clear = move |unit: &mut Unit<'_>| verbs::clear_outbox(unit, &entries);
        self.writer.call(Needs::default(), clear).await
    }

    async fn claim(
        &self,
        worker: WorkerId,
        claims: Vec<Claim>,
        max_bytes: usize,
    ) -> Result<Vec<ClaimOutcome>, StoreError> {
        let jobs: BTreeSet<JobId> = claims.iter().map(|claim| claim.job).collect();
        let needs = Needs { inputs: jobs.clone(), ..about(jobs) };
        let claim = move |unit: &mut Unit<'_>| verbs::claim(unit, worker, &claims, max_bytes);
        self.writer.call(needs, claim).await
    }

    async fn heartbeat(
        &self,
        progress: Vec<Checkpoint>,
    ) -> Result<Vec<HeartbeatOutcome>, StoreError> {
        let needs = attempts(&progress);
        self.writer.call(needs, move |unit| verbs::heartbeat(unit, &progress)).await
    }

    async fn complete(
        &self,
        completions: Vec<Checkpoint>,
    ) -> Result<Vec<CompleteOutcome>, StoreError> {
        let needs = attempts(&completions);
        self.writer.call(needs, move |unit| verbs::complete(unit, &completions)).await
    }

    async fn fail(
        &self,
        failures: Vec<(AttemptRef, AttemptError)>,
    ) -> Result<Vec<SettleOutcome>, StoreError> {
        let mut needs = Needs::default();
        for (attempt, _) in &failures {
            needs.attempt(attempt);
        }
        self.writer.call(needs, move |unit| verbs::fail(unit, &failures)).await
    }

    async fn release(&self, releases: Vec<Release>) -> Result<Vec<SettleOutcome>, StoreError> {
        let needs = attempts(releases.iter().map(|release| &release.checkpoint));
        self.writer.call(needs, move |unit| verbs::release(unit, &releases)).await
    }

    async fn disconnect(&self, worker: WorkerId) -> Result<(), StoreError> {
        if workers::is_elsewhere(&self.shared, worker).await? {
            return Ok(());
        }
        let needs = Needs { leased: BTreeSet::from([Some(worker)]), ..Needs::default() };
        self.writer.call(needs, move |unit| verbs::disconnect(unit, worker)).await
    }

    async fn grant_amnesty(&self) -> Result<u64, StoreError> {
        let needs = Needs { leased: BTreeSet::from([None]), ..Needs::default() };
        self.call_as(Role::Sweep, needs, |unit| verbs::grant_amnesty(unit)).await
    }

    async fn sweep(&self, limit: u32, intact: Vec<Lane>) -> Result<Swept, StoreError> {
        let asked = Instant::now();
        let needs = Needs { due: Some(Due { asked, limit }), ..Needs::default() };
        let sweep = move |unit: &mut Unit<'_>| {
            let (asked_at, intact) = (unit.asked_at(asked), intact.clone());
            verbs::sweep(unit, &verbs::Sweep { asked_at, limit, intact })
        };
        let changed = self.call_as(Role::Sweep, needs, sweep).await?;
        Ok(Swept { changed, next_due: query::next_due(&self.reader().await?).await? })
    }

    async fn expire_retention(
        &self,
        results_before: Timestamp,
        jobs_before: Timestamp,
        limit: u32,
    ) -> Result<u64, StoreError> {
        let expired = retention::expire(&self.shared, results_before, jobs_before, limit).await;
        if matches!(expired, Err(StoreError::NotLeading)) {
            self.shared.leaders.lost(Role::Retention);
        }
        expired
    }

    async fn dead_letters(&self, limit: u32) -> Result<u64, StoreError> {
        query::dead_letters(&self.reader().await?, limit).await
    }

    fn leads(&self, role: Role) -> bool {
        self.shared.leaders.leads(role)
    }

    async fn lead(&self, role: Role) {
        self.shared.leaders.lead(role).await;
    }

    fn counts(&self) -> Counts {
        self.shared.ledger.lanes.counts()
    }

    async fn oldest_waiting(&self, lane: Lane) -> Result<Option<Timestamp>, StoreError> {
        query::oldest_waiting(&self.reader().await?, &self.shared.ledger.lanes, &lane).await
    }

    async fn first_start(&self, lane: Lane) -> Result<Option<Timestamp>, StoreError> {
        query::first_start(&self.reader().await?, &self.shared.ledger.lanes, &lane).await
    }

    async fn demand(&self, since: Option<Timestamp>) -> Result<Vec<Demand>, StoreError> {
        demand::read(&self.reader().await?, &self.shared.ledger.lanes, since).await
    }

    async fn leases(&self) -> Result<BTreeMap<WorkerId, u64>, StoreError> {
        query::leases(&self.reader().await?).await
    }

    async fn usage(&self, from: Timestamp, until: Timestamp) -> Result<Vec<Usage>, StoreError> {
        usage::read(&self.reader().await?, &self.shared.ledger.lanes, from, until).await
    }

    async fn exchange_workers(
        &self,
        mine: Vec<WorkerRow>,
    ) -> Result<Option<Vec<KnownWorker>>, StoreError> {
        workers::exchange(&self.shared, &mine).await.map(Some)
    }

    async fn order_worker(&self, worker: WorkerId, order: WorkerOrder) -> Result<bool, StoreError> {
        workers::order(&self.shared, worker, order).await
    }

    async fn lead_fleet(&self, holder: Uuid, term: Duration) -> Result<Reign, StoreError> {
        machines::lead(&self.shared, holder, term).await
    }

    async fn resign_fleet(&self, holder: Uuid) -> Result<(), StoreError> {
        machines::resign(&self.shared, holder).await
    }

    async fn ledger(&self, query: LedgerQuery) -> Result<LedgerPage, StoreError> {
        machines::read(&self.reader().await?, query).await
    }

    async fn write_ledger(&self, write: LedgerWrite) -> Result<LedgerWritten, StoreError> {
        machines::write(&self.shared, &write).await
    }

    async fn is_leaving(&self, instance: InstanceName) -> Result<bool, StoreError> {
        machines::is_leaving(&self.reader().await?, &instance).await
    }

    async fn set_switch(&self, mode: Mode, by: String, why: String) -> Result<Switch, StoreError> {
        machines::set_switch(&self.shared, mode, by, why).await
    }

    async fn end_machine(
        &self,
        machine: MachineId,
        order: EndOrder,
    ) -> Result<MachineEnded, StoreError> {
        machines::end_machine(&self.shared, machine, &order).await
    }

    async fn expire_machines(
        &self,
        ended_before: Timestamp,
        limit: u32,
    ) -> Result<u64, StoreError> {
        machines::expire(&self.shared, ended_before, limit).await
    }

    async fn failed(&self) {
        // What became of a commit can be asked; a database that is away comes back.
        std::future::pending::<()>().await;
    }

    fn free_disk(&self) -> Option<u64> {
        // The server's disk, which cannot be seen from here.
        None
    }

    fn name(&self) -> &'static str {
        "postgres"
    }

    async fn close(&self) {
        self.writer.close().await;
        self.shared.leaders.resign(&self.shared.pool).await;
        if let Err(left) = self.tasks.close_and_wait(END_LIMIT).await {
            tracing::warn!(?left, "the store's tasks did not end in time");
        }
        self.shared.pool.close();
        self.readers.close();
    }
}
