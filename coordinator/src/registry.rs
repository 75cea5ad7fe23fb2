//! Who works for the fleet, as far as this coordinator has heard.
//!
//! In memory only: after a restart workers register again. With several coordinators each knows the
//! others' workers as well, a moment later (`peers`). Nothing here decides about a job;
//! leases do, and they are in the store.

mod residency;
mod table;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stoker_core::departure::Cause;
use stoker_core::fleet::Notice;
use stoker_core::ids::{Attempt, InstanceName, JobId, ModelName, PoolName, WorkerId};
use stoker_core::time::Timestamp;
use stoker_runtime::clock::Clock;
use tokio::sync::{Notify, mpsc};

use crate::store::{Lane, WorkerOrders};
pub use residency::{Place, Residency, Seat};
use table::Table;

/// Commands that wait for one worker's stream. Stops beyond it are left to heartbeats.
pub const COMMAND_BACKLOG: usize = 256;

/// Workers that are known at once, lost ones included.
pub const MAX_WORKERS: usize = 10_000;

/// How long a lost worker is still shown.
pub const FORGET_AFTER: Duration = Duration::from_mins(10);

/// What a worker says about itself when it registers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    pub id: WorkerId,
    pub pool: PoolName,
    pub models: Vec<ModelName>,
    /// Jobs it takes at once, for each of its models.
    pub slots: u32,
    pub version: String,
    pub host: String,
    pub pid: u32,
    pub device: String,
    pub metrics_address: String,
    /// The name that the cloud gave its machine; `None` if it runs on none.
    pub instance: Option<InstanceName>,
}

/// What a worker says about itself in a heartbeat.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    pub state: WorkerState,
    pub busy_slots: u32,
    /// Share of the time in which the engine computed, 0 to 1.
    pub utilization: f64,
    pub resident_models: Vec<ModelName>,
    /// Why it drains, or cordoned itself.
    pub drain_cause: Option<Cause>,
    /// What the cloud announced about its machine; times are of this coordinator's clock.
    pub notice: Option<Notice>,
    /// What it has in memory; `None`: it does not tell, and has all of its models while it is ready.
    pub residency: Option<Residency>,
    /// How long it needs for all that it holds; `None`: it does not tell.
    pub remaining: Option<Duration>,
}

/// Where a worker is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WorkerState {
    /// Engines are loading or restarting.
    Starting,
    Ready,
    /// Takes no new work.
    Cordoned,
    /// Finishes or gives back what it has, then exits.
    Draining,
    /// Its stream broke, or it was silent for a whole lease.
    Lost,
}

impl WorkerState {
    pub const ALL: [Self; 5] =
        [Self::Starting, Self::Ready, Self::Cordoned, Self::Draining, Self::Lost];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Cordoned => "cordoned",
            Self::Draining => "draining",
            Self::Lost => "lost",
        }
    }
}

/// One worker as operators see it.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerView {
    pub registration: Registration,
    /// What counts: commands given and silence weigh more than the worker's own word.
    pub state: WorkerState,
    pub busy_slots: u32,
    pub utilization: f64,
    pub resident_models: Vec<ModelName>,
    /// Why it drains, or cordoned itself.
    pub drain_cause: Option<Cause>,
    /// What the cloud announced about its machine.
    pub notice: Option<Notice>,
    /// What it has in memory, if it tells.
    pub residency: Option<Residency>,
    /// How long it needs for what it held when it said so, if it tells.
    pub remaining: Option<Duration>,
    /// Since when it says that it holds no job. Leases in the store weigh more than this.
    pub idle_since: Option<Timestamp>,
    pub registered_at: Timestamp,
    pub last_seen_at: Timestamp,
}

/// What goes down a worker's stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    StopAttempt {
        job: JobId,
        attempt: Attempt,
        reason: &'static str,
    },
    Cordon(Cordon),
    /// `None`: the worker's own grace period.
    Drain {
        within: Option<Duration>,
    },
    /// What waits, as far as it is the worker's to do.
    Needs(Vec<Need>),
}

/// What waits for one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    pub model: ModelName,
    pub jobs: u64,
    /// When the first of them has to start, in milliseconds from now.
    pub slack_ms: i64,
}

/// Whether a worker is given new work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cordon {
    Set,
    Lifted,
}

/// Tells the streams of one worker apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamId(u64);

/// The coordinator's end of a worker's stream. It ends when a newer stream takes its place.
#[derive(Debug)]
pub struct CommandStream {
    pub id: StreamId,
    pub commands: mpsc::Receiver<Command>,
}

/// Whether a worker that called is registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// Not registered, or without a stream: it has to register (again).
    Unknown,
    Known {
        /// It can take work that it could not take before.
        gained_capacity: bool,
    },
}

/// There are [`MAX_WORKERS`] already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_WORKERS} workers are registered, which is the limit of one coordinator")]
pub struct RegistryFull;

/// The workers of the fleet.
#[derive(Debug)]
pub struct Registry {
    table: Mutex<Table>,
    clock: Arc<dyn Clock>,
    changed: Notify,
}

impl Registry {
    /// A worker counts as lost after `lost_after` of silence.
    pub fn new(clock: Arc<dyn Clock>, lost_after: Duration) -> Arc<Self> {
        let table = Mutex::new(Table::new(lost_after, clock.now()));
        Arc::new(Self { table, clock, changed: Notify::new() })
    }

    /// Takes a worker in, or takes it back with a new stream. What an operator has commanded
    /// earlier waits in the new stream.
    pub fn register(&self, registration: Registration) -> Result<CommandStream, RegistryFull> {
        let now = self.clock.now();
        let registered = self.table().register(registration, now);
        self.changed.notify_one();
        registered
    }

    /// A stream ended. True when it was the worker's current one: then the worker is gone.
    pub fn stream_ended(&self, worker: WorkerId, stream: StreamId) -> bool {
        self.table().stream_ended(worker, stream)
    }

    /// A worker called; `report` is what it said about itself, if it did.
    pub fn heard(&self, worker: WorkerId, report: Option<Report>) -> Heard {
        let now = self.clock.now();
        let heard = self.table().heard(worker, report, now);
        if heard == (Heard::Known { gained_capacity: true }) {
            self.changed.notify_one();
        }
        heard
    }

    /// A worker was given the right to a job: it is idle no more, whatever it said last.
    pub fn granted(&self, worker: WorkerId) {
        self.table().granted(worker);
    }

    /// Slots of the workers that are ready for work of this queue: those that have its model in memory.
    pub fn slots(&self, lane: &Lane) -> u32 {
        let now = self.clock.now();
        self.table().slots(lane, now)
    }

    /// Workers of this queue whose engines are loading, or that load its model when that pays.
    pub fn starting(&self, lane: &Lane) -> usize {
        let now = self.clock.now();
        self.table().starting(lane, now)
    }

    /// Asks the worker to stop an attempt. If the worker is gone or too busy to listen, its next
    /// heartbeat tells it, or the lease ends.
    pub fn stop_attempt(
        &self,
        worker: WorkerId,
        job: JobId,
        attempt: Attempt,
        reason: &'static str,
    ) {
        self.table().try_command(worker, Command::StopAttempt { job, attempt, reason });
    }

    /// Workers with a stream here that have not the memory for all of their models.
    pub fn sharing(&self) -> Vec<WorkerId> {
        self.table().sharing()
    }

    /// Tells a worker what waits. One that is too busy to listen is told the next time.
    pub fn tell_needs(&self, worker: WorkerId, needs: Vec<Need>) {
        self.table().tell_needs(worker, needs);
    }

    /// Stops or resumes giving a worker new work; `None` when there is no such worker.
    pub fn cordon(&self, worker: WorkerId, cordon: Cordon) -> Option<WorkerView> {
        let now = self.clock.now();
        self.table().cordon(worker, cordon, now)
    }

    /// Asks a worker to finish and exit; `None` when there is no such worker.
    pub fn drain(&self, worker: WorkerId, within: Option<Duration>) -> Option<WorkerView> {
        let now = self.clock.now();
        self.table().drain(worker, within, now)
    }

    /// Tells a worker to leave its machine, which is being ended; once is enough.
    pub fn send_away(&self, worker: WorkerId) {
        self.table().send_away(worker);
    }

    /// Whether the worker was told to go: it is given nothing new.
    pub fn is_sent_away(&self, worker: WorkerId) -> bool {
        self.table().is_sent_away(worker)
    }

    /// Workers on these machines, those of other coordinators included.
    pub fn on_machines(&self, instances: &BTreeSet<InstanceName>) -> Vec<WorkerId> {
        let on_one = |view: &WorkerView| {
            view.registration.instance.as_ref().is_some_and(|name| instances.contains(name))
        };
        self.list().into_iter().filter(on_one).map(|view| view.registration.id).collect()
    }

    /// All workers, in the order of their ids, those of other coordinators included.
    pub fn list(&self) -> Vec<WorkerView> {
        let now = self.clock.now();
        self.table().list(now)
    }

    /// Since when workers are listened for without a break, here and through other coordinators. Shortly
    /// after it, a worker that is there may be missing in the list.
    pub fn complete_since(&self) -> Timestamp {
        let now = self.clock.now();
        self.table().complete_since(now)
    }

    /// Workers that have, or had last, their stream here.
    pub fn own(&self) -> Vec<WorkerView> {
        let now = self.clock.now();
        self.table().own(now)
    }

    /// Takes in the workers of other coordinators, in the place of those that were known; true when
    /// some of them can take work that could not before.
    pub fn learn(&self, others: Vec<WorkerView>) -> bool {
        let now = self.clock.now();
        self.table().learn(others, now)
    }

    /// Carries out what operators have ordered a worker through any coordinator.
    pub fn obey(&self, worker: WorkerId, orders: WorkerOrders) {
        self.table().obey(worker, orders);
    }

    /// Waits until a worker comes or goes. Cancel-safe.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // The table has no operation that can panic half way.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
