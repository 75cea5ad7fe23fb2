//! What operators see and do.

use stoker_proto::status::Reason;
use stoker_proto::v1;
use stoker_proto::v1::register_response::Command;
use stoker_proto::well_known;
use stoker_runtime::ids;
use tonic::Code;

use crate::fixture::{Coordinator, Worker, as_tenant, echo, fields, refused};

/// A job that failed for good.
async fn dead_letter(coordinator: &Coordinator, worker: &mut Worker) -> String {
    let job = coordinator.submit(&["bad"]).await;
    let held = worker.take(coordinator, &job).await;
    worker.fail(&held.fence, v1::FailureKind::Permanent).await.unwrap();
    job
}

async fn dead_letters(coordinator: &Coordinator) -> Vec<String> {
    let request = v1::ListDeadLettersRequest::default();
    let listed = coordinator.admin().await.list_dead_letters(request).await.unwrap();
    listed.into_inner().jobs.into_iter().map(|job| job.id).collect()
}

#[tokio::test]
async fn the_status_counts_jobs_workers_and_dead_letters() {
    let coordinator = Coordinator::start("").await;
    let mut worker = Worker::ready(&coordinator, 1).await;
    dead_letter(&coordinator, &mut worker).await;
    coordinator.submit(&["a"]).await;
    let status = coordinator.admin().await.fleet_status(v1::FleetStatusRequest {}).await;
    let status = status.unwrap().into_inner();
    assert_eq!((status.fleet.as_str(), status.store.as_str()), ("test", "sqlite"));
    assert_eq!((status.broker.as_str(), status.broker_problem.as_str()), ("embedded", ""));
    assert_eq!((status.workers_ready, status.workers_total), (1, 1));
    assert_eq!(status.dead_letters, 1);
    let failed = status.jobs.iter().find(|count| count.state() == v1::JobState::Failed).unwrap();
    assert_eq!(failed.jobs, 1);
    assert_eq!(status.jobs.iter().map(|count| count.jobs).sum::<u64>(), 2);
    assert!(status.uptime.is_some() && status.observed_at.is_some());
    let classes: Vec<_> = status
        .classes
        .iter()
        .map(|class| (class.name.as_str(), class.max_wait.unwrap().seconds))
        .collect();
    assert_eq!(classes, [("bulk", 3_600), ("standard", 60)]);
    assert!(status.free_disk_bytes.unwrap() > status.min_free_disk_bytes);
}

#[tokio::test]
async fn usage_is_told_by_model_and_tenant() {
    let coordinator = Coordinator::start("").await;
    let mut worker = Worker::ready(&coordinator, 1).await;
    dead_letter(&coordinator, &mut worker).await;
    let mut admin = coordinator.admin().await;
    let from = |ago: i64| {
        let now = stoker_runtime::clock::Clock::now(&stoker_runtime::clock::SystemClock::new());
        let seconds = now.as_unix_millis() / 1_000 - ago;
        Some(well_known::Timestamp { seconds, nanos: 0 })
    };
    let hour = v1::ObserveUsageRequest { from: from(3_600), until: None };
    let usage = admin.observe_usage(hour).await.unwrap().into_inner().usage;
    let [told] = usage.as_slice() else { panic!("{usage:?}") };
    assert_eq!((told.pool.as_str(), told.model.as_str()), ("default", "echo"));
    assert_eq!((told.attempts, told.taken), (1, told.busy));
    for from in [None, from(63 * 86_400)] {
        let request = v1::ObserveUsageRequest { from, until: None };
        assert_eq!(fields(&refused(admin.observe_usage(request).await)), ["from"]);
    }
}

#[tokio::test]
async fn queues_tell_what_waits_and_who_could_take_it() {
    let coordinator = Coordinator::start("").await;
    // More than the window lets out, so that some wait whatever the dispatcher has done.
    let jobs = vec![echo(&["a"]); 30];
    coordinator.jobs().await.submit_batch(v1::SubmitBatchRequest { jobs }).await.unwrap();
    let _worker = Worker::ready(&coordinator, 5).await;
    let request = v1::ListQueuesRequest {};
    let queues = coordinator.admin().await.list_queues(request).await.unwrap().into_inner().queues;
    let names: Vec<&str> = queues.iter().map(|queue| queue.model.as_str()).collect();
    assert_eq!(names, ["echo", "mini"]);
    let (echo, mini) = (&queues[0], &queues[1]);
    assert_eq!(echo.queued + echo.dispatched, 30);
    assert!(echo.queued >= 20 && echo.oldest_age.is_some(), "{echo:?}");
    assert_eq!((mini.queued, mini.oldest_age), (0, None));
    assert_eq!((echo.slots, echo.window), (5, 10));
    assert_eq!(mini.broker_messages, Some(0));
}

#[tokio::test]
async fn a_cordoned_worker_is_told_and_gets_no_slots() {
    let coordinator = Coordinator::start("").await;
    let mut worker = Worker::ready(&coordinator, 5).await;
    let mut admin = coordinator.admin().await;
    for (cordoned, state) in [(true, v1::WorkerState::Cordoned), (false, v1::WorkerState::Ready)] {
        let request = v1::CordonWorkerRequest { worker_id: worker.id.clone(), cordoned };
        let view = admin.cordon_worker(request).await.unwrap().into_inner().worker.unwrap();
        assert_eq!(view.state(), state);
        assert_eq!(worker.command().await, Command::Cordon(v1::Cordon { cordoned }));
        let job = coordinator.submit(&["a"]).await;
        let waiting_for = coordinator.ask(&job).await.waiting_for;
        assert_eq!(waiting_for.contains("no ready worker"), cordoned, "{waiting_for}");
    }
}

#[tokio::test]
async fn a_drained_worker_is_told_how_long_it_has() {
    let coordinator = Coordinator::start("").await;
    let mut worker = Worker::ready(&coordinator, 5).await;
    let mut admin = coordinator.admin().await;
    let within = Some(well_known::Duration { seconds: 90, nanos: 0 });
    let request = v1::DrainWorkerRequest { worker_id: worker.id.clone(), within };
    let view = admin.drain_worker(request.clone()).await.unwrap().into_inner().worker.unwrap();
    assert_eq!(view.state(), v1::WorkerState::Draining);
    assert_eq!(worker.command().await, Command::Drain(v1::Drain { within }));
    let negative = Some(well_known::Duration { seconds: -1, nanos: 0 });
    let refusal =
        refused(admin.drain_worker(v1::DrainWorkerRequest { within: negative, ..request }).await);
    assert_eq!(fields(&refusal), ["within"]);
}

#[tokio::test]
async fn an_unknown_worker_is_not_found() {
    let coordinator = Coordinator::start("").await;
    let mut admin = coordinator.admin().await;
    for (worker_id, code) in [
        (ids::worker_id().to_string(), Code::NotFound),
        ("nonsense".to_owned(), Code::InvalidArgument),
    ] {
        let cordon = v1::CordonWorkerRequest { worker_id: worker_id.clone(), cordoned: true };
        let drain = v1::DrainWorkerRequest { worker_id, within: None };
        assert_eq!(refused(admin.cordon_worker(cordon).await).code, code);
        assert_eq!(refused(admin.drain_worker(drain).await).code, code);
    }
}

#[tokio::test]
async fn dead_letters_are_shown_with_their_attempts() {
    let coordinator = Coordinator::start("").await;
    let mut worker = Worker::ready(&coordinator, 1).await;
    let job = dead_letter(&coordinator, &mut worker).await;
    let mut admin = coordinator.admin().await;
    let request = v1::GetDeadLetterRequest { job_id: job.clone() };
    let shown = admin.get_dead_letter(request).await.unwrap().into_inner();
    assert_eq!(shown.job.unwrap().id, job);
    let attempt = &shown.attempts[0];
    assert_eq!((attempt.outcome.as_str(), attempt.code.as_str()), ("failed", "OUT_OF_MEMORY"));
    assert_eq!(attempt.worker_id, worker.id);

    let alive = coordinator.submit(&["a"]).await;
    let refusal = refused(admin.get_dead_letter(v1::GetDeadLetterRequest { job_id: alive }).await);
    assert_eq!(refusal.code, Code::FailedPrecondition);
    assert!(refusal.message.contains("not a dead letter"), "{refusal}");
}

#[tokio::test]
async fn dead_letters_are_filtered_and_paged() {
    let coordinator = Coordinator::start("").await;
    let mut worker = Worker::ready(&coordinator, 1).await;
    let first = dead_letter(&coordinator, &mut worker).await;
    let second = dead_letter(&coordinator, &mut worker).await;
    let mut admin = coordinator.admin().await;
    let page = |page_token: String| v1::ListDeadLettersRequest {
        page_size: 1,
        page_token,
        reason: v1::FailureReason::Permanent.into(),
        ..v1::ListDeadLettersRequest::default()
    };
    let newest = admin.list_dead_letters(page(String::new())).await.unwrap().into_inner();
    assert_eq!(newest.jobs[0].id, second);
    let next = admin.list_dead_letters(page(newest.next_page_token.clone())).await.unwrap();
    assert_eq!(next.into_inner().jobs[0].id, first);
    let poison = v1::ListDeadLettersRequest {
        reason: v1::FailureReason::Poison.into(),
        ..v1::ListDeadLettersRequest::default()
    };
    assert!(admin.list_dead_letters(poison).await.unwrap().into_inner().jobs.is_empty());
    let bad = v1::ListDeadLettersRequest { reason: 99, model: "No".into(), ..page("x".into()) };
    let refusal = refused(admin.list_dead_letters(bad).await);
    assert_eq!(fields(&refusal), ["model", "reason", "page_token"]);
}

#[tokio::test]
async fn a_redriven_dead_letter_is_a_new_job_and_leaves_the_list() {
    let coordinator = Coordinator::start("").await;
    let mut worker = Worker::ready(&coordinator, 1).await;
    let job = dead_letter(&coordinator, &mut worker).await;
    let alive = coordinator.submit(&["a"]).await;
    let mut admin = coordinator.admin().await;
    let redrive = |job_ids: Vec<String>| v1::RedriveDeadLettersRequest { job_ids };

    let both = redrive(vec![job.clone(), alive.clone()]);
    let refusal = refused(admin.redrive_dead_letters(both).await);
    assert_eq!(refusal.reason, Some(Reason::JobNotRetryable));
    assert!(refusal.message.contains(&alive), "{refusal}");
    assert_eq!(dead_letters(&coordinator).await, std::slice::from_ref(&job), "none was redriven");

    let first = admin.redrive_dead_letters(redrive(vec![job.clone()])).await.unwrap().into_inner();
    let again = admin.redrive_dead_letters(redrive(vec![job.clone()])).await.unwrap().into_inner();
    assert_eq!(first.jobs[0].id, again.jobs[0].id);
    assert_eq!(first.jobs[0].retry_of, job);
    assert!(dead_letters(&coordinator).await.is_empty());
    assert_eq!(fields(&refused(admin.redrive_dead_letters(redrive(vec![])).await)), ["job_ids"]);
    let unknown = ids::worker_id().to_string();
    let refusal = refused(admin.redrive_dead_letters(redrive(vec![unknown])).await);
    assert_eq!(refusal.code, Code::NotFound);
}

#[tokio::test]
async fn a_discarded_dead_letter_leaves_the_list_but_stays_failed() {
    let coordinator = Coordinator::start("").await;
    let mut worker = Worker::ready(&coordinator, 1).await;
    let job = dead_letter(&coordinator, &mut worker).await;
    let mut admin = coordinator.admin().await;
    let request = v1::DiscardDeadLettersRequest { job_ids: vec![job.clone()] };
    for discarded in [1, 0] {
        let answer = admin.discard_dead_letters(request.clone()).await.unwrap().into_inner();
        assert_eq!(answer.discarded, discarded);
    }
    assert!(dead_letters(&coordinator).await.is_empty());
    assert_eq!(coordinator.get(&job).await.state(), v1::JobState::Failed);
}

#[tokio::test]
async fn operators_see_the_jobs_of_all_tenants() {
    let coordinator = Coordinator::start("[tenants.acme]\n[tenants.beta]\n").await;
    for tenant in ["acme", "beta"] {
        let request = as_tenant(tenant, v1::SubmitRequest { job: Some(echo(&["a"])) });
        coordinator.jobs().await.submit(request).await.unwrap();
    }
    let status = coordinator.admin().await.fleet_status(v1::FleetStatusRequest {}).await;
    let jobs = status.unwrap().into_inner().jobs;
    assert_eq!(jobs.iter().map(|count| count.jobs).sum::<u64>(), 2);
}
