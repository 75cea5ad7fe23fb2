//! Which stored jobs a filter wants, and between which ids they are.

use std::time::Duration;

use stoker_core::ids::JobId;
use stoker_core::job::JobRecord;

use super::StoreError;
use super::job_row::StoredJob;
use super::lanes::SharedLanes;
use super::types::Filter;

/// Rows that one page looks at; a page that found little by then is short and says where to go on.
pub(super) const SCAN_LIMIT: usize = 20_000;

/// No call takes longer to be committed.
pub(super) const LONGEST_CALL: Duration = Duration::from_mins(1);

/// The first id that a page may hold, and the first that it may not. Rows are found by these alone: any
/// other condition could make one page read the whole table.
pub(super) fn id_bounds(filter: &Filter) -> (Option<JobId>, Option<JobId>) {
    // An id begins with the time at which it was made, which is at most a call's time earlier than
    // that of the acceptance.
    let from = filter.accepted_after.map(|after| JobId::first_of(after.before(LONGEST_CALL)));
    let below = filter.accepted_before.map(JobId::first_of);
    (from, below.into_iter().chain(filter.before).min())
}

/// The job's record, if the filter wants it.
pub(super) fn matches(
    stored: &StoredJob,
    lanes: &SharedLanes,
    filter: &Filter,
) -> Result<Option<JobRecord>, StoreError> {
    let names = stored.names(lanes)?;
    let (accepted_at, state) = (stored.job.accepted_at, stored.job.state.kind());
    let failure = stored.job.failure.as_ref().map(|failure| failure.reason);
    let wanted = filter.scope.contains(&names.tenant)
        && filter.model.as_ref().is_none_or(|model| *model == names.lane.model)
        && filter.class.as_ref().is_none_or(|class| *class == names.class)
        && filter.accepted_after.is_none_or(|after| accepted_at >= after)
        && filter.accepted_before.is_none_or(|before| accepted_at < before)
        && !(filter.only_dead_letters && (stored.discarded || stored.retried_as.is_some()))
        && (filter.states.is_empty() || filter.states.contains(&state))
        && filter.failure.is_none_or(|reason| failure == Some(reason));
    if !wanted {
        return Ok(None);
    }
    let record = stored.record(lanes)?;
    let labeled = |(key, value)| record.labels.get(key) == Some(value);
    Ok(filter.labels.iter().all(labeled).then_some(record))
}
