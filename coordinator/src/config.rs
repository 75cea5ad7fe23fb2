//! What the coordinator can be told: flags over environment over a TOML file, checked as a whole.

mod identity;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use clap::builder::BoolishValueParser;
use serde::{Deserialize, Serialize};
use stoker_broker::{BrokerError, BrokerUri};
use stoker_core::fleet::Fleet;
use stoker_runtime::fleet::{FleetFileError, load_fleet};
use stoker_runtime::net::is_loopback;
use stoker_runtime::secret::Secret;
use stoker_runtime::telemetry::TelemetrySettings;
use stoker_runtime::token::{
    AutoscalerTokenSettings, Bearer, JoinSettings, OperatorTokenSettings, TokenError,
};

use crate::identity::Identity;
use crate::store::postgres::{PostgresUrl, PostgresUrlError};

pub use identity::{IdentitySettings, IdentitySettingsError, NamelessChoice};

const DEFAULT_PORT: u16 = 7070;
const DEFAULT_FLEET: &str = "fleet.toml";
const DEFAULT_DATA: &str = "./.stoker/data";
const EMBEDDED: &str = "embedded";
const SQLITE: &str = "sqlite";

/// The settings as written. Everything that is left out has a default.
#[derive(Debug, Clone, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Settings {
    /// Address to listen on; port 0 takes any free port [default: 127.0.0.1:7070]
    #[arg(long, env = "STOKER_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,

    /// The file that says what the fleet is [default: fleet.toml]
    #[arg(long, env = "STOKER_FLEET", value_name = "FILE")]
    pub fleet: Option<PathBuf>,

    /// Directory that holds the jobs, with the store `sqlite` [default: ./.stoker/data]
    #[arg(long, env = "STOKER_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// Where jobs are kept: `sqlite`, or a Postgres for several coordinators,
    /// `postgres://user:password@host/database`; use the variable for a URL with a password
    /// [default: sqlite]
    #[arg(long, env = "STOKER_STORE", value_name = "URL", hide_env_values = true)]
    pub store: Option<Secret>,

    /// `embedded`, or the RabbitMQ that carries the queues, amqp(s)://user:password@host/vhost; use
    /// the variable for a URI with a password [default: embedded]
    #[arg(long, env = "STOKER_BROKER_URI", value_name = "URI", hide_env_values = true)]
    pub broker: Option<Secret>,

    /// Listen beyond this machine although anyone who can connect may do everything
    #[arg(
        long,
        env = "STOKER_INSECURE",
        num_args = 0..=1,
        require_equals = true,
        value_parser = BoolishValueParser::new(),
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    pub insecure: Option<bool>,

    /// Write the port that is listened on to this file
    #[arg(long, value_name = "FILE")]
    pub port_file: Option<PathBuf>,

    #[command(flatten)]
    pub join: JoinSettings,

    #[command(flatten)]
    pub operator: OperatorTokenSettings,

    #[command(flatten)]
    pub autoscaler: AutoscalerTokenSettings,

    #[command(flatten)]
    pub identity: IdentitySettings,

    #[command(flatten)]
    pub telemetry: TelemetrySettings,
}

/// Where hints go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BrokerChoice {
    /// In this process, for workers of this machine.
    Embedded,
    RabbitMq(BrokerUri),
}

/// Where jobs are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreChoice {
    /// In a file of this directory, for one coordinator.
    Sqlite(PathBuf),
    /// In a database that several coordinators may share.
    Postgres(PostgresUrl),
}

impl std::fmt::Display for StoreChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlite(data) => write!(f, "{}", data.display()),
            Self::Postgres(url) => write!(f, "{url}"),
        }
    }
}

/// Checked settings.
#[derive(Debug, Clone)]
pub struct Config {
    pub listen: SocketAddr,
    pub fleet: Fleet,
    pub store: StoreChoice,
    pub broker: BrokerChoice,
    /// What workers have to show; `None`: nothing.
    pub join_token: Option<Secret>,
    /// What those have to show who change the fleet; `None`, both: nothing.
    pub operator_token: Option<Secret>,
    pub autoscaler_token: Option<Secret>,
    /// What workers that name their machine have to prove; `None`: nothing.
    pub identity: Option<Identity>,
    pub port_file: Option<PathBuf>,
}

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error(
        "refusing to listen on {listen} (--listen or STOKER_LISTEN): it can be reached from other \
         machines, and there are no credentials yet, so anyone there could read, submit and cancel \
         every tenant's jobs; listen on 127.0.0.1, or pass --insecure if the network keeps others \
         out"
    )]
    Exposed { listen: SocketAddr },
    #[error(
        "refusing to listen on {listen} (--listen or STOKER_LISTEN) without an operator token: it can be reached from \
         other machines, and anyone there could stop the fleet, end its machines and discard failed jobs; make a \
         token with `openssl rand -hex 32`, and name its file with --operator-token-file"
    )]
    Unguarded { listen: SocketAddr },
    #[error(
        "the {first} is also the {second}: whoever has one of them must not have the other; make another token with \
         `openssl rand -hex 32`"
    )]
    SameToken { first: Bearer, second: Bearer },
    #[error(transparent)]
    Fleet(#[from] FleetFileError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Identity(#[from] IdentitySettingsError),
    /// The text never repeats the setting: it may be a URL with a password.
    #[error("the store (--store or STOKER_STORE) is neither `sqlite` nor a usable URL")]
    Store {
        #[source]
        source: PostgresUrlError,
    },
    /// As above.
    #[error(
        "the broker (--broker or STOKER_BROKER_URI) is neither `embedded` nor a URI such as \
         amqp://user:password@host:5672/vhost"
    )]
    Broker {
        #[source]
        source: BrokerError,
    },
}

impl Settings {
    /// The same with every default filled in.
    #[must_use]
    pub fn with_defaults(self) -> Self {
        Self {
            listen: Some(self.listen()),
            fleet: Some(self.fleet.unwrap_or_else(|| DEFAULT_FLEET.into())),
            data: Some(self.data.unwrap_or_else(|| DEFAULT_DATA.into())),
            store: Some(self.store.unwrap_or_else(|| Secret::new(SQLITE))),
            broker: Some(self.broker.unwrap_or_else(|| Secret::new(EMBEDDED))),
            insecure: Some(self.insecure.unwrap_or(false)),
            ..self
        }
    }

    /// The settings as TOML, without passwords.
    pub fn shown(&self) -> Result<String, toml::ser::Error> {
        let mut table = toml::Table::try_from(self)?;
        let broker = match broker(self.broker.as_ref()) {
            Ok(BrokerChoice::Embedded) => EMBEDDED.to_owned(),
            Ok(BrokerChoice::RabbitMq(uri)) => uri.to_string(),
            // Whatever it is, it may hold a password.
            Err(_) => "***".to_owned(),
        };
        if self.broker.is_some() {
            table.insert("broker".to_owned(), broker.into());
        }
        if let Some(store) = &self.store {
            let shown = match store.expose() {
                SQLITE => SQLITE.to_owned(),
                url => {
                    PostgresUrl::parse(url).map_or_else(|_| "***".to_owned(), |url| url.to_string())
                }
            };
            table.insert("store".to_owned(), shown.into());
        }
        toml::to_string_pretty(&table)
    }

    /// Checks everything that can be checked without touching the network or the data.
    pub fn check(self) -> Result<Config, SettingsError> {
        let listen = self.listen();
        if !is_loopback(listen) && !self.insecure.unwrap_or(false) {
            return Err(SettingsError::Exposed { listen });
        }
        let join_token = self.join.clone().check()?;
        let operator_token = self.operator.clone().check()?;
        let autoscaler_token = self.autoscaler.clone().check()?;
        if !is_loopback(listen) && operator_token.is_none() {
            return Err(SettingsError::Unguarded { listen });
        }
        distinct([
            (Bearer::Worker, join_token.as_ref()),
            (Bearer::Operator, operator_token.as_ref()),
            (Bearer::Autoscaler, autoscaler_token.as_ref()),
        ])?;
        Ok(Config {
            listen,
            store: self.store()?,
            broker: broker(self.broker.as_ref())?,
            fleet: load_fleet(&self.fleet.unwrap_or_else(|| DEFAULT_FLEET.into()))?,
            join_token,
            operator_token,
            autoscaler_token,
            identity: self.identity.check()?,
            port_file: self.port_file,
        })
    }

    /// Where jobs are kept.
    ///
    /// # Errors
    /// [`SettingsError::Store`] when the setting is no usable URL.
    pub fn store(&self) -> Result<StoreChoice, SettingsError> {
        store(self.store.as_ref(), self.data.clone())
    }

    fn listen(&self) -> SocketAddr {
        self.listen.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT)))
    }
}

/// A party that has another's token is that other.
fn distinct(tokens: [(Bearer, Option<&Secret>); 3]) -> Result<(), SettingsError> {
    for (index, (second, token)) in tokens.iter().enumerate() {
        let mut earlier = tokens.iter().take(index);
        let same = token.and_then(|token| earlier.find(|(_, other)| *other == Some(token)));
        if let Some((first, _)) = same {
            return Err(SettingsError::SameToken { first: *first, second: *second });
        }
    }
    Ok(())
}

fn store(setting: Option<&Secret>, data: Option<PathBuf>) -> Result<StoreChoice, SettingsError> {
    match setting.map(Secret::expose) {
        None | Some(SQLITE) => Ok(StoreChoice::Sqlite(data.unwrap_or_else(|| DEFAULT_DATA.into()))),
        Some(url) => PostgresUrl::parse(url)
            .map(StoreChoice::Postgres)
            .map_err(|source| SettingsError::Store { source }),
    }
}

fn broker(setting: Option<&Secret>) -> Result<BrokerChoice, SettingsError> {
    match setting.map(Secret::expose) {
        None | Some(EMBEDDED) => Ok(BrokerChoice::Embedded),
        Some(uri) => BrokerUri::parse(uri)
            .map(BrokerChoice::RabbitMq)
            .map_err(|source| SettingsError::Broker { source }),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;
    use stoker_runtime::config::layered;

    use super::*;

    const FLEET: &str = "fleet = 'dev'\n[classes.standard]\nmax-wait = '60s'\n\
        [models.echo]\ntask = 'echo'\n[pools.default]\nmodels = ['echo']\n";

    const TOKEN: &str = "0123456789abcdef";

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        settings: Settings,
    }

    fn flags(arguments: &[&str]) -> Settings {
        Command::parse_from(std::iter::once("test").chain(arguments.iter().copied())).settings
    }

    /// The settings of `arguments` with a good fleet file, checked.
    fn check(arguments: &[&str]) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let fleet = folder.path().join("fleet.toml");
        std::fs::write(&fleet, FLEET).unwrap();
        let settings = Settings { fleet: Some(fleet), ..flags(arguments) };
        settings.check().map_err(|error| error.to_string())
    }

    #[test]
    fn without_settings_it_serves_this_machine_with_its_own_broker() {
        let config = check(&[]).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:7070");
        assert_eq!(config.broker, BrokerChoice::Embedded);
        assert_eq!(config.store, StoreChoice::Sqlite("./.stoker/data".into()));
    }

    #[test]
    fn listening_beyond_this_machine_is_refused_with_the_reason_unless_insecure() {
        for address in ["0.0.0.0:7070", "[::]:0", "10.0.0.1:7070"] {
            let error = check(&["--listen", address]).unwrap_err();
            assert!(error.contains("--insecure") && error.contains("no credentials"), "{error}");
            let error = check(&["--listen", address, "--insecure"]).unwrap_err();
            assert!(error.contains("--operator-token-file"), "{error}");
            let guarded = ["--listen", address, "--insecure", "--operator-token", TOKEN];
            assert!(check(&guarded).is_ok());
            assert!(check(&["--listen", address, "--insecure=0"]).is_err());
        }
        assert!(check(&["--listen", "[::1]:0"]).is_ok());
    }

    #[test]
    fn no_two_parties_have_one_token_and_none_is_shown() {
        let other = "fedcba9876543210";
        let config = check(&["--operator-token", TOKEN, "--autoscaler-token", other]).unwrap();
        assert_eq!(config.operator_token.as_ref().map(Secret::expose), Some(TOKEN));
        assert_eq!(config.autoscaler_token.as_ref().map(Secret::expose), Some(other));
        assert!(!format!("{config:?}").contains(TOKEN));
        for (first, second) in [
            ("--join-token", "--operator-token"),
            ("--join-token", "--autoscaler-token"),
            ("--operator-token", "--autoscaler-token"),
        ] {
            let error = check(&[first, TOKEN, second, TOKEN]).unwrap_err();
            assert!(error.contains("is also the") && !error.contains(TOKEN), "{error}");
        }
        let shown = flags(&["--operator-token", TOKEN]).with_defaults().shown().unwrap();
        assert!(shown.contains("[operator]") && !shown.contains(TOKEN), "{shown}");
        let short = check(&["--operator-token", "short"]).unwrap_err();
        assert!(short.contains("operator token must have"), "{short}");
    }

    #[test]
    fn a_bad_broker_is_named_without_repeating_it() {
        for bad in ["hunter2", "http://user:hunter2@host", "amqp://user:hunter2@"] {
            let error = check(&["--broker", bad]).unwrap_err();
            assert!(error.contains("STOKER_BROKER_URI") && !error.contains("hunter2"), "{error}");
        }
        let config = check(&["--broker", "amqp://user:hunter2@mq/prod"]).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn a_bad_store_is_named_without_repeating_it() {
        for bad in ["hunter2", "mysql://me:hunter2@host/db", "postgres://me:hunter2@db/s?sslmode=x"]
        {
            let error = check(&["--store", bad]).unwrap_err();
            assert!(error.contains("STOKER_STORE") && !error.contains("hunter2"), "{error}");
        }
        let config = check(&["--store", "postgres://me:hunter2@db/stoker"]).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
        assert_eq!(config.store.to_string(), "postgres://me:***@db:5432/stoker");
    }

    #[test]
    fn a_missing_fleet_file_is_named() {
        let settings = Settings { fleet: Some("/no/such/fleet.toml".into()), ..flags(&[]) };
        let error = settings.check().unwrap_err().to_string();
        assert!(error.contains("/no/such/fleet.toml"), "{error}");
    }

    #[test]
    fn shown_settings_have_defaults_and_no_password() {
        let (broker, store) = ("amqp://user:hunter2@mq/prod", "postgres://me:hunter2@db/stoker");
        let shown = flags(&["--broker", broker, "--store", store]).with_defaults();
        let text = shown.shown().unwrap();
        assert!(text.contains("listen = \"127.0.0.1:7070\""), "{text}");
        assert!(text.contains("amqp://user:***@mq:5672/prod"), "{text}");
        assert!(text.contains("postgres://me:***@db:5432/stoker"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
        let text = flags(&[]).with_defaults().shown().unwrap();
        assert!(text.contains("broker = \"embedded\""), "{text}");
        assert!(text.contains("store = \"sqlite\""), "{text}");
    }

    #[test]
    fn flags_go_before_the_file_whose_mistakes_are_told_with_their_place() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("coordinator.toml");
        std::fs::write(&file, "listen = '127.0.0.1:1'\ndata = 'd'\n[telemetry]\nlog = 'debug'\n")
            .unwrap();
        let settings = layered(Some(&file), flags(&["--listen", "127.0.0.1:2"])).unwrap();
        assert_eq!(settings.listen.unwrap().port(), 2);
        assert_eq!(settings.data.as_deref(), Some(Path::new("d")));
        assert_eq!(settings.telemetry.log.as_deref(), Some("debug"));
        std::fs::write(&file, "lisen = '127.0.0.1:1'").unwrap();
        let error = layered(Some(&file), flags(&[])).unwrap_err().to_string();
        assert!(error.contains("did you mean `listen`?"), "{error}");
    }
}
