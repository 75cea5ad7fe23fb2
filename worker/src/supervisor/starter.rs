//! Starts and stops the engines of a worker's models, one supervisor for each that is to run.

use stoker_runtime::tasks::Tasks;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{EngineSpec, Supervisor};
use crate::agent::Event;
use crate::memory::Meter;

/// The engines of all models, by their place in the worker's list.
#[derive(Debug)]
pub struct Starter {
    engines: Vec<(EngineSpec, Option<CancellationToken>)>,
    events: mpsc::Sender<Event>,
    meter: Meter,
    tasks: Tasks,
    /// Ends all of them.
    stop: CancellationToken,
}

impl Starter {
    pub fn new(
        specs: Vec<EngineSpec>,
        events: mpsc::Sender<Event>,
        meter: Meter,
        tasks: Tasks,
        stop: CancellationToken,
    ) -> Self {
        let engines = specs.into_iter().map(|spec| (spec, None)).collect();
        Self { engines, events, meter, tasks, stop }
    }

    /// Starts a model's engine, and again after each of its ends, until it is stopped. It must not run.
    pub fn start(&mut self, index: usize) {
        let Some((spec, running)) = self.engines.get_mut(index) else { return };
        let stop = self.stop.child_token();
        *running = Some(stop.clone());
        let supervisor = Supervisor {
            index,
            spec: spec.clone(),
            events: self.events.clone(),
            meter: self.meter.clone(),
            stop,
            tasks: self.tasks.clone(),
            ever_ready: false,
            worked: false,
        };
        self.tasks.spawn("engine-supervisor", supervisor.run());
    }

    /// Ends a model's engine; an event says when it is gone.
    pub fn stop(&mut self, index: usize) {
        let running = self.engines.get_mut(index).and_then(|(_, running)| running.take());
        if let Some(running) = running {
            running.cancel();
        }
    }
}
