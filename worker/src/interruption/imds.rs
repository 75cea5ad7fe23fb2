//! EC2's instance metadata service, version 2: a token first, then questions with it.
//!
//! Plain HTTP to a link-local address, one connection for each question, without any proxy, redirect or retry:
//! the watcher asks again in two seconds anyway.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::reading::{InterruptionNotice, UnreadableNotice};

const TOKEN: &str = "/latest/api/token";
const INSTANCE_ACTION: &str = "/latest/meta-data/spot/instance-action";
const REBALANCE: &str = "/latest/meta-data/events/recommendations/rebalance";

const INSTANCE_ID: &str = "/latest/meta-data/instance-id";
const IDENTITY: &str = "/latest/dynamic/instance-identity/document";
const IDENTITY_SIGNATURE: &str = "/latest/dynamic/instance-identity/rsa2048";

const TOKEN_HEADER: &str = "x-aws-ec2-metadata-token";
const TTL_HEADER: &str = "x-aws-ec2-metadata-token-ttl-seconds";

/// How long a token is asked to last.
const TTL: Duration = Duration::from_hours(1);

/// A token is renewed so long before it ends.
const RENEW_BEFORE: Duration = Duration::from_mins(2);

/// A service on the same machine answers in a millisecond.
const LIMIT: Duration = Duration::from_secs(1);

/// Tokens, notices and identities are far smaller.
const MAX_BYTES: usize = 16 << 10;

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
pub enum ImdsError {
    #[error("cannot connect to {address}")]
    Connect {
        address: String,
        #[source]
        source: std::io::Error,
    },
    #[error("no answer to {path} within {LIMIT:?}")]
    TimedOut { path: &'static str },
    #[error("the answer to {path} broke off")]
    Http {
        path: &'static str,
        #[source]
        source: hyper::Error,
    },
    #[error("the answer to {path} is longer than {MAX_BYTES} bytes, or broke off")]
    Body { path: &'static str },
    #[error("{path} was answered with {status}")]
    Status { path: &'static str, status: StatusCode },
    #[error("{TOKEN} gave no token that fits into a header")]
    Token,
}

/// What the service says at one time.
#[derive(Debug)]
pub struct Seen {
    /// None: no interruption is announced.
    pub interruption: Option<Result<InterruptionNotice, UnreadableNotice>>,
    pub rebalance: bool,
}

/// The service.
#[derive(Debug)]
pub struct Imds {
    address: Uri,
    token: Option<Token>,
}

#[derive(Debug)]
struct Token {
    /// Not a secret beyond this machine: it is of no use elsewhere.
    text: String,
    renew_at: Instant,
}

struct Answer {
    status: StatusCode,
    text: String,
}

impl Imds {
    /// Asks at `address`, of which scheme, host and port count. Nothing is asked yet.
    pub const fn new(address: Uri) -> Self {
        Self { address, token: None }
    }

    /// Asks once whether the machine is taken back, and whether it is recommended to leave it. Dropping the
    /// future does no harm.
    ///
    /// # Errors
    /// When one of the questions was not answered; the next call starts anew.
    pub async fn ask(&mut self) -> Result<Seen, ImdsError> {
        let action = self.get(INSTANCE_ACTION).await?;
        let interruption = action.map(|text| InterruptionNotice::read(&text, wall_clock()));
        if matches!(interruption, Some(Ok(_))) {
            // Nothing else matters, and every second counts.
            return Ok(Seen { interruption, rebalance: false });
        }
        let rebalance = self.get(REBALANCE).await?.is_some();
        Ok(Seen { interruption, rebalance })
    }

    /// Asks for the name of the machine; `None`: the service does not know it. Dropping the future does no harm.
    ///
    /// # Errors
    /// When the question was not answered; the next call starts anew.
    pub async fn instance(&mut self) -> Result<Option<String>, ImdsError> {
        let name = self.get(INSTANCE_ID).await?;
        Ok(name.map(|name| name.trim().to_owned()))
    }

    /// Asks for the machine's identity document, as it is, and its signature by RSA of 2048 bits. `None`: there are
    /// none. Dropping the future does no harm.
    ///
    /// # Errors
    /// When one of the questions was not answered; the next call starts anew.
    pub async fn identity(&mut self) -> Result<Option<(String, String)>, ImdsError> {
        let Some(document) = self.get(IDENTITY).await? else { return Ok(None) };
        Ok(self.get(IDENTITY_SIGNATURE).await?.map(|signature| (document, signature)))
    }

    /// As if the token's time had come.
    #[cfg(test)]
    pub(super) fn age_token(&mut self) {
        if let Some(token) = &mut self.token {
            token.renew_at = Instant::now();
        }
    }

    /// The document at `path`; `None`: there is none.
    async fn get(&mut self, path: &'static str) -> Result<Option<String>, ImdsError> {
        let mut answer = self.get_with_token(path).await?;
        if answer.status == StatusCode::UNAUTHORIZED {
            // The token ended early, as after a restore of the machine: a new one mends that.
            self.token = None;
            answer = self.get_with_token(path).await?;
        }
        match answer.status {
            StatusCode::OK => Ok(Some(answer.text)),
            StatusCode::NOT_FOUND => Ok(None),
            status => Err(ImdsError::Status { path, status }),
        }
    }

    async fn get_with_token(&mut self, path: &'static str) -> Result<Answer, ImdsError> {
        let token = match self.token.take().filter(|token| Instant::now() < token.renew_at) {
            Some(token) => token,
            None => self.new_token().await?,
        };
        let request = self.request(Method::GET, path).header(TOKEN_HEADER, &token.text);
        self.token = Some(token);
        self.call(path, request).await
    }

    async fn new_token(&self) -> Result<Token, ImdsError> {
        let asked_at = Instant::now();
        let request = self.request(Method::PUT, TOKEN).header(TTL_HEADER, TTL.as_secs());
        let Answer { status, text } = self.call(TOKEN, request).await?;
        if status != StatusCode::OK {
            return Err(ImdsError::Status { path: TOKEN, status });
        }
        let text = text.trim().to_owned();
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ImdsError::Token);
        }
        Ok(Token { text, renew_at: asked_at + TTL.saturating_sub(RENEW_BEFORE) })
    }

    fn request(&self, method: Method, path: &'static str) -> hyper::http::request::Builder {
        let host = self.address.authority().map_or("", |authority| authority.as_str());
        Request::builder().method(method).uri(path).header(HOST, host)
    }

    async fn call(
        &self,
        path: &'static str,
        request: hyper::http::request::Builder,
    ) -> Result<Answer, ImdsError> {
        let request = request.body(Empty::<Bytes>::new()).map_err(|_| ImdsError::Token)?;
        match timeout(LIMIT, self.exchange(path, request)).await {
            Ok(answer) => answer,
            Err(_) => Err(ImdsError::TimedOut { path }),
        }
    }

    async fn exchange(
        &self,
        path: &'static str,
        request: Request<Empty<Bytes>>,
    ) -> Result<Answer, ImdsError> {
        let host = self.address.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = self.address.port_u16().unwrap_or(80);
        let stream = TcpStream::connect((host, port))
            .await
            .map_err(|source| ImdsError::Connect { address: format!("{host}:{port}"), source })?;
        let http = |source| ImdsError::Http { path, source };
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(http)?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(http)?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_BYTES).collect().await;
            let body = body.map_err(|_| ImdsError::Body { path })?.to_bytes();
            Ok(Answer { status, text: String::from_utf8_lossy(&body).into_owned() })
        };
        // The connection is driven here, and ends with the answer.
        tokio::pin!(connection, answer);
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            ended = &mut connection => match ended {
                Ok(()) => answer.await,
                Err(source) => Err(http(source)),
            },
        }
    }
}

/// The notice names a time of day.
fn wall_clock() -> SystemTime {
    SystemTime::now()
}
