//! A job with all that decides when it runs.

use stoker_proto::v1;
use tonic::Code;

use crate::fixture::{Coordinator, Worker, as_tenant, echo, refused, until};

const TENANTS: &str = "[tenants.big]\nweight = 1\n[tenants.small]\nweight = 3\n";

async fn explain(coordinator: &Coordinator, job: &str) -> v1::ExplainJobResponse {
    let request = v1::ExplainJobRequest { job_id: job.to_owned() };
    coordinator.admin().await.explain_job(request).await.unwrap().into_inner()
}

async fn submit(coordinator: &Coordinator, tenant: &str, jobs: usize) -> Vec<String> {
    let request = v1::SubmitBatchRequest { jobs: vec![echo(&["a"]); jobs] };
    let answer = coordinator.jobs().await.submit_batch(as_tenant(tenant, request)).await.unwrap();
    answer.into_inner().jobs.into_iter().map(|job| job.job_id).collect()
}

#[tokio::test]
async fn a_waiting_job_has_its_place_by_weight_and_its_promise() {
    let coordinator = Coordinator::start(TENANTS).await;
    let flood = submit(&coordinator, "big", 30).await;
    // One call's jobs are due at the same time, and stand in the order of their ids.
    let last = flood.iter().max().unwrap();
    // The window lets two out though nobody is there to take them.
    until("the window", || async {
        explain(&coordinator, last).await.queue.filter(|queue| queue.in_flight == 2)
    })
    .await;
    let few = submit(&coordinator, "small", 3).await;
    let queue = explain(&coordinator, last).await.queue.unwrap();
    assert_eq!((queue.slots, queue.workers_starting, queue.window), (0, 0, 2));
    assert_eq!((queue.unserved, queue.broker_problem.as_str()), (false, ""));
    let share = |tenant: &str, weight, queued, in_flight| v1::QueueShare {
        tenant: tenant.to_owned(),
        class: "standard".to_owned(),
        weight,
        queued,
        in_flight,
    };
    assert_eq!(queue.shares, [share("big", 1, 28, 2), share("small", 3, 3, 0)]);
    let ahead = |tenant: &str, jobs| v1::JobsAhead { tenant: tenant.to_owned(), jobs };
    assert_eq!(queue.ahead, [ahead("big", 27), ahead("small", 3)]);
    assert!(!queue.ahead_at_least);
    let first = explain(&coordinator, few.iter().min().unwrap()).await;
    let before = first.queue.unwrap().ahead;
    assert!(before.iter().all(|ahead| ahead.tenant == "small"), "its weight counts: {before:?}");
    let (job, start_by) = (first.job.unwrap(), first.start_by.unwrap());
    assert_eq!(start_by.seconds - job.accepted_at.unwrap().seconds, 60);
    assert_eq!((first.next_due, first.attempts.len()), (None, 0));
    assert_eq!((first.max_failures, first.max_crashes, first.max_lost_workers), (3, 3, 10));
    coordinator.stop().await;
}

#[tokio::test]
async fn attempts_and_timers_follow_the_jobs_life() {
    let coordinator = Coordinator::start("").await;
    let mut worker = Worker::ready(&coordinator, 1).await;
    let job = coordinator.submit(&["a"]).await;
    let held = worker.take(&coordinator, &job).await;
    let runs = explain(&coordinator, &job).await;
    assert_eq!(runs.queue, None);
    assert!(runs.next_due.is_some(), "its lease ends");
    let attempt = &runs.attempts[0];
    assert_eq!((attempt.worker_id.as_str(), attempt.outcome.as_str()), (&*worker.id, "running"));
    worker.fail(&held.fence, v1::FailureKind::Retryable).await.unwrap();
    let waits = until("the retry", || async {
        Some(explain(&coordinator, &job).await)
            .filter(|told| told.job.as_ref().is_some_and(|job| job.failures == 1))
    })
    .await;
    assert_eq!(waits.attempts[0].outcome, "failed");
    assert_eq!(waits.attempts[0].code, "OUT_OF_MEMORY");
    assert_eq!(waits.queue.unwrap().slots, 1);
    coordinator.stop().await;
}

#[tokio::test]
async fn an_unknown_job_is_refused() {
    let coordinator = Coordinator::start("").await;
    let ask = |job_id: &str| v1::ExplainJobRequest { job_id: job_id.to_owned() };
    let mut admin = coordinator.admin().await;
    let unknown = stoker_runtime::ids::worker_id().to_string();
    assert_eq!(refused(admin.explain_job(ask(&unknown)).await).code, Code::NotFound);
    assert_eq!(refused(admin.explain_job(ask("x")).await).code, Code::InvalidArgument);
    coordinator.stop().await;
}
