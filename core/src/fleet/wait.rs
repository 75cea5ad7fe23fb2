//! How long jobs will wait with the workers that there are and those that will be ready.
//!
//! Work that waits is a Brownian motion that cannot go below nothing: it rises with what arrives, falls with what the workers do, and
//! its distribution at a time is known (Harrison, "Brownian Motion and Stochastic Flow Systems", 1985). A job starts once what is
//! before it in line is done: what waits and arrived with an earlier end of its promise. What the forecast is not sure of is averaged over.
//! Before work can wait all workers must be busy, which they are as often as Halfin and Whitt say (1981). A learned share of jobs comes
//! in surges that nobody foresees: they wait for what is launched then.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::backlog::Due;
use super::demand::{Need, Outlook};
use super::number::duration;

/// What the predictions are made from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Situation<'a> {
    /// Capacity in workers of speed 1, and from how many seconds on, in order of time.
    pub(crate) capacity: Vec<(f64, f64)>,
    /// What waits, the most urgent first.
    pub(crate) due: &'a [Due],
    /// Seconds from a launch to a worker, and those that are looked ahead.
    pub(crate) boot: f64,
    pub(crate) horizon: f64,
}

/// A prediction, and what it would be without surges.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Foreseen {
    pub(crate) prediction: Prediction,
    /// Share of jobs that start in time, as far as can be foreseen: what more workers could better.
    pub(crate) kept: f64,
}

/// The predicted distribution of waits over the horizon.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Prediction {
    /// Share of jobs that start in time.
    pub kept: f64,
    pub median: Duration,
    pub p99: Duration,
}

/// Moments of the horizon that are looked at.
const POINTS: u32 = 8;
/// Loads that are looked at: deviations from the expected one and their weights (Gauss-Hermite, five points).
const LOADS: [(f64, f64); 5] = [
    (-2.856_97, 0.011_257_4),
    (-1.355_626, 0.222_075_9),
    (0.0, 0.533_333_4),
    (1.355_626, 0.222_075_9),
    (2.856_97, 0.011_257_4),
];
/// Waits are told apart from so many seconds on, to a hundredth of them, up to a day.
const SHORT: f64 = 10.0;
const HALVINGS: u32 = 6;
const LONGEST: f64 = 86_400.0;
/// Who waits longer than so many of all is not told apart.
const ALL: f64 = 0.999;

/// Predicts the waits of the jobs of each class that arrive within the horizon, in the order of the outlook.
pub(crate) fn predict(outlook: &Outlook, situation: &Situation<'_>) -> Vec<Foreseen> {
    let mut predictions: Vec<(&Need, Foreseen)> = Vec::new();
    for need in &outlook.needs {
        // Classes with the same wait stand in the same line.
        let same = predictions.iter().find(|(other, _)| {
            (other.max_wait, other.surprise.to_bits()) == (need.max_wait, need.surprise.to_bits())
        });
        let prediction = match same {
            Some((_, prediction)) => *prediction,
            None => Line::new(outlook, need, situation).prediction(),
        };
        predictions.push((need, prediction));
    }
    predictions.into_iter().map(|(_, prediction)| prediction).collect()
}

/// The line in which the jobs of a class stand.
struct Line<'a> {
    situation: &'a Situation<'a>,
    max_wait: f64,
    surprise: f64,
    looks: Vec<Look>,
}

/// What is before a job that arrives at a time under a load.
struct Look {
    at: f64,
    /// Of the load that is looked at.
    weight: f64,
    /// Work that is before it, and its deviation.
    mean: f64,
    deviation: f64,
    /// Load that comes meanwhile and goes before.
    sooner: f64,
    capacity: f64,
    /// How often all workers are busy then, and how fast more work than so much becomes unlikely, by second of work.
    busy: f64,
    decay: f64,
}

impl<'a> Line<'a> {
    fn new(outlook: &Outlook, need: &Need, situation: &'a Situation<'a>) -> Self {
        let max_wait = need.max_wait.as_secs_f64();
        let noise = outlook.service * (1.0 + outlook.scv);
        // Errors of the forecast contain the chance that is counted with the arrivals.
        let chance = outlook.service / situation.horizon.max(1.0);
        let doubt = (outlook.load * (outlook.doubt - chance).max(0.0)).sqrt();
        let share = if outlook.load > 0.0 { need.load / outlook.load } else { 1.0 };
        let sooner = outlook.needs.iter().rev().find(|other| other.max_wait < need.max_wait);
        let sooner = sooner.map_or(0.0, |other| other.load / outlook.load.max(1e-9));
        let step = situation.horizon / f64::from(POINTS);
        let mut looks = Vec::new();
        for point in 0..POINTS {
            let at = step * (f64::from(point) + 0.5);
            let before = situation.due.iter().take_while(|due| due.left <= max_wait + at);
            let (backlog, variance) = before.fold((0.0, 0.0), |(work, variance), due| {
                (work + due.work, variance + due.variance)
            });
            let (done, capacity) = (done(situation, 0.0, at), capacity(situation, at));
            for (deviations, weight) in LOADS {
                let all = (outlook.load + deviations * doubt).max(0.0);
                let load = all * share;
                let free = (capacity - load).max(0.0);
                looks.push(Look {
                    at,
                    weight: weight / f64::from(POINTS),
                    mean: backlog + load * at - done,
                    deviation: (variance + load * at * noise).sqrt().max(1e-3),
                    sooner: all * sooner,
                    capacity,
                    busy: all_busy(load, capacity),
                    decay: 2.0 * free / (capacity.max(load) * noise).max(1e-6),
                });
            }
        }
        Self { situation, max_wait, surprise: need.surprise, looks }
    }

    fn prediction(&self) -> Foreseen {
        let curve = self.curve();
        let kept = self.foreseen(self.max_wait);
        // In a surge a job waits for what is launched then.
        let within = |wait: f64, foreseen: f64| {
            let late = wait - self.situation.boot;
            let surprised = if late > 0.0 { share_at(&curve, late) } else { 0.0 };
            (1.0 - self.surprise) * foreseen + self.surprise * surprised
        };
        let share = |wait| within(wait, share_at(&curve, wait));
        let prediction = Prediction {
            kept: within(self.max_wait, kept),
            median: duration(quantile(0.5, share)),
            p99: duration(quantile(0.99, share)),
        };
        Foreseen { prediction, kept }
    }

    /// Waits and the shares of jobs that wait no longer, as far as they matter.
    fn curve(&self) -> Vec<(f64, f64)> {
        let mut curve = vec![(0.0, self.foreseen(0.0))];
        let mut wait = SHORT;
        while wait < 2.0 * LONGEST && curve.last().is_some_and(|(_, share)| *share < ALL) {
            curve.push((wait, self.foreseen(wait)));
            wait *= 2.0;
        }
        curve
    }

    /// Share of the jobs that come as foreseen which wait no longer than so many seconds.
    fn foreseen(&self, wait: f64) -> f64 {
        let mut share = 0.0;
        for alike in self.looks.chunks(LOADS.len()) {
            let Some(first) = alike.first() else { continue };
            let done = done(self.situation, first.at, first.at + wait);
            for look in alike {
                // Whoever comes meanwhile and may wait for less goes before.
                share += look.weight * look.starts(done - look.sooner * wait.min(self.max_wait));
            }
        }
        share.clamp(0.0, 1.0)
    }
}

/// A curve's share at a wait; between its points those who wait longer become fewer by the same share a second.
fn share_at(curve: &[(f64, f64)], wait: f64) -> f64 {
    let next = curve.partition_point(|(at, _)| *at < wait);
    let (Some(&(to, high)), Some(&(from, low))) =
        (curve.get(next), curve.get(next.saturating_sub(1)))
    else {
        return curve.last().map_or(0.0, |(_, share)| *share);
    };
    let part = if to > from { (wait - from) / (to - from) } else { 1.0 };
    let longer = |share: f64| (1.0 - share).max(1e-6);
    1.0 - longer(low).powf(1.0 - part) * longer(high).powf(part)
}

/// The least wait, in seconds, that this share of jobs does not exceed; a day if there is none.
fn quantile(share: f64, within: impl Fn(f64) -> f64) -> f64 {
    if within(0.0) >= share {
        return 0.0;
    }
    let (mut low, mut high) = (0.0, SHORT);
    while high < LONGEST && within(high) < share {
        (low, high) = (high, 2.0 * high);
    }
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if within(middle) >= share { high = middle } else { low = middle }
    }
    high.min(LONGEST)
}

impl Look {
    /// The probability that no more than `left` seconds of work are before a job.
    fn starts(&self, left: f64) -> f64 {
        if left < 0.0 || left <= 0.0 && self.capacity <= 0.0 {
            return 0.0;
        }
        let free = normal((left - self.mean) / self.deviation);
        // Work that waits though more could be done: it has come up from nothing.
        let fallen = self.decay * left;
        if fallen > 30.0 || self.busy <= 0.0 {
            return free;
        }
        let tail = (-fallen).exp() * normal((-left - self.mean) / self.deviation);
        (free - self.busy * tail).clamp(0.0, 1.0)
    }
}

/// How often all of so many workers are busy.
fn all_busy(load: f64, capacity: f64) -> f64 {
    if load <= 0.0 || capacity <= 0.0 {
        return f64::from(u8::from(load > 0.0));
    }
    let beta = (capacity - load) / capacity.sqrt();
    if beta <= 0.0 {
        return 1.0;
    }
    let density = (-beta * beta / 2.0).exp() / std::f64::consts::TAU.sqrt();
    1.0 / (1.0 + beta * normal(beta) / density.max(1e-300))
}

fn capacity(situation: &Situation<'_>, at: f64) -> f64 {
    situation.capacity.iter().filter(|(from, _)| *from <= at).map(|(_, workers)| workers).sum()
}

/// Work that can be done between two times.
fn done(situation: &Situation<'_>, from: f64, to: f64) -> f64 {
    let work = |(there, workers): &(f64, f64)| workers * (to - there.max(from)).max(0.0);
    situation.capacity.iter().map(work).sum()
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

    fn situation(workers: f64, due: &Due) -> Situation<'_> {
        let due = std::slice::from_ref(due);
        Situation { capacity: vec![(0.0, workers)], due, boot: 180.0, horizon: 300.0 }
    }

    fn due(work: f64) -> Due {
        Due { left: 30.0, max_wait: 60.0, work, variance: 0.0, pressed: false }
    }

    fn outlook(waits: &[(u64, f64)]) -> Outlook {
        let need = |(wait, load): &(u64, f64)| Need {
            class: None,
            max_wait: Duration::from_secs(*wait),
            objective: 0.99,
            load: *load,
            dispersion: 0.4,
            margin: 1.0,
            late_share: 0.0,
            surprise: 0.0,
        };
        let needs = waits.iter().map(need).collect();
        Outlook { load: 4.0, doubt: 0.2, service: 20.0, scv: 0.5, needs }
    }

    fn one(situation: &Situation<'_>) -> Prediction {
        predict(&outlook(&[(60, 4.0)]), situation)[0].prediction
    }

    #[test]
    fn more_workers_keep_more_promises_and_a_backlog_breaks_some() {
        let kept = |workers, backlog| one(&situation(workers, &due(backlog))).kept;
        assert!(kept(3.0, 0.0) < kept(5.0, 0.0) && kept(5.0, 0.0) < kept(8.0, 0.0));
        assert!(kept(8.0, 0.0) > 0.99, "{}", kept(8.0, 0.0));
        assert!(kept(5.0, 400.0) < kept(5.0, 0.0));
        assert!(kept(0.0, 0.0) <= 0.0);
    }

    #[test]
    fn jobs_wait_for_the_boot_when_there_is_nothing() {
        let due = due(0.0);
        let booting = Situation { capacity: vec![(180.0, 9.0)], ..situation(0.0, &due) };
        let prediction = one(&booting);
        assert!(prediction.p99 > Duration::from_secs(100), "{prediction:?}");
        assert!(prediction.p99 < Duration::from_secs(400), "{prediction:?}");
        assert!(prediction.median <= prediction.p99);
    }

    #[test]
    fn whoever_may_wait_for_longer_waits_longer_and_keeps_more() {
        let both = predict(&outlook(&[(60, 1.0), (600, 4.0)]), &situation(4.5, &due(200.0)));
        let [Foreseen { prediction: quick, .. }, Foreseen { prediction: patient, .. }] = &both[..]
        else {
            panic!("{both:?}")
        };
        assert!(quick.p99 < patient.p99, "{both:?}");
        assert!(quick.median <= patient.median, "{both:?}");
        assert!(patient.kept > 0.95, "{both:?}");
    }

    #[test]
    fn in_surges_jobs_wait_for_a_boot() {
        let (mut outlook, due) = (outlook(&[(60, 4.0)]), due(0.0));
        let calm = situation(9.0, &due);
        let foreseen = predict(&outlook, &calm)[0];
        assert!((foreseen.kept - foreseen.prediction.kept).abs() < 1e-9);
        outlook.needs[0].surprise = 0.1;
        let surprised = predict(&outlook, &calm)[0];
        assert!((surprised.kept - foreseen.kept).abs() < 1e-9, "{surprised:?}");
        assert!((surprised.prediction.kept - 0.9 * foreseen.kept).abs() < 1e-9, "{surprised:?}");
        assert!(surprised.prediction.p99 > Duration::from_mins(3), "{surprised:?}");
    }
}
