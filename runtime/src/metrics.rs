//! Metrics of this process, in the Prometheus format.
//!
//! Other crates record through the `metrics` facade; its exporter lives here only.

mod server;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::tasks::Tasks;

pub use server::serve;

/// Histograms of `..._seconds`: 1 ms to 1 h.
const SECONDS: [f64; 20] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    120.0, 300.0, 600.0, 1_800.0, 3_600.0,
];

/// Histograms of `..._bytes`: 256 B to 256 MiB.
const BYTES: [f64; 11] = [
    256.0,
    1_024.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
    268_435_456.0,
];

/// Histograms of `..._ratio`.
const RATIO: [f64; 10] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];

/// Histograms of anything else count things, such as the items of a batch.
const COUNTS: [f64; 15] = [
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0, 2_048.0, 4_096.0, 8_192.0,
    16_384.0,
];

/// How often recorded samples are folded into the buckets when nobody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

const TASK_PANICS: &str = "stoker_runtime_task_panics_total";

/// Counts and logs a task that panicked; the panic itself is logged with its place.
pub(crate) fn task_panicked(task: &'static str) {
    metrics::counter!(TASK_PANICS, "task" => task).increment(1);
    tracing::error!(task, "task panicked");
}

/// Why metrics could not start.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    #[error("cannot collect metrics: another recorder is installed in this process")]
    OtherRecorder,
}

/// Reads the metrics of this process. Clones are equal.
#[derive(Clone)]
pub struct MetricsHandle {
    prometheus: PrometheusHandle,
}

impl std::fmt::Debug for MetricsHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MetricsHandle").finish_non_exhaustive()
    }
}

impl MetricsHandle {
    /// All metrics in the Prometheus text format.
    pub fn render(&self) -> String {
        self.prometheus.render()
    }

    /// Keeps the memory of histograms bounded until `tasks` ends; [`serve`] does this too.
    pub fn run_upkeep(&self, tasks: &Tasks) {
        let handle = self.clone();
        let shutdown = tasks.shutdown_token();
        tasks.spawn("metrics-upkeep", async move {
            let mut ticks = tokio::time::interval(UPKEEP);
            while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
                handle.prometheus.run_upkeep();
            }
        });
    }
}

/// Collects what this process records through the `metrics` facade from now on.
///
/// A second call gives the same handle, so that several services can run in one test process.
pub fn install() -> Result<MetricsHandle, MetricsError> {
    static INSTALLED: Mutex<Option<MetricsHandle>> = Mutex::new(None);
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = &*installed {
        return Ok(handle.clone());
    }
    let recorder = builder().build_recorder();
    let handle = MetricsHandle { prometheus: recorder.handle() };
    metrics::set_global_recorder(recorder).map_err(|_| MetricsError::OtherRecorder)?;
    metrics::describe_counter!(TASK_PANICS, "Background tasks that panicked, by name");
    *installed = Some(handle.clone());
    Ok(handle)
}

fn builder() -> PrometheusBuilder {
    let suffix = |text: &str| Matcher::Suffix(text.to_owned());
    PrometheusBuilder::new()
        .set_buckets(&COUNTS)
        .and_then(|builder| builder.set_buckets_for_metric(suffix("_seconds"), &SECONDS))
        .and_then(|builder| builder.set_buckets_for_metric(suffix("_bytes"), &BYTES))
        .and_then(|builder| builder.set_buckets_for_metric(suffix("_ratio"), &RATIO))
        .expect("no list of buckets is empty")
}

#[cfg(test)]
#[path = "metrics/tests.rs"]
mod tests;
