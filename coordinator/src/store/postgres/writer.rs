//! The tasks that write, and the transactions that calls share.
//!
//! Calls that wait at the same time run in one transaction: their rows are read and locked together, the
//! calls run over them in memory, and what they changed is written together. That takes two round trips
//! and one sync, however many calls there are. A few such tasks work side by side, so that one reads
//! while the other waits for the disk; none waits for more calls to come.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool_postgres::Object;
use stoker_runtime::ids;
use stoker_runtime::tasks::Tasks;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::metrics;
use crate::room::Room;
use crate::store::room::{QUEUE, ROOM, refusal};
use crate::store::{Origin, StoreError};

use super::calls::{Call, TypedCall};
use super::error::{Kind, database, kind};
use super::flush::{Author, Batch};
use super::load::{Loaded, With, load};
use super::needs::Needs;
use super::outcome::{Outcome, outcome};
use super::session::take;
use super::unit::{Passing, Unit, Writes};
use super::{Shared, lanes};

/// Jobs that one transaction is about; a larger call has one of its own.
const GROUP: usize = 512;
/// Transactions at the same time.
pub(super) const WRITERS: usize = 3;
/// How often a group is tried when others were in its way.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(10);

/// Hands calls to the writing tasks.
#[derive(Debug)]
pub(super) struct Writer {
    calls: mpsc::Sender<Box<dyn Call>>,
    room: Room,
    closing: CancellationToken,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Writer {
    pub(super) fn start(shared: &Arc<Shared>, tasks: &Tasks) -> Self {
        let (calls, inbox) = mpsc::channel(QUEUE);
        let inbox = Arc::new(tokio::sync::Mutex::new(inbox));
        let closing = CancellationToken::new();
        let start = |_| {
            let (shared, inbox) = (Arc::clone(shared), Arc::clone(&inbox));
            tasks.spawn("store-writer", write(shared, inbox, closing.clone()))
        };
        let tasks = Mutex::new((0..WRITERS).map(start).collect());
        Self { calls, room: Room::of(ROOM), closing, tasks }
    }

    /// Runs `run` over the rows that it needs in a transaction; answers when it is durable.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        needs: Needs,
        run: impl FnMut(&mut Unit<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let room = self.room.take(needs.bytes).ok_or(StoreError::Overloaded)?;
        let call = TypedCall { needs, _room: room, run: Box::new(run), result: None, reply };
        if self.closing.is_cancelled() {
            return Err(StoreError::Unavailable);
        }
        self.calls.try_send(Box::new(call)).map_err(|error| refusal(&error))?;
        answer.await.unwrap_or(Err(StoreError::Unavailable))
    }

    /// Works off what waits and ends.
    pub(super) async fn close(&self) {
        self.closing.cancel();
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            if task.await.is_err() {
                tracing::error!("a writer of the store ended with a panic");
            }
        }
    }
}

type Inbox = Arc<tokio::sync::Mutex<mpsc::Receiver<Box<dyn Call>>>>;

async fn write(shared: Arc<Shared>, inbox: Inbox, closing: CancellationToken) {
    while let Some(group) = next_group(&inbox, &closing).await {
        commit(&shared, group).await;
    }
}

/// All that waits, up to the limit; `None` when the store closes and nothing waits.
async fn next_group(inbox: &Inbox, closing: &CancellationToken) -> Option<Vec<Box<dyn Call>>> {
    let mut inbox = inbox.lock().await;
    // Cancel-safe: a call that was not received stays in the channel.
    let first = tokio::select! {
        biased;
        first = inbox.recv() => first?,
        () = closing.cancelled() => return None,
    };
    let weight = |call: &dyn Call| call.needs().weight();
    let mut total = weight(&*first);
    let mut group = vec![first];
    while total < GROUP
        && let Ok(next) = inbox.try_recv()
    {
        total += weight(&*next);
        group.push(next);
    }
    Some(group)
}

/// Runs a group of calls in one transaction and answers them.
async fn commit(shared: &Shared, mut group: Vec<Box<dyn Call>>) {
    let started = Instant::now();
    let calls = group.len();
    let mut needs = Needs::default();
    for call in &group {
        needs.merge(call.needs().clone());
    }
    let mut tries = 0;
    let error = loop {
        match attempt(shared, &mut group, &needs).await {
            Ok(()) => {
                metrics::committed(calls, started.elapsed());
                group.into_iter().for_each(Call::answer);
                return;
            }
            Err(Failed::Missing(more)) => needs.merge(*more),
            Err(Failed::Call(number)) => group.remove(number).answer(),
            Err(Failed::Conflict(error)) => {
                tries += 1;
                if tries == TRIES {
                    break error;
                }
                tokio::time::sleep(PAUSE * tries).await;
            }
            Err(Failed::All(error)) => break error,
        }
        if group.is_empty() {
            return;
        }
    };
    refuse_all(group, error);
}

/// Why a transaction came to nothing.
enum Failed {
    /// Rows were missing; again with these.
    Missing(Box<Needs>),
    /// This call found what must not be; again without it.
    Call(usize),
    /// Others were in the way; again.
    Conflict(StoreError),
    All(StoreError),
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Overloaded => Self::Conflict(error),
            error => Self::All(error),
        }
    }
}

async fn attempt(
    shared: &Shared,
    group: &mut [Box<dyn Call>],
    needs: &Needs,
) -> Result<(), Failed> {
    let db = take(&shared.pool).await?;
    lanes::intern(&db, &shared.ledger.lanes, &needs.lanes).await?;
    let (me, at, epochs) = (shared.me, shared.clock.set(), shared.leaders.epochs());
    let with = With { me, epochs: &epochs, at };
    let loaded = match load(&db, needs, &with).await {
        Ok(loaded) => loaded,
        Err(error) => {
            give_up(db).await;
            return Err(error.into());
        }
    };
    let Loaded { rows, now, xid } = loaded;
    let (policy, lanes) = (&shared.policy, &shared.ledger.lanes);
    let mut unit = Unit {
        now,
        policy,
        lanes,
        rows,
        writes: Writes::default(),
        changes: Vec::new(),
        deltas: Vec::new(),
        missing: Needs::default(),
        passing: if at.is_some() { Passing::Set } else { Passing::ByItself },
        touched: 0,
    };
    if let Err(error) = lanes::know(&db, &unit).await {
        give_up(db).await;
        return Err(error.into());
    }
    if let Err(failed) = run_all(group, &mut unit) {
        give_up(db).await;
        return Err(failed);
    }
    let author = Author { txn: *ids::event_id().as_uuid(), me };
    let batch = Batch::of(&mut unit, author);
    let Unit { changes, deltas, .. } = unit;
    if let Err(error) = batch.commit(&db).await {
        drop(Object::take(db));
        let told = (!changes.is_empty()).then_some(author.txn);
        find_out(shared, error, (xid, told)).await?;
    }
    shared.ledger.own(xid, &deltas);
    if !changes.is_empty() {
        (shared.listener)(&changes, Origin::Here);
        shared.told.notify_one();
    }
    Ok(())
}

/// What a failed commit means; `Ok` when it went through all the same.
async fn find_out(
    shared: &Shared,
    error: tokio_postgres::Error,
    (xid, told): (u64, Option<Uuid>),
) -> Result<(), Failed> {
    match kind(&error) {
        Kind::Away => {}
        Kind::Conflict => return Err(Failed::Conflict(StoreError::Overloaded)),
        Kind::Full | Kind::Other => return Err(Failed::All(database("writing")(error))),
    }
    match outcome(&shared.pool, xid, told).await {
        Outcome::Committed => Ok(()),
        Outcome::Undone => Err(Failed::All(StoreError::Unavailable)),
        Outcome::Unknown => {
            shared.recount.notify_one();
            Err(Failed::All(StoreError::InDoubt(error.into())))
        }
    }
}

/// Runs each call. One that refuses before it has changed anything refuses alone.
fn run_all(group: &mut [Box<dyn Call>], unit: &mut Unit<'_>) -> Result<(), Failed> {
    for (number, call) in group.iter_mut().enumerate() {
        let touched = unit.touched;
        if call.run(unit).is_ok() {
            continue;
        }
        // Those behind it run as well, so that all that is missing is known at once.
        if unit.missing.is_empty() && unit.touched != touched {
            return Err(Failed::Call(number));
        }
    }
    if unit.missing.is_empty() {
        return Ok(());
    }
    Err(Failed::Missing(Box::new(std::mem::take(&mut unit.missing))))
}

/// Ends a transaction that came to nothing; a connection that cannot do that is not used again.
pub(super) async fn give_up(db: Object) {
    if db.batch_execute("ROLLBACK").await.is_err() {
        drop(Object::take(db));
    }
}

fn refuse_all(group: Vec<Box<dyn Call>>, error: StoreError) {
    let mut error = Some(error);
    for call in group {
        let again = match error.as_ref() {
            Some(StoreError::Overloaded) => StoreError::Overloaded,
            Some(StoreError::DiskFull) => StoreError::DiskFull,
            Some(StoreError::InDoubt(cause)) => StoreError::InDoubt(cause.to_string().into()),
            Some(StoreError::Database { doing, source }) => {
                StoreError::Database { doing, source: source.to_string().into() }
            }
            Some(StoreError::Corrupt(what)) => StoreError::Corrupt(what.clone()),
            _ => StoreError::Unavailable,
        };
        call.refuse(error.take().map_or(again, |first| {
            error = None;
            first
        }));
    }
}
