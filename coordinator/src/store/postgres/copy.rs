//! Moving from the embedded store to Postgres: everything is copied, in one transaction.

use std::collections::BTreeMap;
use std::path::Path;

use deadpool_postgres::Object;
use stoker_runtime::tasks::Tasks;
use tokio::sync::mpsc;
use tokio_postgres::types::ToSql;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::store::StoreError;
use crate::store::job_row::JobColumns;
use crate::store::lanes::{LaneId, SharedLanes};
use crate::store::sqlite::export::{
    ExportedAttempt, ExportedFleet, ExportedKey, ExportedMachine, ExportedPart, Piece, export,
};

use super::error::database;
use super::follow::{self, Company};
use super::rows::{INSERT, JobArrays, Parameters, parameters};
use super::session::{self, Connector, take};
use super::url::PostgresUrl;
use super::writer::give_up;
use super::{lanes, schema};

/// Pieces that may wait for the database.
const AHEAD: usize = 2;

/// What was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Copied {
    pub jobs: u64,
    pub results: u64,
}

/// Copies the store in the directory `data`, which no coordinator may be using, into the database, which
/// must hold no jobs and have no coordinators either. All or nothing; the source keeps its jobs.
///
/// # Errors
/// [`StoreError::Open`] says what is in the way.
pub async fn copy(data: &Path, url: PostgresUrl) -> Result<Copied, StoreError> {
    let tasks = Tasks::new(CancellationToken::new());
    let connector = Connector::new(url)?;
    let mut session = connector.listen(&tasks).await.map_err(session::at_start)?;
    schema::migrate(&mut session.client).await?;
    follow::exclude(&session.client, Company::Alone).await?;
    let pool = connector.pool(1)?;
    let db = take(&pool).await?;
    let (pieces, inbox) = mpsc::channel(AHEAD);
    let source = data.to_owned();
    let reading = tokio::task::spawn_blocking(move || export(&source, &pieces));
    let written = write_all(&db, inbox).await;
    let read = reading.await.map_err(|_panicked| StoreError::Unavailable).and_then(|read| read);
    // The reader's reason explains the writer's, not the other way round.
    match (read, written) {
        (Ok(()), Ok(copied)) => {
            db.batch_execute("COMMIT").await.map_err(database("committing the copy"))?;
            Ok(copied)
        }
        (Err(error), _) | (Ok(()), Err(error)) => {
            give_up(db).await;
            Err(error)
        }
    }
}

async fn write_all(db: &Object, mut inbox: mpsc::Receiver<Piece>) -> Result<Copied, StoreError> {
    let failed = || database("copying into the database");
    db.batch_execute("BEGIN; SET LOCAL statement_timeout = 0").await.map_err(failed())?;
    let used = "SELECT EXISTS (SELECT FROM jobs)";
    if db.query_one(used, &[]).await.map_err(failed())?.get(0) {
        let problem = "the database of --store holds jobs already; name an empty one".to_owned();
        return Err(StoreError::Open(problem));
    }
    let (mut copied, mut numbers) = (Copied::default(), BTreeMap::new());
    while let Some(piece) = inbox.recv().await {
        match &piece {
            Piece::Jobs(jobs) => copied.jobs += jobs.len() as u64,
            Piece::Results(parts) => copied.results += parts.len() as u64,
            _ => {}
        }
        write(db, piece, &mut numbers).await?;
    }
    // Results that retention has removed leave their size behind.
    let expired = "UPDATE jobs SET has_results = false
        WHERE has_results AND NOT EXISTS (SELECT FROM results WHERE job = id)";
    db.execute(expired, &[]).await.map_err(failed())?;
    Ok(copied)
}

async fn write(
    db: &Object,
    piece: Piece,
    numbers: &mut BTreeMap<LaneId, LaneId>,
) -> Result<(), StoreError> {
    let (sql, values) = match piece {
        Piece::Lanes(names) => {
            let known = SharedLanes::default();
            let wanted: Vec<_> = names.iter().map(|(_, names)| names.clone()).collect();
            lanes::intern(db, &known, &wanted).await?;
            numbers.extend(names.iter().filter_map(|(id, names)| Some((*id, known.id(names)?))));
            return Ok(());
        }
        Piece::Jobs(jobs) => {
            let mut arrays = JobArrays::default();
            for job in jobs {
                let lane = numbers.get(&job.columns.lane).copied();
                let lane =
                    lane.ok_or_else(|| StoreError::Corrupt("a job without a lane".to_owned()))?;
                arrays.push(JobColumns { lane, ..job.columns }, job.due_at, job.key);
            }
            (INSERT, arrays.inserted())
        }
        Piece::Inputs(inputs) => {
            let (jobs, data): (Vec<Uuid>, Vec<Vec<u8>>) =
                inputs.into_iter().map(|(job, data)| (Uuid::from_bytes(job), data)).unzip();
            let sql = "INSERT INTO inputs (job, input)
                SELECT * FROM unnest($1::uuid[], $2::bytea[])";
            (sql, parameters![jobs, data])
        }
        Piece::Keys(keys) => keys_to(&keys),
        Piece::Attempts(attempts) => attempts_to(&attempts),
        Piece::Results(parts) => parts_to(parts),
        Piece::Outbox(entries) => {
            let (jobs, seqs): (Vec<Uuid>, Vec<i64>) = entries
                .into_iter()
                .map(|(job, seq)| (Uuid::from_bytes(job), i64::from(seq)))
                .unzip();
            let sql = "INSERT INTO outbox (job, seq)
                SELECT * FROM unnest($1::uuid[], $2::int8[])";
            (sql, parameters![jobs, seqs])
        }
        Piece::Machines(machines) => machines_to(machines),
        Piece::Fleet(rows) => match rows.into_iter().next() {
            Some(row) => fleet_to(row),
            None => return Ok(()),
        },
    };
    let failed = || database("copying into the database");
    let statement = db.prepare_cached(sql).await.map_err(failed())?;
    let values: Vec<&(dyn ToSql + Sync)> =
        values.iter().map(|value| &**value as &(dyn ToSql + Sync)).collect();
    db.execute(&statement, &values).await.map(drop).map_err(failed())
}

fn keys_to(keys: &[ExportedKey]) -> (&'static str, Parameters) {
    let sql = "INSERT INTO idempotency (tenant, key, digest, job)
        SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[], $4::uuid[])";
    let tenants: Vec<String> = keys.iter().map(|key| key.tenant.clone()).collect();
    let names: Vec<String> = keys.iter().map(|key| key.key.clone()).collect();
    let digests: Vec<Vec<u8>> = keys.iter().map(|key| key.digest.clone()).collect();
    let jobs: Vec<Uuid> = keys.iter().map(|key| Uuid::from_bytes(key.job)).collect();
    (sql, parameters![tenants, names, digests, jobs])
}

fn attempts_to(attempts: &[ExportedAttempt]) -> (&'static str, Parameters) {
    let sql = "INSERT INTO attempts (job, attempt, worker, token, started_at, ended_at, outcome,
            code, message)
        SELECT * FROM unnest($1::uuid[], $2::int8[], $3::uuid[], $4::uuid[], $5::int8[], $6::int8[],
            $7::int2[], $8::text[], $9::text[])";
    let id = |field: fn(&ExportedAttempt) -> [u8; 16]| -> Vec<Uuid> {
        attempts.iter().map(|attempt| Uuid::from_bytes(field(attempt))).collect()
    };
    let text = |field: fn(&ExportedAttempt) -> &String| -> Vec<String> {
        attempts.iter().map(|attempt| field(attempt).clone()).collect()
    };
    let numbers: Vec<i64> = attempts.iter().map(|attempt| attempt.attempt.into()).collect();
    let started: Vec<i64> = attempts.iter().map(|attempt| attempt.started_at).collect();
    let ended: Vec<Option<i64>> = attempts.iter().map(|attempt| attempt.ended_at).collect();
    let outcomes: Vec<i16> = attempts.iter().map(|attempt| attempt.outcome.into()).collect();
    let values = parameters![
        id(|attempt| attempt.job),
        numbers,
        id(|attempt| attempt.worker),
        id(|attempt| attempt.token),
        started,
        ended,
        outcomes,
        text(|attempt| &attempt.code),
        text(|attempt| &attempt.message),
    ];
    (sql, values)
}

fn machines_to(machines: Vec<ExportedMachine>) -> (&'static str, Parameters) {
    let sql = "INSERT INTO machines (id, version, state, ended_at, body)
        SELECT * FROM unnest($1::uuid[], $2::int8[], $3::text[], $4::int8[], $5::text[])";
    let ids: Vec<Uuid> = machines.iter().map(|machine| Uuid::from_bytes(machine.id)).collect();
    let versions: Vec<i64> = machines.iter().map(|machine| machine.version).collect();
    let states: Vec<String> = machines.iter().map(|machine| machine.state.clone()).collect();
    let ended: Vec<Option<i64>> = machines.iter().map(|machine| machine.ended_at).collect();
    let bodies: Vec<String> = machines.into_iter().map(|machine| machine.body).collect();
    (sql, parameters![ids, versions, states, ended, bodies])
}

fn fleet_to(row: ExportedFleet) -> (&'static str, Parameters) {
    let sql = "WITH reign AS (UPDATE leaders SET epoch = $5 WHERE role = 'fleet')
        UPDATE fleet SET account_version = $1, account = $2, switch = $3, memory = $4";
    let ExportedFleet { account_version, account, switch, memory, epoch } = row;
    (sql, parameters![account_version, account, switch, memory, epoch])
}

fn parts_to(parts: Vec<ExportedPart>) -> (&'static str, Parameters) {
    let sql = "INSERT INTO results (job, first_item, items, data)
        SELECT * FROM unnest($1::uuid[], $2::int8[], $3::int8[], $4::bytea[])";
    let jobs: Vec<Uuid> = parts.iter().map(|part| Uuid::from_bytes(part.job)).collect();
    let firsts: Vec<i64> = parts.iter().map(|part| part.first_item.into()).collect();
    let items: Vec<i64> = parts.iter().map(|part| part.items.into()).collect();
    let data: Vec<Vec<u8>> = parts.into_iter().map(|part| part.data).collect();
    (sql, parameters![jobs, firsts, items, data])
}
