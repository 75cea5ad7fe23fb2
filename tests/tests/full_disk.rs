//! A disk that fills up under a running coordinator.

use std::path::PathBuf;

use stoker_proto::status::{Explained, Reason, explain};
use stoker_proto::v1::{JobState, SubmitRequest};
use stoker_tests::fleet::{Fleet, Options, PATIENCE, echo_fleet, echo_job};
use stoker_tests::poll;
use stoker_tests::tmpfs::Tmpfs;

const SMALL_KIB: u32 = 6 * 1024;
const LARGE_KIB: u32 = 64 * 1024;

/// Without the usual reserve, so that it is the store that meets the end of the disk.
fn fleet_without_reserve(data: PathBuf) -> Options {
    let fleet = echo_fleet("full-disk", "0ms") + "[limits]\nmin-free-disk = \"0B\"\n";
    Options { fleet, data: Some(data), ..Options::echo("full-disk", "0ms") }
}

/// Submits until the coordinator refuses; answers what it accepted, and the refusal.
async fn fill(fleet: &Fleet, text: &str) -> anyhow::Result<(Vec<String>, Explained)> {
    const BOUND: usize = 1_000;
    let mut jobs = fleet.jobs().await?;
    let mut accepted = Vec::new();
    while accepted.len() < BOUND {
        let job = Some(echo_job(vec![text.to_owned()]));
        match jobs.submit(SubmitRequest { job }).await {
            Ok(answer) => accepted.push(answer.into_inner().job_id),
            Err(status) => return Ok((accepted, explain(&status))),
        }
    }
    anyhow::bail!("the disk did not fill up")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_new_jobs_and_loses_none_of_the_old() -> anyhow::Result<()> {
    let Some(disk) = Tmpfs::mount(SMALL_KIB)? else {
        eprintln!("SKIPPED: mounting a small disk takes root");
        return Ok(());
    };
    let text = "x".repeat(32 * 1024);
    let mut fleet = Fleet::start(fleet_without_reserve(disk.join("data"))).await?;
    let (accepted, refusal) = fill(&fleet, &text).await?;
    assert!(accepted.len() > 10, "{} accepted", accepted.len());
    assert_eq!(refusal.reason, Some(Reason::DiskFull), "{refusal}");
    assert!(refusal.message.contains("free some space"), "{refusal}");
    assert!(refusal.retry_after.is_some(), "{refusal}");
    for id in &accepted {
        let state = fleet.job(id).await?.state();
        assert!(matches!(state, JobState::Queued | JobState::Dispatched), "{state:?}");
    }

    // A worker that cannot claim or report meanwhile must neither lose nor repeat anything.
    fleet.add_worker()?;
    fleet.ready(1).await?;
    assert_eq!(fleet.coordinator().ended()?, None, "{}", fleet.coordinator().log_tail());
    disk.resize(LARGE_KIB)?;
    for id in &accepted {
        let job = fleet.wait_for(id, &[JobState::Succeeded]).await?;
        assert_eq!((job.failures, job.crashes, job.lost_workers), (0, 0, 0), "{job:?}");
        assert_eq!(fleet.echoed(id).await?, std::slice::from_ref(&text));
    }
    let again = poll::until("a submit to be accepted", PATIENCE, || async {
        Ok(Ok(fleet.submit(vec![text.clone()]).await?))
    });
    fleet.wait_for(&again.await?, &[JobState::Succeeded]).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_on_a_full_disk_says_so() -> anyhow::Result<()> {
    let Some(disk) = Tmpfs::mount(SMALL_KIB)? else {
        eprintln!("SKIPPED: mounting a small disk takes root");
        return Ok(());
    };
    // More than fits.
    let _ = std::fs::write(disk.join("ballast"), vec![0; SMALL_KIB as usize * 1024]);
    let error = Fleet::start(fleet_without_reserve(disk.join("data"))).await.unwrap_err();
    let error = format!("{error:#}");
    assert!(error.contains("disk is full; free some space there"), "{error}");
    assert!(error.contains("--data"), "{error}");
    assert!(!error.contains("panicked"), "{error}");
    Ok(())
}
