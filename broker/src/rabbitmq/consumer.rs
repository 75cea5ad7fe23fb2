//! One consumer on one channel, and the settlement of what it delivers.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicRejectOptions};
use lapin::types::AMQPValue;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::live::Live;
use crate::error::{AckError, ConsumeError};
use crate::message::{Hint, Queue};
use crate::metrics;
use crate::traits::{Acker, Consumer, Delivery};
use crate::wire::{self, Malformed};

/// Longest time for an orderly goodbye.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) struct RabbitMqConsumer {
    live: Arc<Live>,
    /// Closed when this and the stream are dropped, which gives back what is unsettled.
    channel: Channel,
    stream: lapin::Consumer,
    queue: Queue,
    runtime: Handle,
    /// False from the moment this consumer ends: its deliveries are void then, even where lapin
    /// might give their channel number to somebody else.
    open: Arc<AtomicBool>,
    ended: Option<String>,
    /// Messages so far that were not hints.
    foreign: u64,
}

impl RabbitMqConsumer {
    pub(super) fn new(
        live: Arc<Live>,
        channel: Channel,
        stream: lapin::Consumer,
        queue: Queue,
        runtime: Handle,
    ) -> Self {
        let open = Arc::new(AtomicBool::new(true));
        Self { live, channel, stream, queue, runtime, open, ended: None, foreign: 0 }
    }

    fn acker(&self, acker: lapin::Acker) -> AmqpAcker {
        let (live, open) = (Arc::clone(&self.live), Arc::clone(&self.open));
        AmqpAcker { acker, live, open, queue: self.queue.clone() }
    }

    /// Moves a message that is not ours out of the way. Spawned, so that `next` stays cancel-safe.
    fn park(&mut self, acker: lapin::Acker, reason: Malformed) {
        metrics::parked(reason);
        self.foreign += 1;
        // The first, second, fourth and so on: a flood of them must not become a flood of lines.
        if self.foreign.is_power_of_two() {
            let so_far = self.foreign;
            tracing::warn!(queue = %self.queue, %reason, so_far, "parking what is not a hint");
        }
        let acker = self.acker(acker);
        drop(self.runtime.spawn(async move { Box::new(acker).reject().await }));
    }

    fn end(&mut self, why: String) -> ConsumeError {
        self.open.store(false, Ordering::Release);
        self.ended = Some(why.clone());
        ConsumeError::Lost { queue: self.queue.clone(), why }
    }
}

#[async_trait]
impl Consumer for RabbitMqConsumer {
    async fn next(&mut self) -> Result<Delivery, ConsumeError> {
        loop {
            if let Some(why) = self.ended.clone() {
                return Err(ConsumeError::Lost { queue: self.queue.clone(), why });
            }
            // Both branches are cancel-safe: a delivery stays in the stream until it is returned.
            let item = tokio::select! {
                biased;
                why = self.live.ended() => return Err(self.end(why)),
                item = self.stream.next() => item,
            };
            let delivery = match item {
                Some(Ok(delivery)) => delivery,
                Some(Err(error)) => return Err(self.end(error.to_string())),
                None => {
                    return Err(self.end(
                        "the broker cancelled it: the queue was deleted, or a message was held \
                         longer than consumer_timeout"
                            .to_owned(),
                    ));
                }
            };
            match read(&delivery, &self.queue) {
                Ok(hint) => {
                    let acker = Box::new(self.acker(delivery.acker));
                    let delivery = Delivery { hint, redelivered: delivery.redelivered, acker };
                    metrics::delivered(&delivery);
                    return Ok(delivery);
                }
                Err(reason) => self.park(delivery.acker, reason),
            }
        }
    }

    async fn close(self: Box<Self>) {
        self.open.store(false, Ordering::Release);
        let goodbye = self.channel.close(200, "consumer is done".into());
        if timeout(CLOSE_TIMEOUT, goodbye).await.is_err() {
            self.live.doubt();
        }
    }
}

impl Drop for RabbitMqConsumer {
    fn drop(&mut self) {
        self.open.store(false, Ordering::Release);
    }
}

impl fmt::Debug for RabbitMqConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitMqConsumer").field("queue", &self.queue).finish_non_exhaustive()
    }
}

fn read(delivery: &lapin::message::Delivery, queue: &Queue) -> Result<Hint, Malformed> {
    let mut hint = wire::decode(&delivery.data, queue)?;
    if let Some(headers) = delivery.properties.headers() {
        let pairs = headers.into_iter().filter_map(|(name, value)| match value {
            AMQPValue::LongString(value) => {
                Some((name.as_str(), std::str::from_utf8(value.as_bytes()).ok()?))
            }
            AMQPValue::ShortString(value) => Some((name.as_str(), value.as_str())),
            _ => None,
        });
        hint.trace = wire::carried_trace(pairs);
    }
    Ok(hint)
}

struct AmqpAcker {
    acker: lapin::Acker,
    live: Arc<Live>,
    open: Arc<AtomicBool>,
    queue: Queue,
}

impl AmqpAcker {
    async fn settle(
        &self,
        request: impl Future<Output = Result<bool, lapin::Error>> + Send,
    ) -> Result<(), AckError> {
        if !self.open.load(Ordering::Acquire) {
            return Err(AckError::Gone);
        }
        let after = self.live.request_timeout();
        match timeout(after, request).await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false) | Err(_)) => Err(AckError::Gone),
            Err(_) => {
                self.live.doubt();
                Err(AckError::TimedOut { after })
            }
        }
    }
}

#[async_trait]
impl Acker for AmqpAcker {
    async fn ack(self: Box<Self>) -> Result<(), AckError> {
        self.settle(self.acker.ack(BasicAckOptions::default())).await
    }

    async fn reject(self: Box<Self>) -> Result<(), AckError> {
        self.settle(self.acker.reject(BasicRejectOptions { requeue: false })).await
    }
}

impl fmt::Debug for AmqpAcker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AmqpAcker").field("queue", &self.queue).finish_non_exhaustive()
    }
}
