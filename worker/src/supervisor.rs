//! Keeps one engine process per model running, and says how each one ended.
//!
//! A supervisor starts the process, passes messages both ways, watches for progress and starts it
//! again with growing delays. What an end means for jobs is decided elsewhere.

mod child;
mod exit;
mod starter;
mod watchdog;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use stoker_core::ids::ModelName;
use stoker_engine_api::{EngineInfo, FromEngine, LoadSeconds, ToEngine};
use stoker_runtime::retry::Delays;
use stoker_runtime::tasks::Tasks;
use stoker_weights::CachedModel;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::field::Empty;
use tracing::{Instrument as _, Span, info, info_span, warn};

use child::Child;
pub use exit::Exit;
pub use starter::Starter;
use watchdog::Watchdog;

use crate::agent::Event;
use crate::memory::Meter;
use crate::metrics;

/// Messages that may wait to be written. The board never has as many under way: an engine that
/// lets them pile up does not read any more.
const MESSAGES: usize = 4_096;

const FIRST_RESTART: Duration = Duration::from_millis(200);
const LAST_RESTART: Duration = Duration::from_secs(30);

/// An engine that ran this long has proved itself, also if it had nothing to do: the next restart is quick again.
const PROVED_AFTER: Duration = Duration::from_mins(1);

/// How often the memory of an engine is looked at: it grows with the batches that it has had.
const MEASURED_EVERY: Duration = Duration::from_secs(10);

/// How long an engine may take to end by itself when asked.
const ORDERLY_EXIT: Duration = Duration::from_secs(2);

/// How to start one engine.
#[derive(Debug, Clone)]
pub struct EngineSpec {
    pub model: ModelName,
    pub program: PathBuf,
    pub arguments: Vec<String>,
    /// Set for it besides what the worker itself has.
    pub environment: Vec<(&'static str, String)>,
    /// From start to `Ready`.
    pub start_limit: Duration,
    /// Time that is allowed for anything, besides what batches need for their tokens.
    pub stall_limit: Duration,
    /// Keeps the model's files in the cache as long as an engine may be started.
    pub cached: Option<CachedModel>,
}

/// What happened to an engine. `index` is the model's place in the worker's list.
#[derive(Debug)]
pub struct EngineEvent {
    pub index: usize,
    /// Counts the processes of this model; events of an older one are to be ignored.
    pub generation: u64,
    pub what: EngineNews,
}

#[derive(Debug)]
pub enum EngineNews {
    /// It is warm: send messages through the handle.
    Ready {
        info: Box<EngineInfo>,
        handle: EngineHandle,
    },
    Prepared {
        items: Vec<(stoker_engine_api::ItemKey, Result<u32, stoker_engine_api::ItemError>)>,
    },
    Done {
        batch: u64,
        outputs: Vec<stoker_engine_api::ItemOutput>,
        busy: Duration,
    },
    Said {
        batch: u64,
        item: stoker_engine_api::ItemKey,
        piece: stoker_engine_api::Piece,
    },
    Failed {
        batch: u64,
        error: stoker_engine_api::EngineError,
    },
    /// It is gone; another one follows unless the worker ends.
    Lost {
        exit: Exit,
    },
    /// The same, and no engine of this model has been ready since it was to be started.
    NotStarted {
        exit: Exit,
    },
    /// What its process uses of the device's memory.
    Measured {
        bytes: u64,
    },
    /// It is gone, as it was to: none follows.
    Stopped,
}

/// A message to an engine, with its cost if it is a batch.
#[derive(Debug)]
struct Outgoing {
    message: ToEngine,
    tokens: u64,
}

/// The way to one engine process.
#[derive(Debug, Clone)]
pub struct EngineHandle {
    messages: mpsc::Sender<Outgoing>,
    kill: CancellationToken,
}

impl EngineHandle {
    /// Passes a message on; `tokens` is the cost of a batch. An engine that does not read is ended.
    pub fn send(&self, message: ToEngine, tokens: u64) {
        match self.messages.try_send(Outgoing { message, tokens }) {
            // Its end is on the way as an event.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
            Err(mpsc::error::TrySendError::Full(_)) => self.kill.cancel(),
        }
    }

    /// A way that leads nowhere.
    #[cfg(test)]
    pub(crate) fn detached() -> Self {
        Self { messages: mpsc::channel(1).0, kill: CancellationToken::new() }
    }

    /// Ends the process now: it cannot be trusted any more.
    pub fn kill(&self) {
        self.kill.cancel();
    }
}

struct Supervisor {
    index: usize,
    spec: EngineSpec,
    events: mpsc::Sender<Event>,
    meter: Meter,
    stop: CancellationToken,
    tasks: Tasks,
    ever_ready: bool,
    /// The process that runs, or ran last, has finished a batch.
    worked: bool,
}

impl Supervisor {
    /// Until it is told to stop; its process is gone then, and so it says.
    async fn run(mut self) {
        let generation = self.supervise().await;
        // An agent that has ended wants no news.
        self.tell(generation, EngineNews::Stopped).await;
    }

    /// Answers the number of its last process.
    async fn supervise(&mut self) -> u64 {
        let mut delays = Delays::new(FIRST_RESTART, LAST_RESTART);
        let mut generation = 0;
        loop {
            generation += 1;
            let started = Instant::now();
            self.worked = false;
            let exit = self.run_once(generation).await;
            if self.stop.is_cancelled() {
                return generation;
            }
            metrics::engine_lost(&self.spec.model, exit.label());
            warn!(model = %self.spec.model, %exit, "engine ended");
            let what = if self.ever_ready {
                EngineNews::Lost { exit }
            } else {
                EngineNews::NotStarted { exit }
            };
            if !self.tell(generation, what).await {
                return generation;
            }
            // One that worked until some job killed it is as good as any: others wait behind that job.
            if self.worked || started.elapsed() >= PROVED_AFTER {
                delays.reset();
            }
            if !delays.wait(&self.stop).await {
                return generation;
            }
        }
    }

    async fn tell(&self, generation: u64, what: EngineNews) -> bool {
        let event = EngineEvent { index: self.index, generation, what };
        self.events.send(Event::Engine(event)).await.is_ok()
    }

    /// One process, from start to end.
    async fn run_once(&mut self, generation: u64) -> Exit {
        let mut child = match Child::start(&self.spec, &self.tasks) {
            Ok(child) => child,
            Err(exit) => return exit,
        };
        info!(model = %self.spec.model, pid = child.pid(), "engine started");
        let span = start_span(&self.spec.model);
        let began = Instant::now();
        let ready = child.wait_ready(&self.spec.model).instrument(span.clone());
        let started = timeout(self.spec.start_limit, ready);
        let ready = tokio::select! {
            ready = started => ready,
            () = self.stop.cancelled() => return child.kill(Exit::Stopped).await,
        };
        let engine = match ready {
            Ok(Ok(engine)) => engine,
            Ok(Err(exit)) => return child.kill(exit).await,
            Err(_) => {
                let exit = Exit::StartTimeout { limit: self.spec.start_limit };
                return child.kill(exit).await;
            }
        };
        self.ever_ready = true;
        record_load(&span, &engine.load);
        metrics::engine_started(&self.spec.model, began.elapsed(), &engine.load);
        span.in_scope(|| log_ready(&engine, child.pid()));
        self.serve(generation, child, engine).await
    }

    async fn serve(&mut self, generation: u64, mut child: Child, engine: EngineInfo) -> Exit {
        let (messages_tx, messages) = mpsc::channel(MESSAGES);
        let kill = CancellationToken::new();
        let watchdog = Arc::new(Watchdog::new(self.spec.stall_limit, engine.lanes));
        let writer = child.write_from(messages, Arc::clone(&watchdog), &self.tasks);
        let handle = EngineHandle { messages: messages_tx.clone(), kill: kill.clone() };
        if !self.tell(generation, EngineNews::Ready { info: Box::new(engine), handle }).await {
            return child.kill(Exit::Stopped).await;
        }
        let measuring = self.tasks.spawn("engine-memory", self.measure(generation, child.pid()));
        let exit = self.exchange(generation, &mut child, &watchdog, &kill).await;
        measuring.abort();
        if matches!(exit, Exit::Stopped) {
            return self.end_orderly(child, &messages_tx).await;
        }
        writer.abort();
        child.kill(exit).await
    }

    /// Passes messages on until something ends the engine.
    async fn exchange(
        &mut self,
        generation: u64,
        child: &mut Child,
        watchdog: &Watchdog,
        kill: &CancellationToken,
    ) -> Exit {
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Exit::Stopped,
                () = kill.cancelled() => return Exit::Distrusted,
                // Cancel-safe: the child keeps what it has read of a frame.
                message = child.read() => match message {
                    Ok(message) => {
                        if let Err(exit) = self.pass_on(generation, message, watchdog).await {
                            return exit;
                        }
                    }
                    Err(exit) => return exit,
                },
                () = sleep_until(watchdog.deadline(Instant::now())) => {
                    if let Some(silence) = watchdog.overdue(Instant::now()) {
                        return Exit::Hung { silence };
                    }
                }
            }
        }
    }

    /// Tells what the engine's memory is, at once and whenever it has changed.
    fn measure(&self, generation: u64, pid: u32) -> impl Future<Output = ()> + Send + use<> {
        let (index, events, meter) = (self.index, self.events.clone(), self.meter.clone());
        async move {
            let mut told = None;
            let mut ticks = interval(MEASURED_EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let Some(bytes) = meter.read(pid).await else { continue };
                if told == Some(bytes) {
                    continue;
                }
                told = Some(bytes);
                let what = EngineNews::Measured { bytes };
                let event = EngineEvent { index, generation, what };
                if events.send(Event::Engine(event)).await.is_err() {
                    return;
                }
            }
        }
    }

    async fn pass_on(
        &mut self,
        generation: u64,
        message: FromEngine,
        watchdog: &Watchdog,
    ) -> Result<(), Exit> {
        watchdog.heard(&message, Instant::now());
        let what = match message {
            FromEngine::Prepared { items } => EngineNews::Prepared { items },
            FromEngine::Done { batch, outputs, busy_micros } => {
                self.worked = true;
                EngineNews::Done { batch, outputs, busy: Duration::from_micros(busy_micros) }
            }
            FromEngine::Said { batch, item, piece } => EngineNews::Said { batch, item, piece },
            FromEngine::Failed { batch, error } => EngineNews::Failed { batch, error },
            FromEngine::Hello { .. } | FromEngine::Ready(_) | FromEngine::Fatal { .. } => {
                return Err(Exit::Protocol { what: "it spoke out of turn".to_owned() });
            }
        };
        if self.tell(generation, what).await { Ok(()) } else { Err(Exit::Stopped) }
    }

    /// The worker ends: let the engine end by itself, but not for long.
    async fn end_orderly(&self, mut child: Child, messages: &mpsc::Sender<Outgoing>) -> Exit {
        // An engine that does not read is killed below.
        let _ = messages.try_send(Outgoing { message: ToEngine::Shutdown, tokens: 0 });
        if timeout(ORDERLY_EXIT, child.drain()).await.is_err() {
            warn!(model = %self.spec.model, "engine did not end in time");
        }
        child.kill(Exit::Stopped).await
    }
}

/// Of an engine's start, until it is warm. The times of its phases are added when it tells them.
fn start_span(model: &ModelName) -> Span {
    info_span!(
        "engine-start",
        %model,
        read_seconds = Empty,
        digest_seconds = Empty,
        tokenizer_seconds = Empty,
        device_copy_seconds = Empty,
        warm_up_seconds = Empty,
    )
}

fn record_load(span: &Span, load: &LoadSeconds) {
    span.record("read_seconds", load.read);
    span.record("digest_seconds", load.digest);
    span.record("tokenizer_seconds", load.tokenizer);
    span.record("device_copy_seconds", load.build);
    span.record("warm_up_seconds", load.warm_up);
}

fn log_ready(engine: &EngineInfo, pid: u32) {
    info!(
        model = engine.model,
        pid,
        device = engine.device,
        lanes = engine.lanes,
        max_batch_tokens = engine.max_batch_tokens,
        load_seconds = engine.load.total(),
        "engine ready"
    );
}
