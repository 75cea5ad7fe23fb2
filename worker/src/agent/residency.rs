//! Which models are in memory: what the rule is told, and what follows from its answers.
//!
//! The rule is `core::residency`. A model that leaves takes no new jobs, ends with those that it has, and then its
//! engine ends; one that comes starts when those that leave for it are gone.

mod telling;

use std::time::Duration;

use stoker_core::residency::{
    self, Action, Activity, Demand, Device, Estimate, Frequency, Load, Place, Policy, Reason, Stay,
    Waits, decide,
};
use stoker_core::time::Timestamp;
use stoker_proto::v1;
use stoker_proto::v1::ReleaseReason;
use tracing::{error, info};

use super::Effect;
use super::state::State;
use crate::board::JobKey;
use crate::metrics;
use crate::supervisor::Exit;

/// What was told of waiting jobs counts for so long; a worker that hears nothing more keeps what it has.
const FRESH: Duration = Duration::from_secs(10);

/// How long a worker that starts waits to be told what is needed, before it fills its memory by itself.
const FIRST_NEEDS: Duration = Duration::from_secs(5);

/// How long a model whose engine did not start is left alone: at first, and at most. It doubles each time.
const FIRST_BAR: Duration = Duration::from_secs(30);
const LAST_BAR: Duration = Duration::from_mins(10);

/// How much the newest job counts in what is known of the time of one.
const NEWEST_JOB: u32 = 8;

/// One model's place in memory.
#[derive(Debug)]
pub(super) struct Seat {
    estimate: Estimate,
    measured_bytes: Option<u64>,
    load: Duration,
    step: Step,
    /// Why it was loaded last; `None`: it was never a question, since all models fit.
    loaded_for: Option<Reason>,
    /// Why it is not loaded, if it is not.
    waits: Option<Waits>,
    barred_until: Option<Timestamp>,
    /// Loads that failed since the last one that did not.
    failures: u32,
    frequency: Frequency,
    /// What waits in its queue, as told last.
    told: Told,
    /// Time of the engine that one of its jobs takes.
    job: Duration,
}

/// Where a model is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Absent,
    /// Waits for others to leave.
    Coming,
    /// Its engine starts.
    Loading {
        since: Timestamp,
    },
    Resident {
        since: Timestamp,
        needed_at: Option<Timestamp>,
    },
    /// Ends with its jobs.
    Leaving,
    /// Its engine ends.
    Stopping,
}

/// What the coordinator said of one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Told {
    jobs: u64,
    start_by: Option<Timestamp>,
}

/// What all models share.
#[derive(Debug)]
pub(super) struct Memory {
    budget_bytes: u64,
    policy: Policy,
    last_load: Option<Load>,
    /// When it was last told what waits.
    told_at: Option<Timestamp>,
    started_at: Timestamp,
    /// When to ask the rule again.
    look_at: Option<Timestamp>,
    /// A model has been loaded.
    held: bool,
}

impl Seat {
    pub(super) const fn new(estimate: Estimate, now: Timestamp) -> Self {
        Self {
            load: estimate.load,
            estimate,
            measured_bytes: None,
            step: Step::Absent,
            loaded_for: None,
            waits: None,
            barred_until: None,
            failures: 0,
            frequency: Frequency::new(now),
            told: Told { jobs: 0, start_by: None },
            job: Duration::ZERO,
        }
    }

    pub(super) const fn is_resident(&self) -> bool {
        matches!(self.step, Step::Resident { .. })
    }

    /// Whether jobs that come now are run: its engine is there, or will be there again in a moment.
    pub(super) const fn takes_jobs(&self) -> bool {
        matches!(self.step, Step::Resident { .. } | Step::Leaving)
    }

    /// Jobs of the model were claimed.
    pub(super) fn jobs_came(&mut self, jobs: u64, now: Timestamp) {
        self.frequency.count(jobs, now);
    }

    /// A job kept the engine busy for so long.
    pub(super) fn job_took(&mut self, busy: Duration) {
        self.job = if self.job.is_zero() {
            busy
        } else {
            self.job.saturating_sub(self.job / NEWEST_JOB) + busy / NEWEST_JOB
        };
    }

    fn need_bytes(&self) -> u64 {
        self.measured_bytes.unwrap_or(self.estimate.need_bytes)
    }

    /// What the rule is told of it.
    fn model(&self, id: usize, activity: Activity, now: Timestamp) -> residency::Model<usize> {
        let place = match self.step {
            Step::Absent => Place::Absent,
            Step::Coming | Step::Loading { .. } => Place::Loading,
            Step::Resident { since, needed_at } => {
                Place::Resident(Stay { since, needed_at, activity })
            }
            Step::Leaving | Step::Stopping => Place::Leaving,
        };
        let jobs = self.told.jobs;
        let demand = Demand {
            jobs,
            work: self.job.saturating_mul(u32::try_from(jobs).unwrap_or(u32::MAX)),
            start_by: self.told.start_by,
            every: self.frequency.every(now),
        };
        let (need_bytes, load) = (self.need_bytes(), self.load);
        let barred_until = self.barred_until;
        residency::Model { id, need_bytes, load, place, demand, barred_until }
    }
}

impl Memory {
    pub(super) fn new(budget_bytes: u64, now: Timestamp) -> Self {
        Self {
            budget_bytes,
            policy: Policy::default(),
            last_load: None,
            told_at: None,
            started_at: now,
            look_at: None,
            held: false,
        }
    }

    pub(super) const fn look_at(&self) -> Option<Timestamp> {
        self.look_at
    }

    /// Whether any model has been loaded, or why the worker is of no use yet.
    pub(super) fn ever_held(&self) -> Result<(), String> {
        if self.held { Ok(()) } else { Err("no model is loaded yet".to_owned()) }
    }

    /// Until when what is needed may still be told, so that nothing is loaded for nobody.
    fn waits_until(&self, now: Timestamp) -> Option<Timestamp> {
        let until = self.started_at.after(FIRST_NEEDS);
        (self.told_at.is_none() && until > now).then_some(until)
    }
}

impl State {
    /// Starts every engine at once, as long as there is memory for all of them.
    pub(super) fn load_all_if_they_fit(&mut self, now: Timestamp) {
        metrics::memory_budget(self.memory.budget_bytes);
        if self.needed_bytes() > u128::from(self.memory.budget_bytes) {
            info!(
                models = self.models.len(),
                budget_bytes = self.memory.budget_bytes,
                "the models need more memory than there is: they take turns"
            );
            return;
        }
        for (index, model) in self.models.iter_mut().enumerate() {
            model.seat.step = Step::Loading { since: now };
            self.effects.push(Effect::StartEngine { index });
        }
    }

    fn needed_bytes(&self) -> u128 {
        self.models.iter().map(|model| u128::from(model.seat.need_bytes())).sum()
    }

    /// Whether models take turns in memory.
    pub(super) fn shares_memory(&self) -> bool {
        let is_out =
            |step| matches!(step, Step::Absent | Step::Coming | Step::Leaving | Step::Stopping);
        self.models.iter().any(|model| is_out(model.seat.step))
            || self.needed_bytes() > u128::from(self.memory.budget_bytes)
    }

    /// The coordinator says what waits: all of it.
    pub(super) fn needs_told(&mut self, needs: &v1::Needs, now: Timestamp) {
        self.memory.told_at = Some(now);
        for model in &mut self.models {
            let name = model.plan.name.as_str();
            let need = needs.models.iter().find(|need| need.model == name);
            model.seat.told = need.map(|need| told(need, now)).unwrap_or_default();
        }
    }

    /// Takes the next steps of what comes and goes, and asks the rule for more.
    pub(super) fn advance_residency(&mut self, now: Timestamp) {
        self.memory.look_at = None;
        self.forget_what_is_stale(now);
        self.note_what_is_needed(now);
        self.take_steps(now);
        let may = self.drain.is_none() && !self.is_cordoned();
        if !may || !self.shares_memory() {
            return;
        }
        let waits_until = self.memory.waits_until(now);
        if waits_until.is_some() {
            self.memory.look_at = waits_until;
            return;
        }
        self.ask(now);
        self.take_steps(now);
    }

    fn forget_what_is_stale(&mut self, now: Timestamp) {
        if self.memory.told_at.is_some_and(|at| now.since(at) > FRESH) {
            for model in &mut self.models {
                model.seat.told = Told::default();
            }
        }
    }

    fn note_what_is_needed(&mut self, now: Timestamp) {
        for model in &mut self.models {
            let works = !model.board.is_empty() || model.seat.told.jobs > 0;
            if let Step::Resident { needed_at, .. } = &mut model.seat.step
                && works
            {
                *needed_at = Some(now);
            }
        }
    }

    /// Ends engines of models that leave and have nothing to do any more, and starts those that waited for it.
    fn take_steps(&mut self, now: Timestamp) {
        let mut waits = false;
        for (index, model) in self.models.iter_mut().enumerate() {
            if model.seat.step == Step::Leaving && model.board.is_empty() {
                model.seat.step = Step::Stopping;
                self.effects.push(Effect::StopEngine { index });
            }
            waits |= matches!(model.seat.step, Step::Leaving | Step::Stopping);
        }
        if waits {
            return;
        }
        for (index, model) in self.models.iter_mut().enumerate() {
            if model.seat.step == Step::Coming {
                model.seat.step = Step::Loading { since: now };
                self.effects.push(Effect::StartEngine { index });
            }
        }
    }

    fn ask(&mut self, now: Timestamp) {
        let device =
            Device { budget_bytes: self.memory.budget_bytes, last_load: self.memory.last_load };
        let models: Vec<residency::Model<usize>> = self
            .models
            .iter()
            .enumerate()
            .map(|(index, model)| {
                let idle = model.board.is_empty();
                let activity = if idle { Activity::Idle } else { Activity::Busy };
                model.seat.model(index, activity, now)
            })
            .collect();
        let decision = decide(&self.memory.policy, &device, &models, now);
        self.memory.look_at = decision.look_at;
        for model in &mut self.models {
            model.seat.waits = None;
            // There was memory for all of them when it was loaded, and there is not any more.
            if model.seat.is_resident() {
                model.seat.loaded_for.get_or_insert(Reason::Room);
            }
        }
        for (index, waits) in decision.waits {
            if let Some(model) = self.models.get_mut(index) {
                model.seat.waits = Some(waits);
            }
        }
        match decision.action {
            Action::Stay => {}
            Action::Load { model, leave, reason } => {
                self.leave(&leave);
                self.come(model, reason);
            }
            Action::Shrink { leave } => self.leave(&leave),
        }
    }

    fn come(&mut self, index: usize, reason: Reason) {
        let Some(model) = self.models.get_mut(index) else { return };
        info!(model = %model.plan.name, reason = reason.name(), "loading");
        model.seat.step = Step::Coming;
        model.seat.loaded_for = Some(reason);
        self.pulse.due_now();
    }

    fn leave(&mut self, leave: &[usize]) {
        for index in leave {
            let Some(model) = self.models.get_mut(*index) else { continue };
            info!(model = %model.plan.name, "leaves memory");
            metrics::model_left(&model.plan.name);
            model.seat.step = Step::Leaving;
            self.pulse.due_now();
        }
    }

    /// An engine is warm.
    pub(super) fn seat_taken(&mut self, index: usize, now: Timestamp) {
        let Some(model) = self.models.get_mut(index) else { return };
        let Step::Loading { since } = model.seat.step else { return };
        let took = now.since(since);
        let reason = model.seat.loaded_for;
        let needed_at = (reason != Some(Reason::Spare)).then_some(now);
        metrics::model_loaded(&model.plan.name, reason, took);
        model.seat.step = Step::Resident { since: now, needed_at };
        model.seat.load = took;
        model.seat.failures = 0;
        model.seat.barred_until = None;
        self.memory.last_load = Some(Load { ended_at: now, took });
        self.memory.held = true;
        self.count_residents();
    }

    /// An engine that was to end is gone.
    pub(super) fn seat_left(&mut self, index: usize) {
        let Some(model) = self.models.get_mut(index) else { return };
        model.seat.step = Step::Absent;
        model.lost_at = None;
        metrics::model_memory(&model.plan.name, 0);
        self.pulse.due_now();
        self.count_residents();
    }

    /// A model's engine does not start. The others go on, and it is tried again later.
    pub(super) fn load_failed(&mut self, index: usize, exit: &Exit, now: Timestamp) {
        let Some(model) = self.models.get_mut(index) else { return };
        match model.seat.step {
            Step::Loading { since } => {
                self.memory.last_load = Some(Load { ended_at: now, took: now.since(since) });
            }
            Step::Resident { .. } => {}
            Step::Absent | Step::Coming | Step::Leaving | Step::Stopping => return,
        }
        let bar = FIRST_BAR.saturating_mul(1 << model.seat.failures.min(8)).min(LAST_BAR);
        error!(model = %model.plan.name, %exit, ?bar, "its engine does not start; trying again later");
        model.seat.failures = model.seat.failures.saturating_add(1);
        model.seat.barred_until = Some(now.after(bar));
        model.seat.step = Step::Leaving;
        let held: Vec<JobKey> = model.board.keys().collect();
        for key in held {
            if let Some(parts) = self.take_off_board(key) {
                self.release(key, ReleaseReason::Unavailable, parts);
            }
        }
        self.pulse.due_now();
    }

    /// What a model's engine uses.
    pub(super) fn measured(&mut self, index: usize, bytes: u64) {
        let Some(model) = self.models.get_mut(index) else { return };
        metrics::model_memory(&model.plan.name, bytes);
        model.seat.measured_bytes = Some(model.seat.estimate.with_measured(bytes));
    }

    fn count_residents(&self) {
        metrics::resident_models(self.models.iter().filter(|m| m.seat.is_resident()).count());
    }
}

fn told(need: &v1::ModelNeed, now: Timestamp) -> Told {
    let millis = now.as_unix_millis().saturating_add(need.slack_ms);
    Told { jobs: need.jobs, start_by: Some(Timestamp::from_unix_millis(millis)) }
}
