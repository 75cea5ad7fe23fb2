//! Writes what a group of calls has changed, and commits, in one round trip.

use std::pin::Pin;

use deadpool_postgres::Object;
use futures::future::join_all;
use stoker_core::ids::{Attempt, JobId};
use tokio_postgres::Error;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::events;
use super::rows::{INSERT, JobArrays, Parameters, UPDATE, parameters};
use super::unit::{Rows, Status, Unit, Writes};

/// All that are used here, for preparing them.
pub(super) const STATEMENTS: [&str; 13] = [
    INSERT,
    INSERT_INPUTS,
    UPDATE,
    PUT_OFF,
    BEGIN_ATTEMPTS,
    END_ATTEMPTS,
    CUT,
    INSERT_PARTS,
    CLEAR,
    PUT,
    DROP_KEYS,
    GIVE_KEYS,
    TELL,
];

const INSERT_INPUTS: &str =
    "INSERT INTO inputs (job, input) SELECT * FROM unnest($1::uuid[], $2::bytea[])";

const PUT_OFF: &str = "UPDATE jobs SET due_at = u.due_at \
    FROM unnest($1::uuid[], $2::int8[]) AS u (id, due_at) WHERE jobs.id = u.id";

const BEGIN_ATTEMPTS: &str = "INSERT INTO attempts \
    (job, attempt, worker, token, started_at, outcome, code, message) \
    SELECT *, $5::int8, 1, '', '' FROM unnest($1::uuid[], $2::int8[], $3::uuid[], $4::uuid[])";

const END_ATTEMPTS: &str = "UPDATE attempts SET ended_at = $6::int8, outcome = u.outcome, \
    code = u.code, message = u.message \
    FROM unnest($1::uuid[], $2::int8[], $3::int2[], $4::text[], $5::text[]) \
    AS u (job, attempt, outcome, code, message) \
    WHERE attempts.job = u.job AND attempts.attempt = u.attempt";

const CUT: &str = "DELETE FROM results USING unnest($1::uuid[], $2::int8[]) AS u (job, first) \
    WHERE results.job = u.job AND first_item >= first";

const INSERT_PARTS: &str = "INSERT INTO results (job, first_item, items, data) \
    SELECT * FROM unnest($1::uuid[], $2::int8[], $3::int8[], $4::bytea[])";

const CLEAR: &str = "DELETE FROM outbox USING unnest($1::uuid[], $2::int8[]) AS u (job, seq) \
    WHERE outbox.job = u.job AND outbox.seq = u.seq";

const PUT: &str = "INSERT INTO outbox (job, seq) SELECT * FROM unnest($1::uuid[], $2::int8[]) \
    ON CONFLICT (job) DO UPDATE SET seq = excluded.seq";

const DROP_KEYS: &str = "DELETE FROM idempotency USING unnest($1::text[], $2::text[]) AS u (t, k) \
    WHERE tenant = t AND key = k";

const GIVE_KEYS: &str = "UPDATE idempotency SET digest = u.d, job = u.j \
    FROM unnest($1::text[], $2::text[], $3::bytea[], $4::uuid[]) AS u (t, k, d, j) \
    WHERE tenant = t AND key = k";

const TELL: &str = "INSERT INTO events (txn, origin, changes) VALUES ($1, $2, $3)";

/// Statements with their values, in the order in which they are to run.
#[derive(Default)]
pub(super) struct Batch(Vec<(&'static str, Parameters)>);

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(sql, _)| sql)).finish()
    }
}

/// Names a transaction to the other coordinators.
#[derive(Debug, Clone, Copy)]
pub(super) struct Author {
    pub(super) txn: Uuid,
    pub(super) me: Uuid,
}

impl Batch {
    /// All that the unit has to write, and what the others have to be told.
    pub(super) fn of(unit: &mut Unit<'_>, author: Author) -> Self {
        let mut batch = Self::default();
        batch.keys(&unit.rows);
        batch.jobs(unit);
        let now = unit.now.as_unix_millis();
        batch.attempts(&mut unit.writes, now);
        batch.results(&mut unit.writes);
        batch.outbox(&unit.writes);
        if let Some(changes) = events::encode(&unit.changes, &unit.deltas) {
            batch.add(TELL, parameters![author.txn, author.me, changes]);
        }
        batch
    }

    /// Tells of changes that were made by other statements.
    pub(super) fn tell(author: Author, changes: String) -> Self {
        Self(vec![(TELL, parameters![author.txn, author.me, changes])])
    }

    fn add(&mut self, sql: &'static str, parameters: Parameters) {
        self.0.push((sql, parameters));
    }

    fn keys(&mut self, rows: &Rows) {
        let (mut dropped, mut given) = ((Vec::new(), Vec::new()), Vec::new());
        for ((tenant, key), state) in &rows.keys {
            match (state.reserved, state.owner) {
                (Some(reserved), Some(owner)) if reserved == owner => {}
                (Some(_), Some(owner)) => given.push((tenant.to_string(), key.clone(), owner)),
                (Some(_), None) => {
                    dropped.0.push(tenant.to_string());
                    dropped.1.push(key.clone());
                }
                (None, _) => {}
            }
        }
        if !dropped.0.is_empty() {
            self.add(DROP_KEYS, parameters![dropped.0, dropped.1]);
        }
        if !given.is_empty() {
            let digests: Vec<Vec<u8>> = given.iter().map(|(_, _, o)| o.digest.to_vec()).collect();
            let jobs: Vec<Uuid> = given.iter().map(|(_, _, o)| *o.job.as_uuid()).collect();
            let (tenants, keys): (Vec<String>, Vec<String>) =
                given.into_iter().map(|(tenant, key, _)| (tenant, key)).unzip();
            self.add(GIVE_KEYS, parameters![tenants, keys, digests, jobs]);
        }
    }

    fn jobs(&mut self, unit: &Unit<'_>) {
        let (mut new, mut changed) = (JobArrays::default(), JobArrays::default());
        let (mut input_jobs, mut inputs) = (Vec::new(), Vec::new());
        for entry in unit.rows.jobs.values().flatten() {
            let due_at = entry.job.due_at(&unit.policy.lease);
            match &entry.status {
                Status::Read => {}
                Status::Changed => changed.push(entry.job.to_columns(), due_at, None),
                Status::New { key, input } => {
                    new.push(entry.job.to_columns(), due_at, key.clone());
                    input_jobs.push(*entry.job.job.id.as_uuid());
                    inputs.push(input.to_vec());
                }
            }
        }
        if !new.is_empty() {
            self.add(INSERT, new.inserted());
            self.add(INSERT_INPUTS, parameters![input_jobs, inputs]);
        }
        if !changed.is_empty() {
            self.add(UPDATE, changed.updated());
        }
        if !unit.writes.put_off.is_empty() {
            let (jobs, times): (Vec<Uuid>, Vec<i64>) = unit
                .writes
                .put_off
                .iter()
                .map(|(job, until)| (*job.as_uuid(), until.as_unix_millis()))
                .unzip();
            self.add(PUT_OFF, parameters![jobs, times]);
        }
    }

    fn attempts(&mut self, writes: &mut Writes, now: i64) {
        let begun = std::mem::take(&mut writes.begun);
        if !begun.is_empty() {
            let (jobs, numbers) = attempt_names(begun.keys());
            let workers: Vec<Uuid> = begun.values().map(|one| *one.worker.as_uuid()).collect();
            let tokens: Vec<Uuid> =
                begun.values().map(|one| Uuid::from_bytes(*one.token.as_bytes())).collect();
            self.add(BEGIN_ATTEMPTS, parameters![jobs, numbers, workers, tokens, now]);
        }
        let ended = std::mem::take(&mut writes.ended);
        if !ended.is_empty() {
            let (jobs, numbers) = attempt_names(ended.keys());
            let outcomes: Vec<i16> =
                ended.values().map(|one| one.outcome.number().into()).collect();
            let (codes, messages): (Vec<String>, Vec<String>) =
                ended.into_values().map(|one| (one.code, one.message)).unzip();
            self.add(END_ATTEMPTS, parameters![jobs, numbers, outcomes, codes, messages, now]);
        }
    }

    fn results(&mut self, writes: &mut Writes) {
        if !writes.cuts.is_empty() {
            let (jobs, firsts): (Vec<Uuid>, Vec<i64>) =
                writes.cuts.iter().map(|(job, first)| (*job.as_uuid(), i64::from(*first))).unzip();
            self.add(CUT, parameters![jobs, firsts]);
        }
        let parts = std::mem::take(&mut writes.parts);
        if !parts.is_empty() {
            let (jobs, firsts): (Vec<Uuid>, Vec<i64>) =
                parts.keys().map(|(job, first)| (*job.as_uuid(), i64::from(*first))).unzip();
            let (items, data): (Vec<i64>, Vec<Vec<u8>>) =
                parts.values().map(|part| (i64::from(part.items), part.data.to_vec())).unzip();
            self.add(INSERT_PARTS, parameters![jobs, firsts, items, data]);
        }
    }

    fn outbox(&mut self, writes: &Writes) {
        let arrays = |entries: &mut dyn Iterator<Item = (JobId, u32)>| -> (Vec<Uuid>, Vec<i64>) {
            entries.map(|(job, seq)| (*job.as_uuid(), i64::from(seq))).unzip()
        };
        if !writes.cleared.is_empty() {
            let cleared = &mut writes.cleared.iter().map(|(job, seq)| (*job, seq.number()));
            let (jobs, seqs) = arrays(cleared);
            self.add(CLEAR, parameters![jobs, seqs]);
        }
        if !writes.outbox.is_empty() {
            let put = &mut writes.outbox.iter().map(|(job, seq)| (*job, seq.number()));
            let (jobs, seqs) = arrays(put);
            self.add(PUT, parameters![jobs, seqs]);
        }
    }

    /// Writes all of it and commits.
    ///
    /// # Errors
    /// The first of the errors. One that the server told of means that nothing was written: it turns
    /// the commit of a transaction with a failed statement into its rollback.
    pub(super) async fn commit(self, db: &Object) -> Result<(), Error> {
        type Step<'a> = Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>>;
        let mut steps: Vec<Step<'_>> = Vec::with_capacity(self.0.len() + 1);
        for (sql, values) in &self.0 {
            steps.push(Box::pin(async move {
                let statement = db.prepare_cached(sql).await?;
                let values: Vec<&(dyn ToSql + Sync)> =
                    values.iter().map(|value| &**value as &(dyn ToSql + Sync)).collect();
                db.execute(&statement, &values).await.map(drop)
            }));
        }
        steps.push(Box::pin(db.batch_execute("COMMIT")));
        // So few are polled in their order, and what is polled first is sent first.
        join_all(steps).await.into_iter().collect()
    }
}

fn attempt_names<'a>(
    attempts: impl Iterator<Item = &'a (JobId, Attempt)>,
) -> (Vec<Uuid>, Vec<i64>) {
    attempts.map(|(job, attempt)| (*job.as_uuid(), i64::from(attempt.number()))).unzip()
}
