//! One trace of your own: every policy on it, and a picture of ours.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use clap::Args;

use crate::fleet::intervals::{Intervals, Making};
use crate::fleet::job::Workload;
use crate::fleet::planner::Stoker;
use crate::fleet::service::Service;
use crate::fleet::suite::{self, Comparison};
use crate::fleet::table::{Table, TraceError};
use crate::fleet::timeline;
use crate::fleet::trace;
use crate::fleet::world::{self, Setup};

/// Runs every policy on a trace of your own.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// File with a line of names and the columns `t_s,service_s` (a row per job), `t_s,count` or `t_s,rate` (a row
    /// per interval, with its jobs or its jobs a second)
    trace: PathBuf,
    /// Longest wait, in seconds
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(i64).range(1..=86_400))]
    wait: i64,
    /// Time from a launch to a worker, in seconds
    #[arg(long, default_value_t = 180, value_parser = clap::value_parser!(i64).range(1..=3600))]
    boot: i64,
    /// Mean service time in seconds of jobs that the trace only counts
    #[arg(long, default_value_t = 20.0)]
    service: f64,
    /// Seed of what the trace leaves open: arrivals within their interval, service times
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where to draw load, capacity, wait and cost over time, as SVG
    #[arg(long)]
    plot: Option<PathBuf>,
}

impl RunArgs {
    pub(crate) fn run(&self) -> Result<String, Box<dyn Error>> {
        let workload = workload(&Table::read(&self.trace)?, self.service, self.seed)?;
        let setup = Setup::simple(self.wait, self.boot);
        let comparison = Comparison::run(&setup, &workload);
        let days = suite::days(&workload);
        let mut text = format!(
            "{} jobs in {days:.2} days, wait {} s, boot {} s\n\n",
            workload.jobs.len(),
            self.wait,
            self.boot
        );
        text.push_str(&comparison.table(days));
        if let Some(path) = &self.plot {
            let outcome = world::run(&setup, &workload, &mut Stoker::new(&setup));
            fs::write(path, timeline::picture(&[("Stoker", &outcome)], self.wait * 1000))?;
            writeln!(text, "\nwrote {}", path.display())?;
        }
        Ok(text)
    }
}

/// Jobs of a table that has a row per job, or a row per interval.
fn workload(table: &Table, service: f64, seed: u64) -> Result<Workload, TraceError> {
    if table.has("service_s") {
        return trace::requests(table, "your trace", seed);
    }
    let making = Making { scale: 1.0, service: Service { mean: service, cv: 0.7 }, seed };
    match Intervals::of(table)? {
        Some(intervals) => Ok(intervals.workload("your trace", &making)),
        // Says which columns there are.
        None => Err(table.needs(&["t_s", "count"]).err().unwrap_or_else(|| table.wrong("no jobs"))),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_trace_has_a_row_per_job_or_per_interval() {
        let read = |text: &str| workload(&Table::parse(Path::new("trace.csv"), text), 10.0, 1);
        let jobs = read("t_s,service_s\n5,20\n7,3\n").unwrap();
        assert_eq!(jobs.jobs.iter().map(|job| job.service).collect::<Vec<_>>(), [20_000, 3_000]);
        let counts = read("t_s,count\n0,3\n60,0\n120,2\n").unwrap();
        assert_eq!((counts.jobs.len(), counts.end), (5, 180_000));
        let rates = read("t_s,rate\n0,0.1\n600,0.2\n").unwrap();
        assert!((100..300).contains(&rates.jobs.len()) && rates.end == 1_200_000);
        let error = read("time,n\n1,2\n").unwrap_err().to_string();
        assert!(error.contains("no column `t_s`") && error.contains("time, n"), "{error}");
    }
}
