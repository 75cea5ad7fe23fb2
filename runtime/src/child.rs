//! One child process: started without our own settings, listened to, signaled and waited for.
//!
//! It ends with this process: its standard input is a pipe that we hold, and programs of ours end with it.

use std::ffi::OsString;
use std::fmt;
use std::future::Future;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, kill_process};
use tokio::io::AsyncRead;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::config::settings_in_environment;
use crate::secret::Secret;
use crate::tasks::Tasks;

/// Grandchildren may hold the output open after the child is gone.
const OUTPUT_GRACE: Duration = Duration::from_millis(500);

/// Signals under way to one child.
const MAX_SIGNALS: usize = 8;

/// Settings of this process that are meant for the children, too. All others would give several
/// processes one port or one folder.
const INHERITED: [&str; 2] = ["STOKER_LOG", "STOKER_OTLP_ENDPOINT"];

/// A process to start.
#[derive(Debug, Clone)]
pub struct ChildPlan {
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
    /// Variables besides those of this process, of which the settings are left out.
    pub environment: Vec<(&'static str, Secret)>,
}

/// How a child is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    Terminate,
    Kill,
}

/// A child that runs. Dropping this leaves it alone.
#[derive(Debug)]
pub struct Running {
    pub pid: u32,
    signals: mpsc::Sender<Signal>,
}

/// A child that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    pub ending: Ending,
    pub lived: Duration,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// By itself, with this exit code.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

/// What a child says on one of its outputs.
pub type Output = Box<dyn AsyncRead + Send + Unpin>;

impl Running {
    /// A child that is gone already gets no signal.
    pub fn send(&self, signal: Signal) {
        // Full: it has had enough signals to notice.
        let _ = self.signals.try_send(signal);
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exited with code {code}"),
            Self::Killed(9) => f.write_str("was killed (SIGKILL)"),
            Self::Killed(signal) => write!(f, "was ended by signal {signal}"),
        }
    }
}

/// Starts a process. `copy` gets its two outputs; `report` is called once, when it has ended and what it said last has
/// been copied.
pub fn start<C, R>(
    plan: &ChildPlan,
    tasks: &Tasks,
    copy: impl Fn(Output) -> C,
    report: impl FnOnce(Ended) -> R + Send + 'static,
) -> io::Result<Running>
where
    C: Future<Output = ()> + Send + 'static,
    R: Future<Output = ()> + Send,
{
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
    let mut child = command.spawn()?;
    let pid = child.id().ok_or_else(|| io::Error::other("the process ended at once"))?;
    let (sender, signals) = mpsc::channel(MAX_SIGNALS);
    let out = child.stdout.take().map(|out| copy(Box::new(out)));
    let err = child.stderr.take().map(|err| copy(Box::new(err)));
    let outputs = out.into_iter().chain(err);
    let copies = outputs.map(|copying| tasks.spawn("child output", copying)).collect();
    tasks.spawn("child process", async move {
        report(attend(child, copies, signals).await).await;
    });
    Ok(Running { pid, signals: sender })
}

async fn attend(
    mut child: Child,
    copies: Vec<JoinHandle<()>>,
    mut signals: mpsc::Receiver<Signal>,
) -> Ended {
    let started = Instant::now();
    // Held to the end: its closing tells the child to go.
    let input = child.stdin.take();
    let status = loop {
        tokio::select! {
            status = child.wait() => break status,
            Some(signal) = signals.recv() => signal_child(&child, signal),
        }
    };
    drop(input);
    let lived = started.elapsed();
    for copy in copies {
        // What it said last comes before the news of its end.
        let _ = tokio::time::timeout(OUTPUT_GRACE, copy).await;
    }
    Ended { ending: status.map_or(Ending::Exited(-1), ending), lived }
}

fn signal_child(child: &Child, signal: Signal) {
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

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::sync::oneshot;
    use tokio_util::sync::CancellationToken;

    use super::*;

    fn plan(program: &str, arguments: &[&str]) -> ChildPlan {
        let arguments = arguments.iter().map(Into::into).collect();
        let environment = vec![("CHILD_TEST", Secret::new("told"))];
        ChildPlan { program: program.into(), arguments, environment }
    }

    struct Watched {
        running: Running,
        said: mpsc::Receiver<String>,
        ended: oneshot::Receiver<Ended>,
    }

    fn watch(plan: &ChildPlan, tasks: &Tasks) -> io::Result<Watched> {
        let (say, said) = mpsc::channel(2);
        let (end, ended) = oneshot::channel();
        let copy = move |mut output: Output| {
            let say = say.clone();
            async move {
                let mut text = String::new();
                output.read_to_string(&mut text).await.unwrap();
                say.send(text).await.unwrap();
            }
        };
        let running = start(plan, tasks, copy, |ended| async move { end.send(ended).unwrap() })?;
        Ok(Watched { running, said, ended })
    }

    #[tokio::test]
    async fn a_child_is_told_its_environment_and_heard_to_the_end() {
        let tasks = Tasks::new(CancellationToken::new());
        let script = "echo \"out $CHILD_TEST\"; echo err >&2; exit 3";
        let mut child = watch(&plan("/bin/sh", &["-c", script]), &tasks).unwrap();
        assert_eq!(child.ended.await.unwrap().ending, Ending::Exited(3));
        let mut said = [child.said.recv().await.unwrap(), child.said.recv().await.unwrap()];
        said.sort();
        assert_eq!(said, ["err\n", "out told\n"]);
    }

    #[tokio::test]
    async fn a_child_is_ended_by_signals() {
        let tasks = Tasks::new(CancellationToken::new());
        for (signal, number) in [(Signal::Terminate, 15), (Signal::Kill, 9)] {
            // It reads its input, which stays open as long as it lives.
            let child = watch(&plan("/bin/cat", &[]), &tasks).unwrap();
            child.running.send(signal);
            assert_eq!(child.ended.await.unwrap().ending, Ending::Killed(number));
        }
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_an_error() {
        let tasks = Tasks::new(CancellationToken::new());
        let error = watch(&plan("/no/such/program", &[]), &tasks).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
