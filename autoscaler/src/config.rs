//! What the autoscaler can be told: flags over environment over a TOML file, checked as a whole.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};
use stoker_core::fleet::Fleet;
use stoker_core::units::{ByteSize, HumanDuration};
use stoker_proto::client::{AddressError, endpoint};
use stoker_runtime::fleet::{FleetFileError, load_fleet};
use stoker_runtime::secret::Secret;
use stoker_runtime::telemetry::TelemetrySettings;
use stoker_runtime::token::{AutoscalerTokenSettings, TokenError};

const DEFAULT_FLEET: &str = "fleet.toml";
const DEFAULT_COORDINATOR: &str = "http://127.0.0.1:7070";
const DEFAULT_JOURNAL: &str = "./.stoker/journal";
const DEFAULT_MACHINES: &str = "./.stoker/machines";
const DEFAULT_METRICS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);
const DEFAULT_TERM: Duration = Duration::from_secs(10);
const DEFAULT_JOURNAL_DAYS: u32 = 30;
/// As the coordinator allows.
const TERMS: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_mins(1);
/// Rounds are not closer together, and not so far apart that a reading grows old.
const INTERVALS: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(15);

/// The settings as written. Everything that is left out has a default.
#[derive(Debug, Clone, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Settings {
    /// The coordinator's address [default: `http://127.0.0.1:7070`]
    #[arg(long, env = "STOKER_COORDINATOR", value_name = "URL", global = true)]
    pub coordinator: Option<String>,

    /// The file that says what the fleet is, and where machines are bought [default: fleet.toml]
    #[arg(long, env = "STOKER_FLEET", value_name = "FILE", global = true)]
    pub fleet: Option<PathBuf>,

    /// Directory of the journal: what was seen, planned and done, a file a day [default:
    /// ./.stoker/journal]
    #[arg(long, env = "STOKER_JOURNAL", value_name = "DIR")]
    pub journal: Option<PathBuf>,

    /// Days that the journal is kept [default: 30]
    #[arg(long, env = "STOKER_JOURNAL_DAYS", value_name = "N")]
    pub journal_days: Option<u32>,

    /// Pause between two rounds, 100ms to 15s [default: 1s]
    #[arg(long, env = "STOKER_INTERVAL", value_name = "TIME")]
    pub interval: Option<HumanDuration>,

    /// How long the lead is kept without a word, 1s to 60s: after a crash, others wait for so long
    /// [default: 10s]
    #[arg(long, env = "STOKER_TERM", value_name = "TIME")]
    pub term: Option<HumanDuration>,

    /// Replace workers that register with another version, once a machine has come up with this one
    /// [default: any version; a new launch template replaces them in any case]
    #[arg(long, env = "STOKER_WORKER_VERSION", value_name = "VERSION")]
    pub worker_version: Option<String>,

    /// Where /metrics, /healthz and /readyz are served [default: 127.0.0.1:0, any free port]
    #[arg(long, env = "STOKER_METRICS_LISTEN", value_name = "ADDRESS")]
    pub metrics_listen: Option<SocketAddr>,

    /// With [provider.local]: the worker's binary [default: stoker-worker beside this executable]
    #[arg(long, env = "STOKER_WORKER", value_name = "FILE")]
    pub worker: Option<PathBuf>,

    /// With [provider.local]: where workers get their deliveries from, as for stoker-worker
    #[arg(long, env = "STOKER_BROKER_URI", value_name = "URI", hide_env_values = true)]
    pub broker: Option<Secret>,

    /// With [provider.local]: memory of each worker for its models, as for stoker-worker
    #[arg(long, env = "STOKER_MEMORY_BUDGET", value_name = "SIZE")]
    pub memory_budget: Option<ByteSize>,

    /// With [provider.local]: where machines are written down, with the logs of their workers
    /// [default: ./.stoker/machines]
    #[arg(long, env = "STOKER_MACHINES", value_name = "DIR")]
    pub machines: Option<PathBuf>,

    /// With [provider.ec2]: an endpoint that stands for EC2 in all regions, for tests
    #[arg(long, env = "STOKER_EC2_ENDPOINT", value_name = "URL", hide = true, global = true)]
    pub ec2_endpoint: Option<String>,

    #[command(flatten)]
    pub autoscaler: AutoscalerTokenSettings,

    #[command(flatten)]
    pub telemetry: TelemetrySettings,
}

/// Checked settings.
#[derive(Debug, Clone)]
pub struct Config {
    pub coordinator: String,
    /// What the coordinator is shown; `None`: nothing.
    pub token: Option<Secret>,
    pub fleet_file: PathBuf,
    pub fleet: Fleet,
    pub journal: PathBuf,
    pub journal_days: u32,
    pub interval: Duration,
    pub term: Duration,
    pub worker_version: Option<String>,
    pub metrics_listen: SocketAddr,
    pub worker: Option<PathBuf>,
    pub broker: Option<Secret>,
    /// Of each local worker; `None`: what it takes by itself.
    pub memory_budget: Option<ByteSize>,
    pub machines: PathBuf,
    pub ec2_endpoint: Option<String>,
}

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error(transparent)]
    Fleet(#[from] FleetFileError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("the coordinator (--coordinator or STOKER_COORDINATOR)")]
    Coordinator(#[source] AddressError),
    #[error(
        "an interval (--interval or STOKER_INTERVAL) of {} is not 100ms to 15s",
        humantime::format_duration(*.0)
    )]
    Interval(Duration),
    #[error("a term (--term or STOKER_TERM) of {} is not 1s to 60s", humantime::format_duration(*.0))]
    Term(Duration),
    #[error(
        "{} does not say where machines are bought: add [provider.local], or [provider.ec2.REGION] \
         with launch-templates",
        .0.display()
    )]
    NoProvider(PathBuf),
}

impl Settings {
    /// Checks them as a whole; reads the fleet file.
    pub fn check(self) -> Result<Config, SettingsError> {
        let coordinator = self.coordinator.unwrap_or_else(|| DEFAULT_COORDINATOR.to_owned());
        endpoint(&coordinator).map_err(SettingsError::Coordinator)?;
        let interval = self.interval.map_or(DEFAULT_INTERVAL, HumanDuration::get);
        if !INTERVALS.contains(&interval) {
            return Err(SettingsError::Interval(interval));
        }
        let term = self.term.map_or(DEFAULT_TERM, HumanDuration::get);
        if !TERMS.contains(&term) {
            return Err(SettingsError::Term(term));
        }
        let fleet_file = self.fleet.unwrap_or_else(|| DEFAULT_FLEET.into());
        let fleet = load_fleet(&fleet_file)?;
        if fleet.provider.is_none() {
            return Err(SettingsError::NoProvider(fleet_file));
        }
        Ok(Config {
            coordinator,
            token: self.autoscaler.check()?,
            fleet_file,
            fleet,
            journal: self.journal.unwrap_or_else(|| DEFAULT_JOURNAL.into()),
            journal_days: self.journal_days.unwrap_or(DEFAULT_JOURNAL_DAYS),
            interval,
            term,
            worker_version: self.worker_version.filter(|version| !version.is_empty()),
            metrics_listen: self.metrics_listen.unwrap_or(DEFAULT_METRICS),
            worker: self.worker,
            broker: self.broker,
            memory_budget: self.memory_budget,
            machines: self.machines.unwrap_or_else(|| DEFAULT_MACHINES.into()),
            ec2_endpoint: self.ec2_endpoint,
        })
    }
}

impl Config {
    /// What every local worker is told, as variables of its environment; what is its own comes from its machine.
    ///
    /// # Errors
    /// When the fleet file's path cannot be made absolute.
    pub fn worker_environment(&self) -> io::Result<Vec<(&'static str, Secret)>> {
        let fleet_file = std::path::absolute(&self.fleet_file)?;
        let mut environment = vec![
            ("STOKER_COORDINATOR", Secret::new(&self.coordinator)),
            ("STOKER_FLEET", Secret::new(fleet_file.display().to_string())),
        ];
        environment.extend(self.broker.clone().map(|uri| ("STOKER_BROKER_URI", uri)));
        let budget = self.memory_budget.map(|size| Secret::new(size.to_string()));
        environment.extend(budget.map(|size| ("STOKER_MEMORY_BUDGET", size)));
        Ok(environment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(fleet: &str, settings: Settings) -> Result<Config, SettingsError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fleet.toml");
        std::fs::write(&path, fleet).unwrap();
        Settings { fleet: Some(path), ..settings }.check()
    }

    const NOTHING: &str = "fleet = 'x'\n[classes.standard]\nmax-wait = '60s'\n[models.echo]\ntask = 'echo'\n[pools.default]\nmodels = ['echo']\n";
    const OFFERED: &str =
        "[[pools.default.offerings]]\ninstance-type = 'g5'\nzone = 'local'\nprice = 1\n";

    #[test]
    fn a_fleet_needs_somewhere_to_buy_machines_and_not_something_to_buy() {
        // The machines of a fleet that buys nothing any more have to end as well.
        let nothing = format!("{NOTHING}[provider.local]\n");
        assert!(check(&nothing, Settings::default()).is_ok());
        let nowhere = check(&format!("{NOTHING}{OFFERED}"), Settings::default()).unwrap_err();
        assert!(nowhere.to_string().contains("[provider.local]"), "{nowhere}");
        let text = format!("{NOTHING}{OFFERED}[provider.local]\n");
        let config = check(&text, Settings::default()).unwrap();
        assert_eq!(config.interval, Duration::from_secs(1));
    }

    #[test]
    fn local_workers_are_told_what_is_the_same_for_all_of_them() {
        let text = format!("{NOTHING}{OFFERED}[provider.local]\n");
        let told = |settings| {
            let environment = check(&text, settings).unwrap().worker_environment().unwrap();
            let told = environment.into_iter().filter(|(name, _)| *name != "STOKER_FLEET");
            told.map(|(name, value)| (name, value.expose().to_owned())).collect::<Vec<_>>()
        };
        let coordinator = || ("STOKER_COORDINATOR", DEFAULT_COORDINATOR.to_owned());
        assert_eq!(told(Settings::default()), [coordinator()]);
        let broker = Some(Secret::new("amqp://user:hunter2@host"));
        let memory_budget = "80MiB".parse().ok();
        let broker_uri = ("STOKER_BROKER_URI", "amqp://user:hunter2@host".to_owned());
        let budget = ("STOKER_MEMORY_BUDGET", "80MiB".to_owned());
        assert_eq!(
            told(Settings { broker, memory_budget, ..Settings::default() }),
            [coordinator(), broker_uri, budget]
        );
    }

    #[test]
    fn what_cannot_work_is_refused_with_the_settings_name() {
        let text = format!("{NOTHING}{OFFERED}[provider.local]\n");
        let interval = "1m".parse().ok();
        let slow = check(&text, Settings { interval, ..Settings::default() }).unwrap_err();
        assert!(slow.to_string().contains("--interval"), "{slow}");
        let coordinator = Some("ftp://x".to_owned());
        let nobody = check(&text, Settings { coordinator, ..Settings::default() }).unwrap_err();
        assert!(nobody.to_string().contains("--coordinator"), "{nobody}");
    }
}
