//! A lower bound on the cost of starting every job in time: a linear program over a fluid.
//!
//! With bins of length `dt` and `X(t)` the work done by `t`, `c` the mean number of workers that are paid and ready in a bin,
//! `u` how many are started: minimize `sum dt c + boot sum u` subject to `X(t) - X(t-dt) <= dt c`,
//! `required(t) <= X(t) <= available(t)` and `u >= c - c(previous)`. A job that arrives at `a` can be worked on
//! from `a` and, as it starts by `a + wait`, has at least `t - a - wait` of it done by `t`. Whole workers, and a
//! worker for each job, cost more; so the optimum is a bound.

use clarabel::algebra::CscMatrix;
use clarabel::solver::{
    DefaultSettingsBuilder, DefaultSolver, IPSolver, SolverStatus, SupportedConeT,
};

use crate::fleet::job::{Millis, Workload, count, seconds};
use crate::fleet::world::Setup;

/// Why there is no bound.
#[derive(Debug, thiserror::Error)]
pub enum BoundError {
    #[error("the bound is of workers of speed 1 that run one job at a time; `{0}` is another kind")]
    Unequal(String),
    #[error("building the linear program: {0}")]
    Program(String),
    #[error("solving the linear program ended with {0:?}")]
    Status(SolverStatus),
}

/// Hours that any schedule has to pay, of offerings at speed 1 without batches (others are refused), in bins of `bin`
/// seconds.
pub fn lower_bound(setup: &Setup, workload: &Workload, bin: i64) -> Result<f64, BoundError> {
    if let Some(unequal) = setup.offerings.iter().find(|offering| !offering.is_reference()) {
        return Err(BoundError::Unequal(unequal.name.clone()));
    }
    let edges = Edges::new(setup, workload, bin * 1000);
    let bins = edges.available.len();
    let (dt, boot) = (seconds(bin * 1000), seconds(setup.boot.mean));
    // Columns: workers, starts and work done, one of each per bin.
    let (workers, starts, done) = (|k: usize| k, |k: usize| bins + k, |k: usize| 2 * bins + k);
    let mut rows = Rows::default();
    for k in 0..bins {
        let mut work = vec![(done(k), 1.0), (workers(k), -dt)];
        let mut change = vec![(workers(k), 1.0), (starts(k), -1.0)];
        if k > 0 {
            work.push((done(k - 1), -1.0));
            change.push((workers(k - 1), -1.0));
        }
        rows.at_most(&work, 0.0);
        rows.at_most(&change, 0.0);
        rows.at_most(&[(done(k), 1.0)], edges.available[k]);
        rows.at_most(&[(done(k), -1.0)], -edges.required[k]);
        rows.at_most(&[(workers(k), -1.0)], 0.0);
        rows.at_most(&[(starts(k), -1.0)], 0.0);
    }
    let mut costs = vec![dt; bins];
    costs.extend(vec![boot; bins]);
    costs.extend(vec![0.0; bins]);
    solve(&costs, rows).map(|cost| cost / 3600.0)
}

/// Work that can and that must have been done by the end of each bin, in seconds.
struct Edges {
    available: Vec<f64>,
    required: Vec<f64>,
}

impl Edges {
    fn new(setup: &Setup, workload: &Workload, bin: Millis) -> Self {
        let ends = workload
            .jobs
            .iter()
            .map(|job| job.at + setup.classes[job.class].max_wait + job.service);
        let end = ends.max().unwrap_or(0);
        let bins = usize::try_from(end / bin + 1).unwrap_or(0);
        let mut edges = Self { available: vec![0.0; bins], required: vec![0.0; bins] };
        for job in &workload.jobs {
            add(&mut edges.available, bin, job.at, job.service);
            let latest = job.at + setup.classes[job.class].max_wait;
            add(&mut edges.required, bin, latest, job.service);
        }
        accumulate(&mut edges.available);
        accumulate(&mut edges.required);
        edges
    }
}

/// Adds what one job of `service` that starts at `start` does in each bin.
fn add(work: &mut [f64], bin: Millis, start: Millis, service: Millis) {
    let mut at = start;
    while at < start + service {
        let index = at / bin;
        let until = ((index + 1) * bin).min(start + service);
        if let Some(cell) = usize::try_from(index).ok().and_then(|index| work.get_mut(index)) {
            *cell += seconds(until - at);
        }
        at = until;
    }
}

fn accumulate(work: &mut [f64]) {
    let mut sum = 0.0;
    for cell in work {
        sum += *cell;
        *cell = sum;
    }
}

#[derive(Default)]
struct Rows {
    places: Vec<usize>,
    columns: Vec<usize>,
    values: Vec<f64>,
    limits: Vec<f64>,
}

impl Rows {
    fn at_most(&mut self, terms: &[(usize, f64)], limit: f64) {
        for (column, value) in terms {
            self.places.push(self.limits.len());
            self.columns.push(*column);
            self.values.push(*value);
        }
        self.limits.push(limit);
    }
}

fn solve(costs: &[f64], rows: Rows) -> Result<f64, BoundError> {
    let (m, n) = (rows.limits.len(), costs.len());
    let matrix = CscMatrix::new_from_triplets(m, n, rows.places, rows.columns, rows.values);
    let none = CscMatrix::zeros((n, n));
    let settings = DefaultSettingsBuilder::default()
        .verbose(false)
        .max_iter(200)
        .build()
        .map_err(|error| BoundError::Program(error.to_string()))?;
    let cones = [SupportedConeT::NonnegativeConeT(m)];
    let mut solver = DefaultSolver::new(&none, costs, &matrix, &rows.limits, &cones, settings)
        .map_err(|error| BoundError::Program(error.to_string()))?;
    solver.solve();
    match solver.solution.status {
        // The dual's value is below the optimum however far the solver came.
        SolverStatus::Solved | SolverStatus::AlmostSolved => Ok(solver.solution.obj_val_dual),
        status => Err(BoundError::Status(status)),
    }
}

/// Hours of bare work, below which nothing goes.
pub fn bare_work(workload: &Workload) -> f64 {
    workload.mean_service() * count(workload.jobs.len()) / 3600.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::job::Job;

    #[test]
    fn one_job_costs_its_service_and_a_boot_or_nearly() {
        let setup = Setup::simple(60, 180);
        let job = Job { at: 600_000, service: 120_000, class: 0, model: 0 };
        let workload = Workload::new("one", vec![job], 3_600_000);
        let bound = lower_bound(&setup, &workload, 30).unwrap() * 3600.0;
        // A fluid may start half a worker, and spread the job over the wait that it is allowed.
        assert!(bound > 120.0 && bound <= 300.0 + 1.0, "{bound}");
    }

    #[test]
    fn unequal_workers_have_no_bound() {
        let mut setup = Setup::simple(60, 180);
        setup.offerings[0].speed = 2.0;
        let workload = crate::fleet::synthetic::daily(1, 0.01, 3);
        let error = lower_bound(&setup, &workload, 60).unwrap_err();
        assert!(matches!(error, BoundError::Unequal(name) if name == "on-demand"));
    }

    #[test]
    fn the_bound_is_below_the_schedule() {
        let setup = Setup::simple(60, 180);
        let workload = crate::fleet::synthetic::daily(1, 0.1, 3);
        let schedule = crate::fleet::clairvoyant::schedule(&setup, &workload).hours;
        let bound = lower_bound(&setup, &workload, 60).unwrap();
        assert!(bare_work(&workload) <= bound + 1e-6 && bound <= schedule, "{bound} {schedule}");
    }
}
