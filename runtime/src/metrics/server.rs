//! `/metrics`, `/healthz` and `/readyz` over HTTP/1, with every resource bounded.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::MetricsHandle;
use crate::tasks::Tasks;

/// Scrapers and probes are few; more callers wait to be accepted.
const MAX_CONNECTIONS: usize = 64;
/// For the request's headers, also between two requests on one connection.
const HEADER_LIMIT: Duration = Duration::from_secs(30);
/// A connection is asked to end after this time, and cut after `LINGER` more.
const CONNECTION_LIMIT: Duration = Duration::from_mins(5);
const LINGER: Duration = Duration::from_secs(5);
const MAX_HEADER_BYTES: usize = 16 * 1024;
/// After a failed accept, usually for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Answers `GET /metrics`, `/healthz` (200 while the process runs) and `/readyz` (200, or 503 with
/// the reason that `ready` gives) until `tasks` ends.
///
/// `ready` must derive from real work and answer at once. So that a draining process can still be
/// watched, give a group of tasks that is closed after the one that drains.
pub fn serve<R>(listener: TcpListener, handle: MetricsHandle, ready: R, tasks: &Tasks)
where
    R: Fn() -> Result<(), String> + Send + Sync + 'static,
{
    handle.run_upkeep(tasks);
    let app = router(handle, Arc::new(ready));
    let group = tasks.clone();
    tasks.spawn_critical("metrics-server", async move { accept(listener, app, &group).await });
}

fn router<R>(handle: MetricsHandle, ready: Arc<R>) -> Router
where
    R: Fn() -> Result<(), String> + Send + Sync + 'static,
{
    let metrics = move || async move {
        ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], handle.render())
    };
    let readiness = move || async move {
        match ready() {
            Ok(()) => (StatusCode::OK, "ready\n".to_owned()).into_response(),
            Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
        }
    };
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readiness))
}

async fn accept(listener: TcpListener, app: Router, tasks: &Tasks) {
    let shutdown = tasks.shutdown_token();
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        // Both branches of both waits are cancel safe.
        let slot = shutdown.run_until_cancelled(Arc::clone(&slots).acquire_owned()).await;
        let Some(Ok(slot)) = slot else { return };
        let Some(accepted) = shutdown.run_until_cancelled(listener.accept()).await else { return };
        match accepted {
            Ok((stream, _)) => {
                let connection = answer(stream, app.clone(), shutdown.clone());
                tasks.spawn("metrics-connection", async move {
                    connection.await;
                    drop(slot);
                });
            }
            Err(error) => {
                warn!(%error, "cannot accept a connection to the metrics port");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer(stream: TcpStream, app: Router, shutdown: CancellationToken) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_LIMIT)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => finish(connection).await,
        () = sleep(CONNECTION_LIMIT) => finish(connection).await,
    };
    if let Err(error) = ended {
        debug!(%error, "a connection to the metrics port ended early");
    }
}

type Connection = http1::Connection<TokioIo<TcpStream>, TowerToHyperService<Router>>;

/// Lets the answer under way out, then ends.
async fn finish(mut connection: std::pin::Pin<&mut Connection>) -> hyper::Result<()> {
    connection.as_mut().graceful_shutdown();
    timeout(LINGER, connection).await.unwrap_or(Ok(()))
}
