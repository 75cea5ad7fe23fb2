//! Declaring and looking at queues: rare requests, each on a channel of its own, because the
//! broker closes a channel to say no.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ExchangeKind};

use super::failure::bounded;
use super::live::Live;
use crate::error::BrokerError;
use crate::message::{Queue, QueueDepth};
use crate::topology::{self, Argument, Declaration, Topology};

/// Declares exchanges and the parked queue.
pub(super) async fn declare_base(live: &Live, topology: &Topology) -> Result<(), BrokerError> {
    declare_all(live, topology.base()).await
}

/// Declares every queue that the broker lets us declare; gives the first refusal.
pub(super) async fn declare_queues(
    live: &Live,
    topology: &Topology,
    queues: &[Queue],
) -> Result<(), BrokerError> {
    let mut refusal = None;
    for queue in queues {
        match declare_all(live, topology.work(queue)).await {
            Ok(()) => {}
            Err(error) if error.needs_operator() => {
                tracing::warn!(%queue, %error, "queue not declared");
                refusal.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    refusal.map_or(Ok(()), Err)
}

/// Ready messages and consumers of `queue`.
pub(super) async fn depth(
    live: &Live,
    topology: &Topology,
    queue: &Queue,
) -> Result<QueueDepth, BrokerError> {
    let channel = live.open_channel().await?;
    let looked = live.look_at(&channel, &topology.queue_name(queue), live.request_timeout()).await;
    match looked.inspect_err(|error| live.doubt_after(error))? {
        Some((ready, consumers)) => {
            Ok(QueueDepth { ready: u64::from(ready), consumers: u64::from(consumers) })
        }
        None => Err(BrokerError::QueueMissing { queue: queue.clone() }),
    }
}

async fn declare_all(live: &Live, declarations: Vec<Declaration>) -> Result<(), BrokerError> {
    let channel = live.open_channel().await?;
    for declaration in declarations {
        declare(live, &channel, declaration).await.inspect_err(|error| live.doubt_after(error))?;
    }
    Ok(())
}

async fn declare(
    live: &Live,
    channel: &Channel,
    declaration: Declaration,
) -> Result<(), BrokerError> {
    let limit = live.request_timeout();
    match declaration {
        Declaration::Exchange { name, kind } => {
            let doing = format!("declaring exchange {name}");
            let kind = match kind {
                topology::ExchangeKind::Direct => ExchangeKind::Direct,
                topology::ExchangeKind::Fanout => ExchangeKind::Fanout,
            };
            let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
            let declare =
                channel.exchange_declare(name.into(), kind, options, FieldTable::default());
            bounded(&doing, limit, declare).await
        }
        Declaration::Queue { name, arguments } => {
            let doing = format!("declaring queue {name}");
            let options = QueueDeclareOptions::durable();
            let declare = channel.queue_declare(name.into(), options, table(arguments));
            bounded(&doing, limit, declare).await.map(drop)
        }
        Declaration::Binding { queue, exchange, routing_key } => {
            let doing = format!("binding queue {queue} to exchange {exchange}");
            let bind = channel.queue_bind(
                queue.into(),
                exchange.into(),
                routing_key.into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            );
            bounded(&doing, limit, bind).await
        }
    }
}

fn table(arguments: Vec<(&'static str, Argument)>) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, argument) in arguments {
        let value = match argument {
            Argument::Text(text) => AMQPValue::LongString(text.into()),
            Argument::Number(number) => AMQPValue::LongLongInt(i64::from(number)),
        };
        table.insert(name.into(), value);
    }
    table
}
