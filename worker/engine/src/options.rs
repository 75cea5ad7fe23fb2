//! What every engine is told of its model.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::thread;

use candle_core::Device;

use crate::{EngineDevice, LoadError, Precision, device};

const LANES_GPU: u32 = 2;

/// Which model to load, and where to run it.
#[derive(Debug, Clone)]
pub struct ModelOptions {
    /// Its name in the registry.
    pub name: String,
    /// Its folder.
    pub directory: PathBuf,
    /// `sha256:` and the digest that the weights must have.
    pub digest: Option<String>,
    pub device: EngineDevice,
    /// How exactly a GPU computes with weights that are not quantized; a CPU always uses f32.
    pub precision: Precision,
    /// Batches, sequences or recordings at the same time; by default what suits device and task.
    pub lanes: Option<NonZeroU32>,
}

impl ModelOptions {
    /// The folder's model on the CPU, with any weights.
    pub fn new(name: &str, directory: impl Into<PathBuf>) -> Self {
        Self {
            name: name.to_owned(),
            directory: directory.into(),
            digest: None,
            device: EngineDevice::Cpu,
            precision: Precision::F32,
            lanes: None,
        }
    }

    /// Opens the device, and says how exactly it really computes.
    ///
    /// # Errors
    /// When it cannot be used.
    pub(crate) fn open(&self) -> Result<(Device, Precision), LoadError> {
        let device = self.device.open()?;
        let precision = device::apply(self.precision, &device);
        Ok((device, precision))
    }

    /// Batches or recordings at the same time, on the device that was opened; texts that are generated share their steps,
    /// and have a default of their own.
    ///
    /// Forward passes side by side use the cores of a CPU better than threads inside each. A GPU runs one after the
    /// other; while it does, the second lane hands in the next and takes the last one's results.
    pub(crate) fn lanes_on(&self, device: &Device) -> u32 {
        let usual = || {
            let cores = thread::available_parallelism().map_or(1, usize::from);
            if device.is_cpu() { u32::try_from(cores).unwrap_or(u32::MAX) } else { LANES_GPU }
        };
        self.lanes.map_or_else(usual, u32::from)
    }
}
