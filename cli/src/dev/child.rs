//! One child process: started, listened to, signaled and waited for.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, kill_process};
use stoker_runtime::config::settings_in_environment;
use stoker_runtime::tasks::Tasks;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use super::logs::Log;
use super::plan::ChildPlan;
use super::restart::Ending;

/// Grandchildren may hold the output open after the child is gone.
const LOG_GRACE: Duration = Duration::from_millis(500);

/// Signals under way to one child.
const MAX_SIGNALS: usize = 8;

/// Settings of this process that are meant for the children, too. All others would give several
/// processes one port or one folder.
const INHERITED: [&str; 2] = ["STOKER_LOG", "STOKER_OTLP_ENDPOINT"];

/// How a child is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    Terminate,
    Kill,
}

/// A child that runs.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) pid: u32,
    signals: mpsc::Sender<Signal>,
}

/// A child that has ended.
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

impl Running {
    /// A child that is gone already gets no signal.
    pub(super) fn send(&self, signal: Signal) {
        // Full: it has had enough signals to notice.
        let _ = self.signals.try_send(signal);
    }
}

/// Starts the process; its ending is reported once.
pub(super) fn start(
    plan: &ChildPlan,
    log: &Log,
    tasks: &Tasks,
    report: Report,
) -> io::Result<Running> {
    let mut command = Command::new(&plan.program);
    command
        .args(&plan.arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Ctrl-C is for this process, which ends the others in order.
        .process_group(0)
        .kill_on_drop(true);
    for setting in settings_in_environment() {
        if !INHERITED.iter().any(|inherited| setting == *inherited) {
            command.env_remove(setting);
        }
    }
    for (name, value) in &plan.environment {
        command.env(name, value.expose());
    }
    let child = command.spawn()?;
    let pid = child.id().ok_or_else(|| io::Error::other("the process ended at once"))?;
    let (sender, signals) = mpsc::channel(MAX_SIGNALS);
    let copies = copy_output(child, log, tasks);
    tasks.spawn("child process", attend(copies, signals, report));
    Ok(Running { pid, signals: sender })
}

struct Attended {
    child: Child,
    copies: Vec<tokio::task::JoinHandle<()>>,
}

fn copy_output(mut child: Child, log: &Log, tasks: &Tasks) -> Attended {
    let out = child.stdout.take().map(|out| tasks.spawn("child log", log.clone().copy(out)));
    let err = child.stderr.take().map(|err| tasks.spawn("child log", log.clone().copy(err)));
    Attended { child, copies: out.into_iter().chain(err).collect() }
}

async fn attend(attended: Attended, mut signals: mpsc::Receiver<Signal>, report: Report) {
    let Attended { mut child, copies } = attended;
    let started = Instant::now();
    // Held to the end: its closing tells the child to go.
    let input = child.stdin.take();
    let status = loop {
        tokio::select! {
            status = child.wait() => break status,
            Some(signal) = signals.recv() => signal_child(&mut child, signal),
        }
    };
    drop(input);
    let lived = started.elapsed();
    for copy in copies {
        // What it said last comes before the news of its end.
        let _ = tokio::time::timeout(LOG_GRACE, copy).await;
    }
    let ending = status.map_or(Ending::Exited(-1), ending);
    // Nobody listens any more: the fleet is being taken down.
    let _ = report.ended.send(Ended { index: report.index, ending, lived }).await;
}

fn signal_child(child: &mut Child, signal: Signal) {
    // As long as the child has not been waited for, its id cannot have gone to another process.
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let Some(pid) = pid else { return };
    let signal = match signal {
        Signal::Terminate => rustix::process::Signal::TERM,
        Signal::Kill => rustix::process::Signal::KILL,
    };
    if let Err(error) = kill_process(pid, signal) {
        tracing::warn!(%error, ?signal, "cannot signal a child process");
    }
}

fn ending(status: ExitStatus) -> Ending {
    match (status.code(), status.signal()) {
        (Some(code), _) => Ending::Exited(code),
        (None, Some(signal)) => Ending::Killed(signal),
        (None, None) => Ending::Exited(-1),
    }
}
