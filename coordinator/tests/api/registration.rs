//! A worker's stream: what it is told, and what its end means.

use stoker_proto::v1;
use stoker_proto::v1::register_response::Command;
use stoker_runtime::ids;
use tonic::Code;

use crate::fixture::{Coordinator, Worker, fields, next, part, refused, registration, until};

#[tokio::test]
async fn a_registration_is_answered_with_what_the_worker_needs_to_know() {
    let coordinator = Coordinator::start("[lease]\nttl = '20s'\nheartbeat = '4s'\n").await;
    let mut workers = coordinator.workers().await;
    let request = registration(&ids::worker_id().to_string(), 4);
    let mut stream = workers.register(request).await.unwrap().into_inner();
    match next(&mut stream).await.command.unwrap() {
        Command::Registered(told) => {
            assert_eq!(told.fleet, "test");
            assert_eq!(told.lease.unwrap().seconds, 20);
            assert_eq!(told.heartbeat_interval.unwrap().seconds, 4);
            assert!(told.max_message_bytes > 1 << 20);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_worker_of_another_fleet_file_is_refused_with_what_is_known() {
    let coordinator = Coordinator::start("").await;
    let mut workers = coordinator.workers().await;
    let good = registration(&ids::worker_id().to_string(), 4);
    let pool = v1::RegisterRequest { pool: "gpu".to_owned(), ..good.clone() };
    let refusal = refused(workers.register(pool).await);
    assert_eq!((refusal.code, fields(&refusal)), (Code::InvalidArgument, vec!["pool"]));
    assert!(refusal.message.contains("it has: default"), "{refusal}");
    let models = v1::RegisterRequest { models: vec!["mega".to_owned()], ..good };
    let refusal = refused(workers.register(models).await);
    assert_eq!(fields(&refusal), ["models[0]"]);
    assert!(refusal.message.contains("mini, echo"), "{refusal}");
}

#[tokio::test]
async fn a_broken_stream_ends_the_leases_soon() {
    let coordinator = Coordinator::start("[lease]\ndisconnect-grace = '50ms'\n").await;
    let job = coordinator.submit(&["a"]).await;
    let mut worker = Worker::ready(&coordinator, 1).await;
    worker.take(&coordinator, &job).await;
    let id = worker.id.clone();
    drop(worker);
    let record = until("the lost attempt", || async {
        Some(coordinator.get(&job).await).filter(|job| job.state() != v1::JobState::Leased)
    })
    .await;
    assert_eq!((record.lost_workers, record.failures), (1, 0));
    let workers = coordinator.admin().await.list_workers(v1::ListWorkersRequest {}).await;
    let workers = workers.unwrap().into_inner().workers;
    assert_eq!((workers[0].id.as_str(), workers[0].state()), (id.as_str(), v1::WorkerState::Lost));
}

#[tokio::test]
async fn a_newer_stream_takes_over_without_touching_the_leases() {
    let coordinator = Coordinator::start("[lease]\ndisconnect-grace = '1ms'\n").await;
    let job = coordinator.submit(&["a"]).await;
    let mut old = Worker::ready(&coordinator, 1).await;
    old.take(&coordinator, &job).await;
    let mut new = Worker::register(&coordinator, old.id.clone(), 1).await;
    assert!(old.commands.message().await.unwrap().is_none(), "the old stream ends");
    drop(old);
    let request = v1::CancelRequest { job_id: job.clone() };
    coordinator.jobs().await.cancel(request).await.unwrap();
    assert!(matches!(new.command().await, Command::StopAttempt(_)));
    let record = coordinator.get(&job).await;
    assert_eq!((record.state(), record.lost_workers), (v1::JobState::Leased, 0));
}

#[tokio::test]
async fn a_registered_worker_lets_work_flow_at_once() {
    let coordinator = Coordinator::start("").await;
    let mut jobs = Vec::new();
    for _ in 0..12 {
        jobs.push(coordinator.submit(&["a"]).await);
    }
    let _worker = Worker::ready(&coordinator, 6).await;
    for job in &jobs {
        coordinator.wait_for(job, v1::JobState::Dispatched).await;
    }
}

#[tokio::test]
async fn what_a_worker_has_left_to_do_is_known_of_what_it_held_when_it_told() {
    let coordinator = Coordinator::start("").await;
    let mut worker = Worker::ready(&coordinator, 1).await;
    let left = async || {
        let mut admin = coordinator.admin().await;
        let answer = admin.list_workers(v1::ListWorkersRequest {}).await.unwrap().into_inner();
        answer.workers[0].remaining.map(|told| told.seconds)
    };
    let status = |busy_slots, seconds| v1::WorkerStatus {
        state: v1::WorkerState::Ready.into(),
        busy_slots,
        remaining: Some(stoker_proto::well_known::Duration { seconds, nanos: 0 }),
        ..v1::WorkerStatus::default()
    };
    assert_eq!(left().await, None, "an older worker does not tell");
    worker.heartbeat(vec![], Some(status(0, 0))).await.unwrap();
    assert_eq!(left().await, Some(0));
    let job = coordinator.submit(&["a"]).await;
    worker.take(&coordinator, &job).await;
    assert_eq!(left().await, None, "what it was given since is not in what it told");
    worker.heartbeat(vec![], Some(status(1, 90))).await.unwrap();
    assert_eq!(left().await, Some(90));
}

#[tokio::test]
async fn a_worker_is_idle_until_it_is_granted_a_job_whatever_it_says_itself() {
    let coordinator = Coordinator::start("").await;
    let mut worker = Worker::on(&coordinator, "i-0abc").await;
    let listed = async || {
        let mut admin = coordinator.admin().await;
        let answer = admin.list_workers(v1::ListWorkersRequest {}).await.unwrap().into_inner();
        let (observed, complete) = (answer.observed_at.unwrap(), answer.complete_since.unwrap());
        assert!((complete.seconds, complete.nanos) <= (observed.seconds, observed.nanos));
        let worker = answer.workers.into_iter().next().unwrap();
        assert_eq!(worker.instance, "i-0abc");
        (worker.busy_slots, worker.idle_since)
    };
    assert_eq!(listed().await, (0, None), "it has not said yet that it holds nothing");
    worker.beat(v1::WorkerState::Ready).await;
    let (busy, idle_since) = listed().await;
    assert!(busy == 0 && idle_since.is_some());
    let job = coordinator.submit(&["a"]).await;
    let held = worker.take(&coordinator, &job).await;
    assert_eq!(listed().await, (1, None));
    worker.beat(v1::WorkerState::Ready).await;
    assert_eq!(listed().await, (1, None), "the heartbeat was made before the grant came");
    worker.complete(&held.fence, vec![part(0, &["a"])]).await.unwrap();
    worker.beat(v1::WorkerState::Ready).await;
    let (busy, idle_again) = listed().await;
    assert!(busy == 0 && idle_again.is_some());
}
