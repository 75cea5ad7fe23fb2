//! The join token on its way: workers send it with every call, coordinators compare it with their own.

use tonic::metadata::errors::InvalidMetadataValue;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};

/// Metadata key that carries the token.
pub const JOIN_TOKEN_KEY: &str = "authorization";

const SCHEME: &str = "Bearer ";

/// The metadata of a call of a worker that has `token`. It is kept out of logs and of header compression.
///
/// # Errors
/// When the token has characters other than visible ASCII.
pub fn join_token_value(token: &str) -> Result<MetadataValue<Ascii>, InvalidMetadataValue> {
    let mut value = MetadataValue::try_from(format!("{SCHEME}{token}"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The token of a call; `None` if it has none.
pub fn join_token(metadata: &MetadataMap) -> Option<&str> {
    metadata.get(JOIN_TOKEN_KEY)?.to_str().ok()?.strip_prefix(SCHEME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_arrives_as_it_was_sent_and_shows_itself_nowhere() {
        let mut metadata = MetadataMap::new();
        assert_eq!(join_token(&metadata), None);
        let value = join_token_value("hunter2").unwrap();
        assert!(!format!("{value:?}").contains("hunter2"));
        metadata.insert(JOIN_TOKEN_KEY, value);
        assert_eq!(join_token(&metadata), Some("hunter2"));
        metadata.insert(JOIN_TOKEN_KEY, "Basic hunter2".parse().unwrap());
        assert_eq!(join_token(&metadata), None);
        assert!(join_token_value("line\nbreak").is_err());
    }
}
