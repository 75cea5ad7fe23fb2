//! The one way to go: no new work, finish what ends in time, hand the rest over.

use std::time::Duration;

use stoker_core::departure::{Cause, DeadMan, Signs, Verdict, work_ends};
use stoker_core::time::Timestamp;
use stoker_proto::convert;
use stoker_proto::v1;
use stoker_proto::v1::ReleaseReason;
use tracing::{debug, info, warn};

use super::Effect;
use super::state::State;
use crate::board::JobKey;
use crate::config::OnRebalance;
use crate::interruption::Announced;
use crate::metrics;

/// A drain that has begun.
#[derive(Debug)]
pub(super) struct Drain {
    cause: Cause,
    /// When unfinished work is given back.
    deadline: Timestamp,
    /// No claim is under way any more.
    pub(super) claims_ended: bool,
    ended: bool,
}

impl Drain {
    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        (!self.ended).then_some(self.deadline)
    }
}

/// When to go by itself, and the signs for it.
#[derive(Debug)]
pub(super) struct Lifeline {
    switch: Option<DeadMan>,
    /// When the coordinator last answered, whatever it was.
    last_contact: Timestamp,
    /// Since when nothing has run.
    idle_since: Option<Timestamp>,
    /// When to look again.
    pub(super) wake_at: Option<Timestamp>,
}

impl Lifeline {
    pub(super) const fn new(switch: Option<DeadMan>, now: Timestamp) -> Self {
        Self { switch, last_contact: now, idle_since: Some(now), wake_at: None }
    }

    /// The coordinator has answered something.
    pub(super) const fn heard(&mut self, now: Timestamp) {
        self.last_contact = now;
    }
}

impl State {
    /// Begins to go, or shortens the time when that has begun. `within`: how long work may take; `None`: the
    /// grace period. The strongest cause stays.
    pub fn drain(&mut self, cause: Cause, within: Option<Duration>, now: Timestamp) {
        let within = within.unwrap_or(self.grace);
        let deadline = now.after(within);
        self.pulse.due_now();
        if let Some(drain) = &mut self.drain {
            drain.deadline = drain.deadline.min(deadline);
            drain.cause = drain.cause.max(cause);
            metrics::draining(drain.cause);
            info!(cause = cause.name(), ?within, "asked to go once more");
            return;
        }
        info!(cause = cause.name(), held = self.held.len(), ?within, "draining");
        metrics::draining(cause);
        self.drain = Some(Drain { cause, deadline, claims_ended: false, ended: false });
        self.effects.push(Effect::StopClaiming);
    }

    /// Why it goes, once it does.
    pub fn drain_cause(&self) -> Option<Cause> {
        self.drain.as_ref().map(|drain| drain.cause)
    }

    /// The cloud has announced something new.
    pub fn announced(&mut self, announced: Announced, now: Timestamp) {
        let before = std::mem::replace(&mut self.announced, announced);
        self.pulse.due_now();
        if let Some(lost_at) = announced.lost_at {
            self.drain(Cause::Interruption, Some(work_ends(lost_at, now).since(now)), now);
        }
        if announced.rebalance && !before.rebalance {
            match self.on_rebalance {
                OnRebalance::CarryOn => {}
                OnRebalance::Cordon => {
                    info!("taking no further work: the cloud recommends to leave this machine");
                    self.avoids_work = true;
                }
                OnRebalance::Drain => self.drain(Cause::Rebalance, None, now),
            }
        }
    }

    /// Hands over what does not end in time, and ends when nothing is left.
    pub(super) fn advance_drain(&mut self, now: Timestamp) {
        let Some(drain) = &self.drain else { return };
        if drain.ended {
            return;
        }
        let (deadline, overdue) = (drain.deadline, drain.deadline <= now);
        if overdue {
            self.give_back_all();
        } else {
            self.hand_over(deadline.since(now));
        }
        let finished = self.models.iter().all(|model| model.board.is_empty());
        if let Some(drain) = &mut self.drain
            && finished
            && (drain.claims_ended || overdue)
        {
            drain.ended = true;
            self.effects.push(Effect::End(Ok(drain.cause)));
        }
    }

    fn hand_over(&mut self, left: Duration) {
        let mut leaving = Vec::new();
        for model in &mut self.models {
            for key in model.board.too_long_for(left) {
                debug!(?key, ?left, "a job does not end in time; handing it over");
                leaving.extend(model.board.leave(key));
            }
        }
        self.all_ended(leaving);
    }

    fn give_back_all(&mut self) {
        let left: Vec<JobKey> = self.models.iter().flat_map(|model| model.board.keys()).collect();
        let reason = self.release_reason();
        for key in left {
            if let Some(parts) = self.take_off_board(key) {
                self.release(key, reason, parts);
            }
        }
    }

    /// What is told of a job that is given back because the worker goes.
    pub(super) fn release_reason(&self) -> ReleaseReason {
        match self.drain_cause() {
            Some(Cause::Interruption | Cause::Rebalance) => ReleaseReason::Interrupted,
            Some(Cause::CutOff | Cause::Shutdown | Cause::Operator | Cause::Device) | None => {
                ReleaseReason::Draining
            }
        }
    }

    /// The cause on the wire.
    pub(super) fn wire_drain_cause(&self) -> v1::DrainCause {
        let avoids = self.avoids_work.then_some(Cause::Rebalance);
        let sick = self.health.sick().map(|_| Cause::Device);
        convert::wire_drain_cause(self.drain_cause().or(avoids).or(sick))
    }

    /// What the cloud has announced, on the wire.
    pub(super) fn wire_notice(&self, now: Timestamp) -> Option<v1::CloudNotice> {
        let Announced { lost_at, rebalance } = self.announced;
        if let Some(lost_at) = lost_at {
            let kind = v1::CloudNoticeKind::Interruption.into();
            let lost_in = Some(convert::wire_duration(lost_at.since(now)));
            return Some(v1::CloudNotice { kind, lost_in });
        }
        let kind = v1::CloudNoticeKind::Rebalance.into();
        rebalance.then_some(v1::CloudNotice { kind, lost_in: None })
    }

    /// Goes when nobody needs this machine and nobody reaches it. What only waits to be reported does not count
    /// as work: it could wait for ever, and its jobs have been given to others long ago.
    pub(super) fn watch_lifeline(&mut self, now: Timestamp) {
        let idle = self.models.iter().all(|model| model.board.is_empty());
        let Lifeline { switch, last_contact, .. } = self.lifeline;
        let idle_since = idle.then(|| self.lifeline.idle_since.unwrap_or(now));
        self.lifeline.idle_since = idle_since;
        self.lifeline.wake_at = None;
        let Some(switch) = switch.filter(|_| self.drain.is_none()) else { return };
        match switch.decide(Signs { idle_since, last_contact }, now) {
            Verdict::Stay => {}
            Verdict::LookAt(time) => self.lifeline.wake_at = Some(time),
            Verdict::Go => {
                let unreported = self.held.len();
                warn!(after = ?switch.after, unreported, "idle and cut off: going");
                self.drain(Cause::CutOff, Some(Duration::ZERO), now);
            }
        }
    }
}
