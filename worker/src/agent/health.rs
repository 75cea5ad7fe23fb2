//! What the worker knows of its device's health, and what follows from a sick one.

use std::collections::VecDeque;
use std::time::Duration;

use stoker_core::time::Timestamp;
use stoker_proto::v1::ReleaseReason;
use tracing::error;

use super::state::State;
use crate::board::JobKey;

/// Device errors that engines report within [`FAULTS_WITHIN`] before the device counts as sick: one may be
/// a job's doing, and its job runs alone the next time.
const FAULTS: usize = 3;

const FAULTS_WITHIN: Duration = Duration::from_mins(10);

/// The device's health, from what its driver tells and what engines meet.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Why the driver's readings make it sick, if they do.
    judged: Option<String>,
    /// When engines met its last errors.
    faults: VecDeque<Timestamp>,
    /// Why these make it sick, for as long as this worker runs.
    faulty: Option<String>,
}

impl Health {
    /// Why the device is quarantined, if it is.
    pub(super) fn sick(&self) -> Option<&str> {
        self.faulty.as_deref().or(self.judged.as_deref())
    }

    /// Counts an error; true if it is the one that is too many.
    fn fault(&mut self, message: &str, now: Timestamp) -> bool {
        self.faults.push_back(now);
        while self.faults.front().is_some_and(|first| now.since(*first) > FAULTS_WITHIN) {
            self.faults.pop_front();
        }
        if self.faults.len() < FAULTS || self.faulty.is_some() {
            return false;
        }
        self.faulty = Some(format!(
            "{FAULTS} device errors within {} minutes, the last: {message}; check the device, then start \
             the worker again",
            FAULTS_WITHIN.as_secs() / 60
        ));
        true
    }
}

impl State {
    /// The driver's readings say something new.
    pub(super) fn device_judged(&mut self, fitness: Result<(), String>) {
        self.health.judged = fitness.err();
        self.pulse.due_now();
        self.give_back_if_sick();
    }

    /// An engine met an error of the device.
    pub(super) fn device_failed(&mut self, message: &str, now: Timestamp) {
        if self.health.fault(message, now) {
            let reason = self.health.sick().unwrap_or_default();
            error!(reason, "the device is sick: quarantined");
            self.pulse.due_now();
            self.give_back_if_sick();
        }
    }

    /// A sick device takes no work and gives back what it has: its answers cannot be trusted, and
    /// another machine has them sooner.
    fn give_back_if_sick(&mut self) {
        if self.health.sick().is_none() {
            return;
        }
        let held: Vec<JobKey> = self.models.iter().flat_map(|model| model.board.keys()).collect();
        for key in held {
            if let Some(parts) = self.take_off_board(key) {
                self.release(key, ReleaseReason::Unavailable, parts);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_make_a_device_sick_when_they_come_close_together() {
        let at =
            |minute: u64| Timestamp::from_unix_millis(1_000_000).after(Duration::from_mins(minute));
        let mut health = Health::default();
        let scattered = [0, 6, 12, 18, 24].map(|minute| health.fault("bus", at(minute)));
        assert_eq!((scattered, health.sick()), ([false; 5], None));
        assert!(health.fault("bus", at(25)), "18, 24 and 25 are too many");
        assert!(health.sick().is_some_and(|reason| reason.contains("bus")));
        assert!(!health.fault("bus", at(26)), "it is told once");
        health.judged = Some("too hot".to_owned());
        health.judged = None;
        assert!(health.sick().is_some(), "readings do not make it well");
    }
}
