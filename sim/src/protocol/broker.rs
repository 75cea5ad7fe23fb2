//! A model of the broker: at-least-once, unacknowledged messages per consumer, places that are kept.
//!
//! It does what was measured of the real one: messages that were taken outlive its death, what is
//! unacknowledged comes back when a consumer ends, and too many returns park a message.

use std::collections::BTreeMap;

use stoker_core::ids::{DispatchSeq, JobId};

use super::types::{Delivery, Hint, Lane, Node};

/// A message in a queue or at a consumer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message {
    pub(super) hint: Hint,
    place: u64,
    /// Ends of consumers that held it.
    pub(super) returns: u32,
}

#[derive(Debug)]
struct Consumer {
    lane: Lane,
    node: Node,
    prefetch: usize,
    unsettled: BTreeMap<u64, Message>,
}

/// What became of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Publish {
    /// In its queue.
    Taken,
    /// There is no such queue.
    Unroutable,
    /// The broker takes no messages for lack of memory or disk.
    Blocked,
    Down,
}

/// A message on its way to a worker.
#[derive(Debug, Clone, Copy)]
pub(super) struct HandOver {
    pub(super) node: Node,
    pub(super) delivery: Delivery,
    pub(super) hint: Hint,
    pub(super) redelivered: bool,
}

/// The broker.
#[derive(Debug)]
pub(super) struct Broker {
    pub(super) up: bool,
    /// Short of memory or disk.
    pub(super) alarm: bool,
    queues: BTreeMap<Lane, BTreeMap<u64, Message>>,
    consumers: BTreeMap<u64, Consumer>,
    /// Messages that were put into a queue, ever.
    taken: BTreeMap<(JobId, DispatchSeq), u32>,
    delivery_limit: u32,
    pub(super) parked: u64,
    counter: u64,
}

impl Broker {
    pub(super) fn new(lanes: usize, delivery_limit: u32) -> Self {
        Self {
            up: true,
            alarm: false,
            queues: (0..lanes).map(|lane| (lane, BTreeMap::new())).collect(),
            consumers: BTreeMap::new(),
            taken: BTreeMap::new(),
            delivery_limit,
            parked: 0,
            counter: 0,
        }
    }

    fn number(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    pub(super) fn declare(&mut self, lane: Lane) {
        if self.up {
            self.queues.entry(lane).or_default();
        }
    }

    pub(super) fn publish(&mut self, hint: Hint) -> Publish {
        if !self.up {
            return Publish::Down;
        }
        if self.alarm {
            return Publish::Blocked;
        }
        let place = self.number();
        let Some(queue) = self.queues.get_mut(&hint.lane) else { return Publish::Unroutable };
        queue.insert(place, Message { hint, place, returns: 0 });
        *self.taken.entry((hint.job, hint.seq)).or_default() += 1;
        Publish::Taken
    }

    /// Whether this message was ever put into its queue.
    pub(super) fn has_taken(&self, hint: Hint) -> bool {
        self.taken.contains_key(&(hint.job, hint.seq))
    }

    /// `None` while the broker is down or has no such queue.
    pub(super) fn subscribe(&mut self, lane: Lane, node: Node, prefetch: usize) -> Option<u64> {
        if !self.up || !self.queues.contains_key(&lane) {
            return None;
        }
        let id = self.number();
        self.consumers.insert(id, Consumer { lane, node, prefetch, unsettled: BTreeMap::new() });
        Some(id)
    }

    pub(super) fn is_open(&self, consumer: u64) -> bool {
        self.consumers.contains_key(&consumer)
    }

    /// Hands out what can be handed out, one message to each consumer in turn.
    pub(super) fn hand_out(&mut self) -> Vec<HandOver> {
        let mut handed = Vec::new();
        if !self.up {
            return handed;
        }
        loop {
            let before = handed.len();
            let ids: Vec<u64> = self.consumers.keys().copied().collect();
            for id in ids {
                handed.extend(self.hand_one(id));
            }
            if handed.len() == before {
                return handed;
            }
        }
    }

    fn hand_one(&mut self, id: u64) -> Option<HandOver> {
        let consumer = self.consumers.get_mut(&id)?;
        if consumer.unsettled.len() >= consumer.prefetch {
            return None;
        }
        let (_, message) = self.queues.get_mut(&consumer.lane)?.pop_first()?;
        self.counter += 1;
        let tag = self.counter;
        consumer.unsettled.insert(tag, message);
        let delivery = Delivery { consumer: id, tag };
        let redelivered = message.returns > 0;
        Some(HandOver { node: consumer.node, delivery, hint: message.hint, redelivered })
    }

    /// False when the delivery is no longer this consumer's.
    pub(super) fn ack(&mut self, delivery: Delivery) -> bool {
        self.take_back(delivery).is_some()
    }

    /// Puts a delivery back into its queue; its place, if it was this consumer's.
    pub(super) fn requeue(&mut self, delivery: Delivery) -> Option<Hint> {
        let message = self.take_back(delivery)?;
        self.put_back(message);
        Some(message.hint)
    }

    fn take_back(&mut self, delivery: Delivery) -> Option<Message> {
        self.consumers.get_mut(&delivery.consumer)?.unsettled.remove(&delivery.tag)
    }

    fn put_back(&mut self, mut message: Message) {
        message.returns += 1;
        if message.returns > self.delivery_limit {
            self.parked += 1;
        } else if let Some(queue) = self.queues.get_mut(&message.hint.lane) {
            queue.insert(message.place, message);
        }
    }

    /// Ends a consumer; what it holds goes back. Answers how many messages did.
    pub(super) fn close(&mut self, consumer: u64) -> usize {
        let Some(consumer) = self.consumers.remove(&consumer) else { return 0 };
        let held = consumer.unsettled.len();
        for message in consumer.unsettled.into_values() {
            self.put_back(message);
        }
        held
    }

    /// The consumers of a worker, or all.
    pub(super) fn consumers_of(&self, node: Option<Node>) -> Vec<(u64, Node)> {
        let of = self.consumers.iter().map(|(id, consumer)| (*id, consumer.node));
        of.filter(|(_, owner)| node.is_none_or(|node| *owner == node)).collect()
    }

    /// Empties a queue, or does away with it.
    pub(super) fn purge(&mut self, lane: Lane) -> usize {
        self.queues.get_mut(&lane).map(std::mem::take).map_or(0, |queue| queue.len())
    }

    /// Deletes a queue; its consumers end, and what they hold is gone.
    pub(super) fn delete(&mut self, lane: Lane) -> Vec<(u64, Node)> {
        self.queues.remove(&lane);
        let of_lane = |(_, consumer): &(&u64, &Consumer)| consumer.lane == lane;
        let ended: Vec<(u64, Node)> =
            self.consumers.iter().filter(of_lane).map(|(id, c)| (*id, c.node)).collect();
        for (id, _) in &ended {
            self.consumers.remove(id);
        }
        ended
    }

    /// Forgets one unsettled or ready message, as brokers with bugs did.
    pub(super) fn lose_one(&mut self, choose: impl FnOnce(usize) -> usize) -> Option<Hint> {
        let unsettled = self
            .consumers
            .values_mut()
            .filter_map(|c| c.unsettled.pop_first())
            .map(|(_, message)| message.hint)
            .next();
        if unsettled.is_some() {
            return unsettled;
        }
        let lanes: Vec<Lane> = self.queues.keys().copied().collect();
        let lane = lanes.get(choose(lanes.len()))?;
        let (_, message) = self.queues.get_mut(lane)?.pop_first()?;
        Some(message.hint)
    }

    /// Everything is gone, as when an embedded broker's process ends.
    pub(super) fn forget(&mut self) {
        self.consumers.clear();
        for queue in self.queues.values_mut() {
            queue.clear();
        }
    }

    /// Ready messages of a queue, if anybody can tell.
    pub(super) fn depth(&self, lane: Lane) -> Option<u64> {
        self.queues.get(&lane).filter(|_| self.up).map(|queue| queue.len() as u64)
    }

    pub(super) fn ready(&self) -> usize {
        self.queues.values().map(BTreeMap::len).sum()
    }

    pub(super) fn unsettled(&self) -> usize {
        self.consumers.values().map(|consumer| consumer.unsettled.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::types::job_id;

    const NODE: Node = Node { at: 0, life: 1 };

    fn hint(number: u64) -> Hint {
        Hint { job: job_id(number), seq: DispatchSeq::new(1), lane: 0 }
    }

    fn broker(messages: u64, delivery_limit: u32) -> Broker {
        let mut broker = Broker::new(1, delivery_limit);
        for number in 1..=messages {
            assert_eq!(broker.publish(hint(number)), Publish::Taken);
        }
        broker
    }

    fn handed(broker: &mut Broker) -> Vec<(u64, bool)> {
        let of = |handed: HandOver| {
            (crate::protocol::types::number(handed.hint.job), handed.redelivered)
        };
        broker.hand_out().into_iter().map(of).collect()
    }

    #[test]
    fn prefetch_bounds_what_is_unsettled_and_returns_keep_their_places() {
        let mut broker = broker(4, 100);
        let first = broker.subscribe(0, NODE, 2).unwrap();
        assert_eq!(handed(&mut broker), [(1, false), (2, false)]);
        assert_eq!(handed(&mut broker), []);
        assert_eq!(broker.close(first), 2);
        broker.subscribe(0, NODE, 9).unwrap();
        assert_eq!(handed(&mut broker), [(1, true), (2, true), (3, false), (4, false)]);
    }

    #[test]
    fn an_acknowledgment_counts_once_and_not_after_the_consumer_has_ended() {
        let mut broker = broker(2, 100);
        let consumer = broker.subscribe(0, NODE, 9).unwrap();
        let deliveries: Vec<Delivery> = broker.hand_out().iter().map(|one| one.delivery).collect();
        assert!(broker.ack(deliveries[0]));
        assert!(!broker.ack(deliveries[0]));
        broker.close(consumer);
        assert!(!broker.ack(deliveries[1]));
        assert_eq!((broker.ready(), broker.unsettled()), (1, 0));
    }

    #[test]
    fn what_returns_too_often_is_parked() {
        let mut broker = broker(1, 2);
        for _ in 0..3 {
            let consumer = broker.subscribe(0, NODE, 1).unwrap();
            assert_eq!(handed(&mut broker).len(), 1);
            broker.close(consumer);
        }
        assert_eq!((broker.parked, broker.ready()), (1, 0));
    }

    #[test]
    fn a_message_without_a_queue_and_one_to_a_blocked_or_dead_broker_is_not_taken() {
        let mut broker = broker(0, 100);
        broker.delete(0);
        assert_eq!(broker.publish(hint(1)), Publish::Unroutable);
        assert_eq!(broker.subscribe(0, NODE, 1), None);
        broker.declare(0);
        broker.alarm = true;
        assert_eq!(broker.publish(hint(1)), Publish::Blocked);
        broker.alarm = false;
        broker.up = false;
        assert_eq!(broker.publish(hint(1)), Publish::Down);
        assert!(!broker.has_taken(hint(1)));
    }

    #[test]
    fn taken_messages_outlive_the_broker_and_deleted_queues_take_theirs_along() {
        let mut broker = broker(3, 100);
        broker.up = false;
        broker.up = true;
        assert_eq!(broker.ready(), 3);
        assert_eq!(broker.purge(0), 3);
        broker.publish(hint(4));
        broker.subscribe(0, NODE, 1).unwrap();
        assert_eq!(handed(&mut broker).len(), 1);
        assert_eq!(broker.delete(0).len(), 1);
        assert_eq!((broker.ready(), broker.unsettled()), (0, 0));
        assert!(broker.has_taken(hint(4)));
    }
}
