//! The embedded broker keeps the contract.

use async_trait::async_trait;

use super::{EmbeddedBroker, EmbeddedLimits};
use crate::contract::{Harness, Support};
use crate::message::Queue;
use crate::traits::{Publisher, Subscriber};

struct Embedded(EmbeddedBroker);

#[async_trait]
impl Harness for Embedded {
    fn publisher(&self) -> &dyn Publisher {
        &self.0
    }

    fn subscriber(&self) -> &dyn Subscriber {
        &self.0
    }

    async fn cut_connections(&self) {
        self.0.disconnect_consumers();
    }

    async fn parked(&self) -> u64 {
        self.0.parked().len() as u64
    }

    async fn inject(&self, _queue: &Queue, _body: &[u8]) -> Support {
        Support::Impossible
    }

    async fn delete_queue(&self, _queue: &Queue) -> Support {
        Support::Impossible
    }
}

crate::contract_suite!(std::future::ready(Embedded(
    EmbeddedBroker::new(EmbeddedLimits::default())
)));
