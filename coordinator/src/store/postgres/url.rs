//! Where the database is: `postgres://user:password@host:port/database?sslmode=verify-full`.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

/// A server that does not answer a connection attempt for so long is away.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// Data that the server does not acknowledge for so long: the connection is dead.
const SILENCE_LIMIT: Duration = Duration::from_secs(10);

/// A checked address of a database. Shows itself without its password.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl {
    config: Box<Config>,
    tls: Tls,
}

/// Whether the connection is encrypted; if so, the server's certificate and name are checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tls {
    Off,
    /// Against the system's certificate authorities, or those of a file.
    Verified {
        authorities: Option<PathBuf>,
    },
}

/// Why an address cannot be used. Repeats nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PostgresUrlError {
    #[error("it is not of the form postgres://user:password@host:port/database")]
    Malformed,
    #[error("it names no host; write postgres://user@host/database")]
    NoHost,
    #[error(
        "sslmode must be `verify-full`, or `disable` for a server on this machine: the other modes \
         do not check whom they talk to"
    )]
    SslMode,
    #[error(
        "the password and all jobs would cross the network in the clear: use sslmode=verify-full \
         for a server on another machine"
    )]
    Exposed,
}

impl PostgresUrl {
    /// # Errors
    /// Says what is wrong without repeating the address.
    pub fn parse(url: &str) -> Result<Self, PostgresUrlError> {
        if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
            return Err(PostgresUrlError::Malformed);
        }
        let (rest, tls) = split_tls(url)?;
        let mut config: Config = rest.parse().map_err(|_| PostgresUrlError::Malformed)?;
        if config.get_hosts().is_empty() {
            return Err(PostgresUrlError::NoHost);
        }
        let local = config.get_hosts().iter().all(is_local) && config.get_hostaddrs().is_empty();
        let tls = match tls {
            Some(tls) => tls,
            None if local => Tls::Off,
            None => Tls::Verified { authorities: None },
        };
        if tls == Tls::Off && !local {
            return Err(PostgresUrlError::Exposed);
        }
        config
            .ssl_mode(if tls == Tls::Off { SslMode::Disable } else { SslMode::Require })
            .application_name("stoker-coordinator")
            .connect_timeout(CONNECT_LIMIT)
            .tcp_user_timeout(SILENCE_LIMIT)
            .keepalives_idle(Duration::from_secs(5))
            .keepalives_interval(Duration::from_secs(2))
            .keepalives_retries(3);
        Ok(Self { config: Box::new(config), tls })
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    pub(super) fn tls(&self) -> &Tls {
        &self.tls
    }
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("postgres://")?;
        if let Some(user) = self.config.get_user() {
            write!(f, "{user}{}@", self.config.get_password().map_or("", |_| ":***"))?;
        }
        for (index, host) in self.config.get_hosts().iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            match host {
                Host::Tcp(name) => write!(f, "{comma}{name}")?,
                Host::Unix(path) => write!(f, "{comma}{}", path.display())?,
            }
            let ports = self.config.get_ports();
            if let Some(port) = ports.get(index).or_else(|| ports.first()) {
                write!(f, ":{port}")?;
            }
        }
        write!(f, "/{}", self.config.get_dbname().unwrap_or_default())
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresUrl({self})")
    }
}

/// Takes the TLS parameters, which the driver does not know, out of the query.
fn split_tls(url: &str) -> Result<(String, Option<Tls>), PostgresUrlError> {
    let Some((address, query)) = url.split_once('?') else { return Ok((url.to_owned(), None)) };
    let (mut kept, mut mode, mut authorities) = (Vec::new(), None, None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("sslmode", value)) => mode = Some(value),
            Some(("sslrootcert", value)) => authorities = Some(PathBuf::from(value)),
            _ => kept.push(pair),
        }
    }
    let tls = match mode {
        Some("verify-full") => Some(Tls::Verified { authorities }),
        Some("disable") => Some(Tls::Off),
        Some(_) => return Err(PostgresUrlError::SslMode),
        None => authorities.map(|file| Tls::Verified { authorities: Some(file) }),
    };
    let rest =
        if kept.is_empty() { address.to_owned() } else { format!("{address}?{}", kept.join("&")) };
    Ok((rest, tls))
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost"
                || name.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_on_this_machine_needs_no_tls_and_any_other_is_verified() {
        for (url, tls) in [
            ("postgres://me@127.0.0.1:5433/stoker", Tls::Off),
            ("postgresql://me@localhost/stoker", Tls::Off),
            ("postgres://me@%2Frun%2Fpostgresql/stoker", Tls::Off),
            ("postgres://me@db.example.com/stoker", Tls::Verified { authorities: None }),
            (
                "postgres://me@db/stoker?sslmode=verify-full&sslrootcert=/etc/ca.pem",
                Tls::Verified { authorities: Some("/etc/ca.pem".into()) },
            ),
            (
                "postgres://me@localhost/stoker?sslmode=verify-full",
                Tls::Verified { authorities: None },
            ),
        ] {
            assert_eq!(PostgresUrl::parse(url).unwrap().tls, tls, "{url}");
        }
    }

    #[test]
    fn what_would_not_be_safe_is_refused() {
        for (url, error) in [
            ("postgres://me:hunter2@db/stoker?sslmode=disable", PostgresUrlError::Exposed),
            ("postgres://me:hunter2@db/stoker?sslmode=require", PostgresUrlError::SslMode),
            ("postgres://me:hunter2@db/stoker?sslmode=prefer", PostgresUrlError::SslMode),
            ("postgres://", PostgresUrlError::NoHost),
            ("mysql://me:hunter2@db/stoker", PostgresUrlError::Malformed),
            ("postgres://me:hunter2@db:port/stoker", PostgresUrlError::Malformed),
        ] {
            let refused = PostgresUrl::parse(url).unwrap_err();
            assert_eq!(refused, error, "{url}");
            assert!(!refused.to_string().contains("hunter2"));
        }
    }

    #[test]
    fn the_password_is_never_shown() {
        let url = PostgresUrl::parse("postgres://me:hunter2@db:5433/stoker").unwrap();
        assert_eq!(url.to_string(), "postgres://me:***@db:5433/stoker");
        assert!(!format!("{url:?}").contains("hunter2"));
    }
}
