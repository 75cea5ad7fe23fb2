//! Lets in the workers that have the fleet's join token.

use stoker_proto::status;
use stoker_proto::token::token;
use stoker_runtime::secret::Secret;
use tonic::metadata::MetadataMap;
use tonic::service::Interceptor;
use tonic::{Request, Status};

use super::digest::TokenDigest;

/// What the calls of workers are compared with.
#[derive(Debug, Clone)]
pub struct Gate {
    expected: Option<TokenDigest>,
}

impl Gate {
    /// Without a token everyone is let in.
    pub fn new(token: Option<&Secret>) -> Self {
        Self { expected: token.map(TokenDigest::of) }
    }

    fn check(&self, metadata: &MetadataMap) -> Result<(), Status> {
        let Some(expected) = &self.expected else { return Ok(()) };
        let Some(token) = token(metadata.as_ref()) else {
            return Err(status::join_token_wrong("the fleet asks workers for a join token"));
        };
        if expected.is(token) {
            return Ok(());
        }
        Err(status::join_token_wrong("the join token is not the fleet's"))
    }
}

impl Interceptor for Gate {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        self.check(request.metadata())?;
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use stoker_proto::status::{Reason, explain};
    use stoker_proto::token::{TOKEN_KEY, token_value};
    use tonic::Code;

    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn ask(gate: &Gate, token: Option<&str>) -> Result<(), Status> {
        let mut metadata = MetadataMap::new();
        if let Some(token) = token {
            metadata.insert(TOKEN_KEY, token_value(token).unwrap());
        }
        gate.check(&metadata)
    }

    #[test]
    fn only_the_token_opens_a_gate_that_has_one() {
        let gate = Gate::new(Some(&Secret::new(TOKEN)));
        assert!(ask(&gate, Some(TOKEN)).is_ok());
        for wrong in [None, Some(""), Some("0123456789abcdeF"), Some("0123456789abcdef0")] {
            let explained = explain(&ask(&gate, wrong).unwrap_err());
            assert_eq!(explained.code, Code::Unauthenticated);
            assert_eq!(explained.reason, Some(Reason::JoinTokenWrong));
            assert!(explained.message.contains("--join-token-file"), "{explained}");
            assert!(!explained.message.contains(TOKEN), "{explained}");
        }
        assert!(!format!("{gate:?}").contains(TOKEN));
    }

    #[test]
    fn a_gate_without_a_token_is_open() {
        let gate = Gate::new(None);
        assert!(ask(&gate, None).is_ok() && ask(&gate, Some("anything")).is_ok());
    }
}
