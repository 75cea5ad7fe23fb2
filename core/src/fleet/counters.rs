//! Totals of a pool's queues at a look, and what is new in them since the one before, as far as it can be believed.
//!
//! A total that shrank was reset: then nobody knows what happened. One that grew by more than can be is left out, and
//! said to be: what was learned stays as it was.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{ClassName, ModelName};

use super::demand::history::SLOT;
use super::number::real;
use super::report::Note;
use super::snapshot::Queue;

/// Jobs a second beyond which a count is broken: more than any store takes in.
const MOST_PER_SECOND: f64 = 100_000.0;
/// Seconds that no job runs for: far beyond the longest deadline.
const LONGEST_RUN: f64 = 90.0 * 86_400.0;
/// Sums beyond this have lost the digits that a job adds.
const LARGEST_SUM: f64 = 1e15;

/// Totals at a look.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Counters {
    pub(crate) finished: u64,
    pub(crate) service_seconds: f64,
    pub(crate) service_squares: f64,
    #[serde(default)]
    pub(crate) models: BTreeMap<ModelName, ModelCounters>,
    #[serde(default)]
    pub(crate) classes: BTreeMap<ClassName, ClassCounters>,
}

/// Totals of one model's jobs.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct ModelCounters {
    pub(crate) finished: u64,
    pub(crate) service_seconds: f64,
    pub(crate) service_squares: f64,
}

/// Totals of one class's jobs.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct ClassCounters {
    pub(crate) arrived: BTreeMap<ModelName, u64>,
    pub(crate) started: u64,
    pub(crate) started_late: u64,
}

impl Counters {
    pub(crate) fn add(&mut self, queue: &Queue) {
        let model = self.models.entry(queue.model.clone()).or_default();
        model.finished = model.finished.saturating_add(queue.finished);
        model.service_seconds += queue.service_seconds;
        model.service_squares += queue.service_squares;
        self.finished = self.finished.saturating_add(queue.finished);
        self.service_seconds += queue.service_seconds;
        self.service_squares += queue.service_squares;
        let class = self.classes.entry(queue.class.clone()).or_default();
        let arrived = class.arrived.entry(queue.model.clone()).or_default();
        *arrived = arrived.saturating_add(queue.arrived);
        class.started = class.started.saturating_add(queue.started);
        class.started_late = class.started_late.saturating_add(queue.started_late);
    }

    /// Whether a count of jobs is as large as a number can be.
    pub(crate) fn is_full(&self) -> bool {
        let mut arrived = self.classes.values().flat_map(|class| class.arrived.values());
        arrived.any(|jobs| *jobs == u64::MAX)
    }

    /// What happened since `before`; `None` when a total shrank or was not kept, so that nobody knows.
    pub(crate) fn since(&self, before: &Self) -> Option<Self> {
        if before.classes.is_empty() && !self.classes.is_empty() {
            return None;
        }
        let models = self.models.iter().map(|(model, now)| {
            let before = before.models.get(model).copied().unwrap_or_default();
            Some((model.clone(), now.since(before)?))
        });
        let classes = self.classes.iter().map(|(class, now)| {
            let news = match before.classes.get(class) {
                Some(before) => now.since(before)?,
                None => now.clone(),
            };
            Some((class.clone(), news))
        });
        Some(Self {
            finished: self.finished.checked_sub(before.finished)?,
            service_seconds: self.service_seconds - before.service_seconds,
            service_squares: self.service_squares - before.service_squares,
            models: models.collect::<Option<_>>()?,
            classes: classes.collect::<Option<_>>()?,
        })
    }

    /// Classes of which jobs arrived.
    pub(crate) fn arrived(&self) -> impl Iterator<Item = &ClassName> {
        let has = |class: &ClassCounters| class.arrived.values().any(|jobs| *jobs > 0);
        self.classes.iter().filter(move |(_, class)| has(class)).map(|(name, _)| name)
    }

    /// Leaves out what cannot have happened within `elapsed`, given the totals `now`, and says so.
    pub(crate) fn believed(&mut self, now: &Self, elapsed: Duration) -> Vec<Note> {
        let most = MOST_PER_SECOND * elapsed.max(SLOT).as_secs_f64();
        let mut notes = Vec::new();
        for (class, news) in &mut self.classes {
            let arrived = news.arrived.values().copied().fold(0, u64::saturating_add);
            let jobs = arrived.max(news.started);
            if real(jobs) > most {
                *news = ClassCounters::default();
                notes.push(Note::ManyJobs { class: class.clone(), jobs });
            }
        }
        let mut whole = true;
        for (model, news) in &mut self.models {
            let total = now.models.get(model).copied().unwrap_or_default();
            if real(news.finished) > most || !news.can_be() || total.is_blurred() {
                *news = ModelCounters::default();
                whole = false;
                notes.push(Note::LongRuns { model: model.clone() });
            }
        }
        if !whole {
            let sum = |of: fn(&ModelCounters) -> f64| self.models.values().map(of).sum::<f64>();
            self.service_seconds = sum(|model| model.service_seconds);
            self.service_squares = sum(|model| model.service_squares);
            let finished = self.models.values().map(|model| model.finished);
            self.finished = finished.fold(0, u64::saturating_add);
        }
        notes
    }
}

impl ModelCounters {
    fn since(self, before: Self) -> Option<Self> {
        Some(Self {
            finished: self.finished.checked_sub(before.finished)?,
            service_seconds: self.service_seconds - before.service_seconds,
            service_squares: self.service_squares - before.service_squares,
        })
    }

    /// Whether so many jobs can have run for so long.
    fn can_be(&self) -> bool {
        let longest = real(self.finished) * LONGEST_RUN;
        self.service_seconds <= longest && self.service_squares <= longest * LONGEST_RUN
    }

    fn is_blurred(&self) -> bool {
        self.service_seconds > LARGEST_SUM || self.service_squares > LARGEST_SUM * LONGEST_RUN
    }
}

impl ClassCounters {
    fn since(&self, before: &Self) -> Option<Self> {
        let arrived = self.arrived.iter().map(|(model, now)| {
            let before = before.arrived.get(model).copied().unwrap_or(0);
            Some((model.clone(), now.checked_sub(before)?))
        });
        Some(Self {
            arrived: arrived.collect::<Option<_>>()?,
            started: self.started.checked_sub(before.started)?,
            started_late: self.started_late.checked_sub(before.started_late)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> ModelName {
        ModelName::new("m").unwrap()
    }

    fn class() -> ClassName {
        ClassName::new("standard").unwrap()
    }

    fn counters(arrived: u64, finished: u64, service_seconds: f64) -> Counters {
        let queue = Queue {
            arrived,
            started: arrived,
            finished,
            service_seconds,
            service_squares: service_seconds,
            ..Queue::new(class(), model())
        };
        let mut counters = Counters::default();
        counters.add(&queue);
        counters
    }

    #[test]
    fn totals_that_were_not_kept_by_class_tell_no_news() {
        let now = counters(9, 9, 9.0);
        let old = Counters { classes: BTreeMap::new(), ..now.clone() };
        assert_eq!(now.since(&old), None);
        assert_eq!(now.since(&counters(u64::MAX, u64::MAX, 0.0)), None);
        assert_eq!(now.since(&now).map(|since| since.finished), Some(0));
        let before = counters(4, 4, 4.0);
        let since = now.since(&before).unwrap();
        assert_eq!((since.finished, since.classes[&class()].arrived[&model()]), (5, 5));
    }

    #[test]
    fn what_cannot_have_happened_is_left_out_and_said() {
        let tick = Duration::from_secs(15);
        let news = |now: Counters| {
            let mut since = now.since(&counters(0, 0, 0.0)).unwrap();
            let notes = since.believed(&now, tick);
            (since, notes)
        };
        let (since, notes) = news(counters(1_000_000_000, 2, 40.0));
        assert_eq!(notes, [Note::ManyJobs { class: class(), jobs: 1_000_000_000 }]);
        assert_eq!((since.classes[&class()].started, since.finished), (0, 2));
        let (since, notes) = news(counters(2, 2, 1e300));
        assert_eq!(notes, [Note::LongRuns { model: model() }]);
        assert_eq!((since.classes[&class()].started, since.finished), (2, 0));
        assert!(since.service_seconds.abs() < 1e-9);
        let (since, notes) = news(counters(100, 90, 900.0));
        assert_eq!((since.finished, notes), (90, Vec::new()));
    }

    #[test]
    fn a_sum_that_has_lost_its_digits_tells_nothing_more() {
        let (before, now) = (counters(2, 2, 1e300), counters(9, 9, 1e300));
        let mut since = now.since(&before).unwrap();
        let notes = since.believed(&now, Duration::from_secs(15));
        assert_eq!(notes, [Note::LongRuns { model: model() }]);
        assert_eq!(since.finished, 0);
    }
}
