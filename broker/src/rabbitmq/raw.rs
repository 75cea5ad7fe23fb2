//! What the contract suite must do behind the clients' backs: foreign messages, deleted queues.
//!
//! For tests; each call makes a connection of its own.

use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeleteOptions};
use lapin::{BasicProperties, Connection, ConnectionProperties};

use super::config::RabbitMqConfig;
use super::failure::{bounded, connecting};
use super::live::Live;
use crate::error::BrokerError;
use crate::message::Queue;
use crate::topology::Topology;

const LIMIT: Duration = Duration::from_secs(10);

/// Publishes any bytes to `queue`.
pub async fn inject(
    config: &RabbitMqConfig,
    queue: &Queue,
    body: &[u8],
) -> Result<(), BrokerError> {
    let live = connect(config).await?;
    let topology = Topology::new(&config.fleet);
    let channel = live.open_channel().await?;
    bounded("inject", LIMIT, channel.confirm_select(ConfirmSelectOptions::default())).await?;
    let (exchange, key) = (topology.jobs_exchange().into(), topology.routing_key(queue).into());
    let properties = BasicProperties::default().with_delivery_mode(2);
    let publish = async {
        let options = BasicPublishOptions::default();
        channel.basic_publish(exchange, key, options, body, properties).await?.await
    };
    bounded("inject", LIMIT, publish).await?;
    live.close("injected").await;
    Ok(())
}

/// Deletes `queue` with its messages.
pub async fn delete_queue(config: &RabbitMqConfig, queue: &Queue) -> Result<(), BrokerError> {
    let live = connect(config).await?;
    let channel = live.open_channel().await?;
    let name = Topology::new(&config.fleet).queue_name(queue).into();
    bounded("delete", LIMIT, channel.queue_delete(name, QueueDeleteOptions::default())).await?;
    live.close("deleted").await;
    Ok(())
}

/// Messages in the fleet's parked queue.
pub async fn parked(config: &RabbitMqConfig) -> Result<u64, BrokerError> {
    let live = connect(config).await?;
    let channel = live.open_channel().await?;
    let name = Topology::new(&config.fleet).parked_queue();
    let looked = live.look_at(&channel, &name, LIMIT).await?;
    live.close("looked").await;
    Ok(looked.map_or(0, |(ready, _)| u64::from(ready)))
}

async fn connect(config: &RabbitMqConfig) -> Result<Live, BrokerError> {
    let runtime =
        lapin::runtime::default_runtime().map_err(|error| connecting(error, &config.uri))?;
    let uri = config.uri.with_heartbeat(config.heartbeat);
    let properties = ConnectionProperties::default();
    let connection = Connection::connect_uri_with_runtime(uri, properties, runtime)
        .await
        .map_err(|error| connecting(error, &config.uri))?;
    Ok(Live::new(connection, config.request_timeout))
}
