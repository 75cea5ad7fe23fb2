//! Around every call: how many run at once, its span, its place in the metrics.

use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use stoker_proto::client::MAX_REQUEST_BYTES;
use stoker_proto::status::{self, Reason};
use stoker_runtime::trace_context::TraceContext;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};
use tracing::Instrument as _;
use tracing::field::Empty;

use crate::metrics;
use crate::room::Room;

use super::access::Access;
use super::request_body::{Weighed, Weight};

/// Calls that wait for their answer at once; more are refused at once rather than queued.
const MAX_CALLS: usize = 1_024;

/// Bytes of requests that wait for their answer at once, as they came.
const REQUEST_ROOM: usize = 256 << 20;

/// Time to the answer of a call; a stream only has to begin within it.
const CALL_LIMIT: Duration = Duration::from_secs(30);

const RETRY_AFTER: Duration = Duration::from_millis(200);

const PACKAGE: &str = "/stoker.v1.";

/// The methods of the API: labels must not come from callers.
static METHODS: LazyLock<Vec<String>> =
    LazyLock::new(|| stoker_proto::methods().expect("compiled in"));

/// Wraps the routes; see [`Calls`].
#[derive(Debug, Clone)]
pub(super) struct CallLayer {
    running: Arc<Semaphore>,
    room: Room,
    access: Access,
}

impl CallLayer {
    pub(super) fn new(access: Access) -> Self {
        let (running, room) = (Arc::new(Semaphore::new(MAX_CALLS)), Room::of(REQUEST_ROOM));
        Self { running, room, access }
    }
}

impl<S> Layer<S> for CallLayer {
    type Service = Calls<S>;

    fn layer(&self, inner: S) -> Calls<S> {
        let (room, access) = (self.room.clone(), self.access.clone());
        Calls { inner, running: Arc::clone(&self.running), room, access }
    }
}

/// The routes, with bounds, permission and observation around calls of our own services. Health, reflection and
/// the plain HTTP pages pass untouched: they must answer most of all when there is much to do.
#[derive(Debug, Clone)]
pub(super) struct Calls<S> {
    inner: S,
    running: Arc<Semaphore>,
    room: Room,
    access: Access,
}

impl<S> Service<http::Request<Body>> for Calls<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        // The clone takes the place of the one that was found ready.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let Some(method) = method(request.uri().path()) else {
            return Box::pin(inner.call(request));
        };
        let permitted = self.access.check(method, request.headers());
        let running = Arc::clone(&self.running).try_acquire_owned();
        let span = span(method, request.headers());
        let (weight, room) = (Weight::new(), self.room.clone());
        let weighed = weight.clone();
        let request = request.map(|body| Weighed::around(body, weighed, room, too_much));
        let call = Call::begin(method);
        let answer = async move {
            // The whole of it: a capture of its field alone would be a copy.
            let mut call = call;
            if let Err(status) = permitted {
                tracing::info!(problem = status.message(), "a call is refused");
                call.code = status.code();
                return Ok(status.into_http());
            }
            let Ok(_running) = running else {
                call.code = Code::ResourceExhausted;
                return Ok(overloaded().into_http());
            };
            let response = match timeout(CALL_LIMIT, inner.call(request)).await {
                Ok(response) => explained(response?),
                Err(_) => status::timed_out(CALL_LIMIT).into_http(),
            };
            weight.give_back();
            call.code = code(response.headers());
            tracing::Span::current().record("rpc.grpc.status_code", i32::from(call.code));
            Ok(response)
        };
        Box::pin(answer.instrument(span))
    }
}

fn method(path: &str) -> Option<&'static str> {
    let asked = path.strip_prefix(PACKAGE)?;
    Some(METHODS.iter().find(|method| *method == asked).map_or("other", String::as_str))
}

fn span(method: &'static str, headers: &http::HeaderMap) -> tracing::Span {
    let span = tracing::info_span!(
        "rpc",
        otel.name = method,
        otel.kind = "server",
        rpc.system = "grpc",
        rpc.grpc.status_code = Empty
    );
    TraceContext::from_headers(headers).set_parent(&span);
    span
}

/// The code of an answer. An answer whose messages follow begins without one.
fn code(headers: &http::HeaderMap) -> Code {
    Status::from_header_map(headers).map_or(Code::Ok, |status| status.code())
}

/// The transport's own refusal of a message that is too large names no remedy.
fn explained(response: http::Response<Body>) -> http::Response<Body> {
    match Status::from_header_map(response.headers()) {
        Some(status) if status.code() == Code::OutOfRange && status.details().is_empty() => {
            let problem = format!(
                "is larger than the {} MiB that a call may have: split it into several",
                MAX_REQUEST_BYTES >> 20
            );
            status::invalid_field("request", problem).into_http()
        }
        Some(_) | None => response,
    }
}

fn overloaded() -> Status {
    status::exhausted(
        Reason::Overloaded,
        format!(
            "{MAX_CALLS} calls are under way, which is as many as the coordinator takes at once: send fewer, or larger batches"
        ),
        RETRY_AFTER,
    )
}

fn too_much() -> Status {
    let mib = REQUEST_ROOM >> 20;
    let message = format!(
        "calls under way hold {mib} MiB, which is as much as the coordinator takes at once: send fewer at \
         the same time"
    );
    status::exhausted(Reason::Overloaded, message, RETRY_AFTER)
}

/// One call under way; it is counted when this is dropped, however it ends.
#[derive(Debug)]
struct Call {
    method: &'static str,
    began: Instant,
    code: Code,
}

impl Call {
    fn begin(method: &'static str) -> Self {
        metrics::call_began();
        // Stays if nobody waits for the answer any more.
        Self { method, began: Instant::now(), code: Code::Cancelled }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        metrics::call_ended(self.method, self.code, self.began.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::poll_fn;
    use std::pin::Pin;

    use bytes::Bytes;
    use futures::FutureExt as _;
    use http_body::Body as _;
    use http_body_util::Full;
    use stoker_proto::status::explain;

    use super::*;

    fn request(path: &str) -> http::Request<Body> {
        http::Request::builder().uri(path).body(Body::empty()).unwrap()
    }

    #[test]
    fn only_known_methods_become_labels() {
        assert_eq!(method("/stoker.v1.JobService/Submit"), Some("JobService/Submit"));
        assert_eq!(method("/stoker.v1.AdminService/ExplainJob"), Some("AdminService/ExplainJob"));
        assert_eq!(method("/stoker.v1.JobService/Anything"), Some("other"));
        assert_eq!(method("/grpc.health.v1.Health/Check"), None);
        assert_eq!(method("/metrics"), None);
    }

    #[tokio::test]
    async fn calls_beyond_the_limit_are_refused_at_once_but_health_is_not() {
        let never = tower::service_fn(|_: http::Request<Body>| {
            std::future::pending::<Result<http::Response<Body>, Infallible>>()
        });
        let mut calls = CallLayer::new(Access::default()).layer(never);
        let _running: Vec<_> =
            (0..MAX_CALLS).map(|_| calls.call(request("/stoker.v1.JobService/Get"))).collect();
        let response = calls.call(request("/stoker.v1.JobService/Get")).await.unwrap();
        let status = Status::from_header_map(response.headers()).unwrap();
        let explained = explain(&status);
        assert_eq!(explained.reason, Some(Reason::Overloaded));
        assert_eq!(explained.retry_after, Some(RETRY_AFTER));
        assert!(calls.call(request("/grpc.health.v1.Health/Check")).now_or_never().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_takes_too_long_says_that_it_may_be_repeated() {
        let never = tower::service_fn(|_: http::Request<Body>| {
            std::future::pending::<Result<http::Response<Body>, Infallible>>()
        });
        let mut calls = CallLayer::new(Access::default()).layer(never);
        let response = calls.call(request("/stoker.v1.JobService/Submit")).await.unwrap();
        let status = Status::from_header_map(response.headers()).unwrap();
        let explained = explain(&status);
        assert_eq!(
            (explained.code, explained.reason),
            (Code::DeadlineExceeded, Some(Reason::TimedOut))
        );
        assert!(explained.message.contains("idempotency key"), "{explained}");
        assert!(status::is_retryable(&status));
    }

    /// Reads the whole request; answers with what went wrong, or never.
    async fn read(request: http::Request<Body>) -> Result<http::Response<Body>, Infallible> {
        let mut body = request.into_body();
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            if let Err(status) = frame {
                return Ok(status.into_http());
            }
        }
        std::future::pending().await
    }

    #[tokio::test]
    async fn requests_that_hold_too_much_together_are_refused_and_room_comes_back() {
        let running = Arc::new(Semaphore::new(MAX_CALLS));
        let layer = CallLayer { running, room: Room::of(300 << 10), access: Access::default() };
        let mut calls = layer.layer(tower::service_fn(read));
        let large = || {
            let body = Body::new(Full::new(Bytes::from(vec![0; 200 << 10])));
            request("/stoker.v1.JobService/Submit").map(|_| body)
        };
        let mut first = calls.call(large());
        assert!((&mut first).now_or_never().is_none(), "there is room for one");
        let response = calls.call(large()).await.unwrap();
        let explained = explain(&Status::from_header_map(response.headers()).unwrap());
        assert_eq!(explained.reason, Some(Reason::Overloaded), "{explained}");
        assert_eq!(explained.retry_after, Some(RETRY_AFTER));
        drop(first);
        assert!(calls.call(large()).now_or_never().is_none(), "the first one gave its room back");
    }
}
