//! The embedded broker through the coordinator's port.

use stoker_broker::BrokerUri;
use stoker_coordinator::config::BrokerChoice;
use stoker_proto::status::{Reason, explain};
use stoker_proto::v1;
use stoker_proto::v1::consume_request::Request as Asked;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::fixture::{Coordinator, LIMIT, fields, next, refused};

struct Consumer {
    requests: mpsc::Sender<v1::ConsumeRequest>,
    deliveries: Streaming<v1::ConsumeResponse>,
}

async fn consume(coordinator: &Coordinator, first: Asked) -> Result<Consumer, Status> {
    let (requests, stream) = mpsc::channel(16);
    requests.send(v1::ConsumeRequest { request: Some(first) }).await.unwrap();
    let response = coordinator.queue().await.consume(ReceiverStream::new(stream)).await?;
    Ok(Consumer { requests, deliveries: response.into_inner() })
}

fn open(prefetch: u32) -> v1::OpenConsumer {
    v1::OpenConsumer { pool: "default".to_owned(), model: "echo".to_owned(), prefetch }
}

impl Consumer {
    async fn settle(&self, settle: v1::Settle) {
        let request = Some(Asked::Settle(settle));
        self.requests.send(v1::ConsumeRequest { request }).await.unwrap();
    }
}

#[tokio::test]
async fn deliveries_come_within_the_prefetch_and_return_when_the_stream_ends() {
    let coordinator = Coordinator::start("").await;
    let mut jobs = vec![coordinator.submit(&["1"]).await, coordinator.submit(&["2"]).await];
    let mut first = consume(&coordinator, Asked::Open(open(1))).await.unwrap();
    let delivery = next(&mut first.deliveries).await;
    assert!(jobs.contains(&delivery.job_id));
    assert!(!delivery.redelivered);
    assert_eq!(delivery.dispatch_seq, 1);
    first.settle(v1::Settle { tag: delivery.tag, ack: true }).await;
    jobs.retain(|job| *job != delivery.job_id);
    let held = next(&mut first.deliveries).await;
    assert_eq!(held.job_id, jobs[0]);
    drop(first);

    let mut second = consume(&coordinator, Asked::Open(open(10))).await.unwrap();
    let again = next(&mut second.deliveries).await;
    assert_eq!((again.job_id.as_str(), again.redelivered), (jobs[0].as_str(), true));
    second.settle(v1::Settle { tag: again.tag, ack: false }).await;
    second.settle(v1::Settle { tag: 99, ack: true }).await;
    let ended = tokio::time::timeout(LIMIT, second.deliveries.message()).await.unwrap();
    let refusal = explain(&ended.unwrap_err());
    assert_eq!(fields(&refusal), ["settle.tag"]);
}

#[tokio::test]
async fn a_consumer_must_be_opened_for_a_queue_of_the_fleet() {
    let coordinator = Coordinator::start("").await;
    for (asked, field) in [
        (Asked::Settle(v1::Settle { tag: 1, ack: true }), "open"),
        (Asked::Open(v1::OpenConsumer { pool: "gpu".to_owned(), ..open(1) }), "open.pool"),
        (Asked::Open(v1::OpenConsumer { model: "mega".to_owned(), ..open(1) }), "open.model"),
        (Asked::Open(open(0)), "open.prefetch"),
        (Asked::Open(open(1_001)), "open.prefetch"),
    ] {
        let refusal = refused(consume(&coordinator, asked).await.map(|_| ()));
        assert_eq!((refusal.code, fields(&refusal)), (Code::InvalidArgument, vec![field]));
    }
}

#[tokio::test]
async fn a_second_open_ends_the_stream() {
    let coordinator = Coordinator::start("").await;
    let mut consumer = consume(&coordinator, Asked::Open(open(1))).await.unwrap();
    let request = Some(Asked::Open(open(1)));
    consumer.requests.send(v1::ConsumeRequest { request }).await.unwrap();
    let ended = tokio::time::timeout(LIMIT, consumer.deliveries.message()).await.unwrap();
    assert_eq!(fields(&explain(&ended.unwrap_err())), ["open"]);
}

/// A RabbitMQ that nobody answers for.
async fn without_broker() -> Coordinator {
    let uri = BrokerUri::parse("amqp://user:hunter2@127.0.0.1:1").unwrap();
    let folder = tempfile::tempdir().unwrap();
    Coordinator::start_in(folder, "", BrokerChoice::RabbitMq(uri)).await
}

#[tokio::test]
async fn with_rabbitmq_workers_are_sent_there() {
    let coordinator = without_broker().await;
    let refusal = refused(consume(&coordinator, Asked::Open(open(1))).await.map(|_| ()));
    assert_eq!(refusal.code, Code::FailedPrecondition);
    assert_eq!(refusal.reason, Some(Reason::BrokerNotEmbedded));
    assert!(refusal.message.contains("STOKER_BROKER_URI"), "{refusal}");
}

#[tokio::test]
async fn without_its_broker_a_coordinator_accepts_jobs_and_says_what_they_wait_for() {
    let coordinator = without_broker().await;
    let job = coordinator.submit(&["a"]).await;
    let waiting_for = coordinator.ask(&job).await.waiting_for;
    assert!(waiting_for.starts_with("the broker, which is not available"), "{waiting_for}");
    let status = coordinator.admin().await.fleet_status(v1::FleetStatusRequest {}).await;
    let status = status.unwrap().into_inner();
    assert_eq!(status.broker, "rabbitmq");
    assert!(!status.broker_problem.is_empty() && !status.broker_problem.contains("hunter2"));
}
