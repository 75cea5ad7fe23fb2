//! Removing what has been kept long enough. Only the leader does.

use deadpool_postgres::Object;
use stoker_core::job::StateKind;
use stoker_core::time::Timestamp;
use stoker_runtime::ids;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::store::lanes::{Delta, LaneId};
use crate::store::{Role, StoreError};

use super::Shared;
use super::error::{Kind, database, kind};
use super::events::encode_removed;
use super::flush::{Author, Batch};
use super::rows::small;
use super::session::take;
use super::writer::give_up;

/// Kept until everybody has certainly read them; see `follow`.
const TRIM: &str = "DELETE FROM events WHERE created_at < clock_timestamp() - interval '3 minutes'";

const LEADING: &str = "SELECT pg_current_xact_id()::text FROM leaders
    WHERE role = $1 AND epoch = $2 AND holder = $3 FOR SHARE";

/// Jobs in the order of their ids, as all who lock several.
const WITH_RESULTS: &str = "SELECT id, state FROM jobs WHERE id IN (
        SELECT id FROM jobs WHERE finished_at IS NOT NULL AND has_results AND finished_at < $1
        ORDER BY finished_at LIMIT $2)
    ORDER BY id FOR UPDATE SKIP LOCKED";

const OLD: &str = "SELECT id, lane, state FROM jobs WHERE id IN (
        SELECT id FROM jobs WHERE finished_at IS NOT NULL AND finished_at < $1
        ORDER BY finished_at LIMIT $2)
    ORDER BY id FOR UPDATE SKIP LOCKED";

/// Keys are locked before jobs everywhere else. Here it is the other way round, which can only meet a
/// submit that waits for a key of a job that has ended: that submit holds no job that has.
const REMOVE: [&str; 6] = [
    "DELETE FROM idempotency USING jobs JOIN lanes ON lanes.id = jobs.lane
        WHERE jobs.id = ANY($1) AND idempotency.tenant = lanes.tenant
        AND idempotency.key = jobs.idempotency_key AND idempotency.job = jobs.id",
    "DELETE FROM results WHERE job = ANY($1)",
    "DELETE FROM inputs WHERE job = ANY($1)",
    "DELETE FROM attempts WHERE job = ANY($1)",
    "DELETE FROM outbox WHERE job = ANY($1)",
    "DELETE FROM jobs WHERE id = ANY($1)",
];

/// Removes results of jobs that ended before `results_before`, and whole jobs that ended before
/// `jobs_before`: up to `limit` of each. Answers how many jobs lost something.
pub(super) async fn expire(
    shared: &Shared,
    results_before: Timestamp,
    jobs_before: Timestamp,
    limit: u32,
) -> Result<u64, StoreError> {
    let epochs = shared.leaders.epochs();
    let epoch = epochs.iter().find(|(role, _)| *role == Role::Retention).map(|(_, epoch)| *epoch);
    let epoch = epoch.ok_or(StoreError::NotLeading)?;
    let db = take(&shared.pool).await?;
    let removed = remove(shared, &db, epoch, ([results_before, jobs_before], limit)).await;
    match removed {
        Ok(Removed { results, jobs, xid }) => {
            let deltas: Vec<Delta> = jobs
                .iter()
                .map(|(lane, state)| Delta { lane: *lane, from: Some(*state), to: None })
                .collect();
            shared.ledger.own(xid, &deltas);
            shared.told.notify_one();
            Ok(results + jobs.len() as u64)
        }
        Err(error) => {
            give_up(db).await;
            // Whether the last step went through is not worth finding out: the counts are read anew.
            shared.recount.notify_one();
            Err(error)
        }
    }
}

struct Removed {
    results: u64,
    jobs: Vec<(LaneId, StateKind)>,
    xid: u64,
}

async fn remove(
    shared: &Shared,
    db: &Object,
    epoch: i64,
    ([results_before, jobs_before], limit): ([Timestamp; 2], u32),
) -> Result<Removed, StoreError> {
    let failed = || database("removing what is old");
    db.batch_execute("BEGIN").await.map_err(failed())?;
    let role = Role::Retention.name();
    let leading = db.query_opt(LEADING, &[&role, &epoch, &shared.me]).await.map_err(failed())?;
    let leading = leading.ok_or(StoreError::NotLeading)?;
    let xid = leading.get::<_, &str>(0).parse();
    let xid = xid.map_err(|_| StoreError::Corrupt("a transaction id is no number".to_owned()))?;
    let results = remove_results(db, results_before, limit).await?;
    let found = db.query(OLD, &[&jobs_before.as_unix_millis(), &i64::from(limit)]).await;
    let found = found.map_err(failed())?;
    let ids: Vec<Uuid> = found.iter().map(|row| row.get(0)).collect();
    if !ids.is_empty() {
        for sql in REMOVE {
            db.execute(sql, &[&ids]).await.map_err(failed())?;
        }
    }
    db.execute(TRIM, &[]).await.map_err(failed())?;
    let state = |row: &Row| {
        let state = StateKind::from_number(small(row, 2)?);
        let state = state.ok_or_else(|| StoreError::Corrupt("a job's state".to_owned()))?;
        Ok((row.get(1), state))
    };
    let jobs = found.iter().map(state).collect::<Result<Vec<_>, StoreError>>()?;
    let author = Author { txn: *ids::event_id().as_uuid(), me: shared.me };
    let tell = (!jobs.is_empty()).then(|| encode_removed(&jobs)).flatten();
    let batch = tell.map_or_else(Batch::default, |text| Batch::tell(author, text));
    batch.commit(db).await.map_err(|error| match kind(&error) {
        Kind::Away => StoreError::InDoubt(error.into()),
        _ => database("removing what is old")(error),
    })?;
    Ok(Removed { results, jobs, xid })
}

/// Results and checkpoints. The input of a job that can be retried stays as long as the job.
async fn remove_results(db: &Object, before: Timestamp, limit: u32) -> Result<u64, StoreError> {
    let failed = || database("removing old results");
    let found = db.query(WITH_RESULTS, &[&before.as_unix_millis(), &i64::from(limit)]).await;
    let found = found.map_err(failed())?;
    if found.is_empty() {
        return Ok(0);
    }
    let succeeded = i16::from(StateKind::Succeeded.number());
    let ids: Vec<Uuid> = found.iter().map(|row| row.get(0)).collect();
    let done: Vec<Uuid> = found
        .iter()
        .filter(|row| row.get::<_, i16>(1) == succeeded)
        .map(|row| row.get(0))
        .collect();
    for (sql, jobs) in [
        ("DELETE FROM results WHERE job = ANY($1)", &ids),
        ("UPDATE jobs SET has_results = false WHERE id = ANY($1)", &ids),
        ("DELETE FROM inputs WHERE job = ANY($1)", &done),
    ] {
        db.execute(sql, &[jobs]).await.map_err(failed())?;
    }
    Ok(found.len() as u64)
}
