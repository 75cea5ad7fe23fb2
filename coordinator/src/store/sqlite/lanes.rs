//! Numbers for (tenant, class, pool, model), and how many jobs each has in each state.

use std::sync::{Arc, PoisonError, RwLock};

use rusqlite::{Connection, params};
use stoker_core::ids::{ClassName, TenantName};
use stoker_core::job::StateKind;

use crate::store::{Counts, Lane, StateCounts, StoreError};

/// Row number of a lane.
pub(super) type LaneId = i64;

/// What a lane's number stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LaneNames {
    pub(super) tenant: TenantName,
    pub(super) class: ClassName,
    pub(super) lane: Lane,
}

#[derive(Debug, Clone)]
struct Entry {
    id: LaneId,
    names: Arc<LaneNames>,
    counts: StateCounts,
}

/// All lanes; one for the writer and the readers. Few: scanning them is cheap.
#[derive(Debug, Clone)]
pub(super) struct SharedLanes(Arc<RwLock<Vec<Entry>>>);

impl SharedLanes {
    pub(super) fn load(db: &Connection) -> Result<Self, StoreError> {
        let entries = read(db).map_err(StoreError::database("reading lanes and counts"))?;
        Ok(Self(Arc::new(RwLock::new(entries))))
    }

    pub(super) fn len(&self) -> usize {
        self.read(<[Entry]>::len)
    }

    /// Forgets the lanes that were made after there were `len`: their transaction was undone.
    pub(super) fn forget_from(&self, len: usize) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).truncate(len);
    }

    /// The number of a lane, new if need be. See [`SharedLanes::forget_from`].
    pub(super) fn intern(&self, db: &Connection, names: &LaneNames) -> rusqlite::Result<LaneId> {
        let known = self.read(|entries| {
            entries.iter().find(|entry| *entry.names == *names).map(|entry| entry.id)
        });
        if let Some(id) = known {
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
        let entry = Entry { id, names: Arc::new(names.clone()), counts: StateCounts::default() };
        self.0.write().unwrap_or_else(PoisonError::into_inner).push(entry);
        Ok(id)
    }

    pub(super) fn names(&self, id: LaneId) -> Option<Arc<LaneNames>> {
        self.read(|entries| {
            entries.iter().find(|entry| entry.id == id).map(|entry| Arc::clone(&entry.names))
        })
    }

    /// A condition on the column `lane` that holds for the lanes that match; empty when all do.
    pub(super) fn ids(&self, matches: impl Fn(&LaneNames) -> bool) -> String {
        let wanted = self.matching(matches);
        if wanted.len() == self.len() {
            return String::new();
        }
        let ids: Vec<String> = wanted.iter().map(|(id, _, _)| id.to_string()).collect();
        format!(" AND lane IN ({})", ids.join(", "))
    }

    /// Lanes that match, with their counts.
    pub(super) fn matching(
        &self,
        matches: impl Fn(&LaneNames) -> bool,
    ) -> Vec<(LaneId, Arc<LaneNames>, StateCounts)> {
        self.read(|entries| {
            entries
                .iter()
                .filter(|entry| matches(&entry.names))
                .map(|entry| (entry.id, Arc::clone(&entry.names), entry.counts))
                .collect()
        })
    }

    /// Moves jobs between states, once that is committed.
    pub(super) fn apply(&self, deltas: &[Delta]) {
        let mut entries = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for delta in deltas {
            if let Some(entry) = entries.iter_mut().find(|entry| entry.id == delta.lane) {
                if let Some(from) = delta.from {
                    entry.counts.remove(from, 1);
                }
                if let Some(to) = delta.to {
                    entry.counts.add(to, 1);
                }
            }
        }
    }

    pub(super) fn counts(&self) -> Counts {
        self.read(|entries| {
            let mut counts = Counts::default();
            for entry in entries {
                let LaneNames { tenant, class, lane } = &*entry.names;
                let key = (lane.clone(), tenant.clone(), class.clone());
                counts.0.entry(key).or_default().merge(&entry.counts);
            }
            counts
        })
    }

    fn read<T>(&self, read: impl FnOnce(&[Entry]) -> T) -> T {
        read(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One job's move between states; `None` is "not stored".
#[derive(Debug, Clone, Copy)]
pub(super) struct Delta {
    pub(super) lane: LaneId,
    pub(super) from: Option<StateKind>,
    pub(super) to: Option<StateKind>,
}

fn read(db: &Connection) -> rusqlite::Result<Vec<Entry>> {
    let mut entries: Vec<Entry> = db
        .prepare("SELECT id, tenant, class, pool, model FROM lanes ORDER BY id")?
        .query_map([], |row| {
            let names = LaneNames {
                tenant: super::rows::name(row, 1)?,
                class: super::rows::name(row, 2)?,
                lane: Lane { pool: super::rows::name(row, 3)?, model: super::rows::name(row, 4)? },
            };
            Ok(Entry { id: row.get(0)?, names: Arc::new(names), counts: StateCounts::default() })
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
