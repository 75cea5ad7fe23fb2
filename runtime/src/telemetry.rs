//! Logs on stderr, spans to an OTLP collector, and panics in the log.
//!
//! Trace context exists and travels whether or not a collector is configured, and neither a slow
//! nor an absent collector ever holds up the process: spans wait in a bounded queue and are
//! dropped when it is full. Metrics are in [`crate::metrics`].

mod export;
mod logs;
mod quiet;

use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::SdkTracerProvider;
use serde::{Deserialize, Serialize};
use tracing::{Level, Metadata, Subscriber, warn};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{ParseError, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

pub use logs::LogFormat;

/// The longest that ending the process waits for the collector to take the last spans.
const FLUSH_LIMIT: Duration = Duration::from_secs(3);

const DEFAULT_LOG_FILTER: &str = "info";

/// What every process can be told about its logs and traces.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TelemetrySettings {
    /// What to log: a level, or `target=level,...` [default: info]
    #[arg(long, env = "STOKER_LOG", value_name = "FILTER")]
    pub log: Option<String>,

    /// How to write logs; `auto` is `human` on a terminal and `json` elsewhere [default: auto]
    #[arg(long, env = "STOKER_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,

    /// Where to send traces over OTLP/gRPC, such as `http://localhost:4317` [default: nowhere, or
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`]
    #[arg(long, env = "STOKER_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,
}

/// Why telemetry could not start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error(
        "`{filter}` is not a log filter (--log or STOKER_LOG): use a level such as `info`, \
         or `stoker_worker=debug,info`"
    )]
    Filter {
        filter: String,
        #[source]
        source: ParseError,
    },
    #[error("{setting} is not the URL of an OTLP collector: {problem}")]
    Endpoint { setting: &'static str, problem: &'static str },
    #[error("cannot set up the export of traces: {reason}")]
    Exporter { reason: String },
    #[error("telemetry with a collector must start on a tokio runtime")]
    NoRuntime,
    #[error("telemetry has been started already in this process")]
    AlreadyStarted,
}

/// Starts logging and tracing for the whole process. Keep the guard until the end.
///
/// `service_name` is what traces show, such as `stoker-coordinator`. From here on panics are
/// logged, one line each, in place of the default message. Besides the settings, OpenTelemetry's
/// own `OTEL_*` variables count (headers, sampler, resource attributes, `OTEL_SDK_DISABLED`).
pub fn init(
    service_name: &'static str,
    settings: &TelemetrySettings,
) -> Result<TelemetryGuard, TelemetryError> {
    let logs = logs::layer(
        settings.log.as_deref().unwrap_or(DEFAULT_LOG_FILTER),
        settings.log_format.unwrap_or_default(),
    )?;
    let provider = export::provider(service_name, settings.otlp_endpoint.as_deref())?;
    tracing_subscriber::registry()
        .with(spans_layer(&provider, service_name))
        .with(logs)
        .try_init()
        .map_err(|_| TelemetryError::AlreadyStarted)?;
    log_panics();
    Ok(TelemetryGuard { provider: Some(provider) })
}

/// Ends telemetry when dropped: waits, within a bound, for the last spans to be sent.
#[derive(Debug)]
#[must_use = "dropping the guard ends the export of traces"]
pub struct TelemetryGuard {
    provider: Option<SdkTracerProvider>,
}

impl TelemetryGuard {
    /// Sends the last spans; gives up after three seconds.
    pub async fn shutdown(mut self) {
        let Some(provider) = self.provider.take() else { return };
        let (running, ended) = tokio::sync::oneshot::channel::<()>();
        end_in_background(provider, running);
        if tokio::time::timeout(FLUSH_LIMIT, ended).await.is_err() {
            warn!("the collector did not take the last spans in time; they are lost");
        }
    }
}

impl Drop for TelemetryGuard {
    fn drop(&mut self) {
        let Some(provider) = self.provider.take() else { return };
        let (running, ended) = std::sync::mpsc::sync_channel::<()>(1);
        end_in_background(provider, running);
        // Ends when the other side is dropped; nobody is left to tell of a timeout.
        let _ = ended.recv_timeout(FLUSH_LIMIT);
    }
}

/// Drops `running` when done. On a thread of its own, since the SDK's shutdown blocks.
fn end_in_background(provider: SdkTracerProvider, running: impl Send + 'static) {
    let body = move || {
        // The exporter logs its own failure.
        let _ = provider.shutdown_with_timeout(FLUSH_LIMIT);
        drop(running);
    };
    let thread = std::thread::Builder::new().name("telemetry-flush".to_owned()).spawn(body);
    if let Err(error) = thread {
        warn!(%error, "cannot start the thread that sends the last spans; they are lost");
    }
}

/// Turns `tracing` spans into OpenTelemetry spans, whatever the log filter hides.
pub(crate) fn spans_layer<S>(provider: &SdkTracerProvider, name: &'static str) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(name))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_filter(filter_fn(is_traced))
}

/// Spans at info and above, events at warning and above; nothing of the exporter's own transport,
/// whose spans would make spans for ever.
fn is_traced(metadata: &Metadata<'_>) -> bool {
    const TRANSPORT: [&str; 6] = ["h2", "hyper", "opentelemetry", "rustls", "tonic", "tower"];
    let lowest = if metadata.is_span() { Level::INFO } else { Level::WARN };
    *metadata.level() <= lowest
        && !TRANSPORT.iter().any(|prefix| metadata.target().starts_with(prefix))
}

fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        tracing::error!(
            message = panic.payload_as_str().unwrap_or("panicked"),
            location = panic.location().map(tracing::field::display),
            thread = thread.name(),
            panicked = true,
        );
    }));
}

#[cfg(test)]
#[path = "telemetry/tests.rs"]
mod tests;
