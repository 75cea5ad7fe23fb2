//! An instance metadata service for tests: version 2 only, with tokens that end, and faults on request.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Requests that are longer are cut.
const MAX_HEAD: usize = 8 << 10;

/// A client that sends nothing for so long is let go.
const READ_LIMIT: Duration = Duration::from_secs(5);

/// What is wrong with the answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Fault {
    #[default]
    None,
    /// Requests are read and not answered.
    Silent,
    /// Every answer has this status.
    Status(u16),
    /// Documents are there, and are no JSON.
    Garbage,
    /// Answers break off.
    Torn,
}

/// A service on a port of its own. Dropping it ends it.
#[derive(Debug)]
pub struct MockImds {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    tokens: BTreeMap<String, Instant>,
    tokens_made: usize,
    documents: BTreeMap<&'static str, String>,
    fault: Fault,
    /// Questions with a token that was good.
    asked: usize,
    /// Questions without one.
    refused: usize,
}

impl MockImds {
    /// Starts a service that announces nothing.
    ///
    /// # Errors
    /// When no port is free.
    pub fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (shared, stop) = (Arc::new(Shared::default()), Arc::new(AtomicBool::new(false)));
        let (serves, stops) = (Arc::clone(&shared), Arc::clone(&stop));
        std::thread::Builder::new().name("mock-imds".to_owned()).spawn(move || {
            for stream in listener.incoming() {
                if stops.load(Ordering::SeqCst) {
                    return;
                }
                let (serves, stops) = (Arc::clone(&serves), Arc::clone(&stops));
                let serve = move || stream.and_then(|stream| serves.serve(stream, &stops));
                // A client that goes away is its own business.
                let _ = std::thread::Builder::new().spawn(serve);
            }
        })?;
        Ok(Self { address, shared, stop })
    }

    /// For the worker's setting.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Announces an interruption by this document, such as `{"action":"terminate","time":"..."}`.
    pub fn interrupt_with(&self, document: &str) {
        self.set("/latest/meta-data/spot/instance-action", document);
    }

    /// Announces that the machine is taken back after this time.
    pub fn interrupt_in(&self, left: Duration) {
        let time = humantime::format_rfc3339_seconds(std::time::SystemTime::now() + left);
        self.interrupt_with(&format!(r#"{{"action":"terminate","time":"{time}"}}"#));
    }

    /// Recommends to leave the machine.
    pub fn recommend_rebalance(&self) {
        let document = r#"{"noticeTime":"2026-01-02T03:04:05Z"}"#;
        self.set("/latest/meta-data/events/recommendations/rebalance", document);
    }

    /// Names the machine.
    pub fn name_machine(&self, name: &str) {
        self.set("/latest/meta-data/instance-id", name);
    }

    /// Gives the machine an identity document and its signature.
    pub fn sign_machine(&self, document: &str, signature: &str) {
        self.set("/latest/dynamic/instance-identity/document", document);
        self.set("/latest/dynamic/instance-identity/rsa2048", signature);
    }

    pub fn set_fault(&self, fault: Fault) {
        self.shared.state().fault = fault;
        self.shared.changed.notify_all();
    }

    /// Ends all tokens before their time.
    pub fn expire_tokens(&self) {
        self.shared.state().tokens.clear();
    }

    /// Tokens that were given out.
    #[must_use]
    pub fn tokens_made(&self) -> usize {
        self.shared.state().tokens_made
    }

    /// Questions that came with a good token.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.shared.state().asked
    }

    /// Questions that came without one.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.shared.state().refused
    }

    fn set(&self, path: &'static str, document: &str) {
        self.shared.state().documents.insert(path, document.to_owned());
    }
}

impl Drop for MockImds {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.shared.changed.notify_all();
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, mut stream: TcpStream, stop: &AtomicBool) -> io::Result<()> {
        stream.set_read_timeout(Some(READ_LIMIT))?;
        let head = read_head(&mut stream)?;
        let mut state = self.state();
        while state.fault == Fault::Silent && !stop.load(Ordering::SeqCst) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let fault = state.fault;
        let (status, body) = match fault {
            Fault::Status(status) => (status, String::new()),
            Fault::None | Fault::Garbage | Fault::Torn | Fault::Silent => state.answer(&head),
        };
        drop(state);
        let length = if fault == Fault::Torn { body.len() + 100 } else { body.len() };
        let answer = format!(
            "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        );
        stream.write_all(answer.as_bytes())
    }
}

impl State {
    fn answer(&mut self, head: &str) -> (u16, String) {
        let mut words = head.split_whitespace();
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if method == "PUT" && path == "/latest/api/token" {
            return self.new_token(head);
        }
        let token = header(head, "x-aws-ec2-metadata-token");
        let good = token.and_then(|token| self.tokens.get(token));
        if good.is_none_or(|ends| *ends <= Instant::now()) {
            self.refused += 1;
            return (401, String::new());
        }
        self.asked += 1;
        match self.documents.get(path) {
            Some(_) if self.fault == Fault::Garbage => (200, "<html>busy</html>".to_owned()),
            Some(document) => (200, document.clone()),
            None => (404, String::new()),
        }
    }

    fn new_token(&mut self, head: &str) -> (u16, String) {
        let ttl = header(head, "x-aws-ec2-metadata-token-ttl-seconds");
        let ttl =
            ttl.and_then(|ttl| ttl.parse::<u64>().ok()).filter(|ttl| (1..=21_600).contains(ttl));
        let forwarded = header(head, "x-forwarded-for").is_some();
        let Some(ttl) = ttl.filter(|_| !forwarded) else { return (400, String::new()) };
        self.tokens_made += 1;
        let token = format!("token-{}==", self.tokens_made);
        self.tokens.insert(token.clone(), Instant::now() + Duration::from_secs(ttl));
        (200, token)
    }
}

fn read_head(stream: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0_u8];
    while !head.ends_with(b"\r\n\r\n") && head.len() < MAX_HEAD {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}
