//! A job that kills its engine, among jobs that do not: real processes from end to end.

use stoker_proto::v1::{
    AttemptRecord, DiscardDeadLettersRequest, FailureReason, GetDeadLetterRequest, JobState,
    ListDeadLettersRequest, RedriveDeadLettersRequest,
};
use stoker_tests::chaos::{POISON, unstamped};
use stoker_tests::fleet::{Fleet, Options, texts};
use stoker_tests::programs::program;

/// Pauses that grew with each crash would last for minutes after so many.
const POISONS: usize = 10;

const NEIGHBORS: usize = 6;
const ITEMS: usize = 40;

#[tokio::test(flavor = "multi_thread")]
async fn a_poison_job_ends_as_a_dead_letter_and_its_neighbors_end_well() -> anyhow::Result<()> {
    let mut fleet = Fleet::start(Options::echo("poison", "5ms")).await?;
    let engine = program("stoker-engine-drill")?.display().to_string();
    let log = fleet.folder().join("executions.log").display().to_string();
    fleet.add_worker_with(&[("STOKER_ECHO_ENGINE", &engine), ("DRILL_LOG", &log)])?;
    fleet.ready(1).await?;
    let neighbors = fleet.submit_many(NEIGHBORS, ITEMS).await?;
    let poison = fleet.submit(vec![POISON.to_owned()]).await?;

    let dead = fleet.wait_for(&poison, &[JobState::Failed]).await?;
    let failure = dead.failure.clone().unwrap_or_default();
    assert_eq!(failure.reason(), FailureReason::Poison, "{dead:?}");
    assert_eq!((dead.attempts, dead.crashes), (3, 3), "{dead:?}");
    for (number, id) in neighbors.iter().enumerate() {
        let job = fleet.wait_for(id, &[JobState::Succeeded]).await?;
        // Beside it at its first crash, a job is a suspect; at the later ones nobody is.
        assert!(job.failures == 0 && job.crashes <= 1, "{job:?}");
        let echoed = fleet.echoed(id).await?;
        let echoed: Vec<&str> = echoed.iter().map(|text| unstamped(text)).collect();
        assert_eq!(echoed, texts(number, ITEMS));
    }
    let killed =
        std::fs::read_to_string(&log)?.lines().filter(|line| line.ends_with(POISON)).count();
    assert_eq!(killed, 3, "engines that it killed");

    let mut admin = fleet.admin().await?;
    let listed = admin.list_dead_letters(ListDeadLettersRequest::default()).await?.into_inner();
    let ids: Vec<&str> = listed.jobs.iter().map(|job| job.id.as_str()).collect();
    assert_eq!(ids, [&poison]);
    let request = GetDeadLetterRequest { job_id: poison.clone() };
    let letter = admin.get_dead_letter(request).await?.into_inner();
    let crashed = |attempt: &AttemptRecord| attempt.outcome == "crashed";
    assert!(letter.attempts.len() == 3 && letter.attempts.iter().all(crashed), "{letter:?}");

    let request = RedriveDeadLettersRequest { job_ids: vec![poison] };
    let redriven = admin.redrive_dead_letters(request).await?.into_inner().jobs.remove(0).id;
    fleet.wait_for(&redriven, &[JobState::Failed]).await?;
    let request = DiscardDeadLettersRequest { job_ids: vec![redriven] };
    assert_eq!(admin.discard_dead_letters(request).await?.into_inner().discarded, 1);
    let left = admin.list_dead_letters(ListDeadLettersRequest::default()).await?.into_inner();
    assert!(left.jobs.is_empty(), "{left:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn many_poison_jobs_do_not_keep_the_others_waiting() -> anyhow::Result<()> {
    let mut fleet = Fleet::start(Options::echo("poisons", "5ms")).await?;
    let engine = program("stoker-engine-drill")?.display().to_string();
    let log = fleet.folder().join("executions.log").display().to_string();
    fleet.add_worker_with(&[("STOKER_ECHO_ENGINE", &engine), ("DRILL_LOG", &log)])?;
    fleet.ready(1).await?;
    let mut poisons = Vec::new();
    let mut neighbors = Vec::new();
    for number in 0..POISONS {
        poisons.push(fleet.submit(vec![format!("{POISON} {number}")]).await?);
        neighbors.extend(fleet.submit_many(NEIGHBORS, ITEMS).await?);
    }
    for id in &neighbors {
        fleet.wait_for(id, &[JobState::Succeeded]).await?;
    }
    for id in &poisons {
        let dead = fleet.wait_for(id, &[JobState::Failed]).await?;
        assert_eq!(dead.crashes, 3, "{dead:?}");
    }
    Ok(())
}
