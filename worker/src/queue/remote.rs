//! The embedded broker of the coordinator, over its port: one stream per consumer.

use std::time::Duration;

use async_trait::async_trait;
use stoker_broker::{
    AckError, Acker, BrokerError, ConsumeError, Consumer, Delivery, Hint, Queue, Subscriber,
};
use stoker_core::ids::{DispatchSeq, JobId};
use stoker_proto::v1::consume_request::Request as Ask;
use stoker_proto::v1::queue_service_client::QueueServiceClient;
use stoker_proto::v1::{ConsumeRequest, ConsumeResponse, OpenConsumer, Settle};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use tracing::debug;

use crate::link::Calls;

const OPEN_LIMIT: Duration = Duration::from_secs(10);
const SETTLE_LIMIT: Duration = Duration::from_secs(5);
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// Opens consumers of the coordinator's queue.
#[derive(Debug)]
pub struct RemoteSubscriber {
    client: QueueServiceClient<Calls>,
}

impl RemoteSubscriber {
    pub fn new(coordinator: Calls) -> Self {
        Self { client: QueueServiceClient::new(coordinator) }
    }
}

#[async_trait]
impl Subscriber for RemoteSubscriber {
    async fn subscribe(
        &self,
        queue: &Queue,
        prefetch: u16,
    ) -> Result<Box<dyn Consumer>, BrokerError> {
        BrokerError::check_prefetch(prefetch)?;
        // Each unsettled delivery can be settled without waiting.
        let (requests, receiver) = mpsc::channel(usize::from(prefetch) + 1);
        let open = OpenConsumer {
            pool: queue.pool.to_string(),
            model: queue.model.to_string(),
            prefetch: u32::from(prefetch),
        };
        let sent = requests.try_send(ConsumeRequest { request: Some(Ask::Open(open)) });
        sent.expect("a new channel has room for its first message");
        let mut client = self.client.clone();
        let opening = client.consume(ReceiverStream::new(receiver));
        let deliveries = match timeout(OPEN_LIMIT, opening).await {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return Err(broker_error(queue, &status)),
            Err(_) => {
                let doing = format!("opening a consumer of queue {queue}");
                return Err(BrokerError::TimedOut { doing, after: OPEN_LIMIT });
            }
        };
        Ok(Box::new(RemoteConsumer { queue: queue.clone(), deliveries, requests, ended: None }))
    }
}

fn broker_error(queue: &Queue, status: &Status) -> BrokerError {
    match status.code() {
        Code::NotFound => BrokerError::QueueMissing { queue: queue.clone() },
        Code::InvalidArgument | Code::FailedPrecondition | Code::Unimplemented => {
            BrokerError::Refused {
                doing: format!("opening a consumer of queue {queue}"),
                detail: status.message().to_owned(),
            }
        }
        _ => BrokerError::Disconnected { why: status.message().to_owned() },
    }
}

/// One stream of deliveries. Dropping it gives back what is unsettled.
#[derive(Debug)]
struct RemoteConsumer {
    queue: Queue,
    deliveries: Streaming<ConsumeResponse>,
    /// The only strong sender: ackers find it gone when the consumer is.
    requests: mpsc::Sender<ConsumeRequest>,
    ended: Option<String>,
}

#[async_trait]
impl Consumer for RemoteConsumer {
    async fn next(&mut self) -> Result<Delivery, ConsumeError> {
        let why = match &self.ended {
            Some(why) => why.clone(),
            None => match self.deliveries.message().await {
                Ok(Some(message)) => match self.delivery(message) {
                    Ok(delivery) => return Ok(delivery),
                    Err(why) => why,
                },
                Ok(None) => "the coordinator ended the stream".to_owned(),
                Err(status) => status.message().to_owned(),
            },
        };
        self.ended = Some(why.clone());
        Err(ConsumeError::Lost { queue: self.queue.clone(), why })
    }

    /// Ends the requests and waits for the coordinator's end, so that settlements arrive.
    async fn close(self: Box<Self>) {
        let Self { requests, mut deliveries, .. } = *self;
        drop(requests);
        // What still arrives goes back with the rest.
        let ended = async { while let Ok(Some(_)) = deliveries.message().await {} };
        if timeout(CLOSE_LIMIT, ended).await.is_err() {
            debug!("the coordinator did not end the consumer in time");
        }
    }
}

impl RemoteConsumer {
    fn delivery(&self, message: ConsumeResponse) -> Result<Delivery, String> {
        let job: JobId = message
            .job_id
            .parse()
            .map_err(|error| format!("the coordinator sent a delivery without a job: {error}"))?;
        let hint = Hint {
            job,
            seq: DispatchSeq::new(message.dispatch_seq),
            queue: self.queue.clone(),
            trace: message.trace.into_iter().collect(),
        };
        let acker = RemoteAcker { tag: message.tag, requests: self.requests.downgrade() };
        Ok(Delivery { hint, redelivered: message.redelivered, acker: Box::new(acker) })
    }
}

#[derive(Debug)]
struct RemoteAcker {
    tag: u64,
    requests: mpsc::WeakSender<ConsumeRequest>,
}

impl RemoteAcker {
    async fn send(&self, settle: Settle) -> Result<(), AckError> {
        let requests = self.requests.upgrade().ok_or(AckError::Gone)?;
        let settle = ConsumeRequest { request: Some(Ask::Settle(settle)) };
        match requests.send_timeout(settle, SETTLE_LIMIT).await {
            Ok(()) => Ok(()),
            Err(mpsc::error::SendTimeoutError::Closed(_)) => Err(AckError::Gone),
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => {
                Err(AckError::TimedOut { after: SETTLE_LIMIT })
            }
        }
    }
}

#[async_trait]
impl Acker for RemoteAcker {
    async fn ack(self: Box<Self>) -> Result<(), AckError> {
        self.send(Settle { tag: self.tag, ack: true }).await
    }

    async fn reject(self: Box<Self>) -> Result<(), AckError> {
        self.send(Settle { tag: self.tag, ack: false }).await
    }
}
