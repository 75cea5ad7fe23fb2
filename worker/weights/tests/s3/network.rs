//! A relay in front of the server that makes answers go wrong. The server closes each connection after its answer, so
//! a connection is a request.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

/// An answer that carries more than this is a part of the weights.
const LARGE: u64 = 1 << 20;

const BUSY: &[u8] = b"HTTP/1.1 503 Slow Down\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// What happens to answers that come next. The default does nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    /// So many requests are answered with 503.
    pub(crate) busy: u64,
    /// So many parts break off in the middle.
    pub(crate) cut: u64,
    /// So many parts have a bit wrong.
    pub(crate) wrong: u64,
    /// So many parts come, and the others stop in the middle until they are released; none: all come.
    pub(crate) come: Option<u64>,
}

#[derive(Debug)]
struct Shared {
    faults: watch::Sender<Faults>,
    released: watch::Sender<bool>,
    carried: AtomicU64,
}

/// Relays connections to one server until dropped.
#[derive(Debug)]
pub(crate) struct Network {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

impl Network {
    pub(crate) async fn start(server: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (faults, released) = (watch::Sender::default(), watch::Sender::default());
        let shared = Arc::new(Shared { faults, released, carried: AtomicU64::new(0) });
        let accepting = Handle::current().spawn(accept(listener, server, Arc::clone(&shared)));
        Ok(Self { address, shared, accepting: accepting.abort_handle() })
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn set(&self, faults: Faults) {
        self.shared.faults.send_replace(faults);
    }

    /// The faults that have not happened yet.
    pub(crate) fn left(&self) -> Faults {
        *self.shared.faults.borrow()
    }

    /// What stalls goes on, and nothing stalls any more.
    pub(crate) fn release(&self) {
        self.shared.faults.send_modify(|faults| faults.come = None);
        self.shared.released.send_replace(true);
    }

    /// Bytes of answers so far.
    pub(crate) fn carried(&self) -> u64 {
        self.shared.carried.load(Ordering::SeqCst)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Shared {
    /// Whether this fault happens now; it happens once less then.
    fn take(&self, fault: impl Fn(&mut Faults) -> &mut u64) -> bool {
        self.faults.send_if_modified(|faults| {
            let left = fault(faults);
            let happens = *left > 0;
            *left = left.saturating_sub(1);
            happens
        })
    }

    /// Whether the next part stops in the middle.
    fn stalls(&self) -> bool {
        self.faults.send_if_modified(|faults| match &mut faults.come {
            None => false,
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
        })
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, shared: Arc<Shared>) {
    let mut relays = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        relays.spawn(relay(client, server, Arc::clone(&shared)));
        while relays.try_join_next().is_some() {}
    }
}

async fn relay(mut client: TcpStream, server: SocketAddr, shared: Arc<Shared>) {
    if shared.take(|faults| &mut faults.busy) {
        let mut request = [0; 4096];
        // All of it: a request that is read by half is a reset connection to its client.
        if client.read(&mut request).await.is_ok() && client.write_all(BUSY).await.is_ok() {
            let _ = client.shutdown().await;
        }
        return;
    }
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    let (mut from_client, to_client) = client.split();
    let (from_server, mut to_server) = server.split();
    tokio::select! {
        _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
        () = answer(from_server, to_client, &shared) => {}
    }
}

async fn answer(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, shared: &Shared) {
    let mut buffer = vec![0; 64 << 10];
    let mut of_this = 0;
    let mut decided = false;
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        of_this += count as u64;
        if of_this > LARGE && !decided {
            decided = true;
            if shared.take(|faults| &mut faults.cut) {
                return;
            }
            if shared.take(|faults| &mut faults.wrong) {
                buffer[0] ^= 1;
            }
            if shared.stalls()
                && shared.released.subscribe().wait_for(|released| *released).await.is_err()
            {
                return;
            }
        }
        shared.carried.fetch_add(count as u64, Ordering::SeqCst);
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
