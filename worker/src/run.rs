//! A whole worker: everything started in order, and ended in the opposite one.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use stoker_broker::{Queue, Subscriber};
use stoker_core::departure::Cause;
use stoker_core::ids::WorkerId;
use stoker_proto::v1::RegisterRequest;
use stoker_runtime::clock::{Clock, SystemClock};
use stoker_runtime::metrics::MetricsHandle;
use stoker_runtime::net::bind;
use stoker_runtime::tasks::Tasks;
use stoker_runtime::{ids, metrics as exporter};
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::agent::{Agent, Event, ModelPlan, State, WorkerPlan};
use crate::attempt::Ticket;
use crate::blocking::blocking;
use crate::boot;
use crate::config::{Settings, folder_of_executable};
use crate::dead_man::shut_down;
use crate::engines::{self, Served};
use crate::error::WorkerError;
use crate::gpu::{self, Machine};
use crate::intake::{Claimable, Claims, Intake, run_claims};
use crate::interruption::{self, Announced, Cloud, Instance};
use crate::link::{Link, Session};
use crate::memory::{Budget, Meter, TooLarge};
use crate::metrics;
use crate::report::{Finish, Report, Reporter};
use crate::settle;
use crate::spool::Spool;
use crate::supervisor::Starter;

/// Events that may wait for the loop. Whoever has more waits.
const EVENTS: usize = 1_024;

/// How long the last reports may take after the work is done or given back.
const REPORT_LIMIT: Duration = Duration::from_secs(5);

/// How long the parts may take to end after that.
const END_LIMIT: Duration = Duration::from_secs(10);

/// Result bytes of one call until the coordinator has said its limit.
const FIRST_MAX_BYTES: usize = 3 << 20;

/// Runs a worker until something asks it to go: `shutdown`, an operator, the cloud, or its dead man's switch.
/// Then drains it, and does what the switch is for.
///
/// # Errors
/// When it cannot start, an operator has to act before it can go on, or the machine does not shut down.
pub async fn run(
    settings: Settings,
    metrics: MetricsHandle,
    shutdown: CancellationToken,
) -> Result<(), WorkerError> {
    // Parts end in a stated order after the drain, so they do not share the process's token.
    let tasks = Tasks::new(CancellationToken::new());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let imds = settings.machine.imds.as_ref();
    let name = settings.machine.instance.clone();
    let cloud = interruption::start(imds, name, Arc::clone(&clock), &tasks);
    let process = Process { metrics, shutdown, clock, cloud };
    let ended = match Worker::start(&settings, process, &tasks).await {
        Ok(Some(worker)) => worker.run(&tasks).await.map(Some),
        Ok(None) => Ok(None),
        Err(error) => Err(error),
    };
    if let Err(left) = tasks.close_and_wait(END_LIMIT).await {
        warn!(?left, "parts of the worker did not end in time");
    }
    match (ended?, &settings.machine.dead_man) {
        (Some(Cause::CutOff), Some(dead_man)) => shut_down(dead_man).await,
        _ => Ok(()),
    }
}

/// What the worker has from its process and its machine.
struct Process {
    metrics: MetricsHandle,
    shutdown: CancellationToken,
    clock: Arc<dyn Clock>,
    cloud: Cloud,
}

/// Waits until the machine is announced to be lost, which may be never.
async fn interrupted(mut announced: watch::Receiver<Announced>) {
    if announced.wait_for(Announced::is_interrupted).await.is_err() {
        pending::<()>().await;
    }
}

/// A worker that has been started.
struct Worker {
    agent: Agent,
    stop_intake: CancellationToken,
    finish: Finish,
    reporter: tokio::task::JoinHandle<()>,
    stop_engines: CancellationToken,
}

impl Worker {
    /// `None` when it was asked to go before it had its models.
    async fn start(
        settings: &Settings,
        process: Process,
        tasks: &Tasks,
    ) -> Result<Option<Self>, WorkerError> {
        let Process { metrics, shutdown, clock, cloud } = process;
        let spool = settings.spool.as_deref().map(Spool::open).transpose()?;
        let listener = bind(settings.metrics_listen).await?;
        let address = listener.local_addr().unwrap_or(settings.metrics_listen);
        let (readiness_tx, readiness) = watch::channel(Err("starting".to_owned()));
        exporter::serve(listener, metrics, move || readiness.borrow().clone(), tasks);
        info!(%address, "metrics are served");
        if let Some(took) = boot::took(settings.metrics_listen.port()) {
            metrics::booted(took);
            info!(boot_seconds = took.as_secs_f64(), "the worker began with its machine");
        }
        let machine = find_device(settings).await?;
        let getting =
            try_join_all(settings.models.iter().map(|m| engines::get(settings, &machine, m)));
        // A download that is dropped goes on where it was when it is asked for again.
        let served = tokio::select! {
            served = getting => served?,
            () = shutdown.cancelled() => return Ok(None),
            () = interrupted(cloud.announced.clone()) => return Ok(None),
        };
        let budget = Budget::of(settings.memory_budget, &machine);
        let served = admit(served, budget)?;
        let link = Link::new(&settings.coordinator, settings.join_token.as_ref());
        let fleet = &settings.fleet.name;
        let subscriber = crate::queue::subscriber(&settings.broker, fleet, link.calls())?;
        let start = Start {
            settings,
            worker: ids::worker_id(),
            link,
            tasks,
            events: mpsc::channel(EVENTS),
            device: machine.label(),
            memory_budget: budget.bytes(),
        };
        let meter = match machine {
            Machine::Cpu => Meter::Cpu,
            Machine::Gpu(gpu) => {
                let events = start.events.0.clone();
                let watched = gpu::watch(gpu.nvml, gpu.about, events, tasks.shutdown_token());
                let (watched, meter) = watched.map_err(WorkerError::Watch)?;
                tasks.spawn("gpu", watched);
                Meter::Gpu(meter)
            }
        };
        let shared = Shared {
            readiness: readiness_tx,
            shutdown,
            clock,
            cloud,
            meter,
            metrics_address: address,
        };
        Ok(Some(start.wire(served, &subscriber, spool, shared)))
    }

    async fn run(self, tasks: &Tasks) -> Result<Cause, WorkerError> {
        let Self { agent, stop_intake, finish, reporter, stop_engines } = self;
        let failed = tasks.shutdown_token();
        let ended = tokio::select! {
            ended = agent.run() => ended,
            () = failed.cancelled() => Err(WorkerError::Task(tasks.failure().unwrap_or_default())),
        };
        stop_intake.cancel();
        finish.begun.cancel();
        // It is bounded by its own limit; a panic in it has been logged.
        let _ = reporter.await;
        stop_engines.cancel();
        ended
    }
}

/// What the worker shares with its process.
struct Shared {
    readiness: watch::Sender<Result<(), String>>,
    shutdown: CancellationToken,
    clock: Arc<dyn Clock>,
    cloud: Cloud,
    meter: Meter,
    metrics_address: SocketAddr,
}

/// What the wiring needs.
struct Start<'a> {
    settings: &'a Settings,
    worker: WorkerId,
    link: Link,
    tasks: &'a Tasks,
    events: (mpsc::Sender<Event>, mpsc::Receiver<Event>),
    /// What the worker computes on, for people.
    device: String,
    /// Memory for all models together, in bytes.
    memory_budget: u64,
}

/// The ways between the parts, made before any of them.
struct Ways {
    reports: (mpsc::Sender<Report>, mpsc::Receiver<Report>),
    settle: (mpsc::Sender<Ticket>, mpsc::Receiver<Ticket>),
    claims: (mpsc::Sender<Claimable>, mpsc::Receiver<Claimable>),
    reporting: (watch::Sender<bool>, watch::Receiver<bool>),
    max_bytes: (watch::Sender<usize>, watch::Receiver<usize>),
}

impl Ways {
    fn new(slots: usize, models: usize) -> Self {
        // One for each job that can be held, so that handing over never waits.
        let jobs = slots * models;
        Self {
            reports: mpsc::channel(jobs),
            settle: mpsc::channel(jobs),
            claims: mpsc::channel(slots),
            reporting: watch::channel(true),
            max_bytes: watch::channel(FIRST_MAX_BYTES),
        }
    }
}

impl Start<'_> {
    fn wire(
        self,
        served: Vec<Served>,
        subscriber: &Arc<dyn Subscriber>,
        spool: Option<Spool>,
        shared: Shared,
    ) -> Worker {
        let ways = Ways::new(usize::from(self.settings.slots.get()), served.len());
        let stop_claiming = CancellationToken::new();
        let stop_intake = CancellationToken::new();
        let stop_engines = CancellationToken::new();
        let again = Arc::new(Notify::new());
        let finish = Finish { begun: CancellationToken::new(), limit: REPORT_LIMIT };

        let (settle_tx, settle_rx) = ways.settle;
        self.tasks.spawn("settle", settle::run(settle_rx));
        let claims = self.claims(&settle_tx, ways.reporting.1, &stop_claiming);
        self.tasks.spawn("claims", run_claims(claims, ways.claims.1));
        let gates = served
            .iter()
            .enumerate()
            .map(|model| self.intake(model, subscriber, &ways.claims.0, &stop_intake))
            .collect();
        let specs = served.iter().map(|served| served.engine.clone()).collect();
        let (events, tasks) = (self.events.0.clone(), self.tasks.clone());
        let engines = Starter::new(specs, events, shared.meter, tasks, stop_engines.clone());
        let reporter = Reporter {
            worker: self.worker,
            link: self.link.clone(),
            events: self.events.0.clone(),
            settle: settle_tx.clone(),
            reporting: ways.reporting.0,
            max_bytes: ways.max_bytes.1,
            spool,
        };
        let reporter = self.tasks.spawn("reporter", reporter.run(ways.reports.1, finish.clone()));
        let Cloud { announced, instance } = shared.cloud;
        self.session(&served, shared.metrics_address, instance, &again);
        let plans: Vec<ModelPlan> = served.into_iter().map(|served| served.plan).collect();
        let plan = self.plan(plans);
        let (events_tx, events) = self.events;
        let agent = Agent {
            state: State::new(self.worker, plan, shared.clock.now()),
            events,
            events_tx,
            clock: shared.clock,
            link: self.link,
            reports: ways.reports.0,
            settle: settle_tx,
            engines,
            gates,
            max_bytes: ways.max_bytes.0,
            again,
            readiness: shared.readiness,
            stop_claiming,
            shutdown: shared.shutdown,
            announced,
            tasks: self.tasks.clone(),
        };
        Worker { agent, stop_intake, finish, reporter, stop_engines }
    }

    fn plan(&self, models: Vec<ModelPlan>) -> WorkerPlan {
        let machine = &self.settings.machine;
        WorkerPlan {
            fleet: self.settings.fleet.name.clone(),
            models,
            memory_budget: self.memory_budget,
            grace: self.settings.grace,
            on_rebalance: machine.on_rebalance,
            dead_man: machine.dead_man.as_ref().map(|dead_man| dead_man.switch),
        }
    }

    /// Starts the intake of one model; gives its gate, which is closed.
    fn intake(
        &self,
        (index, served): (usize, &Served),
        subscriber: &Arc<dyn Subscriber>,
        claims: &mpsc::Sender<Claimable>,
        stop: &CancellationToken,
    ) -> watch::Sender<bool> {
        let (gate, gate_rx) = watch::channel(false);
        let slots = self.settings.slots.get();
        let (pool, model) = (self.settings.pool.clone(), served.plan.name.clone());
        let intake = Intake {
            index,
            queue: Queue { pool, model },
            prefetch: slots,
            slots: Arc::new(Semaphore::new(usize::from(slots))),
            subscriber: Arc::clone(subscriber),
            gate: gate_rx,
            claims: claims.clone(),
            events: self.events.0.clone(),
            stop: stop.clone(),
        };
        self.tasks.spawn("intake", intake.run());
        gate
    }

    fn claims(
        &self,
        settle: &mpsc::Sender<Ticket>,
        reporting: watch::Receiver<bool>,
        stop: &CancellationToken,
    ) -> Claims {
        Claims {
            worker: self.worker,
            link: self.link.clone(),
            events: self.events.0.clone(),
            settle: settle.clone(),
            reporting,
            stop: stop.clone(),
            tasks: self.tasks.clone(),
        }
    }

    fn session(
        &self,
        served: &[Served],
        metrics_address: SocketAddr,
        instance: watch::Receiver<Option<Instance>>,
        again: &Arc<Notify>,
    ) {
        let request = RegisterRequest {
            worker_id: self.worker.to_string(),
            pool: self.settings.pool.to_string(),
            models: served.iter().map(|served| served.plan.name.to_string()).collect(),
            slots: u32::from(self.settings.slots.get()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host: hostname(),
            pid: std::process::id(),
            device: self.device.clone(),
            metrics_address: metrics_address.to_string(),
            // Known by now, or later; each registration has what is known then.
            instance: String::new(),
            identity: None,
        };
        let (link, events) = (self.link.clone(), self.events.0.clone());
        let session = Session::new(link, request, instance, events, Arc::clone(again));
        // Ends with the group, after the last report.
        self.tasks.spawn("session", session.run(self.tasks.shutdown_token()));
    }
}

/// The models with what is expected of their need.
fn admit(mut served: Vec<Served>, budget: Budget) -> Result<Vec<Served>, TooLarge> {
    for Served { plan, engine: _ } in &mut served {
        plan.estimate.need_bytes = budget.admit(&plan.name, plan.estimate.need_bytes)?;
    }
    Ok(served)
}

/// The driver may take its time to answer.
async fn find_device(settings: &Settings) -> Result<Machine, WorkerError> {
    let (wanted, engine) = (settings.device.clone(), settings.engine.clone());
    let beside = folder_of_executable();
    let find = move || gpu::find(&wanted, engine.as_deref(), &beside);
    Ok(blocking(find).await?)
}

fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}
