//! Calls that come in: who may call, what is read or committed, and what is answered.

use std::time::Duration;

use stoker_core::ids::{LeaseToken, WorkerId};
use stoker_core::time::Timestamp;

use super::super::sabotage::Sabotage;
use super::super::setup::Fault;
use super::super::tally::Bite;
use super::super::types::{Answer, Ask, Caller, Heard, Node, number};
use super::super::world::{Event, World};

impl World {
    pub(in super::super) fn call_arrives(&mut self, call: u64, to: Node, ask: Box<Ask>) {
        match self.awake(to) {
            Ok(()) => {}
            Err(Some(until)) => return self.schedule.at(until, Event::CallArrives(call, to, ask)),
            Err(None) => return self.answer(call, Answer::None),
        }
        match *ask {
            Ask::Register { id, node } => {
                let stream = self.fresh();
                if let Some(own) = self.coordinators.get_mut(to.at) {
                    own.streams.insert(id, (node, stream));
                }
                self.note(format_args!("worker {node} registers with coordinator {to}"));
                self.ring_fill(to);
                return self.answer(call, Answer::Registered);
            }
            Ask::Read { tenant, job } => {
                if self.store_away_until > self.now() {
                    return self.answer(call, Answer::None);
                }
                let view = self.store.read(tenant, job).map(Box::new);
                return self.answer(call, Answer::Seen(view));
            }
            Ask::Claim { id, .. } if !self.knows(to, id) => {
                return self.answer(call, Answer::NotRegistered);
            }
            // The answer to a call of many claims is full before this one.
            Ask::Claim { .. } if self.random.chance(0.02) => {
                return self.answer(call, Answer::Deferred);
            }
            Ask::Submit { ref jobs, .. } if self.is(Sabotage::AnswerBeforeCommit) => {
                let ids = self.store.next_ids(jobs.len());
                self.answer(call, Answer::Submitted(ids));
            }
            _ => {}
        }
        let slow = self.happens(Fault::CallSlow, 0.02);
        let delay = if slow { self.random.millis(50, 2_000) } else { self.random.millis(1, 10) };
        self.schedule.after(delay, Event::CallCommits(call, to, ask));
    }

    pub(in super::super) fn call_commits(&mut self, call: u64, to: Node, ask: &Ask) {
        match self.awake(to) {
            Ok(()) => {}
            Err(Some(until)) => {
                let ask = Box::new(ask.clone());
                return self.schedule.at(until, Event::CallCommits(call, to, ask));
            }
            // Its transaction is dropped.
            Err(None) => return self.answer(call, Answer::None),
        }
        // Drawn by the coordinator, whatever becomes of the call.
        let token = LeaseToken::from_bytes(self.random.bytes());
        let jitter = self.random.unit();
        let answer = self.transact(to, |world, now| world.verb(ask, (token, jitter), now));
        if let Ok(answer) = answer {
            self.note_answer(call, &answer);
            return self.answer(call, answer);
        }
        let worker = self.caller(call).and_then(|caller| self.worker_of(caller));
        // An outage is forgiven by the amnesty; a single call that fails is not.
        if self.store_away_until <= self.now() {
            self.trouble(worker, Duration::from_secs(30));
        }
        self.answer(call, Answer::None);
    }

    /// Whether a worker has a stream with this coordinator.
    fn knows(&self, to: Node, id: WorkerId) -> bool {
        self.coordinators.get(to.at).is_some_and(|own| own.streams.contains_key(&id))
    }

    /// Does in the store what a call asks for.
    fn verb(&mut self, ask: &Ask, (token, jitter): (LeaseToken, f64), now: Timestamp) -> Answer {
        match ask {
            Ask::Submit { tenant, key, jobs } => {
                let answer = self.store.submit(*tenant, *key, jobs, now);
                let created = self.store.changes().len();
                if matches!(answer, Answer::Submitted(_)) {
                    self.checker.submitted((*tenant, *key), created, &self.store);
                }
                answer
            }
            Ask::Cancel { tenant, job } => Answer::Cancelled(self.store.cancel(*tenant, *job, now)),
            Ask::Retry { tenant, job } => {
                let new = self.store.retry(*tenant, *job, now);
                if let Some(new) = new.filter(|_| !self.store.changes().is_empty()) {
                    self.checker.retried(*job, new, &self.store);
                }
                Answer::Retried(new)
            }
            Ask::Claim { id, claim } => self.store.claim(*id, claim, token, now),
            Ask::Beat { attempts } => {
                let beats = attempts.iter().map(|(fence, parts)| {
                    let heard = self.store.heartbeat(fence, parts, now);
                    if heard != Heard::Fenced
                        && let Some(last) = parts.last()
                    {
                        self.checker.acknowledged(fence.job, last.span().end());
                    }
                    heard
                });
                Answer::Beats(beats.collect())
            }
            Ask::Complete { fence, parts } => self.store.complete(fence, parts, now),
            Ask::Fail { fence, error } => self.store.fail(fence, error.clone(), jitter, now),
            Ask::Release { fence, reason, parts } => self.store.release(fence, *reason, parts, now),
            // Not for the store.
            Ask::Register { .. } | Ask::Read { .. } => Answer::None,
        }
    }

    fn note_answer(&mut self, call: u64, answer: &Answer) {
        match answer {
            Answer::Granted(grant) if self.store.changed_nothing() => {
                self.checker.tally.add(Bite::RepeatedGrants, 1);
                let job = number(grant.fence.job);
                self.note(format_args!("the grant of job {job} is repeated"));
            }
            Answer::Refused(refusal) => {
                self.note(format_args!("claim refused: {refusal:?}"));
            }
            Answer::Shed { .. } => self.checker.tally.add(Bite::Shed, 1),
            Answer::NoUse if self.caller(call) == Some(Caller::Forger) => {
                self.checker.tally.add(Bite::ForgedReports, 1);
            }
            _ => {}
        }
    }
}
