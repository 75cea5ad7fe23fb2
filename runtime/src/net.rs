//! Listening sockets with errors that say what to do.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

/// Why an address could not be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error(
        "cannot listen on {addr}: port {} is in use by another process; \
         stop that process or choose another port (`ss -ltnp 'sport = :{}'` shows who has it)",
        addr.port(), addr.port()
    )]
    InUse { addr: SocketAddr },
    #[error(
        "cannot listen on {addr}: ports below 1024 need privileges; choose a port from 1024 up"
    )]
    Denied { addr: SocketAddr },
    #[error(
        "cannot listen on {addr}: this machine has no address {}; \
         use 127.0.0.1, or one of those that `ip addr` shows",
        addr.ip()
    )]
    NoSuchAddress { addr: SocketAddr },
    #[error("cannot listen on {addr}")]
    Io {
        addr: SocketAddr,
        #[source]
        source: io::Error,
    },
}

impl BindError {
    fn new(addr: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::InUse { addr },
            io::ErrorKind::PermissionDenied => Self::Denied { addr },
            io::ErrorKind::AddrNotAvailable => Self::NoSuchAddress { addr },
            _ => Self::Io { addr, source },
        }
    }
}

/// Whether only processes of this machine can reach `addr`.
///
/// An IPv4 address written as IPv6 (`::ffff:127.0.0.1`) counts as what it stands for.
pub fn is_loopback(addr: SocketAddr) -> bool {
    addr.ip().to_canonical().is_loopback()
}

/// Listens on `addr`; port 0 takes any free port.
pub async fn bind(addr: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(addr).await.map_err(|source| BindError::new(addr, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_recognized_in_every_spelling() {
        for text in ["127.0.0.1:1", "127.8.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(is_loopback(text.parse().unwrap()), "{text}");
        }
        for text in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "[::ffff:10.0.0.1]:1"] {
            assert!(!is_loopback(text.parse().unwrap()), "{text}");
        }
    }

    #[tokio::test]
    async fn a_port_in_use_is_named_with_a_remedy() {
        let first = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let addr = first.local_addr().unwrap();
        let error = bind(addr).await.unwrap_err();
        assert!(matches!(error, BindError::InUse { .. }));
        let text = error.to_string();
        assert!(text.contains(&format!("port {} is in use", addr.port())), "{text}");
        assert!(text.contains("choose another port"), "{text}");
    }

    #[tokio::test]
    async fn an_address_of_another_machine_is_refused() {
        let error = bind("192.0.2.1:0".parse().unwrap()).await.unwrap_err();
        assert!(matches!(error, BindError::NoSuchAddress { .. }), "{error:?}");
    }
}
