use opentelemetry::trace::{SpanId, TraceId};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use tracing::info_span;
use tracing_subscriber::layer::SubscriberExt;

use super::*;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Runs `body` with the layer that production uses; gives the finished spans.
fn spans_of(body: impl FnOnce()) -> Vec<SpanData> {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let subscriber =
        tracing_subscriber::registry().with(crate::telemetry::spans_layer(&provider, "test"));
    tracing::subscriber::with_default(subscriber, body);
    exporter.get_finished_spans().unwrap()
}

fn span<'a>(spans: &'a [SpanData], name: &str) -> &'a SpanData {
    spans.iter().find(|span| span.name == name).unwrap()
}

#[test]
fn a_trace_goes_on_across_headers_and_pairs() {
    let spans = spans_of(|| {
        let mut headers = HeaderMap::new();
        info_span!("submit").in_scope(|| TraceContext::current().inject_headers(&mut headers));

        let accept = info_span!("accept");
        TraceContext::from_headers(&headers).set_parent(&accept);
        let pairs = accept.in_scope(|| TraceContext::current().to_pairs());

        let work = info_span!("work");
        TraceContext::from_pairs(pairs).set_parent(&work);
        work.in_scope(|| {});
    });
    let (submit, accept, work) =
        (span(&spans, "submit"), span(&spans, "accept"), span(&spans, "work"));
    assert_eq!(submit.parent_span_id, SpanId::INVALID);
    assert_eq!(accept.parent_span_id, submit.span_context.span_id());
    assert_eq!(work.parent_span_id, accept.span_context.span_id());
    for span in [accept, work] {
        assert_eq!(span.span_context.trace_id(), submit.span_context.trace_id());
    }
}

#[test]
fn a_batch_is_linked_to_each_of_its_causes() {
    let spans = spans_of(|| {
        let causes: Vec<_> = ["one", "two"]
            .map(|name| info_span!("cause", name).in_scope(TraceContext::current))
            .into();
        let batch = info_span!("batch");
        for cause in &causes {
            cause.link(&batch);
        }
        TraceContext::default().link(&batch);
        batch.in_scope(|| {});
    });
    let batch = span(&spans, "batch");
    let causes: Vec<_> = spans.iter().filter(|span| span.name == "cause").collect();
    let linked: Vec<_> = batch.links.iter().map(|link| link.span_context.span_id()).collect();
    assert_eq!(linked, [causes[0].span_context.span_id(), causes[1].span_context.span_id()]);
    assert!(causes.iter().all(|c| c.span_context.trace_id() != batch.span_context.trace_id()));
}

#[test]
fn context_from_elsewhere_keeps_its_state() {
    let context = TraceContext::new(Some(PARENT), Some("vendor=value"));
    let spans = spans_of(|| {
        let span = info_span!("work");
        context.set_parent(&span);
        let inner = span.in_scope(TraceContext::current);
        assert_eq!(inner.tracestate(), Some("vendor=value"));
    });
    let expected = TraceId::from_hex("4bf92f3577b34da6a3ce929d0e0e4736").unwrap();
    assert_eq!(spans[0].span_context.trace_id(), expected);
    assert_eq!(spans[0].parent_span_id, SpanId::from_hex("00f067aa0ba902b7").unwrap());
}

#[test]
fn without_telemetry_there_is_no_context_and_no_error() {
    let context = TraceContext::current();
    assert!(context.is_empty());
    assert!(context.to_pairs().is_empty());
    context.set_parent(&info_span!("work"));
    context.link(&info_span!("work"));
}

#[test]
fn what_comes_from_outside_is_checked_and_bounded() {
    let megabyte = "a".repeat(1 << 20);
    for bad in [
        "",
        "garbage",
        megabyte.as_str(),
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
        "00-4bf92f3577b34da6a3ce929d0e0e47ä-00f067aa0ba902b7-01",
    ] {
        assert!(TraceContext::new(Some(bad), Some("a=b")).is_empty(), "{bad:.60}");
    }
    for bad_state in [megabyte.as_str(), "", "a=\nb", "a=ä"] {
        let context = TraceContext::new(Some(PARENT), Some(bad_state));
        assert_eq!((context.traceparent(), context.tracestate()), (Some(PARENT), None));
    }
}

#[test]
fn stored_context_is_checked_when_it_is_read() {
    let context = TraceContext::new(Some(PARENT), Some("a=b"));
    let stored = serde_json::to_string(&context).unwrap();
    assert_eq!(serde_json::from_str::<TraceContext>(&stored).unwrap(), context);
    assert_eq!(serde_json::to_string(&TraceContext::default()).unwrap(), "{}");
    let forged = format!(r#"{{"traceparent":"{}"}}"#, "a".repeat(1 << 20));
    assert!(serde_json::from_str::<TraceContext>(&forged).unwrap().is_empty());
}

#[test]
fn header_names_are_found_in_any_case_and_replaced() {
    let pairs = [("TraceParent", PARENT), ("other", "x"), ("TRACESTATE", "a=b")];
    let context = TraceContext::from_pairs(pairs);
    assert_eq!((context.traceparent(), context.tracestate()), (Some(PARENT), Some("a=b")));

    let mut headers = HeaderMap::new();
    context.inject_headers(&mut headers);
    assert_eq!(TraceContext::from_headers(&headers), context);
    TraceContext::default().inject_headers(&mut headers);
    assert!(headers.is_empty());
}
