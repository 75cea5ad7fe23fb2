//! What workers report of their attempts: progress, results, failures, releases.

use rusqlite::{OptionalExtension as _, params};
use stoker_core::ids::LeaseToken;
use stoker_core::job::{
    Append, AttemptError, AttemptOutcome, CompletionPlan, Event, Issued, Refusal, Span,
    answer_completion, answer_progress, answer_release,
};

use crate::store::{
    AttemptRef, Checkpoint, CompleteOutcome, HeartbeatOutcome, Release, SettleOutcome, StoreError,
    StoredPart,
};

use super::rows::{StoredJob, number};
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
    let before = stored.job.items_done;
    let Some(append) = answer_progress(&stored.job, attempt, spans(&checkpoint.parts)) else {
        return Ok(HeartbeatOutcome::Fenced);
    };
    let items_done = store(write, &mut stored, &checkpoint.parts, &append)?;
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
    let attempt = completion.attempt.attempt;
    let Some(Found { mut stored, outcome }) = find(write, &completion.attempt)? else {
        return Ok(CompleteOutcome::Fenced);
    };
    match answer_completion(&stored.job, outcome, spans(&completion.parts)) {
        CompletionPlan::AlreadyRecorded => return Ok(CompleteOutcome::AlreadyRecorded),
        CompletionPlan::Terminal => return Ok(CompleteOutcome::Terminal),
        CompletionPlan::Incomplete => return Ok(CompleteOutcome::Incomplete),
        CompletionPlan::Record { replace_from } => {
            if !replace_tail(write, &mut stored, &completion.parts, replace_from)? {
                return Ok(CompleteOutcome::Incomplete);
            }
        }
    }
    Ok(match stored.transit(write, &Event::Completed { attempt })? {
        Ok(()) => CompleteOutcome::Recorded,
        Err(_refusal) => CompleteOutcome::Fenced,
    })
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
            let parts = &release.checkpoint.parts;
            let Some(append) = answer_release(&stored.job, attempt.attempt, spans(parts)) else {
                return Ok(SettleOutcome::Fenced);
            };
            let items_done = store(write, &mut stored, parts, &append)?;
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

fn spans(parts: &[StoredPart]) -> impl Iterator<Item = Span> {
    parts.iter().map(|part| Span { first_item: part.first_item, items: part.items })
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
                    Ok(Issued { token, outcome: number(row, 1, AttemptOutcome::from_number)? })
                })
                .optional()
        })
        .map_err(StoreError::database("reading an attempt"))?;
    let Some(outcome) = found.and_then(|issued| issued.shown(attempt.token)) else {
        return Ok(None);
    };
    Ok(StoredJob::load(write.db, attempt.job)?.map(|stored| Found { stored, outcome }))
}

/// Stores what is to be appended; answers how many items are done then.
fn store(
    write: &Write<'_>,
    stored: &mut StoredJob,
    parts: &[StoredPart],
    append: &Append,
) -> Result<u32, StoreError> {
    for part in append.parts.iter().filter_map(|index| parts.get(*index)) {
        insert_part(write, stored, part)?;
    }
    Ok(append.items_done)
}

/// Puts the parts in the place of everything from their first item on; false when a stored part
/// reaches across it.
fn replace_tail(
    write: &Write<'_>,
    stored: &mut StoredJob,
    parts: &[StoredPart],
    first: u32,
) -> Result<bool, StoreError> {
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
