//! Waiting until a local fleet can work.

use std::time::Duration;

use tokio::time::Instant;

use super::local::LocalFleet;
use super::notice::Notice;
use crate::client::{Client, Settings};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::time::span;

/// Loading a model from a cold disk takes its time; fetching one may take much longer.
const LIMIT: Duration = Duration::from_mins(2);
const INTERVAL: Duration = Duration::from_millis(100);
const PROBE_LIMIT: Duration = Duration::from_secs(2);

/// What becomes of workers that take long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slow {
    Fail,
    /// They may fetch a large model: say so, and go on as long as the processes live.
    Wait,
}

/// Waits until the coordinator answers and `workers` are ready.
///
/// `notice` is told what happens meanwhile.
pub(crate) async fn wait_until_ready(
    fleet: &mut LocalFleet,
    server: &str,
    (workers, slow): (usize, Slow),
    mut notice: impl FnMut(&Notice),
) -> Result<(), Failure> {
    let settings = Settings {
        server: server.to_owned(),
        tenant: None,
        operator_token: None,
        timeout: PROBE_LIMIT,
    };
    let client = Client::new(settings)?;
    let mut deadline = Instant::now() + LIMIT;
    let mut ready = None;
    while ready.is_none_or(|ready| ready < workers) {
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {
                if let Some(status) = client.probe().await {
                    ready = Some(status.workers_ready as usize);
                }
            }
            told = fleet.notice() => match told {
                Some(told) => notice(&told),
                None => return Err(fleet.why_down().await),
            },
            () = tokio::time::sleep_until(deadline) => match slow {
                Slow::Wait => {
                    deadline += LIMIT;
                    notice(&Notice::Slow { ready: ready.unwrap_or(0), workers });
                }
                Slow::Fail => {
                    let ready = ready.unwrap_or(0);
                    return Err(Failure::new(
                        Exit::TimedOut,
                        format!("{ready} of {workers} workers were ready after {}", span(LIMIT)),
                    )
                    .hint("their logs say what they wait for"));
                }
            },
        }
    }
    Ok(())
}
