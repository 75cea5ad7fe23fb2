//! What the clients make of a broker, and of messages, that misbehave.

use super::{
    Harness, Support, ack_all, consumer, declared, eventually, filled, hint, must_end,
    must_publish, must_stay_silent, next, number, numbers, parked_reaches, settles_at, take,
    within,
};
use crate::error::{AckError, PublishError};
use crate::message::BrokerHealth;

pub async fn foreign_messages_are_parked_and_never_delivered(harness: &dyn Harness) {
    let queue = declared(harness, "foreign").await;
    let long = vec![b' '; 100_000];
    let misrouted =
        br#"{"v":1,"job":"00000000-0000-0000-0000-000000000001","seq":1,"pool":"p","model":"m"}"#;
    let bodies: [&[u8]; 6] = [b"", b"hello", b"{\"v\":2}", &[0xff; 20], misrouted, long.as_slice()];
    for body in bodies {
        if harness.inject(&queue, body).await == Support::Impossible {
            return;
        }
    }
    must_publish(harness, vec![hint(&queue, 3)]).await;
    // One place at a time: every foreign message must free its place by itself.
    let mut consumer = consumer(harness, &queue, 1).await;
    let deliveries = take(&mut consumer, 1).await;
    assert_eq!(numbers(&deliveries), [3]);
    ack_all(deliveries).await;
    parked_reaches(harness, 6).await;
    must_stay_silent(&mut consumer).await;
    settles_at(harness, &queue, 0).await;
}

pub async fn clients_survive_a_lost_connection(harness: &dyn Harness) {
    let queue = filled(harness, "cut", 3).await;
    let mut lost = consumer(harness, &queue, 2).await;
    let held = take(&mut lost, 2).await;
    harness.cut_connections().await;
    let error = must_end(&mut lost).await;
    assert_eq!(must_end(&mut lost).await, error, "a finished consumer says so again");
    for delivery in held {
        assert_eq!(delivery.ack().await, Err(AckError::Gone));
    }
    drop(lost);

    // The publisher recovers by itself; until then it says that nothing is confirmed.
    let mut attempt = 2;
    eventually("the publisher to recover", async || {
        attempt += 1;
        let outcomes = harness.publisher().publish(vec![hint(&queue, attempt)]);
        within("publish", outcomes).await == [Ok(())]
    })
    .await;
    assert_eq!(harness.publisher().health(), BrokerHealth::Connected);

    let mut again = None;
    eventually("a new consumer", async || {
        again = harness.subscriber().subscribe(&queue, 50).await.ok();
        again.is_some()
    })
    .await;
    let mut again = again.expect("waited for it");
    let deliveries = take(&mut again, 3).await;
    assert_eq!(numbers(&deliveries), [0, 1, 2]);
    assert!(deliveries[0].redelivered && deliveries[1].redelivered);
    ack_all(deliveries).await;
    // Publishes that were not confirmed may have arrived; the confirmed one must have.
    loop {
        let delivery = next(&mut again).await;
        let confirmed = number(&delivery.hint) == attempt;
        ack_all(vec![delivery]).await;
        if confirmed {
            break;
        }
    }
    settles_at(harness, &queue, 0).await;
}

pub async fn a_deleted_queue_is_noticed_and_declared_again(harness: &dyn Harness) {
    let queue = filled(harness, "deleted", 2).await;
    let mut lost = consumer(harness, &queue, 1).await;
    if harness.delete_queue(&queue).await == Support::Impossible {
        return;
    }
    must_end(&mut lost).await;
    let outcomes = within("publish", harness.publisher().publish(vec![hint(&queue, 5)])).await;
    assert_eq!(outcomes, [Err(PublishError::Unroutable { queue: queue.clone() })]);
    eventually("the queue to be declared again", async || {
        let outcomes = harness.publisher().publish(vec![hint(&queue, 6)]).await;
        outcomes == [Ok(())]
    })
    .await;
    let deliveries = take(&mut consumer(harness, &queue, 2).await, 1).await;
    assert_eq!(numbers(&deliveries), [6]);
}
