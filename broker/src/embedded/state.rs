//! The embedded broker's rules, without waiting: who holds which message, and where it goes next.

use std::collections::{BTreeMap, VecDeque};

use super::EmbeddedLimits;
use crate::error::PublishError;
use crate::message::{Hint, Queue, QueueDepth};
use crate::topology::DELIVERY_LIMIT;
use crate::wire;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ConsumerId(u64);

/// One delivery; never reused, so a late settlement can't hit another message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tag(u64);

/// Place in the order of arrival; a returned message keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place(u64);

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Took {
    Message {
        tag: Tag,
        hint: Hint,
        redelivered: bool,
    },
    /// Queue empty, or prefetch used up.
    Nothing,
    /// The consumer has ended.
    Closed,
}

#[derive(Debug)]
struct Message {
    hint: Hint,
    place: Place,
    returns: u32,
}

#[derive(Debug, Default)]
struct QueueState {
    ready: BTreeMap<Place, Message>,
    consumers: u64,
}

#[derive(Debug)]
struct ConsumerState {
    queue: Queue,
    prefetch: usize,
    unsettled: BTreeMap<Tag, Message>,
}

#[derive(Debug)]
pub(super) struct State {
    limits: EmbeddedLimits,
    queues: BTreeMap<Queue, QueueState>,
    consumers: BTreeMap<ConsumerId, ConsumerState>,
    parked: VecDeque<Hint>,
    /// Ready and unsettled messages of all queues.
    held: usize,
    counter: u64,
}

impl State {
    pub(super) fn new(limits: EmbeddedLimits) -> Self {
        Self {
            limits,
            queues: BTreeMap::new(),
            consumers: BTreeMap::new(),
            parked: VecDeque::new(),
            held: 0,
            counter: 0,
        }
    }

    pub(super) fn declare(&mut self, queue: &Queue) {
        if !self.queues.contains_key(queue) {
            self.queues.insert(queue.clone(), QueueState::default());
        }
    }

    pub(super) fn publish(&mut self, mut hint: Hint) -> Result<(), PublishError> {
        if !self.queues.contains_key(&hint.queue) {
            return Err(PublishError::Unroutable { queue: hint.queue });
        }
        if self.held >= self.limits.messages {
            return Err(PublishError::Refused {
                reason: format!("the embedded broker holds its limit of {} messages", self.held),
            });
        }
        hint.trace = wire::carried(&hint.trace);
        let place = Place(self.next_number());
        if let Some(state) = self.queues.get_mut(&hint.queue) {
            state.ready.insert(place, Message { hint, place, returns: 0 });
            self.held += 1;
        }
        Ok(())
    }

    pub(super) fn depth(&self, queue: &Queue) -> Option<QueueDepth> {
        self.queues.get(queue).map(|state| QueueDepth {
            ready: u64::try_from(state.ready.len()).unwrap_or(u64::MAX),
            consumers: state.consumers,
        })
    }

    /// `None` when the queue does not exist.
    pub(super) fn subscribe(&mut self, queue: &Queue, prefetch: u16) -> Option<ConsumerId> {
        let id = ConsumerId(self.next_number());
        self.queues.get_mut(queue)?.consumers += 1;
        let unsettled = BTreeMap::new();
        let state = ConsumerState { queue: queue.clone(), prefetch: prefetch.into(), unsettled };
        self.consumers.insert(id, state);
        Some(id)
    }

    pub(super) fn take(&mut self, id: ConsumerId) -> Took {
        let tag = Tag(self.next_number());
        let Some(consumer) = self.consumers.get_mut(&id) else { return Took::Closed };
        if consumer.unsettled.len() >= consumer.prefetch {
            return Took::Nothing;
        }
        let Some(queue) = self.queues.get_mut(&consumer.queue) else { return Took::Closed };
        let Some((_, message)) = queue.ready.pop_first() else { return Took::Nothing };
        let (hint, redelivered) = (message.hint.clone(), message.returns > 0);
        consumer.unsettled.insert(tag, message);
        Took::Message { tag, hint, redelivered }
    }

    /// False when the delivery is no longer this consumer's.
    pub(super) fn ack(&mut self, id: ConsumerId, tag: Tag) -> bool {
        self.remove_unsettled(id, tag).is_some()
    }

    /// False when the delivery is no longer this consumer's.
    pub(super) fn reject(&mut self, id: ConsumerId, tag: Tag) -> bool {
        match self.remove_unsettled(id, tag) {
            Some(message) => {
                self.park(message.hint);
                true
            }
            None => false,
        }
    }

    /// Ends a consumer; what it holds goes back to its place, or is parked. Repeatable.
    pub(super) fn close(&mut self, id: ConsumerId) {
        let Some(consumer) = self.consumers.remove(&id) else { return };
        if let Some(queue) = self.queues.get_mut(&consumer.queue) {
            queue.consumers -= 1;
        }
        for mut message in consumer.unsettled.into_values() {
            message.returns += 1;
            if message.returns > DELIVERY_LIMIT {
                self.held -= 1;
                self.park(message.hint);
            } else if let Some(queue) = self.queues.get_mut(&consumer.queue) {
                queue.ready.insert(message.place, message);
            }
        }
    }

    pub(super) fn close_all(&mut self) {
        let ids: Vec<ConsumerId> = self.consumers.keys().copied().collect();
        for id in ids {
            self.close(id);
        }
    }

    pub(super) fn parked(&self) -> Vec<Hint> {
        self.parked.iter().cloned().collect()
    }

    fn remove_unsettled(&mut self, id: ConsumerId, tag: Tag) -> Option<Message> {
        let message = self.consumers.get_mut(&id)?.unsettled.remove(&tag)?;
        self.held -= 1;
        Some(message)
    }

    fn park(&mut self, hint: Hint) {
        if self.parked.len() >= self.limits.parked {
            self.parked.pop_front();
        }
        self.parked.push_back(hint);
    }

    fn next_number(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }
}

#[cfg(test)]
mod tests {
    use stoker_core::ids::{DispatchSeq, JobId, ModelName, PoolName};
    use uuid::Uuid;

    use super::*;

    fn queue(model: &str) -> Queue {
        Queue { pool: PoolName::new("cpu").unwrap(), model: ModelName::new(model).unwrap() }
    }

    fn hint(number: u128) -> Hint {
        Hint {
            job: JobId::from_uuid(Uuid::from_u128(number)),
            seq: DispatchSeq::new(1),
            queue: queue("m"),
            trace: Vec::new(),
        }
    }

    fn state_with(messages: u128) -> State {
        let mut state = State::new(EmbeddedLimits { messages: 10, parked: 2 });
        state.declare(&queue("m"));
        for number in 1..=messages {
            state.publish(hint(number)).unwrap();
        }
        state
    }

    fn number(took: &Took) -> u128 {
        match took {
            Took::Message { hint, .. } => hint.job.as_uuid().as_u128(),
            Took::Nothing | Took::Closed => panic!("{took:?}"),
        }
    }

    fn tag(took: &Took) -> Tag {
        match took {
            Took::Message { tag, .. } => *tag,
            Took::Nothing | Took::Closed => panic!("{took:?}"),
        }
    }

    #[test]
    fn returned_messages_take_their_old_places_whoever_held_them() {
        let mut state = state_with(5);
        let a = state.subscribe(&queue("m"), 10).unwrap();
        let b = state.subscribe(&queue("m"), 10).unwrap();
        for (id, expected) in [(a, 1), (b, 2), (a, 3), (b, 4)] {
            assert_eq!(number(&state.take(id)), expected);
        }
        state.close(b);
        state.close(a);
        let c = state.subscribe(&queue("m"), 10).unwrap();
        let order: Vec<u128> = (0..5).map(|_| number(&state.take(c))).collect();
        assert_eq!(order, [1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_bound_counts_held_messages_until_they_are_settled() {
        let mut state = state_with(10);
        let consumer = state.subscribe(&queue("m"), 1).unwrap();
        let took = state.take(consumer);
        assert!(matches!(state.publish(hint(11)), Err(PublishError::Refused { .. })));
        assert!(state.ack(consumer, tag(&took)));
        assert_eq!(state.publish(hint(11)), Ok(()));
        let took = state.take(consumer);
        assert!(state.reject(consumer, tag(&took)));
        assert_eq!(state.publish(hint(12)), Ok(()));
        assert!(matches!(state.publish(hint(13)), Err(PublishError::Refused { .. })));
    }

    #[test]
    fn a_settlement_counts_once_and_only_for_its_consumer() {
        let mut state = state_with(2);
        let a = state.subscribe(&queue("m"), 2).unwrap();
        let b = state.subscribe(&queue("m"), 2).unwrap();
        let took = state.take(a);
        assert!(!state.ack(b, tag(&took)));
        assert!(state.ack(a, tag(&took)));
        assert!(!state.ack(a, tag(&took)));
        assert!(!state.reject(a, tag(&took)));
        assert_eq!(state.parked(), []);
    }

    #[test]
    fn the_message_after_the_last_allowed_return_is_parked() {
        let mut state = state_with(1);
        for round in 0..=DELIVERY_LIMIT {
            let id = state.subscribe(&queue("m"), 1).unwrap();
            let took = state.take(id);
            assert!(
                matches!(took, Took::Message { redelivered, .. } if redelivered == (round > 0))
            );
            state.close(id);
        }
        let id = state.subscribe(&queue("m"), 1).unwrap();
        assert_eq!(state.take(id), Took::Nothing);
        assert_eq!(state.parked(), [hint(1)]);
        assert_eq!(state.held, 0);
    }

    #[test]
    fn parked_messages_are_bounded_and_the_oldest_go_first() {
        let mut state = state_with(3);
        let id = state.subscribe(&queue("m"), 1).unwrap();
        for _ in 0..3 {
            let took = state.take(id);
            assert!(state.reject(id, tag(&took)));
        }
        assert_eq!(state.parked(), [hint(2), hint(3)]);
    }

    #[test]
    fn declaring_again_keeps_the_messages() {
        let mut state = state_with(2);
        state.declare(&queue("m"));
        assert_eq!(state.depth(&queue("m")), Some(QueueDepth { ready: 2, consumers: 0 }));
        assert_eq!(state.depth(&queue("other")), None);
        assert_eq!(state.subscribe(&queue("other"), 1), None);
    }

    #[test]
    fn a_closed_consumer_gets_nothing_and_closing_again_is_harmless() {
        let mut state = state_with(1);
        let id = state.subscribe(&queue("m"), 1).unwrap();
        state.close_all();
        state.close(id);
        assert_eq!(state.take(id), Took::Closed);
        assert_eq!(state.depth(&queue("m")), Some(QueueDepth { ready: 1, consumers: 0 }));
    }
}
