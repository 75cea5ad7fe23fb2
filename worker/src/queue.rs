//! Where deliveries come from: RabbitMQ, or the coordinator's own queue over its port.

mod remote;

use std::sync::Arc;

use stoker_broker::{BrokerError, BrokerUri, RabbitMqConfig, RabbitMqSubscriber, Subscriber};
use stoker_core::ids::FleetName;

pub use remote::RemoteSubscriber;

use crate::config::BrokerChoice;
use crate::link::Calls;

/// A subscriber for the chosen broker. It connects in the background.
///
/// # Errors
/// When the broker's URI cannot be used.
pub fn subscriber(
    choice: &BrokerChoice,
    fleet: &FleetName,
    coordinator: Calls,
) -> Result<Arc<dyn Subscriber>, BrokerError> {
    match choice {
        BrokerChoice::Embedded => Ok(Arc::new(RemoteSubscriber::new(coordinator))),
        BrokerChoice::Amqp(uri) => {
            let uri = BrokerUri::parse(uri.expose())?;
            let (seed, _) = stoker_runtime::ids::claim_id().as_uuid().as_u64_pair();
            let config = RabbitMqConfig::new(uri, fleet.clone(), seed);
            Ok(Arc::new(RabbitMqSubscriber::start(config)?))
        }
    }
}
