//! How log lines look and which of them are written.

use std::ffi::OsString;
use std::io::{self, IsTerminal};

use serde::{Deserialize, Serialize};
use tracing::Subscriber;
use tracing_subscriber::filter::{EnvFilter, FilterExt};
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, fmt};

use super::TelemetryError;
use super::quiet::Quiet;

/// How log lines are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// `Human` if stderr is a terminal, `Json` otherwise.
    #[default]
    Auto,
    /// One line of text per event, colored on a terminal unless `NO_COLOR` is set.
    Human,
    /// One JSON object per line, with the fields of the enclosing span.
    Json,
}

/// The layer that writes to stderr what `filter` lets through.
pub(super) fn layer<S>(
    filter: &str,
    format: LogFormat,
) -> Result<impl Layer<S> + use<S>, TelemetryError>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let on_terminal =
        io::stderr().is_terminal().then(|| terminal_style(std::env::var_os("NO_COLOR")));
    let style = style(format, on_terminal);
    layer_to(BoxMakeWriter::new(io::stderr), filter, style)
}

/// [`LogFormat`] with `Auto` resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Colored,
    Json,
}

/// `on_terminal` is the style of a terminal, if there is one.
fn style(format: LogFormat, on_terminal: Option<Style>) -> Style {
    match format {
        LogFormat::Auto => on_terminal.unwrap_or(Style::Json),
        LogFormat::Human => on_terminal.unwrap_or(Style::Plain),
        LogFormat::Json => Style::Json,
    }
}

fn terminal_style(no_color: Option<OsString>) -> Style {
    if no_color.is_none_or(|value| value.is_empty()) { Style::Colored } else { Style::Plain }
}

pub(super) fn layer_to<S>(
    writer: BoxMakeWriter,
    filter: &str,
    style: Style,
) -> Result<impl Layer<S> + use<S>, TelemetryError>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let parsed = EnvFilter::try_new(filter)
        .map_err(|source| TelemetryError::Filter { filter: filter.to_owned(), source })?;
    // A closed stderr must not bring the process down, which reporting it to stderr would.
    let lines = fmt::layer().with_writer(writer).log_internal_errors(false);
    let lines = match style {
        Style::Json => lines.json().flatten_event(true).with_span_list(false).boxed(),
        Style::Plain => lines.with_ansi(false).boxed(),
        Style::Colored => lines.with_ansi(true).boxed(),
    };
    Ok(lines.with_filter(parsed.and(Quiet::default())))
}
