//! Telemetry of a whole process, seen from outside: its stderr and what a collector receives.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::convert::Infallible;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use stoker_runtime::tasks::Tasks;
use stoker_runtime::telemetry::{self, LogFormat, TelemetrySettings};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, info_span};

const CHILD: &str = "STOKER_TEST_TELEMETRY_CHILD";
const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// Not a test by itself: the process that the tests below watch, told by the environment.
#[tokio::test(flavor = "multi_thread")]
async fn child_process() {
    let Ok(endpoint) = std::env::var(CHILD) else { return };
    let settings = TelemetrySettings {
        log_format: Some(LogFormat::Auto),
        otlp_endpoint: Some(endpoint),
        ..TelemetrySettings::default()
    };
    let guard = telemetry::init("stoker-test", &settings).unwrap();
    info_span!("visible-work", job = "j1").in_scope(|| info!(items = 3, "working"));
    let stumble = async {
        assert!(std::hint::black_box(false), "stumbled on purpose");
    };
    Tasks::new(CancellationToken::new()).spawn("stumbling", stumble).await.unwrap_err();
    guard.shutdown().await;
}

async fn run_child(endpoint: &str) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "child_process", "--nocapture"])
        .env(CHILD, endpoint)
        .env_remove("OTEL_SDK_DISABLED")
        .env_remove("OTEL_EXPORTER_OTLP_HEADERS")
        .stdin(Stdio::null());
    tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap()
}

/// A collector that passes on the body of each request.
async fn collector() -> (String, mpsc::Receiver<Bytes>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (sender, received) = mpsc::channel(16);
    Tasks::new(CancellationToken::new()).spawn("collector", async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let sender = sender.clone();
            let service = service_fn(move |request| take(request, sender.clone()));
            let connection = http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service);
            // The client closes the connection when it ends.
            drop(connection.await);
        }
    });
    (endpoint, received)
}

async fn take(
    request: Request<Incoming>,
    sender: mpsc::Sender<Bytes>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    assert_eq!(request.uri().path(), EXPORT);
    let body = request.into_body().collect().await.unwrap().to_bytes();
    sender.send(body).await.unwrap();
    let empty_message = Bytes::from_static(&[0; 5]);
    let response = Response::builder()
        .header("content-type", "application/grpc")
        .header("grpc-status", "0")
        .body(Full::new(empty_message));
    Ok(response.unwrap())
}

fn contains(body: &[u8], text: &str) -> bool {
    body.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_spans_reach_the_collector_and_logs_are_json_lines() {
    let (endpoint, mut received) = collector().await;
    let output = run_child(&endpoint).await;
    assert!(output.status.success(), "{output:?}");

    let body = tokio::time::timeout(Duration::from_secs(10), received.recv()).await;
    let body = body.unwrap().unwrap();
    for expected in ["visible-work", "stoker-test", "service.version"] {
        assert!(contains(&body, expected), "{expected}: {body:?}");
    }

    let stderr = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<serde_json::Value> =
        stderr.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let line = |message: &str| {
        let found = lines.iter().find(|line| line["message"].as_str().unwrap().contains(message));
        found.unwrap_or_else(|| panic!("no `{message}` in {stderr}"))
    };
    assert_eq!(line("working")["items"], 3);
    assert_eq!(line("working")["span"]["job"], "j1");
    let location = line("stumbled on purpose")["location"].as_str().unwrap();
    assert!(location.contains("telemetry.rs:"), "{location}");
    assert_eq!(line("task panicked")["task"], "stumbling");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_gone_costs_one_line_and_no_failure() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = run_child(&format!("http://{gone}")).await;
    assert!(output.status.success(), "{output:?}");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("working"), "{stderr}");
    let from_exporter = stderr.lines().filter(|line| line.contains("\"target\":\"opentelemetry"));
    assert_eq!(from_exporter.count(), 1, "{stderr}");
}
