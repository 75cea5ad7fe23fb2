//! A connection that is always being kept up: its thread, its supervisor, its state.
//!
//! The supervisor connects, prepares, watches and, on the first doubt, drops the connection and
//! starts again after a jittered wait. Nothing is recovered in place.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use lapin::tcp::OwnedTLSConfig;
use lapin::{Channel, Connection, ConnectionProperties, Event};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep, timeout};

use super::config::RabbitMqConfig;
use super::failure;
use super::live::Live;
use super::retry::Retry;
use super::version::{self, ServerVersion};
use crate::error::BrokerError;
use crate::message::BrokerHealth;
use crate::metrics::{self, Role};
use crate::topology::Topology;

const PROBE_EVERY: Duration = Duration::from_secs(5);
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// A connection that stood this long was good: the next one is tried soon.
const STABLE_AFTER: Duration = Duration::from_secs(10);

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

/// An error with its causes on one line, for states that outlive the error.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
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
        let supervisor = Supervisor {
            retry: Retry::new(config.backoff.clone()),
            topology: Topology::new(&config.fleet),
            config,
            role,
            prepare,
            state: state_tx,
            version: version_tx,
            stopped,
        };
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

struct Supervisor {
    config: RabbitMqConfig,
    topology: Topology,
    role: Role,
    prepare: Arc<dyn Prepare>,
    retry: Retry,
    state: watch::Sender<LinkState>,
    version: watch::Sender<Option<ServerVersion>>,
    stopped: watch::Receiver<bool>,
}

enum Ended {
    Stopped,
    Failed(BrokerError),
}

impl Supervisor {
    async fn run(mut self) {
        let mut stopped = self.stopped.clone();
        loop {
            let Ended::Failed(error) = self.session().await else { break };
            let wait = self.retry.next_wait();
            metrics::disconnected(self.role);
            tracing::warn!(
                role = self.role.label(),
                error = with_causes(&error),
                retry_in_ms = wait.as_millis(),
                "no broker connection"
            );
            self.state.send_replace(LinkState { error: Some(error), ..LinkState::default() });
            tokio::select! {
                () = stop_requested(&mut stopped) => break,
                () = sleep(wait) => {}
            }
        }
        let why = "closed by this process".to_owned();
        let error = Some(BrokerError::Disconnected { why });
        self.state.send_replace(LinkState { error, ..LinkState::default() });
    }

    /// One connection from first to last byte.
    async fn session(&mut self) -> Ended {
        let mut stopped = self.stopped.clone();
        let connection = tokio::select! {
            () = stop_requested(&mut stopped) => return Ended::Stopped,
            connection = self.connect() => match connection {
                Ok(connection) => connection,
                Err(error) => return Ended::Failed(error),
            },
        };
        let live = Arc::new(Live::new(connection, self.config.request_timeout));
        // Listening starts before anything can happen on the connection.
        let events = live.connection.events_listener();
        if let Err(error) = self.prepare.prepare(&live).await {
            live.close("it could not be prepared").await;
            return Ended::Failed(error);
        }
        let started = Instant::now();
        metrics::connected(self.role);
        metrics::unblocked();
        tracing::info!(
            role = self.role.label(),
            address = self.config.uri.address(),
            "broker connected"
        );
        Arc::clone(&self.prepare).attend(&live);
        self.state
            .send_replace(LinkState { live: Some(Arc::clone(&live)), ..LinkState::default() });
        let ask_version = self.ask_version();
        let ended = tokio::select! {
            ended = self.watch(&live, events, &mut stopped) => ended,
            never = ask_version => match never {},
        };
        self.state.send_modify(|state| state.live = None);
        if started.elapsed() >= STABLE_AFTER {
            self.retry.reset();
        }
        let why = match &ended {
            Ended::Stopped => "closed by this process".to_owned(),
            Ended::Failed(error) => with_causes(error),
        };
        live.close(&why).await;
        ended
    }

    async fn connect(&self) -> Result<Connection, BrokerError> {
        let limit = self.config.connect_timeout;
        let name = format!("stoker {} {}", self.config.fleet, self.role.label());
        let properties = ConnectionProperties::default()
            .with_connection_name(name.into())
            .with_client_property("product".into(), "stoker".into())
            .with_client_property("version".into(), env!("CARGO_PKG_VERSION").into());
        let runtime = lapin::runtime::default_runtime()
            .map_err(|error| failure::connecting(error, &self.config.uri))?;
        let uri = self.config.uri.with_heartbeat(self.config.heartbeat);
        let connecting = Connection::connect_uri_with_config(uri, properties, self.tls(), runtime);
        match timeout(limit, connecting).await {
            Ok(connected) => {
                connected.map_err(|error| failure::connecting(error, &self.config.uri))
            }
            Err(_) => Err(BrokerError::Unreachable {
                address: self.config.uri.address(),
                cause: Arc::new(std::io::Error::other(format!("no answer within {limit:?}"))),
            }),
        }
    }

    fn tls(&self) -> OwnedTLSConfig {
        OwnedTLSConfig { identity: None, cert_chain: self.config.ca_pem.clone() }
    }

    /// Returns when the connection is not to be trusted any more, or is not wanted.
    async fn watch(
        &self,
        live: &Live,
        events: impl futures::Stream<Item = Event> + Send,
        stopped: &mut watch::Receiver<bool>,
    ) -> Ended {
        tokio::pin!(events);
        let mut probe_due = interval(PROBE_EVERY);
        probe_due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut probe_channel = None;
        loop {
            tokio::select! {
                () = stop_requested(stopped) => return Ended::Stopped,
                event = events.next() => {
                    if let Err(error) = self.observe(live, event) {
                        return Ended::Failed(error);
                    }
                }
                // lapin writes nothing while blocked, so that a probe could only time out.
                () = probe_wanted(live, &mut probe_due), if !self.is_blocked() => {
                    if let Err(error) = self.probe(live, &mut probe_channel).await {
                        return Ended::Failed(error);
                    }
                }
            }
        }
    }

    fn is_blocked(&self) -> bool {
        self.state.borrow().blocked.is_some()
    }

    fn observe(&self, live: &Live, event: Option<Event>) -> Result<(), BrokerError> {
        let lost = |why: String| BrokerError::Disconnected { why };
        match event {
            Some(Event::ConnectionBlocked(reason)) => {
                tracing::warn!(reason, "the broker blocks publishing");
                metrics::blocked();
                self.state.send_modify(|state| state.blocked = Some(reason));
                Ok(())
            }
            Some(Event::ConnectionUnblocked) => {
                tracing::info!("the broker takes publishes again");
                metrics::unblocked();
                self.state.send_modify(|state| state.blocked = None);
                Ok(())
            }
            // A channel's error comes here too, and is handled where the channel is used.
            Some(Event::Error(_)) if live.connection.status().connected() => Ok(()),
            Some(Event::Error(error)) => Err(lost(error.to_string())),
            Some(_) => Ok(()),
            None => Err(lost("the broker connection's events ended".to_owned())),
        }
    }

    /// Any answer shows that the broker is there; that the queue is missing is an answer.
    async fn probe(&self, live: &Live, channel: &mut Option<Channel>) -> Result<(), BrokerError> {
        let open = match channel.take() {
            Some(open) => open,
            None => live.open_channel().await?,
        };
        let queue = self.topology.parked_queue();
        match live.look_at(&open, &queue, PROBE_TIMEOUT).await {
            Ok(Some(_)) => *channel = Some(open),
            Ok(None) | Err(BrokerError::Forbidden { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Reads the broker's version once per connection, beside everything else.
    async fn ask_version(&self) -> std::convert::Infallible {
        if self.role == Role::Publish {
            let uri = self.config.uri.with_heartbeat(self.config.heartbeat);
            let version = version::read(uri, self.tls(), self.config.connect_timeout).await;
            if let Some(version) = version {
                tracing::info!(%version, "broker version");
                if let Some(advice) = version.advice(self.config.longest_job) {
                    tracing::warn!(%version, advice, "broker version");
                }
            }
            self.version.send_replace(version);
        }
        std::future::pending().await
    }
}

async fn probe_wanted(live: &Live, due: &mut Interval) {
    tokio::select! {
        () = live.doubted() => {}
        _ = due.tick() => {}
    }
}

/// Also when the handle is gone without a word.
async fn stop_requested(stopped: &mut watch::Receiver<bool>) {
    drop(stopped.wait_for(|stop| *stop).await);
}
