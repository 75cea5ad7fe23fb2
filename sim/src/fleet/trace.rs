//! Reads recorded traces: arrivals per request, counts and rates per interval, and spot capacity.

use std::fs;
use std::path::{Path, PathBuf};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, LogNormal};

use crate::fleet::job::{HOUR_MS, Job, Millis, Workload, millis};
use crate::fleet::market::Steps;

/// Why a trace could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    #[error("reading the trace {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path} has no column `{column}`; it has: {columns}")]
    Column { path: PathBuf, column: String, columns: String },
    #[error("{path}, line {line}: `{text}` is not a number")]
    Number { path: PathBuf, line: usize, text: String },
}

/// A file of comma-separated numbers with a line of names.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    path: PathBuf,
    names: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn read(path: &Path) -> Result<Self, TraceError> {
        let text = fs::read_to_string(path)
            .map_err(|source| TraceError::Read { path: path.to_owned(), source })?;
        Ok(Self::parse(path, &text))
    }

    /// Takes the text of a file; `path` is for messages.
    pub fn parse(path: &Path, text: &str) -> Self {
        let mut lines = text.lines().filter(|line| !line.trim().is_empty());
        let split = |line: &str| line.split(',').map(|cell| cell.trim().to_owned()).collect();
        let names = lines.next().map(split).unwrap_or_default();
        Self { path: path.to_owned(), names, rows: lines.map(split).collect() }
    }

    /// Names of the columns.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// A column as it is written; empty where it or a cell is missing.
    pub fn texts(&self, name: &str) -> Vec<&str> {
        let at = self.names.iter().position(|n| n == name);
        let cell = |row: &'_ Vec<String>| at.filter(|at| *at < row.len());
        self.rows.iter().map(|row| cell(row).map_or("", |at| row[at].as_str())).collect()
    }

    /// A column as numbers; an empty cell is 0.
    pub fn column(&self, name: &str) -> Result<Vec<f64>, TraceError> {
        let at = self.names.iter().position(|n| n == name).ok_or_else(|| TraceError::Column {
            path: self.path.clone(),
            column: name.to_owned(),
            columns: self.names.join(", "),
        })?;
        let cell = |(index, row): (usize, &Vec<String>)| {
            let text = row.get(at).map_or("", String::as_str);
            let number = if text.is_empty() { Ok(0.0) } else { text.parse::<f64>() };
            number.ok().filter(|n| n.is_finite()).ok_or_else(|| TraceError::Number {
                path: self.path.clone(),
                line: index + 2,
                text: text.to_owned(),
            })
        };
        self.rows.iter().enumerate().map(cell).collect()
    }
}

/// How long jobs take that a trace only counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Service {
    /// Seconds.
    pub mean: f64,
    /// Spread over mean; lognormal.
    pub cv: f64,
}

impl Service {
    fn sample(&self, rng: &mut ChaCha8Rng) -> Millis {
        let variance = (1.0 + self.cv * self.cv).ln();
        let mu = self.mean.max(1e-3).ln() - variance / 2.0;
        LogNormal::new(mu, variance.sqrt())
            .map_or_else(|_| millis(self.mean), |time| millis(time.sample(rng)))
            .max(1)
    }
}

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
        })
        .collect();
    let last = jobs.iter().map(|job| job.at).max().unwrap_or(0);
    Ok(Workload::new(name, jobs, whole_days(last)))
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
        })
        .collect();
    let end = jobs.iter().map(|job| job.at + 1).max().unwrap_or(0);
    Ok(Workload::new(name, jobs, end))
}

/// Jobs of a trace of counts per interval: each interval's are spread evenly at random over it.
pub fn counts(
    (at, values): (&[f64], &[f64]),
    name: &str,
    (scale, service, seed): (f64, Service, u64),
) -> Workload {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let width = at.windows(2).map(|pair| pair[1] - pair[0]).next().unwrap_or(60.0);
    let mut jobs = Vec::new();
    let mut owed = 0.0;
    for (at, value) in at.iter().zip(values) {
        // What a scaled count leaves over is owed to the next interval, so that the total is kept.
        owed += value.max(0.0) * scale;
        while owed >= 1.0 {
            owed -= 1.0;
            let at = millis(at + rng.random::<f64>() * width);
            jobs.push(Job { at, service: service.sample(&mut rng), class: 0 });
        }
    }
    let end = at.last().map_or(0, |last| millis(last + width));
    Workload::new(name, jobs, end)
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

fn whole_days(last: Millis) -> Millis {
    (last / (24 * HOUR_MS) + 1) * 24 * HOUR_MS
}
