//! Lanes and counts in Postgres.

use std::collections::BTreeSet;

use deadpool_postgres::Object;
use stoker_core::job::StateKind;
use tokio_postgres::{Client, Row};

use crate::store::lanes::{LaneId, LaneNames, SharedLanes};
use crate::store::{Lane, StoreError};

use super::error::database;
use super::rows::small;
use super::snapshot::Snapshot;
use super::unit::Unit;

const ALL: &str = "SELECT id, tenant, class, pool, model FROM lanes ORDER BY id";

/// Two coordinators may put the same lane in at the same time; a lane stays for good.
const INTERN: &str = "INSERT INTO lanes (tenant, class, pool, model) VALUES ($1, $2, $3, $4)
    ON CONFLICT (tenant, class, pool, model) DO UPDATE SET model = excluded.model RETURNING id";

/// Puts those of the lanes in that are new. In a transaction of its own, before the one that needs them.
pub(super) async fn intern(
    db: &Object,
    lanes: &SharedLanes,
    wanted: &[LaneNames],
) -> Result<(), StoreError> {
    for names in wanted.iter().filter(|names| lanes.id(names).is_none()) {
        let LaneNames { tenant, class, lane: Lane { pool, model } } = names;
        let names_of = [tenant.as_str(), class.as_str(), pool.as_str(), model.as_str()];
        let [tenant, class, pool, model] = &names_of;
        let row = db.query_one(INTERN, &[tenant, class, pool, model]).await;
        lanes.add(row.map_err(database("writing a lane"))?.get(0), names.clone());
    }
    Ok(())
}

/// Reads the lanes that others have put in.
pub(super) async fn refresh(db: &Client, lanes: &SharedLanes) -> Result<(), StoreError> {
    for row in db.query(ALL, &[]).await.map_err(database("reading lanes"))? {
        let names = names(&row).ok_or_else(|| StoreError::Corrupt("a lane's names".to_owned()))?;
        lanes.add(row.get(0), names);
    }
    Ok(())
}

fn names(row: &Row) -> Option<LaneNames> {
    Some(LaneNames {
        tenant: row.get::<_, &str>(1).parse().ok()?,
        class: row.get::<_, &str>(2).parse().ok()?,
        lane: Lane {
            pool: row.get::<_, &str>(3).parse().ok()?,
            model: row.get::<_, &str>(4).parse().ok()?,
        },
    })
}

/// Makes sure that the lanes of all jobs that were read are known.
pub(super) async fn know(db: &Object, unit: &Unit<'_>) -> Result<(), StoreError> {
    let of_jobs = unit.rows.jobs.values().flatten().map(|entry| entry.job.lane);
    let unknown =
        of_jobs.collect::<BTreeSet<_>>().into_iter().any(|id| unit.lanes.names(id).is_none());
    if unknown { refresh(db, unit.lanes).await } else { Ok(()) }
}

/// Counts all jobs, and tells what the count has seen.
pub(super) async fn count(
    db: &Client,
) -> Result<(Snapshot, Vec<(LaneId, StateKind, u64)>), StoreError> {
    // This one does read the whole table, and may take its time for it.
    let begin = "BEGIN; SET LOCAL enable_seqscan = on; SET LOCAL statement_timeout = '5min'";
    db.batch_execute(begin).await.map_err(database("counting jobs"))?;
    // One statement sees one snapshot. The first row always comes.
    let sql = "SELECT pg_current_snapshot()::text, lane, state, jobs FROM (VALUES (1)) AS one (x)
        LEFT JOIN (SELECT lane, state, count(*) AS jobs FROM jobs GROUP BY lane, state) AS counts
        ON true";
    let rows = db.query(sql, &[]).await.map_err(database("counting jobs"))?;
    db.batch_execute("COMMIT").await.map_err(database("counting jobs"))?;
    let mut counts = Vec::new();
    for row in &rows {
        let Some(lane) = row.get::<_, Option<LaneId>>(1) else { continue };
        let state = StateKind::from_number(small(row, 2)?);
        let jobs = u64::try_from(row.get::<_, i64>(3)).unwrap_or(0);
        counts.extend(state.map(|state| (lane, state, jobs)));
    }
    let snapshot = rows.first().and_then(|row| Snapshot::parse(row.get(0)));
    let snapshot = snapshot.ok_or_else(|| StoreError::Corrupt("a snapshot".to_owned()))?;
    Ok((snapshot, counts))
}
