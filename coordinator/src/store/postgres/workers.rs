//! Workers in the database, so that every coordinator knows of all and can order any.

use std::time::Duration;

use stoker_core::ids::WorkerId;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::store::{KnownWorker, Origin, StoreError, WorkerOrder, WorkerOrders, WorkerRow};

use super::Shared;
use super::error::database;
use super::rows::{bigint, uuid};
use super::session::take;

/// The coordinator that heard a worker last has it. In the order of the ids, as all who write several.
const TELL: &str = "INSERT INTO workers (id, coordinator, about, seen_at)
    SELECT id, $1, about, clock_timestamp() - silent * interval '1 millisecond'
    FROM unnest($2::uuid[], $3::text[], $4::float8[]) AS u (id, about, silent) ORDER BY id
    ON CONFLICT (id) DO UPDATE SET coordinator = excluded.coordinator, about = excluded.about,
        seen_at = excluded.seen_at
    WHERE workers.coordinator = excluded.coordinator OR workers.seen_at < excluded.seen_at";

/// A worker that was silent for so long is shown no more.
const FORGET: &str =
    "DELETE FROM workers WHERE seen_at < clock_timestamp() - interval '10 minutes'";

const ALL: &str = "SELECT id, about, coordinator = $1, cordoned, drain,
    (extract(epoch FROM clock_timestamp() - seen_at) * 1000)::int8 FROM workers ORDER BY id";

/// Stands for "the worker's own grace".
const OWN_GRACE: i64 = -1;

pub(super) async fn exchange(
    shared: &Shared,
    mine: &[WorkerRow],
) -> Result<Vec<KnownWorker>, StoreError> {
    let failed = || database("telling of workers");
    let db = take(&shared.pool).await?;
    if !mine.is_empty() {
        let ids: Vec<Uuid> = mine.iter().map(|row| *row.id.as_uuid()).collect();
        let about: Vec<&str> = mine.iter().map(|row| row.about.as_str()).collect();
        let silent: Vec<f64> =
            mine.iter().map(|row| row.silent_for.as_secs_f64() * 1_000.0).collect();
        let statement = db.prepare_cached(TELL).await.map_err(failed())?;
        let told = db.execute(&statement, &[&shared.me, &ids, &about, &silent]).await;
        told.map_err(failed())?;
    }
    let statement = db.prepare_cached(FORGET).await.map_err(failed())?;
    db.execute(&statement, &[]).await.map_err(failed())?;
    let statement = db.prepare_cached(ALL).await.map_err(failed())?;
    let rows = db.query(&statement, &[&shared.me]).await.map_err(failed())?;
    Ok(rows.iter().map(known).collect())
}

fn known(row: &Row) -> KnownWorker {
    let millis = |number: i64| Duration::from_millis(u64::try_from(number).unwrap_or(0));
    let drain = row.get::<_, Option<i64>>(4);
    KnownWorker {
        row: WorkerRow {
            id: WorkerId::from_bytes(uuid(row, 0)),
            about: row.get(1),
            silent_for: millis(row.get(5)),
        },
        home: if row.get(2) { Origin::Here } else { Origin::Elsewhere },
        orders: WorkerOrders {
            cordoned: row.get(3),
            drain: drain.map(|within| (within != OWN_GRACE).then(|| millis(within))),
        },
    }
}

pub(super) async fn order(
    shared: &Shared,
    worker: WorkerId,
    order: WorkerOrder,
) -> Result<bool, StoreError> {
    let db = take(&shared.pool).await?;
    let id = worker.as_uuid();
    let ordered = match order {
        WorkerOrder::Cordon | WorkerOrder::Uncordon => {
            let cordoned = order == WorkerOrder::Cordon;
            let sql = "UPDATE workers SET cordoned = $2 WHERE id = $1";
            db.execute(sql, &[id, &cordoned]).await
        }
        WorkerOrder::Drain(within) => {
            let millis = |within: Duration| u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
            let within = within.map_or(OWN_GRACE, |within| bigint(millis(within)));
            let sql = "UPDATE workers SET drain = $2 WHERE id = $1";
            db.execute(sql, &[id, &within]).await
        }
    };
    ordered.map(|rows| rows > 0).map_err(database("ordering a worker"))
}

/// Whether another coordinator has the worker's stream by now.
pub(super) async fn is_elsewhere(shared: &Shared, worker: WorkerId) -> Result<bool, StoreError> {
    let db = take(&shared.pool).await?;
    let sql = "SELECT 1 FROM workers WHERE id = $1 AND coordinator <> $2";
    let row = db.query_opt(sql, &[worker.as_uuid(), &shared.me]).await;
    row.map(|row| row.is_some()).map_err(database("looking for a worker"))
}
