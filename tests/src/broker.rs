//! Settings for RabbitMQ clients in tests.

use std::sync::atomic::{AtomicU64, Ordering};

use stoker_broker::RabbitMqConfig;
use stoker_core::ids::FleetName;

/// Settings for a fleet that no other test of this process uses.
///
/// # Panics
/// When `uri` is not an AMQP URI.
pub fn config(uri: &str) -> RabbitMqConfig {
    static FLEETS: AtomicU64 = AtomicU64::new(1);
    let number = FLEETS.fetch_add(1, Ordering::Relaxed);
    let fleet = FleetName::new(&format!("test-{number}")).expect("a valid fleet name");
    RabbitMqConfig::new(uri.parse().expect("tests use valid URIs"), fleet, number)
}
