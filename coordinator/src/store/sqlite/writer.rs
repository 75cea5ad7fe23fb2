//! The one thread that writes, and the commits that calls share.
//!
//! Calls that wait at the same time run in one transaction, each behind a savepoint of its own, so
//! that one that fails takes nothing with it. They are answered after the commit is synced. The
//! thread never waits for more calls to come: a lone call is committed at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rusqlite::Connection;
use stoker_core::policy::JobPolicy;
use stoker_core::time::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::metrics;
use crate::room::Room;
use crate::store::lanes::{Delta, SharedLanes};
use crate::store::room::{QUEUE, ROOM, refusal};
use crate::store::{Change, Origin, StoreError};

use super::SqliteOptions;
use super::schema;

/// Calls in one commit.
const GROUP: usize = 512;

/// What a call works with: the open transaction and what it will have changed.
pub(super) struct Write<'a> {
    pub(super) db: &'a Connection,
    pub(super) lanes: &'a SharedLanes,
    pub(super) policy: &'a JobPolicy,
    pub(super) now: Timestamp,
    changes: Vec<Change>,
    deltas: Vec<Delta>,
}

impl Write<'_> {
    /// Notes a change, to be told of once it is durable.
    pub(super) fn note(&mut self, change: Change, delta: Delta) {
        self.changes.push(change);
        self.deltas.push(delta);
    }

    /// Notes that a job is gone.
    pub(super) fn removed(&mut self, delta: Delta) {
        self.deltas.push(delta);
    }
}

type Run<T> = Box<dyn FnOnce(&mut Write<'_>) -> Result<T, StoreError> + Send>;

/// A call of any result type, in the three steps of its life.
trait Call: Send {
    /// Runs within the transaction; false when it failed.
    fn run(&mut self, write: &mut Write<'_>) -> bool;
    /// Answers with what [`Call::run`] brought.
    fn answer(self: Box<Self>);
    /// Answers that it came to nothing.
    fn refuse(self: Box<Self>, error: StoreError);
}

struct TypedCall<T> {
    /// Room that the call's data take until it is answered.
    _room: OwnedSemaphorePermit,
    run: Option<Run<T>>,
    result: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T: Send> Call for TypedCall<T> {
    fn run(&mut self, write: &mut Write<'_>) -> bool {
        let result = self.run.take().map(|run| run(write));
        let succeeded = matches!(result, Some(Ok(_)));
        self.result = result;
        succeeded
    }

    fn answer(self: Box<Self>) {
        if let Some(result) = self.result {
            // The caller may have gone; what is committed stays.
            let _ = self.reply.send(result);
        }
    }

    fn refuse(self: Box<Self>, error: StoreError) {
        let _ = self.reply.send(Err(error));
    }
}

/// Hands calls to the writing thread.
#[derive(Debug)]
pub(super) struct Writer {
    calls: mpsc::Sender<Message>,
    room: Room,
    free_bytes: Arc<AtomicU64>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

enum Message {
    Call(Box<dyn Call>),
    Close,
}

impl Writer {
    pub(super) fn start(
        connection: Connection,
        lanes: SharedLanes,
        options: SqliteOptions,
    ) -> Result<Self, StoreError> {
        let (calls, inbox) = mpsc::channel(QUEUE);
        let free_bytes = Arc::new(AtomicU64::new(0));
        let writing =
            WriterThread { connection, free_bytes: Arc::clone(&free_bytes), lanes, options };
        writing.note_free_pages();
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writing.run(inbox))
            .map_err(|error| StoreError::Open(format!("cannot start the writer: {error}")))?;
        Ok(Self { calls, room: Room::of(ROOM), free_bytes, thread: Mutex::new(Some(thread)) })
    }

    /// Runs `run` in a transaction; answers when it is durable.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        run: impl FnOnce(&mut Write<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.call_with(0, run).await
    }

    /// As [`Writer::call`], for a call that holds `bytes` of data while it waits.
    pub(super) async fn call_with<T: Send + 'static>(
        &self,
        bytes: usize,
        run: impl FnOnce(&mut Write<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let room = self.room.take(bytes).ok_or(StoreError::Overloaded)?;
        let (reply, answer) = oneshot::channel();
        let call = TypedCall { _room: room, run: Some(Box::new(run)), result: None, reply };
        self.calls.try_send(Message::Call(Box::new(call))).map_err(|error| refusal(&error))?;
        answer.await.unwrap_or(Err(StoreError::Unavailable))
    }

    /// Bytes within the file that new rows can take.
    pub(super) fn free_bytes(&self) -> u64 {
        self.free_bytes.load(Ordering::Relaxed)
    }

    pub(super) async fn ended(&self) {
        self.calls.closed().await;
    }

    pub(super) async fn close(&self) {
        // A full queue is worked off first; a closed one has nothing left to close.
        let _ = self.calls.send(Message::Close).await;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let joined = tokio::task::spawn_blocking(move || thread.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!("the store's writer ended with a panic");
            }
        }
    }
}

struct WriterThread {
    connection: Connection,
    free_bytes: Arc<AtomicU64>,
    lanes: SharedLanes,
    options: SqliteOptions,
}

impl WriterThread {
    fn run(self, mut inbox: mpsc::Receiver<Message>) {
        let mut open = true;
        while open {
            let Some(first) = inbox.blocking_recv() else { break };
            let mut group = Vec::new();
            let mut next = Some(first);
            while let Some(message) = next {
                match message {
                    Message::Call(call) => group.push(call),
                    Message::Close => open = false,
                }
                next = if open && group.len() < GROUP { inbox.try_recv().ok() } else { None };
            }
            if !group.is_empty() && !self.commit(group) {
                break;
            }
        }
        // Bring the log back into the file, so that a copy of the file alone is whole.
        if let Err(error) = self.connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)") {
            tracing::warn!(%error, "the store's log stays beside it until the next start");
        }
        inbox.close();
        while let Ok(message) = inbox.try_recv() {
            if let Message::Call(call) = message {
                call.refuse(StoreError::Unavailable);
            }
        }
    }

    /// Runs and commits a group; false when the store must not be used any more.
    fn commit(&self, group: Vec<Box<dyn Call>>) -> bool {
        let db = &self.connection;
        let started = std::time::Instant::now();
        let lanes = self.lanes.len();
        if let Err(error) = db.execute_batch("BEGIN IMMEDIATE") {
            refuse_all(group, || StoreError::database("beginning a transaction")(copy(&error)));
            return true;
        }
        let mut write = Write {
            db,
            lanes: &self.lanes,
            policy: &self.options.policy,
            now: self.options.clock.now(),
            changes: Vec::new(),
            deltas: Vec::new(),
        };
        let calls = group.len();
        let mut done = Vec::with_capacity(calls);
        let mut rest = group.into_iter();
        while let Some(call) = rest.next() {
            done.extend(run_one(&mut write, call));
            if db.is_autocommit() {
                // The whole transaction was rolled back, which SQLite does when the disk is full.
                let lost = done.into_iter().chain(rest).collect();
                refuse_all(lost, || StoreError::DiskFull);
                self.lanes.forget_from(lanes);
                return true;
            }
        }
        let (changes, deltas) = (write.changes, write.deltas);
        match db.execute_batch("COMMIT") {
            Ok(()) => {
                metrics::committed(calls, started.elapsed());
                self.note_free_pages();
                self.lanes.apply(&deltas);
                (self.options.listener)(&changes, Origin::Here);
                done.into_iter().for_each(Call::answer);
                true
            }
            Err(error) => {
                self.lanes.forget_from(lanes);
                self.commit_failed(&error, done)
            }
        }
    }

    /// Pages of removed rows stay in the file, and new rows take them.
    fn note_free_pages(&self) {
        let pages = self.connection.pragma_query_value(None, "freelist_count", |row| row.get(0));
        let pages: u64 = pages.unwrap_or(0);
        self.free_bytes.store(pages * u64::from(schema::PAGE_BYTES), Ordering::Relaxed);
    }

    fn commit_failed(&self, error: &rusqlite::Error, calls: Vec<Box<dyn Call>>) -> bool {
        let full = error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull);
        let rolled_back =
            self.connection.is_autocommit() || self.connection.execute_batch("ROLLBACK").is_ok();
        if full && rolled_back {
            refuse_all(calls, || StoreError::DiskFull);
            return true;
        }
        // After a failed sync nobody knows what is on the disk: only a restart reads the truth.
        tracing::error!(%error, "a commit failed and its outcome is not known; the store closes");
        refuse_all(calls, || StoreError::InDoubt(copy(error).into()));
        false
    }
}

/// Runs a call behind a savepoint. One that failed is answered at once and undone.
fn run_one(write: &mut Write<'_>, mut call: Box<dyn Call>) -> Option<Box<dyn Call>> {
    let (changes, deltas) = (write.changes.len(), write.deltas.len());
    let lanes = write.lanes.len();
    if write.db.execute_batch("SAVEPOINT call").is_err() {
        call.refuse(StoreError::Unavailable);
        return None;
    }
    if call.run(write) {
        if write.db.execute_batch("RELEASE call").is_ok() {
            return Some(call);
        }
        call.refuse(StoreError::Unavailable);
        return None;
    }
    write.changes.truncate(changes);
    write.deltas.truncate(deltas);
    let undo = "ROLLBACK TO call; RELEASE call";
    if !write.db.is_autocommit() && write.db.execute_batch(undo).is_err() {
        // What cannot be undone alone is undone with the whole group; the caller sees that.
        let _ = write.db.execute_batch("ROLLBACK");
    }
    write.lanes.forget_from(lanes);
    call.answer();
    None
}

fn refuse_all(calls: Vec<Box<dyn Call>>, mut error: impl FnMut() -> StoreError) {
    for call in calls {
        call.refuse(error());
    }
}

/// `SQLite`'s errors cannot be cloned; several callers need the same one.
fn copy(error: &rusqlite::Error) -> rusqlite::Error {
    let code = error.sqlite_error().map_or(rusqlite::ffi::SQLITE_ERROR, |e| e.extended_code);
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), Some(error.to_string()))
}
