//! What the cloud says about the machine, its name, its identity and its end: a watcher that asks, and a state that
//! others read.
//!
//! The watcher decides nothing. It asks the instance metadata service, says what that said, and lives with a
//! service that is not there, slow, broken or forgetful of its tokens.

mod imds;
mod instance;
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
use instance::Naming;
pub use instance::{Instance, SignedIdentity};
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
    /// The machine, once its name is known. One that is of no cloud has none.
    pub instance: watch::Receiver<Option<Instance>>,
}

/// Starts to watch. A service at `None` is not asked; a name that is given is not asked for.
pub fn start(
    imds: Option<&Uri>,
    name: Option<InstanceName>,
    clock: Arc<dyn Clock>,
    tasks: &Tasks,
) -> Cloud {
    let (announced, heard) = watch::channel(Announced::default());
    let (naming, instance) = Naming::new(name);
    if let Some(address) = imds {
        let (imds, naming) = (Imds::new(address.clone()), Some(naming));
        let watcher = Watcher { imds, clock, announced, naming };
        tasks.spawn("interruption", watcher.run(tasks.shutdown_token()));
    }
    Cloud { announced: heard, instance }
}

struct Watcher {
    imds: Imds,
    clock: Arc<dyn Clock>,
    announced: watch::Sender<Announced>,
    /// `None` once all is known of the machine.
    naming: Option<Naming>,
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
            if answered && stop.run_until_cancelled(self.ask_instance()).await.is_none() {
                return;
            }
            if stop.run_until_cancelled(sleep(next.delay)).await.is_none() {
                return;
            }
        }
    }

    async fn ask_instance(&mut self) {
        if let Some(naming) = self.naming.take() {
            self.naming = naming.ask(&mut self.imds).await;
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
