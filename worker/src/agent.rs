//! The worker's one loop: wait for events, apply them to the state, perform what follows.
//!
//! Nothing is awaited between reading the state and changing it; everything that takes time runs
//! elsewhere and comes back as an event.

mod drain;
mod engines;
mod health;
mod heartbeat;
mod jobs;
mod residency;
mod state;
mod telling;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use stoker_core::departure::Cause;
use stoker_proto::v1;
use stoker_runtime::clock::Clock;
use stoker_runtime::tasks::Tasks;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::error;

pub use heartbeat::HeartbeatAnswer;
pub use state::{ModelPlan, State, WorkerPlan};
pub use telling::TellAnswer;

use crate::attempt::{Granted, Ticket};
use crate::board::JobKey;
use crate::error::WorkerError;
use crate::interruption::Announced;
use crate::link::{Link, SessionNews};
use crate::report::{Report, Settled};
use crate::supervisor::{EngineEvent, Starter};

/// Events applied before the next step.
const AT_ONCE: usize = 256;

/// How long to sleep when nothing is due.
const IDLE: Duration = Duration::from_mins(1);

/// What can happen to a worker.
#[derive(Debug)]
pub enum Event {
    Granted(Vec<Granted>),
    /// Whether deliveries of a model come in, or why not. Told when it changes.
    Intake {
        index: usize,
        open: Result<(), String>,
    },
    /// Whether the coordinator takes claims, or why it refuses them. Told when it changes.
    Claiming(Result<(), String>),
    /// After a drain began: every claim under way has been answered.
    ClaimsEnded,
    Engine(EngineEvent),
    /// Whether the device is fit, or why not. Told when it changes.
    Device(Result<(), String>),
    Session(SessionNews),
    Settled(Settled),
    Heartbeat(HeartbeatAnswer),
    Told(TellAnswer),
}

/// What follows from events.
#[derive(Debug)]
pub enum Effect {
    /// Pass a message to the engine of this model; `tokens` is the cost of a batch.
    Message {
        index: usize,
        message: stoker_engine_api::ToEngine,
        tokens: u64,
    },
    KillEngine {
        index: usize,
    },
    /// Start this model's engine, and again whenever it ends.
    StartEngine {
        index: usize,
    },
    /// End it for good, or until it is to be started again. An event says when it is gone.
    StopEngine {
        index: usize,
    },
    /// Open or close the intake of a model.
    Gate {
        index: usize,
        open: bool,
    },
    Report(Report),
    Settle(Ticket),
    Heartbeat {
        request: v1::HeartbeatRequest,
        keys: Vec<JobKey>,
    },
    Tell {
        request: v1::TellRequest,
        told: Vec<(JobKey, Vec<v1::TextPiece>)>,
    },
    RegisterAgain,
    /// Results of one call may be this large from now on.
    MaxBytes(usize),
    /// No further work: stop claiming.
    StopClaiming,
    /// The loop's end: why it went, or why it cannot go on.
    End(Result<Cause, WorkerError>),
}

/// The loop with everything that it drives.
#[derive(Debug)]
pub struct Agent {
    pub state: State,
    pub events: mpsc::Receiver<Event>,
    /// For answers to heartbeats and to texts.
    pub events_tx: mpsc::Sender<Event>,
    pub clock: Arc<dyn Clock>,
    pub link: Link,
    pub reports: mpsc::Sender<Report>,
    pub settle: mpsc::Sender<Ticket>,
    pub engines: Starter,
    pub gates: Vec<watch::Sender<bool>>,
    pub max_bytes: watch::Sender<usize>,
    pub again: Arc<Notify>,
    pub readiness: watch::Sender<Result<(), String>>,
    pub stop_claiming: CancellationToken,
    pub shutdown: CancellationToken,
    /// What the cloud announces about the machine.
    pub announced: watch::Receiver<Announced>,
    pub tasks: Tasks,
}

impl Agent {
    /// Runs until the worker has drained, whatever for, or cannot go on.
    ///
    /// # Errors
    /// When an engine cannot start at all, or the coordinator's fleet is another one.
    pub async fn run(mut self) -> Result<Cause, WorkerError> {
        let mut received = Vec::with_capacity(AT_ONCE);
        let mut asked_to_end = false;
        let mut cloud_speaks = true;
        // What was announced before is news as well.
        self.announced.mark_changed();
        loop {
            let due = self.state.wake_at().map_or(IDLE, |at| at.since(self.clock.now()));
            // Every branch is cancel-safe.
            tokio::select! {
                biased;
                () = self.shutdown.cancelled(), if !asked_to_end => {
                    asked_to_end = true;
                    self.state.drain(Cause::Shutdown, None, self.clock.now());
                }
                changed = self.announced.changed(), if cloud_speaks => {
                    cloud_speaks = changed.is_ok();
                    let announced = *self.announced.borrow_and_update();
                    // The end of the watch is no news.
                    if cloud_speaks && announced != Announced::default() {
                        self.state.announced(announced, self.clock.now());
                    }
                }
                _ = self.events.recv_many(&mut received, AT_ONCE) => {}
                () = sleep(due) => {}
            }
            let now = self.clock.now();
            for event in received.drain(..) {
                self.state.apply(event, now);
            }
            self.state.advance(now);
            for effect in self.state.take_effects() {
                if let Some(end) = self.perform(effect) {
                    return end;
                }
            }
            self.readiness.send_if_modified(|now| {
                let readiness = self.state.readiness();
                let changed = *now != readiness;
                *now = readiness;
                changed
            });
        }
    }

    fn perform(&mut self, effect: Effect) -> Option<Result<Cause, WorkerError>> {
        match effect {
            Effect::Message { index, message, tokens } => {
                if let Some(handle) = self.state.engine(index) {
                    handle.send(message, tokens);
                }
            }
            Effect::KillEngine { index } => {
                if let Some(handle) = self.state.engine(index) {
                    handle.kill();
                }
            }
            Effect::StartEngine { index } => self.engines.start(index),
            Effect::StopEngine { index } => self.engines.stop(index),
            Effect::Gate { index, open } => {
                if let Some(gate) = self.gates.get(index) {
                    gate.send_replace(open);
                }
            }
            // Both channels have room for every job that can be held.
            Effect::Report(report) => {
                if self.reports.try_send(report).is_err() {
                    error!("a report is lost; its lease will expire");
                }
            }
            Effect::Settle(ticket) => {
                if self.settle.try_send(ticket).is_err() {
                    error!("a delivery is not settled; it will come again");
                }
            }
            Effect::Heartbeat { request, keys } => self.send_heartbeat(request, keys),
            Effect::Tell { request, told } => self.send_texts(request, told),
            Effect::RegisterAgain => self.again.notify_one(),
            Effect::MaxBytes(bytes) => {
                self.max_bytes.send_replace(bytes);
            }
            Effect::StopClaiming => self.stop_claiming.cancel(),
            Effect::End(end) => return Some(end),
        }
        None
    }

    fn send_heartbeat(&self, request: v1::HeartbeatRequest, keys: Vec<JobKey>) {
        let (link, events) = (self.link.clone(), self.events_tx.clone());
        self.tasks.spawn("heartbeat", async move {
            let result = link.heartbeat(request).await;
            // An agent that has ended wants no answer.
            let _ = events.send(Event::Heartbeat(HeartbeatAnswer { keys, result })).await;
        });
    }

    fn send_texts(&self, request: v1::TellRequest, told: Vec<(JobKey, Vec<v1::TextPiece>)>) {
        let (link, events) = (self.link.clone(), self.events_tx.clone());
        self.tasks.spawn("tell", async move {
            let result = link.tell(request).await;
            // An agent that has ended wants no answer.
            let _ = events.send(Event::Told(TellAnswer { told, result })).await;
        });
    }
}
