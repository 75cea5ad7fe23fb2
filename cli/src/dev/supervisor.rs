//! Keeps the processes of a local fleet running, and takes them down in order.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use stoker_runtime::tasks::Tasks;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::child::{self, Ended, Report, Running, Signal};
use super::logs::{Log, LogTarget};
use super::plan::{ChildPlan, Plan};
use super::restart::{Decision, Ending, History};
use crate::failure::Failure;
use crate::render::time::span;

/// How long workers may finish or hand back what they run.
/// Longer than a worker's own grace period, which ends it in better order.
const DRAIN_LIMIT: Duration = Duration::from_secs(40);
/// Without a coordinator there is nobody to hand anything back to.
const ORPHAN_LIMIT: Duration = Duration::from_secs(3);
const COORDINATOR_LIMIT: Duration = Duration::from_secs(10);
/// A killed process is gone at once; the kernel may need a moment.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// Messages under way between the fleet and whoever started it.
const CHANNEL: usize = 64;

const COORDINATOR: usize = 0;

/// Something that happened to a process, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notice {
    Started { name: String, pid: u32, again: bool },
    Ended { name: String, pid: u32, ending: Ending, next: Decision },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { name, pid, again } => {
                write!(f, "{name} {} (pid {pid})", if *again { "is back" } else { "started" })
            }
            Self::Ended { name, pid, ending, next } => {
                write!(f, "{name} (pid {pid}) {ending}")?;
                match next {
                    Decision::StartAfter(delay) => {
                        write!(f, "; starting it again in {}", span(*delay))
                    }
                    Decision::GiveUp => f.write_str("; taking the fleet down"),
                    Decision::LeaveBe => Ok(()),
                }
            }
        }
    }
}

enum Order {
    Kill(u32),
    Stop,
    /// Stop without waiting for anything.
    Abort,
}

/// A running fleet. Dropping it takes everything down at once.
#[derive(Debug)]
pub(crate) struct LocalFleet {
    orders: mpsc::Sender<Order>,
    notices: mpsc::Receiver<Notice>,
    pids: watch::Receiver<BTreeMap<String, u32>>,
    supervisor: JoinHandle<Result<(), Failure>>,
    outcome: Option<Result<(), Failure>>,
}

impl LocalFleet {
    /// Starts the coordinator and all workers. They are not ready yet.
    pub(crate) fn start(plan: &Plan, logs: &LogTarget, tasks: &Tasks) -> Result<Self, Failure> {
        let (orders, receiver) = mpsc::channel(CHANNEL);
        let (notice_sender, notices) = mpsc::channel(CHANNEL);
        let (pids_sender, pids) = watch::channel(BTreeMap::new());
        let mut supervisor = Supervisor::new(plan, logs, tasks, notice_sender, pids_sender)?;
        for index in 0..supervisor.children.len() {
            supervisor.start(index)?;
        }
        let supervisor = tasks.spawn("local fleet", supervisor.run(receiver));
        Ok(Self { orders, notices, pids, supervisor, outcome: None })
    }

    /// The next thing that happened; `None` when the fleet is down.
    pub(crate) async fn notice(&mut self) -> Option<Notice> {
        self.notices.recv().await
    }

    /// The workers' process ids by name.
    pub(crate) fn worker_pids(&self) -> BTreeMap<String, u32> {
        self.pids.borrow().clone()
    }

    /// Sends SIGKILL to a process of the fleet.
    pub(crate) async fn kill(&self, pid: u32) {
        // A fleet that is down has nobody to kill.
        let _ = self.orders.send(Order::Kill(pid)).await;
    }

    /// Asks workers, then the coordinator, to end in order.
    pub(crate) async fn stop(&self) {
        let _ = self.orders.send(Order::Stop).await;
    }

    /// Kills everything.
    pub(crate) async fn abort(&self) {
        let _ = self.orders.send(Order::Abort).await;
    }

    /// Waits until every process is gone; the error says what took the fleet down unasked.
    pub(crate) async fn ended(&mut self) -> Result<(), Failure> {
        if self.outcome.is_none() {
            let outcome = (&mut self.supervisor).await.unwrap_or_else(|error| {
                Err(Failure::failed(format!("the fleet's supervisor ended: {error}")))
            });
            self.outcome = Some(outcome);
        }
        self.outcome.clone().unwrap_or(Ok(()))
    }

    /// Why a fleet that should run is down.
    pub(crate) async fn why_down(&mut self) -> Failure {
        self.ended().await.err().unwrap_or_else(|| Failure::failed("the fleet was stopped"))
    }

    /// Whether [`LocalFleet::ended`] has said that every process is gone.
    pub(crate) const fn is_down(&self) -> bool {
        self.outcome.is_some()
    }
}

#[derive(Debug)]
struct Supervised {
    plan: ChildPlan,
    log: Log,
    running: Option<Running>,
    history: History,
    starts: u32,
    start_at: Option<Instant>,
}

#[derive(Debug)]
struct Supervisor {
    /// The coordinator, then the workers.
    children: Vec<Supervised>,
    tasks: Tasks,
    ended_sender: mpsc::Sender<Ended>,
    ended: mpsc::Receiver<Ended>,
    notices: mpsc::Sender<Notice>,
    pids: watch::Sender<BTreeMap<String, u32>>,
}

impl Supervisor {
    fn new(
        plan: &Plan,
        logs: &LogTarget,
        tasks: &Tasks,
        notices: mpsc::Sender<Notice>,
        pids: watch::Sender<BTreeMap<String, u32>>,
    ) -> Result<Self, Failure> {
        let (ended_sender, ended) = mpsc::channel(CHANNEL);
        let plans = std::iter::once(plan.coordinator()).chain(plan.worker_plans());
        let children = plans
            .enumerate()
            .map(|(index, plan)| {
                let log = Log::open(logs, &plan.name, index).map_err(|error| {
                    Failure::failed(format!("cannot write the log of {}: {error}", plan.name))
                })?;
                Ok(Supervised {
                    plan,
                    log,
                    running: None,
                    history: History::default(),
                    starts: 0,
                    start_at: None,
                })
            })
            .collect::<Result<_, Failure>>()?;
        Ok(Self { children, tasks: tasks.clone(), ended_sender, ended, notices, pids })
    }

    fn start(&mut self, index: usize) -> Result<(), Failure> {
        let child = &mut self.children[index];
        let report = Report { index, ended: self.ended_sender.clone() };
        let running =
            child::start(&child.plan, &child.log, &self.tasks, report).map_err(|error| {
                Failure::failed(format!("cannot start {}: {error}", child.plan.program.display()))
            })?;
        child.starts += 1;
        child.start_at = None;
        let notice = Notice::Started {
            name: child.plan.name.clone(),
            pid: running.pid,
            again: child.starts > 1,
        };
        child.running = Some(running);
        self.tell(notice);
        self.publish_pids();
        Ok(())
    }

    async fn run(mut self, mut orders: mpsc::Receiver<Order>) -> Result<(), Failure> {
        loop {
            let next_start = self.children.iter().filter_map(|child| child.start_at).min();
            // The channel never closes: this side holds a sender, too.
            tokio::select! {
                Some(ended) = self.ended.recv() => {
                    if let Err(failure) = self.child_ended(&ended) {
                        self.take_down(&mut orders).await;
                        return Err(failure);
                    }
                }
                () = sleep_until(next_start) => {
                    if let Err(failure) = self.start_due() {
                        self.take_down(&mut orders).await;
                        return Err(failure);
                    }
                }
                order = orders.recv() => match order {
                    Some(Order::Kill(pid)) => self.kill(pid),
                    Some(Order::Stop) => {
                        self.take_down(&mut orders).await;
                        return Ok(());
                    }
                    Some(Order::Abort) | None => {
                        self.kill_all().await;
                        return Ok(());
                    }
                },
            }
        }
    }

    fn child_ended(&mut self, ended: &Ended) -> Result<(), Failure> {
        let child = &mut self.children[ended.index];
        let pid = child.running.take().map_or(0, |running| running.pid);
        let name = child.plan.name.clone();
        let next = if ended.index == COORDINATOR {
            Decision::GiveUp
        } else {
            child.history.ended(ended.ending, ended.lived)
        };
        let failure = match next {
            Decision::StartAfter(delay) => {
                child.start_at = Some(Instant::now() + delay);
                None
            }
            Decision::LeaveBe => None,
            Decision::GiveUp => Some(unasked(child, ended.ending)),
        };
        self.publish_pids();
        self.tell(Notice::Ended { name, pid, ending: ended.ending, next });
        failure.map_or(Ok(()), Err)
    }

    fn start_due(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        for index in 0..self.children.len() {
            if self.children[index].start_at.is_some_and(|at| at <= now) {
                self.start(index)?;
            }
        }
        Ok(())
    }

    fn kill(&self, pid: u32) {
        let running = self.children.iter().filter_map(|child| child.running.as_ref());
        for child in running.filter(|running| running.pid == pid) {
            child.send(Signal::Kill);
        }
    }

    /// Workers first: they hand back what they run to a coordinator that is still there.
    async fn take_down(&mut self, orders: &mut mpsc::Receiver<Order>) {
        for child in &mut self.children {
            child.start_at = None;
        }
        let orphaned = self.children[COORDINATOR].running.is_none();
        let limit = if orphaned { ORPHAN_LIMIT } else { DRAIN_LIMIT };
        self.signal(Signal::Terminate, |index| index != COORDINATOR);
        self.gone(|index| index != COORDINATOR, limit, orders).await;
        self.signal(Signal::Terminate, |index| index == COORDINATOR);
        self.gone(|index| index == COORDINATOR, COORDINATOR_LIMIT, orders).await;
    }

    /// Waits for the processes that `which` names; kills them when the time is up.
    async fn gone(
        &mut self,
        which: impl Fn(usize) -> bool + Copy,
        limit: Duration,
        orders: &mut mpsc::Receiver<Order>,
    ) {
        let deadline = Instant::now() + limit;
        while self.any(which) {
            let killed = tokio::select! {
                Some(ended) = self.ended.recv() => { self.forget(&ended); false }
                () = tokio::time::sleep_until(deadline) => true,
                order = orders.recv() => matches!(order, Some(Order::Abort) | None),
            };
            if killed {
                self.kill_all().await;
            }
        }
    }

    async fn kill_all(&mut self) {
        self.signal(Signal::Kill, |_| true);
        let deadline = Instant::now() + KILL_LIMIT;
        while self.any(|_| true) {
            tokio::select! {
                Some(ended) = self.ended.recv() => self.forget(&ended),
                () = tokio::time::sleep_until(deadline) => {
                    for child in &mut self.children {
                        child.running = None;
                    }
                }
            }
        }
    }

    fn signal(&self, signal: Signal, which: impl Fn(usize) -> bool) {
        for (index, child) in self.children.iter().enumerate() {
            if let Some(running) = child.running.as_ref().filter(|_| which(index)) {
                running.send(signal);
            }
        }
    }

    fn any(&self, which: impl Fn(usize) -> bool) -> bool {
        self.children
            .iter()
            .enumerate()
            .any(|(index, child)| which(index) && child.running.is_some())
    }

    fn forget(&mut self, ended: &Ended) {
        self.children[ended.index].running = None;
        self.publish_pids();
    }

    fn publish_pids(&self) {
        let workers = self.children.iter().skip(1);
        let pids = workers
            .filter_map(|child| Some((child.plan.name.clone(), child.running.as_ref()?.pid)));
        self.pids.send_replace(pids.collect());
    }

    fn tell(&self, notice: Notice) {
        // Nobody has to listen; what does not fit is not worth waiting for.
        let _ = self.notices.try_send(notice);
    }
}

async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

fn unasked(child: &Supervised, ending: Ending) -> Failure {
    let tail = child.log.tail();
    let failure = Failure::failed(format!("{} {ending}", child.plan.name));
    if tail.is_empty() {
        return failure;
    }
    failure
        .hint("the last lines of its log:")
        .hints(tail.into_iter().map(|line| format!("  {line}")))
}
