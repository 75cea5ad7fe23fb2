//! Keeps an exporter that cannot reach its collector from filling the log.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::{Event, Metadata};
use tracing_subscriber::layer::{Context, Filter};

/// The OpenTelemetry crates log under their package names.
const EXPORTER: &str = "opentelemetry";

const PAUSE: Duration = Duration::from_mins(1);

/// Lets one message of the exporter through per minute, and everything else.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    last: Mutex<Option<Instant>>,
}

impl Quiet {
    fn lets_exporter_speak(&self, now: Instant) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| now.saturating_duration_since(last) >= PAUSE);
        if due {
            *last = Some(now);
        }
        due
    }
}

impl<S> Filter<S> for Quiet {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        !event.metadata().target().starts_with(EXPORTER) || self.lets_exporter_speak(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exporter_speaks_once_a_minute() {
        let quiet = Quiet::default();
        let start = Instant::now();
        let at = |seconds| quiet.lets_exporter_speak(start + Duration::from_secs(seconds));
        assert_eq!(
            [0, 1, 59, 60, 61, 119, 120].map(at),
            [true, false, false, true, false, false, true]
        );
    }
}
