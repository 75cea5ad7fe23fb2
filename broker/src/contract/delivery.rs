//! Publishing and receiving while nothing goes wrong.

use super::{
    Harness, ack_all, consumer, declared, depth, filled, hint, must_publish, must_stay_silent,
    next, number, numbers, queue, settles_at, take, within,
};
use crate::error::{BrokerError, PublishError};
use crate::message::{BrokerHealth, Hint};
use std::time::Duration;
use tokio::time::timeout;

pub async fn hints_arrive_whole_and_in_order(harness: &dyn Harness) {
    let queue = declared(harness, "whole").await;
    let sent: Vec<Hint> = (0..10)
        .map(|n| {
            let pair = |name: &str, value: String| (name.to_owned(), value);
            let trace = vec![
                pair("traceparent", format!("00-{n:032x}-{n:016x}-01")),
                pair("tracestate", format!("vendor={n}")),
            ];
            Hint { trace, ..hint(&queue, n) }
        })
        .collect();
    must_publish(harness, sent.clone()).await;
    settles_at(harness, &queue, 10).await;
    let mut consumer = consumer(harness, &queue, 10).await;
    let deliveries = take(&mut consumer, 10).await;
    let received: Vec<Hint> = deliveries.iter().map(|delivery| delivery.hint.clone()).collect();
    assert_eq!(received, sent);
    assert!(deliveries.iter().all(|delivery| !delivery.redelivered));
    ack_all(deliveries).await;
    settles_at(harness, &queue, 0).await;
    assert_eq!(harness.publisher().health(), BrokerHealth::Connected);
    assert_eq!(harness.publisher().publish(Vec::new()).await, []);
}

pub async fn only_routed_messages_are_confirmed(harness: &dyn Harness) {
    let known = declared(harness, "known").await;
    let unknown = queue("unknown");
    let is_known = |n: usize| !n.is_multiple_of(3);
    let hints = (0..300).map(|n| hint(if is_known(n) { &known } else { &unknown }, n)).collect();
    let outcomes = within("publish", harness.publisher().publish(hints)).await;
    assert_eq!(outcomes.len(), 300);
    let unroutable = Err(PublishError::Unroutable { queue: unknown.clone() });
    for (n, outcome) in outcomes.into_iter().enumerate() {
        assert_eq!(outcome, if is_known(n) { Ok(()) } else { unroutable.clone() }, "hint {n}");
    }
    settles_at(harness, &known, 200).await;
    let missing = depth(harness, &unknown).await;
    assert!(matches!(missing, Err(BrokerError::QueueMissing { .. })), "{missing:?}");
    let missing = harness.subscriber().subscribe(&unknown, 1).await;
    assert!(matches!(missing, Err(BrokerError::QueueMissing { .. })), "{missing:?}");
}

pub async fn a_prefetch_of_zero_is_refused(harness: &dyn Harness) {
    let queue = declared(harness, "zero").await;
    let refused = harness.subscriber().subscribe(&queue, 0).await;
    assert!(matches!(refused, Err(BrokerError::Config { field: "prefetch", .. })), "{refused:?}");
}

pub async fn prefetch_bounds_what_is_unsettled(harness: &dyn Harness) {
    let queue = filled(harness, "prefetch", 5).await;
    let mut consumer = consumer(harness, &queue, 2).await;
    let mut held = take(&mut consumer, 2).await;
    must_stay_silent(&mut consumer).await;
    settles_at(harness, &queue, 3).await;
    ack_all(vec![held.remove(0)]).await;
    assert_eq!(number(&next(&mut consumer).await.hint), 2);
    must_stay_silent(&mut consumer).await;
    assert_eq!(depth(harness, &queue).await.expect("the queue exists").consumers, 1);
}

pub async fn a_waiting_consumer_hears_of_new_messages(harness: &dyn Harness) {
    let queue = declared(harness, "waiting").await;
    let mut consumer = consumer(harness, &queue, 1).await;
    for n in 0..20 {
        let publish = must_publish(harness, vec![hint(&queue, n)]);
        let (delivery, ()) = tokio::join!(next(&mut consumer), publish);
        assert_eq!(number(&delivery.hint), n);
        ack_all(vec![delivery]).await;
    }
}

pub async fn next_can_be_cancelled_at_any_time(harness: &dyn Harness) {
    let queue = filled(harness, "cancel", 50).await;
    let mut consumer = consumer(harness, &queue, 50).await;
    let mut received = Vec::new();
    within("fifty deliveries", async {
        let mut polls = 0;
        while received.len() < 50 {
            // From "poll once" to a few milliseconds, so that cancelling hits every stage.
            polls = (polls + 1) % 50;
            if let Ok(delivery) = timeout(Duration::from_micros(100) * polls, consumer.next()).await
            {
                received.push(delivery.expect("the consumer is alive"));
            }
        }
    })
    .await;
    assert_eq!(numbers(&received), (0..50).collect::<Vec<_>>());
}

pub async fn the_same_hint_twice_is_delivered_twice(harness: &dyn Harness) {
    let queue = declared(harness, "twice").await;
    must_publish(harness, vec![hint(&queue, 7), hint(&queue, 7)]).await;
    must_publish(harness, vec![hint(&queue, 7)]).await;
    let mut consumer = consumer(harness, &queue, 5).await;
    let deliveries = take(&mut consumer, 3).await;
    assert_eq!(numbers(&deliveries), [7, 7, 7]);
    assert!(deliveries.iter().all(|delivery| !delivery.redelivered));
    ack_all(deliveries).await;
    must_stay_silent(&mut consumer).await;
}

pub async fn queues_do_not_mix(harness: &dyn Harness) {
    let queues: Vec<_> = (0..20).map(|n| queue(&format!("many-{n}.x"))).collect();
    harness.publisher().declare(&queues).await.expect("declaring queues works");
    harness.publisher().declare(&queues).await.expect("declaring queues again works");
    let hints = (0..100).map(|n| hint(&queues[n % 20], n)).collect();
    must_publish(harness, hints).await;
    let mut consumers = Vec::new();
    for queue in &queues {
        consumers.push(consumer(harness, queue, 5).await);
    }
    for (n, consumer) in consumers.iter_mut().enumerate() {
        let deliveries = take(consumer, 5).await;
        let mut received = numbers(&deliveries);
        received.sort_unstable();
        assert_eq!(received, [n, n + 20, n + 40, n + 60, n + 80]);
        ack_all(deliveries).await;
    }
    for queue in &queues {
        settles_at(harness, queue, 0).await;
    }
}
