//! What can go wrong at the broker's boundary, one enum per verb.
//!
//! No message or source here holds a password: addresses are `host:port` only.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use crate::message::Queue;

/// The error underneath, kept for reports; its type is not part of the contract.
pub type Cause = Arc<dyn Error + Send + Sync>;

/// Connecting to, declaring on or asking the broker failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BrokerError {
    #[error("broker setting `{field}` is not usable: {problem}")]
    Config { field: &'static str, problem: String },
    #[error(
        "could not reach RabbitMQ at {address}: start the broker, or correct host and port in the \
         broker URI"
    )]
    Unreachable {
        address: String,
        #[source]
        cause: Cause,
    },
    #[error(
        "could not set up TLS with RabbitMQ at {address}: check that this is its TLS port, that the \
         certificate is valid for this host name, and that its authority is trusted here or given \
         as the broker CA"
    )]
    Tls {
        address: String,
        #[source]
        cause: Cause,
    },
    #[error(
        "{address} did not complete the AMQP 0-9-1 handshake: check that this is RabbitMQ's AMQP \
         port (not its management or TLS port; use amqps:// for TLS)"
    )]
    Handshake {
        address: String,
        #[source]
        cause: Cause,
    },
    #[error(
        "RabbitMQ at {address} refused the login of user `{user}`: check user and password in the \
         broker URI, and that this user may log in from this host"
    )]
    AccessRefused { address: String, user: String },
    #[error(
        "RabbitMQ at {address} does not let user `{user}` use virtual host `{vhost}`: create it \
         (rabbitmqctl add_vhost) or grant access (rabbitmqctl set_permissions): {detail}"
    )]
    VirtualHost { address: String, user: String, vhost: String, detail: String },
    #[error("not connected to the broker: {why}")]
    Disconnected { why: String },
    #[error("{doing} failed on the broker connection")]
    Lost {
        doing: String,
        #[source]
        cause: Cause,
    },
    #[error("{doing} got no answer from the broker within {after:?}")]
    TimedOut { doing: String, after: Duration },
    #[error(
        "queue {queue} does not exist on the broker: the coordinator declares it when it connects"
    )]
    QueueMissing { queue: Queue },
    #[error(
        "{doing}: it exists on the broker with other settings; delete it there (its messages are \
         only hints and are dispatched again) or use another fleet name: {detail}"
    )]
    Conflict { doing: String, detail: String },
    #[error(
        "{doing}: the broker user lacks the permission; grant it with rabbitmqctl set_permissions: \
         {detail}"
    )]
    Forbidden { doing: String, detail: String },
    #[error("{doing}: refused by the broker: {detail}")]
    Refused { doing: String, detail: String },
    #[error("could not start the broker client's thread")]
    Thread {
        #[source]
        cause: Cause,
    },
}

impl BrokerError {
    /// Refuses a prefetch of 0, which brokers take for "no limit". Every subscriber asks this
    /// first.
    pub fn check_prefetch(prefetch: u16) -> Result<(), Self> {
        if prefetch > 0 {
            return Ok(());
        }
        let problem = "0 would mean no limit; give at least 1".to_owned();
        Err(Self::Config { field: "prefetch", problem })
    }

    /// Whether only a change of configuration, on our side or the broker's, can help. Retrying
    /// goes on all the same, since the change may come from the broker's side at any time.
    pub fn needs_operator(&self) -> bool {
        match self {
            Self::Config { .. }
            | Self::Tls { .. }
            | Self::Handshake { .. }
            | Self::AccessRefused { .. }
            | Self::VirtualHost { .. }
            | Self::Conflict { .. }
            | Self::Forbidden { .. }
            | Self::Refused { .. }
            | Self::Thread { .. } => true,
            Self::Unreachable { .. }
            | Self::Disconnected { .. }
            | Self::Lost { .. }
            | Self::TimedOut { .. }
            | Self::QueueMissing { .. } => false,
        }
    }
}

/// A hint is not known to be in its queue. Keep its outbox row and publish it again: duplicates
/// are harmless.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    #[error("no queue {queue} on the broker: declare it and publish again")]
    Unroutable { queue: Queue },
    #[error("the broker refused the message: {reason}")]
    Refused { reason: String },
    #[error("not published, no connection to the broker: {why}")]
    Disconnected { why: String },
    #[error("not published, the broker takes no messages now: {reason}")]
    Blocked { reason: String },
    #[error(
        "not published, queue {queue} does not confirm while the broker is well: it is tried again \
         in some seconds; if it stays so, delete it on the broker (its messages are only hints and \
         are dispatched again)"
    )]
    Stuck { queue: Queue },
    #[error("published, but not confirmed: {why}")]
    Unconfirmed { why: String },
    #[error("not confirmed within {after:?}")]
    TimedOut { after: Duration },
}

impl PublishError {
    /// Whether the message may have reached its queue all the same.
    pub fn may_have_arrived(&self) -> bool {
        match self {
            Self::Unconfirmed { .. } | Self::TimedOut { .. } => true,
            Self::Unroutable { .. }
            | Self::Refused { .. }
            | Self::Disconnected { .. }
            | Self::Blocked { .. }
            | Self::Stuck { .. } => false,
        }
    }
}

/// The consumer is finished; every delivery it gave is void and goes back to the queue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConsumeError {
    #[error("consumer of queue {queue} ended: {why}")]
    Lost { queue: Queue, why: String },
}

/// A delivery could not be settled; it will be delivered again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AckError {
    #[error("the consumer that got this delivery has ended; the broker delivers the message again")]
    Gone,
    #[error("the broker did not take the acknowledgement within {after:?}")]
    TimedOut { after: Duration },
}
