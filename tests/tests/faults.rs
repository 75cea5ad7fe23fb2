//! Single faults and what must come of each; `docs/fault-matrix.md` says which row a test stands for.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use stoker_proto::status::{explain, is_retryable};
use stoker_proto::v1::{
    Job, JobSpec, JobState, ListWorkersRequest, ResidencyState, SubmitBatchRequest, SubmitRequest,
};
use stoker_tests::fleet::{Fleet, LEASE, Options, PATIENCE, echo_fleet, echo_job, texts};
use stoker_tests::poll;
use stoker_tests::programs::memory;
use stoker_tests::rabbitmq::RabbitMqNode;
use stoker_tests::sync_fault::SyncFault;
use stoker_tests::tcp_proxy::{Conditions, Direction, TcpProxy};
use tokio::task::JoinSet;
use tonic::Code;

async fn leased(fleet: &Fleet, id: &str) -> anyhow::Result<Job> {
    fleet.wait_for(id, &[JobState::Leased]).await
}

/// W1: the job was given to another; whoever finishes first, there is one result.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_sleeps_past_its_lease_does_no_harm_when_it_wakes() -> anyhow::Result<()> {
    let options = Options { slots: 2, ..Options::echo("zombie", "10ms") };
    let mut fleet = Fleet::start(options).await?;
    let zombie = fleet.add_worker()?;
    fleet.ready(1).await?;
    let ids = fleet.submit_many(2, 200).await?;
    leased(&fleet, &ids[0]).await?;
    fleet.worker(zombie).signal("STOP")?;
    fleet.add_worker()?;
    poll::until("the lease to expire", PATIENCE, || async {
        let job = fleet.job(&ids[0]).await?;
        Ok(if job.lost_workers > 0 { Ok(()) } else { Err(format!("{job:?}")) })
    })
    .await?;
    fleet.worker(zombie).signal("CONT")?;
    fleet.all_succeed(&ids).await?;
    // It takes work again.
    let more = fleet.submit_many(8, 5).await?;
    fleet.all_succeed(&more).await?;
    assert_eq!(fleet.worker(zombie).ended()?, None, "{}", fleet.worker(zombie).log_tail());
    Ok(())
}

/// W19: models that share a worker's memory, and that worker is killed while they take turns.
#[tokio::test(flavor = "multi_thread")]
async fn models_that_do_not_fit_together_take_turns_and_no_job_is_lost() -> anyhow::Result<()> {
    let models = ["a", "b", "c", "d"];
    let fleet = echo_fleet("turns", "5ms")
        .replace("[models.echo]\ntask = \"echo\"\ndelay = \"5ms\"\n", &models_of(&models))
        .replace("models = [\"echo\"]", &format!("models = {models:?}"));
    let options = Options { slots: 2, lanes: 1, fleet, ..Options::echo("turns", "5ms") };
    let mut fleet = Fleet::start(options).await?;
    // An engine counts for 32 MiB at least: there is room for two.
    let budget = [("STOKER_MEMORY_BUDGET", "80MiB")];
    let killed = fleet.add_worker_with(&budget)?;
    fleet.ready(1).await?;
    let ids = submit_for(&fleet, &models, 2, 20).await?;
    fleet.all_succeed(&ids).await?;
    let mut were_resident = BTreeSet::new();
    for model in models {
        let ids = submit_for(&fleet, &[model], 1, 1).await?;
        fleet.all_succeed(&ids).await?;
        let here = resident(&fleet).await?;
        assert!(here.len() <= 2, "more than fits: {here:?}");
        were_resident.extend(here);
    }
    assert!(were_resident.len() > 2, "what is in memory did not change: {were_resident:?}");

    let ids = submit_for(&fleet, &models, 2, 100).await?;
    leased(&fleet, &ids[0]).await?;
    fleet.worker(killed).signal("KILL")?;
    fleet.add_worker_with(&budget)?;
    fleet.all_succeed(&ids).await?;
    Ok(())
}

fn models_of(names: &[&str]) -> String {
    let model = |name: &&str| format!("[models.{name}]\ntask = \"echo\"\ndelay = \"5ms\"\n");
    names.iter().map(model).collect()
}

/// Submits so many jobs for each of the models, in turns.
async fn submit_for(
    fleet: &Fleet,
    models: &[&str],
    each: usize,
    items: usize,
) -> anyhow::Result<Vec<String>> {
    let jobs = (0..each * models.len()).map(|job| JobSpec {
        model: models[job % models.len()].to_owned(),
        ..echo_job(texts(job, items))
    });
    let jobs = jobs.collect();
    let answer = fleet.jobs().await?.submit_batch(SubmitBatchRequest { jobs }).await?;
    Ok(answer.into_inner().jobs.into_iter().map(|job| job.job_id).collect())
}

/// The models that take memory of any worker, as the coordinator was told.
async fn resident(fleet: &Fleet) -> anyhow::Result<BTreeSet<String>> {
    let workers = fleet.admin().await?.list_workers(ListWorkersRequest {}).await?.into_inner();
    let seats = workers.workers.into_iter().filter_map(|worker| worker.residency);
    let seats = seats.flat_map(|residency| residency.models);
    let here = seats.filter(|seat| seat.state() == ResidencyState::Resident);
    Ok(here.map(|seat| seat.model).collect())
}

/// B5, B6: the network swallows what worker and coordinator say for longer than a lease.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_cut_off_past_its_lease_loses_its_jobs_but_none_is_lost()
-> anyhow::Result<()> {
    let mut fleet = Fleet::start(Options::echo("half-open", "20ms")).await?;
    let network = TcpProxy::start(fleet.socket()).await?;
    fleet.add_worker_through(&format!("http://{}", network.address()), &[])?;
    fleet.ready(1).await?;
    let ids = fleet.submit_many(4, 100).await?;
    leased(&fleet, &ids[0]).await?;
    network.freeze();
    fleet.add_worker()?;
    let jobs = fleet.all_succeed(&ids).await?;
    assert!(jobs.iter().any(|job| job.lost_workers > 0), "the fault did not bite: {jobs:?}");
    network.thaw();
    fleet.ready(2).await
}

/// B7: small pieces, little of them, late; and connections that are reset again and again.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_network_in_pieces_and_resets_cost_only_time() -> anyhow::Result<()> {
    let mut fleet = Fleet::start(Options::echo("bad-network", "1ms")).await?;
    let network = TcpProxy::start(fleet.socket()).await?;
    fleet.add_worker_through(&format!("http://{}", network.address()), &[])?;
    fleet.ready(1).await?;
    let slow = Conditions {
        latency: Duration::from_millis(1),
        slice: 200,
        bytes_per_second: 400_000,
        ..Conditions::default()
    };
    network.set(slow);
    let ids = fleet.submit_many(10, 20).await?;
    fleet.all_succeed(&ids).await?;
    network.set(Conditions { reset_after: 20_000, ..Conditions::default() });
    let ids = fleet.submit_many(40, 20).await?;
    fleet.all_succeed(&ids).await?;
    Ok(())
}

/// B5: only one way works.
#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_works_one_way_only_loses_no_job() -> anyhow::Result<()> {
    for swallow in [Direction::ToTarget, Direction::FromTarget] {
        let mut fleet = Fleet::start(Options::echo("one-way", "20ms")).await?;
        let network = TcpProxy::start(fleet.socket()).await?;
        fleet.add_worker_through(&format!("http://{}", network.address()), &[])?;
        fleet.ready(1).await?;
        let ids = fleet.submit_many(4, 50).await?;
        leased(&fleet, &ids[0]).await?;
        network.set(Conditions { swallow: Some(swallow), ..Conditions::default() });
        fleet.add_worker()?;
        fleet.all_succeed(&ids).await?;
    }
    Ok(())
}

/// B8: the broker takes a message away from the worker that still runs its job.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_outlives_the_consumer_timeout_of_its_message() -> anyhow::Result<()> {
    let node = RabbitMqNode::start()?;
    node.consumer_timeout(Duration::from_secs(2))?;
    let broker = Some(node.uri());
    let mut fleet =
        Fleet::start(Options { broker, ..Options::echo("consumer-timeout", "20ms") }).await?;
    fleet.add_worker()?;
    fleet.ready(1).await?;
    let long = fleet.submit_many(2, 400).await?;
    leased(&fleet, &long[0]).await?;
    poll::until("a consumer to run into its timeout", PATIENCE, || async {
        let timed_out = node.log().contains("timed out waiting for");
        Ok(if timed_out { Ok(()) } else { Err(node.log_tail()) })
    })
    .await?;
    for job in fleet.all_succeed(&long).await? {
        assert_eq!(job.attempts, 1, "the copy is refused while the first runs: {job:?}");
    }
    // The worker consumes again.
    let short = fleet.submit_many(8, 3).await?;
    fleet.all_succeed(&short).await.map(drop)
}

/// B3: what the broker loses is sent again, and a queue that is deleted is declared again.
#[tokio::test(flavor = "multi_thread")]
async fn messages_and_queues_that_the_broker_loses_come_back() -> anyhow::Result<()> {
    let node = RabbitMqNode::shared()?;
    for (fleet_name, verb) in [("purged", "purge_queue"), ("deleted", "delete_queue")] {
        let options = Options { broker: Some(node.uri()), ..Options::echo(fleet_name, "0ms") };
        let mut fleet = Fleet::start(options).await?;
        let ids = fleet.submit_many(2, 3).await?;
        for id in &ids {
            fleet.wait_for(id, &[JobState::Dispatched]).await?;
        }
        let queue = format!("stoker.{fleet_name}.jobs.default.echo");
        poll::until("the messages to arrive", PATIENCE, || async {
            let listed = node.ctl(&["list_queues", "name", "messages", "--silent"])?;
            let line = listed.lines().find(|line| line.starts_with(&queue)).unwrap_or_default();
            Ok(if line.ends_with('2') { Ok(()) } else { Err(listed.clone()) })
        })
        .await?;
        node.ctl(&[verb, &queue])?;
        fleet.add_worker()?;
        for job in fleet.all_succeed(&ids).await? {
            assert_eq!(job.attempts, 1, "{job:?}");
        }
    }
    Ok(())
}

/// B1: without a broker jobs are accepted and running ones finish; with it the rest goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_gone_for_a_while_costs_no_job_and_no_attempt() -> anyhow::Result<()> {
    let node = RabbitMqNode::start()?;
    let options = Options { broker: Some(node.uri()), ..Options::echo("no-broker", "10ms") };
    let mut fleet = Fleet::start(options).await?;
    fleet.add_worker()?;
    fleet.ready(1).await?;
    node.flush_queue_registry()?;
    let running = fleet.submit_many(2, 100).await?;
    for id in &running {
        leased(&fleet, id).await?;
    }
    node.kill9();
    let accepted = fleet.submit_many(5, 3).await?;
    for job in fleet.all_succeed(&running).await? {
        assert_eq!(job.attempts, 1, "{job:?}");
    }
    for id in &accepted {
        assert_ne!(fleet.job(id).await?.state(), JobState::Succeeded);
    }
    node.restart()?;
    fleet.all_succeed(&accepted).await?;
    Ok(())
}

/// W11: being asked again and again changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_signals_ends_a_worker_in_good_order() -> anyhow::Result<()> {
    let mut fleet = Fleet::start(Options::echo("storm", "20ms")).await?;
    let first = fleet.add_worker_with(&[("STOKER_GRACE", "1s")])?;
    fleet.ready(1).await?;
    let ids = fleet.submit_many(8, 60).await?;
    leased(&fleet, &ids[0]).await?;
    for _ in 0..20 {
        // It may be gone before the last.
        let _ = fleet.worker(first).signal("TERM");
    }
    fleet.add_worker()?;
    let status = fleet.worker(first).wait(PATIENCE).await?;
    assert!(status.success(), "{status}: {}", fleet.worker(first).log_tail());
    for job in fleet.all_succeed(&ids).await? {
        assert_eq!(job.lost_workers, 0, "{job:?}");
    }
    Ok(())
}

/// S4: after a failed sync nobody knows what is on the disk, so the process ends, and the next start
/// reads what is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_fails_ends_the_coordinator_and_loses_nothing_that_was_accepted()
-> anyhow::Result<()> {
    let disk = SyncFault::build()?;
    let mut fleet = Fleet::start(Options::echo("bad-disk", "0ms")).await?;
    fleet.coordinator().kill9();
    fleet.start_coordinator_with(&disk.environment()).await?;
    let accepted = fleet.submit_many(5, 3).await?;
    disk.fail()?;
    let request = SubmitRequest { job: Some(echo_job(texts(9, 1))) };
    let refused = fleet.jobs().await?.submit(request).await.err().context("it was accepted")?;
    assert!(is_retryable(&refused), "{refused:?}");
    let status = fleet.coordinator().wait(PATIENCE).await?;
    assert!(!status.success(), "{status}");
    disk.mend()?;
    fleet.start_coordinator().await?;
    fleet.add_worker()?;
    fleet.all_succeed(&accepted).await?;
    Ok(())
}

/// S2: a slow disk makes everything slow, and that is all.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_syncs_slowly_costs_no_job_and_no_attempt() -> anyhow::Result<()> {
    let disk = SyncFault::build()?;
    let mut fleet = Fleet::start(Options::echo("slow-disk", "1ms")).await?;
    fleet.coordinator().kill9();
    fleet.start_coordinator_with(&disk.environment()).await?;
    fleet.add_worker()?;
    fleet.ready(1).await?;
    disk.slow(300)?;
    let ids = fleet.submit_many(10, 20).await?;
    for job in fleet.all_succeed(&ids).await? {
        assert_eq!(job.attempts, 1, "{job:?}");
    }
    Ok(())
}

/// K7: while nobody answers, workers finish and keep their results; nobody is expired afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn fifty_running_jobs_need_no_second_attempt_when_the_coordinator_is_away()
-> anyhow::Result<()> {
    let options = Options { slots: 64, ..Options::echo("away", "5ms") };
    let mut fleet = Fleet::start(options).await?;
    fleet.add_worker()?;
    fleet.ready(1).await?;
    let ids = fleet.submit_many(50, 100).await?;
    poll::until("all jobs to run", PATIENCE, || async {
        let mut running = 0;
        for id in &ids {
            running += usize::from(fleet.job(id).await?.state() == JobState::Leased);
        }
        Ok(if running == ids.len() { Ok(()) } else { Err(format!("{running} run")) })
    })
    .await?;
    fleet.coordinator().kill9();
    // Longer than a lease: what expired meanwhile must not count.
    tokio::time::sleep(LEASE + Duration::from_secs(1)).await;
    fleet.start_coordinator().await?;
    for job in fleet.all_succeed(&ids).await? {
        assert_eq!(job.attempts, 1, "{job:?}");
    }
    Ok(())
}

/// S6: the store is an older copy of itself, and knows nothing of what runs.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_of_the_store_forgets_jobs_and_mixes_up_none() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (data, copy) = (folder.path().join("data"), folder.path().join("copy"));
    let options = Options { slots: 2, data: Some(data.clone()), ..Options::echo("older", "20ms") };
    let mut fleet = Fleet::start(options).await?;
    let kept = fleet.submit(texts(0, 1)).await?;
    fleet.coordinator().kill9();
    std::fs::rename(&data, &copy)?;
    copy_files(&copy, &data)?;
    fleet.start_coordinator().await?;
    fleet.add_worker()?;
    let forgotten = fleet.submit_many(2, 300).await?;
    leased(&fleet, &forgotten[0]).await?;
    fleet.coordinator().kill9();
    std::fs::remove_dir_all(&data)?;
    copy_files(&copy, &data)?;
    fleet.start_coordinator().await?;
    // What the worker still runs and reports is of nobody, and its places come back.
    let new = fleet.submit_many(6, 3).await?;
    fleet.all_succeed(&new).await?;
    fleet.wait_for(&kept, &[JobState::Succeeded]).await?;
    for id in &forgotten {
        assert!(!new.contains(id), "an id was used again");
        let unknown = fleet.job(id).await.expect_err("the copy is older than the job");
        let status = unknown.downcast_ref::<tonic::Status>().context("a status")?;
        assert_eq!(status.code(), Code::NotFound, "{status}");
    }
    Ok(())
}

fn copy_files(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir(to)?;
    for file in std::fs::read_dir(from)? {
        let file = file?;
        std::fs::copy(file.path(), to.join(file.file_name()))?;
    }
    Ok(())
}

/// Far more than the fleet takes, at once: refused early, with a delay, and at no cost in memory.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_past_the_limits_is_refused_and_leaves_memory_flat() -> anyhow::Result<()> {
    const CLIENTS: usize = 8;
    const CALLS: usize = 60;
    const BATCH_BYTES: usize = 1 << 20;
    let limits = "[limits]\nmax-queued = 100\n";
    let options = Options::echo("flood", "0ms");
    let fleet = options.fleet.clone() + limits;
    let mut fleet = Fleet::start(Options { fleet, ..options }).await?;
    let coordinator = fleet.coordinator().pid();
    fleet.submit_many(100, 1).await?;
    let flood = async || {
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let mut jobs = fleet.jobs().await?;
            clients.spawn(async move {
                for _ in 0..CALLS {
                    let text = "x".repeat(BATCH_BYTES / 16);
                    let job = echo_job(vec![text]);
                    let request = SubmitBatchRequest { jobs: vec![job; 16] };
                    let refused = jobs.submit_batch(request).await.expect_err("there is no room");
                    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
                    assert!(explain(&refused).retry_after.is_some(), "{refused}");
                }
            });
        }
        while let Some(ended) = clients.join_next().await {
            ended?;
        }
        anyhow::Ok(())
    };
    // The first one fills buffers and pools.
    flood().await?;
    let before = memory(coordinator)?;
    for _ in 0..3 {
        flood().await?;
    }
    let after = memory(coordinator)?;
    let brought = (3 * CLIENTS * CALLS * BATCH_BYTES) as u64;
    assert!(after < before + brought / 50, "{before} -> {after} after {brought} bytes");
    // What was there is worked off, and there is room again.
    fleet.add_worker()?;
    poll::until("room for a job", PATIENCE, || async {
        Ok(fleet.submit(texts(0, 1)).await.map(drop).map_err(|error| error.to_string()))
    })
    .await
}
