//! What news from engines mean.

use std::collections::BTreeMap;
use std::time::Duration;

use stoker_core::time::Timestamp;
use stoker_engine_api::{EngineError, EngineInfo, TaskKind};
use stoker_proto::v1::ReleaseReason;
use tracing::{error, warn};

use super::Effect;
use super::state::{Engine, Model, State};
use crate::board::{Blame, Capacity, Finished, JobKey, ProtocolError};
use crate::error::WorkerError;
use crate::metrics;
use crate::supervisor::{EngineEvent, EngineHandle, EngineNews, Exit};

/// How long jobs wait for an engine to come back before they are given to other workers.
const PATIENCE: Duration = Duration::from_secs(10);

/// When the jobs of a model without an engine are given back.
pub(super) fn patience_ends(model: &Model) -> Option<Timestamp> {
    let lost_at = model.lost_at.filter(|_| !model.board.is_empty())?;
    Some(lost_at.after(PATIENCE))
}

impl State {
    pub(super) fn engine_event(&mut self, event: EngineEvent, now: Timestamp) {
        let EngineEvent { index, generation, what } = event;
        let Some(model) = self.models.get_mut(index) else { return };
        let current = model.engine.as_ref().is_some_and(|e| e.generation == generation);
        match what {
            EngineNews::Ready { info, handle } => {
                if self.engine_ready(index, generation, &info, handle) {
                    self.seat_taken(index, now);
                }
            }
            EngineNews::Lost { exit } => self.engine_lost(index, &exit, now),
            EngineNews::NotStarted { exit } => self.engine_not_started(index, exit, now),
            EngineNews::Measured { bytes } => self.measured(index, bytes),
            EngineNews::Stopped => {
                self.engine_lost(index, &Exit::Stopped, now);
                self.seat_left(index);
            }
            // Late news of a process that was given up.
            _ if !current => {}
            EngineNews::Prepared { items } => {
                let ended = model.board.prepared(items, now);
                self.all_ended(ended);
            }
            EngineNews::Said { batch, item, piece } => model.board.said(batch, item, piece),
            EngineNews::Done { batch, outputs, busy } => {
                let finished = model.board.done(batch, outputs, busy);
                self.batch_ended(index, batch, busy, finished);
            }
            EngineNews::Failed { batch, error } => {
                warn!(model = %model.plan.name, batch, %error, "batch failed");
                if let Some(engine) = &mut model.engine
                    && error.ends_engine()
                {
                    engine.blame = Blame::Named;
                }
                let finished = model.board.failed(batch, &error);
                self.batch_ended(index, batch, Duration::ZERO, finished);
                if let EngineError::Device { message } = &error {
                    self.device_failed(message, now);
                }
            }
        }
    }

    /// True if the engine is the model's.
    fn engine_ready(
        &mut self,
        index: usize,
        generation: u64,
        info: &EngineInfo,
        handle: EngineHandle,
    ) -> bool {
        let Some(model) = self.models.get_mut(index) else { return false };
        if info.task != model.plan.task {
            let (name, task) = (&model.plan.name, model.plan.task);
            error!(model = %name, task = %info.task, expected = %task, "engine does another task");
            handle.kill();
            return false;
        }
        let capacity = Capacity::of(info, model.plan.max_batch_tokens);
        model.board.engine_ready(capacity, info.labels.clone());
        let lanes = info.lanes;
        let batches = BTreeMap::new();
        model.engine = Some(Engine { generation, handle, lanes, blame: Blame::Open, batches });
        model.lost_at = None;
        metrics::engine_up(&model.plan.name);
        self.pulse.due_now();
        true
    }

    fn batch_ended(
        &mut self,
        index: usize,
        batch: u64,
        busy: Duration,
        finished: Result<Finished, ProtocolError>,
    ) {
        let Some(model) = self.models.get_mut(index) else { return };
        match finished {
            Ok(Finished { items, tokens, ended }) => {
                if let Some(engine) = &mut model.engine {
                    engine.batches.remove(&batch);
                }
                if !busy.is_zero() {
                    metrics::batch_done(&model.plan.name, items, tokens, busy);
                    if let Some(tokens) = model.board.batch_tokens() {
                        metrics::batch_size(&model.plan.name, tokens);
                    }
                    self.pulse.computed(busy);
                }
                self.all_ended(ended);
            }
            Err(error) => {
                error!(model = %model.plan.name, %error, "engine cannot be trusted; ending it");
                self.effects.push(Effect::KillEngine { index });
            }
        }
    }

    /// Before any engine of the model was ever ready, what it says is for the operator. Where models take turns, the
    /// others go on.
    fn engine_not_started(&mut self, index: usize, exit: Exit, now: Timestamp) {
        if self.shares_memory() {
            self.load_failed(index, &exit, now);
            return;
        }
        let Some(model) = self.models.get(index) else { return };
        let (message, remedy) = match exit {
            Exit::Fatal { message, remedy } => (message, remedy),
            Exit::Spawn { reason } => {
                let flag = binary_flag(model.plan.task);
                (reason, format!("set {flag} to the engine's binary"))
            }
            // What else can happen may pass: it is tried again.
            _ => return,
        };
        let model = model.plan.name.clone();
        self.effects.push(Effect::End(Err(WorkerError::Engine { model, message, remedy })));
    }

    fn engine_lost(&mut self, index: usize, exit: &Exit, now: Timestamp) {
        let Some(model) = self.models.get_mut(index) else { return };
        metrics::engine_down(&model.plan.name);
        let Some(engine) = model.engine.take() else {
            // It did not come back.
            if model.seat.is_resident() && self.shares_memory() {
                self.load_failed(index, exit, now);
            }
            return;
        };
        model.lost_at = Some(now);
        let ended = model.board.engine_lost(&exit.to_string(), exit.code(), engine.blame);
        self.all_ended(ended);
        self.pulse.due_now();
    }

    /// Jobs do not wait for ever for an engine that does not come back.
    pub(super) fn give_up_lost_engines(&mut self, now: Timestamp) {
        let mut given_up: Vec<JobKey> = Vec::new();
        for model in &self.models {
            if patience_ends(model).is_some_and(|end| end <= now) {
                warn!(model = %model.plan.name, "no engine; giving its jobs back");
                given_up.extend(model.board.keys());
            }
        }
        for key in given_up {
            if let Some(parts) = self.take_off_board(key) {
                self.release(key, ReleaseReason::Unavailable, parts);
            }
        }
    }

    /// Lanes of all warm engines.
    pub(super) fn lanes(&self) -> u32 {
        self.models
            .iter()
            .filter_map(|model| model.engine.as_ref())
            .map(|engine| engine.lanes)
            .sum()
    }
}

/// The worker's argument that names the engine for a task.
const fn binary_flag(task: TaskKind) -> &'static str {
    match task {
        TaskKind::TextEmbedding
        | TaskKind::TextClassification
        | TaskKind::TextGeneration
        | TaskKind::ImageEmbedding
        | TaskKind::ImageClassification
        | TaskKind::ImageCaptioning
        | TaskKind::FaceDetection
        | TaskKind::FaceEmbedding
        | TaskKind::SpeechToText => "--engine",
        TaskKind::Echo => "--echo-engine",
    }
}
