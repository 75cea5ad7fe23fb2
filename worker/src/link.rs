//! The coordinator as a worker sees it: one connection, a deadline on every call, and errors that
//! say whether to try again.

mod session;

use std::future::Future;
use std::time::Duration;

use stoker_proto::client::MAX_RESPONSE_BYTES;
use stoker_proto::token::Credentials;
use stoker_proto::v1;
use stoker_proto::v1::worker_service_client::WorkerServiceClient;
use stoker_runtime::crash;
use stoker_runtime::secret::Secret;
use stoker_runtime::trace_context::TraceContext;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Request, Response, Status};

pub use session::{Registration, Session, SessionNews};

const CLAIM_LIMIT: Duration = Duration::from_secs(10);
const HEARTBEAT_LIMIT: Duration = Duration::from_secs(10);
const TELL_LIMIT: Duration = Duration::from_secs(10);
const REPORT_LIMIT: Duration = Duration::from_secs(30);

const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// A call to the coordinator that brought no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LinkError {
    #[error("the coordinator cannot be reached: {reason}")]
    Unreachable { reason: String },
    #[error("the coordinator gave no answer within {after:?}")]
    TimedOut { after: Duration },
    /// Who runs the fleet can mend that, here or at the coordinator, while the worker waits.
    #[error("the coordinator does not let this worker in ({code:?}): {reason}")]
    NotAdmitted { code: Code, reason: String },
    /// The call itself is wrong: repeating it as it is changes nothing.
    #[error("the coordinator refused the call ({code:?}): {reason}")]
    Refused { code: Code, reason: String },
}

impl LinkError {
    /// Whether the same call may succeed later.
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } | Self::NotAdmitted { .. } => true,
            Self::Refused { .. } => false,
        }
    }

    fn of(status: &Status) -> Self {
        let reason = status.message().to_owned();
        match status.code() {
            Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented => Self::Refused { code: status.code(), reason },
            Code::PermissionDenied | Code::Unauthenticated => {
                Self::NotAdmitted { code: status.code(), reason }
            }
            // Quotas can be mended at the coordinator while this worker waits.
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Aborted
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss => Self::Unreachable { reason },
        }
    }
}

/// Where calls go in: the connection, and what each call has to show.
pub type Calls = InterceptedService<Channel, Credentials>;

/// The connection to the coordinator. Clones share it. It connects by itself, and again after a
/// loss.
#[derive(Debug, Clone)]
pub struct Link {
    workers: WorkerServiceClient<Calls>,
    calls: Calls,
    address: Uri,
}

impl Link {
    /// Must be called on a tokio runtime.
    pub fn new(coordinator: &Endpoint, join_token: Option<&Secret>) -> Self {
        let channel = coordinator
            .clone()
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .connect_lazy();
        let calls =
            InterceptedService::new(channel, Credentials::new(join_token.map(Secret::expose)));
        let workers =
            WorkerServiceClient::new(calls.clone()).max_decoding_message_size(MAX_RESPONSE_BYTES);
        Self { workers, calls, address: coordinator.uri().clone() }
    }

    /// Where the coordinator is expected.
    pub const fn address(&self) -> &Uri {
        &self.address
    }

    /// For the embedded queue, which shares the port.
    pub fn calls(&self) -> Calls {
        self.calls.clone()
    }

    pub async fn claim(&self, request: v1::ClaimRequest) -> Result<v1::ClaimResponse, LinkError> {
        let mut client = self.workers.clone();
        let claim = call(CLAIM_LIMIT, client.claim(timed(request, CLAIM_LIMIT)));
        crash::around("worker.claim", claim).await
    }

    pub async fn heartbeat(
        &self,
        request: v1::HeartbeatRequest,
    ) -> Result<v1::HeartbeatResponse, LinkError> {
        let mut client = self.workers.clone();
        let heartbeat = call(HEARTBEAT_LIMIT, client.heartbeat(timed(request, HEARTBEAT_LIMIT)));
        crash::around("worker.heartbeat", heartbeat).await
    }

    pub async fn tell(&self, request: v1::TellRequest) -> Result<v1::TellResponse, LinkError> {
        let mut client = self.workers.clone();
        call(TELL_LIMIT, client.tell(timed(request, TELL_LIMIT))).await
    }

    pub async fn complete(
        &self,
        request: v1::CompleteRequest,
        trace: &TraceContext,
    ) -> Result<v1::CompleteResponse, LinkError> {
        let mut client = self.workers.clone();
        let mut request = timed(request, REPORT_LIMIT);
        trace.inject_headers(request.metadata_mut().as_mut());
        let complete = call(REPORT_LIMIT, client.complete(request));
        crash::around("worker.complete", complete).await
    }

    pub async fn fail(&self, request: v1::FailRequest) -> Result<v1::FailResponse, LinkError> {
        let mut client = self.workers.clone();
        let fail = call(REPORT_LIMIT, client.fail(timed(request, REPORT_LIMIT)));
        crash::around("worker.fail", fail).await
    }

    pub async fn release(
        &self,
        request: v1::ReleaseRequest,
    ) -> Result<v1::ReleaseResponse, LinkError> {
        let mut client = self.workers.clone();
        let release = call(REPORT_LIMIT, client.release(timed(request, REPORT_LIMIT)));
        crash::around("worker.release", release).await
    }
}

/// The deadline travels with the call, so that the coordinator does not work for nobody.
fn timed<T>(message: T, limit: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    request
}

async fn call<T>(
    limit: Duration,
    answer: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, LinkError> {
    match tokio::time::timeout(limit, answer).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(LinkError::of(&status)),
        Err(_) => Err(LinkError::TimedOut { after: limit }),
    }
}
