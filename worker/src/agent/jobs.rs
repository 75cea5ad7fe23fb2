//! What happens to attempts: granted, started, ended, stopped, settled.

use stoker_core::time::Timestamp;
use stoker_engine_api::{ItemInput, TaskKind};
use stoker_proto::v1::{ReleaseReason, ResultPart};
use stoker_runtime::trace_context::TraceContext;
use tracing::{debug, info, info_span, warn};

use super::Effect;
use super::state::{Held, ModelPlan, State};
use crate::attempt::{Granted, Work};
use crate::board::{Admission, Ended, Failure, FailureKind, JobKey, Outcome, Started};
use crate::images;
use crate::metrics::{self, JobOutcome};
use crate::report::{Report, Settled, Verdict};

impl State {
    pub(super) fn granted(&mut self, granted: Granted, now: Timestamp) {
        let Granted { index, fence, work, first_item, alone, slack, trace, ticket } = granted;
        let Some(model) = self.models.get_mut(index) else { return };
        let (job, attempt) = (fence.job, fence.attempt);
        let span = info_span!("attempt", %job, %attempt, model = %model.plan.name);
        trace.set_parent(&span);
        let key = JobKey(self.next_key);
        self.next_key += 1;
        let ticket = Some(ticket);
        let held = Held { index, fence, span, ticket, reporting: false, begun: None };
        self.held.insert(key, held);
        if self.drain.is_some() {
            self.release(key, self.release_reason(), Vec::new());
            return;
        }
        model.seat.jobs_came(1, now);
        if !model.seat.takes_jobs() {
            // It was claimed while the model left.
            self.release(key, ReleaseReason::Unavailable, Vec::new());
            return;
        }
        let inputs = match inputs_for(&model.plan, work) {
            Ok(inputs) => inputs,
            Err(failure) => {
                let outcome = Outcome::Failed(failure);
                self.ended(Ended { key, outcome });
                return;
            }
        };
        let begun = inputs.iter().filter(|input| input.is_begun()).count();
        debug!(%job, %attempt, items = inputs.len(), first_item, begun, "job granted");
        let start_by = now.after(slack);
        let admission = Admission { key, inputs, first_item, alone, granted_at: now, start_by };
        let ended = model.board.admit(admission);
        self.all_ended(ended);
    }

    /// Spans and metrics of a batch on its way to the engine.
    pub(super) fn batch_started(&mut self, index: usize, started: &Started) {
        let Some(model) = self.models.get_mut(index) else { return };
        for wait in &started.waited {
            metrics::waited(&model.plan.name, *wait);
        }
        let span = info_span!(
            "batch",
            model = %model.plan.name,
            items = started.items,
            tokens = started.tokens,
        );
        if span.is_disabled() {
            return;
        }
        for key in &started.jobs {
            if let Some(held) = self.held.get(key) {
                TraceContext::of(&held.span).link(&span);
            }
        }
        if let Some(engine) = &mut model.engine {
            engine.batches.insert(started.batch, span);
        }
    }

    pub(super) fn all_ended(&mut self, ended: impl IntoIterator<Item = Ended>) {
        for ended in ended {
            self.ended(ended);
        }
    }

    /// An attempt came to its end on the board.
    pub(super) fn ended(&mut self, ended: Ended) {
        let Ended { key, outcome } = ended;
        let Some(held) = self.held.get(&key) else { return };
        let verdict = match outcome {
            Outcome::Completed { parts, busy } => {
                if let Some(model) = self.models.get_mut(held.index) {
                    model.seat.job_took(busy);
                }
                Verdict::Complete { parts, busy }
            }
            Outcome::HandedOver { parts } => {
                if let Some(cause) = self.drain_cause() {
                    metrics::handed_over(cause);
                }
                Verdict::Release { reason: self.release_reason(), parts, begun: None }
            }
            Outcome::Failed(failure) => {
                let (job, attempt) = (held.fence.job, held.fence.attempt);
                // The message is for the job's owner: it may tell of inputs.
                info!(%job, %attempt, code = failure.code, "attempt failed");
                Verdict::Fail(failure)
            }
        };
        self.report(key, verdict);
    }

    /// Hands an attempt back with what is done of it.
    pub(super) fn release(&mut self, key: JobKey, reason: ReleaseReason, parts: Vec<ResultPart>) {
        let begun = self.held.get_mut(&key).and_then(|held| held.begun.take());
        self.report(key, Verdict::Release { reason, parts, begun });
    }

    fn report(&mut self, key: JobKey, verdict: Verdict) {
        let Some(held) = self.held.get_mut(&key) else { return };
        if let Some(model) = self.models.get(held.index) {
            metrics::job_ended(&model.plan.name, label(&verdict));
        }
        held.reporting = true;
        let report = Report {
            key: Some(key),
            fence: Some(held.fence),
            verdict,
            ticket: held.ticket.take(),
            span: held.span.clone(),
        };
        self.effects.push(Effect::Report(report));
    }

    /// Cancelled: drop its items and give it back. An attempt whose end is being reported is let be:
    /// whichever the coordinator commits first counts.
    pub(super) fn stop(&mut self, key: JobKey) {
        if self.take_off_board(key).is_some() {
            self.release(key, ReleaseReason::Stopped, Vec::new());
        }
    }

    /// The attempt is another's by now: forget it.
    pub(super) fn fenced(&mut self, key: JobKey) {
        if self.take_off_board(key).is_none() {
            return;
        }
        if let Some(held) = self.held.remove(&key) {
            warn!(job = %held.fence.job, attempt = %held.fence.attempt, "attempt is no longer ours");
            if let Some(model) = self.models.get(held.index) {
                metrics::job_ended(&model.plan.name, JobOutcome::Discarded);
            }
            self.effects.extend(held.ticket.map(Effect::Settle));
        }
    }

    pub(super) fn take_off_board(&mut self, key: JobKey) -> Option<Vec<ResultPart>> {
        let held = self.held.get_mut(&key)?;
        let board = &mut self.models.get_mut(held.index)?.board;
        held.begun = board.begun(key);
        board.remove(key)
    }

    /// The reporter got a definitive answer.
    pub(super) fn settled(&mut self, settled: Settled) {
        let Some(held) = self.held.remove(&settled.key) else { return };
        if !settled.recorded {
            info!(job = %held.fence.job, attempt = %held.fence.attempt, "the coordinator had no use for the report");
        }
    }
}

/// The items as the engine is to get them.
fn inputs_for(model: &ModelPlan, work: Option<Work>) -> Result<Vec<ItemInput>, Failure> {
    match work {
        Some(Work { task, prompt, inputs }) if task == model.task => {
            let prefix = model.prompts.prefix(&prompt).ok_or_else(|| unknown_prompt(&prompt))?;
            let mut inputs: Vec<_> = inputs.into_iter().map(|input| input.after(prefix)).collect();
            images::complete(&mut inputs, &model.zero_shot);
            Ok(inputs)
        }
        Some(Work { task, .. }) => Err(wrong_task(model.task, task)),
        None => {
            let message = "this worker does not know the job's kind of input: update the worker";
            // Another worker may be newer.
            let (kind, code) = (FailureKind::Retryable, "UNKNOWN_INPUT");
            Err(Failure { kind, code, message: message.to_owned() })
        }
    }
}

fn unknown_prompt(name: &str) -> Failure {
    let message = format!(
        "the model has no prompt `{name}` on this worker: give workers and coordinators one fleet file"
    );
    // Another worker may know it.
    Failure { kind: FailureKind::Retryable, code: "UNKNOWN_PROMPT", message }
}

fn wrong_task(model: TaskKind, asked: TaskKind) -> Failure {
    let message = format!("the model does {model}, the job asks for {asked}");
    Failure { kind: FailureKind::Permanent, code: "WRONG_TASK", message }
}

const fn label(verdict: &Verdict) -> JobOutcome {
    match verdict {
        Verdict::Complete { .. } | Verdict::Spooled { .. } => JobOutcome::Completed,
        Verdict::Fail(Failure { kind: FailureKind::Crash, .. }) => JobOutcome::Crashed,
        Verdict::Fail(_) => JobOutcome::Failed,
        Verdict::Release { .. } => JobOutcome::Released,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use stoker_core::fleet::prompts::Prompts;
    use stoker_core::ids::ModelName;
    use stoker_core::residency::Estimate;
    use stoker_core::zero_shot::ZeroShot;

    use super::*;

    #[test]
    fn the_prompt_that_was_asked_for_stands_before_each_input() {
        let texts = BTreeMap::from([("query".to_owned(), "query: ".to_owned())]);
        let model = ModelPlan {
            name: ModelName::new("e5").unwrap(),
            task: TaskKind::TextEmbedding,
            max_batch_tokens: None,
            prompts: Prompts::new(texts, None).unwrap(),
            zero_shot: ZeroShot::default(),
            estimate: Estimate::of(0, 0),
        };
        let inputs = |prompt: &str| {
            let inputs = vec![ItemInput::Text("a".to_owned()), ItemInput::Text("b".to_owned())];
            let work = Work { task: TaskKind::TextEmbedding, prompt: prompt.to_owned(), inputs };
            inputs_for(&model, Some(work))
        };
        let text = |text: &str| ItemInput::Text(text.to_owned());
        assert_eq!(inputs("query"), Ok(vec![text("query: a"), text("query: b")]));
        assert_eq!(inputs(""), Ok(vec![text("a"), text("b")]));
        let failure = inputs("passage").unwrap_err();
        assert_eq!((failure.kind, failure.code), (FailureKind::Retryable, "UNKNOWN_PROMPT"));
    }
}
