//! Keeps the processes of a local fleet running, and takes them down in order.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use stoker_runtime::child::{Ending, Running, Signal};
use stoker_runtime::tasks::Tasks;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::child::{self, Ended, Report};
use super::logs::{Log, LogTarget};
use super::notice::Notice;
use super::plan::{NamedPlan, Plan};
use super::restart::{Decision, History};
use crate::failure::Failure;

/// Longer than a worker takes at worst: its grace period, then the ends of its engines and of its
/// last reports. It ends itself in better order.
const DRAIN_LIMIT: Duration = Duration::from_mins(1);
/// Without a coordinator there is nobody to hand anything back to.
const ORPHAN_LIMIT: Duration = Duration::from_secs(3);
const COORDINATOR_LIMIT: Duration = Duration::from_secs(10);
/// A killed process is gone at once; the kernel may need a moment.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// Endings that may be reported before the first is read.
const CHANNEL: usize = 64;

/// How often the coordinator's port is tried while it starts.
const LISTEN_INTERVAL: Duration = Duration::from_millis(50);

const COORDINATOR: usize = 0;

/// What a supervisor can be told.
#[derive(Debug, Clone, Copy)]
pub(super) enum Order {
    Kill(u32),
    Stop,
    /// Stop without waiting for anything.
    Abort,
}

/// Where a supervisor tells what happens.
#[derive(Debug)]
pub(super) struct Outlets {
    pub(super) notices: mpsc::Sender<Notice>,
    /// Ids of the workers' processes by name.
    pub(super) pids: watch::Sender<BTreeMap<String, u32>>,
}

#[derive(Debug)]
struct Supervised {
    plan: NamedPlan,
    log: Log,
    running: Option<Running>,
    history: History,
    starts: u32,
    start_at: Option<Instant>,
}

/// The processes of a fleet, and what is known of them.
#[derive(Debug)]
pub(super) struct Supervisor {
    /// The coordinator, then the workers.
    children: Vec<Supervised>,
    tasks: Tasks,
    ended_sender: mpsc::Sender<Ended>,
    ended: mpsc::Receiver<Ended>,
    outlets: Outlets,
    /// Where the coordinator listens.
    listen: SocketAddr,
}

impl Supervisor {
    /// Starts the coordinator.
    pub(super) fn start(
        plan: &Plan,
        logs: &LogTarget,
        tasks: &Tasks,
        outlets: Outlets,
    ) -> Result<Self, Failure> {
        let (ended_sender, ended) = mpsc::channel(CHANNEL);
        let plans = std::iter::once(plan.coordinator()).chain(plan.staff_plans());
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
        let tasks = tasks.clone();
        let mut supervisor =
            Self { children, tasks, ended_sender, ended, outlets, listen: plan.listen };
        supervisor.start_child(COORDINATOR)?;
        Ok(supervisor)
    }

    fn start_child(&mut self, index: usize) -> Result<(), Failure> {
        let child = &mut self.children[index];
        let report = Report { index, ended: self.ended_sender.clone() };
        child.log.begin();
        let running =
            child::start(&child.plan.child, &child.log, &self.tasks, report).map_err(|error| {
                Failure::failed(format!(
                    "cannot start {}: {error}",
                    child.plan.child.program.display()
                ))
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

    /// Until the fleet is told to end, or cannot go on.
    pub(super) async fn run(mut self, mut orders: mpsc::Receiver<Order>) -> Result<(), Failure> {
        let listening = listening(self.listen);
        tokio::pin!(listening);
        let mut workers_due = false;
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
                // Before that, workers could only complain that nobody is there.
                () = &mut listening, if !workers_due => {
                    workers_due = true;
                    for worker in self.children.iter_mut().skip(1) {
                        worker.start_at = Some(Instant::now());
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
                self.start_child(index)?;
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
        self.outlets.pids.send_replace(pids.collect());
    }

    fn tell(&self, notice: Notice) {
        // Nobody has to listen; what does not fit is not worth waiting for.
        let _ = self.outlets.notices.try_send(notice);
    }
}

/// Ends when something listens on `address`.
async fn listening(address: SocketAddr) {
    while TcpStream::connect(address).await.is_err() {
        tokio::time::sleep(LISTEN_INTERVAL).await;
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
