//! What a worker can be told: flags over environment over a TOML file, then checked as a whole.

mod machine;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU32};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};
use stoker_core::fleet::Fleet;
use stoker_core::ids::{ModelName, PoolName};
use stoker_proto::client::endpoint;
use stoker_runtime::config::{ByteSize, HumanDuration};
use stoker_runtime::fleet::FleetFileError;
use stoker_runtime::secret::Secret;
use stoker_runtime::telemetry::TelemetrySettings;
use stoker_runtime::token::JoinSettings;
use tonic::transport::Endpoint;

use crate::error::SettingsError;
use crate::gpu::DeviceChoice;

pub use machine::{DeadManSettings, ImdsAddress, MachineConfig, MachineSettings, OnRebalance};

const DEFAULT_COORDINATOR: &str = "http://127.0.0.1:7070";
const DEFAULT_FLEET: &str = "fleet.toml";
const EMBEDDED: &str = "embedded";
const ECHO_ENGINE: &str = "stoker-engine-echo";

const DEFAULT_SLOTS: u16 = 8;
const DEFAULT_GRACE: HumanDuration = HumanDuration::new(Duration::from_secs(30));
const DEFAULT_START_LIMIT: HumanDuration = HumanDuration::new(Duration::from_mins(10));
const DEFAULT_STALL_LIMIT: HumanDuration = HumanDuration::new(Duration::from_mins(1));
const DEFAULT_WEIGHTS_LIMIT: ByteSize = ByteSize::mebibytes(100 << 10);
const DEFAULT_METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// More would make the claim calls and the memory for inputs unreasonable.
const MAX_SLOTS: u16 = 1_000;
pub(crate) const MAX_LANES: u32 = 256;

/// The settings as written. Everything that is left out has a default.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Config {
    /// Where the coordinator listens [default: port 7070 of this machine, over http]
    #[arg(long, env = "STOKER_COORDINATOR", value_name = "URL")]
    pub coordinator: Option<String>,

    /// The file that says what the fleet is [default: fleet.toml]
    #[arg(long, env = "STOKER_FLEET", value_name = "FILE")]
    pub fleet: Option<PathBuf>,

    /// Pool that this worker belongs to [default: the fleet's only pool]
    #[arg(long, env = "STOKER_POOL", value_name = "NAME")]
    pub pool: Option<PoolName>,

    /// Models to serve, a subset of the pool's [default: all of them]
    #[arg(long, env = "STOKER_MODELS", value_name = "NAME", value_delimiter = ',')]
    pub models: Option<Vec<ModelName>>,

    /// Jobs held at once, for each model [default: 8]
    #[arg(long, env = "STOKER_SLOTS", value_name = "N")]
    pub slots: Option<u16>,

    /// What to compute on: cpu, cuda:0 (a GPU by its number) or cuda:GPU-1b2c... (by its UUID)
    /// [default: auto, the only GPU if there is an engine for it, else the CPU]
    #[arg(long, env = "STOKER_DEVICE", value_name = "DEVICE")]
    pub device: Option<DeviceChoice>,

    /// Batches that each engine runs at the same time [default: one per core, two on a GPU]
    #[arg(long, env = "STOKER_LANES", value_name = "N")]
    pub lanes: Option<u32>,

    /// Memory for the engines of all models together; models that do not fit into it take turns
    /// [default: on a GPU what it has, less a margin, else three quarters of the machine's]
    #[arg(long, env = "STOKER_MEMORY_BUDGET", value_name = "SIZE")]
    pub memory_budget: Option<ByteSize>,

    /// Where deliveries come from: `embedded` (the coordinator's own queue) or amqp(s)://...
    /// [default: embedded]
    #[arg(long, env = "STOKER_BROKER_URI", value_name = "URI", hide_env_values = true)]
    pub broker: Option<Secret>,

    /// How long to finish work after being asked to stop [default: 30s]
    #[arg(long, env = "STOKER_GRACE", value_name = "TIME")]
    pub grace: Option<HumanDuration>,

    /// How long an engine may take to load its model [default: 10m]
    #[arg(long, env = "STOKER_ENGINE_START_LIMIT", value_name = "TIME")]
    pub engine_start_limit: Option<HumanDuration>,

    /// How long an engine may be busy with one batch, besides the time that its tokens need
    /// [default: 60s]
    #[arg(long, env = "STOKER_ENGINE_STALL_LIMIT", value_name = "TIME")]
    pub engine_stall_limit: Option<HumanDuration>,

    /// Where /metrics, /healthz and /readyz are served [default: 127.0.0.1:0, any free port]
    #[arg(long, env = "STOKER_METRICS_LISTEN", value_name = "ADDRESS")]
    pub metrics_listen: Option<SocketAddr>,

    /// Directory for results that could not be delivered; without one they are computed again
    #[arg(long, env = "STOKER_SPOOL", value_name = "DIR")]
    pub spool: Option<PathBuf>,

    /// The engine's binary [default: stoker-engine, or on a GPU stoker-engine-cuda and the number of
    /// its compute capability, beside this executable]
    #[arg(long, env = "STOKER_ENGINE", value_name = "FILE")]
    pub engine: Option<PathBuf>,

    /// The echo engine's binary [default: stoker-engine-echo beside this executable]
    #[arg(long, env = "STOKER_ECHO_ENGINE", value_name = "FILE")]
    pub echo_engine: Option<PathBuf>,

    #[command(flatten)]
    pub hub: HubConfig,

    #[command(flatten)]
    pub weights: WeightsConfig,

    #[command(flatten)]
    pub machine: MachineConfig,

    #[command(flatten)]
    pub join: JoinSettings,

    #[command(flatten)]
    pub telemetry: TelemetrySettings,
}

/// The Hugging Face hub, with the variables that all its clients use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct HubConfig {
    /// Where downloaded models are kept [default: ~/.cache/huggingface]
    #[arg(long = "hf-home", env = "HF_HOME", value_name = "DIR")]
    pub home: Option<PathBuf>,

    /// The hub's address [default: the public hub]
    #[arg(long = "hf-endpoint", env = "HF_ENDPOINT", value_name = "URL")]
    pub endpoint: Option<String>,

    /// Token for private and gated models [default: the file `token` in the cache]
    #[arg(long = "hf-token", env = "HF_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub token: Option<Secret>,
}

/// The cache for models from object storage.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct WeightsConfig {
    /// Where models from object storage are kept, on a fast local disk [default: ~/.cache/stoker/weights]
    #[arg(long = "weights-cache", env = "STOKER_WEIGHTS_CACHE", value_name = "DIR")]
    pub cache: Option<PathBuf>,

    /// Most that is kept there; models that nobody uses leave for others [default: 100GiB]
    #[arg(long = "weights-cache-limit", env = "STOKER_WEIGHTS_CACHE_LIMIT", value_name = "SIZE")]
    pub cache_limit: Option<ByteSize>,
}

impl WeightsConfig {
    /// The folder; none without a home directory.
    pub(crate) fn folder(&self) -> Option<PathBuf> {
        let of_home = || std::env::home_dir().map(|home| home.join(".cache/stoker/weights"));
        self.cache.clone().or_else(of_home)
    }

    /// Most bytes in it.
    pub(crate) fn limit_bytes(&self) -> u64 {
        self.cache_limit.unwrap_or(DEFAULT_WEIGHTS_LIMIT).bytes()
    }

    fn with_defaults(self) -> Self {
        let cache_limit = Some(self.cache_limit.unwrap_or(DEFAULT_WEIGHTS_LIMIT));
        Self { cache: self.folder(), cache_limit }
    }
}

/// Where deliveries come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BrokerChoice {
    /// The coordinator's own queue, through its port.
    Embedded,
    Amqp(Secret),
}

/// Checked settings of one worker.
#[derive(Debug, Clone)]
pub struct Settings {
    pub coordinator: Endpoint,
    pub fleet: Fleet,
    pub pool: PoolName,
    /// Models to serve; at least one, all of them in the pool.
    pub models: Vec<ModelName>,
    pub slots: NonZeroU16,
    pub device: DeviceChoice,
    /// `None`: what suits the device.
    pub lanes: Option<NonZeroU32>,
    /// Memory for all models together; `None`: what suits the device.
    pub memory_budget: Option<ByteSize>,
    pub broker: BrokerChoice,
    pub grace: Duration,
    pub engine_start_limit: Duration,
    pub engine_stall_limit: Duration,
    pub metrics_listen: SocketAddr,
    pub spool: Option<PathBuf>,
    /// `None`: the one beside this executable that fits the device.
    pub engine: Option<PathBuf>,
    pub echo_engine: PathBuf,
    pub hub: HubConfig,
    pub weights: WeightsConfig,
    pub machine: MachineSettings,
    /// What the coordinator wants to be shown, if it does.
    pub join_token: Option<Secret>,
}

impl Config {
    /// The same with every default filled in, to be shown.
    #[must_use]
    pub fn with_defaults(self) -> Self {
        Self {
            coordinator: Some(self.coordinator.unwrap_or_else(|| DEFAULT_COORDINATOR.to_owned())),
            fleet: Some(self.fleet.unwrap_or_else(|| DEFAULT_FLEET.into())),
            slots: Some(self.slots.unwrap_or(DEFAULT_SLOTS)),
            device: Some(self.device.unwrap_or_default()),
            broker: Some(self.broker.unwrap_or_else(|| Secret::new(EMBEDDED))),
            grace: Some(self.grace.unwrap_or(DEFAULT_GRACE)),
            engine_start_limit: Some(self.engine_start_limit.unwrap_or(DEFAULT_START_LIMIT)),
            engine_stall_limit: Some(self.engine_stall_limit.unwrap_or(DEFAULT_STALL_LIMIT)),
            metrics_listen: Some(self.metrics_listen.unwrap_or(DEFAULT_METRICS)),
            echo_engine: Some(self.echo_engine.unwrap_or_else(|| beside_executable(ECHO_ENGINE))),
            weights: self.weights.with_defaults(),
            machine: self.machine.with_defaults(),
            ..self
        }
    }

    /// Checks everything that can be checked without the network.
    ///
    /// # Errors
    /// The first setting that cannot be used, with what to do about it.
    pub fn check(self) -> Result<Settings, SettingsError> {
        let path = self.fleet.unwrap_or_else(|| DEFAULT_FLEET.into());
        let fleet = load_fleet(&path)?;
        let pool = choose_pool(&fleet, self.pool)?;
        let models = choose_models(&fleet, &pool, self.models)?;
        let slots = in_range("slots", self.slots.unwrap_or(DEFAULT_SLOTS), MAX_SLOTS)?;
        let lanes = self
            .lanes
            .map(|lanes| non_zero("lanes", NonZeroU32::new(in_range("lanes", lanes, MAX_LANES)?)));
        Ok(Settings {
            coordinator: endpoint(self.coordinator.as_deref().unwrap_or(DEFAULT_COORDINATOR))?,
            fleet,
            pool,
            models,
            slots: non_zero("slots", NonZeroU16::new(slots))?,
            device: self.device.unwrap_or_default(),
            lanes: lanes.transpose()?,
            memory_budget: self.memory_budget,
            broker: broker_choice(self.broker)?,
            grace: self.grace.unwrap_or(DEFAULT_GRACE).get(),
            engine_start_limit: self.engine_start_limit.unwrap_or(DEFAULT_START_LIMIT).get(),
            engine_stall_limit: self.engine_stall_limit.unwrap_or(DEFAULT_STALL_LIMIT).get(),
            metrics_listen: self.metrics_listen.unwrap_or(DEFAULT_METRICS),
            spool: self.spool,
            engine: self.engine,
            echo_engine: self.echo_engine.unwrap_or_else(|| beside_executable(ECHO_ENGINE)),
            hub: self.hub,
            weights: self.weights,
            machine: self.machine.check()?,
            join_token: self.join.check()?,
        })
    }
}

/// Reads and checks `fleet.toml`.
///
/// # Errors
/// When it cannot be read, or with everything that is wrong with it.
pub fn load_fleet(path: &Path) -> Result<Fleet, SettingsError> {
    stoker_runtime::fleet::load_fleet(path).map_err(|error| match error {
        FleetFileError::Read(source) => SettingsError::FleetFile { source },
        FleetFileError::Invalid { path, problems } => SettingsError::Fleet { path, problems },
    })
}

fn broker_choice(broker: Option<Secret>) -> Result<BrokerChoice, SettingsError> {
    let Some(broker) = broker else { return Ok(BrokerChoice::Embedded) };
    let text = broker.expose();
    if text == EMBEDDED {
        return Ok(BrokerChoice::Embedded);
    }
    if text.starts_with("amqp://") || text.starts_with("amqps://") {
        return Ok(BrokerChoice::Amqp(broker));
    }
    Err(SettingsError::Broker)
}

fn choose_pool(fleet: &Fleet, wanted: Option<PoolName>) -> Result<PoolName, SettingsError> {
    let known = || names(fleet.pools.keys());
    match wanted {
        Some(pool) if fleet.pools.contains_key(&pool) => Ok(pool),
        Some(pool) => Err(SettingsError::UnknownPool { pool, known: known() }),
        None => {
            let mut pools = fleet.pools.keys();
            match (pools.next(), pools.next()) {
                (Some(only), None) => Ok(only.clone()),
                _ => Err(SettingsError::PoolMissing { known: known() }),
            }
        }
    }
}

fn choose_models(
    fleet: &Fleet,
    pool: &PoolName,
    wanted: Option<Vec<ModelName>>,
) -> Result<Vec<ModelName>, SettingsError> {
    let served = fleet.pools.get(pool).map(|pool| pool.models.clone()).unwrap_or_default();
    let Some(wanted) = wanted.filter(|wanted| !wanted.is_empty()) else { return Ok(served) };
    let mut chosen: Vec<ModelName> = Vec::with_capacity(wanted.len());
    for model in wanted {
        if !served.contains(&model) {
            let (pool, known) = (pool.clone(), names(served.iter()));
            return Err(SettingsError::UnknownModel { model, pool, known });
        }
        if !chosen.contains(&model) {
            chosen.push(model);
        }
    }
    Ok(chosen)
}

fn in_range<N: PartialOrd + Into<u64> + Copy>(
    setting: &'static str,
    value: N,
    limit: N,
) -> Result<N, SettingsError> {
    if value > limit {
        let (value, limit) = (value.into(), limit.into());
        return Err(SettingsError::OutOfRange { setting, value, limit });
    }
    Ok(value)
}

fn non_zero<N>(setting: &'static str, value: Option<N>) -> Result<N, SettingsError> {
    value.ok_or(SettingsError::Zero { setting })
}

fn names<'a, N: ToString + 'a>(names: impl Iterator<Item = &'a N>) -> String {
    names.map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Engines are looked for beside this program, so that an unpacked release works from anywhere.
pub(crate) fn folder_of_executable() -> PathBuf {
    let executable = std::env::current_exe().ok();
    executable.as_deref().and_then(Path::parent).map(Path::to_owned).unwrap_or_default()
}

fn beside_executable(name: &str) -> PathBuf {
    folder_of_executable().join(name)
}

#[cfg(test)]
#[path = "config/tests.rs"]
mod tests;
