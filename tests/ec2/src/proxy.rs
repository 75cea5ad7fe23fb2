//! Stands before a server that acts like EC2 and adds what it lacks: launch tokens that count, lost calls and answers,
//! errors, and capacity that runs out.

mod answers;
mod orders;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::{AbortHandle, JoinSet};

pub use orders::Order;
use orders::{Call, Orders, Remembered};

type Answer = Response<Full<Bytes>>;

/// A proxy on a port of its own. Dropping it ends it.
#[derive(Debug)]
pub struct Ec2Proxy {
    address: SocketAddr,
    orders: Arc<Mutex<Orders>>,
    accepting: AbortHandle,
}

/// What the calls of one proxy go through.
#[derive(Debug, Clone)]
struct Relay {
    target: SocketAddr,
    client: Client<HttpConnector, Full<Bytes>>,
    orders: Arc<Mutex<Orders>>,
}

/// The connection is to be broken off.
#[derive(Debug, thiserror::Error)]
#[error("broken off on purpose")]
struct Broken;

impl Ec2Proxy {
    /// Starts to listen on a free port of loopback.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start(target: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("a port")?;
        let address = listener.local_addr()?;
        let orders = Arc::new(Mutex::new(Orders::default()));
        let client = Client::builder(TokioExecutor::new()).build_http();
        let relay = Relay { target, client, orders: Arc::clone(&orders) };
        let accepting = Handle::current().spawn(accept(listener, relay)).abort_handle();
        Ok(Self { address, orders, accepting })
    }

    /// For the client's endpoint.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next call of this action meets this, after what was ordered before.
    pub fn next(&self, action: &str, order: Order) {
        lock(&self.orders).push(action, order);
    }

    /// How many calls of an action came in.
    pub fn calls(&self, action: &str) -> usize {
        lock(&self.orders).calls(action)
    }

    /// The parameters of the last call of an action.
    pub fn last(&self, action: &str) -> Vec<(String, String)> {
        lock(&self.orders).last(action)
    }
}

impl Drop for Ec2Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, relay: Relay) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let relay = relay.clone();
        connections.spawn(async move {
            let serve = service_fn(|request| relay.serve(request));
            let server = hyper::server::conn::http1::Builder::new();
            // It ends with the client's connection, or with an order to break off.
            let _ = server.serve_connection(TokioIo::new(stream), serve).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

impl Relay {
    async fn serve(&self, request: Request<Incoming>) -> Result<Answer, Broken> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(|_| Broken)?.to_bytes();
        let call = Call::read(&head.headers, &body);
        let order = lock(&self.orders).received(&call);
        match order {
            Some(Order::CutBefore) => return Err(Broken),
            Some(Order::Error { status, code }) => {
                return Ok(answers::error(call.protocol, status, &code));
            }
            Some(Order::Answer(text)) => return Ok(answers::answer(call.protocol, 200, text)),
            Some(Order::Delay(delay)) => tokio::time::sleep(delay).await,
            None | Some(Order::CutAfter | Order::Leave { .. }) => {}
        }
        let leave = match &order {
            Some(Order::Leave { count, code }) => Some((*count, code.as_str())),
            _ => None,
        };
        let remembered = lock(&self.orders).remembered(&call);
        let (status, text) = match remembered {
            Some(Remembered::Same(answer)) => answer,
            Some(Remembered::Other) => {
                let code = "IdempotentParameterMismatch";
                return Ok(answers::error(call.protocol, 400, code));
            }
            None => {
                let sent = leave.map_or_else(|| body.clone(), |(count, _)| call.for_only(count));
                let (status, text) = self.forward(head, sent).await?;
                let text = match leave {
                    Some((_, code)) => answers::with_fleet_error(&text, code),
                    None => text,
                };
                lock(&self.orders).remember(&call, (status, text.clone()));
                (status, text)
            }
        };
        if order == Some(Order::CutAfter) {
            return Err(Broken);
        }
        Ok(answers::answer(call.protocol, status, text))
    }

    async fn forward(
        &self,
        head: hyper::http::request::Parts,
        body: Bytes,
    ) -> Result<(u16, String), Broken> {
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let uri: Uri = format!("http://{}{path}", self.target).parse().map_err(|_| Broken)?;
        let mut request = Request::builder().method(head.method).uri(uri);
        for (name, value) in &head.headers {
            // Those of the connection, and of a body that may have been changed, are made anew.
            if !["host", "content-length", "connection"].contains(&name.as_str()) {
                request = request.header(name, value);
            }
        }
        let request = request.body(Full::new(body)).map_err(|_| Broken)?;
        let answer = self.client.request(request).await.map_err(|_| Broken)?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.map_err(|_| Broken)?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }
}

fn lock(orders: &Mutex<Orders>) -> MutexGuard<'_, Orders> {
    orders.lock().unwrap_or_else(PoisonError::into_inner)
}
