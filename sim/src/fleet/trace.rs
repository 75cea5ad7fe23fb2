//! Jobs from recorded arrivals, a row per request, and capacity from recorded spot markets.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::fleet::job::{Job, Millis, Workload, millis};
use crate::fleet::market::Steps;
use crate::fleet::table::{Table, TraceError};

/// Jobs of a trace that has one row per request, with arrival and service time in seconds. Times are whole
/// seconds there, so each is moved within its second.
pub fn requests(table: &Table, name: &str, seed: u64) -> Result<Workload, TraceError> {
    let (at, service) = (table.column("t_s")?, table.column("service_s")?);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let jobs: Vec<Job> = at
        .iter()
        .zip(&service)
        .map(|(at, service)| Job {
            at: millis(at + rng.random::<f64>()),
            service: millis(*service).max(1),
            class: 0,
            model: 0,
        })
        .collect();
    Ok(Workload::covering(name, jobs))
}

/// Jobs of a trace of language-model requests, for a worker that reads `prompt` and writes `output` tokens
/// per second, one request at a time.
pub fn tokens(
    table: &Table,
    name: &str,
    (prompt, output): (f64, f64),
) -> Result<Workload, TraceError> {
    let (at, read) = (table.column("t_s")?, table.column("input_tokens")?);
    let written = table.column("output_tokens")?;
    let jobs: Vec<Job> = at
        .iter()
        .zip(read.iter().zip(&written))
        .map(|(at, (read, written))| Job {
            at: millis(*at),
            service: millis(read / prompt + written / output).max(1),
            class: 0,
            model: 0,
        })
        .collect();
    let end = jobs.iter().map(|job| job.at + 1).max().unwrap_or(0);
    Ok(Workload::new(name, jobs, end))
}

/// Capacity over time of a column of a spot trace, repeated until `end`.
pub fn capacity(table: &Table, column: &str, end: Millis) -> Result<Steps, TraceError> {
    let (at, value) = (table.column("t_s")?, table.column(column)?);
    let span = at.last().map_or(0, |last| millis(*last));
    let mut steps = Vec::new();
    let mut offset = 0;
    loop {
        for (at, value) in at.iter().zip(&value) {
            let whole = u32::try_from(crate::fleet::job::whole(*value)).unwrap_or(u32::MAX);
            steps.push((offset + millis(*at), whole));
        }
        offset += span;
        if span <= 0 || offset >= end {
            return Ok(Steps::new(steps));
        }
    }
}
