//! Applying an event to a stored job, with everything that is written about it.

use stoker_core::job::{Event, Refusal, apply, attempt_ends};

use super::StoreError;
use super::job_row::StoredJob;
use super::lanes::Delta;
use super::tables::Tables;
use super::types::Change;

impl StoredJob {
    /// Applies an event, writes the outcome and notes the change; a refusal changes nothing.
    pub(super) fn transit(
        &mut self,
        tables: &mut dyn Tables,
        event: &Event,
    ) -> Result<Result<(), Refusal>, StoreError> {
        let transition = match apply(&self.job, event, tables.now(), tables.policy()) {
            Ok(transition) => transition,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let before = std::mem::replace(&mut self.job, transition.job);
        tables.save(self)?;
        for end in attempt_ends(&before, &self.job, event) {
            tables.end_attempt(self.job.id, &end)?;
        }
        let waited = match (before.started_at, self.job.started_at) {
            (None, Some(started)) => Some(started.since(self.job.accepted_at)),
            _ => None,
        };
        let (from, to) = (before.state.kind(), self.job.state.kind());
        let names = self.names(tables.lanes())?;
        let change = Change {
            job: self.job.id,
            class: names.class.clone(),
            lane: names.lane.clone(),
            from: Some(from),
            to,
            effects: transition.effects,
            waited,
        };
        tables.changed(change, Delta { lane: self.lane, from: Some(from), to: Some(to) });
        Ok(Ok(()))
    }

    /// As [`StoredJob::transit`], for an event that nobody needs to be told of.
    pub(super) fn extend(
        &mut self,
        tables: &mut dyn Tables,
        event: &Event,
    ) -> Result<Result<(), Refusal>, StoreError> {
        match apply(&self.job, event, tables.now(), tables.policy()) {
            Ok(transition) => {
                self.job = transition.job;
                tables.save(self).map(Ok)
            }
            Err(refusal) => Ok(Err(refusal)),
        }
    }
}
