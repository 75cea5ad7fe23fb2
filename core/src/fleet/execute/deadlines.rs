//! What time brings: boots that never became workers, drains that are done or over, and things that hang.

use crate::fleet::ledger::{Entry, Event, Leave, Mode, Presence, State};
use crate::ids::MachineId;
use crate::time::Timestamp;

use super::finding::Finding;
use super::observe::boot_failed;
use super::turn::{Turn, Work};

pub(super) fn pass(turn: &mut Turn<'_>) {
    let now = turn.now();
    let rules = turn.situation.rules;
    let acts = turn.situation.mode != Mode::Freeze;
    for id in turn.open() {
        let Some(entry) = turn.entries.get(&id) else { continue };
        match entry.state.clone() {
            State::Intended if now.since(entry.times.intended) >= rules.intent_life => {
                let why = "the plan that wanted it is old".to_owned();
                turn.apply(id, &Event::CalledOff { why });
            }
            State::Requested { .. } => {
                let since = entry.times.requested.unwrap_or(now);
                if now.since(since) > rules.stuck_after {
                    turn.findings.push(Finding::Unresolved { machine: id, since });
                }
            }
            State::Launched { .. } if acts => unregistered(turn, id),
            State::Draining { deadline, why, .. } if acts || why.is_ordered() => {
                draining(turn, id, deadline, &why);
            }
            State::Terminating { instance, .. } => {
                let since = entry.times.terminating.unwrap_or(now);
                if now.since(since) > rules.stuck_after {
                    turn.findings.push(Finding::Stuck { machine: id, instance, since });
                }
            }
            State::Intended
            | State::Launched { .. }
            | State::Ready { .. }
            | State::Draining { .. }
            | State::Gone { .. }
            | State::Failed { .. } => {}
        }
    }
}

/// A launch that has had the time to become a worker. Not being listed while the list is young says nothing.
fn unregistered(turn: &mut Turn<'_>, id: MachineId) {
    let Some(entry) = turn.entries.get(&id) else { return };
    let Entry { times, order, .. } = entry;
    let since = times.launched.unwrap_or(times.intended).max(times.intended);
    let overdue = turn.now().since(since) >= turn.situation.rules.register_within;
    if !overdue || turn.work(entry) != Work::Absent {
        return;
    }
    let template = order.template.clone();
    if turn.terminate(id, Leave::NeverRegistered) {
        boot_failed(turn, id, &template);
    }
}

/// A drain ends the machine when the worker has nothing left or is gone; at the deadline whatever it does.
fn draining(turn: &mut Turn<'_>, id: MachineId, deadline: Timestamp, why: &Leave) {
    let Some(entry) = turn.entries.get(&id) else { return };
    let done = match turn.work(entry) {
        Work::Present(worker) => worker.presence == Presence::Draining && worker.running == 0,
        Work::Absent => true,
        Work::Unknown => false,
    };
    if done {
        turn.terminate(id, why.clone());
    } else if turn.now() >= deadline {
        let certain = matches!(why, Leave::Interrupted | Leave::OverBudget) || why.is_ordered();
        let why = if certain {
            // What the provider takes back ends anyway, an operator has said by when, and a budget that is to be
            // kept is kept for all at once.
            why.clone()
        } else if turn.situation.mode == Mode::Drain {
            // An operator wants all of them to go.
            Leave::DrainSwitch
        } else {
            Leave::Overdue { why: why.to_string() }
        };
        turn.terminate(id, why);
    }
}
