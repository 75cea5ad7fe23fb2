//! A process of the fleet as a child of this one, with its log and its place in the fleet.

use std::io;
use std::time::Duration;

use stoker_runtime::child::{self, ChildPlan, Ending, Running};
use stoker_runtime::tasks::Tasks;
use tokio::sync::mpsc;

use super::logs::Log;

/// A process of the fleet that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// Which of the fleet's processes it was.
    pub(super) index: usize,
    pub(super) ending: Ending,
    pub(super) lived: Duration,
}

/// Where the ending is reported, and as which process.
#[derive(Debug, Clone)]
pub(super) struct Report {
    pub(super) index: usize,
    pub(super) ended: mpsc::Sender<Ended>,
}

/// Starts the process; its ending is reported once.
pub(super) fn start(
    plan: &ChildPlan,
    log: &Log,
    tasks: &Tasks,
    report: Report,
) -> io::Result<Running> {
    let copy = |output| log.clone().copy(output);
    let tell = move |ended: child::Ended| async move {
        let child::Ended { ending, lived } = ended;
        // Nobody listens any more: the fleet is being taken down.
        let _ = report.ended.send(Ended { index: report.index, ending, lived }).await;
    };
    child::start(plan, tasks, copy, tell)
}
