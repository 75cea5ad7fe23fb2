//! Callers that do not keep to the rules.

use std::time::Duration;

use stoker_proto::codec::StrictCodec;
use stoker_proto::v1;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::{Code, Request};

use crate::fixture::{Coordinator, LIMIT, refused};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A request from HPACK's static table, whose body is still to come.
fn request(stream: u32) -> Vec<u8> {
    // POST, /, http, and `a` as the authority.
    headers(stream, END_HEADERS, &[0x83, 0x84, 0x86, 0x41, 0x01, b'a'])
}

/// A request without scheme and path, which the server has to reset.
fn malformed_request(stream: u32) -> Vec<u8> {
    headers(stream, END_HEADERS | END_STREAM, &[0x83])
}

fn headers(stream: u32, flags: u8, block: &[u8]) -> Vec<u8> {
    let mut frame = vec![0, 0, u8::try_from(block.len()).unwrap(), 1, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(block);
    frame
}

fn reset(stream: u32) -> Vec<u8> {
    const CANCEL: u32 = 8;
    let mut frame = vec![0, 0, 4, 3, 0];
    frame.extend(stream.to_be_bytes());
    frame.extend(CANCEL.to_be_bytes());
    frame
}

/// Whether the other side ends the connection when it is sent this for each of many streams.
async fn is_cut_off(port: u16, frames: impl Fn(u32) -> Vec<u8>) -> bool {
    const STREAMS: u32 = 5_000;
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (mut answers, mut flood) = stream.into_split();
    let flooding = async {
        let mut bytes = [PREFACE, &SETTINGS].concat();
        // Streams of a client have odd numbers that only grow.
        bytes.extend((0..STREAMS).flat_map(|number| frames(2 * number + 1)));
        // An error is the end that is hoped for.
        let _ = flood.write_all(&bytes).await;
        std::future::pending::<()>().await;
    };
    let reading = async {
        let mut answer = vec![0; 1 << 16];
        while !matches!(answers.read(&mut answer).await, Ok(0) | Err(_)) {}
    };
    tokio::select! {
        () = flooding => false,
        () = reading => true,
        () = tokio::time::sleep(LIMIT) => false,
    }
}

#[tokio::test]
async fn a_flood_of_requests_that_are_reset_at_once_is_cut_off() {
    let coordinator = Coordinator::start("").await;
    let frames = |stream| [request(stream), reset(stream)].concat();
    assert!(is_cut_off(coordinator.port, frames).await);
    coordinator.submit(&["others are served"]).await;
}

#[tokio::test]
async fn a_flood_of_requests_that_make_the_server_reset_is_cut_off() {
    let coordinator = Coordinator::start("").await;
    assert!(is_cut_off(coordinator.port, malformed_request).await);
    coordinator.submit(&["others are served"]).await;
}

#[tokio::test]
async fn bytes_that_are_not_protocol_are_cut_off() {
    let coordinator = Coordinator::start("").await;
    for garbage in [&b"\x16\x03\x01 hello in TLS, says nobody here\r\n\r\n"[..], &[0; 1_024]] {
        let mut stream = TcpStream::connect(("127.0.0.1", coordinator.port)).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        // It may answer 400 first, or just end.
        let _ = tokio::time::timeout(LIMIT, read).await.unwrap();
    }
    coordinator.submit(&["a"]).await;
}

#[tokio::test]
async fn messages_that_cannot_be_decoded_are_the_callers_to_mend() {
    let coordinator = Coordinator::start("").await;
    // A message that has one field of bytes stands in for the job: its own bytes are wrong.
    for bytes in [&b"\x0a\x01\xff"[..], b"\x0a\xff", b"\xff\xff\xff\xff\xff\xff"] {
        let mut client = tonic::client::Grpc::new(coordinator.channel().await);
        client.ready().await.unwrap();
        let path = http::uri::PathAndQuery::from_static("/stoker.v1.JobService/Submit");
        let codec = StrictCodec::<Vec<u8>, v1::SubmitResponse>::default();
        let refusal = refused(client.unary(Request::new(bytes.to_vec()), path, codec).await);
        assert_eq!(refusal.code, Code::InvalidArgument, "{refusal}");
        assert!(refusal.message.contains("could not be decoded"), "{refusal}");
    }
}

#[tokio::test]
async fn a_call_whose_time_is_over_is_given_up() {
    let coordinator = Coordinator::start("").await;
    let mut client = tonic::client::Grpc::new(coordinator.channel().await);
    client.ready().await.unwrap();
    // A message that never comes: nothing but its time can end the call.
    let mut request = Request::new(tokio_stream::pending::<v1::SubmitRequest>());
    request.set_timeout(Duration::from_millis(1));
    let path = http::uri::PathAndQuery::from_static("/stoker.v1.JobService/Submit");
    let codec = StrictCodec::<v1::SubmitRequest, v1::SubmitResponse>::default();
    let refusal = refused(client.client_streaming(request, path, codec).await);
    assert!(matches!(refusal.code, Code::DeadlineExceeded | Code::Cancelled), "{refusal}");
}
