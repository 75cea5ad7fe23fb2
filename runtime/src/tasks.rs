//! Background tasks with names, so that shutdown knows who is left and no crash goes unnoticed.
//!
//! The only place that calls `tokio::spawn`.

mod registry;

use std::error::Error;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use crate::error::chain;
use crate::metrics::task_panicked;
use registry::{Registration, Registry};

/// A group of named tasks with one shutdown token. Clones are the same group.
#[derive(Debug, Clone)]
pub struct Tasks {
    shutdown: CancellationToken,
    /// This group's register, then its parent's, up to the root: a parent waits for all.
    registries: Arc<[Arc<Registry>]>,
    root: Arc<Root>,
}

/// What all groups of one process share.
#[derive(Debug)]
struct Root {
    shutdown: CancellationToken,
    failure: Mutex<Option<String>>,
}

impl Tasks {
    /// The root group of a process (or of one service in a test); cancelling `shutdown` asks all
    /// its tasks to end.
    pub fn new(shutdown: CancellationToken) -> Self {
        let root = Arc::new(Root { shutdown: shutdown.clone(), failure: Mutex::new(None) });
        Self { shutdown, registries: Arc::new([Arc::new(Registry::default())]), root }
    }

    /// A group inside this one: it can be ended alone, ends with this one, and this one waits for
    /// its tasks too.
    #[must_use]
    pub fn child(&self) -> Self {
        let own = std::iter::once(Arc::new(Registry::default()));
        Self {
            shutdown: self.shutdown.child_token(),
            registries: own.chain(self.registries.iter().cloned()).collect(),
            root: Arc::clone(&self.root),
        }
    }

    /// The token that tasks of this group watch.
    pub fn shutdown_token(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// Why the process has to end with a failure: the first critical task that ended unbidden.
    pub fn failure(&self) -> Option<String> {
        self.root.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Runs `future` beside the others. A panic in it is logged and ends only this task.
    ///
    /// `name` is what an operator reads when the task does not end in time. Dropping the handle
    /// lets the task run on.
    pub fn spawn<F>(&self, name: &'static str, future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.track(name, future, move |panicked| {
            if panicked {
                task_panicked(name);
            }
        })
    }

    /// Runs a task without which the process is of no use.
    ///
    /// If it panics, fails, or ends while nobody has asked for shutdown, the reason is logged and
    /// the whole process is asked to shut down, so that it never limps on half dead.
    pub fn spawn_critical<F>(&self, name: &'static str, future: F) -> JoinHandle<()>
    where
        F: Future<Output: Outcome> + Send + 'static,
    {
        let tasks = self.clone();
        let on_abandoned = self.clone();
        let watched = async move {
            let outcome = future.await;
            tasks.critical_ended(name, outcome.failure());
        };
        self.track(name, watched, move |panicked| {
            if panicked {
                task_panicked(name);
                on_abandoned.fail(name, "panicked");
            }
        })
    }

    /// Asks every task of this group (and of its children) to end and waits for them, for at most
    /// `deadline`.
    ///
    /// # Errors
    /// The names of those that were still running, sorted, each once; they have been aborted.
    pub async fn close_and_wait(&self, deadline: Duration) -> Result<(), Vec<&'static str>> {
        self.shutdown.cancel();
        let own = self.registry();
        if tokio::time::timeout(deadline, own.wait_until_empty()).await.is_ok() {
            return Ok(());
        }
        let left = own.abort_all();
        if left.is_empty() { Ok(()) } else { Err(left) }
    }

    /// A task that lives until the runtime ends and that no shutdown waits for.
    pub(crate) fn spawn_untracked<F>(future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        drop(spawn_on_runtime(future));
    }

    fn registry(&self) -> &Registry {
        self.registries.first().expect("every group has its own register")
    }

    /// `abandoned` runs when the future is dropped before it ended; its argument says whether by
    /// a panic (else the task was aborted or the runtime ended).
    fn track<F>(
        &self,
        name: &'static str,
        future: F,
        abandoned: impl FnOnce(bool) + Send + 'static,
    ) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let registration = Registration::new(name, &self.registries);
        let entry = registration.entry();
        let handle = spawn_on_runtime(async move {
            let mut watch = Watch { abandoned: Some(abandoned), _registration: registration };
            let output = future.await;
            watch.abandoned = None;
            output
        });
        entry.set_abort_handle(handle.abort_handle());
        handle
    }

    fn critical_ended(&self, name: &'static str, failure: Option<String>) {
        match failure {
            Some(reason) => self.fail(name, &reason),
            None if self.shutdown.is_cancelled() => debug!(task = name, "task ended"),
            None => self.fail(name, "ended although nobody asked it to"),
        }
    }

    fn fail(&self, name: &'static str, reason: &str) {
        error!(task = name, reason, "critical task ended; shutting down");
        self.root
            .failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert_with(|| format!("task `{name}`: {reason}"));
        self.root.shutdown.cancel();
    }
}

/// What a critical task may return: nothing, or a result whose error is its reason to end.
pub trait Outcome: Send + 'static {
    /// The error with its causes, if it is one.
    fn failure(self) -> Option<String>;
}

impl Outcome for () {
    fn failure(self) -> Option<String> {
        None
    }
}

impl<E: Error + Send + 'static> Outcome for Result<(), E> {
    fn failure(self) -> Option<String> {
        self.err().map(|error| chain(&error))
    }
}

/// Lives inside the task: knows how it went when the task's future is dropped.
struct Watch<A: FnOnce(bool)> {
    abandoned: Option<A>,
    _registration: Registration,
}

impl<A: FnOnce(bool)> Drop for Watch<A> {
    fn drop(&mut self) {
        if let Some(abandoned) = self.abandoned.take() {
            abandoned(std::thread::panicking());
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
fn spawn_on_runtime<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    tokio::spawn(future)
}

#[cfg(test)]
#[path = "tasks/tests.rs"]
mod tests;
