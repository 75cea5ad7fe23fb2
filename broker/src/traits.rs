//! The seam: what every broker implementation promises, verb by verb.
//!
//! [`crate::contract`] checks these promises on each of them.

use std::fmt;

use async_trait::async_trait;

use crate::error::{AckError, BrokerError, ConsumeError, PublishError};
use crate::message::{BrokerHealth, Hint, Queue, QueueDepth};

/// Puts hints into queues. One per coordinator; cheap to share.
#[async_trait]
pub trait Publisher: Send + Sync + fmt::Debug {
    /// Makes sure that these queues exist, now and after every reconnect. Idempotent.
    ///
    /// # Errors
    /// `Disconnected`, `Lost`, `TimedOut`: the queues are remembered and declared as soon as a
    /// connection stands. `Conflict`, `Forbidden`, `Refused`: an operator must act; the other
    /// queues of the call were declared.
    async fn declare(&self, queues: &[Queue]) -> Result<(), BrokerError>;

    /// Publishes and waits for the broker's confirms; one outcome per hint, in order.
    ///
    /// `Ok` means that the broker stored this very message in its queue. Every error means "not
    /// known to be there": publish the hint again. Takes at most the publish timeout, whatever the
    /// broker does. A short run of hints reaches its queue in the order given; overlapping calls
    /// and long runs mix.
    ///
    /// # Errors
    /// See [`PublishError`]; `Disconnected`, `Blocked` and `Stuck` come at once, without
    /// waiting.
    async fn publish(&self, hints: Vec<Hint>) -> Vec<Result<(), PublishError>>;

    /// Ready messages and consumers of one queue, as the broker knows them at this moment.
    ///
    /// # Errors
    /// `QueueMissing` for a queue that nobody declared; otherwise as [`Publisher::declare`].
    async fn depth(&self, queue: &Queue) -> Result<QueueDepth, BrokerError>;

    /// What the connection knows, without asking the broker.
    fn health(&self) -> BrokerHealth;
}

/// Opens consumers. Keep it as long as its consumers: dropping it ends them.
#[async_trait]
pub trait Subscriber: Send + Sync + fmt::Debug {
    /// Starts to consume; at most `prefetch` deliveries are unsettled at a time.
    ///
    /// # Errors
    /// `Config` for a prefetch of 0. `QueueMissing` until the coordinator has declared the queue.
    /// Any other error: try again with backoff.
    async fn subscribe(
        &self,
        queue: &Queue,
        prefetch: u16,
    ) -> Result<Box<dyn Consumer>, BrokerError>;
}

/// Receives the deliveries of one queue. Dropping it gives back what is unsettled.
#[async_trait]
pub trait Consumer: Send + fmt::Debug {
    /// The next delivery; waits while there is none or the prefetch is used up. Cancel-safe.
    ///
    /// # Errors
    /// After an error the consumer is finished: drop it and every delivery it gave, and subscribe
    /// anew with backoff. It says the same again when asked again.
    async fn next(&mut self) -> Result<Delivery, ConsumeError>;

    /// Ends consuming; unsettled deliveries go back to the head of the queue, in order.
    async fn close(self: Box<Self>);
}

/// Settles one delivery, from any task.
#[async_trait]
pub trait Acker: Send + fmt::Debug {
    /// See [`Delivery::ack`].
    async fn ack(self: Box<Self>) -> Result<(), AckError>;
    /// See [`Delivery::reject`].
    async fn reject(self: Box<Self>) -> Result<(), AckError>;
}

/// One hand-over of a message. Dropping it settles nothing: the message goes back when its
/// consumer ends.
#[derive(Debug)]
pub struct Delivery {
    pub hint: Hint,
    /// The message was handed out before, perhaps without reaching any caller.
    pub redelivered: bool,
    /// What settles it; a relay may take it apart from the rest.
    pub acker: Box<dyn Acker>,
}

impl Delivery {
    /// Removes the message from the queue.
    ///
    /// # Errors
    /// The message will be delivered again. `Ok` is no proof of the contrary: a broker that dies
    /// now may have forgotten.
    pub async fn ack(self) -> Result<(), AckError> {
        self.acker.ack().await
    }

    /// Moves the message to the parked queue, for a hint that makes no sense.
    ///
    /// # Errors
    /// As [`Delivery::ack`].
    pub async fn reject(self) -> Result<(), AckError> {
        self.acker.reject().await
    }
}
