//! Generated workloads, for tests and where no recorded trace may be shipped. Their parameters are stated
//! with each.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp, LogNormal};

use crate::fleet::job::{HOUR_MS, Job, Millis, Workload, millis};
use crate::fleet::market::Steps;

const DAY: Millis = 24 * HOUR_MS;

/// Days with a peak in the evening and next to nothing in the early morning: Poisson arrivals whose rate follows
/// a sine between 2 % and 100 % of `peak` jobs a second, lowest at 5 o'clock; service lognormal with
/// mean 20 s and spread 0.7 of it.
pub fn daily(days: i64, peak: f64, seed: u64) -> Workload {
    let rate = |at: Millis| {
        let hour = crate::fleet::job::seconds(at % DAY) / 3600.0;
        let swing = 0.5 - 0.5 * ((hour - 5.0) / 24.0 * std::f64::consts::TAU).cos();
        peak * (0.02 + 0.98 * swing * swing)
    };
    arrivals("synthetic daily", days * DAY, (peak, &rate), seed)
}

/// A quiet stream with bursts: 0.01 jobs a second, and on average once in two hours ten minutes of 0.3 a second;
/// service as in [`daily`].
pub fn bursts(days: i64, seed: u64) -> Workload {
    let mut rng = ChaCha8Rng::seed_from_u64(seed.wrapping_add(1000));
    let mut starts = Vec::new();
    let mut at = 0;
    while at < days * DAY {
        at += exponential(&mut rng, 7200.0) + 600_000;
        starts.push(at);
    }
    let rate = |at: Millis| {
        let before = starts.partition_point(|start| *start <= at);
        let in_burst = before > 0 && at - starts[before - 1] < 600_000;
        if in_burst { 0.3 } else { 0.01 }
    };
    arrivals("synthetic bursts", days * DAY, (0.3, &rate), seed)
}

/// Spot capacity of a zone that comes and goes: up to 8 for two hours on average, then none for 30 minutes on average.
pub fn capacity(days: i64, seed: u64) -> Steps {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (mut at, mut steps) = (0, Vec::new());
    while at < days * DAY {
        steps.push((at, 2 + u32::from(rng.random::<u8>() % 7)));
        at += exponential(&mut rng, 7200.0);
        steps.push((at, 0));
        at += exponential(&mut rng, 1800.0);
    }
    Steps::new(steps)
}

/// [`capacity`] of several zones, by name and seed, as a trace of spot capacity: a row for each change.
pub fn capacities(days: i64, zones: &[(&str, u64)]) -> String {
    let steps: Vec<Steps> = zones.iter().map(|(_, seed)| capacity(days, *seed)).collect();
    let mut times: Vec<Millis> =
        steps.iter().flat_map(Steps::iter).map(|(at, _)| at / 1000).collect();
    times.sort_unstable();
    times.dedup();
    let names: Vec<&str> =
        std::iter::once("t_s").chain(zones.iter().map(|(name, _)| *name)).collect();
    let mut text = names.join(",") + "\n";
    for time in times {
        // What changes within a second has changed by its end.
        let values = steps.iter().map(|steps| steps.at(time * 1000 + 999).to_string());
        let row: Vec<String> = std::iter::once(time.to_string()).chain(values).collect();
        text += &(row.join(",") + "\n");
    }
    text
}

/// The zones of the trace that the tests use, with their seeds.
pub const ZONES: [(&str, u64); 3] = [("a", 1), ("b", 2), ("c", 3)];

/// Poisson arrivals by thinning: candidates at the highest rate are kept with the share that holds then.
fn arrivals(
    name: &str,
    end: Millis,
    (most, rate): (f64, &dyn Fn(Millis) -> f64),
    seed: u64,
) -> Workload {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let variance = (1.0_f64 + 0.7 * 0.7).ln();
    let service = LogNormal::new(20.0_f64.ln() - variance / 2.0, variance.sqrt());
    let (mut at, mut jobs) = (0, Vec::new());
    while at < end {
        at += exponential(&mut rng, 1.0 / most);
        if rng.random::<f64>() * most < rate(at) {
            let service = service.map_or(20_000, |time| millis(time.sample(&mut rng)));
            jobs.push(Job { at, service: service.max(1), class: 0, model: 0 });
        }
    }
    Workload::new(name, jobs, end)
}

fn exponential(rng: &mut ChaCha8Rng, mean: f64) -> Millis {
    Exp::new(1.0 / mean).map_or(1, |time| millis(time.sample(rng))).max(1)
}
