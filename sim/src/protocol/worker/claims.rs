//! Deliveries in, claims out.

use std::time::Duration;

use stoker_core::ids::ClaimId;
use stoker_core::worker::{AfterClaim, ClaimReply, after_claim};

use super::super::invariants::Invariant;
use super::super::sabotage::Sabotage;
use super::super::tally::Bite;
use super::super::types::{
    Answer, Ask, Caller, Claim, Delivery, Hint, Lane, Node, Purpose, number,
};
use super::super::world::{Event, World};
use super::{Claiming, Task};

/// How long a worker waits for the answer to a claim.
const LIMIT: Duration = Duration::from_secs(10);

impl World {
    pub(super) fn subscribe(&mut self, node: Node, lane: Lane) {
        let slots = self.setup.slots;
        let Ok(machine) = self.alive(node) else { return };
        if machine.drain.is_some() || machine.consumers.contains_key(&lane) {
            return;
        }
        let Some(consumer) = self.broker.subscribe(lane, node, slots) else {
            let delay = self.random.millis(100, 2_000);
            return self.later(node, delay, Task::Subscribe(lane));
        };
        if let Ok(machine) = self.alive(node) {
            machine.consumers.insert(lane, consumer);
        }
        self.note(format_args!("worker {node} consumes queue {lane}"));
        self.hand_out();
    }

    /// A consumer is over: what it gave and is not claimed yet is void.
    pub(super) fn consumer_ends(&mut self, node: Node, consumer: u64) {
        let Ok(machine) = self.alive(node) else { return };
        machine.waiting.retain(|(delivery, _)| delivery.consumer != consumer);
        let lane = machine.consumers.iter().find(|(_, id)| **id == consumer).map(|(lane, _)| *lane);
        if let Some(lane) = lane {
            machine.consumers.remove(&lane);
            let delay = self.random.millis(100, 1_000);
            self.later(node, delay, Task::Subscribe(lane));
        }
    }

    /// Tells workers that consumers are over.
    pub(in super::super) fn consumers_end(&mut self, consumers: Vec<(u64, Node)>) {
        for (consumer, node) in consumers {
            let delay = self.random.millis(1, 30);
            self.later(node, delay, Task::ConsumerEnds(consumer));
        }
    }

    pub(in super::super) fn delivered(&mut self, node: Node, delivery: Delivery, hint: Hint) {
        let machine = match self.alive(node) {
            Ok(machine) => machine,
            Err(Some(until)) => {
                return self.schedule.at(until, Event::Delivered(node, delivery, hint));
            }
            Err(None) => return,
        };
        if machine.drain.is_none() && machine.consumers.get(&hint.lane) == Some(&delivery.consumer)
        {
            machine.waiting.push_back((delivery, hint));
            self.try_claims(node);
        }
    }

    /// Claims what there is a slot for, while reports get through.
    pub(super) fn try_claims(&mut self, node: Node) {
        while let Some(key) = self.next_claim(node) {
            self.claim(node, key);
        }
    }

    fn next_claim(&mut self, node: Node) -> Option<u64> {
        let (slots, lanes, key) = (self.setup.slots, self.setup.lanes, self.fresh());
        let claim = ClaimId::from_bytes(self.random.bytes());
        let machine = self.alive(node).ok()?;
        if machine.drain.is_some() || !machine.reporting {
            return None;
        }
        let taken = |lane: Lane| {
            let claims = machine.claims.values().filter(|one| one.hint.lane == lane).count();
            claims + machine.held.values().filter(|one| one.spec.lane == lane).count()
        };
        let free: Vec<bool> = (0..lanes).map(|lane| taken(lane) < slots).collect();
        let is_free = |hint: &Hint| free.get(hint.lane).copied().unwrap_or(false);
        let index = machine.waiting.iter().position(|(_, hint)| is_free(hint))?;
        let (delivery, hint) = machine.waiting.remove(index)?;
        machine.claims.insert(key, Claiming { delivery, hint, claim, tries: 0 });
        Some(key)
    }

    pub(super) fn claim(&mut self, node: Node, key: u64) {
        let Ok(machine) = self.alive(node) else { return };
        let (id, draining) = (machine.id, machine.drain.is_some());
        let Some(claiming) = machine.claims.get_mut(&key) else { return };
        if draining {
            machine.claims.remove(&key);
            return self.check_drain(node);
        }
        claiming.tries += 1;
        let Claiming { hint, claim, .. } = *claiming;
        let claim = Claim { job: hint.job, seq: hint.seq, id: claim };
        let to = self.coordinator_for(node);
        let (purpose, ask) = (Purpose::Claim { key }, Ask::Claim { id, claim });
        self.call((Caller::Worker(node), to), purpose, ask, LIMIT);
    }

    pub(super) fn claim_answered(&mut self, node: Node, key: u64, answer: Answer) {
        let reply = match &answer {
            Answer::Granted(_) => ClaimReply::Granted,
            Answer::Refused(refusal) => ClaimReply::Refused(*refusal),
            Answer::Unknown => ClaimReply::Unknown,
            Answer::Deferred => ClaimReply::Deferred,
            _ => ClaimReply::Unanswered,
        };
        if answer == Answer::NotRegistered {
            self.lose_home(node);
        }
        let Ok(machine) = self.alive(node) else { return };
        let Some(claiming) = machine.claims.get(&key).copied() else { return };
        match (after_claim(reply), answer) {
            (AfterClaim::Run, Answer::Granted(grant)) => {
                machine.claims.remove(&key);
                self.granted(node, claiming, &grant);
            }
            (AfterClaim::ClaimAgain, _) => {
                let most = 50 << claiming.tries.min(4);
                let delay = self.random.millis(20, most);
                self.later(node, delay, Task::ClaimAgain(key));
            }
            (AfterClaim::Settle | AfterClaim::Run, _) => {
                machine.claims.remove(&key);
                self.refused(claiming);
                self.try_claims(node);
                self.check_drain(node);
            }
        }
    }

    fn refused(&mut self, claiming: Claiming) {
        self.checker.tally.add(Bite::RefusedClaims, 1);
        if !self.is(Sabotage::RequeueOnRefusal) {
            return self.ack(claiming.delivery);
        }
        if let Some(hint) = self.broker.requeue(claiming.delivery) {
            let job = number(hint.job);
            self.checker.fail(Invariant::RefusalsEnd, || {
                format!("the message of job {job} returned while its consumer went on")
            });
        }
        self.hand_out();
    }

    pub(in super::super) fn ack_arrives(
        &mut self,
        delivery: Delivery,
        sent: stoker_core::time::Timestamp,
    ) {
        if !self.broker.up {
            return;
        }
        if self.broker.alarm && self.is(Sabotage::OneConnection) {
            let again = Event::AckArrives(delivery, sent);
            return self.schedule.after(Duration::from_millis(500), again);
        }
        let took = self.now().since(sent);
        if took > Duration::from_secs(1) && self.broker.is_open(delivery.consumer) {
            self.checker.fail(Invariant::AcksGetThrough, || format!("one took {took:?}"));
        }
        self.broker.ack(delivery);
        self.hand_out();
    }
}
