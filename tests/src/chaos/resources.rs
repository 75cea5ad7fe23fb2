//! What a process that lives on uses, over time: memory, open files, and the store's space.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::programs::memory;

use super::Stage;

const EVERY: Duration = Duration::from_secs(5);
/// What a series may grow from the second quarter of the run to the last: a share, and an amount below
/// which nothing is told from noise.
const GROWTH: f64 = 1.1;
const MEMORY_NOISE: u64 = 8 << 20;
const FILES_NOISE: u64 = 16;
const STORE_NOISE: u64 = 4 << 20;

/// One reading of each series, in its order.
#[derive(Debug, Clone, Serialize)]
struct Reading {
    seconds: f64,
    values: Vec<u64>,
}

/// Something that must not grow.
#[derive(Debug, Clone, Serialize)]
struct Series {
    name: &'static str,
    #[serde(skip)]
    noise: u64,
    #[serde(skip)]
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    /// Resident memory of a process, in bytes.
    Memory(u32),
    /// Open file descriptors of a process.
    Files(u32),
    /// Bytes of the files under a folder.
    Space(PathBuf),
}

/// Readings over the time of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Resources {
    series: Vec<Series>,
    readings: Vec<Reading>,
}

impl Resources {
    /// What grew, for people. A process fills its pools and caches in the first quarter; from then on a
    /// quarter must be like the other.
    pub fn grown(&self) -> Vec<String> {
        if self.readings.len() < 8 {
            return vec![format!("{} readings are too few to tell", self.readings.len())];
        }
        let series = self.series.iter().enumerate();
        series.filter_map(|(place, series)| self.growth(place, series)).collect()
    }

    fn growth(&self, place: usize, series: &Series) -> Option<String> {
        let quarter = self.readings.len() / 4;
        let median = |from: usize, to: usize| {
            let mut values: Vec<u64> =
                self.readings[from..to].iter().map(|reading| reading.values[place]).collect();
            values.sort_unstable();
            values[values.len() / 2]
        };
        let (early, late) =
            (median(quarter, 2 * quarter), median(3 * quarter, self.readings.len()));
        #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
        let allowed = early as f64 * GROWTH + series.noise as f64;
        #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
        let grew = late as f64 > allowed;
        grew.then(|| format!("{} grew from {early} to {late}", series.name))
    }

    /// The first and the last reading of each series, for people.
    pub fn text(&self) -> String {
        let (Some(first), Some(last)) = (self.readings.first(), self.readings.last()) else {
            return "no readings".to_owned();
        };
        let pairs = self.series.iter().zip(first.values.iter().zip(&last.values));
        let pairs =
            pairs.map(|(series, (first, last))| format!("{} {first} -> {last}", series.name));
        pairs.collect::<Vec<_>>().join(", ")
    }
}

/// Takes readings until it is stopped.
#[derive(Debug)]
pub(super) struct Watch {
    stop: oneshot::Sender<()>,
    task: JoinSet<anyhow::Result<Resources>>,
}

impl Watch {
    pub(super) async fn stop(mut self) -> anyhow::Result<Resources> {
        // A task that has ended by itself has an error to tell.
        let _ = self.stop.send(());
        let ended = self.task.join_next().await.context("no readings")?;
        ended.context("the readings panicked")?
    }
}

/// Starts to read what the coordinator, the first worker and the store use.
pub(super) fn watch(stage: &mut Stage) -> Watch {
    let (coordinator, worker) = (stage.fleet.coordinator().pid(), stage.fleet.worker(0).pid());
    let store = match &stage.database {
        None => stage.fleet.folder().join("data"),
        Some((server, _)) => server.tables(),
    };
    let of = |name, noise, source| Series { name, noise, source };
    let series = vec![
        of("coordinator memory", MEMORY_NOISE, Source::Memory(coordinator)),
        of("coordinator files", FILES_NOISE, Source::Files(coordinator)),
        of("worker memory", MEMORY_NOISE, Source::Memory(worker)),
        of("worker files", FILES_NOISE, Source::Files(worker)),
        of("store space", STORE_NOISE, Source::Space(store)),
    ];
    let (stop, stopped) = oneshot::channel();
    let mut task = JoinSet::new();
    task.spawn(read(series, stopped));
    Watch { stop, task }
}

async fn read(
    series: Vec<Series>,
    mut stopped: oneshot::Receiver<()>,
) -> anyhow::Result<Resources> {
    let began = Instant::now();
    let mut readings = Vec::new();
    let mut tick = tokio::time::interval(EVERY);
    loop {
        tokio::select! {
            _ = &mut stopped => return Ok(Resources { series, readings }),
            _ = tick.tick() => {}
        }
        let values = series.iter().map(|series| series.source.value()).collect::<Result<_, _>>()?;
        readings.push(Reading { seconds: began.elapsed().as_secs_f64(), values });
    }
}

impl Source {
    fn value(&self) -> anyhow::Result<u64> {
        match self {
            Self::Memory(pid) => memory(*pid),
            Self::Files(pid) => {
                let files = fs::read_dir(format!("/proc/{pid}/fd")).context("counting files")?;
                Ok(u64::try_from(files.count())?)
            }
            Self::Space(folder) => Ok(space(folder)),
        }
    }
}

/// Files come and go while this reads.
fn space(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(of_folder) if of_folder.is_dir() => space(&entry.path()),
        Ok(of_file) => of_file.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory_that_reads(values: impl Iterator<Item = u64>) -> Resources {
        let source = Source::Memory(1);
        let series = vec![Series { name: "memory", noise: MEMORY_NOISE, source }];
        let reading = |(second, value)| Reading { seconds: f64::from(second), values: vec![value] };
        Resources { series, readings: (0..).zip(values).map(reading).collect() }
    }

    #[test]
    fn filling_caches_and_noise_are_no_growth() {
        let warm = |second: u64| second.min(25) * (1 << 20) + (second % 3) * (2 << 20);
        assert_eq!(memory_that_reads((0..100).map(warm)).grown(), Vec::<String>::new());
    }

    #[test]
    fn a_leak_is_growth() {
        let leak = |second: u64| (50 << 20) + second * (1 << 20);
        let grown = memory_that_reads((0..100).map(leak)).grown();
        assert!(grown.len() == 1 && grown[0].starts_with("memory grew from"), "{grown:?}");
    }

    #[test]
    fn a_run_that_is_too_short_says_so() {
        assert_eq!(memory_that_reads(0..3).grown(), ["3 readings are too few to tell"]);
    }
}
