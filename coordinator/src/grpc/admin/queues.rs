//! Queues for operators: what waits, for how long, and who could take it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use stoker_broker::Publisher;
use stoker_core::job::StateKind;
use stoker_proto::convert;
use stoker_proto::v1;
use tokio::time::timeout;
use tonic::Status;

use crate::context::Context;
use crate::grpc::errors;
use crate::store::{Counts, Lane};

/// A status page does not wait longer for a broker.
const BROKER_LIMIT: Duration = Duration::from_millis(500);

/// The fleet's queues, and those that hold jobs though the file no longer names them.
pub(super) async fn list(context: &Context) -> Result<Vec<v1::Queue>, Status> {
    let counts = context.store.counts();
    let publisher = context.broker.publisher();
    let mut lanes = context.lanes();
    lanes.extend(counts.lanes().into_iter().filter(|lane| counts.of_lane(lane).open() > 0));
    let lanes: BTreeSet<Lane> = lanes.into_iter().collect();
    let queues = lanes.iter().map(|lane| queue(context, lane, &counts, &publisher));
    join_all(queues).await.into_iter().collect()
}

async fn queue(
    context: &Context,
    lane: &Lane,
    counts: &Counts,
    publisher: &Arc<dyn Publisher>,
) -> Result<v1::Queue, Status> {
    let of_lane = counts.of_lane(lane);
    let slots = context.registry.slots(lane);
    let oldest = context.store.oldest_waiting(lane.clone()).await.map_err(errors::store)?;
    let depth = timeout(BROKER_LIMIT, publisher.depth(lane)).await;
    Ok(v1::Queue {
        pool: lane.pool.to_string(),
        model: lane.model.to_string(),
        queued: of_lane.get(StateKind::Queued),
        dispatched: of_lane.get(StateKind::Dispatched),
        leased: of_lane.get(StateKind::Leased),
        retry_wait: of_lane.get(StateKind::RetryWait),
        oldest_age: oldest.map(|at| convert::wire_duration(context.now().since(at))),
        slots,
        window: context.throughput.window(lane, slots),
        broker_messages: depth.ok().and_then(Result::ok).map(|depth| depth.ready),
    })
}
