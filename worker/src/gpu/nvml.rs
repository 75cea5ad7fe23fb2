//! Reading a GPU through NVML, the vendor's library. Nothing is decided here.

use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{
    EccCounter, MemoryError, TemperatureSensor, TemperatureThreshold,
};
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml as Library};

use super::{About, Readings, Sight};

/// The library, loaded.
#[derive(Debug)]
pub struct Nvml(Library);

/// How busy and full a device is, for graphs. `None` is what it does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Usage {
    /// Share of the last second or less in which anything ran.
    pub utilization: Option<f64>,
    pub memory_used_bytes: Option<u64>,
    pub memory_total_bytes: Option<u64>,
    pub power_watts: Option<f64>,
}

impl Nvml {
    /// Loads the library.
    ///
    /// # Errors
    /// Why there is none, on one line.
    pub fn open() -> Result<Self, String> {
        Library::init().map(Self).map_err(|error| error.to_string())
    }

    /// Every GPU that this process may see.
    ///
    /// # Errors
    /// When the driver does not answer for one of them.
    pub fn all(&self) -> Result<Vec<About>, NvmlError> {
        let driver = self.0.sys_driver_version()?;
        (0..self.0.device_count()?)
            .map(|index| about(&self.0.device_by_index(index)?, &driver))
            .collect()
    }

    /// One look at a GPU.
    pub fn look(&self, uuid: &str) -> (Sight, Usage) {
        match self.0.device_by_uuid(uuid) {
            Ok(device) => (sight(&device), usage(&device)),
            Err(error) => (lost_or_unknown(&error), Usage::default()),
        }
    }

    /// Memory of a GPU that one process uses; `None` if that is not told, as in a container whose processes have other
    /// numbers than the driver's.
    pub fn used_by(&self, uuid: &str, pid: u32) -> Option<u64> {
        let processes = self.0.device_by_uuid(uuid).ok()?.running_compute_processes().ok()?;
        let process = processes.into_iter().find(|process| process.pid == pid)?;
        match process.used_gpu_memory {
            UsedGpuMemory::Used(bytes) => Some(bytes),
            UsedGpuMemory::Unavailable => None,
        }
    }
}

fn about(device: &Device<'_>, driver: &str) -> Result<About, NvmlError> {
    let capability = device.cuda_compute_capability()?;
    Ok(About {
        index: device.index()?,
        uuid: device.uuid()?,
        model: device.name()?,
        capability: u32::try_from(capability.major * 10 + capability.minor).unwrap_or_default(),
        driver: driver.to_owned(),
        memory_bytes: device.memory_info().ok().map(|memory| memory.total),
    })
}

fn sight(device: &Device<'_>) -> Sight {
    // Every device tells its temperature; what it says instead is about the device itself.
    let temperature = match device.temperature(TemperatureSensor::Gpu) {
        Ok(degrees) => Some(degrees),
        Err(NvmlError::NotSupported) => None,
        Err(error) => return lost_or_unknown(&error),
    };
    let uncorrected = (MemoryError::Uncorrected, EccCounter::Volatile);
    let throttle = device.current_throttle_reasons();
    Sight::Seen(Readings {
        uncorrected_errors: device.total_ecc_errors(uncorrected.0, uncorrected.1).ok(),
        pages_pending: device.are_pages_pending_retired().ok(),
        temperature,
        slowdown_temperature: device.temperature_threshold(TemperatureThreshold::Slowdown).ok(),
        slowed_by_hardware: throttle
            .ok()
            .map(|reasons| reasons.contains(ThrottleReasons::HW_SLOWDOWN)),
    })
}

fn lost_or_unknown(error: &NvmlError) -> Sight {
    match error {
        NvmlError::GpuLost | NvmlError::ResetRequired | NvmlError::NotFound => {
            Sight::Lost { reason: error.to_string() }
        }
        error => {
            tracing::debug!(%error, "the GPU's driver does not answer");
            Sight::Unknown
        }
    }
}

fn usage(device: &Device<'_>) -> Usage {
    let memory = device.memory_info().ok();
    Usage {
        utilization: device.utilization_rates().ok().map(|rates| f64::from(rates.gpu) / 100.0),
        memory_used_bytes: memory.as_ref().map(|memory| memory.used),
        memory_total_bytes: memory.as_ref().map(|memory| memory.total),
        power_watts: device.power_usage().ok().map(|milliwatts| f64::from(milliwatts) / 1_000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `nvidia-smi` would show, of a device that is well.
    #[test]
    #[ignore = "needs an NVIDIA GPU: make test-gpu"]
    fn a_real_gpu_tells_of_itself() {
        let nvml = Nvml::open().unwrap();
        let all = nvml.all().unwrap();
        for about in &all {
            assert!(about.uuid.starts_with("GPU-") && about.capability >= 50, "{about:?}");
            let (sight, usage) = nvml.look(&about.uuid);
            let Sight::Seen(readings) = sight else { panic!("not seen: {sight:?}") };
            assert!(readings.temperature.is_some_and(|degrees| degrees < 120), "{readings:?}");
            let total = usage.memory_total_bytes.unwrap();
            assert!(usage.memory_used_bytes.unwrap() <= total && total > 1 << 30, "{usage:?}");
            let text = format!("gpu: {about:?}\ngpu: {readings:?}\ngpu: {usage:?}\n");
            std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes()).unwrap();
        }
        assert!(!all.is_empty());
        let (sight, _) = nvml.look("GPU-00000000-0000-0000-0000-000000000000");
        assert!(matches!(sight, Sight::Lost { .. } | Sight::Unknown), "{sight:?}");
    }

    #[test]
    fn only_what_the_driver_says_of_the_device_itself_makes_it_lost() {
        for error in [NvmlError::GpuLost, NvmlError::ResetRequired] {
            assert!(matches!(lost_or_unknown(&error), Sight::Lost { .. }), "{error}");
        }
        for error in [NvmlError::Timeout, NvmlError::NoPermission, NvmlError::Uninitialized] {
            assert_eq!(lost_or_unknown(&error), Sight::Unknown, "{error}");
        }
    }
}
