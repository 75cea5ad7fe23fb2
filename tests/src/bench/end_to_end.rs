//! From submit to result with an engine that does nothing.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use stoker_proto::v1::{
    FleetStatusRequest, JobState, SubmitBatchRequest, SubmitRequest, WatchRequest,
};

use crate::fleet::{Fleet, echo_job};
use crate::poll;

use super::sample::Sample;

/// Submits `jobs` jobs and waits until all have succeeded; answers jobs per second.
///
/// # Errors
/// When a job fails, or nothing moves for long.
pub async fn throughput(fleet: &Fleet, jobs: usize) -> anyhow::Result<f64> {
    const CALL: usize = 500;
    let before = succeeded(fleet).await?;
    let began = Instant::now();
    let mut client = fleet.jobs().await?;
    for start in (0..jobs).step_by(CALL) {
        let call = (start..jobs.min(start + CALL)).map(|n| echo_job(vec![n.to_string()]));
        client.submit_batch(SubmitBatchRequest { jobs: call.collect() }).await?;
    }
    let target = before + jobs as u64;
    poll::until("all jobs to succeed", Duration::from_mins(5), || async {
        let done = succeeded(fleet).await?;
        Ok(if done >= target { Ok(()) } else { Err(format!("{done} of {target}")) })
    })
    .await?;
    #[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
    Ok(jobs as f64 / began.elapsed().as_secs_f64())
}

async fn succeeded(fleet: &Fleet) -> anyhow::Result<u64> {
    let status = fleet.admin().await?.fleet_status(FleetStatusRequest {}).await?.into_inner();
    let count = status.jobs.iter().find(|count| count.state() == JobState::Succeeded);
    Ok(count.map_or(0, |count| count.jobs))
}

/// Time from submit to the news of the result, one job at a time.
///
/// # Errors
/// When a job does not succeed.
pub async fn latency(fleet: &Fleet, jobs: usize) -> anyhow::Result<Sample> {
    let mut client = fleet.jobs().await?;
    let mut sample = Sample::new();
    for number in 0..jobs {
        let began = Instant::now();
        let job = Some(echo_job(vec![number.to_string()]));
        let id = client.submit(SubmitRequest { job }).await?.into_inner().job_id;
        let request = WatchRequest { job_ids: vec![id], texts: false };
        let mut events = client.watch(request).await?.into_inner();
        let mut last = JobState::Unspecified;
        while let Some(event) = events.message().await? {
            last = event.job.context("news without a job")?.state();
        }
        ensure!(last == JobState::Succeeded, "a job ended as {last:?}");
        sample.note(began);
    }
    Ok(sample)
}
