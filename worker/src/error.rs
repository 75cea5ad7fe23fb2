//! Why a worker cannot start, or had to stop.

use std::path::PathBuf;
use std::time::Duration;

use stoker_broker::BrokerError;
use stoker_core::fleet::Problem;
use stoker_core::ids::{FleetName, ModelName, PoolName};
use stoker_proto::client::AddressError;
use stoker_runtime::config::ConfigError;
use stoker_runtime::net::BindError;
use stoker_runtime::token::TokenError;

use crate::config::ImdsAddress;
use crate::dead_man::DeadManError;
use crate::gpu::DeviceError;
use crate::memory::TooLarge;
use crate::spool::SpoolError;
use crate::weights::WeightsError;

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("no usable fleet file (name it with --fleet)")]
    FleetFile {
        #[source]
        source: ConfigError,
    },
    #[error("{} describes no usable fleet:{}", path.display(), list(problems))]
    Fleet { path: PathBuf, problems: Vec<Problem> },
    #[error("the fleet has no pool `{pool}`; it has: {known}")]
    UnknownPool { pool: PoolName, known: String },
    #[error("the fleet has several pools: say which one with --pool; there are: {known}")]
    PoolMissing { known: String },
    #[error("pool `{pool}` does not serve a model `{model}`; it serves: {known}")]
    UnknownModel { model: ModelName, pool: PoolName, known: String },
    #[error(transparent)]
    Coordinator(#[from] AddressError),
    #[error(transparent)]
    Join(#[from] TokenError),
    #[error("the broker is neither `embedded` nor an amqp:// or amqps:// URI")]
    Broker,
    #[error("`{setting}` is {value}, the limit is {limit}")]
    OutOfRange { setting: &'static str, value: u64, limit: u64 },
    #[error("`{setting}` must be at least 1")]
    Zero { setting: &'static str },
    #[error("`imds` is `{address}`, which {problem}; to ask none, say `off`")]
    Imds { address: String, problem: ImdsAddress },
    #[error("the dead man's switch needs a time and a command: set `{missing}` as well")]
    DeadManHalf { missing: &'static str },
    #[error("`dead-man-after` must be at least {least:?}: a coordinator may restart")]
    DeadManTooSoon { least: Duration },
}

/// Why a worker ended in failure.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error("starting the thread that watches the GPU")]
    Watch(#[source] std::io::Error),
    #[error(transparent)]
    Listen(#[from] BindError),
    #[error("cannot use the broker")]
    Broker(#[from] BrokerError),
    #[error("cannot get model `{model}`")]
    Weights {
        model: ModelName,
        #[source]
        source: WeightsError,
    },
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error("the engine of model `{model}` cannot start: {message}; {remedy}")]
    Engine { model: ModelName, message: String, remedy: String },
    #[error(
        "the coordinator serves fleet `{theirs}`, this worker's file describes `{ours}`: give both \
         the same fleet.toml"
    )]
    OtherFleet { ours: FleetName, theirs: String },
    #[error("the coordinator refuses this worker: {reason}")]
    Refused { reason: String },
    #[error("a part of the worker failed: {0}")]
    Task(String),
    #[error("the machine could not be shut down with `{command}`")]
    DeadMan {
        command: String,
        #[source]
        source: DeadManError,
    },
}

fn list(problems: &[Problem]) -> String {
    problems.iter().fold(String::new(), |text, problem| text + "\n  " + &problem.to_string())
}
