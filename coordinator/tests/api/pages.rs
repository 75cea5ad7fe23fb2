//! What scrapers, probes and generic clients find on the same port.

use std::collections::BTreeSet;

use stoker_broker::BrokerUri;
use stoker_coordinator::config::BrokerChoice;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::fixture::{Coordinator, until};

/// The answer to a plain HTTP/1 request.
async fn fetch(coordinator: &Coordinator, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", coordinator.port)).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn serving(coordinator: &Coordinator, service: &str) -> ServingStatus {
    let request = HealthCheckRequest { service: service.to_owned() };
    let mut health = HealthClient::new(coordinator.channel().await);
    health.check(request).await.unwrap().into_inner().status()
}

#[tokio::test]
async fn probes_and_scrapers_are_answered_over_plain_http() {
    let coordinator = Coordinator::start("").await;
    assert!(fetch(&coordinator, "/healthz").await.starts_with("HTTP/1.1 200"));
    until("readiness", || async {
        fetch(&coordinator, "/readyz").await.starts_with("HTTP/1.1 200").then_some(())
    })
    .await;
    coordinator.submit(&["a"]).await;
    let metrics = fetch(&coordinator, "/metrics").await;
    for part in [
        "stoker_coordinator_rpcs_total{method=\"JobService/Submit\",code=\"OK\"}",
        "stoker_coordinator_rpc_seconds_bucket{method=\"JobService/Submit\"",
        "stoker_coordinator_transitions_total{state=\"queued\"}",
        "stoker_coordinator_connections",
        "stoker_coordinator_jobs{pool=\"default\",model=\"mini\",state=\"queued\"} 0",
        "stoker_coordinator_workers{state=\"ready\"}",
        "stoker_coordinator_ready{part=\"store\"} 1",
        "stoker_coordinator_class_objective_ratio{class=\"standard\"} 0.99",
        "stoker_coordinator_waits_total{class=\"standard\",promise=\"broken\"}",
    ] {
        assert!(metrics.contains(part), "{part} in\n{metrics}");
    }
}

#[tokio::test]
async fn health_follows_what_works() {
    let coordinator = Coordinator::start("").await;
    for service in ["", "stoker.v1.JobService", "stoker.v1.QueueService"] {
        until("serving", || async {
            (serving(&coordinator, service).await == ServingStatus::Serving).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn without_a_broker_the_whole_is_not_ready_but_jobs_are_served() {
    let uri = BrokerUri::parse("amqp://127.0.0.1:1").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::start_in(folder, "", BrokerChoice::RabbitMq(uri)).await;
    until("jobs to be served", || async {
        let status = serving(&coordinator, "stoker.v1.JobService").await;
        (status == ServingStatus::Serving).then_some(())
    })
    .await;
    assert_eq!(serving(&coordinator, "").await, ServingStatus::NotServing);
    assert_eq!(serving(&coordinator, "stoker.v1.QueueService").await, ServingStatus::NotServing);
    until("the reason", || async {
        let answer = fetch(&coordinator, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        answer.contains("127.0.0.1:1").then_some(())
    })
    .await;
}

#[tokio::test]
async fn reflection_lists_the_services() {
    let coordinator = Coordinator::start("").await;
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(coordinator.channel().await);
    let stream = client.server_reflection_info(tokio_stream::once(request)).await.unwrap();
    let answer = stream.into_inner().message().await.unwrap().unwrap();
    let services: BTreeSet<String> = match answer.message_response.unwrap() {
        MessageResponse::ListServicesResponse(listed) => {
            listed.service.into_iter().map(|service| service.name).collect()
        }
        other => panic!("{other:?}"),
    };
    for service in ["JobService", "WorkerService", "AdminService", "QueueService"] {
        assert!(services.contains(&format!("stoker.v1.{service}")), "{services:?}");
    }
}
