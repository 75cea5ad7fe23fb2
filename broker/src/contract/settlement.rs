//! What becomes of a delivery: acknowledged, given back, rejected, or settled too late.

use super::{
    Harness, ack_all, consumer, depth, filled, must_stay_silent, next, number, numbers,
    parked_reaches, settles_at, take,
};
use crate::error::AckError;
use crate::topology::DELIVERY_LIMIT;
use crate::traits::Delivery;

pub async fn acknowledged_messages_do_not_come_back(harness: &dyn Harness) {
    let queue = filled(harness, "acked", 4).await;
    let mut first = consumer(harness, &queue, 4).await;
    let mut held = take(&mut first, 4).await;
    ack_all(vec![held.remove(2), held.remove(0)]).await;
    // Acknowledgements reach the broker before the goodbye of the same consumer.
    first.close().await;
    let mut second = consumer(harness, &queue, 4).await;
    let deliveries = take(&mut second, 2).await;
    assert_eq!(numbers(&deliveries), [1, 3]);
    ack_all(deliveries).await;
    must_stay_silent(&mut second).await;
}

pub async fn a_dropped_consumer_gives_back_in_order(harness: &dyn Harness) {
    let queue = filled(harness, "dropped", 5).await;
    let mut first = consumer(harness, &queue, 3).await;
    let held = take(&mut first, 3).await;
    drop(first);
    settles_at(harness, &queue, 5).await;
    comes_back(&held, &take(&mut consumer(harness, &queue, 5).await, 5).await);
}

pub async fn a_closed_consumer_gives_back_in_order(harness: &dyn Harness) {
    let queue = filled(harness, "closed", 5).await;
    let mut first = consumer(harness, &queue, 3).await;
    let held = take(&mut first, 3).await;
    first.close().await;
    settles_at(harness, &queue, 5).await;
    assert_eq!(depth(harness, &queue).await.expect("the queue exists").consumers, 0);
    comes_back(&held, &take(&mut consumer(harness, &queue, 5).await, 5).await);
}

fn comes_back(held: &[Delivery], again: &[Delivery]) {
    assert_eq!(numbers(held), [0, 1, 2]);
    assert!(held.iter().all(|delivery| !delivery.redelivered));
    assert_eq!(numbers(again), [0, 1, 2, 3, 4]);
    assert!(again[..3].iter().all(|delivery| delivery.redelivered));
}

pub async fn a_late_settlement_hits_nobody_else(harness: &dyn Harness) {
    let queue = filled(harness, "late", 4).await;
    let mut first = consumer(harness, &queue, 4).await;
    let held = take(&mut first, 4).await;
    drop(first);
    let mut second = consumer(harness, &queue, 4).await;
    let again = take(&mut second, 4).await;
    for (n, late) in held.into_iter().enumerate() {
        let settled = if n % 2 == 0 { late.ack().await } else { late.reject().await };
        assert_eq!(settled, Err(AckError::Gone), "delivery {n} of the dropped consumer");
    }
    drop((second, again));
    let mut third = consumer(harness, &queue, 4).await;
    let deliveries = take(&mut third, 4).await;
    assert_eq!(numbers(&deliveries), [0, 1, 2, 3]);
    ack_all(deliveries).await;
    settles_at(harness, &queue, 0).await;
    assert_eq!(harness.parked().await, 0);
}

pub async fn other_tasks_may_settle(harness: &dyn Harness) {
    let queue = filled(harness, "elsewhere", 30).await;
    let mut consumer = consumer(harness, &queue, 2).await;
    let (tx, mut rx) = tokio::sync::mpsc::channel::<Delivery>(30);
    let receive = async move {
        for n in 0..30 {
            let delivery = next(&mut consumer).await;
            assert_eq!(number(&delivery.hint), n);
            tx.send(delivery).await.expect("the other task receives until the end");
        }
        consumer
    };
    let settle = async {
        while let Some(delivery) = rx.recv().await {
            delivery.acker.ack().await.expect("a held delivery can be acknowledged");
        }
    };
    let (consumer, ()) = tokio::join!(receive, settle);
    consumer.close().await;
    settles_at(harness, &queue, 0).await;
}

pub async fn rejected_messages_are_parked(harness: &dyn Harness) {
    let queue = filled(harness, "rejected", 3).await;
    let mut consumer = consumer(harness, &queue, 3).await;
    for delivery in take(&mut consumer, 3).await {
        if number(&delivery.hint) == 1 {
            delivery.ack().await.expect("a held delivery can be acknowledged");
        } else {
            delivery.reject().await.expect("a held delivery can be rejected");
        }
    }
    parked_reaches(harness, 2).await;
    settles_at(harness, &queue, 0).await;
    must_stay_silent(&mut consumer).await;
}

pub async fn the_delivery_limit_parks(harness: &dyn Harness) {
    let queue = filled(harness, "poison", 1).await;
    for round in 0..=DELIVERY_LIMIT {
        let mut consumer = consumer(harness, &queue, 1).await;
        let delivery = next(&mut consumer).await;
        assert_eq!(delivery.redelivered, round > 0, "round {round}");
        consumer.close().await;
    }
    parked_reaches(harness, 1).await;
    settles_at(harness, &queue, 0).await;
    must_stay_silent(&mut consumer(harness, &queue, 1).await).await;
}
