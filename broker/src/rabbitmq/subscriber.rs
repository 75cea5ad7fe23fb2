//! The subscriber: one connection, one channel per consumer.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;

use super::config::RabbitMqConfig;
use super::consumer::RabbitMqConsumer;
use super::failure::{self, bounded};
use super::link::{Link, Patience, Prepare};
use super::live::Live;
use crate::error::BrokerError;
use crate::message::{BrokerHealth, Queue};
use crate::metrics::Role;
use crate::topology::Topology;
use crate::traits::{Consumer, Subscriber};

/// Opens consumers on RabbitMQ over one connection that is kept up.
#[derive(Debug)]
pub struct RabbitMqSubscriber {
    link: Link,
    topology: Topology,
    connect_timeout: Duration,
}

/// Consumers need nothing from a new connection; they are made anew by their owners.
struct Nothing;

#[async_trait]
impl Prepare for Nothing {
    async fn prepare(&self, _live: &Arc<Live>) -> Result<(), BrokerError> {
        Ok(())
    }

    fn attend(self: Arc<Self>, _live: &Arc<Live>) {}
}

impl RabbitMqSubscriber {
    /// Starts to connect, and goes on trying; see [`super::RabbitMqPublisher::start`].
    ///
    /// # Errors
    /// `Config` for a setting out of range, `Thread` when the system gives no thread.
    pub fn start(config: RabbitMqConfig) -> Result<Self, BrokerError> {
        config.check()?;
        let topology = Topology::new(&config.fleet);
        let connect_timeout = config.connect_timeout;
        let link = Link::start(config, Role::Consume, Arc::new(Nothing))?;
        Ok(Self { link, topology, connect_timeout })
    }

    /// Waits until a connection stands.
    ///
    /// # Errors
    /// The last failure, when there is no connection within `limit`, or sooner when only an
    /// operator can help.
    pub async fn ready(&self, limit: Duration) -> Result<(), BrokerError> {
        self.link.wait_live(limit, Patience::UntilHopeless).await.map(drop)
    }

    /// What the connection knows, without asking the broker.
    pub fn health(&self) -> BrokerHealth {
        self.link.health()
    }
}

#[async_trait]
impl Subscriber for RabbitMqSubscriber {
    async fn subscribe(
        &self,
        queue: &Queue,
        prefetch: u16,
    ) -> Result<Box<dyn Consumer>, BrokerError> {
        BrokerError::check_prefetch(prefetch)?;
        let live = self.link.wait_live(self.connect_timeout, Patience::UntilLimit).await?;
        let limit = live.request_timeout();
        let channel = live.open_channel().await?;
        let qos = channel.basic_qos(prefetch, BasicQosOptions::default());
        bounded("setting the prefetch", limit, qos)
            .await
            .inspect_err(|error| live.doubt_after(error))?;
        let consume = async {
            let name = self.topology.queue_name(queue).into();
            let options = BasicConsumeOptions::default();
            let started =
                channel.basic_consume(name, "".into(), options, FieldTable::default()).await;
            match started {
                Ok(stream) => Ok(Some(stream)),
                Err(error) if failure::is_not_found(&error) => Ok(None),
                Err(error) => Err(error),
            }
        };
        let stream = bounded(&format!("consuming queue {queue}"), limit, consume)
            .await
            .inspect_err(|error| live.doubt_after(error))?;
        let Some(stream) = stream else {
            return Err(BrokerError::QueueMissing { queue: queue.clone() });
        };
        let runtime = self.link.handle().clone();
        let consumer = RabbitMqConsumer::new(live, channel, stream, queue.clone(), runtime);
        Ok(Box::new(consumer))
    }
}
