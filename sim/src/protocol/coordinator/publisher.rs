//! Sends what is committed, and clears what the broker confirmed. A queue that does not take its
//! messages is set aside, and tried apart from the others.

use std::time::Duration;

use stoker_core::outbox::{Confirms, Sent, Standing, confirms};

use super::super::broker::Publish;
use super::super::invariants::Invariant;
use super::super::sabotage::Sabotage;
use super::super::setup::Fault;
use super::super::tally::Bite;
use super::super::types::{Hint, Lane, Node, Row, number};
use super::super::world::{Event, World};
use super::{Round, Step, StoreFailed};

/// Rows of one round.
const BATCH: usize = 16;
/// Rows that a queue which is set aside is tried with.
const TRIAL: usize = 4;

impl World {
    /// The outbox may hold what no round brings.
    pub(super) fn ring_outbox(&mut self, node: Node) {
        let Some(own) = self.coordinators.get_mut(node.at) else { return };
        own.publisher.rung();
        self.schedule.after(Duration::ZERO, Event::Coordinator(node, Step::Publish));
    }

    pub(super) fn publish(&mut self, node: Node) {
        if !self.still_leads(node) {
            return;
        }
        let (away, outbox_first) = (self.store_away_until > self.now(), self.random.chance(0.5));
        let never = self.is(Sabotage::OutboxNeverResent);
        let Some(own) = self.coordinators.get_mut(node.at) else { return };
        if own.publishing {
            return;
        }
        // Neither source starves the other.
        let owes = own.publisher.owes() && !never;
        if owes && (outbox_first || own.rounds.is_empty()) {
            own.publishing = true;
            own.publisher.reads();
            if away {
                return self.sent(node, Sent::Failed);
            }
            let rows = self.store.outbox(BATCH, |lane| !own.aside.contains(&lane));
            self.checker.tally.add(Bite::Resent, rows.len() as u64);
            let full = if rows.len() < BATCH { Sent::All } else { Sent::MoreLeft };
            own.publisher.sent(full);
            self.send(node, Round { rows, trial: None });
        } else if let Some(mut rows) = own.rounds.pop_front() {
            own.publishing = true;
            rows.retain(|row| !own.aside.contains(&row.hint.lane));
            self.send(node, Round { rows, trial: None });
        }
    }

    /// Tries queues that were set aside, each with a few of its messages.
    pub(super) fn try_aside(&mut self, node: Node) {
        let (now, never) = (self.now(), self.is(Sabotage::OutboxNeverResent));
        let able = self.still_leads(node) && self.store_away_until <= now && !never;
        let Some(own) = self.coordinators.get_mut(node.at) else { return };
        if !able || own.trials > 0 {
            return self.plan_trial(node);
        }
        let due = own.aside.due(now);
        own.trials = due.len();
        for lane in due {
            let rows = self.store.outbox(TRIAL, |of| of == lane);
            self.checker.tally.add(Bite::Resent, rows.len() as u64);
            self.send(node, Round { rows, trial: Some(lane) });
        }
        self.plan_trial(node);
    }

    fn plan_trial(&mut self, node: Node) {
        let now = self.now();
        let Some(own) = self.coordinators.get(node.at) else { return };
        if let Some(at) = own.aside.next_trial() {
            // While a trial is under way its time has passed.
            let at = at.max(now.after(Duration::from_millis(100)));
            self.schedule.at(at, Event::Coordinator(node, Step::TryAside));
        }
    }

    fn send(&mut self, node: Node, round: Round) {
        if round.rows.is_empty() {
            return self.round_done(node, &round, Sent::All);
        }
        if self.is(Sabotage::OutboxClearedFirst) {
            self.forget(&round.rows);
        }
        let delay = self.random.millis(1, 10);
        self.schedule.after(delay, Event::Coordinator(node, Step::RoundArrives(round)));
    }

    /// The broker gets a round.
    pub(super) fn round_arrives(&mut self, node: Node, round: Round) {
        let mut outcomes = Vec::with_capacity(round.rows.len());
        for row in &round.rows {
            let outcome = self.broker_gets(row.hint);
            let unroutable = outcome == Publish::Unroutable;
            let taken = outcome == Publish::Taken || (unroutable && self.is(Sabotage::NoMandatory));
            if unroutable {
                self.checker.tally.add(Bite::Unroutable, 1);
                self.broker.declare(row.hint.lane);
            }
            if taken && self.happens(Fault::ConfirmLost, 0.1) {
                self.checker.tally.add(Bite::Unconfirmed, 1);
                outcomes.push(Err(Publish::Taken));
            } else {
                outcomes.push(if taken { Ok(()) } else { Err(outcome) });
            }
        }
        self.hand_out();
        let delay = self.random.millis(1, 20);
        self.schedule.after(delay, Event::Coordinator(node, Step::RoundEnds(round, outcomes)));
    }

    fn broker_gets(&mut self, hint: Hint) -> Publish {
        let outcome = self.broker.publish(hint);
        let (job, seq) = (number(hint.job), hint.seq.number());
        self.note(format_args!("message of job {job}, dispatch {seq}: {outcome:?}"));
        if outcome == Publish::Taken && self.happens(Fault::MessageDoubled, 0.2) {
            self.broker.publish(hint);
        }
        if outcome == Publish::Taken && self.happens(Fault::MessageLost, 0.1) {
            let fate = &mut self.random;
            if let Some(lost) = self.broker.lose_one(|count| fate.index(count)) {
                self.checker.tally.add(Bite::LostMessages, 1);
                self.note(format_args!("the broker loses a message of job {}", number(lost.job)));
            }
        }
        outcome
    }

    pub(super) fn round_ends(
        &mut self,
        node: Node,
        round: Round,
        outcomes: Vec<Result<(), Publish>>,
    ) {
        let Round { rows, trial } = round;
        let Confirms { confirmed, unconfirmed, refused } =
            confirms(rows, outcomes, |row: &Row| row.hint.lane);
        for (lane, problem) in refused {
            self.set_aside(node, lane, problem);
        }
        let sent = if unconfirmed == 0 { Sent::All } else { Sent::MoreLeft };
        let delay = self.random.millis(1, 10);
        let step = Step::Clear(Round { rows: confirmed, trial }, sent);
        self.schedule.after(delay, Event::Coordinator(node, step));
    }

    fn set_aside(&mut self, node: Node, lane: Lane, problem: Publish) {
        let now = self.now();
        let Some(own) = self.coordinators.get_mut(node.at) else { return };
        if own.aside.set(lane, format!("{problem:?}"), now) == Standing::Lost {
            self.note(format_args!("queue {lane} is set aside: {problem:?}"));
            self.plan_trial(node);
        }
    }

    pub(super) fn clear(&mut self, node: Node, round: &Round, sent: Sent) {
        let cleared = if self.still_leads(node) {
            self.transact(node, |world, _| world.forget(&round.rows))
        } else {
            Err(StoreFailed)
        };
        let sent = if cleared.is_ok() { sent } else { Sent::Failed };
        self.round_done(node, round, sent);
    }

    /// What was confirmed may leave the outbox.
    fn forget(&mut self, rows: &[Row]) {
        let before = self.store.outbox.clone();
        self.store.clear_outbox(rows);
        for row in rows {
            let was = before.contains_key(&row.hint.job);
            let is = self.store.outbox.contains_key(&row.hint.job);
            if was && !is && !self.broker.has_taken(row.hint) {
                let job = number(row.hint.job);
                self.checker.fail(Invariant::OnlyTakenIsCleared, || {
                    format!("the message of job {job} left it and was in no queue")
                });
            }
        }
    }

    fn round_done(&mut self, node: Node, round: &Round, sent: Sent) {
        let Some(lane) = round.trial else {
            // What a queue did not take waits for its trial.
            return self.sent(node, if sent == Sent::Failed { sent } else { Sent::All });
        };
        let Some(own) = self.coordinators.get_mut(node.at) else { return };
        own.trials = own.trials.saturating_sub(1);
        if sent == Sent::All && own.aside.readmit(&lane) {
            self.note(format_args!("queue {lane} is in good standing again"));
            // The others that wait for it.
            self.ring_outbox(node);
        }
    }

    fn sent(&mut self, node: Node, sent: Sent) {
        let backoff = self.random.millis(200, 5_000);
        let Some(own) = self.coordinators.get_mut(node.at) else { return };
        own.publishing = false;
        own.publisher.sent(sent);
        let delay = if sent == Sent::Failed { backoff } else { Duration::ZERO };
        if own.publisher.owes() || !own.rounds.is_empty() {
            self.schedule.after(delay, Event::Coordinator(node, Step::Publish));
        }
    }
}
