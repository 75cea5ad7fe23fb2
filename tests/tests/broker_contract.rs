//! The RabbitMQ clients keep the broker contract, on a real node.

use async_trait::async_trait;
use stoker_broker::contract::{Harness, PATIENCE, Support};
use stoker_broker::rabbitmq::raw;
use stoker_broker::{
    Publisher, Queue, RabbitMqConfig, RabbitMqPublisher, RabbitMqSubscriber, Subscriber,
    contract_suite,
};
use stoker_tests::rabbitmq::RabbitMqNode;
use stoker_tests::tcp_proxy::TcpProxy;

struct RabbitMq {
    publisher: RabbitMqPublisher,
    subscriber: RabbitMqSubscriber,
    proxy: TcpProxy,
    /// Past the proxy.
    direct: RabbitMqConfig,
}

#[async_trait]
impl Harness for RabbitMq {
    fn publisher(&self) -> &dyn Publisher {
        &self.publisher
    }

    fn subscriber(&self) -> &dyn Subscriber {
        &self.subscriber
    }

    async fn cut_connections(&self) {
        self.proxy.cut();
    }

    async fn parked(&self) -> u64 {
        raw::parked(&self.direct).await.expect("the node is up")
    }

    async fn inject(&self, queue: &Queue, body: &[u8]) -> Support {
        raw::inject(&self.direct, queue, body).await.expect("the node is up");
        Support::Done
    }

    async fn delete_queue(&self, queue: &Queue) -> Support {
        raw::delete_queue(&self.direct, queue).await.expect("the node is up");
        Support::Done
    }
}

/// A fleet of its own on the node that the tests share.
async fn rabbitmq() -> RabbitMq {
    let node = tokio::task::spawn_blocking(RabbitMqNode::shared)
        .await
        .expect("starting a node does not panic")
        .expect("a private RabbitMQ node starts");
    let direct = stoker_tests::broker::config(&node.uri());
    let proxy = TcpProxy::start(node.address()).await.expect("a proxy starts");
    let uri = format!("amqp://guest:guest@{}", proxy.address());
    let through = RabbitMqConfig { uri: uri.parse().expect("a valid URI"), ..direct.clone() };
    let publisher = RabbitMqPublisher::start(through.clone()).expect("valid settings");
    let subscriber = RabbitMqSubscriber::start(through).expect("valid settings");
    publisher.ready(PATIENCE).await.expect("the publisher connects");
    RabbitMq { publisher, subscriber, proxy, direct }
}

contract_suite!(rabbitmq());
