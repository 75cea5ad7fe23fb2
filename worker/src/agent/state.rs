//! Everything the worker knows. Changed by events and by time only; its answers are effects.

use std::collections::BTreeMap;
use std::time::Duration;

use stoker_core::departure::{Cause, DeadMan};
use stoker_core::fleet::prompts::Prompts;
use stoker_core::ids::{FleetName, ModelName, WorkerId};
use stoker_core::residency::Estimate;
use stoker_core::time::Timestamp;
use stoker_core::zero_shot::ZeroShot;
use stoker_engine_api::TaskKind;
use stoker_proto::v1::BegunTexts;
use tracing::{Span, info};

use super::drain::{Drain, Lifeline};
use super::health::Health;
use super::heartbeat::Pulse;
use super::residency::{Memory, Seat};
use super::telling::Telling;
use super::{Effect, Event};
use crate::attempt::{Fence, Ticket};
use crate::board::{Blame, Board, JobKey};
use crate::config::OnRebalance;
use crate::error::WorkerError;
use crate::interruption::Announced;
use crate::link::{Registration, SessionNews};
use crate::supervisor::EngineHandle;

/// Until the first consumer is open.
const NOT_CONSUMING: &str = "its queue is not consumed yet";

/// What is known of a model before its engine runs.
#[derive(Debug, Clone)]
pub struct ModelPlan {
    pub name: ModelName,
    pub task: TaskKind,
    /// The registry's limit; `None`: the engine's own.
    pub max_batch_tokens: Option<u32>,
    pub prompts: Prompts,
    pub zero_shot: ZeroShot,
    /// What it probably needs.
    pub estimate: Estimate,
}

/// What a worker is for, and how it ends.
#[derive(Debug, Clone)]
pub struct WorkerPlan {
    pub fleet: FleetName,
    pub models: Vec<ModelPlan>,
    /// Memory for all models together, in bytes.
    pub memory_budget: u64,
    /// How long a drain may take when nobody said otherwise.
    pub grace: Duration,
    pub on_rebalance: OnRebalance,
    pub dead_man: Option<DeadMan>,
}

/// One model with its jobs and its engine.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) plan: ModelPlan,
    pub(super) board: Board,
    pub(super) engine: Option<Engine>,
    /// Since when there has been no engine; none before the first and while there is one.
    pub(super) lost_at: Option<Timestamp>,
    pub(super) seat: Seat,
    gate_open: bool,
    /// Whether deliveries come in; an error says why not.
    intake: Result<(), String>,
    /// When its board wants to be looked at again.
    wake_at: Option<Timestamp>,
}

impl Model {
    /// No consumer of its queue has been opened yet.
    fn is_new(&self) -> bool {
        self.intake.as_ref().is_err_and(|reason| reason == NOT_CONSUMING)
    }

    /// Ready to run jobs, or why not. A gate that is closed on purpose is no reason, and neither is memory that
    /// others have.
    fn readiness(&self) -> Result<(), String> {
        let name = &self.plan.name;
        if self.engine.is_none() {
            return Err(format!("the engine of model {name} is not ready"));
        }
        match &self.intake {
            Err(reason) if self.gate_open => Err(format!("no jobs of model {name} come: {reason}")),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// A warm engine process.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) generation: u64,
    pub(super) handle: EngineHandle,
    pub(super) lanes: u32,
    pub(super) blame: Blame,
    /// Spans of its batches.
    pub(super) batches: BTreeMap<u64, Span>,
}

/// An attempt that this worker holds, from grant to settlement.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) index: usize,
    pub(super) fence: Fence,
    pub(super) span: Span,
    /// Gone once the attempt's end is being reported.
    pub(super) ticket: Option<Ticket>,
    /// Its end was handed to the reporter.
    pub(super) reporting: bool,
    /// What it had begun when it was taken off the board.
    pub(super) begun: Option<BegunTexts>,
}

/// The worker's state.
#[derive(Debug)]
pub struct State {
    pub(super) worker: WorkerId,
    fleet: FleetName,
    pub(super) models: Vec<Model>,
    pub(super) held: BTreeMap<JobKey, Held>,
    pub(super) next_key: u64,
    pub(super) registration: Option<Registration>,
    pub(super) cordoned: bool,
    /// What the cloud has announced about the machine.
    pub(super) announced: Announced,
    pub(super) on_rebalance: OnRebalance,
    /// Takes no further work, because the cloud recommends to leave the machine.
    pub(super) avoids_work: bool,
    pub(super) lifeline: Lifeline,
    pub(super) health: Health,
    pub(super) memory: Memory,
    /// Why the coordinator refuses claims, if it does.
    claims_refused: Option<String>,
    pub(super) drain: Option<Drain>,
    /// How long a drain may take when nobody said otherwise.
    pub(super) grace: Duration,
    pub(super) pulse: Pulse,
    pub(super) telling: Telling,
    pub(super) effects: Vec<Effect>,
}

impl State {
    pub fn new(worker: WorkerId, plan: WorkerPlan, now: Timestamp) -> Self {
        let WorkerPlan { fleet, models, memory_budget, grace, on_rebalance, dead_man } = plan;
        let model = |plan: ModelPlan| Model {
            seat: Seat::new(plan.estimate, now),
            plan,
            board: Board::new(),
            engine: None,
            lost_at: None,
            gate_open: false,
            intake: Err(NOT_CONSUMING.to_owned()),
            wake_at: None,
        };
        let mut state = Self {
            worker,
            fleet,
            models: models.into_iter().map(model).collect(),
            held: BTreeMap::new(),
            next_key: 0,
            registration: None,
            cordoned: false,
            announced: Announced::default(),
            on_rebalance,
            avoids_work: false,
            lifeline: Lifeline::new(dead_man, now),
            health: Health::default(),
            memory: Memory::new(memory_budget, now),
            claims_refused: None,
            drain: None,
            grace,
            pulse: Pulse::default(),
            telling: Telling::default(),
            effects: Vec::new(),
        };
        state.load_all_if_they_fit(now);
        state
    }

    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    pub(super) fn engine(&self, index: usize) -> Option<&EngineHandle> {
        Some(&self.models.get(index)?.engine.as_ref()?.handle)
    }

    /// Takes no further work, by an operator's command, its own setting or its device's state.
    pub(super) fn is_cordoned(&self) -> bool {
        self.cordoned || self.avoids_work || self.health.sick().is_some()
    }

    pub fn is_draining(&self) -> bool {
        self.drain.is_some()
    }

    /// Ready to take work, or why not.
    pub fn readiness(&self) -> Result<(), String> {
        if self.is_draining() {
            return Err("draining".to_owned());
        }
        if let Some(reason) = self.health.sick() {
            return Err(format!("its device is quarantined: {reason}"));
        }
        if self.registration.is_none() {
            return Err("not registered with the coordinator yet".to_owned());
        }
        if let Some(reason) = &self.claims_refused {
            return Err(format!("the coordinator refuses claims: {reason}"));
        }
        if self.shares_memory() {
            self.memory.ever_held()?;
            // A model that has just come is consumed in a moment, and the others are served all the while.
            let serves = |model: &&Model| model.seat.is_resident() && !model.is_new();
            return self.models.iter().filter(serves).try_for_each(Model::readiness);
        }
        self.models.iter().try_for_each(Model::readiness)
    }

    /// Applies one event.
    pub fn apply(&mut self, event: Event, now: Timestamp) {
        match event {
            Event::Granted(granted) => {
                self.lifeline.heard(now);
                for job in granted {
                    self.granted(job, now);
                }
            }
            Event::Intake { index, open } => {
                if let Some(model) = self.models.get_mut(index) {
                    model.intake = open;
                    self.pulse.due_now();
                }
            }
            Event::Claiming(taken) => {
                self.claims_refused = taken.err();
                self.pulse.due_now();
            }
            Event::ClaimsEnded => {
                if let Some(drain) = &mut self.drain {
                    drain.claims_ended = true;
                }
            }
            Event::Engine(event) => self.engine_event(event, now),
            Event::Device(fitness) => self.device_judged(fitness),
            Event::Session(news) => self.session(news, now),
            Event::Settled(settled) => {
                self.lifeline.heard(now);
                self.settled(settled);
            }
            Event::Heartbeat(answer) => {
                if answer.result.is_ok() {
                    self.lifeline.heard(now);
                }
                self.heartbeat_answered(answer);
            }
            Event::Told(answer) => self.tell_answered(answer, now),
        }
    }

    /// Does everything that is due at `now`.
    pub fn advance(&mut self, now: Timestamp) {
        self.give_up_lost_engines(now);
        self.watch_lifeline(now);
        // Before anything is started: what is handed over starts no further batch.
        self.advance_drain(now);
        self.advance_residency(now);
        for index in 0..self.models.len() {
            self.advance_model(index, now);
        }
        self.set_gates();
        self.beat_if_due(now);
        self.tell_if_due(now);
    }

    fn advance_model(&mut self, index: usize, now: Timestamp) {
        let Some(model) = self.models.get_mut(index) else { return };
        let step = model.board.advance(now);
        model.wake_at = step.wake_at;
        let mut tokens: BTreeMap<u64, u64> = BTreeMap::new();
        for started in step.started {
            tokens.insert(started.batch, started.tokens);
            self.batch_started(index, &started);
        }
        for message in step.messages {
            let tokens = match &message {
                stoker_engine_api::ToEngine::Run { batch, .. } => {
                    tokens.get(batch).copied().unwrap_or_default()
                }
                _ => 0,
            };
            self.effects.push(Effect::Message { index, message, tokens });
        }
    }

    /// When to advance again even if nothing happens.
    pub fn wake_at(&self) -> Option<Timestamp> {
        let boards = self.models.iter().filter_map(|model| model.wake_at);
        let patience = self.models.iter().filter_map(super::engines::patience_ends);
        let drain = self.drain.iter().filter_map(Drain::wake_at);
        let lifeline = self.lifeline.wake_at;
        let memory = self.memory.look_at();
        boards
            .chain(patience)
            .chain(drain)
            .chain(self.next_beat())
            .chain(self.next_tell())
            .chain(lifeline)
            .chain(memory)
            .min()
    }

    fn session(&mut self, news: SessionNews, now: Timestamp) {
        match news {
            SessionNews::Registered(registration) => self.registered(registration, now),
            // Work goes on: leases last, and the stream is being opened again.
            SessionNews::Lost => {}
            SessionNews::StopAttempt { job_id, attempt, reason } => {
                info!(job = job_id, attempt, reason, "asked to stop an attempt");
                let named = self.held.iter().find(|(_, held)| {
                    held.fence.attempt.number() == attempt && held.fence.job.to_string() == job_id
                });
                if let Some(key) = named.map(|(key, _)| *key) {
                    self.stop(key);
                }
            }
            SessionNews::Cordon(cordoned) => {
                info!(cordoned, "cordon changed");
                self.cordoned = cordoned;
                self.pulse.due_now();
            }
            SessionNews::Drain(within) => {
                self.drain(Cause::Operator, within, now);
            }
            SessionNews::Needs(needs) => self.needs_told(&needs, now),
            SessionNews::Refused(reason) => {
                self.effects.push(Effect::End(Err(WorkerError::Refused { reason })));
            }
        }
    }

    fn registered(&mut self, registration: Registration, now: Timestamp) {
        if registration.fleet != self.fleet.as_str() {
            let (ours, theirs) = (self.fleet.clone(), registration.fleet);
            self.effects.push(Effect::End(Err(WorkerError::OtherFleet { ours, theirs })));
            return;
        }
        self.effects.push(Effect::MaxBytes(registration.max_message_bytes));
        self.registration = Some(registration);
        self.lifeline.heard(now);
        self.pulse.registered(now);
    }

    fn set_gates(&mut self) {
        let wanted = self.registration.is_some() && !self.is_cordoned() && self.drain.is_none();
        for (index, model) in self.models.iter_mut().enumerate() {
            let open = wanted && model.engine.is_some() && model.seat.is_resident();
            if open != model.gate_open {
                model.gate_open = open;
                self.effects.push(Effect::Gate { index, open });
            }
        }
    }
}
