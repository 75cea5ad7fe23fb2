//! Keeps one engine process per model running, and says how each one ended.
//!
//! A supervisor starts the process, passes messages both ways, watches for progress and starts it
//! again with growing delays. What an end means for jobs is decided elsewhere.

mod child;
mod exit;
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
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::field::Empty;
use tracing::{Instrument as _, Span, info, info_span, warn};

use child::Child;
pub use exit::Exit;
use watchdog::Watchdog;

use crate::agent::Event;
use crate::metrics;

/// Messages that may wait to be written. The board never has as many under way: an engine that
/// lets them pile up does not read any more.
const MESSAGES: usize = 4_096;

const FIRST_RESTART: Duration = Duration::from_millis(200);
const LAST_RESTART: Duration = Duration::from_secs(30);

/// An engine that ran this long has proved itself, also if it had nothing to do: the next restart is quick again.
const PROVED_AFTER: Duration = Duration::from_mins(1);

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
    /// The same, and no engine of this model has ever been ready.
    NotStarted {
        exit: Exit,
    },
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

/// Starts the supervisor of one model. It ends, with its process, when `stop` is cancelled.
pub fn start(
    index: usize,
    spec: EngineSpec,
    events: mpsc::Sender<Event>,
    tasks: &Tasks,
    stop: CancellationToken,
) {
    let supervisor = Supervisor {
        index,
        spec,
        events,
        stop,
        tasks: tasks.clone(),
        ever_ready: false,
        worked: false,
    };
    tasks.spawn("engine-supervisor", supervisor.run());
}

struct Supervisor {
    index: usize,
    spec: EngineSpec,
    events: mpsc::Sender<Event>,
    stop: CancellationToken,
    tasks: Tasks,
    ever_ready: bool,
    /// The process that runs, or ran last, has finished a batch.
    worked: bool,
}

impl Supervisor {
    async fn run(mut self) {
        let mut delays = Delays::new(FIRST_RESTART, LAST_RESTART);
        let mut generation = 0;
        loop {
            generation += 1;
            let started = Instant::now();
            self.worked = false;
            let exit = self.run_once(generation).await;
            if self.stop.is_cancelled() {
                return;
            }
            metrics::engine_lost(&self.spec.model, exit.label());
            warn!(model = %self.spec.model, %exit, "engine ended");
            let what = if self.ever_ready {
                EngineNews::Lost { exit }
            } else {
                EngineNews::NotStarted { exit }
            };
            if !self.tell(generation, what).await {
                return;
            }
            // One that worked until some job killed it is as good as any: others wait behind that job.
            if self.worked || started.elapsed() >= PROVED_AFTER {
                delays.reset();
            }
            if !delays.wait(&self.stop).await {
                return;
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
        let exit = loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => {
                    return self.end_orderly(child, &messages_tx).await;
                }
                () = kill.cancelled() => break Exit::Distrusted,
                // Cancel-safe: the child keeps what it has read of a frame.
                message = child.read() => match message {
                    Ok(message) => {
                        if let Err(exit) = self.pass_on(generation, message, &watchdog).await {
                            break exit;
                        }
                    }
                    Err(exit) => break exit,
                },
                () = sleep_until(watchdog.deadline(Instant::now())) => {
                    if let Some(silence) = watchdog.overdue(Instant::now()) {
                        break Exit::Hung { silence };
                    }
                }
            }
        };
        writer.abort();
        child.kill(exit).await
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
