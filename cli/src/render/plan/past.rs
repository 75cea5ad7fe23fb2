//! What was done about a plan of the past, line by line.

use std::fmt::Write as _;

use serde_json::{Value, json};
use stoker_core::fleet::execute::{Executed, Outcome};
use stoker_core::fleet::journal::{Line, Record};
use stoker_core::fleet::ledger::{Entry, State};
use stoker_core::time::Timestamp;

use crate::render::time::{rfc3339, span};

/// For people: what followed, with the time since the plan.
pub(crate) fn followed(planned_at: Timestamp, lines: &[Line]) -> String {
    if lines.is_empty() {
        return "\nNothing was done about it by then.\n".to_owned();
    }
    let mut text = "\nWhat followed:\n".to_owned();
    for line in lines {
        let after = span(line.at.since(planned_at));
        for said in said(&line.record) {
            let _ = writeln!(text, "  +{after:<6} {said}");
        }
    }
    text
}

/// For programs.
pub(crate) fn followed_document(lines: &[Line]) -> Value {
    let line = |line: &Line| json!({ "at": rfc3339(line.at), "said": said(&line.record) });
    json!(lines.iter().map(line).collect::<Vec<_>>())
}

fn said(record: &Record) -> Vec<String> {
    match record {
        Record::Planned { .. } => Vec::new(),
        Record::Executed { executed, committed, .. } => {
            let mut said = steps(executed);
            if !committed {
                said.push(
                    "none of it holds: another autoscaler or an operator was faster".to_owned(),
                );
            }
            said
        }
        Record::Outcomes { outcomes } => outcomes.iter().map(outcome).collect(),
    }
}

fn steps(executed: &Executed) -> Vec<String> {
    let written = executed.writes.entries.iter().map(entry);
    written.chain(executed.findings.iter().map(ToString::to_string)).collect()
}

fn entry(entry: &Entry) -> String {
    let (id, offering) = (entry.id, &entry.order.offering);
    match &entry.state {
        State::Intended => format!("{id} is wanted: {offering}, {}", entry.order.reason),
        State::Requested { calls } => format!("{id} is asked for ({offering}), call {calls}"),
        State::Launched { instance } => format!("{id} is there: {instance}"),
        State::Ready { worker, .. } => format!("{id} works: worker {worker}"),
        State::Draining { why, .. } => format!("{id} is drained: {why}"),
        State::Terminating { why, .. } => format!("{id} is ended: {why}"),
        State::Gone { why, .. } => format!("{id} is gone: {why}"),
        State::Failed { class, why } => format!("{id} came to nothing ({}): {why}", class.name()),
    }
}

fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Launched { machine, instance, .. } => {
            format!("{machine} was launched: {instance}")
        }
        Outcome::Refused { machine, class, why } => {
            format!("{machine} was refused ({}): {why}", class.name())
        }
        Outcome::Unsure { machine, why } => format!("whether {machine} exists is not known: {why}"),
        Outcome::Resolved { machine, found: Some((instance, _)), .. } => {
            format!("{machine} was found: {instance}")
        }
        Outcome::Resolved { machine, found: None, .. } => format!("{machine} was not found"),
        Outcome::NotDone { machine, why, .. } => format!("a call about {machine} failed: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use stoker_core::fleet::ledger::Failure;
    use stoker_core::ids::{Epoch, MachineId};

    use super::*;

    #[test]
    fn what_followed_has_its_time_since_the_plan() {
        let planned_at = Timestamp::from_unix_millis(1_700_000_000_000);
        let machine = MachineId::from_bytes([7; 16]);
        let refused =
            Outcome::Refused { machine, class: Failure::Capacity, why: "none left".to_owned() };
        let line = Line {
            at: planned_at.after(Duration::from_secs(3)),
            epoch: Epoch::new(1),
            record: Record::Outcomes { outcomes: vec![refused] },
        };
        let text = followed(planned_at, &[line]);
        assert!(text.contains("+3s") && text.contains("refused (capacity): none left"), "{text}");
        assert!(followed(planned_at, &[]).contains("Nothing was done"));
    }
}
