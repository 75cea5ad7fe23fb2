//! A TCP relay on loopback that can cut or freeze what runs through it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

/// Relays connections to one target until dropped.
#[derive(Debug)]
pub struct TcpProxy {
    address: SocketAddr,
    weather: Arc<watch::Sender<Weather>>,
    accepting: AbortHandle,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Weather {
    frozen: bool,
    /// Connections made before the last cut end.
    cuts: u64,
}

impl TcpProxy {
    /// Starts to listen on a free port of loopback.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start(target: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let weather = Arc::new(watch::Sender::new(Weather { frozen: false, cuts: 0 }));
        let accepting = Handle::current().spawn(accept(listener, target, Arc::clone(&weather)));
        Ok(Self { address, weather, accepting: accepting.abort_handle() })
    }

    /// Where to connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends all connections of this moment.
    pub fn cut(&self) {
        self.weather.send_modify(|weather| weather.cuts += 1);
    }

    /// Keeps all connections open but carries nothing, like a network that swallows packets.
    pub fn freeze(&self) {
        self.weather.send_modify(|weather| weather.frozen = true);
    }

    /// Carries again, first what came in meanwhile.
    pub fn thaw(&self) {
        self.weather.send_modify(|weather| weather.frozen = false);
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, weather: Arc<watch::Sender<Weather>>) {
    let mut relays = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        relays.spawn(relay(client, target, weather.subscribe()));
        while relays.try_join_next().is_some() {}
    }
}

async fn relay(client: TcpStream, target: SocketAddr, mut weather: watch::Receiver<Weather>) {
    let Ok(server) = TcpStream::connect(target).await else { return };
    let cuts = weather.borrow().cuts;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = carry(from_client, to_server, weather.clone()) => {}
        () = carry(from_server, to_client, weather.clone()) => {}
        _ = weather.wait_for(|weather| weather.cuts != cuts) => {}
    }
}

async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut weather: watch::Receiver<Weather>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if weather.wait_for(|weather| !weather.frozen).await.is_err() {
            return;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
