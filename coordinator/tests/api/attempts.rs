//! Claims and what workers report of attempts.

use stoker_proto::status::Reason;
use stoker_proto::v1;
use stoker_proto::v1::claim_outcome::Outcome;
use stoker_proto::v1::register_response::Command;
use stoker_runtime::ids;
use tonic::{Code, Request};

use crate::fixture::{Coordinator, Worker, claim, echo, fields, part, refused};

#[tokio::test]
async fn an_attempt_goes_from_claim_over_a_checkpoint_to_its_result() {
    let coordinator = Coordinator::start("").await;
    let job = coordinator.submit(&["a", "b"]).await;
    let mut worker = Worker::ready(&coordinator, 1).await;
    let held = worker.take(&coordinator, &job).await;
    assert_eq!((held.grant.model.as_str(), held.grant.first_item), ("echo", 0));
    assert!(held.grant.slack.unwrap().seconds > 30);
    match held.grant.input.as_ref().unwrap().task.as_ref().unwrap() {
        v1::job_input::Task::Echo(input) => assert_eq!(input.texts, ["a", "b"]),
        other => panic!("{other:?}"),
    }
    let leased = coordinator.get(&job).await;
    assert_eq!((leased.state(), leased.worker_id), (v1::JobState::Leased, worker.id.clone()));

    let progress = v1::AttemptProgress {
        fence: Some(held.fence.clone()),
        parts: vec![part(0, &["a"])],
        begun: None,
    };
    let beat = worker.heartbeat(vec![progress], None).await.unwrap();
    assert_eq!(beat.outcomes().next(), Some(v1::HeartbeatOutcome::Continue));
    assert_eq!(coordinator.get(&job).await.items_done, 1);
    let last = || vec![part(1, &["b"])];
    let outcome = worker.complete(&held.fence, last()).await.unwrap();
    assert_eq!(outcome, v1::CompleteOutcome::Recorded);
    let again = worker.complete(&held.fence, last()).await.unwrap();
    assert_eq!(again, v1::CompleteOutcome::AlreadyRecorded);
    let beat = v1::AttemptProgress { fence: Some(held.fence.clone()), parts: vec![], begun: None };
    let beat = worker.heartbeat(vec![beat], None).await.unwrap();
    assert_eq!(beat.outcomes().next(), Some(v1::HeartbeatOutcome::Fenced));
}

#[tokio::test]
async fn a_checkpoint_that_makes_no_sense_costs_its_attempt_and_no_other() {
    let coordinator = Coordinator::start("").await;
    let mut worker = Worker::ready(&coordinator, 2).await;
    let mut fences = Vec::new();
    for texts in [["a", "b"], ["c", "d"]] {
        let job = coordinator.submit(&texts).await;
        fences.push(worker.take(&coordinator, &job).await.fence);
    }
    let progress = |fence: &v1::Fence, parts| v1::AttemptProgress {
        fence: Some(fence.clone()),
        parts,
        begun: None,
    };
    // Two items are all that the first job has.
    let bad = progress(&fences[0], vec![part(0, &["a", "b", "c"])]);
    let good = progress(&fences[1], vec![part(0, &["c"])]);
    let beat = worker.heartbeat(vec![bad, good], None).await.unwrap();
    let outcomes: Vec<_> = beat.outcomes().collect();
    assert_eq!(outcomes, [v1::HeartbeatOutcome::Fenced, v1::HeartbeatOutcome::Continue]);
}

#[tokio::test]
async fn claims_are_answered_one_by_one() {
    let coordinator = Coordinator::start("").await;
    let mut worker = Worker::ready(&coordinator, 4).await;
    let (held, cancelled) = (coordinator.submit(&["a"]).await, coordinator.submit(&["b"]).await);
    let request = v1::CancelRequest { job_id: cancelled.clone() };
    coordinator.jobs().await.cancel(request).await.unwrap();
    let _grant = worker.take(&coordinator, &held).await;
    let unknown = ids::worker_id().to_string();
    let claims = vec![claim(&held, 1), claim(&cancelled, 1), claim(&unknown, 1)];
    let outcomes = worker.claim(claims).await.unwrap();
    let refusal = |refusal: v1::ClaimRefusal| Outcome::Refused(refusal.into());
    assert_eq!(
        outcomes,
        [
            refusal(v1::ClaimRefusal::Busy),
            refusal(v1::ClaimRefusal::Terminal),
            refusal(v1::ClaimRefusal::Unknown)
        ]
    );
    assert!(worker.claim(vec![]).await.unwrap().is_empty());
    let refusal = refused(worker.claim(vec![claim(&held, 0)]).await);
    assert_eq!(fields(&refusal), ["claims[0].dispatch_seq"]);
    let refusal = refused(worker.claim(vec![claim(&held, 1); 257]).await);
    assert_eq!(fields(&refusal), ["claims"]);
}

#[tokio::test]
async fn the_trace_of_the_submit_reaches_the_worker() {
    let coordinator = Coordinator::start("").await;
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let mut request = Request::new(v1::SubmitRequest { job: Some(echo(&["a"])) });
    request.metadata_mut().insert("traceparent", traceparent.parse().unwrap());
    let job = coordinator.jobs().await.submit(request).await.unwrap().into_inner().job_id;
    let mut worker = Worker::ready(&coordinator, 1).await;
    let held = worker.take(&coordinator, &job).await;
    let trace_id = |text: &str| text.split('-').nth(1).unwrap().to_owned();
    assert_eq!(trace_id(&held.grant.trace["traceparent"]), trace_id(traceparent));
}

#[tokio::test]
async fn a_cordoned_worker_may_still_claim_what_it_was_sent() {
    let coordinator = Coordinator::start("").await;
    let job = coordinator.submit(&["a"]).await;
    let mut worker = Worker::ready(&coordinator, 1).await;
    let request = v1::CordonWorkerRequest { worker_id: worker.id.clone(), cordoned: true };
    coordinator.admin().await.cordon_worker(request).await.unwrap();
    let held = worker.take(&coordinator, &job).await;
    let outcome = worker.complete(&held.fence, vec![part(0, &["a"])]).await.unwrap();
    assert_eq!(outcome, v1::CompleteOutcome::Recorded);
}

#[tokio::test]
async fn a_worker_that_is_not_registered_has_to_register_first() {
    let coordinator = Coordinator::start("").await;
    let mut worker = Worker::ready(&coordinator, 1).await;
    worker.id = ids::worker_id().to_string();
    let refusal = refused(worker.claim(vec![claim(&worker.id.clone(), 1)]).await);
    assert_eq!(refusal.code, Code::FailedPrecondition);
    assert_eq!(refusal.reason, Some(Reason::WorkerNotRegistered));
    assert!(refusal.message.contains("register (again) first"), "{refusal}");
    assert!(worker.beat(v1::WorkerState::Ready).await.register_again);
    worker.id = "nonsense".to_owned();
    assert_eq!(fields(&refused(worker.claim(vec![]).await)), ["worker_id"]);
}

#[tokio::test]
async fn parts_that_do_not_fit_the_job_are_refused_by_field_and_nothing_is_stored() {
    let coordinator = Coordinator::start("").await;
    let job = coordinator.submit(&["a", "b"]).await;
    let mut worker = Worker::ready(&coordinator, 1).await;
    let held = worker.take(&coordinator, &job).await;
    let vectors = v1::Embeddings { dimensions: 1, vectors: vec![0; 8].into() };
    let wrong_kind = v1::ResultPart {
        first_item: 0,
        items: 2,
        output: Some(v1::result_part::Output::Embeddings(vectors)),
    };
    for (parts, field) in [
        (vec![wrong_kind], "completions[0].parts[0].output"),
        (vec![part(0, &["a"]), part(2, &["c"])], "completions[0].parts[1].first_item"),
        (vec![part(0, &["a", "b", "c"])], "completions[0].parts[0].items"),
        (vec![part(0, &["a"])], "completions[0].parts"),
        (vec![part(1, &["b"])], "completions[0].parts"),
        (vec![], "completions[0].parts"),
    ] {
        let refusal = refused(worker.complete(&held.fence, parts).await);
        assert_eq!((refusal.code, fields(&refusal)), (Code::InvalidArgument, vec![field]));
    }
    let fence = v1::Fence { token: vec![1], ..held.fence.clone() };
    let refusal = refused(worker.complete(&fence, vec![]).await);
    assert_eq!(fields(&refusal), ["completions[0].fence.token"]);
    let record = coordinator.get(&job).await;
    assert_eq!((record.state(), record.items_done), (v1::JobState::Leased, 0));
    let forged = v1::Fence { token: vec![1; 16], ..held.fence.clone() };
    let outcome = worker.complete(&forged, vec![part(0, &["a", "b"])]).await.unwrap();
    assert_eq!(outcome, v1::CompleteOutcome::Fenced);
}

#[tokio::test]
async fn errors_are_retried_until_they_are_permanent() {
    let coordinator = Coordinator::start("[retry]\nbase-delay = '60s'\n").await;
    let job = coordinator.submit(&["a"]).await;
    let mut worker = Worker::ready(&coordinator, 1).await;
    let held = worker.take(&coordinator, &job).await;
    let refusal = refused(worker.fail(&held.fence, v1::FailureKind::Unspecified).await);
    assert_eq!(fields(&refusal), ["failures[0].kind"]);
    let outcome = worker.fail(&held.fence, v1::FailureKind::Retryable).await.unwrap();
    assert_eq!(outcome, v1::SettleOutcome::Recorded);
    let outcome = worker.fail(&held.fence, v1::FailureKind::Permanent).await.unwrap();
    assert_eq!(outcome, v1::SettleOutcome::Fenced, "news of an attempt that has ended");
    let asked = coordinator.ask(&job).await;
    let record = asked.job.unwrap();
    assert_eq!((record.state(), record.failures), (v1::JobState::RetryWait, 1));
    assert!(asked.waiting_for.starts_with("its next attempt, due in"), "{}", asked.waiting_for);
    assert!(asked.waiting_for.contains("OUT_OF_MEMORY"), "{}", asked.waiting_for);

    let other = coordinator.submit(&["b"]).await;
    let held = worker.take(&coordinator, &other).await;
    worker.fail(&held.fence, v1::FailureKind::Permanent).await.unwrap();
    let record = coordinator.get(&other).await;
    assert_eq!(record.state(), v1::JobState::Failed);
    assert_eq!(record.failure.unwrap().reason(), v1::FailureReason::Permanent);
}

#[tokio::test]
async fn a_released_attempt_goes_on_where_it_was() {
    let coordinator = Coordinator::start("").await;
    let job = coordinator.submit(&["a", "b"]).await;
    let mut worker = Worker::ready(&coordinator, 1).await;
    let held = worker.take(&coordinator, &job).await;
    let unspecified = v1::ReleaseReason::Unspecified;
    let refusal = refused(worker.release(&held.fence, unspecified, vec![]).await);
    assert_eq!(fields(&refusal), ["releases[0].reason"]);
    let parts = vec![part(0, &["a"])];
    let outcome = worker.release(&held.fence, v1::ReleaseReason::Draining, parts).await.unwrap();
    assert_eq!(outcome, v1::SettleOutcome::Recorded);
    let held = worker.take(&coordinator, &job).await;
    assert_eq!((held.grant.attempt, held.grant.first_item), (2, 1));
    let record = coordinator.get(&job).await;
    assert_eq!((record.interruptions, record.failures), (1, 0));
}

#[tokio::test]
async fn a_cancel_reaches_the_worker_that_runs_the_job() {
    let coordinator = Coordinator::start("").await;
    let job = coordinator.submit(&["a"]).await;
    let mut worker = Worker::ready(&coordinator, 1).await;
    let held = worker.take(&coordinator, &job).await;
    let request = v1::CancelRequest { job_id: job.clone() };
    let answer = coordinator.jobs().await.cancel(request).await.unwrap().into_inner();
    assert!(answer.job.unwrap().cancel_requested);
    match worker.command().await {
        Command::StopAttempt(stop) => {
            assert_eq!((stop.job_id.as_str(), stop.attempt), (job.as_str(), 1));
            assert!(stop.reason.contains("cancelled"));
        }
        other => panic!("{other:?}"),
    }
    let beat = v1::AttemptProgress { fence: Some(held.fence.clone()), parts: vec![], begun: None };
    let beat = worker.heartbeat(vec![beat], None).await.unwrap();
    assert_eq!(beat.outcomes().next(), Some(v1::HeartbeatOutcome::Stop));
    worker.release(&held.fence, v1::ReleaseReason::Stopped, vec![]).await.unwrap();
    assert_eq!(coordinator.get(&job).await.state(), v1::JobState::Cancelled);
}

#[tokio::test]
async fn reports_of_too_many_attempts_are_refused() {
    let coordinator = Coordinator::start("").await;
    let job = coordinator.submit(&["a"]).await;
    let mut worker = Worker::ready(&coordinator, 1).await;
    let held = worker.take(&coordinator, &job).await;
    let one = v1::AttemptProgress { fence: Some(held.fence), parts: vec![], begun: None };
    let refusal = refused(worker.heartbeat(vec![one; 1_025], None).await);
    assert_eq!(fields(&refusal), ["attempts"]);
    let none = v1::AttemptProgress { fence: None, parts: vec![], begun: None };
    let refusal = refused(worker.heartbeat(vec![none], None).await);
    assert_eq!(fields(&refusal), ["attempts[0].fence"]);
}
