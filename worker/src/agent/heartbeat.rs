//! Heartbeats: they keep leases, store checkpoints and bring cancellations back.

use std::ops::Bound;
use std::time::Duration;

use stoker_core::time::Timestamp;
use stoker_core::worker::{AfterBeat, BeatReply, Phase, after_beat};
use stoker_proto::convert;
use stoker_proto::v1;
use stoker_proto::v1::{AttemptProgress, HeartbeatOutcome, WorkerState};
use tracing::{debug, warn};

use super::Effect;
use super::state::{Model, State};
use crate::board::{JobKey, part_bytes};
use crate::link::LinkError;
use crate::metrics;

/// Attempts of one call; the coordinator takes a few more. With more of them, calls follow each
/// other.
const AT_ONCE: usize = 1_000;

/// Results that wait to be stored beyond which the next heartbeat goes out early.
const EARLY_BYTES: usize = 2 << 20;

/// The answer to one heartbeat.
#[derive(Debug)]
pub struct HeartbeatAnswer {
    /// The attempts it told of, in the order of the call.
    pub keys: Vec<JobKey>,
    pub result: Result<v1::HeartbeatResponse, LinkError>,
}

/// When heartbeats go out, and what they say of the time between.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    /// None until the worker is registered.
    next: Option<Timestamp>,
    last: Option<Timestamp>,
    in_flight: bool,
    /// The worker registered after the one under way was sent, whose answer may not know that.
    registered_since: bool,
    /// The last one brought no answer: checkpoints go out at the regular time only.
    failed: bool,
    busy: Duration,
    /// The last attempt of a call that did not name all of them.
    cursor: Option<JobKey>,
}

impl Pulse {
    pub(super) fn registered(&mut self, now: Timestamp) {
        self.next = Some(now);
        self.registered_since = true;
    }

    /// Something changed that the coordinator should know.
    pub(super) fn due_now(&mut self) {
        if let Some(next) = &mut self.next {
            *next = Timestamp::from_unix_millis(0);
        }
    }

    pub(super) fn computed(&mut self, busy: Duration) {
        self.busy += busy;
    }

    /// Share of the lanes' time since the last heartbeat in which they computed.
    fn utilization(&mut self, lanes: u32, now: Timestamp) -> f64 {
        let elapsed = self.last.map_or(Duration::ZERO, |last| now.since(last));
        let busy = std::mem::take(&mut self.busy);
        let available = elapsed.as_secs_f64() * f64::from(lanes);
        if available > 0.0 { (busy.as_secs_f64() / available).min(1.0) } else { 0.0 }
    }
}

impl State {
    pub(super) fn next_beat(&self) -> Option<Timestamp> {
        self.pulse.next.filter(|_| !self.pulse.in_flight)
    }

    pub(super) fn beat_if_due(&mut self, now: Timestamp) {
        let Some(next) = self.next_beat() else { return };
        if next > now && !self.is_early_due() {
            return;
        }
        let Some(registration) = &self.registration else { return };
        let (interval, budget) = (registration.heartbeat_interval, registration.max_message_bytes);
        let (request, keys) = self.heartbeat(budget, now);
        let more = self.pulse.cursor.is_some();
        self.pulse.next = Some(if more { now } else { now.after(interval) });
        self.pulse.in_flight = true;
        self.pulse.registered_since = false;
        self.effects.push(Effect::Heartbeat { request, keys });
    }

    fn is_early_due(&self) -> bool {
        let unsent = || -> usize { self.models.iter().map(|m| m.board.unsent_bytes()).sum() };
        !self.pulse.failed && unsent() >= EARLY_BYTES
    }

    fn heartbeat(&mut self, budget: usize, now: Timestamp) -> (v1::HeartbeatRequest, Vec<JobKey>) {
        // Of several calls, the first tells how the worker is.
        let status = self.pulse.cursor.is_none().then(|| self.status(now));
        let (attempts, keys) = self.progress(budget);
        let worker_id = self.worker.to_string();
        (v1::HeartbeatRequest { worker_id, attempts, status }, keys)
    }

    fn status(&mut self, now: Timestamp) -> v1::WorkerStatus {
        let utilization = self.pulse.utilization(self.lanes(), now);
        self.pulse.last = Some(now);
        metrics::status(utilization, self.held.len());
        let is_resident = |model: &&Model| model.engine.is_some() && model.seat.is_resident();
        let resident = self.models.iter().filter(is_resident);
        v1::WorkerStatus {
            state: self.worker_state().into(),
            busy_slots: u32::try_from(self.held.len()).unwrap_or(u32::MAX),
            utilization,
            resident_models: resident.map(|model| model.plan.name.to_string()).collect(),
            drain_cause: self.wire_drain_cause().into(),
            notice: self.wire_notice(now),
            residency: Some(self.wire_residency(now)),
            remaining: self.time_left().map(convert::wire_duration),
        }
    }

    /// How long all that it holds still takes, as far as its engines can tell. They run side by side.
    fn time_left(&self) -> Option<Duration> {
        let mut each = self.models.iter().map(|model| model.board.time_left());
        each.try_fold(Duration::ZERO, |longest, one| one.map(|left| left.max(longest)))
    }

    /// The next attempts to tell of, with at most `budget` bytes of results.
    fn progress(&mut self, budget: usize) -> (Vec<AttemptProgress>, Vec<JobKey>) {
        let from = self.pulse.cursor.take().map_or(Bound::Unbounded, Bound::Excluded);
        let mut following = self.held.range((from, Bound::Unbounded));
        let mut left = budget;
        let (mut attempts, mut keys) = (Vec::new(), Vec::new());
        for (key, held) in following.by_ref().take(AT_ONCE) {
            let board = self.models.get_mut(held.index).map(|model| &mut model.board);
            let parts = board.map(|board| board.checkpoint(*key, left)).unwrap_or_default();
            left = left.saturating_sub(parts.iter().map(part_bytes).sum());
            let begun = self
                .models
                .get(held.index)
                .filter(|_| !held.reporting)
                .and_then(|model| model.board.begun(*key));
            if let Some(begun) = &begun {
                let tokens: usize = begun.texts.iter().map(|text| text.tokens.len()).sum();
                debug!(job = %held.fence.job, texts = begun.texts.len(), tokens, "telling what is begun");
            }
            attempts.push(AttemptProgress { fence: Some(held.fence.to_wire()), parts, begun });
            keys.push(*key);
        }
        if following.next().is_some() {
            self.pulse.cursor = keys.last().copied();
        }
        (attempts, keys)
    }

    fn worker_state(&self) -> WorkerState {
        if self.is_draining() {
            WorkerState::Draining
        } else if self.is_cordoned() {
            WorkerState::Cordoned
        } else if self.readiness().is_err() {
            WorkerState::Starting
        } else {
            WorkerState::Ready
        }
    }

    pub(super) fn heartbeat_answered(&mut self, answer: HeartbeatAnswer) {
        let HeartbeatAnswer { keys, result } = answer;
        self.pulse.in_flight = false;
        let was_failed = self.pulse.failed;
        let response = match result {
            Ok(response) if response.outcomes.len() == keys.len() => response,
            Ok(response) => {
                warn!(got = response.outcomes.len(), expected = keys.len(), "bad heartbeat answer");
                self.heartbeat_lost(&keys);
                self.register_again(&response);
                return;
            }
            Err(error) => {
                if was_failed {
                    debug!(%error, "heartbeat still not answered");
                } else {
                    warn!(%error, "heartbeat not answered");
                }
                self.heartbeat_lost(&keys);
                return;
            }
        };
        self.pulse.failed = false;
        self.register_again(&response);
        for (key, outcome) in keys.into_iter().zip(response.outcomes) {
            let Some(held) = self.held.get(&key) else { continue };
            let phase = if held.reporting { Phase::Reporting } else { Phase::Running };
            match after_beat(phase, reply(outcome)) {
                AfterBeat::GoOn => self.checkpoint_stored(key),
                AfterBeat::GiveBack => self.stop(key),
                AfterBeat::Forget => self.fenced(key),
                AfterBeat::SendPartsAgain => self.checkpoint_lost(key),
            }
        }
    }

    /// Does what the answer asks for, unless it is done. A second registration ends the stream of the first, and with it the leases of what is being
    /// claimed at that moment.
    fn register_again(&mut self, response: &v1::HeartbeatResponse) {
        if response.register_again && !self.pulse.registered_since {
            self.effects.push(Effect::RegisterAgain);
        }
    }

    fn heartbeat_lost(&mut self, keys: &[JobKey]) {
        self.pulse.failed = true;
        for key in keys {
            self.checkpoint_lost(*key);
        }
    }

    fn checkpoint_stored(&mut self, key: JobKey) {
        let Some(held) = self.held.get(&key) else { return };
        let Some(model) = self.models.get_mut(held.index) else { return };
        let ended = model.board.checkpoint_stored(key);
        self.all_ended(ended);
    }

    fn checkpoint_lost(&mut self, key: JobKey) {
        let Some(held) = self.held.get(&key) else { return };
        let Some(model) = self.models.get_mut(held.index) else { return };
        let ended = model.board.checkpoint_lost(key);
        self.all_ended(ended);
    }
}

fn reply(outcome: i32) -> BeatReply {
    match HeartbeatOutcome::try_from(outcome) {
        Ok(HeartbeatOutcome::Continue) => BeatReply::Continue,
        Ok(HeartbeatOutcome::Stop) => BeatReply::Stop,
        Ok(HeartbeatOutcome::Fenced) => BeatReply::Fenced,
        Ok(HeartbeatOutcome::Unspecified) | Err(_) => BeatReply::Unanswered,
    }
}
