//! Ports of servers that are started again where they were.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

use anyhow::Context as _;

/// Below the ports of outgoing connections (`/proc/sys/net/ipv4/ip_local_port_range`): one of those could take the port
/// of a server that is away for a moment.
const OURS: Range<u16> = 10_000..32_000;
const TRIES: usize = 100;

/// A port that was free a moment ago.
///
/// # Errors
/// When none is found.
pub fn free() -> anyhow::Result<u16> {
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let mut tries = std::iter::repeat_with(|| rand::random_range(OURS)).take(TRIES);
    tries.find(free).context("no port below those of outgoing connections is free")
}
