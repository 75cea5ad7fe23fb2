//! A broker in memory, with the same contract as RabbitMQ, for a fleet on one machine.
//!
//! It keeps nothing on disk: after a restart the store's sweeper dispatches again, as it would
//! after a RabbitMQ that lost its messages. A synchronous state machine under a mutex decides;
//! this file only waits and wakes.

#[cfg(test)]
mod contract_tests;
mod state;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::Notify;

use crate::error::{AckError, BrokerError, ConsumeError, PublishError};
use crate::message::{BrokerHealth, Hint, Queue, QueueDepth};
use crate::metrics;
use crate::traits::{Acker, Consumer, Delivery, Publisher, Subscriber};
use state::{ConsumerId, State, Tag, Took};

/// What the embedded broker may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmbeddedLimits {
    /// Messages in all queues, held by consumers or not. A publish past it is refused.
    pub messages: usize,
    /// Parked messages; the oldest are dropped first.
    pub parked: usize,
}

impl Default for EmbeddedLimits {
    /// About 50 MB when full.
    fn default() -> Self {
        Self { messages: 100_000, parked: 1_000 }
    }
}

/// The broker; clones are handles to the same one.
#[derive(Clone)]
pub struct EmbeddedBroker {
    inner: Arc<Inner>,
}

struct Inner {
    state: Mutex<State>,
    /// One bell per queue: rung when a consumer of it may have something to do.
    bells: Mutex<BTreeMap<Queue, Arc<Notify>>>,
}

impl EmbeddedBroker {
    pub fn new(limits: EmbeddedLimits) -> Self {
        Self {
            inner: Arc::new(Inner {
                state: Mutex::new(State::new(limits)),
                bells: Mutex::new(BTreeMap::new()),
            }),
        }
    }

    /// Ends every consumer, as the restart of a broker would; messages stay. New consumers work
    /// at once.
    pub fn disconnect_consumers(&self) {
        self.inner.lock().close_all();
        self.inner.ring_all();
    }

    /// Parked messages: rejected, or out of their delivery limit.
    pub fn parked(&self) -> Vec<Hint> {
        self.inner.lock().parked()
    }
}

impl fmt::Debug for EmbeddedBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedBroker").finish_non_exhaustive()
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state machine has no operation that can panic half way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bells(&self) -> MutexGuard<'_, BTreeMap<Queue, Arc<Notify>>> {
        self.bells.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bell(&self, queue: &Queue) -> Arc<Notify> {
        Arc::clone(self.bells().entry(queue.clone()).or_default())
    }

    fn ring(&self, queue: &Queue) {
        if let Some(bell) = self.bells().get(queue) {
            bell.notify_waiters();
        }
    }

    fn ring_all(&self) {
        for bell in self.bells().values() {
            bell.notify_waiters();
        }
    }
}

#[async_trait]
impl Publisher for EmbeddedBroker {
    async fn declare(&self, queues: &[Queue]) -> Result<(), BrokerError> {
        let mut state = self.inner.lock();
        for queue in queues {
            state.declare(queue);
        }
        Ok(())
    }

    async fn publish(&self, hints: Vec<Hint>) -> Vec<Result<(), PublishError>> {
        let started = tokio::time::Instant::now();
        let mut touched: Vec<Queue> = Vec::new();
        let outcomes: Vec<_> = {
            let mut state = self.inner.lock();
            hints
                .into_iter()
                .map(|hint| {
                    if touched.last() != Some(&hint.queue) {
                        touched.push(hint.queue.clone());
                    }
                    state.publish(hint)
                })
                .collect()
        };
        for queue in &touched {
            self.inner.ring(queue);
        }
        metrics::published(&outcomes, started.elapsed());
        outcomes
    }

    async fn depth(&self, queue: &Queue) -> Result<QueueDepth, BrokerError> {
        self.inner
            .lock()
            .depth(queue)
            .ok_or_else(|| BrokerError::QueueMissing { queue: queue.clone() })
    }

    fn health(&self) -> BrokerHealth {
        BrokerHealth::Connected
    }
}

#[async_trait]
impl Subscriber for EmbeddedBroker {
    async fn subscribe(
        &self,
        queue: &Queue,
        prefetch: u16,
    ) -> Result<Box<dyn Consumer>, BrokerError> {
        BrokerError::check_prefetch(prefetch)?;
        let id = self
            .inner
            .lock()
            .subscribe(queue, prefetch)
            .ok_or_else(|| BrokerError::QueueMissing { queue: queue.clone() })?;
        let bell = self.inner.bell(queue);
        let inner = Arc::clone(&self.inner);
        Ok(Box::new(EmbeddedConsumer { inner, bell, id, queue: queue.clone() }))
    }
}

struct EmbeddedConsumer {
    inner: Arc<Inner>,
    bell: Arc<Notify>,
    id: ConsumerId,
    queue: Queue,
}

#[async_trait]
impl Consumer for EmbeddedConsumer {
    async fn next(&mut self) -> Result<Delivery, ConsumeError> {
        loop {
            let rung = self.bell.notified();
            tokio::pin!(rung);
            // Registered before looking, so that a message which arrives in between rings it.
            rung.as_mut().enable();
            let took = self.inner.lock().take(self.id);
            match took {
                Took::Message { tag, hint, redelivered } => {
                    let inner = Arc::clone(&self.inner);
                    let queue = self.queue.clone();
                    let acker = Box::new(EmbeddedAcker { inner, queue, consumer: self.id, tag });
                    let delivery = Delivery { hint, redelivered, acker };
                    metrics::delivered(&delivery);
                    return Ok(delivery);
                }
                Took::Nothing => rung.await,
                Took::Closed => {
                    return Err(ConsumeError::Lost {
                        queue: self.queue.clone(),
                        why: "the broker ended it".to_owned(),
                    });
                }
            }
        }
    }

    async fn close(self: Box<Self>) {}
}

impl Drop for EmbeddedConsumer {
    fn drop(&mut self) {
        self.inner.lock().close(self.id);
        self.inner.ring(&self.queue);
    }
}

impl fmt::Debug for EmbeddedConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedConsumer").field("queue", &self.queue).finish_non_exhaustive()
    }
}

struct EmbeddedAcker {
    inner: Arc<Inner>,
    queue: Queue,
    consumer: ConsumerId,
    tag: Tag,
}

impl EmbeddedAcker {
    fn settle(&self, settle: fn(&mut State, ConsumerId, Tag) -> bool) -> Result<(), AckError> {
        let found = settle(&mut self.inner.lock(), self.consumer, self.tag);
        // Frees a place in the prefetch of the consumer, which may be waiting for one.
        self.inner.ring(&self.queue);
        if found { Ok(()) } else { Err(AckError::Gone) }
    }
}

#[async_trait]
impl Acker for EmbeddedAcker {
    async fn ack(self: Box<Self>) -> Result<(), AckError> {
        self.settle(State::ack)
    }

    async fn reject(self: Box<Self>) -> Result<(), AckError> {
        self.settle(State::reject)
    }
}

impl fmt::Debug for EmbeddedAcker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedAcker").field("queue", &self.queue).finish_non_exhaustive()
    }
}
