//! Start and end: what is checked first, and what survives.

use std::time::Duration;

use stoker_coordinator::config::{BrokerChoice, Config, StoreChoice};
use stoker_coordinator::run::{RunError, run};
use stoker_proto::status::{Reason, explain};
use stoker_proto::v1;
use stoker_runtime::metrics;
use stoker_runtime::tasks::Tasks;
use tokio_util::sync::CancellationToken;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::fixture::{Coordinator, LIMIT, Worker, config, next};

async fn start(config: Config) -> RunError {
    let tasks = Tasks::new(CancellationToken::new());
    let started = run(config, metrics::install().unwrap(), &tasks);
    tokio::time::timeout(LIMIT, started).await.unwrap().unwrap_err()
}

#[tokio::test]
async fn shutdown_ends_streams_with_the_reason_and_keeps_what_was_accepted() {
    let coordinator = Coordinator::start("").await;
    let job = coordinator.submit(&["a"]).await;
    let mut worker = Worker::ready(&coordinator, 1).await;
    let held = worker.take(&coordinator, &job).await;
    let request = v1::WatchRequest { job_ids: vec![job.clone()], texts: false };
    let mut watch = coordinator.jobs().await.watch(request).await.unwrap().into_inner();
    next(&mut watch).await;

    let folder = coordinator.stop().await;
    let ended = loop {
        match watch.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the watch ended as if its job had"),
            Err(status) => break explain(&status),
        }
    };
    assert_eq!(ended.reason, Some(Reason::ShuttingDown));

    let coordinator = Coordinator::start_in(folder, "", BrokerChoice::Embedded).await;
    let record = coordinator.get(&job).await;
    assert_eq!((record.state(), record.lost_workers), (v1::JobState::Leased, 0));
    let mut worker = Worker::register(&coordinator, worker.id, 1).await;
    let beat = v1::AttemptProgress { fence: Some(held.fence), parts: vec![], begun: None };
    let beat = worker.heartbeat(vec![beat], None).await.unwrap();
    assert_eq!(beat.outcomes().next(), Some(v1::HeartbeatOutcome::Continue));
}

/// Else it would wait until the broker is taken to have lost its message, which is a minute.
#[tokio::test]
async fn a_restart_publishes_again_what_the_embedded_broker_held_in_memory() {
    let coordinator = Coordinator::start("").await;
    let job = coordinator.submit(&["a"]).await;
    coordinator.wait_for(&job, v1::JobState::Dispatched).await;
    let folder = coordinator.stop().await;
    let coordinator = Coordinator::start_in(folder, "", BrokerChoice::Embedded).await;
    let mut worker = Worker::ready(&coordinator, 1).await;
    worker.take(&coordinator, &job).await;
}

#[tokio::test]
async fn open_streams_of_every_kind_do_not_hold_up_the_end() {
    let coordinator = Coordinator::start("").await;
    let worker = Worker::ready(&coordinator, 1).await;
    let job = coordinator.submit(&["a"]).await;
    let request = v1::WatchRequest { job_ids: vec![job], texts: false };
    let watch = coordinator.jobs().await.watch(request).await.unwrap();
    let (requests, stream) = tokio::sync::mpsc::channel(1);
    let open = v1::OpenConsumer { pool: "default".into(), model: "echo".into(), prefetch: 1 };
    let open = Some(v1::consume_request::Request::Open(open));
    requests.send(v1::ConsumeRequest { request: open }).await.unwrap();
    let stream = tokio_stream::wrappers::ReceiverStream::new(stream);
    let consumer = coordinator.queue().await.consume(stream).await.unwrap();
    let mut health = HealthClient::new(coordinator.channel().await);
    let health = health.watch(HealthCheckRequest { service: String::new() }).await.unwrap();
    let silent = tokio::net::TcpStream::connect(("127.0.0.1", coordinator.port)).await.unwrap();

    let began = tokio::time::Instant::now();
    coordinator.stop().await;
    // Half of the time after which calls are cut off.
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    drop((worker, watch, consumer, requests, health, silent));
}

#[tokio::test]
async fn a_port_in_use_is_named_with_a_remedy() {
    let coordinator = Coordinator::start("").await;
    let folder = tempfile::tempdir().unwrap();
    let listen = ([127, 0, 0, 1], coordinator.port).into();
    let error = start(Config { listen, ..config(&folder, "", BrokerChoice::Embedded) }).await;
    assert!(matches!(error, RunError::Bind(_)), "{error}");
    assert!(error.to_string().contains("choose another port"), "{error}");
}

#[tokio::test]
async fn a_data_directory_has_one_coordinator() {
    let coordinator = Coordinator::start("").await;
    let folder = tempfile::tempdir().unwrap();
    let data = coordinator.folder().join("data");
    let error = start(Config {
        store: StoreChoice::Sqlite(data),
        ..config(&folder, "", BrokerChoice::Embedded)
    })
    .await;
    assert!(error.to_string().contains("another coordinator uses it"), "{error}");
}

#[tokio::test]
async fn a_data_directory_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let data = folder.path().join("file").join("data");
    let error = start(Config {
        store: StoreChoice::Sqlite(data),
        ..config(&folder, "", BrokerChoice::Embedded)
    })
    .await;
    assert!(error.to_string().contains("--data") && error.to_string().contains("file/data"));
}

#[tokio::test]
async fn a_port_file_that_cannot_be_written_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let port_file = Some(folder.path().join("missing").join("port"));
    let error = start(Config { port_file, ..config(&folder, "", BrokerChoice::Embedded) }).await;
    assert!(matches!(error, RunError::PortFile(_)), "{error}");
    assert!(error.to_string().contains("--port-file"), "{error}");
}
