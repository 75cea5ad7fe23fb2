//! What every call to the coordinator shows: the join token, if the worker has one.

use stoker_proto::join_token::{JOIN_TOKEN_KEY, join_token_value};
use stoker_runtime::secret::Secret;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};

/// Puts the join token into the metadata of a call.
#[derive(Debug, Clone)]
pub struct Credentials {
    value: Option<MetadataValue<Ascii>>,
}

impl Credentials {
    /// A token that no header can carry is none; the settings let no such token through.
    pub fn new(join_token: Option<&Secret>) -> Self {
        Self { value: join_token.and_then(|token| join_token_value(token.expose()).ok()) }
    }
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.value {
            request.metadata_mut().insert(JOIN_TOKEN_KEY, value.clone());
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use stoker_proto::join_token::join_token;

    use super::*;

    #[test]
    fn a_call_shows_the_token_and_without_one_nothing() {
        let token = Secret::new("0123456789abcdef");
        let mut credentials = Credentials::new(Some(&token));
        let request = credentials.call(Request::new(())).unwrap();
        assert_eq!(join_token(request.metadata()), Some("0123456789abcdef"));
        assert!(!format!("{credentials:?}").contains("0123456789abcdef"));
        let request = Credentials::new(None).call(Request::new(())).unwrap();
        assert!(request.metadata().is_empty());
    }
}
