//! Who used the processor: on a machine that client and server share it decides what is left.

use anyhow::Context;
use serde_json::{Value, json};

use super::sample::round;

/// The kernel's unit of time in `/proc`, the same on every Linux that there is.
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor time of a server and of this process, from a moment on.
#[derive(Debug)]
pub struct Meter {
    server: u32,
    server_before: f64,
    client_before: f64,
}

impl Meter {
    /// # Errors
    /// When the server is gone.
    pub fn start(server: u32) -> anyhow::Result<Self> {
        let client_before = seconds(std::process::id())?;
        Ok(Self { server, server_before: seconds(server)?, client_before })
    }

    /// Microseconds per operation since the start.
    ///
    /// # Errors
    /// When the server is gone.
    pub fn read(&self, operations: u64) -> anyhow::Result<Value> {
        #[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
        let each = |seconds: f64| round(seconds * 1e6 / operations.max(1) as f64, 1);
        Ok(json!({
            "coordinator": each(seconds(self.server)? - self.server_before),
            "clients": each(seconds(std::process::id())? - self.client_before),
        }))
    }
}

/// Processor time that a process has used.
fn seconds(pid: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("reading a process")?;
    // Its name, which may hold anything, ends with the last parenthesis.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    let ticks: f64 = ticks.sum::<Result<f64, _>>().context("a process without its times")?;
    Ok(ticks / TICKS_PER_SECOND)
}
