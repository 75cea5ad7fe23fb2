//! A local fleet as those see it who started it.

use std::collections::BTreeMap;

use stoker_runtime::tasks::Tasks;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::logs::LogTarget;
use super::notice::Notice;
use super::plan::Plan;
use super::supervisor::{Order, Outlets, Supervisor};
use crate::failure::Failure;

/// Messages under way between the fleet and whoever started it.
const CHANNEL: usize = 64;

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
    /// Starts the coordinator, and the workers as soon as it listens.
    pub(crate) fn start(plan: &Plan, logs: &LogTarget, tasks: &Tasks) -> Result<Self, Failure> {
        let (orders, receiver) = mpsc::channel(CHANNEL);
        let (notice_sender, notices) = mpsc::channel(CHANNEL);
        let (pids_sender, pids) = watch::channel(BTreeMap::new());
        let outlets = Outlets { notices: notice_sender, pids: pids_sender };
        let supervisor = Supervisor::start(plan, logs, tasks, outlets)?;
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
