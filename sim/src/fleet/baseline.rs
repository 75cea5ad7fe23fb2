//! The published policies of others, from their published rules. Where a document leaves a rule open, the
//! choice is stated beside it.

pub mod cant_be_late;
pub mod delayed_off;
pub mod fixed;
pub mod keda;
pub mod knative;
pub mod runpod;
pub mod skyserve;
pub mod staffing;
pub mod tracking;

use std::collections::VecDeque;

use crate::fleet::job::Millis;

/// The extreme of what was wanted within a span.
#[derive(Debug, Clone, Default)]
pub(crate) struct Window {
    values: VecDeque<(Millis, usize)>,
}

impl Window {
    /// Notes a value and returns the largest of the last `span`.
    pub(crate) fn max(&mut self, now: Millis, value: usize, span: Millis) -> usize {
        while self.values.back().is_some_and(|(_, last)| *last <= value) {
            self.values.pop_back();
        }
        self.values.push_back((now, value));
        while self.values.front().is_some_and(|(at, _)| *at < now - span) {
            self.values.pop_front();
        }
        self.values.front().map_or(value, |(_, largest)| *largest)
    }
}
