use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use opentelemetry_sdk::trace::InMemorySpanExporter;
use tracing::{debug_span, error_span, info_span};
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use super::logs::{Style, layer_to};
use super::*;
use crate::trace_context::TraceContext;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

fn logged(filter: &str, style: Style, body: impl FnOnce()) -> String {
    let lines = Lines::default();
    let writer = lines.clone();
    let layer = layer_to(BoxMakeWriter::new(move || writer.clone()), filter, style).unwrap();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), body);
    lines.text()
}

#[test]
fn json_lines_hold_the_event_and_its_span() {
    let text = logged("info", Style::Json, || {
        let _entered = info_span!("attempt", job = "j1").entered();
        tracing::info!(items = 3, "batch done");
        tracing::debug!("hidden");
    });
    let line: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["message"], "batch done");
    assert_eq!(line["items"], 3);
    assert_eq!(line["level"], "INFO");
    assert_eq!(line["span"]["job"], "j1");
}

#[test]
fn human_lines_are_plain_unless_colored() {
    let event = || tracing::info!(items = 3, "batch done");
    let plain = logged("info", Style::Plain, event);
    assert!(plain.contains("batch done items=3") && !plain.contains('\u{1b}'), "{plain}");
    assert!(logged("info", Style::Colored, event).contains('\u{1b}'));
}

#[test]
fn a_failing_exporter_says_so_once_not_in_a_storm() {
    let text = logged("info", Style::Plain, || {
        for _ in 0..1_000 {
            tracing::warn!(target: "opentelemetry-otlp", "export failed");
        }
        tracing::warn!("our own trouble");
        tracing::warn!("our own trouble");
    });
    assert_eq!(text.matches("export failed").count(), 1, "{text}");
    assert_eq!(text.matches("our own trouble").count(), 2, "{text}");
}

#[test]
fn a_bad_filter_names_the_setting() {
    let settings =
        TelemetrySettings { log: Some("stoker=loud".to_owned()), ..TelemetrySettings::default() };
    let error = init("test", &settings).unwrap_err().to_string();
    assert!(error.contains("`stoker=loud`") && error.contains("STOKER_LOG"), "{error}");
}

#[test]
fn without_a_collector_context_exists_even_for_spans_the_log_hides() {
    let provider = export::provider("test", None).unwrap();
    let subscriber = tracing_subscriber::registry()
        .with(spans_layer(&provider, "test"))
        .with(layer_to(BoxMakeWriter::new(io::sink), "error", Style::Plain).unwrap());
    tracing::subscriber::with_default(subscriber, || {
        let outer = info_span!("outer");
        let outer_context = outer.in_scope(TraceContext::current);
        let inner = info_span!(parent: &outer, "inner").in_scope(TraceContext::current);
        let trace = |context: &TraceContext| context.traceparent().unwrap()[3..35].to_owned();
        assert_eq!(trace(&outer_context), trace(&inner));
        assert!(outer_context.traceparent().unwrap().ends_with("-01"), "sampled for the next");
    });
}

#[test]
fn only_our_spans_at_info_and_above_are_traced() {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let subscriber = tracing_subscriber::registry().with(spans_layer(&provider, "test"));
    tracing::subscriber::with_default(subscriber, || {
        drop(error_span!("kept").entered());
        drop(debug_span!("too-detailed").entered());
        drop(info_span!(target: "h2::client", "transport").entered());
        drop(info_span!(target: "opentelemetry_sdk", "transport").entered());
    });
    let spans = exporter.get_finished_spans().unwrap();
    let names: Vec<_> = spans.iter().map(|span| span.name.as_ref()).collect();
    assert_eq!(names, ["kept"]);
}

/// A port on which nobody answers: connections are taken by the kernel and then ignored.
fn black_hole() -> (std::net::TcpListener, String) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}

fn trace_many(provider: &SdkTracerProvider) {
    let subscriber = tracing_subscriber::registry().with(spans_layer(provider, "test"));
    tracing::subscriber::with_default(subscriber, || {
        for _ in 0..10_000 {
            drop(info_span!("work").entered());
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_hangs_or_is_gone_holds_up_neither_work_nor_shutdown() {
    let (_listener, hanging) = black_hole();
    let gone = black_hole().1;
    for url in [hanging, gone] {
        let provider = export::provider("test", Some(&url)).unwrap();
        let started = Instant::now();
        trace_many(&provider);
        TelemetryGuard { provider: Some(provider) }.shutdown().await;
        assert!(started.elapsed() < FLUSH_LIMIT * 2, "{:?}", started.elapsed());
    }
}

#[tokio::test]
async fn dropping_the_guard_is_bounded_even_on_one_thread() {
    let (_listener, url) = black_hole();
    let provider = export::provider("test", Some(&url)).unwrap();
    trace_many(&provider);
    let started = Instant::now();
    drop(TelemetryGuard { provider: Some(provider) });
    assert!(started.elapsed() < FLUSH_LIMIT * 2, "{:?}", started.elapsed());
}
