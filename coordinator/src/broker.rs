//! Which broker carries the hints, behind one face.

use std::sync::Arc;
use std::time::Duration;

use stoker_broker::{
    BrokerError, BrokerHealth, BrokerUri, EmbeddedBroker, EmbeddedLimits, Publisher,
    RabbitMqConfig, RabbitMqPublisher,
};
use stoker_core::fleet::Fleet;
use stoker_runtime::ids;

use crate::config::BrokerChoice;

/// The fleet's broker.
#[derive(Debug, Clone)]
pub enum Broker {
    /// In this process, for workers of this machine.
    Embedded(EmbeddedBroker),
    RabbitMq(Arc<RabbitMqPublisher>),
}

impl Broker {
    /// Starts the embedded broker, or connecting to RabbitMQ. One that is down is no error: jobs
    /// are accepted and wait.
    pub fn start(choice: &BrokerChoice, fleet: &Fleet) -> Result<Self, BrokerError> {
        match choice {
            BrokerChoice::Embedded => {
                Ok(Self::Embedded(EmbeddedBroker::new(EmbeddedLimits::default())))
            }
            BrokerChoice::RabbitMq(uri) => Self::rabbitmq(uri, fleet),
        }
    }

    fn rabbitmq(uri: &BrokerUri, fleet: &Fleet) -> Result<Self, BrokerError> {
        let (seed, _) = ids::event_id().as_uuid().as_u64_pair();
        let config = RabbitMqConfig {
            longest_job: Some(fleet.job_policy.lease.max_runtime),
            ..RabbitMqConfig::new(uri.clone(), fleet.name.clone(), seed)
        };
        Ok(Self::RabbitMq(Arc::new(RabbitMqPublisher::start(config)?)))
    }

    /// Waits until messages can be published.
    ///
    /// # Errors
    /// What is in the way, after `limit` or as soon as only an operator can help.
    pub async fn ready(&self, limit: Duration) -> Result<(), BrokerError> {
        match self {
            Self::Embedded(_) => Ok(()),
            Self::RabbitMq(publisher) => publisher.ready(limit).await,
        }
    }

    pub fn publisher(&self) -> Arc<dyn Publisher> {
        match self {
            Self::Embedded(broker) => Arc::new(broker.clone()),
            Self::RabbitMq(publisher) => Arc::clone(publisher) as Arc<dyn Publisher>,
        }
    }

    /// The broker that workers may consume from through the coordinator.
    pub fn embedded(&self) -> Option<&EmbeddedBroker> {
        match self {
            Self::Embedded(broker) => Some(broker),
            Self::RabbitMq(_) => None,
        }
    }

    /// For status pages: `embedded`, or `rabbitmq` with its release once that is known.
    pub fn name(&self) -> String {
        match self {
            Self::Embedded(_) => "embedded".to_owned(),
            Self::RabbitMq(publisher) => match publisher.server_version() {
                Some(version) => format!("rabbitmq {version}"),
                None => "rabbitmq".to_owned(),
            },
        }
    }

    /// Why nothing can be published now, with the remedy; `None` when all is well.
    pub fn problem(&self) -> Option<String> {
        let health = match self {
            Self::Embedded(broker) => broker.health(),
            Self::RabbitMq(publisher) => publisher.health(),
        };
        match health {
            BrokerHealth::Connected => None,
            BrokerHealth::Blocked { reason } => Some(format!(
                "the broker takes no messages for lack of memory or disk ({reason}): free some there"
            )),
            BrokerHealth::Disconnected { why } => Some(why),
        }
    }
}
