//! What the cloud says about the machine, its name and its end: a watcher that asks, and a state that others read.
//!
//! The watcher decides nothing. It asks the instance metadata service, says what that said, and lives with a
//! service that is not there, slow, broken or forgetful of its tokens.

mod imds;
#[cfg(any(test, feature = "mock-imds"))]
pub mod mock;
mod presence;
mod reading;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use hyper::Uri;
use stoker_core::ids::InstanceName;
use stoker_core::time::Timestamp;
use stoker_runtime::clock::Clock;
use stoker_runtime::tasks::Tasks;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

pub use imds::{Imds, ImdsError, Seen};
use presence::{Presence, Question, Tell};
pub use reading::{Action, InterruptionNotice, UnreadableNotice};

use crate::metrics;

/// What was announced so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Announced {
    /// When the machine is lost, by this process's clock.
    pub lost_at: Option<Timestamp>,
    /// The cloud recommends to leave the machine.
    pub rebalance: bool,
}

impl Announced {
    /// Whether the machine is taken back.
    pub const fn is_interrupted(&self) -> bool {
        self.lost_at.is_some()
    }
}

/// What the cloud says, as it says it. The senders are gone when there is nothing more to come.
#[derive(Debug, Clone)]
pub struct Cloud {
    pub announced: watch::Receiver<Announced>,
    /// The machine's name, once it is known. A machine that is of no cloud has none.
    pub instance: watch::Receiver<Option<InstanceName>>,
}

/// Starts to watch. A service at `None` is not asked; a name that is given is not asked for.
pub fn start(
    imds: Option<&Uri>,
    name: Option<InstanceName>,
    clock: Arc<dyn Clock>,
    tasks: &Tasks,
) -> Cloud {
    let (announced, heard) = watch::channel(Announced::default());
    let asks_name = name.is_none();
    let (instance, named) = watch::channel(name);
    if let Some(address) = imds {
        let instance = asks_name.then_some(instance);
        let watcher = Watcher { imds: Imds::new(address.clone()), clock, announced, instance };
        tasks.spawn("interruption", watcher.run(tasks.shutdown_token()));
    }
    Cloud { announced: heard, instance: named }
}

struct Watcher {
    imds: Imds,
    clock: Arc<dyn Clock>,
    announced: watch::Sender<Announced>,
    /// `None` once the machine's name is known.
    instance: Option<watch::Sender<Option<InstanceName>>>,
}

impl Watcher {
    /// Asks until the machine is announced to be lost, or the process ends.
    async fn run(mut self, stop: CancellationToken) {
        let mut presence = Presence::default();
        loop {
            // Dropping a request that is under way does no harm.
            let Some(seen) = stop.run_until_cancelled(self.imds.ask()).await else { return };
            let question = if seen.is_ok() { Question::Answered } else { Question::Unanswered };
            let next = presence.after(question);
            tell(next.tell, seen.as_ref().err());
            let answered = seen.is_ok();
            if let Ok(seen) = seen {
                self.announce(&seen);
            }
            if self.announced.borrow().is_interrupted() {
                return;
            }
            if answered && stop.run_until_cancelled(self.ask_name()).await.is_none() {
                return;
            }
            if stop.run_until_cancelled(sleep(next.delay)).await.is_none() {
                return;
            }
        }
    }

    /// Until it is known: whoever scales the fleet takes a machine without a worker for one that never came up.
    async fn ask_name(&mut self) {
        let Some(instance) = &self.instance else { return };
        let name = match self.imds.instance().await {
            Ok(Some(name)) => name,
            // A service that names no machine may do so later.
            Ok(None) => return,
            Err(error) => {
                debug!(%error, "the metadata service does not tell the name of this machine; asking on");
                return;
            }
        };
        match InstanceName::new(&name) {
            Ok(name) => {
                info!(instance = %name, "the name of this machine is known");
                instance.send_replace(Some(name));
                self.instance = None;
            }
            Err(error) => debug!(%error, "the metadata service gives this machine no usable name"),
        }
    }

    fn announce(&self, seen: &Seen) {
        if let Some(Err(error)) = &seen.interruption {
            metrics::imds_fault();
            warn!(%error, "the notice of an interruption cannot be read and is ignored");
        }
        let now = self.clock.now();
        self.announced.send_if_modified(|announced| {
            let before = *announced;
            announced.rebalance |= seen.rebalance;
            if let (None, Some(Ok(notice))) = (announced.lost_at, &seen.interruption) {
                announced.lost_at = Some(now.after(notice.left));
            }
            if announced.rebalance && !before.rebalance {
                metrics::announced("rebalance");
                info!("the cloud recommends to leave this machine");
            }
            *announced != before
        });
        if let Some(Ok(notice)) = &seen.interruption {
            metrics::announced("interruption");
            let (action, left) = (notice.action, notice.left);
            warn!(%action, ?left, "the cloud takes this machine back");
        }
    }
}

/// Logs and counts what has changed.
fn tell(tell: Tell, error: Option<&ImdsError>) {
    let error = error.map(tracing::field::display);
    match tell {
        Tell::Nothing => {}
        Tell::Watching => {
            metrics::imds_watched();
            info!("interruptions of this machine are announced by its metadata service");
        }
        Tell::Absent => {
            metrics::imds_not_watched();
            info!(error, "no instance metadata service: interruptions are not announced");
        }
        Tell::Faulty => {
            metrics::imds_fault();
            metrics::imds_not_watched();
            warn!(error, "the instance metadata service does not answer; asking on");
        }
        Tell::StillFaulty => {
            metrics::imds_fault();
            debug!(error, "the instance metadata service still does not answer");
        }
    }
}
