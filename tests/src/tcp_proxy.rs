//! A TCP relay on loopback that makes what runs through it slow, cut, silent or one-sided.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

/// Largest piece that is carried at once.
const PIECE: usize = 64 * 1024;

/// Relays connections to one target until dropped.
#[derive(Debug)]
pub struct TcpProxy {
    address: SocketAddr,
    weather: Arc<watch::Sender<Weather>>,
    accepting: AbortHandle,
}

/// Which way data flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    ToTarget,
    FromTarget,
}

/// What a network does to everything that is carried. The default does nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Conditions {
    /// Before each piece.
    pub latency: Duration,
    /// Carry at most so many bytes at once; 0: as they come.
    pub slice: usize,
    /// Most bytes in a second, each way and connection; 0: no limit.
    pub bytes_per_second: u32,
    /// What goes this way vanishes, while the other way works.
    pub swallow: Option<Direction>,
    /// A connection is reset once it has carried so many bytes one way; 0: never.
    pub reset_after: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Weather {
    frozen: bool,
    /// Connections made before the last cut end.
    cuts: u64,
    conditions: Conditions,
}

impl TcpProxy {
    /// Starts to listen on a free port of loopback.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start(target: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let weather = Arc::new(watch::Sender::new(Weather::default()));
        let accepting = Handle::current().spawn(accept(listener, target, Arc::clone(&weather)));
        Ok(Self { address, weather, accepting: accepting.abort_handle() })
    }

    /// Where to connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Resets all connections of this moment.
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

    /// From now on the network is like this.
    pub fn set(&self, conditions: Conditions) {
        self.weather.send_modify(|weather| weather.conditions = conditions);
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

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// One side closed it.
    Closed,
    Reset,
}

async fn relay(mut client: TcpStream, target: SocketAddr, mut weather: watch::Receiver<Weather>) {
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    let cuts = weather.borrow().cuts;
    let lane = |direction| Lane { direction, weather: weather.clone(), carried: 0 };
    let (there, back) = (lane(Direction::ToTarget), lane(Direction::FromTarget));
    let end = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        tokio::select! {
            end = there.carry(from_client, to_server) => end,
            end = back.carry(from_server, to_client) => end,
            _ = weather.wait_for(|weather| weather.cuts != cuts) => End::Reset,
        }
    };
    if end == End::Reset {
        // Both sides see it, as after a machine that is gone. A socket that is closed needs none.
        let _ = client.set_zero_linger();
        let _ = server.set_zero_linger();
    }
}

/// One direction of one connection.
struct Lane {
    direction: Direction,
    weather: watch::Receiver<Weather>,
    carried: u64,
}

impl Lane {
    async fn carry(mut self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> End {
        let mut buffer = vec![0; PIECE];
        loop {
            let slice = self.weather.borrow().conditions.slice;
            let most = if slice == 0 { PIECE } else { slice.min(PIECE) };
            let Ok(count @ 1..) = from.read(&mut buffer[..most]).await else { return End::Closed };
            let Ok(conditions) =
                self.weather.wait_for(|weather| !weather.frozen).await.map(|now| now.conditions)
            else {
                return End::Reset;
            };
            sleep(conditions.latency + time_to_carry(count, conditions)).await;
            if conditions.swallow == Some(self.direction) {
                continue;
            }
            if to.write_all(&buffer[..count]).await.is_err() {
                return End::Closed;
            }
            self.carried += count as u64;
            if conditions.reset_after > 0 && self.carried >= conditions.reset_after {
                return End::Reset;
            }
        }
    }
}

fn time_to_carry(bytes: usize, conditions: Conditions) -> Duration {
    if conditions.bytes_per_second == 0 {
        return Duration::ZERO;
    }
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    Duration::from_secs(1).mul_f64(f64::from(bytes) / f64::from(conditions.bytes_per_second))
}
