//! The connection to the coordinator, and what every call carries.

use std::time::Duration;

use http::Uri;
use stoker_core::ids::TenantName;
use stoker_runtime::trace_context::TraceContext;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use super::Settings;
use crate::failure::Failure;

/// Metadata key of the tenant.
const TENANT: &str = "stoker-tenant";

const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// A coordinator that vanished without a word is noticed after both have passed.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEP_ALIVE_LIMIT: Duration = Duration::from_secs(10);

/// Results are large: let several parts be under way.
const WINDOW_BYTES: u32 = 4 << 20;

pub(super) type Connection = InterceptedService<Channel, Metadata>;

/// Adds tenant and trace context to each call.
#[derive(Debug, Clone)]
pub(super) struct Metadata {
    tenant: Option<MetadataValue<Ascii>>,
}

impl Interceptor for Metadata {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(tenant) = &self.tenant {
            request.metadata_mut().insert(TENANT, tenant.clone());
        }
        let mut headers = std::mem::take(request.metadata_mut()).into_headers();
        TraceContext::current().inject_headers(&mut headers);
        *request.metadata_mut() = MetadataMap::from_headers(headers);
        Ok(request)
    }
}

/// Checks the settings and makes a connection that is established when first used.
pub(super) fn open(settings: &Settings) -> Result<Connection, Failure> {
    let uri = parse_server(&settings.server)?;
    let tenant = settings.tenant.as_deref().map(parse_tenant).transpose()?;
    let channel = Endpoint::from(uri)
        .connect_timeout(CONNECT_LIMIT)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_LIMIT)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .connect_lazy();
    Ok(InterceptedService::new(channel, Metadata { tenant }))
}

fn parse_server(text: &str) -> Result<Uri, Failure> {
    const FORM: &str = "give it as http://HOST:PORT with --server or STOKER_SERVER";
    let invalid = |problem: &str| {
        Failure::usage(format!("`{text}` is not the address of a coordinator: {problem}"))
            .hint(FORM)
    };
    let uri: Uri = text.parse().map_err(|_| invalid("it is not a URL"))?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => return Err(invalid("TLS is not supported")),
        Some(_) | None => return Err(invalid("it does not begin with http://")),
    }
    if uri.port().is_none() {
        return Err(invalid("it has no port"));
    }
    if uri.path_and_query().is_some_and(|rest| rest.as_str() != "/") {
        return Err(invalid("it has a path"));
    }
    Ok(uri)
}

fn parse_tenant(text: &str) -> Result<MetadataValue<Ascii>, Failure> {
    let name = TenantName::new(text).map_err(|error| {
        Failure::usage(error.to_string()).hint("name the tenant with --tenant or STOKER_TENANT")
    })?;
    Ok(name.as_str().parse().expect("names are ASCII"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    #[test]
    fn addresses_that_cannot_work_are_refused_with_the_form() {
        for text in ["", "localhost", "localhost:7070", "https://h:1", "http://h", "http://h:1/x"] {
            let failure = parse_server(text).unwrap_err();
            assert_eq!(failure.exit(), Exit::Usage, "{text}");
            assert!(failure.text().contains("http://HOST:PORT"), "{text}");
        }
        assert!(parse_server("http://127.0.0.1:7070").is_ok());
        assert!(parse_server("http://[::1]:7070/").is_ok());
    }
}
