//! What is told of the models in memory, and why each is where it is.

use std::time::Duration;

use stoker_core::residency::{Reason, Waits};
use stoker_core::time::Timestamp;
use stoker_core::units::HumanDuration;
use stoker_proto::v1;
use stoker_proto::v1::ResidencyState;

use super::{Seat, State, Step};
use crate::agent::state::Model;

impl State {
    /// For the coordinator and operators.
    pub(in crate::agent) fn wire_residency(&self, now: Timestamp) -> v1::Residency {
        v1::Residency {
            budget_bytes: self.memory.budget_bytes,
            shared: self.shares_memory(),
            models: self.models.iter().map(|model| of(model, now)).collect(),
        }
    }
}

fn of(model: &Model, now: Timestamp) -> v1::ModelResidency {
    let seat = &model.seat;
    let (state, why) = match seat.step {
        Step::Absent => (ResidencyState::Absent, why_absent(seat.waits, now)),
        Step::Coming => {
            (ResidencyState::Loading, format!("{}; waits for others to leave", why_loaded(seat)))
        }
        Step::Loading { .. } => (ResidencyState::Loading, why_loaded(seat).to_owned()),
        Step::Resident { needed_at, .. } => {
            (ResidencyState::Resident, why_resident(model, needed_at, now))
        }
        Step::Leaving | Step::Stopping => (ResidencyState::Leaving, why_leaving(seat).to_owned()),
    };
    v1::ModelResidency {
        model: model.plan.name.to_string(),
        state: state.into(),
        memory_bytes: seat.need_bytes(),
        measured: seat.measured_bytes.is_some(),
        why,
    }
}

const fn why_loaded(seat: &Seat) -> &'static str {
    match seat.loaded_for {
        None => "there is memory for all models",
        Some(Reason::Room) => "jobs wait for it, and there is room",
        Some(Reason::Slack) => "the slack of its first job is about to end",
        Some(Reason::Backlog) => "its backlog is worth the switch",
        Some(Reason::Idle) => "jobs wait for it, and nothing else does",
        Some(Reason::Spare) => "spare memory",
    }
}

fn why_resident(model: &Model, needed_at: Option<Timestamp>, now: Timestamp) -> String {
    if !model.board.is_empty() {
        return "busy".to_owned();
    }
    match (model.seat.told.jobs, needed_at) {
        (0, None) => why_loaded(&model.seat).to_owned(),
        (0, Some(_)) if model.seat.loaded_for.is_none() => why_loaded(&model.seat).to_owned(),
        (0, Some(at)) => format!("needed {} ago", rough(now.since(at))),
        (1, _) => "1 job waits for it".to_owned(),
        (jobs, _) => format!("{jobs} jobs wait for it"),
    }
}

const fn why_leaving(seat: &Seat) -> &'static str {
    if seat.barred_until.is_some() { "its engine did not start" } else { "makes room for others" }
}

fn why_absent(waits: Option<Waits>, now: Timestamp) -> String {
    let left = |until: Timestamp| rough(until.since(now));
    match waits {
        None => "nothing is decided yet".to_owned(),
        Some(Waits::Unneeded) => "no jobs wait for it".to_owned(),
        Some(Waits::TooLarge) => "needs more than the budget".to_owned(),
        Some(Waits::Barred { until }) => {
            format!("its engine did not start; tried again in {}", left(until))
        }
        Some(Waits::Switching) => "another model comes or goes".to_owned(),
        Some(Waits::Slack { until }) => format!("its jobs can wait {} more", left(until)),
        Some(Waits::Pays { until }) => {
            format!("the loads of others have to pay for {} more", left(until))
        }
        Some(Waits::Urgent) => "others have work that has to start earlier".to_owned(),
    }
}

/// Whole seconds: what is told is older than less.
fn rough(duration: Duration) -> HumanDuration {
    HumanDuration::new(Duration::from_secs(duration.as_secs()))
}
