//! The broker's address with its password, which no output may show.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use lapin::uri::AMQPUri;

use crate::error::BrokerError;

/// `amqp://user:password@host:port/vhost`, or `amqps://` for TLS. Missing parts: user and password
/// `guest`, port 5672 (5671 with TLS), virtual host `/` (also for a path of just `/`).
#[derive(Clone, PartialEq, Eq)]
pub struct BrokerUri(AMQPUri);

impl BrokerUri {
    /// # Errors
    /// `Config`; its text never repeats the URI.
    pub fn parse(text: &str) -> Result<Self, BrokerError> {
        let problem = |problem: &str| BrokerError::Config {
            field: "uri",
            problem: format!("{problem}; expected amqp://user:password@host:5672/vhost"),
        };
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(problem("it has no scheme"));
        };
        if !matches!(scheme, "amqp" | "amqps") {
            return Err(problem("its scheme is neither amqp nor amqps"));
        }
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host = authority.rsplit('@').next().unwrap_or_default();
        if host.is_empty() || host.starts_with(':') {
            return Err(problem("it has no host"));
        }
        // The parser would silently take localhost instead.
        if host.starts_with('[') {
            return Err(problem("an IPv6 address is not supported, give a host name"));
        }
        // The parser's own text may repeat the URI, so it is dropped.
        let mut uri: AMQPUri = text.parse().map_err(|_| {
            problem("it can't be parsed (percent-encode special characters in user and password)")
        })?;
        if uri.vhost.len() > 255 {
            return Err(problem("its virtual host is longer than 255 bytes"));
        }
        if uri.vhost.is_empty() {
            "/".clone_into(&mut uri.vhost);
        }
        Ok(Self(uri))
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        format!("{}:{}", self.0.authority.host, self.0.authority.port)
    }

    pub(super) fn user(&self) -> &str {
        &self.0.authority.userinfo.username
    }

    pub(super) fn vhost(&self) -> &str {
        &self.0.vhost
    }

    pub(super) fn is_tls(&self) -> bool {
        matches!(self.0.scheme, lapin::uri::AMQPScheme::AMQPS)
    }

    /// What lapin connects with; a heartbeat in the URI goes first.
    pub(super) fn with_heartbeat(&self, heartbeat: Duration) -> AMQPUri {
        let mut uri = self.0.clone();
        let seconds = u16::try_from(heartbeat.as_secs()).unwrap_or(u16::MAX).max(1);
        uri.query.heartbeat.get_or_insert(seconds);
        uri
    }
}

impl FromStr for BrokerUri {
    type Err = BrokerError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Debug for BrokerUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BrokerUri({self})")
    }
}

impl fmt::Display for BrokerUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls() { "amqps" } else { "amqp" };
        write!(f, "{scheme}://{}:***@{}/{}", self.user(), self.address(), self.vhost())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_output_shows_the_password() {
        let uri = BrokerUri::parse("amqps://stoker:s3cr%40t@mq.example:5671/prod").unwrap();
        assert_eq!(uri.to_string(), "amqps://stoker:***@mq.example:5671/prod");
        assert!(!format!("{uri:?}").contains("s3cr"));
        assert_eq!(
            uri.with_heartbeat(Duration::from_secs(10)).authority.userinfo.password,
            "s3cr@t"
        );
        let long = format!("amqp://stoker:s3cr3t@mq/{}", "v".repeat(256));
        for bad in [
            long.as_str(),
            "stoker:s3cr3t@mq",
            "amqp:stoker:s3cr3t@mq",
            "http://stoker:s3cr3t@mq/",
            "amqp://stoker:s3cr3t@mq:port/",
            "amqp://stoker:s3cr3t@",
            "amqp://stoker:s3cr3t@:5672",
            "amqp://stoker:s3cr3t@[::1]:5672",
            "amqp://stoker:s3cr3t@mq/v?heartbeat=soon",
        ] {
            let error = BrokerUri::parse(bad).unwrap_err();
            assert!(matches!(&error, BrokerError::Config { field: "uri", .. }), "{bad}: {error}");
            assert!(!format!("{error} {error:?}").contains("s3cr3t"), "{bad}: {error}");
        }
    }

    #[test]
    fn missing_parts_have_the_usual_defaults() {
        for text in ["amqp://127.0.0.1", "amqp://127.0.0.1:5672/", "amqp://127.0.0.1/%2f"] {
            let uri = BrokerUri::parse(text).unwrap();
            assert_eq!(uri.to_string(), "amqp://guest:***@127.0.0.1:5672//", "{text}");
        }
        let uri = BrokerUri::parse("amqps://mq").unwrap();
        assert_eq!((uri.address().as_str(), uri.is_tls()), ("mq:5671", true));
    }

    #[test]
    fn a_heartbeat_in_the_uri_goes_first() {
        let heartbeat = |text: &str| {
            BrokerUri::parse(text).unwrap().with_heartbeat(Duration::from_secs(10)).query.heartbeat
        };
        assert_eq!(heartbeat("amqp://mq"), Some(10));
        assert_eq!(heartbeat("amqp://mq?heartbeat=4"), Some(4));
    }
}
