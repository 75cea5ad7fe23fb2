//! What attempts took of workers' time: what money was spent for.

use std::collections::BTreeMap;
use std::time::Duration;

use stoker_core::ids::TenantName;
use stoker_core::time::Timestamp;

use super::lanes::{LaneId, SharedLanes};
use super::types::Lane;

/// What attempts of one tenant took in one queue on one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    pub lane: Lane,
    pub tenant: TenantName,
    /// Number of the day (UTC) since 1970 on which they began.
    pub day: i64,
    pub attempts: u64,
    /// Their times, added up. One that runs is counted up to the end of what was asked for.
    pub taken: Duration,
    /// The same, but each moment of a worker only once: for the attempt that began first.
    pub busy: Duration,
}

/// Jobs that were accepted longer before are not looked at, so that the whole history need not be read.
pub(super) const LOOKED_BACK: Duration = Duration::from_hours(8 * 24);

/// Attempts of jobs whose id is `$2` or later that began from `$3` to before `$1`: (lane, day, attempts, taken,
/// busy), times in milliseconds. What an attempt adds to its worker's busy time is what reaches beyond the latest
/// end of those that began before it. `SQLite` numbers parameters as they appear, Postgres as they are called: so
/// they are called as they appear.
pub(super) const USAGE: &str = "SELECT jobs.lane, began / 86400000 AS day, count(*),
        CAST(sum(ended - began) AS bigint),
        CAST(sum(CASE WHEN covered IS NULL OR covered <= began THEN ended - began
            WHEN covered < ended THEN ended - covered ELSE 0 END) AS bigint)
    FROM (SELECT job, began, ended, max(ended) OVER (PARTITION BY worker ORDER BY began, job, attempt
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS covered
        FROM (SELECT job, attempt, worker, started_at AS began,
                CASE WHEN ended_at IS NULL OR ended_at > $1 THEN $1
                    WHEN ended_at < started_at THEN started_at ELSE ended_at END AS ended
            FROM attempts WHERE job >= $2 AND started_at >= $3 AND started_at < $1) AS spans) AS ordered
    JOIN jobs ON jobs.id = ordered.job GROUP BY jobs.lane, day";

/// A row of [`USAGE`].
#[derive(Debug, Clone, Copy)]
pub(super) struct UsageRow {
    pub(super) lane: LaneId,
    pub(super) day: i64,
    pub(super) attempts: i64,
    pub(super) taken: i64,
    pub(super) busy: i64,
}

/// The first id that a job may have whose attempts are looked at.
pub(super) fn first_id(from: Timestamp) -> stoker_core::ids::JobId {
    super::demand::first_id(from.before(LOOKED_BACK))
}

/// Brings classes together. A lane that was made a moment ago has its attempts in the next look.
pub(super) fn together(lanes: &SharedLanes, rows: &[UsageRow]) -> Vec<Usage> {
    let mut all: BTreeMap<(i64, Lane, TenantName), Usage> = BTreeMap::new();
    let number = |value: i64| u64::try_from(value).unwrap_or(0);
    for row in rows {
        let Some(names) = lanes.names(row.lane) else { continue };
        let (lane, tenant) = (names.lane.clone(), names.tenant.clone());
        let usage = all.entry((row.day, lane.clone(), tenant.clone())).or_insert_with(|| Usage {
            lane,
            tenant,
            day: row.day,
            attempts: 0,
            taken: Duration::ZERO,
            busy: Duration::ZERO,
        });
        usage.attempts += number(row.attempts);
        usage.taken += Duration::from_millis(number(row.taken));
        usage.busy += Duration::from_millis(number(row.busy));
    }
    all.into_values().collect()
}
