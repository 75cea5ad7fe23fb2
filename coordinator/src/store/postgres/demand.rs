//! The load in numbers.

use deadpool_postgres::Object;
use stoker_core::time::Timestamp;

use crate::store::demand::{DISPATCHED, EVENTS, EventRow, QUEUED, Tally, first_id};
use crate::store::lanes::SharedLanes;
use crate::store::{Demand, StoreError};

use super::error::database;
use super::lanes::refresh;

/// What waits, and what happened since then.
pub(super) async fn read(
    db: &Object,
    lanes: &SharedLanes,
    since: Option<Timestamp>,
) -> Result<Vec<Demand>, StoreError> {
    let failed = || database("counting what waits and what happened");
    refresh(db, lanes).await?;
    let mut tally = Tally::new(lanes);
    for lane in tally.waiting_lanes() {
        for sql in [QUEUED, DISPATCHED] {
            let statement = db.prepare_cached(sql).await.map_err(failed())?;
            for row in db.query(&statement, &[&lane]).await.map_err(failed())? {
                tally.waiting(lane, row.get(0), row.get(1));
            }
        }
    }
    let Some(since) = since else { return Ok(tally.finish()) };
    let from = first_id(since);
    for (event, sql) in EVENTS {
        let statement = db.prepare_cached(sql).await.map_err(failed())?;
        let rows = db.query(&statement, &[from.as_uuid(), &since.as_unix_millis()]).await;
        for row in rows.map_err(failed())? {
            let row = EventRow {
                lane: row.get(0),
                slot: row.get(1),
                jobs: row.get(2),
                late: row.get(3),
                seconds: row.get(4),
                squares: row.get(5),
            };
            tally.event(event, &row);
        }
    }
    Ok(tally.finish())
}
