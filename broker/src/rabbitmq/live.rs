//! One established connection: what hangs on it learns of its end from here.

use std::fmt;
use std::time::Duration;

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Channel, Connection};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::failure::bounded;
use crate::error::BrokerError;

/// Longest time for an orderly goodbye.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection between its handshake and its end. Never repaired: a new one takes its place.
pub(super) struct Live {
    pub(super) connection: Connection,
    request_timeout: Duration,
    /// Why it ended.
    ended: watch::Sender<Option<String>>,
    doubt: Notify,
}

impl Live {
    pub(super) fn new(connection: Connection, request_timeout: Duration) -> Self {
        Self { connection, request_timeout, ended: watch::Sender::new(None), doubt: Notify::new() }
    }

    pub(super) fn request_timeout(&self) -> Duration {
        self.request_timeout
    }

    /// Has the supervisor probe the connection now. A request that failed says little about the
    /// connection: the broker answers for a queue without a leader by silence.
    pub(super) fn doubt(&self) {
        self.doubt.notify_one();
    }

    /// [`Live::doubt`], when `error` may be the connection's.
    pub(super) fn doubt_after(&self, error: &BrokerError) {
        if matches!(error, BrokerError::Lost { .. } | BrokerError::TimedOut { .. }) {
            self.doubt();
        }
    }

    /// Waits until somebody doubts. Cancel-safe.
    pub(super) async fn doubted(&self) {
        self.doubt.notified().await;
    }

    /// Waits for the end and says why. Cancel-safe.
    pub(super) async fn ended(&self) -> String {
        let mut ended = self.ended.subscribe();
        match ended.wait_for(Option::is_some).await.map(|why| why.clone()) {
            Ok(Some(why)) => why,
            // The sender lives in `self`, and the condition excludes `None`.
            Ok(None) | Err(_) => "ended".to_owned(),
        }
    }

    pub(super) async fn open_channel(&self) -> Result<Channel, BrokerError> {
        let opened =
            bounded("opening a channel", self.request_timeout, self.connection.create_channel());
        opened.await.inspect_err(|error| self.doubt_after(error))
    }

    /// Ready messages and consumers of a queue; `None` when it does not exist, which also ends
    /// `channel`.
    pub(super) async fn look_at(
        &self,
        channel: &Channel,
        queue: &str,
        limit: Duration,
    ) -> Result<Option<(u32, u32)>, BrokerError> {
        let declare = async {
            let passive = QueueDeclareOptions::durable().passive();
            match channel.queue_declare(queue.into(), passive, FieldTable::default()).await {
                Ok(queue) => Ok(Some((queue.message_count(), queue.consumer_count()))),
                Err(error) if super::failure::is_not_found(&error) => Ok(None),
                Err(error) => Err(error),
            }
        };
        bounded(&format!("looking at queue {queue}"), limit, declare).await
    }

    /// Ends it for everybody, with a goodbye as far as the broker still listens.
    pub(super) async fn close(&self, why: &str) {
        self.ended.send_replace(Some(why.to_owned()));
        let goodbye = self.connection.close(200, "client is done".into());
        if !matches!(timeout(CLOSE_TIMEOUT, goodbye).await, Ok(Ok(()))) {
            tracing::debug!(why, "the broker connection ended without a goodbye");
        }
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("ended", &*self.ended.borrow()).finish_non_exhaustive()
    }
}
