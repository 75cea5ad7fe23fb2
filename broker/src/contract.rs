//! What every broker must do, as functions over a [`Harness`]; [`contract_suite!`] makes tests.
//!
//! The suite checks promises of [`crate::traits`], not implementations: how long a broker takes to
//! notice a fault or to park a message is its own affair, within [`PATIENCE`].
//!
//! [`contract_suite!`]: crate::contract_suite

mod delivery;
mod faults;
mod settlement;
mod volume;

use std::time::Duration;

use async_trait::async_trait;
use stoker_core::ids::{DispatchSeq, JobId, ModelName, PoolName};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::error::{BrokerError, ConsumeError, PublishError};
use crate::message::{Hint, Queue, QueueDepth};
use crate::traits::{Consumer, Delivery, Publisher, Subscriber};

pub use delivery::*;
pub use faults::*;
pub use settlement::*;
pub use volume::*;

/// Longest wait for anything that must happen.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// How long nothing must happen before the suite believes that nothing will.
const SILENCE: Duration = Duration::from_millis(300);

/// One broker with one fleet on it that no other test uses.
#[async_trait]
pub trait Harness: Send + Sync {
    fn publisher(&self) -> &dyn Publisher;
    fn subscriber(&self) -> &dyn Subscriber;
    /// Breaks every connection between the clients and the broker, once.
    async fn cut_connections(&self);
    /// Messages in the fleet's parked queue.
    async fn parked(&self) -> u64;
    /// Puts arbitrary bytes into a queue, behind the publisher's back.
    async fn inject(&self, queue: &Queue, body: &[u8]) -> Support;
    /// Deletes a queue, behind the publisher's back.
    async fn delete_queue(&self, queue: &Queue) -> Support;
}

/// Whether a harness can make a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    Done,
    /// The implementation cannot get into this situation.
    Impossible,
}

/// Makes one test per promise; `$harness` is an async expression that gives a fresh [`Harness`].
#[macro_export]
macro_rules! contract_suite {
    ($harness:expr) => {
        $crate::contract_suite! { @tests $harness;
            hints_arrive_whole_and_in_order
            only_routed_messages_are_confirmed
            a_prefetch_of_zero_is_refused
            prefetch_bounds_what_is_unsettled
            a_waiting_consumer_hears_of_new_messages
            next_can_be_cancelled_at_any_time
            the_same_hint_twice_is_delivered_twice
            queues_do_not_mix
            acknowledged_messages_do_not_come_back
            a_dropped_consumer_gives_back_in_order
            a_closed_consumer_gives_back_in_order
            a_late_settlement_hits_nobody_else
            other_tasks_may_settle
            rejected_messages_are_parked
            the_delivery_limit_parks
            foreign_messages_are_parked_and_never_delivered
            clients_survive_a_lost_connection
            a_deleted_queue_is_noticed_and_declared_again
            nothing_is_lost_under_concurrency
        }
    };
    (@tests $harness:expr; $($name:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let harness = $harness.await;
            $crate::contract::$name(&harness).await;
        }
    )*};
}

/// A queue of this name.
pub fn queue(model: &str) -> Queue {
    Queue {
        pool: PoolName::new("contract").expect("a valid pool name"),
        model: ModelName::new(model).expect("tests use valid model names"),
    }
}

/// Hint number `number` for `queue`.
pub fn hint(queue: &Queue, number: usize) -> Hint {
    let number = u128::try_from(number).expect("a usize fits 128 bits");
    Hint {
        job: JobId::from_uuid(Uuid::from_u128(number)),
        seq: DispatchSeq::new(1),
        queue: queue.clone(),
        trace: Vec::new(),
    }
}

/// The number that [`hint`] was given.
pub fn number(hint: &Hint) -> usize {
    usize::try_from(hint.job.as_uuid().as_u128()).expect("test hints have small numbers")
}

/// Declares and publishes `count` hints, numbered from 0, one short run after the other.
async fn filled(harness: &dyn Harness, model: &str, count: usize) -> Queue {
    let queue = declared(harness, model).await;
    for start in (0..count).step_by(16) {
        let hints = (start..count.min(start + 16)).map(|n| hint(&queue, n)).collect();
        must_publish(harness, hints).await;
    }
    queue
}

async fn declared(harness: &dyn Harness, model: &str) -> Queue {
    let queue = queue(model);
    let declared = harness.publisher().declare(std::slice::from_ref(&queue)).await;
    declared.expect("declaring a queue works");
    queue
}

async fn must_publish(harness: &dyn Harness, hints: Vec<Hint>) {
    let outcomes = within("publish", harness.publisher().publish(hints)).await;
    let failed: Vec<&PublishError> = outcomes.iter().filter_map(|o| o.as_ref().err()).collect();
    assert!(failed.is_empty(), "every hint is confirmed: {failed:?}");
}

async fn consumer(harness: &dyn Harness, queue: &Queue, prefetch: u16) -> Box<dyn Consumer> {
    let subscribed = within("subscribe", harness.subscriber().subscribe(queue, prefetch)).await;
    subscribed.expect("subscribing to a declared queue works")
}

async fn next(consumer: &mut Box<dyn Consumer>) -> Delivery {
    within("a delivery", consumer.next()).await.expect("the consumer is alive")
}

/// The next `count` deliveries.
async fn take(consumer: &mut Box<dyn Consumer>, count: usize) -> Vec<Delivery> {
    let mut deliveries = Vec::with_capacity(count);
    for _ in 0..count {
        deliveries.push(next(consumer).await);
    }
    deliveries
}

fn numbers(deliveries: &[Delivery]) -> Vec<usize> {
    deliveries.iter().map(|delivery| number(&delivery.hint)).collect()
}

async fn ack_all(deliveries: Vec<Delivery>) {
    for delivery in deliveries {
        delivery.ack().await.expect("a held delivery can be acknowledged");
    }
}

async fn must_stay_silent(consumer: &mut Box<dyn Consumer>) {
    let delivery = timeout(SILENCE, consumer.next()).await;
    assert!(delivery.is_err(), "no delivery is due: {delivery:?}");
}

async fn must_end(consumer: &mut Box<dyn Consumer>) -> ConsumeError {
    within("the consumer to end", async {
        loop {
            if let Err(error) = consumer.next().await {
                return error;
            }
        }
    })
    .await
}

async fn depth(harness: &dyn Harness, queue: &Queue) -> Result<QueueDepth, BrokerError> {
    within("depth", harness.publisher().depth(queue)).await
}

/// Waits until the queue holds `ready` messages.
async fn settles_at(harness: &dyn Harness, queue: &Queue, ready: u64) {
    eventually(&format!("{ready} ready messages in {queue}"), async || {
        depth(harness, queue).await.is_ok_and(|depth| depth.ready == ready)
    })
    .await;
}

async fn parked_reaches(harness: &dyn Harness, count: u64) {
    eventually(&format!("{count} parked messages"), async || harness.parked().await == count).await;
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let Ok(value) = timeout(PATIENCE, future).await else {
        panic!("waited {PATIENCE:?} for {what}");
    };
    value
}

async fn eventually(what: &str, mut probe: impl AsyncFnMut() -> bool) {
    within(what, async {
        while !probe().await {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}
