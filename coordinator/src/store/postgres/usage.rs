//! What attempts took of workers' time.

use deadpool_postgres::Object;
use stoker_core::time::Timestamp;

use crate::store::lanes::SharedLanes;
use crate::store::usage::{USAGE, UsageRow, first_id, together};
use crate::store::{StoreError, Usage};

use super::error::database;
use super::lanes::refresh;

/// What attempts that began in this time took.
pub(super) async fn read(
    db: &Object,
    lanes: &SharedLanes,
    from: Timestamp,
    until: Timestamp,
) -> Result<Vec<Usage>, StoreError> {
    let failed = || database("adding up what attempts took");
    refresh(db, lanes).await?;
    let statement = db.prepare_cached(USAGE).await.map_err(failed())?;
    let (begin, end, first) = (from.as_unix_millis(), until.as_unix_millis(), first_id(from));
    let rows = db.query(&statement, &[&end, first.as_uuid(), &begin]).await.map_err(failed())?;
    let rows: Vec<UsageRow> = rows
        .iter()
        .map(|row| UsageRow {
            lane: row.get(0),
            day: row.get(1),
            attempts: row.get(2),
            taken: row.get(3),
            busy: row.get(4),
        })
        .collect();
    Ok(together(lanes, &rows))
}
