//! From lapin's errors to ours: what happened, and what the operator can do.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use lapin::ErrorKind;
use tokio::time::timeout;

use super::uri::BrokerUri;
use crate::error::{BrokerError, Cause};

const ACCESS_REFUSED: u16 = 403;
const NOT_FOUND: u16 = 404;
const PRECONDITION_FAILED: u16 = 406;
const NOT_ALLOWED: u16 = 530;

/// What the broker said when it closed a channel or connection: reply code and text.
pub(super) fn reply(error: &lapin::Error) -> Option<(u16, String)> {
    match error.kind() {
        ErrorKind::ProtocolError(reply) => Some((reply.get_id(), reply.get_message().to_string())),
        _ => None,
    }
}

/// A passive declare or consume of a queue that does not exist.
pub(super) fn is_not_found(error: &lapin::Error) -> bool {
    matches!(reply(error), Some((NOT_FOUND, _)))
}

/// Why connecting failed.
pub(super) fn connecting(error: lapin::Error, uri: &BrokerUri) -> BrokerError {
    let address = uri.address();
    let user = uri.user().to_owned();
    match reply(&error) {
        Some((ACCESS_REFUSED, _)) => return BrokerError::AccessRefused { address, user },
        Some((NOT_ALLOWED, detail)) => {
            let vhost = uri.vhost().to_owned();
            return BrokerError::VirtualHost { address, user, vhost, detail };
        }
        Some((_, detail)) => {
            return BrokerError::Refused { doing: format!("connecting to {address}"), detail };
        }
        None => {}
    }
    let doubtful = match error.kind() {
        ErrorKind::IOError(io) => is_conversation(io.kind()),
        ErrorKind::ParsingError(_)
        | ErrorKind::InvalidProtocolVersion(_)
        | ErrorKind::InvalidConnectionState(_) => true,
        _ => false,
    };
    let cause: Cause = Arc::new(error);
    match (doubtful, uri.is_tls()) {
        (true, true) => BrokerError::Tls { address, cause },
        (true, false) => BrokerError::Handshake { address, cause },
        (false, _) => BrokerError::Unreachable { address, cause },
    }
}

/// Somebody listens there, but we did not understand each other.
fn is_conversation(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::InvalidData
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
    )
}

/// Why a request on a standing connection failed.
pub(super) fn requesting(error: lapin::Error, doing: &str) -> BrokerError {
    let doing = doing.to_owned();
    match reply(&error) {
        Some((ACCESS_REFUSED, detail)) => BrokerError::Forbidden { doing, detail },
        Some((PRECONDITION_FAILED, detail)) => BrokerError::Conflict { doing, detail },
        // 3xx: the broker goes down or closed the connection on an operator's request.
        Some((code, detail)) if !(300..400).contains(&code) => {
            BrokerError::Refused { doing, detail }
        }
        Some(_) | None => BrokerError::Lost { doing, cause: Arc::new(error) },
    }
}

/// Awaits a request to lapin, but not for ever.
pub(super) async fn bounded<T>(
    doing: &str,
    limit: Duration,
    request: impl Future<Output = Result<T, lapin::Error>>,
) -> Result<T, BrokerError> {
    match timeout(limit, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(requesting(error, doing)),
        Err(_) => Err(BrokerError::TimedOut { doing: doing.to_owned(), after: limit }),
    }
}

#[cfg(test)]
mod tests {
    use lapin::protocol::AMQPError;

    use super::*;

    fn uri(text: &str) -> BrokerUri {
        BrokerUri::parse(text).unwrap()
    }

    fn protocol(code: u16) -> lapin::Error {
        ErrorKind::ProtocolError(AMQPError::from_id(code, "detail".into()).unwrap()).into()
    }

    fn io_error(kind: io::ErrorKind) -> lapin::Error {
        io::Error::from(kind).into()
    }

    #[test]
    fn every_refusal_says_what_to_do_and_never_the_password() {
        let plain = uri("amqp://stoker:s3cr3t@mq/prod");
        let tls = uri("amqps://stoker:s3cr3t@mq/prod");
        for (error, uri, expected) in [
            (protocol(403), &plain, "refused the login of user `stoker`"),
            (protocol(530), &plain, "virtual host `prod`"),
            (io_error(io::ErrorKind::ConnectionRefused), &plain, "start the broker"),
            (io_error(io::ErrorKind::ConnectionRefused), &tls, "start the broker"),
            (io_error(io::ErrorKind::InvalidData), &tls, "could not set up TLS"),
            (io_error(io::ErrorKind::ConnectionReset), &tls, "could not set up TLS"),
            (io_error(io::ErrorKind::ConnectionReset), &plain, "use amqps:// for TLS"),
        ] {
            let error = connecting(error, uri);
            let text = format!("{error} {error:?}");
            assert!(error.to_string().contains(expected), "{text}");
            assert!(!text.contains("s3cr3t"), "{text}");
        }
    }

    #[test]
    fn requests_tell_permission_conflict_and_loss_apart() {
        let doing = "declaring queue q";
        assert!(matches!(requesting(protocol(403), doing), BrokerError::Forbidden { .. }));
        assert!(matches!(requesting(protocol(406), doing), BrokerError::Conflict { .. }));
        assert!(matches!(requesting(protocol(320), doing), BrokerError::Lost { .. }));
        assert!(matches!(requesting(protocol(540), doing), BrokerError::Refused { .. }));
        let lost = requesting(io_error(io::ErrorKind::BrokenPipe), doing);
        assert!(matches!(lost, BrokerError::Lost { .. }));
        assert!(is_not_found(&protocol(404)) && !is_not_found(&protocol(406)));
    }
}
