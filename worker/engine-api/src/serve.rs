//! The main loop of an engine process.
//!
//! One thread reads requests, a few prepare items, one per lane runs batches; whoever has an answer
//! writes it. The calling thread waits for the first failure or for all of them to finish. The
//! reading thread is never joined: it may sit in a read that only the end of the process ends.

mod held;
mod workers;

use std::io::{Read, Write};
use std::num::NonZeroUsize;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::{panic, thread};

use crate::{
    Engine, EngineError, FrameError, FrameReader, FrameWriter, FromEngine, ItemInput, ItemKey,
    MAX_PREPARE_THREADS, ToEngine, panics,
};
use held::Held;

/// Requests to prepare that may wait; a worker that sends more waits in its pipe.
const PREPARE_QUEUE: usize = 64;

/// How an engine process uses its threads.
#[derive(Debug, Clone, Copy)]
pub struct ServeOptions {
    /// Threads that prepare items beside the lanes, up to [`MAX_PREPARE_THREADS`].
    pub prepare_threads: NonZeroUsize,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self { prepare_threads: NonZeroUsize::MIN }
    }
}

/// Why an engine process stopped before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("talking to the worker")]
    Worker(#[from] FrameError),
    #[error("an error that makes the engine's state unknown")]
    Engine(#[source] EngineError),
    #[error("a thread of the engine failed: {message}")]
    Panicked { message: String },
    #[error("starting a thread")]
    Thread(#[source] std::io::Error),
}

/// Says `Ready` and answers requests until `Shutdown` or the end of `requests`, then finishes the
/// batches it was given.
///
/// # Errors
/// When the worker cannot be talked to any more, or after an error that
/// [ends the engine](EngineError::ends_engine); the process must exit then, since threads may
/// still be running.
pub fn serve<E, R, W>(
    engine: E,
    requests: R,
    replies: W,
    options: ServeOptions,
) -> Result<(), ServeError>
where
    E: Engine,
    R: Read + Send + 'static,
    W: Write + Send + 'static,
{
    serve_ready(engine, requests, Replies::new(replies), options)
}

pub(crate) fn serve_ready<E, R, W>(
    engine: E,
    requests: R,
    replies: Replies<W>,
    options: ServeOptions,
) -> Result<(), ServeError>
where
    E: Engine,
    R: Read + Send + 'static,
    W: Write + Send + 'static,
{
    replies.send(&FromEngine::Ready(engine.info().clone()))?;
    let lanes = usize::try_from(engine.info().lanes).unwrap_or(1).max(1);
    let shared = Arc::new(Shared { engine, held: Mutex::new(Held::default()), replies });
    let (prepare_tx, prepare_rx) = mpsc::sync_channel(PREPARE_QUEUE);
    let (run_tx, run_rx) = mpsc::sync_channel(lanes);
    let prepare_threads = options.prepare_threads.get().min(MAX_PREPARE_THREADS);
    let threads = prepare_threads + lanes + 1;
    let (ended_tx, ended_rx) = mpsc::sync_channel(threads);

    let prepare_rx = Arc::new(Mutex::new(prepare_rx));
    for _ in 0..prepare_threads {
        let (shared, queue) = (Arc::clone(&shared), Arc::clone(&prepare_rx));
        start("prepare", &ended_tx, move || workers::prepare_items(&shared, &queue))?;
    }
    let run_rx = Arc::new(Mutex::new(run_rx));
    for _ in 0..lanes {
        let (shared, queue) = (Arc::clone(&shared), Arc::clone(&run_rx));
        start("lane", &ended_tx, move || workers::run_batches(&shared, &queue))?;
    }
    let queues = Queues { prepare: prepare_tx, run: run_tx };
    start("requests", &ended_tx, move || read_requests(requests, &shared, &queues))?;
    drop(ended_tx);
    ended_rx.into_iter().collect()
}

/// What all threads of a process use.
struct Shared<E: Engine, W> {
    engine: E,
    held: Mutex<Held<E::Prepared>>,
    replies: Replies<W>,
}

impl<E: Engine, W> Shared<E, W> {
    fn held(&self) -> std::sync::MutexGuard<'_, Held<E::Prepared>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The stream back to the worker; frames of different threads do not mix.
pub(crate) struct Replies<W>(Mutex<FrameWriter<FromEngine, W>>);

impl<W: Write> Replies<W> {
    pub(crate) fn new(stream: W) -> Self {
        Self(Mutex::new(FrameWriter::new(stream)))
    }

    pub(crate) fn send(&self, message: &FromEngine) -> Result<(), FrameError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(message)
    }
}

type PrepareRequest = Vec<(ItemKey, ItemInput)>;

/// A batch to run.
struct RunRequest {
    batch: u64,
    items: Vec<ItemKey>,
}

struct Queues {
    prepare: SyncSender<PrepareRequest>,
    run: SyncSender<RunRequest>,
}

/// Several threads taking turns at one queue.
type SharedQueue<T> = Mutex<Receiver<T>>;

fn start(
    name: &str,
    ended: &SyncSender<Result<(), ServeError>>,
    body: impl FnOnce() -> Result<(), ServeError> + Send + 'static,
) -> Result<(), ServeError> {
    let ended = ended.clone();
    let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
        let result = panic::catch_unwind(panic::AssertUnwindSafe(body))
            .unwrap_or_else(|_| Err(ServeError::Panicked { message: panics::place() }));
        // The channel has room for every thread; nobody listens only after an earlier failure.
        let _ = ended.send(result);
    });
    thread.map(drop).map_err(ServeError::Thread)
}

/// Hands requests to the threads that carry them out. Returning drops the queues' senders, which
/// ends those threads once they have emptied them.
fn read_requests<E: Engine, W: Write>(
    requests: impl Read,
    shared: &Shared<E, W>,
    queues: &Queues,
) -> Result<(), ServeError> {
    let mut requests = FrameReader::new(requests);
    while let Some(request) = requests.read()? {
        // A queue is closed only when its threads failed, which is reported by them.
        let closed = match request {
            ToEngine::Prepare { items } => {
                shared.held().expect(items.iter().map(|(key, _)| *key));
                queues.prepare.send(items).is_err()
            }
            ToEngine::Run { batch, items } => queues.run.send(RunRequest { batch, items }).is_err(),
            ToEngine::Forget { items } => {
                shared.held().forget(&items);
                false
            }
            ToEngine::Shutdown => true,
        };
        if closed {
            return Ok(());
        }
    }
    Ok(())
}
