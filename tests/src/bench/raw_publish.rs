//! The yardstick: persistent publishes to a quorum queue, confirmed, with lapin and nothing else.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use lapin::options::{
    BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};

use super::sample::Sample;

const QUEUE: &str = "stoker-bench.raw-publish";

/// Publishes bodies of `bytes` with `in_flight` unconfirmed at a time for `duration`.
///
/// # Errors
/// When the broker fails, or does not hold what it confirmed.
pub async fn run(
    uri: &str,
    bytes: usize,
    in_flight: usize,
    duration: Duration,
) -> anyhow::Result<Sample> {
    let connection = Connection::connect(uri, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(QUEUE.into(), durable, arguments.clone()).await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;

    let body = vec![b'x'; bytes];
    let warm_up = publish_for(&channel, &body, in_flight, Duration::from_secs(2)).await?;
    let sample = publish_for(&channel, &body, in_flight, duration).await?;

    let queue = channel.queue_declare(QUEUE.into(), durable, arguments).await?;
    let confirmed = warm_up.count() + sample.count();
    let held = u64::from(queue.message_count());
    channel.queue_delete(QUEUE.into(), QueueDeleteOptions::default()).await?;
    ensure!(held == confirmed, "the queue holds {held} messages of {confirmed} confirmed");
    Ok(sample)
}

async fn publish_for(
    channel: &Channel,
    body: &[u8],
    in_flight: usize,
    duration: Duration,
) -> anyhow::Result<Sample> {
    let mut sample = Sample::new();
    let deadline = Instant::now() + duration;
    let mut flying = FuturesUnordered::new();
    loop {
        while flying.len() < in_flight && Instant::now() < deadline {
            flying.push(publish_one(channel, body));
        }
        match flying.next().await {
            Some(began) => sample.note(began?),
            None => return Ok(sample),
        }
    }
}

async fn publish_one(channel: &Channel, body: &[u8]) -> anyhow::Result<Instant> {
    let began = Instant::now();
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let properties = BasicProperties::default().with_delivery_mode(2);
    let confirm = channel.basic_publish("".into(), QUEUE.into(), options, body, properties).await?;
    match confirm.await.context("waiting for a confirm")? {
        Confirmation::Ack(None) => Ok(began),
        other => anyhow::bail!("not confirmed: {other:?}"),
    }
}
