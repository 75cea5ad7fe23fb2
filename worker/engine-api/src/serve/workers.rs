//! What the threads of an engine process do: prepare items, run batches.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::PoisonError;
use std::time::Instant;

use super::{PrepareRequest, RunRequest, ServeError, Shared, SharedQueue};
use crate::{
    Engine, EngineError, FrameError, FromEngine, ItemError, ItemInput, ItemKey, ItemOutput,
    Listener, Piece, Prepared, Wanted, panics,
};

/// Prepares items until the queue is closed and empty.
pub(super) fn prepare_items<E: Engine, W: Write>(
    shared: &Shared<E, W>,
    queue: &SharedQueue<PrepareRequest>,
) -> Result<(), ServeError> {
    while let Some(request) = next(queue) {
        let items = request
            .into_iter()
            .map(|(key, input)| (key, prepare_one(shared, key, input)))
            .collect();
        shared.replies.send(&FromEngine::Prepared { items })?;
    }
    Ok(())
}

fn prepare_one<E: Engine, W>(
    shared: &Shared<E, W>,
    key: ItemKey,
    input: ItemInput,
) -> Result<u32, ItemError> {
    // Preparing touches no device and changes nothing in the engine, so a panic stays this item's.
    let prepared = catch_unwind(AssertUnwindSafe(|| shared.engine.prepare(input)))
        .unwrap_or_else(|_| Err(ItemError::Internal { message: panics::place() }));
    let kept = prepared.and_then(|prepared| {
        let cost = prepared.cost();
        shared.held().keep(key, prepared).map(|()| cost)
    });
    if kept.is_err() {
        shared.held().forget(&[key]);
    }
    kept
}

/// Runs batches until the queue is closed and empty, or the engine can't go on.
pub(super) fn run_batches<E: Engine, W: Write + Send>(
    shared: &Shared<E, W>,
    queue: &SharedQueue<RunRequest>,
) -> Result<(), ServeError> {
    while let Some(RunRequest { batch, items }) = next(queue) {
        let started = Instant::now();
        let result = run_one(shared, batch, &items);
        let busy_micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let result = match result {
            Ok(outputs) => reply_done(shared, &items, batch, outputs, busy_micros)?,
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            shared.replies.send(&FromEngine::Failed { batch, error: error.clone() })?;
            if error.ends_engine() {
                return Err(ServeError::Engine(error));
            }
        }
    }
    Ok(())
}

fn run_one<E: Engine, W: Write + Send>(
    shared: &Shared<E, W>,
    batch: u64,
    keys: &[ItemKey],
) -> Result<Vec<ItemOutput>, EngineError> {
    let items = shared.held().get(keys).map_err(|ItemKey(key)| EngineError::Input {
        message: format!("item {key} is not prepared"),
    })?;
    let items: Vec<&E::Prepared> = items.iter().map(AsRef::as_ref).collect();
    let told = Told { shared, batch, keys };
    let outputs = catch_unwind(AssertUnwindSafe(|| shared.engine.run_heard(&items, &told)))
        .unwrap_or_else(|_| Err(EngineError::Internal { message: panics::place() }))?;
    if outputs.len() == items.len() {
        Ok(outputs)
    } else {
        let message = format!("{} outputs for {} items", outputs.len(), items.len());
        Err(EngineError::Internal { message })
    }
}

/// Passes pieces of outputs on to the worker.
struct Told<'a, E: Engine, W> {
    shared: &'a Shared<E, W>,
    batch: u64,
    keys: &'a [ItemKey],
}

impl<E: Engine, W: Write + Send> Listener for Told<'_, E, W> {
    fn said(&self, item: usize, piece: Piece) -> Wanted {
        let Some(&item) = self.keys.get(item) else { return Wanted::No };
        let wanted = self.shared.held().has(item);
        let message = FromEngine::Said { batch: self.batch, item, piece };
        // A worker that cannot be told anything will not take the output either.
        if wanted && self.shared.replies.send(&message).is_ok() { Wanted::Yes } else { Wanted::No }
    }

    fn wanted(&self, item: usize) -> Wanted {
        let held = self.keys.get(item).is_some_and(|key| self.shared.held().has(*key));
        if held { Wanted::Yes } else { Wanted::No }
    }
}

/// Sends the outputs and lets go of the items. The inner error is the batch's: its outputs do not
/// fit in a frame.
fn reply_done<E: Engine, W: Write>(
    shared: &Shared<E, W>,
    keys: &[ItemKey],
    batch: u64,
    outputs: Vec<ItemOutput>,
    busy_micros: u64,
) -> Result<Result<(), EngineError>, ServeError> {
    match shared.replies.send(&FromEngine::Done { batch, outputs, busy_micros }) {
        Ok(()) => {
            shared.held().forget(keys);
            Ok(Ok(()))
        }
        Err(error @ FrameError::TooLarge { .. }) => {
            Ok(Err(EngineError::Input { message: error.to_string() }))
        }
        Err(error) => Err(error.into()),
    }
}

/// The next request; none when the queue is closed and empty.
fn next<T>(queue: &SharedQueue<T>) -> Option<T> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}
