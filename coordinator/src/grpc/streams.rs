//! Streams of answers: bounded in number and in what they hold, and ended before the store closes.

use std::sync::Arc;
use std::time::Duration;

use stoker_proto::status::{self, Reason};
use stoker_runtime::tasks::Tasks;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::metrics;

const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What kinds of streams there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamKind {
    Watch,
    /// Watches that are told texts, too.
    WatchTexts,
    Results,
    Register,
    Consume,
}

impl StreamKind {
    const fn name(self) -> &'static str {
        match self {
            Self::Watch => "watch",
            Self::WatchTexts => "watch-texts",
            Self::Results => "results",
            Self::Register => "register",
            Self::Consume => "consume",
        }
    }

    /// Most of them at once.
    const fn limit(self) -> usize {
        match self {
            Self::Watch => 1_024,
            // Each may hold a few parts of results in memory.
            Self::Results | Self::WatchTexts => 128,
            Self::Register | Self::Consume => 4_096,
        }
    }
}

/// How many more streams may open.
#[derive(Debug)]
pub struct StreamSlots {
    watch: Arc<Semaphore>,
    watch_texts: Arc<Semaphore>,
    results: Arc<Semaphore>,
    register: Arc<Semaphore>,
    consume: Arc<Semaphore>,
}

impl Default for StreamSlots {
    fn default() -> Self {
        let slots = |kind: StreamKind| Arc::new(Semaphore::new(kind.limit()));
        Self {
            watch: slots(StreamKind::Watch),
            watch_texts: slots(StreamKind::WatchTexts),
            results: slots(StreamKind::Results),
            register: slots(StreamKind::Register),
            consume: slots(StreamKind::Consume),
        }
    }
}

impl StreamSlots {
    /// A place for one more stream, given up on drop.
    pub(super) fn open(&self, kind: StreamKind) -> Result<StreamSlot, Status> {
        let slots = match kind {
            StreamKind::Watch => &self.watch,
            StreamKind::WatchTexts => &self.watch_texts,
            StreamKind::Results => &self.results,
            StreamKind::Register => &self.register,
            StreamKind::Consume => &self.consume,
        };
        let Ok(permit) = Arc::clone(slots).try_acquire_owned() else {
            let (limit, name) = (kind.limit(), kind.name());
            return Err(status::exhausted(
                Reason::TooManyStreams,
                format!(
                    "{limit} streams of the kind `{name}` are open, which is the limit: close some"
                ),
                RETRY_AFTER,
            ));
        };
        metrics::stream_opened(kind.name());
        Ok(StreamSlot { kind, _permit: permit })
    }
}

/// The right to one stream.
#[derive(Debug)]
pub(super) struct StreamSlot {
    kind: StreamKind,
    _permit: OwnedSemaphorePermit,
}

impl Drop for StreamSlot {
    fn drop(&mut self) {
        metrics::stream_closed(self.kind.name());
    }
}

/// Where a stream's messages go in. Waits while the client does not read.
pub(super) type Sink<T> = mpsc::Sender<Result<T, Status>>;

/// Why a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// It said all it had to say, or failed.
    Finished,
    ClientGone,
    /// The coordinator is shutting down.
    Shutdown,
}

/// The client went away; nothing is left to do.
#[derive(Debug)]
pub(super) struct Gone;

/// Sends one message.
pub(super) async fn send<T>(sink: &Sink<T>, message: T) -> Result<(), Gone> {
    sink.send(Ok(message)).await.map_err(|_| Gone)
}

/// How a stream's body ends early: with a status for the client, or because there is none.
#[derive(Debug)]
pub(super) enum Stop {
    Failed(Status),
    Gone,
}

impl From<Status> for Stop {
    fn from(status: Status) -> Self {
        Self::Failed(status)
    }
}

impl From<Gone> for Stop {
    fn from(Gone: Gone) -> Self {
        Self::Gone
    }
}

/// Runs the body of a stream until it ends, the client goes away or the coordinator shuts down.
pub(super) async fn run<T>(
    sink: Sink<T>,
    tasks: &Tasks,
    body: impl Future<Output = Result<(), Stop>>,
) -> Ended {
    let shutdown = tasks.shutdown_token();
    let body = async {
        if let Err(Stop::Failed(status)) = body.await {
            // Fails when the client is gone, and then nobody is left to tell.
            let _ = sink.send(Err(status)).await;
        }
    };
    tokio::select! {
        () = body => Ended::Finished,
        () = sink.closed() => Ended::ClientGone,
        () = shutdown.cancelled() => {
            // Without room the client sees the connection end, which says the same.
            let _ = sink.try_send(Err(shutting_down()));
            Ended::Shutdown
        }
    }
}

/// A stream of at most `backlog` unread messages that `body` feeds.
pub(super) fn spawn<T, B>(
    tasks: &Tasks,
    slot: StreamSlot,
    backlog: usize,
    body: impl FnOnce(Sink<T>) -> B,
) -> ReceiverStream<Result<T, Status>>
where
    T: Send + 'static,
    B: Future<Output = Result<(), Stop>> + Send + 'static,
{
    let (sink, messages) = mpsc::channel(backlog);
    let body = body(sink.clone());
    let group = tasks.clone();
    tasks.spawn(slot.kind.name(), async move {
        run(sink, &group, body).await;
        drop(slot);
    });
    ReceiverStream::new(messages)
}

pub(super) fn shutting_down() -> Status {
    status::unavailable(
        Reason::ShuttingDown,
        "the coordinator is shutting down: connect again",
        RETRY_AFTER,
    )
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;
    use stoker_proto::status::explain;
    use tokio_util::sync::CancellationToken;

    use super::*;

    fn slot() -> StreamSlot {
        StreamSlots::default().open(StreamKind::Watch).unwrap()
    }

    #[tokio::test]
    async fn a_stream_ends_with_its_status() {
        let tasks = Tasks::new(CancellationToken::new());
        let mut stream = spawn(&tasks, slot(), 1, |sink| async move {
            send(&sink, 1).await?;
            send(&sink, 2).await?;
            Err(Status::not_found("x").into())
        });
        assert_eq!(stream.next().await.unwrap().unwrap(), 1);
        assert_eq!(stream.next().await.unwrap().unwrap(), 2);
        assert_eq!(stream.next().await.unwrap().unwrap_err().message(), "x");
        assert!(stream.next().await.is_none());
    }

    #[tokio::test]
    async fn shutdown_ends_a_stream_and_says_why() {
        let tasks = Tasks::new(CancellationToken::new());
        let mut stream = spawn(&tasks, slot(), 1, |sink: Sink<u8>| async move {
            let _held = sink;
            std::future::pending().await
        });
        tasks.shutdown_token().cancel();
        let status = stream.next().await.unwrap().unwrap_err();
        assert_eq!(explain(&status).reason, Some(Reason::ShuttingDown));
        assert!(stream.next().await.is_none());
    }

    #[tokio::test]
    async fn a_client_that_goes_away_ends_the_task() {
        let tasks = Tasks::new(CancellationToken::new());
        let stream = spawn(&tasks, slot(), 1, |sink: Sink<u8>| async move {
            let _held = sink;
            std::future::pending().await
        });
        drop(stream);
        tasks.close_and_wait(Duration::from_secs(5)).await.unwrap();
    }

    #[test]
    fn streams_of_a_kind_are_bounded_and_make_room_when_they_end() {
        let slots = StreamSlots::default();
        let mut open: Vec<StreamSlot> = (0..StreamKind::Results.limit())
            .map(|_| slots.open(StreamKind::Results).unwrap())
            .collect();
        let explained = explain(&slots.open(StreamKind::Results).unwrap_err());
        assert_eq!(explained.reason, Some(Reason::TooManyStreams));
        assert!(explained.retry_after.is_some());
        assert!(slots.open(StreamKind::Watch).is_ok());
        open.pop();
        assert!(slots.open(StreamKind::Results).is_ok());
    }
}
