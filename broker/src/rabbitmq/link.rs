//! A connection that is always being kept up: its handle, its state and its thread.
//!
//! What is done to keep it up is in [`super::supervisor`].

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use async_trait::async_trait;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::timeout;

use super::config::RabbitMqConfig;
use super::live::Live;
use super::supervisor::{Supervisor, Watched, with_causes};
use super::version::ServerVersion;
use crate::error::BrokerError;
use crate::message::BrokerHealth;
use crate::metrics::Role;

/// What a new connection needs before it is of use.
#[async_trait]
pub(super) trait Prepare: Send + Sync {
    /// Before anybody sees the connection. An error drops it.
    async fn prepare(&self, live: &Arc<Live>) -> Result<(), BrokerError>;

    /// Starts what works on the connection as long as it lives; runs on lapin's runtime.
    fn attend(self: Arc<Self>, live: &Arc<Live>);
}

/// What is known of the connection at this moment.
#[derive(Debug, Clone, Default)]
pub(super) struct LinkState {
    pub(super) live: Option<Arc<Live>>,
    /// Why the broker takes no publishes, while it does not.
    pub(super) blocked: Option<String>,
    /// The last failure, until the next success.
    pub(super) error: Option<BrokerError>,
}

impl LinkState {
    pub(super) fn why_down(&self) -> String {
        match &self.error {
            Some(error) => with_causes(error),
            None => "still connecting".to_owned(),
        }
    }
}

/// Handle to the supervisor; dropping it closes the connection and ends the thread.
pub(super) struct Link {
    state: watch::Receiver<LinkState>,
    version: watch::Receiver<Option<ServerVersion>>,
    stop: watch::Sender<bool>,
    handle: Handle,
}

impl Link {
    /// Starts the thread with lapin's runtime and supervisor; connecting goes on behind.
    pub(super) fn start(
        config: RabbitMqConfig,
        role: Role,
        prepare: Arc<dyn Prepare>,
    ) -> Result<Self, BrokerError> {
        config.check()?;
        let (state_tx, state) = watch::channel(LinkState::default());
        let (version_tx, version) = watch::channel(None);
        let (stop, stopped) = watch::channel(false);
        let watched = Watched { state: state_tx, version: version_tx, stopped };
        let supervisor = Supervisor::new(config, role, prepare, watched);
        let handle = spawn_thread(role, supervisor)?;
        Ok(Self { state, version, stop, handle })
    }

    /// lapin's runtime, for small tasks that must not depend on the caller's.
    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    pub(super) fn state(&self) -> LinkState {
        self.state.borrow().clone()
    }

    pub(super) fn server_version(&self) -> Option<ServerVersion> {
        *self.version.borrow()
    }

    pub(super) fn health(&self) -> BrokerHealth {
        let state = self.state.borrow();
        match (&state.live, &state.blocked) {
            (Some(_), None) => BrokerHealth::Connected,
            (Some(_), Some(reason)) => BrokerHealth::Blocked { reason: reason.clone() },
            (None, _) => BrokerHealth::Disconnected { why: state.why_down() },
        }
    }

    pub(super) fn live_now(&self) -> Result<Arc<Live>, BrokerError> {
        let state = self.state.borrow();
        state.live.clone().ok_or_else(|| BrokerError::Disconnected { why: state.why_down() })
    }

    /// Waits for a connection; gives the last failure when there is none within `limit`, and at
    /// once when only an operator can help and `impatient` says so.
    pub(super) async fn wait_live(
        &self,
        limit: Duration,
        patience: Patience,
    ) -> Result<Arc<Live>, BrokerError> {
        let mut state = self.state.clone();
        let decided = state.wait_for(|state| {
            let hopeless = state.error.as_ref().is_some_and(BrokerError::needs_operator);
            state.live.is_some() || (patience == Patience::UntilHopeless && hopeless)
        });
        drop(timeout(limit, decided).await);
        let state = self.state.borrow();
        match (&state.live, &state.error) {
            (Some(live), _) => Ok(Arc::clone(live)),
            (None, Some(error)) => Err(error.clone()),
            (None, None) => Err(BrokerError::Disconnected { why: state.why_down() }),
        }
    }
}

/// When to stop waiting for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    UntilLimit,
    UntilHopeless,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("health", &self.health()).finish_non_exhaustive()
    }
}

/// The runtime lives and dies on its thread: dropping one inside another runtime would panic.
fn spawn_thread(role: Role, supervisor: Supervisor) -> Result<Handle, BrokerError> {
    let thread_error = |error: std::io::Error| BrokerError::Thread { cause: Arc::new(error) };
    let (handle_tx, handle_rx) = sync_channel(1);
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => {
                let told = handle_tx.send(Ok(runtime.handle().clone()));
                if told.is_ok() {
                    runtime.block_on(supervisor.run());
                }
            }
            // Nobody to tell when the receiver is gone.
            Err(error) => drop(handle_tx.send(Err(error))),
        }
    };
    std::thread::Builder::new()
        .name(format!("amqp-{}", role.label()))
        .spawn(run)
        .map_err(thread_error)?;
    let answer = handle_rx.recv().map_err(|_| std::io::Error::other("the thread ended early"));
    answer.flatten().map_err(thread_error)
}
