//! Many hands at once.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;
use tokio::sync::Mutex;

use super::{Harness, consumer, declared, hint, must_publish, next, number, settles_at};

pub async fn nothing_is_lost_under_concurrency(harness: &dyn Harness) {
    const PUBLISHERS: usize = 4;
    const CONSUMERS: usize = 4;
    const EACH: usize = 500;
    const TOTAL: usize = PUBLISHERS * EACH;
    let queue = declared(harness, "volume").await;
    let received = Mutex::new(BTreeSet::new());
    let claimed = AtomicUsize::new(0);

    let publish = join_all((0..PUBLISHERS).map(async |publisher| {
        let mine: Vec<usize> = (0..EACH).map(|n| n * PUBLISHERS + publisher).collect();
        // Single hints, short runs and long ones.
        for run in
            mine[..50].chunks(1).chain(mine[50..200].chunks(7)).chain(mine[200..].chunks(150))
        {
            must_publish(harness, run.iter().map(|n| hint(&queue, *n)).collect()).await;
        }
    }));
    let consume = join_all((0..CONSUMERS).map(async |_| {
        let mut consumer = consumer(harness, &queue, 16).await;
        while claimed.fetch_add(1, Ordering::Relaxed) < TOTAL {
            let delivery = next(&mut consumer).await;
            let fresh = received.lock().await.insert(number(&delivery.hint));
            // It may say "redelivered": a consumer that was done gave back what it had not looked at.
            assert!(fresh, "{:?} was acknowledged before", delivery.hint);
            delivery.ack().await.expect("a held delivery can be acknowledged");
        }
        consumer.close().await;
    }));
    tokio::join!(publish, consume);
    assert_eq!(received.into_inner().len(), TOTAL);
    settles_at(harness, &queue, 0).await;
}
