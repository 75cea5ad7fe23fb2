//! The queue: topology as data, and its RabbitMQ and embedded implementations.
//!
//! A message is a hint that a job may be claimed, never the truth about it: it may be lost,
//! duplicated, late or out of order, and the store repairs all of these. What the traits promise
//! is therefore modest and exact: a confirmed publish was routed to its queue, an unsettled
//! delivery comes back, and nothing waits without a bound. [`contract`] holds every
//! implementation to the same suite.

#[cfg(any(test, feature = "contract"))]
pub mod contract;
pub mod embedded;
pub mod error;
pub mod message;
pub mod metrics;
pub mod rabbitmq;
pub mod topology;
pub mod traits;

mod wire;

pub use embedded::{EmbeddedBroker, EmbeddedLimits};
pub use error::{AckError, BrokerError, ConsumeError, PublishError};
pub use message::{BrokerHealth, Hint, Queue, QueueDepth};
pub use rabbitmq::{BrokerUri, RabbitMqConfig, RabbitMqPublisher, RabbitMqSubscriber};
pub use traits::{Acker, Consumer, Delivery, Publisher, Subscriber};
