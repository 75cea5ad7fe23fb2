//! The rows of the writer's open transaction.

use bytes::Bytes;
use rusqlite::{OptionalExtension as _, params};
use stoker_core::ids::{Attempt, DispatchSeq, JobId, LeaseToken, TenantName, WorkerId};
use stoker_core::job::{AttemptEnd, AttemptOutcome, Issued};
use stoker_core::policy::JobPolicy;
use stoker_core::request::Idempotency;
use stoker_core::time::Timestamp;

use crate::store::job_row::StoredJob;
use crate::store::lanes::{Delta, LaneId, LaneNames, SharedLanes};
use crate::store::tables::{Begun, KeyOwner, Tables};
use crate::store::{Change, StoreError, StoredPart};

use super::writer::Write;
use super::{lanes, rows};

impl Tables for Write<'_> {
    fn now(&self) -> Timestamp {
        self.now
    }

    fn policy(&self) -> &JobPolicy {
        self.policy
    }

    fn lanes(&self) -> &SharedLanes {
        self.lanes
    }

    fn lane_id(&mut self, names: &LaneNames) -> Result<LaneId, StoreError> {
        lanes::intern(self.lanes, self.db, names).map_err(StoreError::database("writing a lane"))
    }

    fn job(&mut self, job: JobId) -> Result<Option<StoredJob>, StoreError> {
        rows::load(self.db, job)
    }

    fn save(&mut self, job: &StoredJob) -> Result<(), StoreError> {
        rows::save(self.db, job, &self.policy.lease)
    }

    fn insert_job(
        &mut self,
        job: &StoredJob,
        key: Option<&Idempotency>,
        input: &Bytes,
    ) -> Result<(), StoreError> {
        rows::insert(self.db, job, job.due_at(&self.policy.lease), (key, input))
            .map_err(StoreError::database("writing a new job"))
    }

    fn input(&mut self, job: JobId) -> Result<Option<Bytes>, StoreError> {
        self.db
            .prepare_cached("SELECT input FROM inputs WHERE job = ?")
            .and_then(|mut statement| {
                statement.query_row([job.as_bytes()], |row| row.get::<_, Vec<u8>>(0)).optional()
            })
            .map(|input| input.map(Bytes::from))
            .map_err(StoreError::database("reading an input"))
    }

    fn key_owner(
        &mut self,
        tenant: &TenantName,
        key: &str,
    ) -> Result<Option<KeyOwner>, StoreError> {
        rows::key_owner(self.db, tenant, key)
    }

    fn take_key(
        &mut self,
        tenant: &TenantName,
        key: &str,
        owner: KeyOwner,
    ) -> Result<(), StoreError> {
        self.db
            .prepare_cached(
                "INSERT INTO idempotency (tenant, key, digest, job) VALUES (?, ?, ?, ?)",
            )
            .and_then(|mut statement| {
                let KeyOwner { job, digest } = owner;
                statement.execute(params![tenant.as_str(), key, digest, job.as_bytes()])
            })
            .map(drop)
            .map_err(StoreError::database("writing an idempotency key"))
    }

    fn attempt(&mut self, job: JobId, attempt: Attempt) -> Result<Option<Issued>, StoreError> {
        self.db
            .prepare_cached("SELECT token, outcome FROM attempts WHERE job = ? AND attempt = ?")
            .and_then(|mut statement| {
                let read = |row: &rusqlite::Row<'_>| {
                    let token = LeaseToken::from_bytes(row.get(0)?);
                    Ok(Issued {
                        token,
                        outcome: rows::number(row, 1, AttemptOutcome::from_number)?,
                    })
                };
                statement.query_row(params![job.as_bytes(), attempt.number()], read).optional()
            })
            .map_err(StoreError::database("reading an attempt"))
    }

    fn begin_attempt(&mut self, job: JobId, begun: Begun) -> Result<(), StoreError> {
        self.db
            .prepare_cached(
                "INSERT INTO attempts (job, attempt, worker, token, started_at, outcome, code,
                     message)
                 VALUES (?, ?, ?, ?, ?, ?, '', '')",
            )
            .and_then(|mut statement| {
                statement.execute(params![
                    job.as_bytes(),
                    begun.attempt.number(),
                    begun.worker.as_bytes(),
                    begun.token.as_bytes(),
                    self.now.as_unix_millis(),
                    AttemptOutcome::Running.number(),
                ])
            })
            .map(drop)
            .map_err(StoreError::database("writing an attempt"))
    }

    fn end_attempt(&mut self, job: JobId, end: &AttemptEnd) -> Result<(), StoreError> {
        self.db
            .prepare_cached(
                "UPDATE attempts SET ended_at = ?3, outcome = ?4, code = ?5, message = ?6
                 WHERE job = ?1 AND attempt = ?2",
            )
            .and_then(|mut statement| {
                statement.execute(params![
                    job.as_bytes(),
                    end.attempt.number(),
                    self.now.as_unix_millis(),
                    end.outcome.number(),
                    end.code,
                    end.message
                ])
            })
            .map(drop)
            .map_err(StoreError::database("writing an attempt"))
    }

    fn insert_part(&mut self, job: JobId, part: &StoredPart) -> Result<(), StoreError> {
        self.db
            .prepare_cached(
                "INSERT INTO results (job, first_item, items, data) VALUES (?, ?, ?, ?)",
            )
            .and_then(|mut statement| {
                let StoredPart { first_item, items, data } = part;
                statement.execute(params![job.as_bytes(), first_item, items, &data[..]])
            })
            .map(drop)
            .map_err(StoreError::database("writing results"))
    }

    fn cut_results(&mut self, job: JobId, first_item: u32) -> Result<Option<u64>, StoreError> {
        let cut = || {
            let (across, removed): (bool, u64) = self
                .db
                .prepare_cached(
                    "SELECT coalesce(max(first_item < ?2 AND first_item + items > ?2), 0),
                        coalesce(sum(CASE WHEN first_item >= ?2 THEN length(data) END), 0)
                     FROM results WHERE job = ?1",
                )?
                .query_row(params![job.as_bytes(), first_item], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })?;
            if across {
                return Ok(None);
            }
            self.db
                .prepare_cached("DELETE FROM results WHERE job = ? AND first_item >= ?")?
                .execute(params![job.as_bytes(), first_item])?;
            Ok(Some(removed))
        };
        cut().map_err(StoreError::database("replacing results"))
    }

    fn put_into_outbox(&mut self, job: JobId, seq: DispatchSeq) -> Result<(), StoreError> {
        self.db
            .prepare_cached("INSERT OR REPLACE INTO outbox (job, seq) VALUES (?, ?)")
            .and_then(|mut statement| statement.execute(params![job.as_bytes(), seq.number()]))
            .map(drop)
            .map_err(StoreError::database("writing the outbox"))
    }

    fn clear_outbox(&mut self, job: JobId, seq: DispatchSeq) -> Result<(), StoreError> {
        self.db
            .prepare_cached("DELETE FROM outbox WHERE job = ? AND seq = ?")
            .and_then(|mut statement| statement.execute(params![job.as_bytes(), seq.number()]))
            .map(drop)
            .map_err(StoreError::database("clearing the outbox"))
    }

    fn put_off(&mut self, job: JobId, until: Timestamp) -> Result<(), StoreError> {
        self.db
            .prepare_cached("UPDATE jobs SET due_at = ? WHERE id = ?")
            .and_then(|mut statement| {
                statement.execute(params![until.as_unix_millis(), job.as_bytes()])
            })
            .map(drop)
            .map_err(StoreError::database("putting off a timer"))
    }

    fn due(&mut self, at: Timestamp, limit: u32) -> Result<Vec<JobId>, StoreError> {
        self.db
            .prepare_cached(
                "SELECT id FROM jobs WHERE due_at IS NOT NULL AND due_at <= ?
                 ORDER BY due_at LIMIT ?",
            )
            .and_then(|mut statement| {
                statement.query_map(params![at.as_unix_millis(), limit], id)?.collect()
            })
            .map_err(StoreError::database("reading what is due"))
    }

    fn leased(&mut self, worker: Option<WorkerId>) -> Result<Vec<JobId>, StoreError> {
        let worker = worker.map(|worker| *worker.as_bytes());
        let read = || match worker {
            Some(worker) => self
                .db
                .prepare_cached("SELECT id FROM jobs WHERE state = 3 AND lease_worker = ?")?
                .query_map([worker], id)?
                .collect::<rusqlite::Result<Vec<_>>>(),
            None => self
                .db
                .prepare_cached("SELECT id FROM jobs WHERE state = 3")?
                .query_map([], id)?
                .collect::<rusqlite::Result<Vec<_>>>(),
        };
        read().map_err(StoreError::database("reading leases"))
    }

    fn changed(&mut self, change: Change, delta: Delta) {
        self.note(change, delta);
    }
}

fn id(row: &rusqlite::Row<'_>) -> rusqlite::Result<JobId> {
    row.get(0).map(JobId::from_bytes)
}
