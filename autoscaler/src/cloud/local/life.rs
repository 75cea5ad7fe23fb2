//! The life of one local machine: boot, work, notice, end.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use rand::RngExt as _;
use stoker_core::fleet::{CapacityType, Interruptions};
use stoker_core::ids::InstanceName;
use stoker_runtime::child::{self, ChildPlan, Ended, Output, Running, Signal};
use stoker_runtime::secret::Secret;
use tokio::fs::File;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{info, warn};

use super::Shared;
use super::imds::Imds;
use super::process::ProcessId;
use crate::cloud::machine::Machine;

pub(super) const LOGS: &str = "logs";
pub(super) const SPOOLS: &str = "spools";

/// A killed process is gone at once; if not, it is killed again.
const KILL_AGAIN: Duration = Duration::from_secs(5);
/// Between looks at a process that is not our child.
const LOOK: Duration = Duration::from_millis(200);

/// What a machine can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Terminate,
    /// The cloud takes it back, after a notice or without.
    Interrupt {
        notice: Option<Duration>,
    },
}

/// A machine with a worker.
struct Up {
    imds: Imds,
    running: Running,
    ended: oneshot::Receiver<Ended>,
    kill_at: Option<Instant>,
}

/// Lives from launch to end.
pub(super) async fn live(shared: Arc<Shared>, machine: Machine, mut orders: mpsc::Receiver<Order>) {
    let name = machine.name.clone();
    let stop = shared.tasks.shutdown_token();
    let booted = tokio::select! {
        () = sleep(shared.config.settings.boot) => true,
        // Whatever it is, there is nothing to hand over yet.
        order = orders.recv() => {
            if let Some(order) = order {
                note(order, &machine, &shared).await;
            }
            false
        }
        () = stop.cancelled() => false,
    };
    if booted {
        match begin(&shared, &machine).await {
            Ok(up) => work(&shared, &machine, up, orders).await,
            Err(error) => warn!(%error, %name, "cannot start the worker of a local machine"),
        }
    }
    end(&shared, name).await;
}

/// Waits for a worker of an earlier provider to go, and kills it when its time is up.
pub(super) async fn outlive(shared: Arc<Shared>, name: InstanceName, process: ProcessId) {
    let deadline = Instant::now() + shared.config.grace;
    while process.lives() {
        if Instant::now() >= deadline {
            process.kill();
        }
        sleep(LOOK).await;
    }
    end(&shared, name).await;
}

async fn begin(shared: &Arc<Shared>, machine: &Machine) -> std::io::Result<Up> {
    let imds = Imds::start(machine.clone(), &shared.tasks).await?;
    let plan = plan(shared, machine, &imds);
    let (report, ended) = oneshot::channel();
    let log = shared.config.folder.join(LOGS).join(format!("{}.log", machine.name));
    let copy = move |output| append(log.clone(), output);
    let reported = |ended| async move {
        // Nobody waits any more if the machine's task is gone.
        let _ = report.send(ended);
    };
    let running = child::start(&plan, &shared.tasks, copy, reported)?;
    let (name, process) = (machine.name.clone(), ProcessId::of(running.pid));
    let noted = shared.book.with(move |pages| pages.started(&name, process)).await;
    if let Err(error) = noted {
        warn!(%error, "cannot note the start of a local machine");
    }
    Ok(Up { imds, running, ended, kill_at: None })
}

/// The worker's settings, besides those of all workers.
fn plan(shared: &Shared, machine: &Machine, imds: &Imds) -> ChildPlan {
    let mut plan = shared.config.worker.clone();
    let spool = shared.config.folder.join(SPOOLS).join(machine.name.as_str());
    plan.environment.push(("STOKER_INSTANCE", Secret::new(machine.name.as_str())));
    plan.environment.push(("STOKER_IMDS", Secret::new(imds.url())));
    plan.environment.push(("STOKER_SPOOL", Secret::new(spool.display().to_string())));
    if let Some(pool) = machine.pool() {
        plan.environment.push(("STOKER_POOL", Secret::new(pool.as_str())));
    }
    plan
}

async fn append(log: PathBuf, mut output: Output) {
    let copied = match File::options().create(true).append(true).open(&log).await {
        Ok(mut file) => tokio::io::copy(&mut output, &mut file).await,
        Err(error) => Err(error),
    };
    if let Err(error) = copied {
        warn!(%error, log = %log.display(), "cannot write a worker's log");
    }
}

/// Until the worker has ended.
async fn work(
    shared: &Arc<Shared>,
    machine: &Machine,
    mut up: Up,
    mut orders: mpsc::Receiver<Order>,
) {
    let stop = shared.tasks.shutdown_token();
    let (mut stopping, mut fate) = (false, fate(shared, machine));
    loop {
        let fated = fate.map(|(at, _)| at);
        tokio::select! {
            ended = &mut up.ended => {
                if let Ok(Ended { ending, .. }) = ended {
                    info!(name = %machine.name, %ending, "the worker of a local machine ended");
                }
                return;
            }
            Some(order) = orders.recv() => {
                note(order, machine, shared).await;
                up.obey(order, shared);
            }
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                up.obey(Order::Terminate, shared);
            }
            () = at(up.kill_at) => up.kill(),
            () = at(fated) => {
                let notice = fate.take().and_then(|(_, notice)| notice);
                info!(name = %machine.name, ?notice, "a local machine is taken back");
                let order = Order::Interrupt { notice };
                note(order, machine, shared).await;
                up.obey(order, shared);
            }
        }
    }
}

/// That a machine is taken back has to be known when it is gone.
async fn note(order: Order, machine: &Machine, shared: &Shared) {
    let Order::Interrupt { .. } = order else { return };
    let name = machine.name.clone();
    if let Err(error) = shared.book.with(move |pages| pages.taken_back(&name)).await {
        warn!(%error, "cannot note that a local machine is taken back");
    }
}

impl Up {
    fn obey(&mut self, order: Order, shared: &Shared) {
        match order {
            Order::Terminate => {
                self.running.send(Signal::Terminate);
                self.kill_within(shared.config.grace);
            }
            Order::Interrupt { notice: Some(notice) } => {
                self.imds.announce(shared.clock.now().after(notice));
                self.kill_within(notice);
            }
            Order::Interrupt { notice: None } => self.kill(),
        }
    }

    /// An earlier end stays.
    fn kill_within(&mut self, time: Duration) {
        let at = Instant::now() + time;
        self.kill_at = Some(self.kill_at.map_or(at, |earlier| earlier.min(at)));
    }

    fn kill(&mut self) {
        self.running.send(Signal::Kill);
        self.kill_at = Some(Instant::now() + KILL_AGAIN);
    }
}

/// When a spot machine is taken back, and after which notice.
fn fate(shared: &Shared, machine: &Machine) -> Option<(Instant, Option<Duration>)> {
    let Interruptions { every, notice, silent } = shared.config.settings.interruptions?;
    if machine.capacity != CapacityType::Spot {
        return None;
    }
    let mut chance = shared.chance.lock().unwrap_or_else(PoisonError::into_inner);
    let (life, dice): (f64, f64) = (chance.random(), chance.random());
    // Exponential: what has lived for long is no more likely to be taken.
    let left = every.mul_f64(-(1.0 - life).ln());
    Some((Instant::now() + left, (dice >= silent).then_some(notice)))
}

async fn end(shared: &Arc<Shared>, name: InstanceName) {
    shared.orders().remove(&name);
    let now = shared.clock.now();
    if let Err(error) = shared.book.with(move |pages| pages.ended(&name, now)).await {
        warn!(%error, "cannot note the end of a local machine");
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
