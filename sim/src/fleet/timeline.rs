//! Runs over time as a picture: load and capacity, wait, cost.

use crate::fleet::job::{Millis, count, seconds};
use crate::fleet::plot::{self, Labels};
use crate::fleet::score::{Outcome, Sample};

/// Points in a picture; more cannot be told apart.
const POINTS: usize = 700;

/// How runs are compared, so lines of further ones would hide the others.
const MOST_COSTS: usize = 6;

/// Draws the first run's load, capacity and waits, and what each run has cost so far. `max_wait` is the promise.
pub fn picture(runs: &[(&str, &Outcome)], max_wait: Millis) -> String {
    let mut pictures = Vec::new();
    if let Some((name, first)) = runs.first() {
        let title = format!("{name}: jobs and instances");
        let labels = Labels { title: &title, x: "hours", y: "count" };
        let most = |value: fn(&Sample) -> usize| series(first, move |sample| count(value(sample)));
        let counts = [
            ("running", most(|sample| sample.running)),
            ("waiting", most(|sample| sample.waiting)),
            ("ready", most(|sample| sample.ready)),
            ("paid for", most(|sample| sample.instances)),
        ];
        pictures.push(plot::lines(&labels, &counts));
        let title = format!("{name}: how long the first in line has waited");
        let labels = Labels { title: &title, x: "hours", y: "seconds" };
        let waits = series(first, |sample| seconds(sample.first_waits));
        let ends = [waits.first(), waits.last()];
        let promise = ends.iter().flatten().map(|(x, _)| (*x, seconds(max_wait))).collect();
        pictures.push(plot::lines(&labels, &[("wait", waits), ("promised", promise)]));
    }
    let labels = Labels { title: "Cost so far", x: "hours", y: "dollars" };
    let costs: Vec<_> = runs
        .iter()
        .take(MOST_COSTS)
        .map(|(name, run)| (*name, series(run, |sample| sample.cost)))
        .collect();
    pictures.push(plot::lines(&labels, &costs));
    plot::stack(&pictures)
}

/// (hours, value), the largest of those that share a point.
fn series(run: &Outcome, value: impl Fn(&Sample) -> f64) -> Vec<(f64, f64)> {
    let samples = &run.usage.samples;
    let most = |chunk: &[Sample]| {
        let hours = chunk.first().map_or(0.0, |sample| seconds(sample.at) / 3600.0);
        (hours, chunk.iter().map(&value).fold(0.0, f64::max))
    };
    samples.chunks(samples.len().div_ceil(POINTS).max(1)).map(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::planner::Stoker;
    use crate::fleet::world::{self, Setup};

    #[test]
    fn a_day_is_drawn_in_three_pictures() {
        let setup = Setup::simple(60, 180);
        let workload = crate::fleet::synthetic::daily(1, 0.05, 1);
        let run = world::run(&setup, &workload, &mut Stoker::new(&setup));
        let svg = picture(&[("Stoker", &run), ("again", &run)], 60_000);
        assert_eq!((svg.matches("<polyline").count(), svg.matches("<svg ").count()), (8, 4));
        assert!(!svg.contains("NaN"));
        let paid = series(&run, |sample| sample.cost).last().map_or(0.0, |(_, cost)| *cost);
        assert!((paid / run.usage.cost - 1.0).abs() < 0.05, "{paid} {}", run.usage.cost);
    }

    #[test]
    fn nothing_is_drawn_of_no_run() {
        assert_eq!(picture(&[], 0).matches("<polyline").count(), 0);
    }
}
