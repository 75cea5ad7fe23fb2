//! Lanes and counts in `SQLite`.

use std::sync::Arc;

use rusqlite::{Connection, params};
use stoker_core::job::StateKind;

use crate::store::lanes::{LaneEntry, LaneId, LaneNames, SharedLanes};
use crate::store::{Lane, StateCounts, StoreError};

/// Reads all lanes and counts their jobs.
pub(super) fn load(db: &Connection) -> Result<SharedLanes, StoreError> {
    let entries = read(db).map_err(StoreError::database("reading lanes and counts"))?;
    Ok(SharedLanes::new(entries))
}

/// The number of a lane, new if need be. See [`SharedLanes::forget_from`].
pub(super) fn intern(
    lanes: &SharedLanes,
    db: &Connection,
    names: &LaneNames,
) -> rusqlite::Result<LaneId> {
    if let Some(id) = lanes.id(names) {
        return Ok(id);
    }
    db.prepare_cached("INSERT INTO lanes (tenant, class, pool, model) VALUES (?, ?, ?, ?)")?
        .execute(params![
            names.tenant.as_str(),
            names.class.as_str(),
            names.lane.pool.as_str(),
            names.lane.model.as_str()
        ])?;
    let id = db.last_insert_rowid();
    lanes.add(id, names.clone());
    Ok(id)
}

fn read(db: &Connection) -> rusqlite::Result<Vec<LaneEntry>> {
    let mut entries: Vec<LaneEntry> = db
        .prepare("SELECT id, tenant, class, pool, model FROM lanes ORDER BY id")?
        .query_map([], |row| {
            let names = LaneNames {
                tenant: super::rows::name(row, 1)?,
                class: super::rows::name(row, 2)?,
                lane: Lane { pool: super::rows::name(row, 3)?, model: super::rows::name(row, 4)? },
            };
            let counts = StateCounts::default();
            Ok(LaneEntry { id: row.get(0)?, names: Arc::new(names), counts })
        })?
        .collect::<rusqlite::Result<_>>()?;
    let mut statement =
        db.prepare("SELECT lane, state, count(*) FROM jobs GROUP BY lane, state")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let lane: LaneId = row.get(0)?;
        let entry = entries.iter_mut().find(|entry| entry.id == lane);
        if let (Some(state), Some(entry)) = (StateKind::from_number(row.get(1)?), entry) {
            entry.counts.add(state, row.get(2)?);
        }
    }
    Ok(entries)
}
