//! Attempts while they run: their items, their heartbeats and how they end.

use std::time::Duration;

use stoker_core::ids::{Attempt, JobId};
use stoker_core::job::{AttemptError, FailureKind, ReleaseReason};
use stoker_core::worker::{AfterBeat, BeatReply, Phase, ReportKind, after_beat};

use super::super::sabotage::Sabotage;
use super::super::types::{Answer, Ask, Caller, Grant, Heard, Nature, Node, Purpose, number};
use super::super::world::World;
use super::{Beat, Body, Claiming, Held, Machine, Outcome, Results, Task};

/// How long a worker waits for the answer to a heartbeat.
const LIMIT: Duration = Duration::from_secs(10);

impl World {
    pub(super) fn granted(&mut self, node: Node, claiming: Claiming, grant: &Grant) {
        let (key, now) = (self.fresh(), self.now());
        let outcome = self.outcome(grant);
        let Ok(machine) = self.alive(node) else { return };
        let draining = machine.drain.map(|drain| drain.reason);
        let held = Held {
            fence: grant.fence,
            spec: grant.spec,
            delivery: claiming.delivery,
            alone: grant.alone,
            phase: Phase::Running,
            first_item: grant.first_item,
            started_at: now,
            results: Results { cut: grant.first_item, unsent: Vec::new(), in_flight: Vec::new() },
            finished: false,
            outcome,
        };
        machine.held.insert(key, held);
        if let Some(reason) = draining {
            self.report(node, key, ReportKind::Release, Body::HandBack(reason, Vec::new()));
            return self.check_drain(node);
        }
        let (job, attempt) = (grant.fence.job, grant.fence.attempt);
        let (from, id) = (grant.first_item, number(job));
        self.note(format_args!("worker {node} runs job {id}, attempt {attempt}, from item {from}"));
        self.checker.executes(job, attempt);
        if let Some(length) = self.length(grant, outcome) {
            self.later(node, length, Task::RunEnds(key));
        }
    }

    /// How the run will end, by the nature of the job and what it did before.
    fn outcome(&mut self, grant: &Grant) -> Outcome {
        let done = self.mishaps.entry(grant.fence.job).or_default();
        let (times, outcome) = match grant.spec.nature {
            Nature::Fine | Nature::Endless => return Outcome::Complete,
            Nature::Broken => return Outcome::Fail(FailureKind::Permanent),
            Nature::Flaky(times) => (times, Outcome::Fail(FailureKind::Retryable)),
            Nature::Crashing(times) => (times, Outcome::EngineDies),
            Nature::Lethal(times) => (times, Outcome::WorkerDies),
        };
        if *done >= times {
            return Outcome::Complete;
        }
        *done += 1;
        outcome
    }

    /// How long the run takes; `None`: for ever.
    fn length(&mut self, grant: &Grant, outcome: Outcome) -> Option<Duration> {
        let spec = grant.spec;
        if spec.nature == Nature::Endless {
            return None;
        }
        let items = u64::from(spec.items - grant.first_item);
        let whole = items * spec.item_millis;
        let some = self.random.between(0, whole);
        let millis = if outcome == Outcome::Complete { whole } else { some };
        Some(Duration::from_millis(millis + 1))
    }

    pub(super) fn run_ends(&mut self, node: Node, key: u64) {
        let Ok(machine) = self.alive(node) else { return };
        let Some(held) = machine.held.get_mut(&key) else { return };
        if held.phase == Phase::Reporting {
            return;
        }
        match held.outcome {
            Outcome::Complete if !held.results.in_flight.is_empty() => held.finished = true,
            Outcome::Complete => self.complete(node, key),
            Outcome::Fail(kind) => self.fail(node, key, kind),
            Outcome::EngineDies => self.engine_dies(node, key),
            Outcome::WorkerDies => {
                self.note(format_args!("a job takes worker {node} down"));
                self.worker_dies_for(node.at, Duration::from_secs(5));
            }
        }
    }

    fn complete(&mut self, node: Node, key: u64) {
        let Ok(machine) = self.alive(node) else { return };
        let Some(held) = machine.held.get_mut(&key) else { return };
        let parts = held.rest(held.spec.items);
        self.report(node, key, ReportKind::Complete, Body::Result(parts));
    }

    pub(super) fn fail(&mut self, node: Node, key: u64, kind: FailureKind) {
        let code = format!("{kind:?}").to_ascii_uppercase();
        let error = AttemptError { kind, code, message: "as planned".to_owned() };
        self.report(node, key, ReportKind::Fail, Body::Failure(error));
    }

    /// The engine of a model dies with everything in its batch. Jobs that run alone share none.
    fn engine_dies(&mut self, node: Node, key: u64) {
        let Ok(machine) = self.alive(node) else { return };
        let Some(culprit) = machine.held.get(&key) else { return };
        let (lane, alone, job) = (culprit.spec.lane, culprit.alone, culprit.fence.job);
        let shares = |held: &Held| {
            held.spec.lane == lane && !held.alone && !alone && held.phase == Phase::Running
        };
        let batch: Vec<u64> = machine
            .held
            .iter()
            .filter(|(other, held)| **other == key || shares(held))
            .map(|(other, _)| *other)
            .collect();
        self.note(format_args!("job {} ends an engine of worker {node}", number(job)));
        self.checker.engine_ended(job);
        for key in batch {
            self.fail(node, key, FailureKind::Crash);
        }
    }

    pub(super) fn beat(&mut self, node: Node) {
        let now = self.now();
        let Ok(machine) = self.alive(node) else { return };
        if machine.beat != Beat::Idle {
            machine.beat = Beat::Due;
            return;
        }
        // Nobody is there to hear it; the next registration is followed by one.
        let Some(to) = machine.home else { return };
        machine.beat = Beat::UnderWay;
        let (mut keys, mut attempts) = (Vec::new(), Vec::new());
        for (key, held) in &mut machine.held {
            let mut parts = Vec::new();
            if held.phase == Phase::Running {
                parts = held.checkpoint(Machine::done(held, now));
            }
            keys.push(*key);
            attempts.push((held.fence, parts));
        }
        let (purpose, ask) = (Purpose::Beat { keys }, Ask::Beat { attempts });
        self.call((Caller::Worker(node), to), purpose, ask, LIMIT);
    }

    pub(super) fn beat_answered(&mut self, node: Node, keys: &[u64], answer: &Answer) {
        let Ok(machine) = self.alive(node) else { return };
        let due = machine.beat == Beat::Due;
        machine.beat = Beat::Idle;
        for (index, key) in keys.iter().enumerate() {
            let reply = match answer {
                Answer::Beats(beats) => match beats.get(index) {
                    Some(Heard::Continue) => BeatReply::Continue,
                    Some(Heard::Stop) => BeatReply::Stop,
                    Some(Heard::Fenced) => BeatReply::Fenced,
                    None => BeatReply::Unanswered,
                },
                _ => BeatReply::Unanswered,
            };
            self.heard_of(node, *key, reply);
        }
        if *answer == Answer::None {
            self.home_is_silent(node);
        }
        if due {
            self.later(node, Duration::ZERO, Task::Beat);
        }
    }

    fn heard_of(&mut self, node: Node, key: u64, reply: BeatReply) {
        let Ok(machine) = self.alive(node) else { return };
        let Some(held) = machine.held.get_mut(&key) else { return };
        let (phase, fence) = (held.phase, held.fence);
        match after_beat(phase, reply) {
            AfterBeat::GoOn => {
                held.results.in_flight.clear();
                self.finish_if_done(node, key);
            }
            AfterBeat::SendPartsAgain => {
                held.give_back();
                self.finish_if_done(node, key);
            }
            AfterBeat::GiveBack => self.stop(node, fence.job, fence.attempt),
            AfterBeat::Forget => {
                if let Some(held) = machine.held.remove(&key) {
                    self.note(format_args!("worker {node} forgets job {}", number(fence.job)));
                    self.ack(held.delivery);
                }
                self.try_claims(node);
                self.check_drain(node);
            }
        }
    }

    /// A finished attempt whose checkpoint was waited for.
    fn finish_if_done(&mut self, node: Node, key: u64) {
        let Ok(machine) = self.alive(node) else { return };
        let waits = |held: &Held| held.finished && held.phase == Phase::Running;
        if machine.held.get(&key).is_some_and(waits) {
            self.complete(node, key);
        }
    }

    /// The coordinator asked to stop an attempt.
    pub(super) fn stop(&mut self, node: Node, job: JobId, attempt: Attempt) {
        let Ok(machine) = self.alive(node) else { return };
        let is_it = |held: &Held| held.fence.job == job && held.fence.attempt == attempt;
        let running = machine.held.iter().find(|(_, held)| is_it(held));
        let Some((key, held)) = running.map(|(key, held)| (*key, held)) else { return };
        if held.phase == Phase::Running {
            let body = Body::HandBack(ReleaseReason::Stopped, Vec::new());
            self.report(node, key, ReportKind::Release, body);
        }
    }

    /// Hands back all that still runs.
    pub(super) fn hand_back(&mut self, node: Node, reason: ReleaseReason) {
        let now = self.now();
        let Ok(machine) = self.alive(node) else { return };
        let running = machine.held.iter_mut().filter(|(_, held)| held.phase == Phase::Running);
        let left: Vec<(u64, Body)> = running
            .map(|(key, held)| {
                let parts = held.rest(Machine::done(held, now));
                (*key, Body::HandBack(reason, parts))
            })
            .collect();
        for (key, body) in left {
            self.report(node, key, ReportKind::Release, body);
        }
    }

    pub(super) fn forgets_unanswered(&self) -> bool {
        self.is(Sabotage::ForgetUnanswered)
    }
}
