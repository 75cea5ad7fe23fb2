//! The W3C trace context that ties one job's spans together over every process and queue.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::{SpanContext, TraceContextExt};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use serde::{Deserialize, Serialize};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";

/// `00-<32 hex>-<16 hex>-<2 hex>`.
const TRACEPARENT_LENGTH: usize = 55;

/// What the W3C asks every party to carry; more is dropped, as it allows.
const MAX_TRACESTATE_LENGTH: usize = 512;

/// Where in which trace something was caused. Small and valid by construction: whatever comes from
/// outside and is oversized or malformed reads as "no context".
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Untrusted")]
pub struct TraceContext {
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracestate: Option<String>,
}

#[derive(Deserialize)]
struct Untrusted {
    #[serde(default)]
    traceparent: Option<String>,
    #[serde(default)]
    tracestate: Option<String>,
}

impl From<Untrusted> for TraceContext {
    fn from(untrusted: Untrusted) -> Self {
        Self::new(untrusted.traceparent.as_deref(), untrusted.tracestate.as_deref())
    }
}

impl TraceContext {
    /// The context with these header values; without a valid `traceparent` it is empty.
    pub fn new(traceparent: Option<&str>, tracestate: Option<&str>) -> Self {
        let Some(traceparent) = traceparent.filter(|text| is_traceparent(text)) else {
            return Self::default();
        };
        Self {
            traceparent: Some(traceparent.to_owned()),
            tracestate: tracestate.filter(|text| is_tracestate(text)).map(str::to_owned),
        }
    }

    /// The context of the current `tracing` span; empty outside a span or without telemetry.
    pub fn current() -> Self {
        Self::of(&Span::current())
    }

    /// The context of `span`.
    pub fn of(span: &Span) -> Self {
        let mut carrier = Self::default();
        TraceContextPropagator::new().inject_context(&span.context(), &mut carrier);
        // The propagator writes an empty tracestate where there is none.
        Self::new(carrier.traceparent.as_deref(), carrier.tracestate.as_deref())
    }

    pub fn traceparent(&self) -> Option<&str> {
        self.traceparent.as_deref()
    }

    pub fn tracestate(&self) -> Option<&str> {
        self.tracestate.as_deref()
    }

    /// Whether there is nothing to carry.
    pub fn is_empty(&self) -> bool {
        self.traceparent.is_none()
    }

    /// Makes `span` a part of this trace, below the span this context was taken from.
    ///
    /// Call it before `span` is entered; later, or on an empty context, it has no effect.
    pub fn set_parent(&self, span: &Span) {
        if self.is_empty() {
            return;
        }
        let context = TraceContextPropagator::new().extract(self);
        if let Err(error) = span.set_parent(context) {
            tracing::debug!(%error, "span keeps its parent");
        }
    }

    /// Refers from `span` to this context: for a span with many causes, such as a batch, or one
    /// that starts long after its cause.
    pub fn link(&self, span: &Span) {
        if let Some(context) = self.span_context() {
            span.add_link(context);
        }
    }

    /// Header names and values, for carriers other than HTTP such as AMQP headers.
    pub fn to_pairs(&self) -> Vec<(String, String)> {
        let pair = |name: &str, value: &Option<String>| Some((name.to_owned(), value.clone()?));
        [pair(TRACEPARENT, &self.traceparent), pair(TRACESTATE, &self.tracestate)]
            .into_iter()
            .flatten()
            .collect()
    }

    /// Reads what [`TraceContext::to_pairs`] wrote; other names are ignored, case does not matter.
    pub fn from_pairs<K, V>(pairs: impl IntoIterator<Item = (K, V)>) -> Self
    where
        K: AsRef<str>,
        V: AsRef<str>,
    {
        let (mut traceparent, mut tracestate) = (None, None);
        for (name, value) in pairs {
            if name.as_ref().eq_ignore_ascii_case(TRACEPARENT) {
                traceparent = Some(value);
            } else if name.as_ref().eq_ignore_ascii_case(TRACESTATE) {
                tracestate = Some(value);
            }
        }
        Self::new(traceparent.as_ref().map(V::as_ref), tracestate.as_ref().map(V::as_ref))
    }

    /// Writes the context to HTTP headers or gRPC metadata, in place of what was there.
    pub fn inject_headers(&self, headers: &mut HeaderMap) {
        for name in [TRACEPARENT, TRACESTATE] {
            headers.remove(name);
            let value = self.get(name).and_then(|value| HeaderValue::from_str(value).ok());
            if let Some(value) = value {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
    }

    /// Reads the context from HTTP headers or gRPC metadata.
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let value = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        Self::new(value(TRACEPARENT), value(TRACESTATE))
    }

    fn span_context(&self) -> Option<SpanContext> {
        let context = TraceContextPropagator::new().extract(self);
        Some(context.span().span_context().clone()).filter(SpanContext::is_valid)
    }
}

impl Extractor for TraceContext {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            TRACEPARENT => self.traceparent(),
            TRACESTATE => self.tracestate(),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT, TRACESTATE]
    }
}

impl Injector for TraceContext {
    fn set(&mut self, key: &str, value: String) {
        match key {
            TRACEPARENT => self.traceparent = Some(value),
            TRACESTATE => self.tracestate = Some(value),
            _ => {}
        }
    }
}

fn is_traceparent(text: &str) -> bool {
    let is_hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_id = |part: &str, length| is_hex(part, length) && part.bytes().any(|b| b != b'0');
    if text.len() != TRACEPARENT_LENGTH {
        return false;
    }
    let mut parts = text.split('-');
    let mut next = || parts.next().unwrap_or_default();
    let (version, trace, span, flags) = (next(), next(), next(), next());
    is_hex(version, 2) && version != "ff" && is_id(trace, 32) && is_id(span, 16) && is_hex(flags, 2)
}

fn is_tracestate(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_TRACESTATE_LENGTH
        && text.bytes().all(|b| b == b' ' || b.is_ascii_graphic())
}

#[cfg(test)]
#[path = "trace_context/tests.rs"]
mod tests;
