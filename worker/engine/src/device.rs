//! Where a model runs, and what its errors mean.

use std::fmt;
use std::str::FromStr;

use candle_core::Device;
use stoker_engine_api::EngineError;

use crate::LoadError;

/// A device as it is named on the command line.
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
            Self::Cuda(number) => Device::new_cuda(number).map_err(|error| LoadError::Device {
                device: self.to_string(),
                what: one_line(&error),
            }),
        }
    }
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
    }
}
