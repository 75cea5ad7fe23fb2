//! The one way to stop: no new work, finish what ends in time, give the rest back.

use std::time::Duration;

use stoker_core::time::Timestamp;
use stoker_proto::v1::ReleaseReason;
use tracing::info;

use super::Effect;
use super::state::State;
use crate::board::JobKey;

/// A drain that has begun.
#[derive(Debug)]
pub(super) struct Drain {
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

impl State {
    /// Begins to drain, or shortens a drain that has begun. `None`: within the grace period.
    pub fn drain(&mut self, within: Option<Duration>, now: Timestamp) {
        let within = within.unwrap_or(self.grace);
        let deadline = now.after(within);
        if let Some(drain) = &mut self.drain {
            drain.deadline = drain.deadline.min(deadline);
            return;
        }
        info!(held = self.held.len(), ?within, "draining");
        self.drain = Some(Drain { deadline, claims_ended: false, ended: false });
        self.effects.push(Effect::StopClaiming);
        self.pulse.due_now();
    }

    pub(super) fn advance_drain(&mut self, now: Timestamp) {
        let Some(drain) = &self.drain else { return };
        if drain.ended {
            return;
        }
        let overdue = drain.deadline <= now;
        if overdue {
            let left: Vec<JobKey> =
                self.models.iter().flat_map(|model| model.board.keys()).collect();
            for key in left {
                if let Some(parts) = self.take_off_board(key) {
                    self.release(key, ReleaseReason::Draining, parts);
                }
            }
        }
        let finished = self.models.iter().all(|model| model.board.is_empty());
        if let Some(drain) = &mut self.drain
            && finished
            && (drain.claims_ended || overdue)
        {
            drain.ended = true;
            self.effects.push(Effect::End(Ok(())));
        }
    }
}
