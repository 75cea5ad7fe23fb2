//! Where a model runs, and what its errors mean.

use std::fmt;
use std::str::FromStr;

use candle_core::Device;
use stoker_engine_api::EngineError;

use crate::{LoadError, Precision};

/// A device as it is named on the command line. A worker makes the one GPU that it is for visible to
/// its engines, which is then number 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineDevice {
    Cpu,
    /// An NVIDIA device by its number.
    Cuda(usize),
}

impl fmt::Display for EngineDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

/// A device name that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("use cpu or cuda:0")]
pub struct UnknownDevice;

impl FromStr for EngineDevice {
    type Err = UnknownDevice;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        if name == "cpu" {
            return Ok(Self::Cpu);
        }
        let number = name.strip_prefix("cuda:").ok_or(UnknownDevice)?;
        number.parse().map(Self::Cuda).map_err(|_| UnknownDevice)
    }
}

impl EngineDevice {
    /// Opens the device. There is no falling back to another one: the worker chose it.
    ///
    /// # Errors
    /// When this binary was built without it, or the driver refuses.
    pub fn open(self) -> Result<Device, LoadError> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(number) => open_cuda(number)
                .map_err(|what| LoadError::Device { device: self.to_string(), what }),
        }
    }
}

#[cfg(feature = "cuda")]
fn open_cuda(number: usize) -> Result<Device, String> {
    crate::cuda::open(number).map_err(|error| one_line(&error))
}

#[cfg(not(feature = "cuda"))]
fn open_cuda(_: usize) -> Result<Device, String> {
    Err(NOT_BUILT_IN.to_owned())
}

#[cfg(not(feature = "cuda"))]
const NOT_BUILT_IN: &str = "this engine was built for the CPU only";

/// What each refusal of the driver asks for, by the name that is in its message.
const ADVICE: [(&str, &str); 9] = [
    (
        "CUDA_ERROR_STUB_LIBRARY",
        "the libcuda.so.1 that was found is the stub for building: install NVIDIA's driver, and take \
         the stub out of LD_LIBRARY_PATH",
    ),
    (
        "CUDA_ERROR_NO_DEVICE",
        "no GPU is visible: check that `nvidia-smi` lists one, that CUDA_VISIBLE_DEVICES names it, and \
         that a container was started with its GPUs; or use the device cpu",
    ),
    (
        "CUDA_ERROR_INVALID_DEVICE",
        "there is no GPU with this number: see the list of `nvidia-smi -L`",
    ),
    (
        "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
        "driver and kernel module are of different versions: restart the machine after the update",
    ),
    (
        "INSUFFICIENT_DRIVER",
        "the driver is older than the CUDA that this engine was built with: update the driver",
    ),
    (
        "CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
        "the driver is older than the CUDA that this engine was built with: update the driver",
    ),
    (
        "CUDA_ERROR_OUT_OF_MEMORY",
        "the GPU has no memory left: `nvidia-smi` shows who uses it; one worker per GPU is enough",
    ),
    (", a GPU ", "serve this model on the device cpu"),
    ("built for the CPU only", "use the engine with `cuda` in its name, or the device cpu"),
];

/// What a person can do about a device that cannot be used.
pub(crate) fn advice(what: &str) -> &'static str {
    let known = ADVICE.into_iter().find(|(name, _)| what.contains(name));
    known.map_or(
        "check the device and its free memory with its vendor's tool, and that this engine was built \
         for it",
        |(_, advice)| advice,
    )
}

/// Sets how exactly matrix products on this device are computed, for the whole process; gives what
/// really holds there.
pub(crate) fn apply(precision: Precision, device: &Device) -> Precision {
    if device.is_cpu() {
        return Precision::F32;
    }
    #[cfg(feature = "cuda")]
    candle_core::cuda_backend::set_gemm_reduced_precision_f32(precision == Precision::Tf32);
    precision
}

/// The outputs of a network, which must be numbers.
pub(crate) fn finite(outputs: Vec<Vec<f32>>) -> Result<Vec<Vec<f32>>, EngineError> {
    if outputs.iter().flatten().all(|number| number.is_finite()) {
        return Ok(outputs);
    }
    let message = "an output holds numbers that are not finite".to_owned();
    Err(EngineError::Internal { message })
}

/// The class of an error that a running model met.
pub(crate) fn classify(error: &candle_core::Error) -> EngineError {
    let message = one_line(error);
    if message.contains("OUT_OF_MEMORY") || message.contains("ALLOC_FAILED") {
        EngineError::OutOfMemory { message }
    } else if is_device_error(error) {
        EngineError::Device { message }
    } else {
        EngineError::Internal { message }
    }
}

fn is_device_error(error: &candle_core::Error) -> bool {
    match error {
        candle_core::Error::Cuda(_) => true,
        candle_core::Error::Context { inner, .. }
        | candle_core::Error::WithPath { inner, .. }
        | candle_core::Error::WithBacktrace { inner, .. } => is_device_error(inner),
        _ => false,
    }
}

/// candle appends backtraces on the lines that follow.
pub(crate) fn one_line(error: &candle_core::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back() {
        for device in [EngineDevice::Cpu, EngineDevice::Cuda(0), EngineDevice::Cuda(7)] {
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        for wrong in ["", "gpu", "cuda", "cuda:", "cuda:x", "cuda:-1"] {
            assert_eq!(wrong.parse::<EngineDevice>(), Err(UnknownDevice), "{wrong}");
        }
    }

    #[test]
    fn errors_are_told_apart() {
        let cuda = |text: &str| candle_core::Error::Cuda(text.to_owned().into());
        let oom = cuda("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")");
        assert!(matches!(classify(&oom), EngineError::OutOfMemory { .. }));
        let sticky = cuda("DriverError(CUDA_ERROR_ILLEGAL_ADDRESS, \"\")").context("forward");
        assert!(matches!(classify(&sticky), EngineError::Device { .. }));
        let other = candle_core::Error::Msg("shape mismatch".to_owned()).bt();
        assert!(matches!(classify(&other), EngineError::Internal { .. }));
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn device_that_was_not_built_in_is_refused() {
        let error = EngineDevice::Cuda(0).open().unwrap_err();
        assert!(
            matches!(&error, LoadError::Device { device, .. } if device == "cuda:0"),
            "{error}"
        );
        assert!(error.remedy().contains("the device cpu"), "{}", error.remedy());
    }
}
