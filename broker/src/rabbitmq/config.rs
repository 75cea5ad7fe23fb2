//! What the RabbitMQ clients can be told, with defaults that were measured to work.

use std::time::Duration;

use stoker_core::ids::FleetName;

use super::uri::BrokerUri;
use crate::error::BrokerError;

/// How to reach RabbitMQ and how long to wait for it.
#[derive(Debug, Clone)]
pub struct RabbitMqConfig {
    pub uri: BrokerUri,
    pub fleet: FleetName,
    /// PEM of the authority that signed the broker's certificate, beside the system's own.
    pub ca_pem: Option<String>,
    /// A silent peer is given up after twice this time.
    pub heartbeat: Duration,
    /// Most unconfirmed publishes in flight; more adds latency, not throughput.
    pub confirm_window: usize,
    /// Longest time from `publish` to its outcomes.
    pub publish_timeout: Duration,
    /// Longest time for one attempt to connect, handshake and TLS included.
    pub connect_timeout: Duration,
    /// Longest time for one request to the broker: declare, depth, subscribe, acknowledge.
    pub request_timeout: Duration,
    pub backoff: Backoff,
    /// Longest time that a job may run, for a warning when the broker's `consumer_timeout` is in
    /// its way.
    pub longest_job: Option<Duration>,
}

/// Waits between attempts to connect: full jitter, doubling from `first` to `cap`.
#[derive(Debug, Clone)]
pub struct Backoff {
    pub first: Duration,
    pub cap: Duration,
    /// A random number, another one in each process: equal seeds make a fleet reconnect in step.
    pub seed: u64,
}

impl RabbitMqConfig {
    /// Defaults for everything but the address; see [`Backoff::seed`] for `seed`.
    pub fn new(uri: BrokerUri, fleet: FleetName, seed: u64) -> Self {
        Self {
            uri,
            fleet,
            ca_pem: None,
            heartbeat: Duration::from_secs(10),
            confirm_window: 256,
            publish_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(5),
            backoff: Backoff {
                first: Duration::from_millis(200),
                cap: Duration::from_secs(5),
                seed,
            },
            longest_job: None,
        }
    }

    pub(super) fn check(&self) -> Result<(), BrokerError> {
        let positive = [
            ("heartbeat", self.heartbeat),
            ("publish_timeout", self.publish_timeout),
            ("connect_timeout", self.connect_timeout),
            ("request_timeout", self.request_timeout),
            ("backoff.first", self.backoff.first),
            ("backoff.cap", self.backoff.cap),
        ];
        if let Some((field, _)) = positive.into_iter().find(|(_, duration)| duration.is_zero()) {
            let problem = "it must be longer than zero".to_owned();
            return Err(BrokerError::Config { field, problem });
        }
        if !(8..=65_536).contains(&self.confirm_window) {
            let problem = format!("{} is not between 8 and 65536", self.confirm_window);
            return Err(BrokerError::Config { field: "confirm_window", problem });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> RabbitMqConfig {
        let uri = BrokerUri::parse("amqp://user:s3cr3t@mq").unwrap();
        RabbitMqConfig::new(uri, FleetName::new("test").unwrap(), 1)
    }

    #[test]
    fn a_bad_setting_is_named() {
        assert!(config().check().is_ok());
        let bad = RabbitMqConfig { heartbeat: Duration::ZERO, ..config() };
        assert!(matches!(bad.check(), Err(BrokerError::Config { field: "heartbeat", .. })));
        let bad = RabbitMqConfig { confirm_window: 0, ..config() };
        assert!(matches!(bad.check(), Err(BrokerError::Config { field: "confirm_window", .. })));
    }

    #[test]
    fn debug_output_hides_the_password() {
        assert!(!format!("{:?}", config()).contains("s3cr3t"));
    }
}
