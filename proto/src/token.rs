//! A token on its way: who has one sends it with every call, and the coordinator compares it with its own.

use http::HeaderMap;
use tonic::metadata::errors::InvalidMetadataValue;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};

/// Metadata key that carries the token.
pub const TOKEN_KEY: &str = "authorization";

const SCHEME: &str = "Bearer ";

/// The metadata of a call of a party that has `token`. It is kept out of logs and of header compression.
///
/// # Errors
/// When the token has characters other than visible ASCII.
pub fn token_value(token: &str) -> Result<MetadataValue<Ascii>, InvalidMetadataValue> {
    let mut value = MetadataValue::try_from(format!("{SCHEME}{token}"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The token of a call; `None` if it has none.
pub fn token(headers: &HeaderMap) -> Option<&str> {
    headers.get(TOKEN_KEY)?.to_str().ok()?.strip_prefix(SCHEME)
}

/// Puts a token into the metadata of each call, if there is one.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    value: Option<MetadataValue<Ascii>>,
}

impl Credentials {
    /// A token that no header can carry is none; settings let no such token through.
    pub fn new(token: Option<&str>) -> Self {
        Self { value: token.and_then(|token| token_value(token).ok()) }
    }
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.value {
            request.metadata_mut().insert(TOKEN_KEY, value.clone());
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_arrives_as_it_was_sent_and_shows_itself_nowhere() {
        let mut headers = HeaderMap::new();
        assert_eq!(token(&headers), None);
        let value = token_value("hunter2").unwrap();
        assert!(!format!("{value:?}").contains("hunter2"));
        headers.insert(TOKEN_KEY, "Bearer hunter2".parse().unwrap());
        assert_eq!(token(&headers), Some("hunter2"));
        headers.insert(TOKEN_KEY, "Basic hunter2".parse().unwrap());
        assert_eq!(token(&headers), None);
        assert!(token_value("line\nbreak").is_err());
    }

    #[test]
    fn a_call_shows_the_token_and_without_one_nothing() {
        let mut credentials = Credentials::new(Some("0123456789abcdef"));
        let request = credentials.call(Request::new(())).unwrap();
        assert_eq!(token(request.metadata().as_ref()), Some("0123456789abcdef"));
        assert!(!format!("{credentials:?}").contains("0123456789abcdef"));
        let request = Credentials::new(None).call(Request::new(())).unwrap();
        assert!(request.metadata().is_empty());
    }
}
