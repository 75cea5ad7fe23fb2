//! Ports of servers that are started again where they were.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

use anyhow::Context as _;

/// Below the ports of outgoing connections (`/proc/sys/net/ipv4/ip_local_port_range`): one of those could take the port
/// of a server that is away for a moment. And below those of `scripts/rabbitmq-private.sh`.
const OURS: Range<u16> = 10_000..20_000;
const TRIES: usize = 100;

/// A port that no other test gets while this value lives, nor while its server is away.
#[derive(Debug)]
pub struct Port {
    number: u16,
    // Its name is the reservation. The kernel keeps it for one socket of this network, and frees it with the process.
    _claim: UnixListener,
}

impl Port {
    /// Reserves one that nothing listens on.
    ///
    /// # Errors
    /// When none is found.
    pub fn reserve() -> anyhow::Result<Self> {
        let mut tries = std::iter::repeat_with(|| rand::random_range(OURS)).take(TRIES);
        tries.find_map(Self::claim).context("no port below those of outgoing connections is free")
    }

    fn claim(number: u16) -> Option<Self> {
        let name = SocketAddr::from_abstract_name(format!("stoker-test-port-{number}")).ok()?;
        let claim = UnixListener::bind_addr(&name).ok()?;
        TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
        Some(Self { number, _claim: claim })
    }

    /// The port's number.
    pub const fn number(&self) -> u16 {
        self.number
    }
}

#[cfg(test)]
mod tests {
    use super::Port;

    #[test]
    fn a_port_has_one_owner_at_a_time_though_nothing_listens_on_it() {
        let first = Port::reserve().unwrap();
        let number = first.number();
        assert!(Port::claim(number).is_none());
        drop(first);
        assert_eq!(Port::claim(number).unwrap().number(), number);
    }
}
