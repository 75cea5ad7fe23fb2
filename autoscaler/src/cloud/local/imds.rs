//! The instance metadata service of one local machine: version 2 of EC2's, as far as a worker asks it.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use stoker_core::time::Timestamp;
use stoker_runtime::tasks::Tasks;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::cloud::machine::Machine;

const TOKEN: &str = "x-aws-ec2-metadata-token";
const TTL: &str = "x-aws-ec2-metadata-token-ttl-seconds";
const TOKEN_PATH: &str = "/latest/api/token";

/// A worker asks for a new one every few minutes; the oldest are forgotten.
const MOST_TOKENS: usize = 1_000;

/// A service on a port of its own. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Imds {
    address: SocketAddr,
    known: Arc<Known>,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Known {
    machine: Machine,
    said: Mutex<Said>,
}

#[derive(Debug, Default)]
struct Said {
    /// Those that were given out, by number.
    tokens: BTreeSet<u64>,
    next_token: u64,
    /// The document of an interruption.
    interruption: Option<String>,
}

impl Imds {
    /// Starts a service that announces nothing.
    pub(super) async fn start(machine: Machine, tasks: &Tasks) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let known = Arc::new(Known { machine, said: Mutex::default() });
        let stop = tasks.shutdown_token().child_token();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&known));
        let stopped = stop.clone();
        tasks.spawn("local metadata", async move {
            let serve =
                axum::serve(listener, router).with_graceful_shutdown(stopped.cancelled_owned());
            if let Err(error) = serve.await {
                tracing::warn!(%error, "the metadata service of a local machine ended");
            }
        });
        Ok(Self { address, known, stop })
    }

    /// For the worker's setting.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Announces that the machine is taken back at this time.
    pub(super) fn announce(&self, at: Timestamp) {
        let since_epoch = u64::try_from(at.as_unix_millis()).unwrap_or(0);
        let time = UNIX_EPOCH + Duration::from_millis(since_epoch);
        let time = humantime::format_rfc3339_seconds(time);
        let document = format!(r#"{{"action":"terminate","time":"{time}"}}"#);
        self.known.said().interruption = Some(document);
    }
}

impl Drop for Imds {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Known {
    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn document(&self, path: &str) -> Option<String> {
        let machine = &self.machine;
        match path.strip_prefix("/latest/meta-data/")? {
            "spot/instance-action" => self.said().interruption.clone(),
            "instance-id" => Some(machine.name.to_string()),
            "instance-type" => Some(machine.instance_type.clone()),
            "instance-life-cycle" => Some(machine.capacity.as_str().to_owned()),
            "placement/availability-zone" => Some(machine.zone.clone()),
            _ => None,
        }
    }
}

async fn answer(
    State(known): State<Arc<Known>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> (StatusCode, String) {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if method == Method::PUT && uri.path() == TOKEN_PATH {
        let ttl = header(TTL).and_then(|ttl| ttl.parse::<u32>().ok());
        let fits = ttl.is_some_and(|ttl| (1..=21_600).contains(&ttl));
        if !fits || headers.contains_key("x-forwarded-for") {
            return (StatusCode::BAD_REQUEST, String::new());
        }
        return (StatusCode::OK, known.said().give_token());
    }
    let token = header(TOKEN).and_then(|token| token.parse().ok());
    if !token.is_some_and(|token| known.said().tokens.contains(&token)) {
        return (StatusCode::UNAUTHORIZED, String::new());
    }
    match known.document(uri.path()).filter(|_| method == Method::GET) {
        Some(document) => (StatusCode::OK, document),
        None => (StatusCode::NOT_FOUND, String::new()),
    }
}

impl Said {
    fn give_token(&mut self) -> String {
        self.next_token += 1;
        self.tokens.insert(self.next_token);
        if self.tokens.len() > MOST_TOKENS {
            self.tokens.pop_first();
        }
        self.next_token.to_string()
    }
}
