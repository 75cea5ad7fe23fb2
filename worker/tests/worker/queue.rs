//! The embedded queue over the coordinator's port keeps the broker's contract.

use stoker_broker::{AckError, BrokerError, Consumer, Publisher, Subscriber};
use stoker_proto::client::endpoint;
use stoker_worker::link::Link;
use stoker_worker::queue::RemoteSubscriber;

use crate::fake::Fake;
use crate::rig::{Rig, until};

fn subscriber(rig: &Rig) -> RemoteSubscriber {
    let coordinator = endpoint(&format!("http://{}", rig.coordinator)).unwrap();
    RemoteSubscriber::new(Link::new(&coordinator, None).calls())
}

async fn consumer(rig: &Rig, prefetch: u16) -> Box<dyn Consumer> {
    subscriber(rig).subscribe(&Fake::queue(rig.model), prefetch).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deliveries_arrive_in_order_within_the_prefetch_and_are_settled() {
    let rig = Rig::new("remote-order").await;
    let jobs = [rig.submit(&["a"]).await, rig.submit(&["b"]).await, rig.submit(&["c"]).await];
    let mut consumer = consumer(&rig, 2).await;
    let first = consumer.next().await.unwrap();
    let second = consumer.next().await.unwrap();
    assert_eq!([first.hint.job, second.hint.job], jobs[..2]);
    assert!(!first.redelivered);
    let ready = async || rig.depth().await.ready;
    assert_eq!(ready().await, 1, "the third waits for room");
    first.ack().await.unwrap();
    let third = consumer.next().await.unwrap();
    assert_eq!(third.hint.job, jobs[2]);
    second.reject().await.unwrap();
    let parked = async || rig.fake.broker.parked();
    let parked = until("the second is parked", parked, |parked| parked.len() == 1).await;
    assert_eq!(parked[0].job, jobs[1]);
    consumer.close().await;
    until("the third is back", ready, |ready| *ready == 1).await;
    assert_eq!(third.ack().await, Err(AckError::Gone));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_settled_is_redelivered() {
    let rig = Rig::new("remote-again").await;
    let job = rig.submit(&["a"]).await;
    let mut first = consumer(&rig, 1).await;
    drop(first.next().await.unwrap());
    drop(first);
    let mut second = consumer(&rig, 1).await;
    let delivery = second.next().await.unwrap();
    assert_eq!(delivery.hint.job, job);
    assert!(delivery.redelivered);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_of_the_stream_ends_the_consumer_for_good() {
    let rig = Rig::new("remote-end").await;
    let mut consumer = consumer(&rig, 1).await;
    until("it consumes", async || rig.depth().await.consumers, |n| *n == 1).await;
    rig.fake.broker.disconnect_consumers();
    let first = consumer.next().await.unwrap_err();
    assert_eq!(consumer.next().await.unwrap_err(), first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_opened_says_why() {
    let rig = Rig::new("remote-missing").await;
    let subscriber = subscriber(&rig);
    let missing = subscriber.subscribe(&Fake::queue("no-such-model"), 1).await.unwrap_err();
    assert!(matches!(missing, BrokerError::QueueMissing { .. }), "{missing}");
    let queue = Fake::queue(rig.model);
    rig.fake.broker.declare(std::slice::from_ref(&queue)).await.unwrap();
    let zero = subscriber.subscribe(&queue, 0).await.unwrap_err();
    assert!(matches!(zero, BrokerError::Config { field: "prefetch", .. }), "{zero}");
}
