//! How long jobs will wait with the workers that there are and those that will be ready.
//!
//! The load that must be served within a wait `w` is normal around the forecast, with the variance of
//! [`super::demand`]; the backlog adds what must be worked off within it. A job waits longer than `w` when that exceeds
//! the capacity.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::demand::Outlook;
use super::number::duration;

/// What the prediction is made from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Situation {
    /// Capacity in workers of speed 1, and from how many seconds on, in order of time.
    pub(crate) capacity: Vec<(f64, f64)>,
    /// Seconds of work that wait.
    pub(crate) backlog: f64,
    pub(crate) service: f64,
    pub(crate) max_wait: f64,
    /// Seconds that are looked ahead.
    pub(crate) horizon: f64,
}

/// The predicted distribution of waits over the horizon.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// Share of jobs that start in time.
    pub kept: f64,
    pub median: Duration,
    pub p99: Duration,
}

const POINTS: u32 = 16;

/// Predicts the waits of the jobs that arrive within the horizon.
pub(crate) fn predict(outlook: &Outlook, situation: &Situation) -> Prediction {
    let step = situation.horizon / f64::from(POINTS);
    let mut backlog = situation.backlog;
    let mut points = Vec::new();
    for point in 0..POINTS {
        let time = step * f64::from(point);
        let capacity = capacity_at(situation, time);
        points.push((time, capacity, backlog));
        backlog = (backlog + (outlook.load - capacity) * step).max(0.0);
    }
    let within = |wait: f64| {
        let sum: f64 = points
            .iter()
            .map(|(time, capacity, backlog)| {
                let capacity = capacity.max(capacity_at(situation, time + wait));
                starts_within(outlook, situation, wait, (capacity, *backlog))
            })
            .sum();
        sum / f64::from(POINTS)
    };
    Prediction {
        kept: within(situation.max_wait),
        median: duration(quantile(0.5, &within)),
        p99: duration(quantile(0.99, &within)),
    }
}

fn capacity_at(situation: &Situation, time: f64) -> f64 {
    situation.capacity.iter().filter(|(from, _)| *from <= time).map(|(_, workers)| workers).sum()
}

fn starts_within(
    outlook: &Outlook,
    situation: &Situation,
    wait: f64,
    (capacity, backlog): (f64, f64),
) -> f64 {
    if capacity < 0.5 {
        return 0.0;
    }
    let window = (wait + situation.service).max(1e-3);
    // The deviation is stated for the promised wait; a shorter window averages over less.
    let promised = (situation.max_wait + situation.service).max(1e-3);
    let deviation = (outlook.deviation() * (promised / window).sqrt()).max(1e-6);
    normal((capacity - outlook.load - backlog / window) / deviation)
}

/// The least wait, in seconds, that this share of jobs does not exceed; a day if there is none.
fn quantile(share: f64, within: &impl Fn(f64) -> f64) -> f64 {
    let (mut low, mut high) = (0.0, 86_400.0);
    if within(low) >= share {
        return 0.0;
    }
    for _ in 0..32 {
        let middle = f64::midpoint(low, high);
        if within(middle) >= share { high = middle } else { low = middle }
    }
    high
}

/// The normal distribution function, by the logistic approximation `1/(1+exp(-1.5976x-0.07056x^3))`
/// (Page 1977; off by less than 0.0002).
fn normal(x: f64) -> f64 {
    let x = if x.is_finite() { x.clamp(-30.0, 30.0) } else { 0.0 };
    1.0 / (1.0 + (-1.5976 * x - 0.070_56 * x * x * x).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn situation(workers: f64, backlog: f64) -> Situation {
        let capacity = vec![(0.0, workers)];
        Situation { capacity, backlog, service: 20.0, max_wait: 60.0, horizon: 300.0 }
    }

    const OUTLOOK: Outlook = Outlook { load: 4.0, dispersion: 0.4, margin: 1.0 };

    #[test]
    fn more_workers_keep_more_promises_and_a_backlog_breaks_some() {
        let kept = |workers, backlog| predict(&OUTLOOK, &situation(workers, backlog)).kept;
        assert!(kept(3.0, 0.0) < kept(5.0, 0.0) && kept(5.0, 0.0) < kept(8.0, 0.0));
        assert!(kept(8.0, 0.0) > 0.99, "{}", kept(8.0, 0.0));
        assert!(kept(5.0, 400.0) < kept(5.0, 0.0));
        assert!(kept(0.0, 0.0) == 0.0);
    }

    #[test]
    fn jobs_wait_for_the_boot_when_there_is_nothing() {
        let booting = Situation { capacity: vec![(180.0, 9.0)], ..situation(0.0, 0.0) };
        let prediction = predict(&OUTLOOK, &booting);
        assert!(prediction.p99 > Duration::from_secs(100), "{prediction:?}");
        assert!(prediction.p99 < Duration::from_secs(400), "{prediction:?}");
        assert!(prediction.median <= prediction.p99);
    }
}
