//! With real signals, sent to a second run of this test binary.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio_util::sync::CancellationToken;

use super::*;

const CHILD: &str = "STOKER_TEST_SIGNAL_CHILD";
const SELF: &str = "signals::tests::child_process";

/// Not a test by itself: what the tests below start, told by the environment.
#[tokio::test]
async fn child_process() {
    let Ok(kind) = std::env::var(CHILD) else { return };
    let tasks = Tasks::new(CancellationToken::new());
    let token = tasks.shutdown_token();
    shutdown_on_signals(&tasks).unwrap();
    if kind == "slow" {
        let shutdown = token.clone();
        tasks.spawn("slow", async move {
            shutdown.cancelled().await;
            tokio::time::sleep(Duration::from_millis(300)).await;
        });
    }
    if kind == "stubborn" {
        tasks.spawn("stubborn", std::future::pending::<()>());
    }
    println!("\nready");
    token.cancelled().await;
    println!("\nstopping");
    tasks.close_and_wait(Duration::from_mins(2)).await.unwrap();
    println!("\nstopped");
}

struct Process {
    child: Child,
    lines: io::Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(kind: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", SELF, "--nocapture"])
            .env(CHILD, kind)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn wait_for(&mut self, line: &str) {
        assert!(self.lines.any(|read| read.unwrap() == line), "the process ended before `{line}`");
    }

    fn send(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }

    fn exit_code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _ended_already = self.child.wait();
    }
}

#[test]
fn the_first_signal_stops_the_process_in_order() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut process = Process::start("polite");
        process.wait_for("ready");
        process.send(signal);
        process.wait_for("stopped");
        assert_eq!(process.exit_code(), Some(0));
    }
}

#[test]
fn ctrl_c_ends_a_process_that_is_shutting_down_at_once() {
    for first in [Signal::TERM, Signal::INT] {
        let mut process = Process::start("stubborn");
        process.wait_for("ready");
        process.send(first);
        process.wait_for("stopping");
        process.send(Signal::INT);
        assert_eq!(process.exit_code(), Some(130));
    }
}

/// A second SIGTERM threw away what a worker was handing over.
#[test]
fn being_asked_to_end_again_does_not_cut_the_end_short() {
    let mut process = Process::start("slow");
    process.wait_for("ready");
    process.send(Signal::TERM);
    process.wait_for("stopping");
    for _ in 0..5 {
        process.send(Signal::TERM);
    }
    process.wait_for("stopped");
    assert_eq!(process.exit_code(), Some(0));
}
