//! Keeps one connection up: connects, prepares, watches and, on the first doubt that a probe does
//! not dispel, drops it and starts again after a jittered wait. Nothing is recovered in place.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use lapin::tcp::OwnedTLSConfig;
use lapin::{Channel, Connection, ConnectionProperties, Event};
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep, timeout};

use super::config::RabbitMqConfig;
use super::failure;
use super::link::{LinkState, Prepare};
use super::live::Live;
use super::retry::Retry;
use super::version::{self, ServerVersion};
use crate::error::BrokerError;
use crate::metrics::{self, Role};
use crate::topology::Topology;

const PROBE_EVERY: Duration = Duration::from_secs(5);
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// A connection that stood this long was good: the next one is tried soon.
const STABLE_AFTER: Duration = Duration::from_secs(10);

pub(super) struct Supervisor {
    config: RabbitMqConfig,
    topology: Topology,
    role: Role,
    prepare: Arc<dyn Prepare>,
    retry: Retry,
    watched: Watched,
}

/// What supervisor and handle tell each other.
pub(super) struct Watched {
    pub(super) state: watch::Sender<LinkState>,
    pub(super) version: watch::Sender<Option<ServerVersion>>,
    pub(super) stopped: watch::Receiver<bool>,
}

enum Ended {
    Stopped,
    Failed(BrokerError),
}

impl Supervisor {
    pub(super) fn new(
        config: RabbitMqConfig,
        role: Role,
        prepare: Arc<dyn Prepare>,
        watched: Watched,
    ) -> Self {
        let retry = Retry::new(config.backoff.clone());
        let topology = Topology::new(&config.fleet);
        Self { config, topology, role, prepare, retry, watched }
    }

    /// Until the handle says stop.
    pub(super) async fn run(mut self) {
        let mut stopped = self.watched.stopped.clone();
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
            self.watched
                .state
                .send_replace(LinkState { error: Some(error), ..LinkState::default() });
            tokio::select! {
                () = stop_requested(&mut stopped) => break,
                () = sleep(wait) => {}
            }
        }
        let why = "closed by this process".to_owned();
        let error = Some(BrokerError::Disconnected { why });
        self.watched.state.send_replace(LinkState { error, ..LinkState::default() });
    }

    /// One connection from first to last byte.
    async fn session(&mut self) -> Ended {
        let mut stopped = self.watched.stopped.clone();
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
        self.watched
            .state
            .send_replace(LinkState { live: Some(Arc::clone(&live)), ..LinkState::default() });
        let ask_version = self.ask_version();
        let ended = tokio::select! {
            ended = self.watch(&live, events, &mut stopped) => ended,
            never = ask_version => match never {},
        };
        self.watched.state.send_modify(|state| state.live = None);
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
        self.watched.state.borrow().blocked.is_some()
    }

    fn observe(&self, live: &Live, event: Option<Event>) -> Result<(), BrokerError> {
        let lost = |why: String| BrokerError::Disconnected { why };
        match event {
            Some(Event::ConnectionBlocked(reason)) => {
                tracing::warn!(reason, "the broker blocks publishing");
                metrics::blocked();
                self.watched.state.send_modify(|state| state.blocked = Some(reason));
                Ok(())
            }
            Some(Event::ConnectionUnblocked) => {
                tracing::info!("the broker takes publishes again");
                metrics::unblocked();
                self.watched.state.send_modify(|state| state.blocked = None);
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
            self.watched.version.send_replace(version);
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

/// An error with its causes on one line, for states that outlive the error.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
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
