//! One autoscaler's process from start to end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use stoker_core::fleet::Policy;
use stoker_core::fleet::execute::Rules;
use stoker_proto::client::AddressError;
use stoker_runtime::clock::{Clock, SystemClock};
use stoker_runtime::metrics::{self as exporter, MetricsHandle};
use stoker_runtime::net::{BindError, bind};
use stoker_runtime::tasks::Tasks;
use tokio::sync::watch;

use crate::autoscaler::{Autoscaler, Parts};
use crate::config::Config;
use crate::coordinator::Coordinator;
use crate::journal::Journal;
use crate::provider::{Opened, ProviderError};
use crate::sites;

/// A failing round is logged again after so long, if nothing else happens.
const LOG_AGAIN: Duration = Duration::from_mins(1);
/// An autoscaler that has had no answer for so long is not ready.
const UNREADY_AFTER: Duration = Duration::from_secs(30);

/// Why an autoscaler did not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Provider(#[from] ProviderError),
    #[error(transparent)]
    Coordinator(#[from] AddressError),
    #[error(transparent)]
    Bind(#[from] BindError),
}

/// Scales the fleet until `tasks` ends. A coordinator that is away is waited for.
pub async fn run(config: Config, metrics: MetricsHandle, tasks: &Tasks) -> Result<(), RunError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let opened = Opened::open(&config, &clock, tasks).await?;
    let listener = bind(config.metrics_listen).await?;
    let address = listener.local_addr().unwrap_or(config.metrics_listen);
    let (readiness, ready) =
        watch::channel(Err("it has not heard from the coordinator".to_owned()));
    metrics.run_upkeep(tasks);
    exporter::serve(listener, metrics, move || ready.borrow().clone(), tasks);
    tracing::info!(%address, "metrics are served");
    if Policy::of(&config.fleet).pools.is_empty() {
        tracing::warn!("no pool has offerings: nothing is bought, and what is there is drained");
    }
    let sites = sites(&config.fleet);
    let mut autoscaler = Autoscaler::new(Parts {
        fleet: Arc::new(config.fleet),
        sites,
        rules: Rules::default(),
        coordinator: Coordinator::new(&config.coordinator, config.token.as_ref())?,
        cloud: Arc::clone(&opened.cloud),
        clock,
        journal: Journal::new(Some(config.journal), config.journal_days),
        term: config.term,
        list_every: opened.list_every,
        worker_version: config.worker_version,
    });
    let shutdown = tasks.shutdown_token();
    let mut trouble = Trouble { readiness, said: None, heard: Instant::now() };
    loop {
        match autoscaler.round().await {
            Ok(_) => trouble.over(),
            Err(error) => trouble.is(&error.to_string()),
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(config.interval) => {}
        }
    }
    autoscaler.end().await;
    opened.close().await;
    tracing::info!("the autoscaler has ended");
    Ok(())
}

/// What keeps rounds from being made: said once, and then now and again.
struct Trouble {
    readiness: watch::Sender<Result<(), String>>,
    said: Option<(String, Instant)>,
    heard: Instant,
}

impl Trouble {
    fn over(&mut self) {
        self.heard = Instant::now();
        if self.said.take().is_some() {
            tracing::info!("rounds are made again");
        }
        self.readiness.send_if_modified(|ready| {
            let changes = ready.is_err();
            *ready = Ok(());
            changes
        });
    }

    fn is(&mut self, what: &str) {
        let news =
            self.said.as_ref().is_none_or(|(said, at)| said != what || at.elapsed() >= LOG_AGAIN);
        if news {
            tracing::warn!(what, "no round: machines stay as they are");
            self.said = Some((what.to_owned(), Instant::now()));
        }
        if self.heard.elapsed() >= UNREADY_AFTER {
            drop(self.readiness.send_replace(Err(what.to_owned())));
        }
    }
}
