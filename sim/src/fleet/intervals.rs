//! Jobs of a trace that has a row per interval: counts, or rates.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp};

use crate::fleet::job::{Job, Workload, millis};
use crate::fleet::service::Service;
use crate::fleet::table::{Table, TraceError};

/// Starts of intervals in seconds, ascending, and what holds in each.
#[derive(Debug, Clone, PartialEq)]
pub struct Intervals {
    pub at: Vec<f64>,
    pub values: Values,
}

/// What a row says.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Jobs of the interval.
    Counts(Vec<f64>),
    /// Jobs a second, as long as the interval lasts.
    Rates(Vec<f64>),
}

/// What the jobs are made with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Making {
    /// What counts and rates are multiplied with.
    pub scale: f64,
    pub service: Service,
    /// Of all that is random: arrivals and run times.
    pub seed: u64,
}

/// Columns that may have the rates.
const RATES: [&str; 2] = ["rate", "rate_rps"];

/// An interval whose length nothing tells is taken to last so long, in seconds.
const MINUTE: f64 = 60.0;

impl Intervals {
    /// Reads `t_s` with `count`, or with `rate`; `None` if the table has neither.
    pub fn of(table: &Table) -> Result<Option<Self>, TraceError> {
        if table.has("count") {
            let (at, counts) = table.intervals("count")?;
            return Ok(Some(Self { at, values: Values::Counts(counts) }));
        }
        let Some(column) = RATES.into_iter().find(|column| table.has(column)) else {
            return Ok(None);
        };
        let (at, rates) = table.intervals(column)?;
        if at.len() < 2 {
            return Err(table.wrong(
                "it has a single rate; add a row, as each holds until the next and the last as long as the one before",
            ));
        }
        Ok(Some(Self { at, values: Values::Rates(rates) }))
    }

    /// How many jobs there are to be, on average.
    pub fn jobs(&self) -> f64 {
        match &self.values {
            Values::Counts(counts) => counts.iter().sum(),
            Values::Rates(rates) => {
                self.spans().zip(rates).map(|((from, to), rate)| (to - from) * rate).sum()
            }
        }
    }

    /// Start and end of each. The last is as long as the one before it.
    fn spans(&self) -> impl Iterator<Item = (f64, f64)> {
        let last = self.at.last().copied().unwrap_or(0.0);
        let width = self.at.windows(2).next_back().map_or(MINUTE, |pair| pair[1] - pair[0]);
        let ends = self.at.iter().skip(1).copied().chain([last + width]);
        self.at.iter().copied().zip(ends)
    }

    /// The jobs: those that are counted evenly at random over their interval, those of a rate as a Poisson process.
    pub fn workload(&self, name: &str, making: &Making) -> Workload {
        match &self.values {
            Values::Counts(counts) => self.counted(counts, name, making),
            Values::Rates(rates) => self.poisson(rates, name, making),
        }
    }

    fn counted(&self, counts: &[f64], name: &str, making: &Making) -> Workload {
        let mut rng = ChaCha8Rng::seed_from_u64(making.seed);
        let width = self.at.windows(2).map(|pair| pair[1] - pair[0]).next().unwrap_or(MINUTE);
        let mut jobs = Vec::new();
        let mut owed = 0.0;
        for (at, value) in self.at.iter().zip(counts) {
            // What a scaled count leaves over is owed to the next interval, so that the total is kept.
            owed += value.max(0.0) * making.scale;
            while owed >= 1.0 {
                owed -= 1.0;
                let at = millis(at + rng.random::<f64>() * width);
                jobs.push(Job { at, service: making.service.sample(&mut rng), class: 0, model: 0 });
            }
        }
        let end = self.at.last().map_or(0, |last| millis(last + width));
        Workload::new(name, jobs, end)
    }

    fn poisson(&self, rates: &[f64], name: &str, making: &Making) -> Workload {
        let mut rng = ChaCha8Rng::seed_from_u64(making.seed);
        let mut jobs = Vec::new();
        let mut end = 0.0;
        for ((from, to), rate) in self.spans().zip(rates) {
            end = to;
            let Ok(gap) = Exp::new(rate * making.scale) else { continue };
            // The time to the next arrival is the same whenever one begins to wait for it, so each interval may begin anew.
            let mut at = from + gap.sample(&mut rng);
            while at < to {
                let service = making.service.sample(&mut rng);
                jobs.push(Job { at: millis(at), service, class: 0, model: 0 });
                at += gap.sample(&mut rng);
            }
        }
        Workload::new(name, jobs, millis(end))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::fleet::job::count;

    fn read(text: &str) -> Result<Option<Intervals>, TraceError> {
        Intervals::of(&Table::parse(Path::new("trace.csv"), text))
    }

    const MAKING: Making = Making { scale: 1.0, service: Service { mean: 10.0, cv: 0.0 }, seed: 1 };

    #[test]
    fn counts_are_spread_over_their_intervals_and_what_is_left_over_is_owed() {
        let counts = read("t_s,count\n0,3\n60,0\n120,2\n").unwrap().unwrap();
        let half = counts.workload("half", &Making { scale: 0.5, ..MAKING });
        assert_eq!((half.jobs.len(), half.end), (2, 180_000));
        assert!((counts.jobs() - 5.0).abs() < 1e-9);
    }

    #[test]
    fn rates_are_poisson_arrivals_that_differ_by_seed_alone() {
        let text = "t_s,rate\n0,0.5\n10000,0\n20000,2\n";
        let rates = read(text).unwrap().unwrap();
        assert!((rates.jobs() - 25_000.0).abs() < 1e-6);
        let workload = rates.workload("rates", &MAKING);
        assert_eq!(workload.end, 30_000_000);
        let within = |from: i64, to: i64| {
            count(workload.jobs.iter().filter(|job| (from..to).contains(&job.at)).count())
        };
        // Five deviations of a Poisson count.
        assert!((within(0, 10_000_000) - 5_000.0).abs() < 5.0 * 5_000_f64.sqrt());
        assert!(within(10_000_000, 20_000_000) < 1.0);
        assert!((within(20_000_000, 30_000_000) - 20_000.0).abs() < 5.0 * 20_000_f64.sqrt());
        // The gaps of a Poisson process are as spread as they are long.
        let busy: Vec<f64> = workload
            .jobs
            .windows(2)
            .filter(|pair| pair[0].at >= 20_000_000)
            .map(|pair| crate::fleet::job::seconds(pair[1].at - pair[0].at))
            .collect();
        let mean = busy.iter().sum::<f64>() / count(busy.len());
        let squares = busy.iter().map(|gap| (gap - mean) * (gap - mean)).sum::<f64>();
        let cv = (squares / count(busy.len())).sqrt() / mean;
        assert!((cv - 1.0).abs() < 0.05, "{cv}");
        assert_eq!(rates.workload("rates", &MAKING), workload);
        assert_ne!(rates.workload("rates", &Making { seed: 2, ..MAKING }).jobs, workload.jobs);
    }

    #[test]
    fn a_table_without_counts_and_rates_is_of_no_intervals() {
        assert_eq!(read("t_s,service_s\n0,1\n").unwrap(), None);
        let error = read("t_s,rate_rps\n0,1\n").unwrap_err().to_string();
        assert!(error.starts_with("trace.csv: it has a single rate"), "{error}");
    }
}
