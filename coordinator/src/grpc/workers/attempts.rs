//! What workers report about attempts: progress, results, errors, hand-backs.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use stoker_core::ids::JobId;
use stoker_core::job::JobRecord;
use stoker_core::request::Task;
use stoker_proto::convert;
use stoker_proto::status::{self, FieldViolation, MAX_VIOLATIONS};
use stoker_proto::v1;
use stoker_runtime::crash;
use tonic::Status;

use crate::context::Context;
use crate::grpc::errors;
use crate::metrics;
use crate::store::{
    AttemptRef, Checkpoint, CompleteOutcome, HeartbeatOutcome, Release, SettleOutcome, StoredPart,
    TenantScope,
};

/// Most attempts in one call; a worker with more splits it.
const MAX_ATTEMPTS: usize = 1_024;

/// A report about one attempt, as it came.
struct Reported<'a> {
    fence: Option<&'a v1::Fence>,
    parts: &'a [v1::ResultPart],
    begun: Option<&'a v1::BegunTexts>,
}

pub(super) async fn heartbeat(
    context: &Context,
    attempts: Vec<v1::AttemptProgress>,
) -> Result<Vec<i32>, Status> {
    let reported = attempts
        .iter()
        .map(|one| Reported {
            fence: one.fence.as_ref(),
            parts: &one.parts,
            begun: one.begun.as_ref(),
        })
        .collect();
    let (checked, _) = check(context, reported, "attempts").await?;
    // One attempt whose results make no sense must not cost the worker's others their leases.
    let bad: Vec<bool> = checked.iter().map(Result::is_err).collect();
    let mut checkpoints = Vec::with_capacity(checked.len());
    for checkpoint in checked {
        match checkpoint {
            Ok(checkpoint) => checkpoints.push(checkpoint),
            Err(violation) => tracing::warn!(%violation, "a checkpoint is refused"),
        }
    }
    let mut outcomes = Vec::new();
    if !checkpoints.is_empty() {
        outcomes = crash::around("heartbeat", context.store.heartbeat(checkpoints))
            .await
            .map_err(errors::store)?;
    }
    let fenced = |outcome: &&HeartbeatOutcome| **outcome == HeartbeatOutcome::Fenced;
    note_fenced("heartbeat", outcomes.iter().filter(fenced).count());
    let mut outcomes = outcomes.into_iter();
    let answer = |bad| match (bad, if bad { None } else { outcomes.next() }) {
        (false, Some(HeartbeatOutcome::Continue)) => v1::HeartbeatOutcome::Continue.into(),
        (false, Some(HeartbeatOutcome::Stop)) => v1::HeartbeatOutcome::Stop.into(),
        (false, Some(HeartbeatOutcome::Fenced) | None) | (true, _) => {
            v1::HeartbeatOutcome::Fenced.into()
        }
    };
    Ok(bad.into_iter().map(answer).collect())
}

pub(super) async fn complete(
    context: &Context,
    completions: Vec<v1::Completion>,
) -> Result<Vec<i32>, Status> {
    let reported = completions
        .iter()
        .map(|one| Reported { fence: one.fence.as_ref(), parts: &one.parts, begun: None })
        .collect();
    let (checkpoints, records) = checkpoints(context, reported, "completions").await?;
    if checkpoints.is_empty() {
        return Ok(Vec::new());
    }
    let jobs: Vec<JobId> = checkpoints.iter().map(|one| one.attempt.job).collect();
    let outcomes = crash::around("complete", context.store.complete(checkpoints))
        .await
        .map_err(errors::store)?;
    let over = |outcome: &&CompleteOutcome| {
        matches!(outcome, CompleteOutcome::Terminal | CompleteOutcome::Fenced)
    };
    note_fenced("complete", outcomes.iter().filter(over).count());
    let mut answers = Vec::with_capacity(outcomes.len());
    let mut violations = Vec::new();
    for (index, outcome) in outcomes.into_iter().enumerate() {
        let answer = match outcome {
            CompleteOutcome::Recorded => {
                note_busy(&completions[index], records.get(&jobs[index]));
                v1::CompleteOutcome::Recorded
            }
            CompleteOutcome::AlreadyRecorded => v1::CompleteOutcome::AlreadyRecorded,
            CompleteOutcome::Terminal => v1::CompleteOutcome::Terminal,
            CompleteOutcome::Fenced => v1::CompleteOutcome::Fenced,
            CompleteOutcome::Incomplete => {
                violations.push(FieldViolation::new(
                    format!("completions[{index}].parts"),
                    "with what was stored before, these are not the results of all items; nothing \
                     of this completion was stored, the others of the call were",
                ));
                v1::CompleteOutcome::Unspecified
            }
        };
        answers.push(answer.into());
    }
    if violations.is_empty() { Ok(answers) } else { Err(status::invalid(&violations)) }
}

pub(super) async fn fail(
    context: &Context,
    failures: &[v1::AttemptFailure],
) -> Result<Vec<i32>, Status> {
    require_few(failures.len(), "failures")?;
    let read = failures.iter().enumerate().map(|(index, failure)| {
        let path = format!("failures[{index}]");
        let attempt = attempt(failure.fence.as_ref(), &path)?;
        Ok((attempt, convert::attempt_error(failure, &path)?))
    });
    let failures = collect(read)?;
    if failures.is_empty() {
        return Ok(Vec::new());
    }
    let outcomes =
        crash::around("fail", context.store.fail(failures)).await.map_err(errors::store)?;
    Ok(settled("fail", outcomes))
}

pub(super) async fn release(
    context: &Context,
    releases: Vec<v1::AttemptRelease>,
) -> Result<Vec<i32>, Status> {
    let reasons = collect(releases.iter().enumerate().map(|(index, release)| {
        convert::release_reason(release.reason, &format!("releases[{index}].reason"))
    }))?;
    let reported = releases
        .iter()
        .map(|one| Reported {
            fence: one.fence.as_ref(),
            parts: &one.parts,
            begun: one.begun.as_ref(),
        })
        .collect();
    let (checkpoints, _) = checkpoints(context, reported, "releases").await?;
    if checkpoints.is_empty() {
        return Ok(Vec::new());
    }
    let releases = checkpoints
        .into_iter()
        .zip(reasons)
        .map(|(checkpoint, reason)| Release { checkpoint, reason })
        .collect();
    let outcomes =
        crash::around("release", context.store.release(releases)).await.map_err(errors::store)?;
    Ok(settled("release", outcomes))
}

fn settled(call: &'static str, outcomes: Vec<SettleOutcome>) -> Vec<i32> {
    let fenced = |outcome: &&SettleOutcome| **outcome == SettleOutcome::Fenced;
    note_fenced(call, outcomes.iter().filter(fenced).count());
    let answer = |outcome| match outcome {
        SettleOutcome::Recorded => v1::SettleOutcome::Recorded.into(),
        SettleOutcome::Fenced => v1::SettleOutcome::Fenced.into(),
    };
    outcomes.into_iter().map(answer).collect()
}

/// The job was given to another worker, or has ended: this worker was asleep or cut off for longer than
/// its lease, or has not heard yet.
fn note_fenced(call: &'static str, reports: usize) {
    if reports > 0 {
        tracing::info!(call, reports, "reports of attempts that are over changed nothing");
        metrics::fenced(call, reports);
    }
}

fn note_busy(completion: &v1::Completion, record: Option<&JobRecord>) {
    let busy = completion.busy.as_ref().and_then(|busy| convert::duration(busy, "busy").ok());
    if let (Some(busy), Some(record)) = (busy, record) {
        metrics::computed(record.model.as_str(), busy);
    }
}

type Checked = Vec<Result<Checkpoint, FieldViolation>>;

/// Checks fences and parts; answers them for the store, with the jobs that have parts.
async fn checkpoints(
    context: &Context,
    reported: Vec<Reported<'_>>,
    path: &str,
) -> Result<(Vec<Checkpoint>, BTreeMap<JobId, JobRecord>), Status> {
    let (checked, records) = check(context, reported, path).await?;
    Ok((collect(checked.into_iter())?, records))
}

/// As [`checkpoints`], with what is wrong with the parts of each.
async fn check(
    context: &Context,
    reported: Vec<Reported<'_>>,
    path: &str,
) -> Result<(Checked, BTreeMap<JobId, JobRecord>), Status> {
    require_few(reported.len(), path)?;
    let attempts = collect(
        reported
            .iter()
            .enumerate()
            .map(|(index, one)| attempt(one.fence, &format!("{path}[{index}]"))),
    )?;
    let with_parts: BTreeSet<JobId> = attempts
        .iter()
        .zip(&reported)
        .filter(|(_, one)| !one.parts.is_empty() || one.begun.is_some())
        .map(|(attempt, _)| attempt.job)
        .collect();
    let records = read(context, with_parts).await?;
    let checked = attempts.into_iter().zip(reported).enumerate().map(|(index, (attempt, one))| {
        let record = records.get(&attempt.job);
        check_parts(record, one.parts, &format!("{path}[{index}].parts"))?;
        let begun = record
            .filter(|record| record.task == Task::TextGeneration)
            .and_then(|record| convert::encode_begun(one.begun, record.job.items_total));
        Ok(Checkpoint { attempt, parts: one.parts.iter().map(stored).collect(), begun })
    });
    Ok((checked.collect(), records))
}

fn attempt(fence: Option<&v1::Fence>, path: &str) -> Result<AttemptRef, FieldViolation> {
    let fence = convert::fence(fence, &format!("{path}.fence"))?;
    Ok(AttemptRef { job: fence.job, attempt: fence.attempt, token: fence.token })
}

/// Parts of a job that is not known are left to the store, which refuses the attempt.
fn check_parts(
    record: Option<&JobRecord>,
    parts: &[v1::ResultPart],
    path: &str,
) -> Result<(), FieldViolation> {
    let Some(record) = record else { return Ok(()) };
    convert::check_parts(parts, record.task, record.job.items_total, path)
}

fn stored(part: &v1::ResultPart) -> StoredPart {
    StoredPart {
        first_item: part.first_item,
        items: part.items,
        data: Bytes::from(convert::encode_part(part)),
    }
}

pub(super) async fn read(
    context: &Context,
    jobs: BTreeSet<JobId>,
) -> Result<BTreeMap<JobId, JobRecord>, Status> {
    if jobs.is_empty() {
        return Ok(BTreeMap::new());
    }
    let jobs = jobs.into_iter().collect();
    let records = context.store.get_many(TenantScope::All, jobs).await.map_err(errors::store)?;
    Ok(records.into_iter().map(|record| (record.job.id, record)).collect())
}

pub(super) fn require_few(count: usize, path: &str) -> Result<(), Status> {
    if count <= MAX_ATTEMPTS {
        return Ok(());
    }
    let problem = format!("has {count} attempts and may have {MAX_ATTEMPTS}: split the call");
    Err(status::invalid_field(path, problem))
}

/// All values, or the first violations.
fn collect<T>(results: impl Iterator<Item = Result<T, FieldViolation>>) -> Result<Vec<T>, Status> {
    let mut values = Vec::new();
    let mut violations = Vec::new();
    for result in results {
        match result {
            Ok(value) => values.push(value),
            Err(violation) => violations.push(violation),
        }
        if violations.len() >= MAX_VIOLATIONS {
            break;
        }
    }
    if violations.is_empty() { Ok(values) } else { Err(status::invalid(&violations)) }
}
