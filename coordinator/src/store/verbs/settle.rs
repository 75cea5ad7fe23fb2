//! What workers report of their attempts: progress, results, failures, releases.

use bytes::Bytes;
use stoker_core::job::{
    Append, AttemptError, AttemptOutcome, CompletionPlan, Event, Refusal, Span, answer_completion,
    answer_progress, answer_release,
};
use stoker_core::request::Task;

use crate::store::job_row::StoredJob;
use crate::store::tables::Tables;
use crate::store::{
    AttemptRef, BEGUN_ITEM, Checkpoint, CompleteOutcome, HeartbeatOutcome, Release, SettleOutcome,
    StoreError, StoredPart,
};

/// An attempt that was found, with its token checked.
struct Found {
    stored: StoredJob,
    outcome: AttemptOutcome,
}

pub(in crate::store) fn heartbeat(
    tables: &mut dyn Tables,
    progress: &[Checkpoint],
) -> Result<Vec<HeartbeatOutcome>, StoreError> {
    progress.iter().map(|checkpoint| heartbeat_one(tables, checkpoint)).collect()
}

fn heartbeat_one(
    tables: &mut dyn Tables,
    checkpoint: &Checkpoint,
) -> Result<HeartbeatOutcome, StoreError> {
    let attempt = checkpoint.attempt.attempt;
    let Some(Found { mut stored, .. }) = find(tables, &checkpoint.attempt)? else {
        return Ok(HeartbeatOutcome::Fenced);
    };
    let before = stored.job.items_done;
    let Some(append) = answer_progress(&stored.job, attempt, spans(&checkpoint.parts)) else {
        return Ok(HeartbeatOutcome::Fenced);
    };
    let items_done = store(tables, &mut stored, &checkpoint.parts, &append)?;
    keep_begun(tables, &stored, checkpoint.begun.as_ref())?;
    let event = Event::HeartbeatReceived { attempt, items_done };
    let extended = if items_done > before {
        stored.transit(tables, &event)?
    } else {
        stored.extend(tables, &event)?
    };
    if extended.is_err() {
        return Ok(HeartbeatOutcome::Fenced);
    }
    let stop = stored.job.lease().is_some_and(|lease| lease.cancel_requested_at.is_some());
    Ok(if stop { HeartbeatOutcome::Stop } else { HeartbeatOutcome::Continue })
}

pub(in crate::store) fn complete(
    tables: &mut dyn Tables,
    completions: &[Checkpoint],
) -> Result<Vec<CompleteOutcome>, StoreError> {
    completions.iter().map(|completion| complete_one(tables, completion)).collect()
}

fn complete_one(
    tables: &mut dyn Tables,
    completion: &Checkpoint,
) -> Result<CompleteOutcome, StoreError> {
    let attempt = completion.attempt.attempt;
    let Some(Found { mut stored, outcome }) = find(tables, &completion.attempt)? else {
        return Ok(CompleteOutcome::Fenced);
    };
    match answer_completion(&stored.job, outcome, spans(&completion.parts)) {
        CompletionPlan::AlreadyRecorded => return Ok(CompleteOutcome::AlreadyRecorded),
        CompletionPlan::Terminal => return Ok(CompleteOutcome::Terminal),
        CompletionPlan::Incomplete => return Ok(CompleteOutcome::Incomplete),
        CompletionPlan::Record { replace_from } => {
            if may_be_begun(&stored) {
                tables.cut_results(stored.job.id, BEGUN_ITEM)?;
            }
            if !replace_tail(tables, &mut stored, &completion.parts, replace_from)? {
                return Ok(CompleteOutcome::Incomplete);
            }
        }
    }
    Ok(match stored.transit(tables, &Event::Completed { attempt })? {
        Ok(()) => CompleteOutcome::Recorded,
        Err(_refusal) => CompleteOutcome::Fenced,
    })
}

pub(in crate::store) fn fail(
    tables: &mut dyn Tables,
    failures: &[(AttemptRef, AttemptError)],
) -> Result<Vec<SettleOutcome>, StoreError> {
    failures
        .iter()
        .map(|(attempt, error)| {
            let Some(Found { mut stored, .. }) = find(tables, attempt)? else {
                return Ok(SettleOutcome::Fenced);
            };
            let event = Event::AttemptFailed {
                attempt: attempt.attempt,
                error: error.clone(),
                jitter: stoker_runtime::ids::jitter(),
            };
            Ok(settled(&stored.transit(tables, &event)?))
        })
        .collect()
}

pub(in crate::store) fn release(
    tables: &mut dyn Tables,
    releases: &[Release],
) -> Result<Vec<SettleOutcome>, StoreError> {
    releases
        .iter()
        .map(|release| {
            let attempt = release.checkpoint.attempt;
            let Some(Found { mut stored, .. }) = find(tables, &attempt)? else {
                return Ok(SettleOutcome::Fenced);
            };
            let parts = &release.checkpoint.parts;
            let Some(append) = answer_release(&stored.job, attempt.attempt, spans(parts)) else {
                return Ok(SettleOutcome::Fenced);
            };
            let items_done = store(tables, &mut stored, parts, &append)?;
            keep_begun(tables, &stored, release.checkpoint.begun.as_ref())?;
            let event =
                Event::Released { attempt: attempt.attempt, reason: release.reason, items_done };
            Ok(settled(&stored.transit(tables, &event)?))
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
fn find(tables: &mut dyn Tables, attempt: &AttemptRef) -> Result<Option<Found>, StoreError> {
    let found = tables.attempt(attempt.job, attempt.attempt)?;
    let Some(outcome) = found.and_then(|issued| issued.shown(attempt.token)) else {
        return Ok(None);
    };
    Ok(tables.job(attempt.job)?.map(|stored| Found { stored, outcome }))
}

/// Stores what is to be appended; answers how many items are done then.
fn store(
    tables: &mut dyn Tables,
    stored: &mut StoredJob,
    parts: &[StoredPart],
    append: &Append,
) -> Result<u32, StoreError> {
    for part in append.parts.iter().filter_map(|index| parts.get(*index)) {
        insert_part(tables, stored, part)?;
    }
    Ok(append.items_done)
}

/// Puts what is begun in the place of what was. It is no result, and counts as none.
fn keep_begun(
    tables: &mut dyn Tables,
    stored: &StoredJob,
    begun: Option<&Bytes>,
) -> Result<(), StoreError> {
    let Some(data) = begun.filter(|_| may_be_begun(stored)).cloned() else { return Ok(()) };
    let job = stored.job.id;
    tables.cut_results(job, BEGUN_ITEM)?;
    tables.insert_part(job, &StoredPart { first_item: BEGUN_ITEM, items: 1, data })
}

/// Whether its items may be interrupted in the middle.
const fn may_be_begun(stored: &StoredJob) -> bool {
    match stored.task {
        Task::TextGeneration => true,
        Task::TextEmbedding
        | Task::TextClassification
        | Task::ImageEmbedding
        | Task::ImageClassification
        | Task::ImageCaptioning
        | Task::FaceDetection
        | Task::FaceEmbedding
        | Task::SpeechToText
        | Task::Echo => false,
    }
}

/// Puts the parts in the place of everything from their first item on; false when a stored part
/// reaches across it.
fn replace_tail(
    tables: &mut dyn Tables,
    stored: &mut StoredJob,
    parts: &[StoredPart],
    first: u32,
) -> Result<bool, StoreError> {
    if first < stored.job.items_done {
        let Some(removed) = tables.cut_results(stored.job.id, first)? else { return Ok(false) };
        stored.result_bytes = stored.result_bytes.saturating_sub(removed);
    }
    for part in parts {
        insert_part(tables, stored, part)?;
    }
    Ok(true)
}

fn insert_part(
    tables: &mut dyn Tables,
    stored: &mut StoredJob,
    part: &StoredPart,
) -> Result<(), StoreError> {
    tables.insert_part(stored.job.id, part)?;
    stored.result_bytes += part.data.len() as u64;
    Ok(())
}
