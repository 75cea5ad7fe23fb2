//! Deliveries in: one consumer per model, opened and closed by its gate, made anew after any error.

mod claims;

use std::sync::Arc;
use std::time::Duration;

use stoker_broker::{Consumer, Delivery, Queue, Subscriber};
use stoker_runtime::retry::Delays;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::agent::Event;

pub use claims::{Claims, run as run_claims};

const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(2);

/// A delivery with the slot that its job will take.
#[derive(Debug)]
pub struct Claimable {
    /// The model's place in the worker's list.
    pub index: usize,
    pub delivery: Delivery,
    pub slot: OwnedSemaphorePermit,
}

/// Where one model's deliveries come from and go to.
#[derive(Debug)]
pub struct Intake {
    pub index: usize,
    pub queue: Queue,
    /// Deliveries held unsettled at once.
    pub prefetch: u16,
    /// One permit for each job that may be held.
    pub slots: Arc<Semaphore>,
    pub subscriber: Arc<dyn Subscriber>,
    /// Whether new work is wanted. Closing it gives back what is not claimed yet.
    pub gate: watch::Receiver<bool>,
    pub claims: mpsc::Sender<Claimable>,
    /// Told whether deliveries come in.
    pub events: mpsc::Sender<Event>,
    pub stop: CancellationToken,
}

/// Why a consumer was left.
enum Left {
    GateClosed,
    Broken(String),
    End,
}

impl Intake {
    /// Runs until `stop`, or until nobody claims any more.
    pub async fn run(mut self) {
        let mut delays = Delays::new(FIRST_RETRY, LAST_RETRY);
        let mut complained = false;
        while self.wait_for_gate().await {
            let opening = self.subscriber.subscribe(&self.queue, self.prefetch);
            let consumer = tokio::select! {
                consumer = opening => consumer,
                () = self.stop.cancelled() => return,
            };
            match consumer {
                Ok(consumer) => {
                    info!(queue = %self.queue, prefetch = self.prefetch, "consuming");
                    complained = false;
                    self.tell(Ok(())).await;
                    match self.consume(consumer, &mut delays).await {
                        Left::GateClosed => continue,
                        Left::Broken(reason) => self.tell(Err(reason)).await,
                        Left::End => return,
                    }
                }
                Err(error) => {
                    if complained {
                        debug!(queue = %self.queue, %error, "still not consuming");
                    } else {
                        warn!(queue = %self.queue, %error, "cannot consume; trying again");
                        self.tell(Err(error.to_string())).await;
                    }
                    complained = true;
                }
            }
            if !delays.wait(&self.stop).await {
                return;
            }
        }
    }

    async fn tell(&self, open: Result<(), String>) {
        // An agent that has ended wants no news.
        let _ = self.events.send(Event::Intake { index: self.index, open }).await;
    }

    /// False when the worker ends.
    async fn wait_for_gate(&mut self) -> bool {
        tokio::select! {
            () = self.stop.cancelled() => false,
            open = self.gate.wait_for(|open| *open) => open.is_ok(),
        }
    }

    async fn consume(&mut self, mut consumer: Box<dyn Consumer>, delays: &mut Delays) -> Left {
        let left = loop {
            // A slot first: what is received is also run. Every branch is cancel-safe.
            let next = async {
                let slot = Arc::clone(&self.slots).acquire_owned().await;
                (slot, consumer.next().await)
            };
            let (slot, delivery) = tokio::select! {
                biased;
                () = self.stop.cancelled() => break Left::End,
                _ = self.gate.wait_for(|open| !*open) => break Left::GateClosed,
                next = next => next,
            };
            let delivery = match delivery {
                Ok(delivery) => delivery,
                Err(error) => {
                    warn!(queue = %self.queue, %error, "consumer lost; consuming anew");
                    // Its deliveries are void; those being claimed are granted all the same.
                    return Left::Broken(error.to_string());
                }
            };
            delays.reset();
            let Ok(slot) = slot else { break Left::End };
            let claimable = Claimable { index: self.index, delivery, slot };
            if self.claims.send(claimable).await.is_err() {
                break Left::End;
            }
        };
        consumer.close().await;
        left
    }
}
