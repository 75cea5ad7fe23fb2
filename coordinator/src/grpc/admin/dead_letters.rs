//! Failed jobs that an operator has yet to redrive or discard.

use std::collections::BTreeMap;

use futures::future::try_join_all;
use stoker_core::ids::{JobId, ModelName};
use stoker_core::job::{JobRecord, StateKind};
use stoker_proto::convert;
use stoker_proto::status::{self, Reason, Resource};
use stoker_proto::v1;
use tonic::Status;

use crate::context::Context;
use crate::grpc::errors;
use crate::grpc::jobs;
use crate::grpc::jobs::list::{name, note, page, page_size};
use crate::grpc::jobs::submit::admit;
use crate::grpc::page_token;
use crate::store::{Filter, TenantScope};

/// Most jobs in one call.
const MAX_JOBS: usize = 1_000;

/// More are shown as this many.
const MAX_COUNTED: u32 = 10_000;

fn filter(limit: u32) -> Filter {
    Filter {
        scope: TenantScope::All,
        states: Vec::new(),
        model: None,
        class: None,
        labels: BTreeMap::new(),
        accepted_after: None,
        accepted_before: None,
        only_dead_letters: true,
        failure: None,
        before: None,
        limit,
    }
}

/// How many there are, up to a bound.
pub(super) async fn count(context: &Context) -> Result<u64, Status> {
    context.store.dead_letters(MAX_COUNTED).await.map_err(errors::store)
}

pub(super) async fn list(
    context: &Context,
    request: &v1::ListDeadLettersRequest,
) -> Result<v1::ListDeadLettersResponse, Status> {
    let mut noted = Vec::new();
    let limit = note(&mut noted, page_size(request.page_size));
    let mut filter = Filter {
        model: note(&mut noted, name(&request.model, "model", ModelName::new)),
        failure: note(&mut noted, convert::failure_reason(request.reason, "reason")),
        ..filter(limit)
    };
    filter.before = note(&mut noted, page_token::decode(&request.page_token, &filter));
    if !noted.is_empty() {
        return Err(status::invalid(&noted));
    }
    let (page, next_page_token) = page(context, filter).await?;
    let jobs = page.jobs.iter().map(convert::job).collect();
    Ok(v1::ListDeadLettersResponse { jobs, next_page_token })
}

pub(super) async fn get(context: &Context, id: &str) -> Result<v1::GetDeadLetterResponse, Status> {
    let record = jobs::load(context, TenantScope::All, id).await?;
    require_failed(&record)?;
    let attempts = context.store.attempts(record.job.id).await.map_err(errors::store)?;
    Ok(v1::GetDeadLetterResponse {
        job: Some(convert::job(&record)),
        attempts: attempts.iter().map(convert::attempt_record).collect(),
    })
}

/// Starts a new job for each, after all were found fit; repeating it answers the same new jobs.
pub(super) async fn redrive(context: &Context, ids: &[String]) -> Result<Vec<v1::Job>, Status> {
    let records = failed_jobs(context, ids).await?;
    let mut new_jobs = BTreeMap::new();
    for record in records.iter().filter(|record| record.retried_as.is_none()) {
        *new_jobs.entry(&record.tenant).or_default() += 1;
    }
    for (tenant, jobs) in new_jobs {
        admit(context, tenant, jobs)?;
    }
    // At the same time, so that they share commits.
    let retries =
        records.iter().map(|record| jobs::retry(context, TenantScope::All, record.job.id));
    let redriven = try_join_all(retries).await?;
    Ok(redriven.iter().map(convert::job).collect())
}

/// Takes them off the list; answers how many were on it.
pub(super) async fn discard(context: &Context, ids: &[String]) -> Result<u32, Status> {
    let records = failed_jobs(context, ids).await?;
    let jobs = records.iter().map(|record| record.job.id).collect();
    context.store.discard(jobs).await.map_err(errors::store)
}

/// The jobs of a call, in its order, all of which exist and failed.
async fn failed_jobs(context: &Context, ids: &[String]) -> Result<Vec<JobRecord>, Status> {
    let jobs = convert::job_ids(ids, "job_ids", MAX_JOBS)
        .map_err(|violations| status::invalid(&violations))?;
    let records =
        context.store.get_many(TenantScope::All, jobs.clone()).await.map_err(errors::store)?;
    let records: BTreeMap<JobId, JobRecord> =
        records.into_iter().map(|record| (record.job.id, record)).collect();
    let checked = |job: JobId| {
        let record = records.get(&job).ok_or_else(|| status::not_found(Resource::Job, job))?;
        require_failed(record).map(|()| record.clone())
    };
    jobs.into_iter().map(checked).collect()
}

fn require_failed(record: &JobRecord) -> Result<(), Status> {
    if record.job.state.kind() == StateKind::Failed {
        return Ok(());
    }
    Err(status::failed_precondition(
        Reason::JobNotRetryable,
        &format!("job {}", record.job.id),
        format!("it is not a dead letter: its state is {}", record.job.state.kind().name()),
        "list the dead letters for those that are",
    ))
}
