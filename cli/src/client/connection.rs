//! The connection to the coordinator, and what every call carries.

use stoker_core::ids::TenantName;
use stoker_proto::client;
use stoker_proto::token::Credentials;
use stoker_runtime::secret::Secret;
use stoker_runtime::trace_context::TraceContext;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::Settings;
use crate::failure::Failure;

/// Metadata key of the tenant.
const TENANT: &str = "stoker-tenant";

/// Results are large: let several parts be under way.
const WINDOW_BYTES: u32 = 4 << 20;

pub(super) type Connection = InterceptedService<Channel, Metadata>;

/// One connection, as tenants use it and as operators do.
#[derive(Debug)]
pub(super) struct Connections {
    pub(super) tenant: Connection,
    /// Shows the operators' token.
    pub(super) operator: Connection,
}

/// Adds tenant, credentials and trace context to each call.
#[derive(Debug, Clone)]
pub(super) struct Metadata {
    tenant: Option<MetadataValue<Ascii>>,
    credentials: Credentials,
}

impl Interceptor for Metadata {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let mut request = self.credentials.call(request)?;
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
pub(super) fn open(settings: &Settings) -> Result<Connections, Failure> {
    let tenant = settings.tenant.as_deref().map(parse_tenant).transpose()?;
    let endpoint = client::endpoint(&settings.server).map_err(|error| {
        Failure::usage(error.to_string()).hint("name it with --server or STOKER_SERVER")
    })?;
    let channel = endpoint
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .connect_lazy();
    let connection = |token: Option<&Secret>| {
        let credentials = Credentials::new(token.map(Secret::expose));
        let metadata = Metadata { tenant: tenant.clone(), credentials };
        InterceptedService::new(channel.clone(), metadata)
    };
    let operator = connection(settings.operator_token.as_ref());
    Ok(Connections { tenant: connection(None), operator })
}

fn parse_tenant(text: &str) -> Result<MetadataValue<Ascii>, Failure> {
    let name = TenantName::new(text).map_err(|error| {
        Failure::usage(error.to_string()).hint("name the tenant with --tenant or STOKER_TENANT")
    })?;
    Ok(name.as_str().parse().expect("names are ASCII"))
}
