//! Begins a transaction and reads all that a group of calls needs, in one round trip.
//!
//! Locks are taken in one order by everybody, so that no two transactions wait for each other: roles,
//! idempotency keys by name, jobs by id.

use std::collections::BTreeSet;

use bytes::Bytes;
use deadpool_postgres::Object;
use futures::future::try_join_all;
use stoker_core::ids::{Attempt, JobId, LeaseToken, TenantName};
use stoker_core::job::{AttemptOutcome, Issued};
use stoker_core::time::Timestamp;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use crate::store::job_row::StoredJob;
use crate::store::tables::KeyOwner;
use crate::store::{Role, StoreError};

use super::error::database;
use super::needs::{Due, Needs};
use super::rows::{self, count, small};
use super::unit::{JobEntry, Key, Rows, Span, Status};

/// What was read.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) rows: Rows,
    /// By the database's clock.
    pub(super) now: Timestamp,
    /// The transaction's id.
    pub(super) xid: u64,
}

/// The roles that a coordinator believes to have, with their epochs.
pub(super) type Epochs = Vec<(Role, i64)>;

/// Who reads.
#[derive(Debug)]
pub(super) struct With<'a> {
    pub(super) me: Uuid,
    pub(super) epochs: &'a Epochs,
    /// The time, where a test sets it.
    pub(super) at: Option<i64>,
}

/// # Errors
/// [`StoreError::Overloaded`] when the same may go well a moment later.
pub(super) async fn load(
    db: &Object,
    needs: &Needs,
    with: &With<'_>,
) -> Result<Loaded, StoreError> {
    warm(db).await.map_err(database("preparing statements"))?;
    let mut rows = Rows::default();
    let needs = if needs.due.is_some() || !needs.leased.is_empty() {
        &pick(db, needs, with.at, &mut rows).await?
    } else {
        needs
    };
    let found = ask_all(db, needs, with).await;
    let found = found.map_err(database("reading what a call is about"))?;
    read_roles(&mut rows, &found.leading);
    read_keys(&mut rows, needs, (&found.reserved, &found.owners))?;
    read_jobs(&mut rows, needs, &found.jobs);
    read_attempts(&mut rows, needs, &found.attempts)?;
    read_inputs(&mut rows, needs, &found.inputs);
    read_spans(&mut rows, needs, &found.spans)?;
    let clock = found.clock.first().ok_or_else(|| StoreError::Corrupt("no clock".to_owned()))?;
    let xid = clock.get::<_, &str>(1).parse();
    Ok(Loaded {
        rows,
        now: Timestamp::from_unix_millis(clock.get(0)),
        xid: xid.map_err(|_| StoreError::Corrupt("a transaction id is no number".to_owned()))?,
    })
}

/// Rows as they came.
struct Found {
    leading: Vec<Row>,
    reserved: Vec<Row>,
    owners: Vec<Row>,
    jobs: Vec<Row>,
    attempts: Vec<Row>,
    inputs: Vec<Row>,
    spans: Vec<Row>,
    clock: Vec<Row>,
}

async fn ask_all(db: &Object, needs: &Needs, with: &With<'_>) -> Result<Found, Error> {
    let ids =
        |jobs: &BTreeSet<JobId>| -> Vec<Uuid> { jobs.iter().map(|job| *job.as_uuid()).collect() };
    let (jobs, inputs, results) = (ids(&needs.jobs), ids(&needs.inputs), ids(&needs.results));
    let (attempt_jobs, attempt_numbers): (Vec<Uuid>, Vec<i64>) = needs
        .attempts
        .iter()
        .map(|(job, attempt)| (*job.as_uuid(), i64::from(attempt.number())))
        .unzip();
    let keys = KeyArrays::of(needs);
    let (roles, epochs): (Vec<&str>, Vec<i64>) = with
        .epochs
        .iter()
        .filter(|(role, _)| needs.roles.contains(role))
        .map(|(role, epoch)| (role.name(), *epoch))
        .unzip();

    let leading: Values<'_, 3> = [&roles, &epochs, &with.me];
    let (all_of_keys, names) = (keys.all(), keys.names());
    let by_attempt: Values<'_, 2> = [&attempt_jobs, &attempt_numbers];
    let [by_job, by_input, by_result, at]: [Values<'_, 1>; 4] =
        [[&jobs], [&inputs], [&results], [&with.at]];
    // Sent at once and answered in this order; each sees what was committed when it began.
    let (begun, leading, reserved, owners, jobs, attempts, inputs, spans, clock) = futures::join!(
        db.batch_execute("BEGIN"),
        ask_if(any(&roles), db, LEADING, &leading),
        ask_if(any(&keys.keys), db, RESERVE, &all_of_keys),
        ask_if(any(&keys.keys), db, OWNERS, &names),
        ask_if(any(&jobs), db, jobs_sql(), &by_job),
        ask_if(any(&attempt_jobs), db, ATTEMPTS, &by_attempt),
        ask_if(any(&inputs), db, INPUTS, &by_input),
        ask_if(any(&results), db, SPANS, &by_result),
        ask(db, CLOCK, &at),
    );
    begun?;
    Ok(Found {
        leading: leading?,
        reserved: reserved?,
        owners: owners?,
        jobs: jobs?,
        attempts: attempts?,
        inputs: inputs?,
        spans: spans?,
        clock: clock?,
    })
}

fn any<T>(values: &[T]) -> Option<()> {
    (!values.is_empty()).then_some(())
}

type Values<'a, const N: usize> = [&'a (dyn ToSql + Sync); N];

/// Held until the transaction ends: nobody else becomes leader meanwhile.
const LEADING: &str = "SELECT role FROM leaders \
    JOIN unnest($1::text[], $2::int8[]) AS mine (of, term) ON of = role AND term = epoch \
    WHERE holder = $3 ORDER BY role FOR SHARE OF leaders";

/// Puts new keys in, in their order, and waits for others who are doing so.
const RESERVE: &str = "INSERT INTO idempotency (tenant, key, digest, job) \
    SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[], $4::uuid[]) \
    ON CONFLICT DO NOTHING RETURNING tenant, key";

const OWNERS: &str = "SELECT tenant, key, digest, job FROM idempotency \
    JOIN unnest($1::text[], $2::text[]) AS wanted (t, k) ON t = tenant AND k = key";

const ATTEMPTS: &str = "SELECT job, attempt, token, outcome FROM attempts \
    JOIN unnest($1::uuid[], $2::int8[]) AS wanted (j, a) ON j = job AND a = attempt";

const INPUTS: &str = "SELECT job, input FROM inputs WHERE job = ANY($1)";

const SPANS: &str = "SELECT job, first_item, items, octet_length(data)::int8 FROM results \
    WHERE job = ANY($1) ORDER BY job, first_item";

const CLOCK: &str = "SELECT coalesce($1::int8, (extract(epoch FROM clock_timestamp()) * 1000)::int8), \
    pg_current_xact_id()::text";

const DUE: &str = "SELECT id FROM jobs WHERE due_at IS NOT NULL AND due_at <= \
    coalesce($1::int8, (extract(epoch FROM clock_timestamp()) * 1000)::int8) \
    - $3::float8::int8 ORDER BY due_at LIMIT $2";

const LEASED: &str = "SELECT id FROM jobs WHERE state = 3 AND lease_worker = $1";

const ALL_LEASED: &str = "SELECT id FROM jobs WHERE state = 3";

fn jobs_sql() -> &'static str {
    static SQL: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| {
        let columns = rows::COLUMNS;
        format!("SELECT {columns} FROM jobs WHERE id = ANY($1) ORDER BY id FOR UPDATE")
    });
    &SQL
}

/// Statements are prepared before they are sent together: preparing one takes a round trip, and those
/// behind it would be sent before it.
async fn warm(db: &Object) -> Result<(), Error> {
    let reading = [LEADING, RESERVE, OWNERS, jobs_sql(), ATTEMPTS, INPUTS, SPANS, CLOCK];
    let all = reading.into_iter().chain(super::flush::STATEMENTS);
    try_join_all(all.map(|sql| db.prepare_cached(sql))).await.map(drop)
}

/// Asks, if there is something to ask.
async fn ask_if(
    something: Option<()>,
    db: &Object,
    sql: &'static str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Row>, Error> {
    match something {
        Some(()) => ask(db, sql, parameters).await,
        None => Ok(Vec::new()),
    }
}

async fn ask(
    db: &Object,
    sql: &'static str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Row>, Error> {
    let statement = db.prepare_cached(sql).await?;
    db.query(&statement, parameters).await
}

/// Finds the jobs that are due or leased. They are locked later, in the order of their ids.
async fn pick(
    db: &Object,
    needs: &Needs,
    at: Option<i64>,
    rows: &mut Rows,
) -> Result<Needs, StoreError> {
    let failed = || database("reading what is due");
    let ids = |found: Vec<Row>| -> Vec<JobId> {
        found.iter().map(|row| JobId::from_bytes(rows::uuid(row, 0))).collect()
    };
    let mut needs = needs.clone();
    if let Some(Due { asked, limit }) = needs.due {
        let late = if at.is_some() { 0.0 } else { asked.elapsed().as_secs_f64() * 1_000.0 };
        let found = ask(db, DUE, &[&at, &i64::from(limit), &late]).await.map_err(failed())?;
        rows.due = ids(found);
        needs.jobs.extend(&rows.due);
    }
    for worker in &needs.leased {
        let found = match worker {
            Some(worker) => ask(db, LEASED, &[worker.as_uuid()]).await,
            None => ask(db, ALL_LEASED, &[]).await,
        };
        let found = ids(found.map_err(failed())?);
        needs.jobs.extend(&found);
        rows.leased.insert(*worker, found);
    }
    Ok(needs)
}

/// Keys with what they are for, as one array for each column, in the order of the keys.
struct KeyArrays {
    tenants: Vec<String>,
    keys: Vec<String>,
    digests: Vec<Vec<u8>>,
    jobs: Vec<Uuid>,
}

impl KeyArrays {
    fn of(needs: &Needs) -> Self {
        let mut arrays =
            Self { tenants: Vec::new(), keys: Vec::new(), digests: Vec::new(), jobs: Vec::new() };
        for ((tenant, key), owner) in &needs.keys {
            arrays.tenants.push(tenant.to_string());
            arrays.keys.push(key.clone());
            arrays.digests.push(owner.digest.to_vec());
            arrays.jobs.push(*owner.job.as_uuid());
        }
        arrays
    }

    fn names(&self) -> Values<'_, 2> {
        [&self.tenants, &self.keys]
    }

    fn all(&self) -> Values<'_, 4> {
        [&self.tenants, &self.keys, &self.digests, &self.jobs]
    }
}

fn read_roles(rows: &mut Rows, found: &[Row]) {
    for row in found {
        let name: &str = row.get(0);
        rows.leading.extend(Role::ALL.into_iter().find(|role| role.name() == name));
    }
}

fn read_keys(
    rows: &mut Rows,
    needs: &Needs,
    (reserved, owners): (&[Row], &[Row]),
) -> Result<(), StoreError> {
    for row in reserved {
        let key = key_name(row)?;
        // Nobody has used it yet: which call of the group gets it is decided by their order.
        let reserved = needs.keys.get(&key).copied();
        rows.keys.insert(key, Key { reserved, owner: None });
    }
    for row in owners {
        let key = key_name(row)?;
        let digest = <[u8; 32]>::try_from(row.get::<_, &[u8]>(2))
            .map_err(|_| StoreError::Corrupt("a digest of a wrong length".to_owned()))?;
        let owner = KeyOwner { job: JobId::from_bytes(rows::uuid(row, 3)), digest };
        rows.keys.entry(key).or_insert(Key { reserved: None, owner: Some(owner) });
    }
    if rows.keys.len() < needs.keys.len() {
        // Retention took a key away between the two statements.
        return Err(StoreError::Overloaded);
    }
    Ok(())
}

fn key_name(row: &Row) -> Result<(TenantName, String), StoreError> {
    let tenant = TenantName::new(row.get(0))
        .map_err(|error| StoreError::Corrupt(format!("the tenant of a key: {error}")))?;
    Ok((tenant, row.get(1)))
}

fn read_jobs(rows: &mut Rows, needs: &Needs, found: &[Row]) {
    rows.jobs.extend(needs.jobs.iter().map(|job| (*job, None)));
    for row in found {
        let id = JobId::from_bytes(rows::uuid(row, 0));
        match rows::read(row).and_then(StoredJob::from_columns) {
            Ok(job) => {
                rows.jobs.insert(id, Some(JobEntry { job, status: Status::Read }));
            }
            Err(error) => drop(rows.unreadable.insert(id, error.to_string())),
        }
    }
}

fn read_attempts(rows: &mut Rows, needs: &Needs, found: &[Row]) -> Result<(), StoreError> {
    rows.attempts.extend(needs.attempts.iter().map(|attempt| (*attempt, None)));
    for row in found {
        let (Some(attempt), Some(outcome)) =
            (Attempt::new(count(row, 1)?), AttemptOutcome::from_number(small(row, 3)?))
        else {
            return Err(StoreError::Corrupt("an attempt that makes no sense".to_owned()));
        };
        let token = LeaseToken::from_bytes(rows::uuid(row, 2));
        let job = JobId::from_bytes(rows::uuid(row, 0));
        rows.attempts.insert((job, attempt), Some(Issued { token, outcome }));
    }
    Ok(())
}

fn read_inputs(rows: &mut Rows, needs: &Needs, found: &[Row]) {
    rows.inputs.extend(needs.inputs.iter().map(|job| (*job, None)));
    for row in found {
        let input = Bytes::from(row.get::<_, Vec<u8>>(1));
        rows.inputs.insert(JobId::from_bytes(rows::uuid(row, 0)), Some(input));
    }
}

fn read_spans(rows: &mut Rows, needs: &Needs, found: &[Row]) -> Result<(), StoreError> {
    rows.spans.extend(needs.results.iter().map(|job| (*job, Vec::new())));
    for row in found {
        let bytes = u64::try_from(row.get::<_, i64>(3)).unwrap_or(0);
        let span = Span { first_item: count(row, 1)?, items: count(row, 2)?, bytes };
        rows.spans.entry(JobId::from_bytes(rows::uuid(row, 0))).or_default().push(span);
    }
    Ok(())
}
