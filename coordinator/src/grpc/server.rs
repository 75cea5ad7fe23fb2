//! The port: gRPC and the pages for scrapers and probes, with every resource bounded.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse as _;
use axum::routing::get;
use stoker_proto::client::{MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES};
use stoker_proto::v1;
use stoker_proto::v1::admin_service_server::AdminServiceServer;
use stoker_proto::v1::fleet_service_server::FleetServiceServer;
use stoker_proto::v1::job_service_server::JobServiceServer;
use stoker_proto::v1::queue_service_server::QueueServiceServer;
use stoker_proto::v1::worker_service_server::WorkerServiceServer;
use stoker_runtime::metrics::MetricsHandle;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;

use super::accept::{MAX_CONNECTIONS, connections};
use super::admin::Admin;
use super::calls::CallLayer;
use super::fleet::FleetCalls;
use super::health::{self, OwnQueue};
use super::jobs::Jobs;
use super::queue::Queue;
use super::workers::Workers;
use crate::context::Context;
use crate::readiness::Readiness;

/// Streams of one connection.
const MAX_STREAMS: u32 = 200;
/// tonic passes no limit on to hyper, which switches its protection against reset floods off.
const MAX_LOCAL_ERROR_RESETS: usize = 1_024;
const MAX_PENDING_ACCEPT_RESETS: usize = 20;
const MAX_HEADER_BYTES: u32 = 16 << 10;
/// A peer that vanished without a word is noticed within the sum of these two.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long calls under way may take to end at shutdown.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// Why the server ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("the API's descriptors cannot be served for reflection")]
    Reflection(#[source] tonic_reflection::server::Error),
    #[error("serving the API failed")]
    Transport(#[source] tonic::transport::Error),
}

/// What is served.
#[derive(Debug)]
pub struct Served {
    pub context: Arc<Context>,
    pub readiness: Readiness,
    pub metrics: MetricsHandle,
}

/// Answers calls until `shutdown`; then takes no more, and ends when those under way have.
pub async fn serve(
    listener: TcpListener,
    parts: Served,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let access = parts.context.access.clone();
    let routes = routes(parts)?;
    let server = Server::builder()
        .max_concurrent_streams(MAX_STREAMS)
        .http2_max_local_error_reset_streams(Some(MAX_LOCAL_ERROR_RESETS))
        .http2_max_pending_accept_reset_streams(Some(MAX_PENDING_ACCEPT_RESETS))
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .accept_http1(true)
        .layer(CallLayer::new(access))
        .add_routes(routes)
        .serve_with_incoming_shutdown(
            connections(listener, MAX_CONNECTIONS),
            shutdown.clone().cancelled_owned(),
        );
    let mut server = std::pin::pin!(server);
    tokio::select! {
        ended = server.as_mut() => return ended.map_err(ServeError::Transport),
        () = shutdown.cancelled() => {}
    }
    if let Ok(ended) = timeout(DRAIN_LIMIT, server).await {
        return ended.map_err(ServeError::Transport);
    }
    tracing::warn!(limit = ?DRAIN_LIMIT, "some calls did not end in time and are cut off");
    Ok(())
}

/// Everything on the port.
fn routes(parts: Served) -> Result<Routes, ServeError> {
    let Served { context, readiness, metrics } = parts;
    let (reporter, health) = tonic_health::server::health_reporter();
    let own_queue = match context.broker.embedded() {
        Some(_) => OwnQueue::Served,
        None => OwnQueue::NotServed,
    };
    let shutdown = context.streams.shutdown_token();
    let report = health::report(reporter, readiness.clone(), own_queue, shutdown);
    context.streams.spawn("health-report", report);

    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(v1::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let mut routes = Routes::builder();
    // A type cannot name a service and its limits at once, so each is written out.
    macro_rules! limited {
        ($server:ident, $service:expr) => {
            $server::new($service)
                .max_decoding_message_size(MAX_REQUEST_BYTES)
                .max_encoding_message_size(MAX_RESPONSE_BYTES)
        };
    }
    let workers = limited!(WorkerServiceServer, Workers::new(Arc::clone(&context)));
    let queue = limited!(QueueServiceServer, Queue::new(Arc::clone(&context)));
    routes
        .add_service(limited!(JobServiceServer, Jobs::new(Arc::clone(&context))))
        .add_service(limited!(AdminServiceServer, Admin::new(Arc::clone(&context))))
        .add_service(limited!(FleetServiceServer, FleetCalls::new(Arc::clone(&context))))
        // Of workers only.
        .add_service(InterceptedService::new(workers, context.gate.clone()))
        .add_service(InterceptedService::new(queue, context.gate.clone()))
        .add_service(health)
        .add_service(reflection().build_v1().map_err(ServeError::Reflection)?)
        .add_service(reflection().build_v1alpha().map_err(ServeError::Reflection)?);
    let services = routes.routes().into_axum_router();
    Ok(Routes::from(services.merge(pages(metrics, readiness))))
}

/// What scrapers and probes ask for, over HTTP/1 or HTTP/2.
fn pages(metrics: MetricsHandle, readiness: Readiness) -> Router {
    let render = move || async move {
        let text = "text/plain; version=0.0.4; charset=utf-8";
        ([(header::CONTENT_TYPE, text)], metrics.render())
    };
    let ready = move || async move {
        match readiness.get().problem() {
            None => (StatusCode::OK, "ready\n".to_owned()).into_response(),
            Some(problem) => {
                (StatusCode::SERVICE_UNAVAILABLE, format!("{problem}\n")).into_response()
            }
        }
    };
    Router::new()
        .route("/metrics", get(render))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
}
