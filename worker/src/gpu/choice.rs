//! Which device a worker computes on: a pure rule over what was asked for and what is there.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::engine_file::{self, ENGINE};
use super::{About, Gpu, Machine, Nvml};

/// What a worker is told to compute on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceChoice {
    /// The machine's only GPU where there is one and an engine for it, else the CPU.
    #[default]
    Auto,
    Cpu,
    Gpu(GpuName),
}

/// How a GPU is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GpuName {
    /// The vendor's number, as `nvidia-smi` shows it.
    Index(u32),
    /// The beginning of its UUID, which does not change when a machine is rebuilt.
    Uuid(String),
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Gpu(GpuName::Index(index)) => write!(f, "cuda:{index}"),
            Self::Gpu(GpuName::Uuid(uuid)) => write!(f, "cuda:{uuid}"),
        }
    }
}

impl From<DeviceChoice> for String {
    fn from(choice: DeviceChoice) -> Self {
        choice.to_string()
    }
}

/// A device name that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("use auto, cpu, cuda:0 (its number) or cuda:GPU-1b2c... (its UUID)")]
pub struct UnknownDevice;

impl FromStr for DeviceChoice {
    type Err = UnknownDevice;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "auto" => return Ok(Self::Auto),
            "cpu" => return Ok(Self::Cpu),
            _ => {}
        }
        let gpu = name.strip_prefix("cuda:").ok_or(UnknownDevice)?;
        if gpu.starts_with("GPU-") {
            return Ok(Self::Gpu(GpuName::Uuid(gpu.to_owned())));
        }
        gpu.parse().map(|index| Self::Gpu(GpuName::Index(index))).map_err(|_| UnknownDevice)
    }
}

impl TryFrom<String> for DeviceChoice {
    type Error = UnknownDevice;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        name.parse()
    }
}

/// Why the device that was asked for cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    #[error(
        "device {wanted}: no NVIDIA driver answers ({reason}): install the driver, start a container \
         with its GPUs, or use --device cpu"
    )]
    NoDriver { wanted: String, reason: String },
    #[error("device {wanted}: there is no such GPU; this machine has {found}")]
    NoSuchGpu { wanted: String, found: String },
    #[error(
        "this machine has {count} GPUs: run one worker for each, with --device cuda:0 and so on; it has \
         {found}"
    )]
    Several { count: usize, found: String },
    #[error(
        "device {wanted}: no engine for its compute capability {capability} is beside the worker (found: \
         {found}): install stoker-engine-cuda{capability} there, name an engine with --engine, or use \
         --device cpu"
    )]
    NoEngine { wanted: String, capability: u32, found: String },
}

/// What is there to choose from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offer<'a> {
    /// The GPUs, or why the driver does not answer.
    pub(super) gpus: &'a Result<Vec<About>, String>,
    /// Names of files beside the worker.
    pub(super) files: &'a [String],
    /// The settings name an engine, whatever it was built for.
    pub(super) engine_is_named: bool,
}

/// What was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Chosen {
    /// The CPU, and why not a GPU that is there.
    Cpu { because: Option<String> },
    /// A GPU, and the name of the engine's file unless the settings name one.
    Gpu { about: About, engine: Option<String> },
}

/// Chooses.
pub(super) fn choose(wanted: &DeviceChoice, offer: Offer<'_>) -> Result<Chosen, DeviceError> {
    let name = match wanted {
        DeviceChoice::Cpu => return Ok(Chosen::Cpu { because: None }),
        DeviceChoice::Auto => return choose_freely(offer),
        DeviceChoice::Gpu(name) => name,
    };
    let wanted = wanted.to_string();
    let gpus = offer.gpus.as_ref().map_err(|reason| DeviceError::NoDriver {
        wanted: wanted.clone(),
        reason: reason.clone(),
    })?;
    let is_it = |about: &&About| match name {
        GpuName::Index(index) => about.index == *index,
        GpuName::Uuid(uuid) => about.uuid.starts_with(uuid.as_str()),
    };
    let Some(about) = gpus.iter().find(is_it) else {
        return Err(DeviceError::NoSuchGpu { wanted, found: list(gpus) });
    };
    with_engine(about, offer).ok_or_else(|| no_engine(wanted, about.capability, offer.files))
}

fn choose_freely(offer: Offer<'_>) -> Result<Chosen, DeviceError> {
    let gpus = match offer.gpus {
        Ok(gpus) if !gpus.is_empty() => gpus,
        Ok(_) | Err(_) => return Ok(Chosen::Cpu { because: None }),
    };
    let usable: Vec<Chosen> = gpus.iter().filter_map(|about| with_engine(about, offer)).collect();
    match usable.as_slice() {
        [only] if gpus.len() == 1 => Ok(only.clone()),
        [] => {
            let because = no_engine(list(gpus), gpus[0].capability, offer.files).to_string();
            Ok(Chosen::Cpu { because: Some(because) })
        }
        _ => Err(DeviceError::Several { count: gpus.len(), found: list(gpus) }),
    }
}

fn with_engine(about: &About, offer: Offer<'_>) -> Option<Chosen> {
    let about = about.clone();
    if offer.engine_is_named {
        return Some(Chosen::Gpu { about, engine: None });
    }
    let engine = engine_file::best(offer.files, about.capability)?.to_owned();
    Some(Chosen::Gpu { about, engine: Some(engine) })
}

fn no_engine(wanted: String, capability: u32, files: &[String]) -> DeviceError {
    let engines: Vec<&str> = engine_file::all(files).collect();
    let found = if engines.is_empty() { "none".to_owned() } else { engines.join(", ") };
    DeviceError::NoEngine { wanted, capability, found }
}

fn list(gpus: &[About]) -> String {
    let one = |about: &About| format!("cuda:{} {} ({})", about.index, about.model, about.uuid);
    if gpus.is_empty() {
        "none".to_owned()
    } else {
        gpus.iter().map(one).collect::<Vec<_>>().join(", ")
    }
}

/// Looks at the machine and chooses.
///
/// # Errors
/// When the device that was asked for cannot be used, with what to do about it.
pub fn find(
    wanted: &DeviceChoice,
    engine: Option<&Path>,
    beside: &Path,
) -> Result<Machine, DeviceError> {
    if *wanted == DeviceChoice::Cpu {
        return Ok(Machine::Cpu);
    }
    let nvml = Nvml::open();
    let gpus = match &nvml {
        Ok(nvml) => nvml.all().map_err(|error| error.to_string()),
        Err(reason) => Err(reason.clone()),
    };
    let files = engine_file::names_in(beside);
    let offer = Offer { gpus: &gpus, files: &files, engine_is_named: engine.is_some() };
    match (choose(wanted, offer)?, nvml) {
        (Chosen::Gpu { about, engine: file }, Ok(nvml)) => {
            let built_for_it = || beside.join(file.as_deref().unwrap_or(ENGINE));
            let engine: PathBuf = engine.map_or_else(built_for_it, Path::to_owned);
            tracing::info!(
                device = about.index, uuid = about.uuid, model = about.model,
                driver = about.driver, engine = %engine.display(), "computing on a GPU"
            );
            Ok(Machine::Gpu(Box::new(Gpu { nvml, about, engine })))
        }
        (Chosen::Cpu { because: Some(because) }, _) => {
            tracing::warn!(because, "computing on the CPU");
            Ok(Machine::Cpu)
        }
        (Chosen::Cpu { because: None } | Chosen::Gpu { .. }, _) => Ok(Machine::Cpu),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(index: u32) -> About {
        About {
            index,
            uuid: format!("GPU-{index}000-aa"),
            model: "H100".to_owned(),
            capability: 90,
            driver: "580.1".to_owned(),
            memory_bytes: Some(80 << 30),
        }
    }

    fn chosen(
        wanted: &str,
        gpus: &Result<Vec<About>, String>,
        files: &[&str],
    ) -> Result<Chosen, DeviceError> {
        let files: Vec<String> = files.iter().map(|name| (*name).to_owned()).collect();
        let offer = Offer { gpus, files: &files, engine_is_named: false };
        choose(&wanted.parse().unwrap(), offer)
    }

    #[test]
    fn names_parse_back() {
        for name in ["auto", "cpu", "cuda:0", "cuda:12", "cuda:GPU-1b2c"] {
            assert_eq!(name.parse::<DeviceChoice>().unwrap().to_string(), name);
        }
        for wrong in ["", "gpu", "cuda", "cuda:", "cuda:-1", "cuda:x", "0"] {
            assert_eq!(wrong.parse::<DeviceChoice>(), Err(UnknownDevice), "{wrong}");
        }
    }

    #[test]
    fn a_machine_without_a_driver_or_a_gpu_computes_on_its_cpu() {
        for gpus in [Err("no library".to_owned()), Ok(Vec::new())] {
            for wanted in ["auto", "cpu"] {
                let found = chosen(wanted, &gpus, &["stoker-engine"]).unwrap();
                assert_eq!(found, Chosen::Cpu { because: None });
            }
        }
        let error = chosen("cuda:0", &Err("no library".to_owned()), &[]).unwrap_err().to_string();
        assert!(error.contains("no library") && error.contains("--device cpu"), "{error}");
        let error = chosen("cuda:0", &Ok(Vec::new()), &[]).unwrap_err().to_string();
        assert!(error.contains("this machine has none"), "{error}");
    }

    #[test]
    fn the_only_gpu_is_taken_with_the_engine_that_fits() {
        let found = chosen("auto", &Ok(vec![gpu(0)]), &["stoker-engine", "stoker-engine-cuda90"]);
        let engine = Some("stoker-engine-cuda90".to_owned());
        assert_eq!(found.unwrap(), Chosen::Gpu { about: gpu(0), engine });
    }

    #[test]
    fn a_gpu_without_an_engine_is_left_alone_unless_it_was_asked_for() {
        let (gpus, files) = (Ok(vec![gpu(0)]), ["stoker-engine", "stoker-engine-cuda80"]);
        let Ok(Chosen::Cpu { because: Some(because) }) = chosen("auto", &gpus, &files) else {
            panic!("not the CPU, with a reason")
        };
        assert!(because.contains("stoker-engine-cuda90"), "{because}");
        let error = chosen("cuda:0", &gpus, &files).unwrap_err().to_string();
        assert!(error.contains("found: stoker-engine-cuda80"), "{error}");
        let offer = Offer { gpus: &gpus, files: &[], engine_is_named: true };
        let named = choose(&"cuda:0".parse().unwrap(), offer).unwrap();
        assert_eq!(named, Chosen::Gpu { about: gpu(0), engine: None });
    }

    #[test]
    fn one_of_several_gpus_must_be_named_by_number_or_uuid() {
        let (gpus, files) = (Ok(vec![gpu(0), gpu(1)]), ["stoker-engine-cuda90"]);
        let error = chosen("auto", &gpus, &files).unwrap_err().to_string();
        assert!(error.contains("one worker for each") && error.contains("cuda:1"), "{error}");
        for name in ["cuda:1", "cuda:GPU-1000-aa", "cuda:GPU-1"] {
            let Ok(Chosen::Gpu { about, .. }) = chosen(name, &gpus, &files) else {
                panic!("{name} is not chosen")
            };
            assert_eq!(about.index, 1, "{name}");
        }
        let error = chosen("cuda:2", &gpus, &files).unwrap_err().to_string();
        assert!(error.contains("no such GPU") && error.contains("GPU-1000-aa"), "{error}");
    }
}
