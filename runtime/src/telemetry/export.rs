//! Where spans go: an OTLP collector, or nowhere.

use http::Uri;
use opentelemetry::KeyValue;
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;

use super::TelemetryError;

const OWN_SETTING: &str = "--otlp-endpoint (STOKER_OTLP_ENDPOINT)";
const STANDARD_SETTINGS: [&str; 2] =
    ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
const DISABLED: &str = "OTEL_SDK_DISABLED";

/// A provider of spans. Without an endpoint its spans have ids, so that context still travels from
/// process to process, and are then forgotten.
pub(super) fn provider(
    service_name: &'static str,
    own_endpoint: Option<&str>,
) -> Result<SdkTracerProvider, TelemetryError> {
    let builder = SdkTracerProvider::builder().with_resource(resource(service_name));
    let builder = match endpoint(own_endpoint, |name| std::env::var(name).ok())? {
        Some(endpoint) => builder.with_batch_exporter(exporter(endpoint)?),
        None => builder,
    };
    Ok(builder.build())
}

fn resource(service_name: &'static str) -> Resource {
    // The builder also reads OTEL_RESOURCE_ATTRIBUTES.
    Resource::builder()
        .with_service_name(service_name)
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new("process.pid", i64::from(std::process::id())))
        .build()
}

fn exporter(endpoint: Endpoint) -> Result<SpanExporter, TelemetryError> {
    if tokio::runtime::Handle::try_current().is_err() {
        return Err(TelemetryError::NoRuntime);
    }
    let builder = SpanExporter::builder().with_tonic().with_endpoint(endpoint.url);
    let builder = if endpoint.encrypted {
        builder.with_tls_config(ClientTlsConfig::new().with_enabled_roots())
    } else {
        builder
    };
    builder.build().map_err(|error| TelemetryError::Exporter { reason: error.to_string() })
}

#[derive(Debug, PartialEq, Eq)]
struct Endpoint {
    url: String,
    encrypted: bool,
}

/// The first that is set and not empty: our own setting, then the standard ones.
fn endpoint(
    own: Option<&str>,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Option<Endpoint>, TelemetryError> {
    if environment(DISABLED).is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Ok(None);
    }
    let own = own.map(|url| (OWN_SETTING, url.to_owned()));
    let standard =
        STANDARD_SETTINGS.into_iter().filter_map(|name| Some((name, environment(name)?)));
    let Some((setting, url)) = own.into_iter().chain(standard).find(|(_, url)| !url.is_empty())
    else {
        return Ok(None);
    };
    let encrypted = check(&url).map_err(|problem| TelemetryError::Endpoint { setting, problem })?;
    Ok(Some(Endpoint { url, encrypted }))
}

/// Whether the URL asks for TLS. The problem never repeats the URL: it may hold credentials.
fn check(url: &str) -> Result<bool, &'static str> {
    let uri: Uri = url.parse().map_err(|_| "write it like http://localhost:4317")?;
    let authority = uri.authority().ok_or("it names no host; write http://localhost:4317")?;
    if authority.as_str().contains('@') {
        return Err("it holds credentials; put them in OTEL_EXPORTER_OTLP_HEADERS");
    }
    match uri.scheme_str() {
        Some("http") => Ok(false),
        Some("https") => Ok(true),
        _ => Err("it must start with http:// or https://"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(
        own: Option<&str>,
        variables: &[(&str, &str)],
    ) -> Result<Option<Endpoint>, TelemetryError> {
        endpoint(own, |name| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    fn url(own: Option<&str>, variables: &[(&str, &str)]) -> Option<String> {
        with(own, variables).unwrap().map(|endpoint| endpoint.url)
    }

    #[test]
    fn our_setting_comes_before_the_standard_ones() {
        let standard = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://general:4317"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces:4317"),
        ];
        assert_eq!(url(None, &[]), None);
        assert_eq!(url(Some(""), &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]), None);
        assert_eq!(url(None, &standard[..1]).unwrap(), "http://general:4317");
        assert_eq!(url(None, &standard).unwrap(), "http://traces:4317");
        assert_eq!(url(Some("http://own:4317"), &standard).unwrap(), "http://own:4317");
        assert_eq!(url(Some("http://own:4317"), &[("OTEL_SDK_DISABLED", "TRUE")]), None);
    }

    #[test]
    fn https_turns_on_tls() {
        assert!(with(Some("https://collector"), &[]).unwrap().unwrap().encrypted);
        assert!(!with(Some("http://collector"), &[]).unwrap().unwrap().encrypted);
    }

    #[test]
    fn a_bad_endpoint_names_the_setting_and_hides_credentials() {
        for bad in ["localhost:4317", "not a url", "ftp://host", "http://user:hunter2@host:4317"] {
            let error =
                with(None, &[("OTEL_EXPORTER_OTLP_ENDPOINT", bad)]).unwrap_err().to_string();
            assert!(error.starts_with("OTEL_EXPORTER_OTLP_ENDPOINT"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn without_a_runtime_a_collector_is_an_error_not_a_panic() {
        let error = provider("test", Some("http://localhost:4317")).unwrap_err();
        assert!(matches!(error, TelemetryError::NoRuntime));
    }
}
