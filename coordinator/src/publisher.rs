//! Publishes the outbox: sends what is committed, and clears what the broker confirmed.
//!
//! A message that was not confirmed stays in the outbox and is sent again. A queue that does not take
//! its messages is set aside and tried apart from the others, so that it holds up no other. Of several
//! coordinators the one that dispatches sends the outbox.

mod aside;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use stoker_broker::{Hint, PublishError, Publisher};
use stoker_core::outbox::{self, Confirms, LOOK_AGAIN_AFTER, Sent, Standing, confirms};
use stoker_runtime::crash;
use stoker_runtime::retry::Delays;
use stoker_runtime::tasks::Tasks;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::events::Events;
use crate::metrics;
use crate::store::{JobStore, Lane, LaneSet, OutboxEntry, Role, StoreError};

pub use self::aside::Aside;

/// Messages in one round.
const BATCH: u32 = 512;
/// Rounds that may wait behind the present one.
const ROUNDS: usize = 4;
/// Messages that a queue which is set aside is tried with.
const TRIAL: u32 = 16;

/// What the publisher works with.
#[derive(Debug, Clone)]
pub struct OutboxPublisher {
    pub store: Arc<dyn JobStore>,
    pub broker: Arc<dyn Publisher>,
    pub events: Arc<Events>,
    pub aside: Arc<Aside>,
}

impl OutboxPublisher {
    /// Starts its tasks, which end with the tasks' shutdown token. Answers where the dispatcher is to
    /// put what it has committed.
    pub fn start(self, tasks: &Tasks) -> mpsc::Sender<Vec<OutboxEntry>> {
        let (rounds, inbox) = mpsc::channel(ROUNDS);
        let shutdown = tasks.shutdown_token();
        tasks.spawn_critical("publisher", publish(self.clone(), inbox, shutdown.clone()));
        tasks.spawn_critical("publisher-trials", try_aside(self, shutdown));
        rounds
    }

    /// Publishes and clears what was confirmed. Queues that refuse are set aside.
    async fn send(&self, entries: Vec<OutboxEntry>) -> Result<Outcome, StoreError> {
        let hints = entries.iter().map(hint).collect();
        let outcomes = crash::around("publish", self.broker.publish(hints)).await;
        let Confirms { confirmed, unconfirmed, refused } =
            confirms(entries, outcomes, |entry| entry.lane.clone());
        metrics::published(confirmed.len(), unconfirmed);
        let all = refused.is_empty();
        for (lane, error) in refused {
            tell(&lane, &error, self.aside.set(lane.clone(), &error, Instant::now()));
        }
        if !confirmed.is_empty() {
            crash::around("clear_outbox", self.store.clear_outbox(confirmed)).await?;
        }
        Ok(if all { Outcome::Confirmed } else { Outcome::Refused })
    }

    /// Sends a round of what the outbox holds for queues in good standing.
    async fn send_outbox(&self) -> Result<Sent, StoreError> {
        if !self.store.leads(Role::Dispatch) {
            return Ok(Sent::All);
        }
        let entries = self.store.outbox(BATCH, LaneSet::AllBut(self.aside.lanes_aside())).await?;
        let full = entries.len() >= BATCH as usize;
        if !entries.is_empty() {
            self.send(entries).await?;
        }
        Ok(if full { Sent::MoreLeft } else { Sent::All })
    }

    /// Tries a queue that was set aside with a few of its messages.
    async fn try_queue(&self, lane: Lane) -> Result<(), StoreError> {
        if !self.store.leads(Role::Dispatch) {
            // Whoever leads finds out for itself.
            self.aside.readmit(&lane);
            return Ok(());
        }
        let entries = self.store.outbox(TRIAL, LaneSet::Only(lane.clone())).await?;
        if entries.is_empty() || self.send(entries).await? == Outcome::Confirmed {
            if self.aside.readmit(&lane) {
                tracing::info!(queue = %lane, "the broker takes the queue's messages again");
            }
            // The others that wait for it.
            self.events.outbox.notify_one();
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Confirmed,
    /// Some of it was not.
    Refused,
}

fn hint(entry: &OutboxEntry) -> Hint {
    Hint {
        job: entry.job,
        seq: entry.seq,
        queue: entry.lane.clone(),
        trace: entry.trace.to_pairs(),
    }
}

fn tell(lane: &Lane, error: &PublishError, standing: Standing) {
    let error = error as &dyn std::error::Error;
    match standing {
        Standing::Lost => {
            tracing::warn!(queue = %lane, error, "the queue's messages stay in the outbox");
        }
        Standing::StillAside => {
            tracing::debug!(queue = %lane, error, "the queue's messages still stay in the outbox");
        }
    }
}

/// Sends what the dispatcher committed, and what the outbox holds besides: left behind by an earlier
/// process, or lost by the broker.
async fn publish(
    publisher: OutboxPublisher,
    mut inbox: mpsc::Receiver<Vec<OutboxEntry>>,
    shutdown: CancellationToken,
) {
    let mut delays = Delays::new(Duration::from_millis(200), Duration::from_secs(5));
    let mut owed = outbox::Publisher::new();
    let mut look_at = Instant::now();
    loop {
        // Cancel-safe: a round that was not received stays in the channel. Neither source starves
        // the other, since ready branches are taken at random.
        let round = tokio::select! {
            round = inbox.recv() => match round {
                Some(round) => Some(gather(round, &mut inbox)),
                None => return,
            },
            () = std::future::ready(()), if owed.owes() => None,
            () = publisher.events.outbox.notified(), if !owed.owes() => {
                owed.rung();
                continue;
            }
            // Not put off by rounds that keep coming.
            () = sleep_until(look_at), if !owed.owes() => {
                owed.rung();
                continue;
            }
            () = shutdown.cancelled() => return,
        };
        let done = if let Some(round) = round {
            let round = publisher.aside.without_aside(round);
            publisher.send(round).await.map(|_| Sent::All)
        } else {
            owed.reads();
            look_at = Instant::now() + LOOK_AGAIN_AFTER;
            publisher.send_outbox().await
        };
        match done {
            Ok(sent) => {
                owed.sent(sent);
                delays.reset();
            }
            Err(error) => {
                unusable(&error);
                // What was confirmed but not cleared is sent once more, which is harmless.
                owed.sent(Sent::Failed);
                if !delays.wait(&shutdown).await {
                    return;
                }
            }
        }
    }
}

/// Rounds that wait already go along.
fn gather(
    mut round: Vec<OutboxEntry>,
    inbox: &mut mpsc::Receiver<Vec<OutboxEntry>>,
) -> Vec<OutboxEntry> {
    while round.len() < BATCH as usize
        && let Ok(next) = inbox.try_recv()
    {
        round.extend(next);
    }
    round
}

/// Tries the queues that were set aside, each when its time has come.
async fn try_aside(publisher: OutboxPublisher, shutdown: CancellationToken) {
    loop {
        let next = publisher.aside.next_trial();
        // Cancel-safe: only waiting.
        tokio::select! {
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            () = publisher.aside.changed() => continue,
            () = shutdown.cancelled() => return,
        }
        let due = publisher.aside.due(Instant::now());
        for tried in join_all(due.into_iter().map(|lane| publisher.try_queue(lane))).await {
            if let Err(error) = tried {
                unusable(&error);
            }
        }
    }
}

fn unusable(error: &StoreError) {
    let error = error as &dyn std::error::Error;
    tracing::warn!(error, "the outbox cannot be used; trying again");
}
