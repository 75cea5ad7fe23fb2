//! What is being generated, told to the coordinator for those who watch: often where somebody does, and a question
//! now and then where nobody does.

use std::collections::BTreeMap;
use std::time::Duration;

use stoker_core::time::Timestamp;
use stoker_engine_api::TaskKind;
use stoker_proto::v1;
use tracing::debug;

use super::Effect;
use super::state::{Held, State};
use crate::board::JobKey;
use crate::link::LinkError;

/// Between two calls.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// Between two questions whether somebody watches a job.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// Bytes of text in one call.
const MAX_BYTES: usize = 1 << 20;

/// Attempts of one call.
const AT_ONCE: usize = 1_000;

/// The answer to one call.
#[derive(Debug)]
pub struct TellAnswer {
    pub told: Vec<(JobKey, Vec<v1::TextPiece>)>,
    pub result: Result<v1::TellResponse, LinkError>,
}

/// When calls go out.
#[derive(Debug, Default)]
pub(super) struct Telling {
    in_flight: bool,
    last: Option<Timestamp>,
    /// Of attempts that were asked about.
    interest: BTreeMap<JobKey, Interest>,
}

/// Whether somebody watches a job, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Interest {
    Nobody { asked: Timestamp },
    Somebody,
}

impl State {
    /// When the next call is due, if there is anything to tell or to ask.
    pub(super) fn next_tell(&self) -> Option<Timestamp> {
        if self.telling.in_flight || self.registration.is_none() {
            return None;
        }
        let due = self.with_texts().filter_map(|key| self.tell_due(key)).min()?;
        let next = self.telling.last.map(|last| last.after(TELL_EVERY));
        Some(next.map_or(due, |next| next.max(due)))
    }

    pub(super) fn tell_if_due(&mut self, now: Timestamp) {
        if self.next_tell().is_none_or(|next| next > now) {
            return;
        }
        let due = |key: &JobKey| self.tell_due(*key).is_some_and(|due| due <= now);
        let keys: Vec<JobKey> = self.with_texts().filter(due).take(AT_ONCE).collect();
        let mut left = MAX_BYTES;
        let (mut attempts, mut told) = (Vec::new(), Vec::new());
        for key in keys {
            let Some(held) = self.held.get(&key) else { continue };
            // Where nobody is known to watch it is a question only.
            let watched = self.telling.interest.get(&key) == Some(&Interest::Somebody);
            let board = self.models.get(held.index).map(|model| &model.board).filter(|_| watched);
            let pieces = board.map(|board| board.news(key, left)).unwrap_or_default();
            left -= pieces.iter().map(|piece| piece.text.len()).sum::<usize>().min(left);
            let fence = Some(held.fence.to_wire());
            attempts.push(v1::AttemptTexts { fence, pieces: pieces.clone() });
            told.push((key, pieces));
        }
        self.telling.in_flight = true;
        self.telling.last = Some(now);
        let request = v1::TellRequest { worker_id: self.worker.to_string(), attempts };
        self.effects.push(Effect::Tell { request, told });
    }

    pub(super) fn tell_answered(&mut self, answer: TellAnswer, now: Timestamp) {
        let TellAnswer { told, result } = answer;
        self.telling.in_flight = false;
        let outcomes = match result {
            Ok(response) if response.outcomes.len() == told.len() => response.outcomes,
            Ok(response) => {
                debug!(got = response.outcomes.len(), expected = told.len(), "bad answer to texts");
                Vec::new()
            }
            Err(error) => {
                debug!(%error, "texts not told");
                Vec::new()
            }
        };
        let mut outcomes = outcomes.into_iter();
        for (key, pieces) in told {
            let Some(held) = self.held.get(&key) else { continue };
            // Without an answer nobody is known to watch, and what is told again later does no harm.
            let outcome = outcomes.next();
            let watched = outcome.as_ref().is_some_and(|outcome| outcome.watched);
            let interest =
                if watched { Interest::Somebody } else { Interest::Nobody { asked: now } };
            self.telling.interest.insert(key, interest);
            if let Some(model) = self.models.get_mut(held.index)
                && let Some(outcome) = outcome
            {
                model.board.told(key, &pieces, &outcome);
            }
        }
        let held = &self.held;
        self.telling.interest.retain(|key, _| held.contains_key(key));
    }

    /// From when on there is something to tell or to ask of an attempt.
    fn tell_due(&self, key: JobKey) -> Option<Timestamp> {
        let at_once = Timestamp::from_unix_millis(0);
        match self.telling.interest.get(&key) {
            None => Some(at_once),
            Some(Interest::Nobody { asked }) => Some(asked.after(ASK_EVERY)),
            Some(Interest::Somebody) => self.has_news(key).then_some(at_once),
        }
    }

    /// The attempts of which texts are being generated.
    fn with_texts(&self) -> impl Iterator<Item = JobKey> {
        let has_texts = |(key, held): (&JobKey, &Held)| {
            let model = self.models.get(held.index).filter(|_| !held.reporting)?;
            let generates = model.plan.task == TaskKind::TextGeneration;
            (generates && model.board.has_texts(*key)).then_some(*key)
        };
        self.held.iter().filter_map(has_texts)
    }

    fn has_news(&self, key: JobKey) -> bool {
        let model = self.held.get(&key).and_then(|held| self.models.get(held.index));
        model.is_some_and(|model| model.board.has_news(key))
    }
}
