//! The broker's version, and what it means for long jobs.
//!
//! lapin keeps the server's properties to itself, so the version is read on a short connection of
//! its own that stops after the broker's first frame.

use std::fmt;
use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt};
use lapin::protocol::{AMQPClass, connection, parse_class};
use lapin::tcp::{AMQPUriTcpExt, OwnedTLSConfig};
use lapin::types::AMQPValue;
use lapin::uri::AMQPUri;

/// A RabbitMQ release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerVersion {
    pub major: u16,
    pub minor: u16,
    pub patch: u16,
}

/// RabbitMQ's own default for `consumer_timeout`.
const DEFAULT_CONSUMER_TIMEOUT: Duration = Duration::from_mins(30);

/// Oldest release with everything that the topology relies on.
const OLDEST: ServerVersion = ServerVersion { major: 3, minor: 10, patch: 0 };

const PROTOCOL_HEADER: &[u8] = b"AMQP\x00\x00\x09\x01";
const FRAME_HEADER_BYTES: usize = 7;
const MAX_FRAME_BYTES: usize = 64 * 1024;

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl ServerVersion {
    /// Reads `3.10.8`, `4.1.0-beta.2` and the like.
    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split(['.', '-', '+']).map(|part| part.parse::<u16>().ok());
        Some(Self {
            major: numbers.next()??,
            minor: numbers.next()??,
            patch: numbers.next().flatten().unwrap_or(0),
        })
    }

    /// What the operator should know about this release; `None` when nothing.
    pub(super) fn advice(self, longest_job: Option<Duration>) -> Option<&'static str> {
        if self < OLDEST {
            return Some(
                "this RabbitMQ is older than 3.10, without at-least-once dead letters: upgrade it",
            );
        }
        if longest_job? <= DEFAULT_CONSUMER_TIMEOUT / 2 {
            return None;
        }
        Some(match (self.major, self.minor) {
            (..=3, ..=11) => {
                "jobs may run into consumer_timeout, after which a worker's consumer is closed and \
                 its messages come again (each costs one claim): set consumer_timeout in \
                 rabbitmq.conf above the longest job; this release has no limit per queue"
            }
            (_, _) => {
                "jobs may run into consumer_timeout, after which a worker's consumer is closed and \
                 its messages come again (each costs one claim): set a policy with \
                 consumer-timeout above the longest job on the queues of this fleet"
            }
        })
    }
}

/// Asks the broker, within `limit`; `None` when it does not say. Call it on the client's runtime.
pub(super) async fn read(
    uri: AMQPUri,
    tls: OwnedTLSConfig,
    limit: Duration,
) -> Option<ServerVersion> {
    let ask = async {
        let runtime = lapin::runtime::default_runtime().ok()?;
        let mut stream = uri.connect_with_config_async(tls.as_ref(), &runtime).await.ok()?;
        stream.write_all(PROTOCOL_HEADER).await.ok()?;
        stream.flush().await.ok()?;
        let version = first_frame(async |buffer| stream.read_exact(buffer).await.ok()).await;
        drop(stream.close().await);
        version
    };
    tokio::time::timeout(limit, ask).await.ok()?
}

async fn first_frame(
    mut read_exact: impl AsyncFnMut(&mut [u8]) -> Option<()>,
) -> Option<ServerVersion> {
    let mut header = [0; FRAME_HEADER_BYTES];
    read_exact(&mut header).await?;
    let length = u32::from_be_bytes([header[3], header[4], header[5], header[6]]);
    let length = usize::try_from(length).ok().filter(|length| *length <= MAX_FRAME_BYTES)?;
    let mut payload = vec![0; length];
    read_exact(&mut payload).await?;
    version_in(&payload)
}

fn version_in(payload: &[u8]) -> Option<ServerVersion> {
    let (_, class) = parse_class(payload).ok()?;
    let AMQPClass::Connection(connection::AMQPMethod::Start(start)) = class else { return None };
    match start.server_properties.inner().get("version")? {
        AMQPValue::LongString(text) => ServerVersion::parse(&text.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn version(major: u16, minor: u16, patch: u16) -> ServerVersion {
        ServerVersion { major, minor, patch }
    }

    /// The payload of Connection.Start as a broker sends it, with one property.
    fn start(name: &str, value: &str) -> Vec<u8> {
        let mut table = vec![u8::try_from(name.len()).unwrap()];
        table.extend_from_slice(name.as_bytes());
        table.push(b'S');
        table.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
        table.extend_from_slice(value.as_bytes());
        let mut payload = vec![0, 10, 0, 10, 0, 9];
        payload.extend_from_slice(&u32::try_from(table.len()).unwrap().to_be_bytes());
        payload.extend_from_slice(&table);
        for text in ["PLAIN", "en_US"] {
            payload.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
            payload.extend_from_slice(text.as_bytes());
        }
        payload
    }

    #[test]
    fn the_first_frame_tells_the_version() {
        assert_eq!(version_in(&start("version", "3.10.8")), Some(version(3, 10, 8)));
        assert_eq!(version_in(&start("version", "4.1.0-beta.2")), Some(version(4, 1, 0)));
        assert_eq!(version_in(&start("version", "nightly")), None);
        assert_eq!(version_in(&start("product", "RabbitMQ")), None);
        assert_eq!(version_in(b"HTTP/1.1 400 Bad Request"), None);
        assert_eq!(version_in(b""), None);
    }

    #[test]
    fn advice_fits_the_release_and_the_longest_job() {
        let hour = Some(Duration::from_hours(1));
        assert!(version(3, 9, 5).advice(None).unwrap().contains("upgrade"));
        assert_eq!(version(3, 10, 8).advice(None), None);
        assert_eq!(version(3, 10, 8).advice(Some(Duration::from_mins(5))), None);
        assert!(version(3, 10, 8).advice(hour).unwrap().contains("rabbitmq.conf"));
        assert!(version(3, 12, 0).advice(hour).unwrap().contains("policy"));
        assert!(version(4, 3, 6).advice(hour).unwrap().contains("policy"));
    }
}
