//! A forecast of the load over the next minutes from recent levels and from the same time on the days
//! before, with weights that are learned.
//!
//! Recursive least squares with slow forgetting. A look is weighted by the inverse of its expected load,
//! since the variance of counts grows with their mean.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::fleet::number::size;

use super::history::{DAY_MINUTES, History};

/// Days before, at the same time of day, that are looked at.
const DAYS: usize = 7;
/// Recent levels, in slots and in minutes, and a constant.
const LEVELS: usize = 6;
const INPUTS: usize = LEVELS + DAYS;

const SHORT_SLOTS: usize = 6;
const MIDDLE_SLOTS: usize = 20;
const LONG_MINUTES: [i64; 3] = [20, 120, 600];
/// The constant input is this much, so that its weight is of the size of the others.
const CONSTANT: f64 = 0.05;

/// Longest horizon, in slots.
const LONGEST: usize = 241;
/// Weight of a look against the one before it: about six days count.
const FORGET: f64 = 0.999_97;
/// Least expected load in the weight of a look.
const FLOOR: f64 = 0.25;
/// The error of a forecast that has not been tried, over its load.
const FIRST_DISPERSION: f64 = 0.3;

type Inputs = [f64; INPUTS];

/// Learned weights and how well they did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Forecaster {
    weights: Inputs,
    /// Inverse of the weighted sum of products of inputs.
    inverse: [Inputs; INPUTS],
    /// Inputs of the last looks, latest last.
    looks: VecDeque<Inputs>,
    /// Decayed sum of squared errors over the expected load, and of looks.
    errors: f64,
    tries: f64,
}

impl Default for Forecaster {
    fn default() -> Self {
        let mut weights = [0.0; INPUTS];
        // Until more is known, the mean of the last five minutes.
        weights[1] = 1.0;
        let mut inverse = [[0.0; INPUTS]; INPUTS];
        for (index, row) in inverse.iter_mut().enumerate() {
            row[index] = 0.05;
        }
        let looks = VecDeque::new();
        Self { weights, inverse, looks, errors: FIRST_DISPERSION, tries: 1.0 }
    }
}

impl Forecaster {
    /// Takes in the slot that ended: learns from the look a horizon ago, and looks.
    pub(crate) fn learn(&mut self, history: &History, horizon: usize) {
        let horizon = horizon.min(LONGEST - 1);
        if let Some(look) = self.looks.len().checked_sub(horizon) {
            let inputs = self.looks[look];
            self.fit(&inputs, history.recent(horizon));
        }
        if self.looks.len() == LONGEST {
            self.looks.pop_front();
        }
        self.looks.push_back(inputs(history, horizon));
    }

    /// Expected mean load over the next `horizon` slots.
    pub(crate) fn forecast(&self, history: &History, horizon: usize) -> f64 {
        let load = product(&self.weights, &inputs(history, horizon.min(LONGEST - 1)));
        if load.is_finite() { load.max(0.0) } else { history.recent(MIDDLE_SLOTS) }
    }

    /// Mean squared error of the forecasts, over their load.
    pub(crate) fn dispersion(&self) -> f64 {
        let dispersion = self.errors / self.tries;
        if dispersion.is_finite() { dispersion } else { FIRST_DISPERSION }
    }

    fn fit(&mut self, inputs: &Inputs, load: f64) {
        /// Weight of a try against the one before it: about a day counts.
        const RECALL: f64 = 0.999_8;
        let expected = product(&self.weights, inputs);
        let error = load - expected;
        self.errors = RECALL * self.errors + error * error / (expected.max(0.0) + 0.1);
        self.tries = RECALL * self.tries + 1.0;

        let mut gain: Inputs = [0.0; INPUTS];
        for (gain, row) in gain.iter_mut().zip(&self.inverse) {
            *gain = product(row, inputs);
        }
        let scale = 1.0 / (expected.max(0.0) + FLOOR + product(&gain, inputs));
        let mut fitted = (self.weights, self.inverse);
        for (weight, gain) in fitted.0.iter_mut().zip(&gain) {
            *weight += gain * scale * error;
        }
        for (row, left) in fitted.1.iter_mut().zip(&gain) {
            for (cell, right) in row.iter_mut().zip(&gain) {
                *cell = ((*cell - left * right * scale) / FORGET).clamp(-1.0, 1.0);
            }
        }
        // Absurd inputs must not poison what was learned.
        if fitted.0.iter().chain(fitted.1.iter().flatten()).all(|x| x.is_finite()) {
            (self.weights, self.inverse) = fitted;
        }
    }
}

fn product(left: &Inputs, right: &Inputs) -> f64 {
    left.iter().zip(right).map(|(l, r)| l * r).sum()
}

fn inputs(history: &History, horizon: usize) -> Inputs {
    let now = history.minute();
    let mut inputs = [0.0; INPUTS];
    inputs[0] = history.recent(SHORT_SLOTS);
    inputs[1] = history.recent(MIDDLE_SLOTS);
    for (input, minutes) in inputs[2..].iter_mut().zip(LONG_MINUTES) {
        *input = history.mean(now - minutes, now).unwrap_or(0.0);
    }
    inputs[LEVELS - 1] = CONSTANT;
    let ahead = i64::try_from(horizon.div_ceil(4)).unwrap_or(1);
    let day = |day: usize| {
        let at = now - i64::try_from(day).unwrap_or(1) * DAY_MINUTES;
        history.mean(at, at + ahead)
    };
    let days: [Option<f64>; DAYS] = std::array::from_fn(|index| day(index + 1));
    let known = days.iter().flatten().count();
    // A day that is not known is taken to be like the others, or like now.
    let usual = match known {
        0 => inputs[2],
        known => days.iter().flatten().sum::<f64>() / size(known),
    };
    for (input, day) in inputs[LEVELS..].iter_mut().zip(days) {
        *input = day.unwrap_or(usual);
    }
    inputs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::number::real;
    use crate::time::Timestamp;

    /// Feeds loads, one a minute, and returns the forecast error over the last day, over the mean load.
    fn error(minutes: i64, load: impl Fn(i64) -> u64) -> f64 {
        let (mut history, mut forecaster) = (History::default(), Forecaster::default());
        let (mut wrong, mut total) = (0.0, 0.0);
        let mut due: VecDeque<f64> = VecDeque::new();
        for slot in 0..minutes * 4 {
            let now = Timestamp::from_unix_millis(slot * 15_000);
            history.advance(now, real(load(slot / 4)), 15.0);
            if due.len() == 20 {
                let expected = due.pop_front().unwrap_or(0.0);
                if slot > (minutes - DAY_MINUTES) * 4 {
                    wrong += (expected - history.recent(20)).abs();
                    total += history.recent(20);
                }
            }
            forecaster.learn(&history, 20);
            due.push_back(forecaster.forecast(&history, 20));
        }
        wrong / total
    }

    #[test]
    fn what_happens_at_the_same_time_each_day_is_foreseen() {
        // Ten minutes of much in every two hours, which recent levels cannot foretell.
        let spikes = |minute: i64| if minute % 120 < 10 { 9 } else { 1 };
        let learned = error(5 * DAY_MINUTES, spikes);
        // The mean of the last five minutes is off by 0.44 here: it lags at both ends of each spike.
        assert!(learned < 0.2, "{learned}");
    }

    #[test]
    fn a_steady_load_is_forecast_as_it_is() {
        assert!(error(2 * DAY_MINUTES, |_| 3) < 0.01);
    }

    #[test]
    fn absurd_loads_do_not_poison_it() {
        let mut history = History::default();
        let mut forecaster = Forecaster::default();
        for slot in 0..2000_i64 {
            let jobs = if slot % 500 == 499 { u64::MAX } else { 1 };
            history.advance(Timestamp::from_unix_millis(slot * 15_000), real(jobs), 1e9);
            forecaster.learn(&history, 20);
            let load = forecaster.forecast(&history, 20);
            assert!(load.is_finite() && load >= 0.0, "{load}");
            assert!(forecaster.dispersion().is_finite());
        }
    }
}
