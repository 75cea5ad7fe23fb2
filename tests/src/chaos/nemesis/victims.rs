//! Whom the nemesis hits.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use tokio::time::{Instant, timeout};

use super::Stage;

/// A coordinator that does not say by then who works is broken itself.
const SAY_LIMIT: Duration = Duration::from_secs(1);

/// Who has been hit, and has not come to the end of it.
#[derive(Debug, Default)]
pub(super) struct Victims {
    /// Asked to end; their successors are there already.
    pub(super) leaving: BTreeSet<usize>,
    /// Stopped until then.
    pub(super) asleep: Vec<(Instant, Sleeper)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sleeper {
    Worker(usize),
    Coordinator(usize),
}

impl Victims {
    pub(super) fn include(&self, worker: usize) -> bool {
        let sleeps = |(_, sleeper): &(Instant, Sleeper)| *sleeper == Sleeper::Worker(worker);
        self.leaving.contains(&worker) || self.asleep.iter().any(sleeps)
    }

    pub(super) fn last_wakes_at(&self) -> Instant {
        self.asleep.iter().map(|(until, _)| *until).max().unwrap_or_else(Instant::now)
    }

    /// Wakes those whose time has come; one that was killed meanwhile stays dead.
    pub(super) fn wake(&mut self, stage: &mut Stage, now: Instant) -> anyhow::Result<()> {
        for (_, sleeper) in self.asleep.extract_if(.., |(until, _)| *until <= now) {
            let program = match sleeper {
                Sleeper::Worker(number) => stage.fleet.worker(number),
                Sleeper::Coordinator(number) => {
                    stage.fleet.talk_to(number);
                    stage.fleet.coordinator()
                }
            };
            if program.ended()?.is_none() {
                program.signal("CONT")?;
            }
            stage.fleet.talk_to(0);
        }
        Ok(())
    }
}

/// One of `living`, which are some: one that runs something, if there is one and somebody can say so. An idle worker is not
/// missed.
pub(super) async fn choose(stage: &mut Stage, living: &[usize], random: &mut StdRng) -> usize {
    let busy = match timeout(SAY_LIMIT, stage.fleet.busy_workers()).await {
        Ok(Ok(busy)) => busy,
        Ok(Err(_)) | Err(_) => BTreeSet::new(),
    };
    let at_work: Vec<usize> = living
        .iter()
        .copied()
        .filter(|worker| busy.contains(&stage.fleet.worker(*worker).pid()))
        .collect();
    let among = if at_work.is_empty() { living } else { &at_work };
    among[random.random_range(0..among.len())]
}
