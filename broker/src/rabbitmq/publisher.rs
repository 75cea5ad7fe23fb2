//! The publisher: declared queues, lanes, and one connection of its own.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::admin;
use super::config::RabbitMqConfig;
use super::intake::{self, Company, Intake, Outcomes, Outgoing, Run, Split};
use super::lane::{self, LANES};
use super::link::{Link, Patience, Prepare};
use super::live::Live;
use super::version::ServerVersion;
use crate::error::{BrokerError, PublishError};
use crate::message::{BrokerHealth, Hint, Queue, QueueDepth};
use crate::metrics::{self, Role};
use crate::topology::Topology;
use crate::traits::Publisher;

/// Runs that wait for a lane; a full queue makes `publish` wait, within its time.
const WAITING_RUNS: usize = 64;

/// Publishes hints to RabbitMQ, whatever the connection goes through.
#[derive(Debug)]
pub struct RabbitMqPublisher {
    link: Link,
    shared: Arc<Shared>,
    runs: mpsc::Sender<Run>,
    run_length: usize,
    publish_timeout: Duration,
}

#[derive(Debug)]
struct Shared {
    topology: Topology,
    declared: Mutex<BTreeSet<Queue>>,
    intake: Arc<Intake>,
}

impl RabbitMqPublisher {
    /// Starts to connect, and goes on trying; a broker that is down is no error here. Use
    /// [`RabbitMqPublisher::ready`] to hear of wrong settings at start.
    ///
    /// # Errors
    /// `Config` for a setting out of range, `Thread` when the system gives no thread.
    pub fn start(config: RabbitMqConfig) -> Result<Self, BrokerError> {
        config.check()?;
        let topology = Topology::new(&config.fleet);
        let (runs, waiting) = mpsc::channel(WAITING_RUNS);
        let window = (config.confirm_window / LANES).max(2);
        let publish_timeout = config.publish_timeout;
        let intake = Intake::new(waiting, topology.jobs_exchange(), publish_timeout, window);
        let declared = Mutex::new(BTreeSet::new());
        let shared = Arc::new(Shared { topology, declared, intake: Arc::new(intake) });
        let prepare = Arc::clone(&shared);
        let link = Link::start(config, Role::Publish, prepare)?;
        Ok(Self { link, shared, runs, run_length: window / 2, publish_timeout })
    }

    /// Waits until a connection stands.
    ///
    /// # Errors
    /// The last failure, when there is no connection within `limit`, or sooner when only an
    /// operator can help.
    pub async fn ready(&self, limit: Duration) -> Result<(), BrokerError> {
        self.link.wait_live(limit, Patience::UntilHopeless).await.map(drop)
    }

    /// The release of the broker last connected to, once it has told.
    pub fn server_version(&self) -> Option<ServerVersion> {
        self.link.server_version()
    }

    /// Why nothing can be published now.
    fn refusal(&self) -> Option<PublishError> {
        let state = self.link.state();
        match (&state.live, &state.blocked) {
            (None, _) => Some(PublishError::Disconnected { why: state.why_down() }),
            (Some(_), Some(reason)) => Some(PublishError::Blocked { reason: reason.clone() }),
            (Some(_), None) => None,
        }
    }

    /// Hands one run to the lanes and waits for its outcomes.
    async fn publish_run(
        &self,
        company: Company,
        messages: Vec<Outgoing>,
        deadline: Instant,
    ) -> Outcomes {
        let count = messages.len();
        let (done, outcomes) = oneshot::channel();
        let exchange = async {
            // Fails only when the lanes' intake is gone, and it lives as long as this publisher.
            self.runs.send(Run { messages, company, done }).await.ok()?;
            outcomes.await.ok()
        };
        match timeout_at(deadline, exchange).await {
            Ok(Some(outcomes)) => outcomes,
            Ok(None) => {
                let why = "the connection was lost while publishing".to_owned();
                vec![Err(PublishError::Unconfirmed { why }); count]
            }
            Err(_) => vec![Err(PublishError::TimedOut { after: self.publish_timeout }); count],
        }
    }

    /// Publishes in runs, and puts their outcomes back in the order of `hints`.
    async fn publish_split(&self, hints: Vec<Hint>, deadline: Instant) -> Outcomes {
        let intake = &self.shared.intake;
        let Split { runs, refused } =
            intake::split(&hints, self.run_length, |queue| intake.admit(queue));
        let mut outcomes: Vec<Option<Result<(), PublishError>>> = vec![None; hints.len()];
        for place in refused {
            let queue = hints[place].queue.clone();
            outcomes[place] = Some(Err(PublishError::Stuck { queue }));
        }
        let mut hints: Vec<Option<Hint>> = hints.into_iter().map(Some).collect();
        let published = join_all(runs.into_iter().map(|(company, places)| {
            let messages = places
                .iter()
                .filter_map(|place| hints[*place].take())
                .map(|hint| Outgoing::new(hint, &self.shared.topology))
                .collect();
            async move { (places, self.publish_run(company, messages, deadline).await) }
        }));
        for (places, run_outcomes) in published.await {
            for (place, outcome) in places.into_iter().zip(run_outcomes) {
                outcomes[place] = Some(outcome);
            }
        }
        let every = "each hint is refused or in exactly one run";
        outcomes.into_iter().map(|outcome| outcome.expect(every)).collect()
    }
}

#[async_trait]
impl Publisher for RabbitMqPublisher {
    async fn declare(&self, queues: &[Queue]) -> Result<(), BrokerError> {
        self.shared.declared().extend(queues.iter().cloned());
        let live = self.link.live_now()?;
        admin::declare_queues(&live, &self.shared.topology, queues).await
    }

    async fn publish(&self, hints: Vec<Hint>) -> Vec<Result<(), PublishError>> {
        let started = Instant::now();
        if hints.is_empty() {
            return Vec::new();
        }
        let outcomes: Outcomes = if let Some(refusal) = self.refusal() {
            vec![Err(refusal); hints.len()]
        } else {
            self.publish_split(hints, started + self.publish_timeout).await
        };
        metrics::published(&outcomes, started.elapsed());
        outcomes
    }

    async fn depth(&self, queue: &Queue) -> Result<QueueDepth, BrokerError> {
        let live = self.link.live_now()?;
        admin::depth(&live, &self.shared.topology, queue).await
    }

    fn health(&self) -> BrokerHealth {
        self.link.health()
    }
}

impl Shared {
    fn declared(&self) -> MutexGuard<'_, BTreeSet<Queue>> {
        self.declared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn declare_known(&self, live: &Live) -> Result<(), BrokerError> {
        let queues: Vec<Queue> = self.declared().iter().cloned().collect();
        match admin::declare_queues(live, &self.topology, &queues).await {
            // Logged where it happened; the other queues must work all the same.
            Err(error) if error.needs_operator() => Ok(()),
            result => result,
        }
    }

    /// Declares everything again when a message came back or a channel failed.
    async fn repair(self: Arc<Self>, live: Arc<Live>) {
        let mut missing = self.intake.missing();
        loop {
            tokio::select! {
                _ = live.ended() => return,
                changed = missing.changed() => if changed.is_err() { return },
            }
            tracing::warn!("a queue or exchange seems to be missing: declaring all again");
            if let Err(error) = self.prepare(&live).await {
                tracing::warn!(%error, "could not declare queues and exchanges again");
            }
        }
    }
}

#[async_trait]
impl Prepare for Shared {
    async fn prepare(&self, live: &Arc<Live>) -> Result<(), BrokerError> {
        admin::declare_base(live, &self.topology).await?;
        self.declare_known(live).await
    }

    fn attend(self: Arc<Self>, live: &Arc<Live>) {
        self.intake.gate().reset();
        // Runs on lapin's own runtime; each task ends with its connection.
        let runtime = Handle::current();
        for _ in 0..LANES {
            drop(runtime.spawn(lane::run(Arc::clone(live), Arc::clone(&self.intake))));
        }
        drop(runtime.spawn(self.repair(Arc::clone(live))));
    }
}
