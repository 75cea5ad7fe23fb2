//! One coordinator from start to end.
//!
//! Start: everything is checked before the port is bound. End: no more calls are taken, streams end,
//! calls under way are answered, and only then the store is closed.

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use stoker_broker::BrokerError;
use stoker_core::fleet::{Fleet, Provider};
use stoker_runtime::clock::{Clock, SystemClock};
use stoker_runtime::crash;
use stoker_runtime::fs::{FsError, write_atomically};
use stoker_runtime::metrics::MetricsHandle;
use stoker_runtime::net::{BindError, bind};
use stoker_runtime::tasks::Tasks;
use tokio::net::TcpListener;

use crate::broker::Broker;
use crate::check::warn_of_certificates;
use crate::config::{BrokerChoice, Config, StoreChoice};
use crate::context::{Context, lanes};
use crate::dispatcher::Dispatcher;
use crate::events::Events;
use crate::grpc::access::Access;
use crate::grpc::gate::Gate;
use crate::grpc::server::{self, ServeError, Served};
use crate::grpc::streams::StreamSlots;
use crate::needs::tell_needs;
use crate::observe::observe;
use crate::peers::Peers;
use crate::publisher::OutboxPublisher;
use crate::readiness::Readiness;
use crate::registry::Registry;
use crate::store::postgres::{Company, PostgresOptions, PostgresStore, StoreClock};
use crate::store::sqlite::{SqliteOptions, SqliteStore};
use crate::store::{JobStore, StoreError};
use crate::sweeper::Sweeper;
use crate::texts::Texts;
use crate::watch::Hub;

/// How long the coordinator's own tasks may take to end.
const END_LIMIT: Duration = Duration::from_secs(5);

/// How long a start waits for a broker before it goes on without.
const BROKER_PATIENCE: Duration = Duration::from_secs(1);

/// Why a coordinator did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("the data directory {} (--data or STOKER_DATA) cannot be made", path.display())]
    DataDirectory {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the data directory (--data or STOKER_DATA) cannot be written to")]
    DataNotWritable(#[source] FsError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("opening the store panicked; the log tells where")]
    StorePanicked,
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("the address that is listened on cannot be read")]
    Address(#[source] io::Error),
    #[error("the port cannot be written to the file of --port-file")]
    PortFile(#[source] FsError),
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// See [`JobStore::failed`].
#[derive(Debug, thiserror::Error)]
#[error("the store has failed; the process must start anew to learn what is stored")]
struct StoreFailed;

/// Serves until `tasks` ends.
pub async fn run(config: Config, metrics: MetricsHandle, tasks: &Tasks) -> Result<(), RunError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    if let Some(identity) = &config.identity {
        warn_of_certificates(identity, clock.now());
    }
    if config.operator_token.is_none() && matches!(config.fleet.provider, Some(Provider::Ec2(_))) {
        tracing::warn!(
            "whoever reaches the port may end the fleet's machines: there is no operator token (--operator-token-file)"
        );
    }
    let fleet = Arc::new(config.fleet.clone());
    let registry = Registry::new(Arc::clone(&clock), fleet.job_policy.lease.ttl);
    let hub = Hub::new();
    let events = Events::new(Arc::clone(&registry), Arc::clone(&hub), fleet.classes.clone());
    let store = open_store(&config, &clock, &events).await?;
    let broker = start_broker(&config, &fleet).await?;
    if broker.embedded().is_some() {
        // What an earlier process held in memory is gone.
        crash::around("republish", store.republish()).await?;
    }
    let listener = bind(config.listen).await?;

    let (streams, background) = (tasks.child(), tasks.child());
    let context = Arc::new(Context {
        fleet,
        store: Arc::clone(&store),
        registry,
        hub,
        texts: Texts::new(),
        events,
        broker,
        gate: Gate::new(config.join_token.as_ref()),
        access: Access::new(config.operator_token.as_ref(), config.autoscaler_token.as_ref()),
        identity: config.identity.clone(),
        started_at: clock.now(),
        clock,
        throughput: Arc::default(),
        aside: Arc::default(),
        streams: streams.clone(),
        stream_slots: StreamSlots::default(),
    });
    let readiness = Readiness::default();
    announce(&listener, &config, &context).await?;
    start_background(&context, &readiness, &background);
    metrics.run_upkeep(&background);

    let served = Served { context, readiness, metrics };
    let ended = server::serve(listener, served, tasks.shutdown_token()).await;
    for group in [&streams, &background] {
        if let Err(left) = group.close_and_wait(END_LIMIT).await {
            tracing::warn!(?left, "tasks did not end in time");
        }
    }
    store.close().await;
    tracing::info!("the coordinator has ended");
    Ok(ended?)
}

async fn open_store(
    config: &Config,
    clock: &Arc<dyn Clock>,
    events: &Arc<Events>,
) -> Result<Arc<dyn JobStore>, RunError> {
    let (policy, listener) = (config.fleet.job_policy.clone(), events.listener());
    match &config.store {
        StoreChoice::Sqlite(data) => {
            let options = SqliteOptions { policy, clock: Arc::clone(clock), listener };
            open_sqlite(data.clone(), options).await
        }
        StoreChoice::Postgres(url) => {
            let events = Arc::clone(events);
            let company = match config.broker {
                BrokerChoice::Embedded => Company::Alone,
                BrokerChoice::RabbitMq(_) => Company::Others,
            };
            let options = PostgresOptions {
                policy,
                clock: StoreClock::Database,
                company,
                listener,
                missed: Arc::new(move || events.missed()),
            };
            Ok(Arc::new(PostgresStore::open(url.clone(), options).await?))
        }
    }
}

/// Opens the store on a thread of its own: it checks the whole file.
async fn open_sqlite(data: PathBuf, options: SqliteOptions) -> Result<Arc<dyn JobStore>, RunError> {
    let open = move || {
        check_writable(&data)?;
        Ok(Arc::new(SqliteStore::open(&data, options)?) as Arc<dyn JobStore>)
    };
    tokio::task::spawn_blocking(open).await.unwrap_or(Err(RunError::StorePanicked))
}

/// The database says only "unable to open database file".
fn check_writable(data: &Path) -> Result<(), RunError> {
    // Inputs and results are in there: a folder that is made here is for its owner alone.
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)
        .map_err(|source| RunError::DataDirectory { path: data.to_owned(), source })?;
    let probe = data.join("writable");
    write_atomically(&probe, b"").map_err(RunError::DataNotWritable)?;
    std::fs::remove_file(&probe)
        .map_err(|source| RunError::DataDirectory { path: data.to_owned(), source })
}

/// A broker that is down is no reason not to start: jobs are accepted, and wait.
async fn start_broker(config: &Config, fleet: &Fleet) -> Result<Broker, RunError> {
    let broker = Broker::start(&config.broker, fleet)?;
    if let Err(error) = broker.ready(BROKER_PATIENCE).await {
        let error: &dyn std::error::Error = &error;
        tracing::warn!(error, "there is no broker yet; jobs are accepted, and wait for it");
    }
    match broker.publisher().declare(&lanes(fleet)).await {
        Ok(()) => {}
        // Declared as soon as a connection stands, and told of above.
        Err(error) if !error.needs_operator() => {
            tracing::debug!(%error, "the broker's queues are declared later");
        }
        Err(error) => {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, "the broker's queues could not be declared");
        }
    }
    Ok(broker)
}

fn start_background(context: &Arc<Context>, readiness: &Readiness, background: &Tasks) {
    let shutdown = background.shutdown_token();
    let (watched, stopped) = (Arc::clone(&context.store), shutdown.clone());
    background.spawn_critical("store-watch", async move {
        match stopped.run_until_cancelled(watched.failed()).await {
            Some(()) => Err(StoreFailed),
            None => Ok(()),
        }
    });
    Peers {
        store: Arc::clone(&context.store),
        registry: Arc::clone(&context.registry),
        events: Arc::clone(&context.events),
    }
    .start(background);
    let rounds = OutboxPublisher {
        store: Arc::clone(&context.store),
        broker: context.broker.publisher(),
        events: Arc::clone(&context.events),
        aside: Arc::clone(&context.aside),
    }
    .start(background);
    Dispatcher {
        store: Arc::clone(&context.store),
        registry: Arc::clone(&context.registry),
        events: Arc::clone(&context.events),
        clock: Arc::clone(&context.clock),
        fleet: Arc::clone(&context.fleet),
        throughput: Arc::clone(&context.throughput),
    }
    .start(background, rounds);
    Sweeper {
        store: Arc::clone(&context.store),
        publisher: context.broker.publisher(),
        events: Arc::clone(&context.events),
        clock: Arc::clone(&context.clock),
        fleet: Arc::clone(&context.fleet),
    }
    .start(background);
    let observed = observe(Arc::clone(context), readiness.clone(), shutdown.clone());
    background.spawn_critical("observer", observed);
    background.spawn_critical("needs", tell_needs(Arc::clone(context), shutdown));
}

/// Says where it listens, to people and to programs.
async fn announce(
    listener: &TcpListener,
    config: &Config,
    context: &Context,
) -> Result<(), RunError> {
    let address = listener.local_addr().map_err(RunError::Address)?;
    tracing::info!(
        %address,
        fleet = %context.fleet.name,
        store = context.store.name(),
        at = %config.store,
        broker = context.broker.name(),
        "listening"
    );
    let Some(path) = config.port_file.clone() else { return Ok(()) };
    let text = format!("{}\n", address.port());
    let write = move || write_atomically(&path, text.as_bytes());
    let written = tokio::task::spawn_blocking(write).await;
    written.unwrap_or(Ok(())).map_err(RunError::PortFile)
}
