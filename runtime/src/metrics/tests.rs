use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::*;

const SOON: Duration = Duration::from_secs(10);

fn lines_with<'a>(text: &'a str, start: &str) -> Vec<&'a str> {
    text.lines().filter(|line| line.starts_with(start)).collect()
}

#[test]
fn installing_twice_gives_the_same_metrics() {
    let first = install().unwrap();
    metrics::counter!("stoker_test_installs_total").increment(1);
    let second = install().unwrap();
    metrics::counter!("stoker_test_installs_total").increment(1);
    for handle in [first, second] {
        assert!(handle.render().contains("stoker_test_installs_total 2"), "{}", handle.render());
    }
}

#[test]
fn seconds_are_counted_in_buckets_from_a_millisecond_to_an_hour() {
    let handle = install().unwrap();
    for seconds in [0.0008, 45.0, 5_000.0] {
        metrics::histogram!("stoker_test_wait_seconds").record(seconds);
    }
    let text = handle.render();
    let buckets = lines_with(&text, "stoker_test_wait_seconds_bucket");
    assert_eq!(buckets.len(), SECONDS.len() + 1, "{text}");
    for expected in [
        "stoker_test_wait_seconds_bucket{le=\"0.001\"} 1",
        "stoker_test_wait_seconds_bucket{le=\"30\"} 1",
        "stoker_test_wait_seconds_bucket{le=\"60\"} 2",
        "stoker_test_wait_seconds_bucket{le=\"3600\"} 2",
        "stoker_test_wait_seconds_bucket{le=\"+Inf\"} 3",
    ] {
        assert!(buckets.contains(&expected), "{expected}\n{text}");
    }
}

#[test]
fn other_histograms_get_buckets_of_their_own_unit() {
    let handle = install().unwrap();
    metrics::histogram!("stoker_test_batch_items").record(3.0);
    metrics::histogram!("stoker_test_input_bytes").record(300.0);
    metrics::histogram!("stoker_test_padding_ratio").record(0.25);
    let text = handle.render();
    for expected in [
        "stoker_test_batch_items_bucket{le=\"4\"} 1",
        "stoker_test_input_bytes_bucket{le=\"1024\"} 1",
        "stoker_test_padding_ratio_bucket{le=\"0.3\"} 1",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
}

#[tokio::test]
async fn a_task_that_panics_is_counted_by_name() {
    async fn stumble() {
        tokio::task::yield_now().await;
        panic!("on purpose");
    }
    let handle = install().unwrap();
    let tasks = Tasks::new(CancellationToken::new());
    tasks.spawn("test-stumble", stumble()).await.unwrap_err();
    let expected = "stoker_runtime_task_panics_total{task=\"test-stumble\"} 1";
    assert!(handle.render().contains(expected), "{}", handle.render());
}

struct Server {
    tasks: Tasks,
    addr: std::net::SocketAddr,
    ready: Arc<AtomicBool>,
}

async fn server() -> Server {
    let tasks = Tasks::new(CancellationToken::new());
    let listener = crate::net::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let ready = Arc::new(AtomicBool::new(true));
    let is_ready = Arc::clone(&ready);
    let probe = move || {
        let ready = is_ready.load(Ordering::SeqCst);
        if ready { Ok(()) } else { Err("the broker channel is closed".to_owned()) }
    };
    serve(listener, install().unwrap(), probe, &tasks);
    Server { tasks, addr, ready }
}

async fn exchange(addr: std::net::SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    String::from_utf8(answer).unwrap()
}

async fn get(addr: std::net::SocketAddr, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    exchange(addr, request.as_bytes()).await
}

#[tokio::test]
async fn metrics_and_health_are_served() {
    let server = server().await;
    metrics::gauge!("stoker_test_served_jobs").set(7.0);
    let answer = get(server.addr, "/metrics").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("content-type: text/plain; version=0.0.4"), "{answer}");
    assert!(answer.contains("stoker_test_served_jobs 7"), "{answer}");
    assert!(get(server.addr, "/healthz").await.starts_with("HTTP/1.1 200 "));
    assert!(get(server.addr, "/other").await.starts_with("HTTP/1.1 404 "));
    server.tasks.close_and_wait(SOON).await.unwrap();
}

#[tokio::test]
async fn readiness_follows_the_service_and_gives_its_reason() {
    let server = server().await;
    assert!(get(server.addr, "/readyz").await.starts_with("HTTP/1.1 200 "));
    server.ready.store(false, Ordering::SeqCst);
    let answer = get(server.addr, "/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.ends_with("the broker channel is closed\n"), "{answer}");
    server.tasks.close_and_wait(SOON).await.unwrap();
}

#[tokio::test]
async fn oversized_headers_and_garbage_are_refused_and_the_server_lives_on() {
    let server = server().await;
    let mut request = b"GET /metrics HTTP/1.1\r\nx: ".to_vec();
    request.resize(20 * 1024, b'a');
    let answer = exchange(server.addr, &request).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let answer = exchange(server.addr, b"\x00\x01\x02\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(get(server.addr, "/healthz").await.starts_with("HTTP/1.1 200 "));
    server.tasks.close_and_wait(SOON).await.unwrap();
}

#[tokio::test]
async fn shutdown_ends_idle_connections_and_closes_the_port() {
    let server = server().await;
    let mut idle = TcpStream::connect(server.addr).await.unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    let mut first = [0; 15];
    idle.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    server.tasks.close_and_wait(SOON).await.unwrap();
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.unwrap();
    assert!(TcpStream::connect(server.addr).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_cut() {
    let server = server().await;
    let mut silent = TcpStream::connect(server.addr).await.unwrap();
    let mut answer = Vec::new();
    let started = tokio::time::Instant::now();
    drop(silent.read_to_end(&mut answer).await);
    assert!(started.elapsed() <= Duration::from_mins(1), "{:?}", started.elapsed());
    server.tasks.close_and_wait(SOON).await.unwrap();
}
