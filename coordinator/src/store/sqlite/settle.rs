//! What workers report of their attempts: progress, results, failures, releases.

use rusqlite::{OptionalExtension as _, params};
use stoker_core::ids::{Attempt, LeaseToken};
use stoker_core::job::{AttemptError, AttemptOutcome, Event, Refusal};

use crate::store::{
    AttemptRef, Checkpoint, CompleteOutcome, HeartbeatOutcome, Release, SettleOutcome, StoreError,
    StoredPart,
};

use super::rows::{StoredJob, number, record_attempt_end};
use super::writer::Write;

/// An attempt that was found, with its token checked.
struct Found {
    stored: StoredJob,
    outcome: AttemptOutcome,
}

pub(super) fn heartbeat(
    write: &mut Write<'_>,
    progress: &[Checkpoint],
) -> Result<Vec<HeartbeatOutcome>, StoreError> {
    progress.iter().map(|checkpoint| heartbeat_one(write, checkpoint)).collect()
}

fn heartbeat_one(
    write: &mut Write<'_>,
    checkpoint: &Checkpoint,
) -> Result<HeartbeatOutcome, StoreError> {
    let attempt = checkpoint.attempt.attempt;
    let Some(Found { mut stored, .. }) = find(write, &checkpoint.attempt)? else {
        return Ok(HeartbeatOutcome::Fenced);
    };
    if !is_current(&stored, attempt) {
        return Ok(HeartbeatOutcome::Fenced);
    }
    let before = stored.job.items_done;
    let Some(items_done) = store_checkpoint(write, &mut stored, &checkpoint.parts)? else {
        return Ok(HeartbeatOutcome::Fenced);
    };
    let event = Event::HeartbeatReceived { attempt, items_done };
    let extended = if items_done > before {
        stored.transit(write, &event)?
    } else {
        stored.extend(write, &event)?
    };
    if extended.is_err() {
        return Ok(HeartbeatOutcome::Fenced);
    }
    let stop = stored.job.lease().is_some_and(|lease| lease.cancel_requested_at.is_some());
    Ok(if stop { HeartbeatOutcome::Stop } else { HeartbeatOutcome::Continue })
}

pub(super) fn complete(
    write: &mut Write<'_>,
    completions: &[Checkpoint],
) -> Result<Vec<CompleteOutcome>, StoreError> {
    completions.iter().map(|completion| complete_one(write, completion)).collect()
}

fn complete_one(
    write: &mut Write<'_>,
    completion: &Checkpoint,
) -> Result<CompleteOutcome, StoreError> {
    let AttemptRef { job, attempt, .. } = completion.attempt;
    let Some(Found { mut stored, outcome }) = find(write, &completion.attempt)? else {
        return Ok(CompleteOutcome::Fenced);
    };
    if outcome == AttemptOutcome::Succeeded {
        return Ok(CompleteOutcome::AlreadyRecorded);
    }
    if stored.job.state.is_terminal() {
        return Ok(CompleteOutcome::Terminal);
    }
    if !replace_tail(write, &mut stored, &completion.parts)? {
        return Ok(CompleteOutcome::Incomplete);
    }
    let current = is_current(&stored, attempt);
    match stored.transit(write, &Event::Completed { attempt })? {
        Ok(()) => {}
        Err(_refusal) => return Ok(CompleteOutcome::Fenced),
    }
    if !current {
        // An earlier attempt won; the machine has closed the running one, not this.
        record_attempt_end(write, job, attempt, (AttemptOutcome::Succeeded, "", ""))?;
    }
    Ok(CompleteOutcome::Recorded)
}

pub(super) fn fail(
    write: &mut Write<'_>,
    failures: &[(AttemptRef, AttemptError)],
) -> Result<Vec<SettleOutcome>, StoreError> {
    failures
        .iter()
        .map(|(attempt, error)| {
            let Some(Found { mut stored, .. }) = find(write, attempt)? else {
                return Ok(SettleOutcome::Fenced);
            };
            let event = Event::AttemptFailed {
                attempt: attempt.attempt,
                error: error.clone(),
                jitter: stoker_runtime::ids::jitter(),
            };
            Ok(settled(&stored.transit(write, &event)?))
        })
        .collect()
}

pub(super) fn release(
    write: &mut Write<'_>,
    releases: &[Release],
) -> Result<Vec<SettleOutcome>, StoreError> {
    releases
        .iter()
        .map(|release| {
            let attempt = release.checkpoint.attempt;
            let Some(Found { mut stored, .. }) = find(write, &attempt)? else {
                return Ok(SettleOutcome::Fenced);
            };
            if !is_current(&stored, attempt.attempt) {
                return Ok(SettleOutcome::Fenced);
            }
            // A checkpoint with a gap is dropped; the attempt is given back all the same.
            let items_done = store_checkpoint(write, &mut stored, &release.checkpoint.parts)?
                .unwrap_or(stored.job.items_done);
            let event =
                Event::Released { attempt: attempt.attempt, reason: release.reason, items_done };
            Ok(settled(&stored.transit(write, &event)?))
        })
        .collect()
}

fn settled(result: &Result<(), Refusal>) -> SettleOutcome {
    match result {
        Ok(()) => SettleOutcome::Recorded,
        Err(_refusal) => SettleOutcome::Fenced,
    }
}

fn is_current(stored: &StoredJob, attempt: Attempt) -> bool {
    stored.job.lease().is_some_and(|lease| lease.attempt == attempt)
}

/// The job and attempt that a fence names; `None` when there is none or the token is wrong.
fn find(write: &Write<'_>, attempt: &AttemptRef) -> Result<Option<Found>, StoreError> {
    let found = write
        .db
        .prepare_cached("SELECT token, outcome FROM attempts WHERE job = ? AND attempt = ?")
        .and_then(|mut statement| {
            statement
                .query_row(params![attempt.job.as_bytes(), attempt.attempt.number()], |row| {
                    let token = LeaseToken::from_bytes(row.get(0)?);
                    Ok((token, number(row, 1, AttemptOutcome::from_number)?))
                })
                .optional()
        })
        .map_err(StoreError::database("reading an attempt"))?;
    let Some((token, outcome)) = found else { return Ok(None) };
    if token != attempt.token {
        return Ok(None);
    }
    Ok(StoredJob::load(write.db, attempt.job)?.map(|stored| Found { stored, outcome }))
}

/// Stores the parts that follow what is stored, skips those that are stored already, and answers
/// how many items are done then; `None` when there is a gap or a part is too long.
fn store_checkpoint(
    write: &Write<'_>,
    stored: &mut StoredJob,
    parts: &[StoredPart],
) -> Result<Option<u32>, StoreError> {
    let mut done = stored.job.items_done;
    for part in parts {
        let end = part.first_item.saturating_add(part.items);
        if end <= done {
            continue;
        }
        if part.first_item != done || end > stored.job.items_total {
            return Ok(None);
        }
        insert_part(write, stored, part)?;
        done = end;
    }
    Ok(Some(done))
}

/// Puts the parts in the place of everything from their first item on; false when the result is
/// not whole then.
fn replace_tail(
    write: &Write<'_>,
    stored: &mut StoredJob,
    parts: &[StoredPart],
) -> Result<bool, StoreError> {
    let total = stored.job.items_total;
    let first = parts.first().map_or(total, |part| part.first_item);
    let contiguous = parts.iter().try_fold(first, |next, part| {
        (part.first_item == next).then(|| next.saturating_add(part.items))
    });
    if first > stored.job.items_done || contiguous != Some(total) {
        return Ok(false);
    }
    if first < stored.job.items_done && !cut_results(write, stored, first)? {
        return Ok(false);
    }
    for part in parts {
        insert_part(write, stored, part)?;
    }
    Ok(true)
}

/// Removes stored results from `first` on; false when a stored part reaches across it.
fn cut_results(write: &Write<'_>, stored: &mut StoredJob, first: u32) -> Result<bool, StoreError> {
    let id = stored.job.id;
    let cut = || {
        let (across, removed): (bool, u64) = write
            .db
            .prepare_cached(
                "SELECT coalesce(max(first_item < ?2 AND first_item + items > ?2), 0),
                        coalesce(sum(CASE WHEN first_item >= ?2 THEN length(data) END), 0)
                 FROM results WHERE job = ?1",
            )?
            .query_row(params![id.as_bytes(), first], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if !across {
            write
                .db
                .prepare_cached("DELETE FROM results WHERE job = ? AND first_item >= ?")?
                .execute(params![id.as_bytes(), first])?;
        }
        Ok((across, removed))
    };
    let (across, removed) = cut().map_err(StoreError::database("replacing results"))?;
    if across {
        return Ok(false);
    }
    stored.result_bytes = stored.result_bytes.saturating_sub(removed);
    Ok(true)
}

fn insert_part(
    write: &Write<'_>,
    stored: &mut StoredJob,
    part: &StoredPart,
) -> Result<(), StoreError> {
    write
        .db
        .prepare_cached("INSERT INTO results (job, first_item, items, data) VALUES (?, ?, ?, ?)")
        .and_then(|mut statement| {
            statement.execute(params![
                stored.job.id.as_bytes(),
                part.first_item,
                part.items,
                &part.data[..]
            ])
        })
        .map_err(StoreError::database("writing results"))?;
    stored.result_bytes += part.data.len() as u64;
    Ok(())
}
