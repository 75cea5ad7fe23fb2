//! `QueueService`: the embedded broker for worker processes that use the coordinator's port.

use std::collections::BTreeMap;
use std::sync::Arc;

use stoker_broker::{Acker, Consumer, Delivery, Subscriber};
use stoker_proto::status::{self, FieldViolation, Reason};
use stoker_proto::v1;
use stoker_proto::v1::consume_request::Request as Asked;
use stoker_proto::v1::queue_service_server::QueueService;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::context::Context;
use crate::store::Lane;

use super::errors;
use super::jobs::submit::names;
use super::streams::{self, Sink, Stop, StreamKind};

const MAX_PREFETCH: u32 = 1_000;

/// Deliveries that wait for the client; unsettled ones are bounded by the prefetch anyway.
const BACKLOG: usize = 16;

/// The service.
#[derive(Debug)]
pub(super) struct Queue {
    context: Arc<Context>,
}

impl Queue {
    pub(super) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }
}

#[tonic::async_trait]
impl QueueService for Queue {
    type ConsumeStream = ReceiverStream<Result<v1::ConsumeResponse, Status>>;

    async fn consume(
        &self,
        request: Request<Streaming<v1::ConsumeRequest>>,
    ) -> Result<Response<Self::ConsumeStream>, Status> {
        let context = &self.context;
        let Some(broker) = context.broker.embedded() else {
            return Err(status::failed_precondition(
                Reason::BrokerNotEmbedded,
                "the coordinator's queue",
                format!("this fleet's broker is {}", context.broker.name()),
                "start the worker with the broker's URI in STOKER_BROKER_URI, as the coordinator",
            ));
        };
        let mut inbound = request.into_inner();
        let first = inbound.message().await?.and_then(|first| first.request);
        let (lane, prefetch) = match first {
            Some(Asked::Open(open)) => opened(context, &open)?,
            Some(Asked::Settle(_)) | None => {
                return Err(status::invalid_field(
                    "open",
                    "is missing: the first request opens a consumer",
                ));
            }
        };
        let slot = context.stream_slots.open(StreamKind::Consume)?;
        let consumer =
            broker.subscribe(&lane, prefetch).await.map_err(|error| errors::internal(&error))?;
        Ok(Response::new(streams::spawn(&context.streams, slot, BACKLOG, move |sink| {
            relay(consumer, inbound, sink)
        })))
    }
}

/// Which queue, and how many deliveries at once.
fn opened(context: &Context, open: &v1::OpenConsumer) -> Result<(Lane, u16), Status> {
    let pool = context.fleet.pools.get_key_value(open.pool.as_str());
    let Some((pool, served)) = pool else {
        let known = names(context.fleet.pools.keys());
        let problem = format!("this fleet has no pool `{}`; it has: {known}", open.pool);
        return Err(status::invalid_field("open.pool", problem));
    };
    let Some(model) = served.models.iter().find(|model| model.as_str() == open.model) else {
        let known = names(served.models.iter());
        let problem =
            format!("the pool `{pool}` does not serve `{}`; it serves: {known}", open.model);
        return Err(status::invalid_field("open.model", problem));
    };
    let prefetch = u16::try_from(open.prefetch)
        .ok()
        .filter(|prefetch| (1..=MAX_PREFETCH).contains(&u32::from(*prefetch)));
    let Some(prefetch) = prefetch else {
        let problem = format!("is {}: ask for 1 to {MAX_PREFETCH}", open.prefetch);
        return Err(status::invalid_field("open.prefetch", problem));
    };
    Ok((Lane { pool: pool.clone(), model: model.clone() }, prefetch))
}

/// Hands deliveries out and settlements in. What is unsettled at the end goes back to the queue.
async fn relay(
    mut consumer: Box<dyn Consumer>,
    mut inbound: Streaming<v1::ConsumeRequest>,
    sink: Sink<v1::ConsumeResponse>,
) -> Result<(), Stop> {
    let mut unsettled: BTreeMap<u64, Box<dyn Acker>> = BTreeMap::new();
    let mut last_tag = 0;
    loop {
        // Each branch is cancel-safe: a place in the sink that is not used is given back, and the
        // streams lose nothing when their next item is not taken.
        tokio::select! {
            settlement = inbound.next() => match settlement {
                Some(Ok(request)) => settle(request, &mut unsettled).await?,
                // The client half-closed or broke off: it can settle nothing any more.
                Some(Err(_)) | None => return Ok(()),
            },
            delivery = next(&mut consumer, &sink) => {
                last_tag += 1;
                let (place, delivery) = delivery?;
                let Delivery { hint, redelivered, acker } = delivery;
                unsettled.insert(last_tag, acker);
                place.send(Ok(v1::ConsumeResponse {
                    tag: last_tag,
                    job_id: hint.job.to_string(),
                    dispatch_seq: hint.seq.number(),
                    redelivered,
                    trace: hint.trace.into_iter().collect(),
                }));
            }
        }
    }
}

type Place<'a> = tokio::sync::mpsc::Permit<'a, Result<v1::ConsumeResponse, Status>>;

/// The next delivery, and a place to put it.
async fn next<'a>(
    consumer: &mut Box<dyn Consumer>,
    sink: &'a Sink<v1::ConsumeResponse>,
) -> Result<(Place<'a>, Delivery), Stop> {
    let place = sink.reserve().await.map_err(|_| Stop::Gone)?;
    let delivery = consumer.next().await.map_err(|error| {
        let retry_after = std::time::Duration::from_millis(100);
        status::unavailable(Reason::BrokerUnavailable, error, retry_after)
    })?;
    Ok((place, delivery))
}

async fn settle(
    request: v1::ConsumeRequest,
    unsettled: &mut BTreeMap<u64, Box<dyn Acker>>,
) -> Result<(), Stop> {
    let settle = match request.request {
        Some(Asked::Settle(settle)) => settle,
        Some(Asked::Open(_)) => return refuse("open", "the consumer of this stream is open"),
        None => return refuse("request", "is missing: settle a delivery"),
    };
    let Some(acker) = unsettled.remove(&settle.tag) else {
        return refuse("settle.tag", "is not of an unsettled delivery of this stream");
    };
    let settled = if settle.ack { acker.ack().await } else { acker.reject().await };
    if let Err(error) = settled {
        // It comes again, and claims make that harmless.
        tracing::debug!(%error, "a delivery of the embedded broker could not be settled");
    }
    Ok(())
}

fn refuse(field: &str, problem: &str) -> Result<(), Stop> {
    Err(status::invalid(&[FieldViolation::new(field, problem)]).into())
}
