//! The machine's GPU as its vendor's library tells of it: which one a worker uses, and how it is.
//!
//! NVML is looked for at run time, so that a worker starts where there is no driver. It is the only
//! part of the driver that a worker touches: computing is the engines'.

mod choice;
mod engine_file;
mod fitness;
mod monitor;
mod nvml;

use std::path::PathBuf;

pub use choice::{DeviceChoice, DeviceError, GpuName, UnknownDevice, find};
pub(crate) use engine_file::ENGINE;
pub use fitness::{Fitness, History, Readings, Sight};
pub use monitor::{GpuMeter, watch};
pub use nvml::{Nvml, Usage};

/// What a worker computes on.
#[derive(Debug)]
pub enum Machine {
    Cpu,
    Gpu(Box<Gpu>),
}

/// The one GPU that a worker uses.
#[derive(Debug)]
pub struct Gpu {
    pub nvml: Nvml,
    pub about: About,
    /// The engine that was built for it, unless the settings name another.
    pub engine: PathBuf,
}

/// What stays as it is while a worker runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// The vendor's number of it on this machine.
    pub index: u32,
    /// Names it everywhere and for ever: `GPU-` and 32 hex digits in groups.
    pub uuid: String,
    pub model: String,
    /// Its generation, times ten: 90 for an H100.
    pub capability: u32,
    /// The version of the driver.
    pub driver: String,
    /// All of its memory, if it tells.
    pub memory_bytes: Option<u64>,
}

impl Machine {
    /// How the fleet's operators see it.
    pub fn label(&self) -> String {
        match self {
            Self::Cpu => "cpu".to_owned(),
            Self::Gpu(gpu) => format!("cuda:{} {}", gpu.about.index, gpu.about.model),
        }
    }
}
