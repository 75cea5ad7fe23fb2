//! The memory that a worker's models share: how much there is, and what an engine uses of it.

use std::path::Path;
use std::time::Duration;

use stoker_core::ids::ModelName;
use stoker_runtime::config::ByteSize;
use tokio::time::timeout;

use crate::gpu::{GpuMeter, Machine};

/// Of the machine's memory, what models get unless the settings say otherwise; the rest is for the worker, jobs and
/// the system.
const PART_OF_MACHINE: (u64, u64) = (3, 4);

/// Of a GPU's memory, one part in so many is left for its driver and what else is on it.
const GPU_MARGIN: u64 = 16;

/// What an engine on the CPU needs besides its weights: its process, and a batch.
const CPU_ENGINE_BYTES: u64 = 32 << 20;

/// The same on a GPU, where the driver's part of it is large.
const GPU_ENGINE_BYTES: u64 = 512 << 20;

/// A driver that does not answer in this time tells nothing.
const METER_LIMIT: Duration = Duration::from_secs(10);

/// What an engine needs at least on this machine.
pub const fn least_bytes(machine: &Machine) -> u64 {
    match machine {
        Machine::Cpu => CPU_ENGINE_BYTES,
        Machine::Gpu(_) => GPU_ENGINE_BYTES,
    }
}

/// A model alone needs more than there is for all of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "model `{model}` needs about {need} of memory, and `memory-budget` is {budget}: raise it, or name the other models \
     with `models`"
)]
pub struct TooLarge {
    pub model: ModelName,
    pub need: ByteSize,
    pub budget: ByteSize,
}

/// Memory for all models together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Budget {
    /// As the settings say.
    Set(u64),
    /// What this machine has.
    Found(u64),
}

impl Budget {
    /// The setting, or what suits the machine. A machine that does not tell its memory sets no limit.
    pub fn of(setting: Option<ByteSize>, machine: &Machine) -> Self {
        if let Some(set) = setting {
            return Self::Set(set.bytes());
        }
        let found = match machine {
            Machine::Gpu(gpu) => gpu.about.memory_bytes.map(|all| all - all / GPU_MARGIN),
            Machine::Cpu => of_machine().map(|all| all / PART_OF_MACHINE.1 * PART_OF_MACHINE.0),
        };
        Self::Found(found.unwrap_or(u64::MAX))
    }

    pub const fn bytes(self) -> u64 {
        match self {
            Self::Set(bytes) | Self::Found(bytes) => bytes,
        }
    }

    /// What is expected of a model's need. An estimate is no reason to refuse a model on a machine whose memory nobody
    /// has set a limit to: its engine knows better.
    ///
    /// # Errors
    /// When the model alone needs more than the settings allow.
    pub fn admit(self, model: &ModelName, need_bytes: u64) -> Result<u64, TooLarge> {
        match self {
            Self::Set(budget) if need_bytes > budget => Err(TooLarge {
                model: model.clone(),
                need: ByteSize::mebibytes(need_bytes.div_ceil(1 << 20)),
                budget: ByteSize::from_bytes(budget),
            }),
            Self::Set(_) => Ok(need_bytes),
            Self::Found(budget) => Ok(need_bytes.min(budget)),
        }
    }
}

/// The machine's memory, or what its control group may have of it.
fn of_machine() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(Path::new(path)).ok();
    let machine = kibibytes(&read("/proc/meminfo")?, "MemTotal:")?;
    let group = read("/sys/fs/cgroup/memory.max").and_then(|text| text.trim().parse().ok());
    Some(group.map_or(machine, |group: u64| group.min(machine)))
}

/// Of a file in `/proc` with a line `NAME  NUMBER kB`: the number, in bytes.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let number: u64 = line.split_whitespace().next()?.parse().ok()?;
    number.checked_mul(1 << 10)
}

/// Says what an engine's process uses of the device's memory.
#[derive(Debug, Clone)]
pub enum Meter {
    Cpu,
    Gpu(GpuMeter),
}

impl Meter {
    /// `None`: it cannot be told, for example since the process has ended, or the driver counts processes otherwise.
    pub async fn read(&self, pid: u32) -> Option<u64> {
        match self {
            Self::Cpu => {
                let status = tokio::fs::read_to_string(format!("/proc/{pid}/status")).await.ok()?;
                kibibytes(&status, "VmRSS:")
            }
            Self::Gpu(meter) => timeout(METER_LIMIT, meter.read(pid)).await.ok().flatten(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_kibibytes() {
        let text = "Name:\tengine\nVmRSS:\t    2048 kB\nThreads:\t3\n";
        assert_eq!(kibibytes(text, "VmRSS:"), Some(2 << 20));
        assert_eq!(kibibytes(text, "Name:"), None);
        assert_eq!(kibibytes(text, "VmHWM:"), None);
        assert!(of_machine().is_some_and(|bytes| bytes > 1 << 20));
    }

    #[test]
    fn a_model_that_is_too_large_for_the_setting_is_refused_with_both_sizes() {
        let model = ModelName::new("large").unwrap();
        let budget = Budget::of(Some(ByteSize::mebibytes(100)), &Machine::Cpu);
        assert_eq!(budget.admit(&model, 100 << 20).unwrap(), 100 << 20);
        let text = budget.admit(&model, 300 << 20).unwrap_err().to_string();
        for part in ["`large`", "300MiB", "100MiB", "memory-budget"] {
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(Budget::Found(100).admit(&model, 300).unwrap(), 100, "its engine is tried");
    }

    #[tokio::test]
    async fn a_process_is_measured_as_long_as_it_is_there() {
        assert!(Meter::Cpu.read(std::process::id()).await.is_some_and(|bytes| bytes > 1 << 16));
        assert_eq!(Meter::Cpu.read(u32::MAX).await, None);
    }
}
