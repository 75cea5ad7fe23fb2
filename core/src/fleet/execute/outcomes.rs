//! What came of calls: machines that are there, that will not be, and that are asked for again.

use crate::fleet::ledger::{Entry, Event, Failure, Mode, State};
use crate::fleet::snapshot::Market;
use crate::ids::{MachineId, OfferingName, PoolName};
use crate::time::Timestamp;

use super::command::Outcome;
use super::finding::Finding;
use super::pause;
use super::turn::Turn;

pub(super) fn take(turn: &mut Turn<'_>) {
    let situation = turn.situation;
    for outcome in situation.outcomes {
        match outcome {
            Outcome::Refused { machine, class, why } => refused(turn, *machine, *class, why),
            Outcome::Launched { machine, instance, launched_at }
            | Outcome::Resolved { machine, found: Some((instance, launched_at)), .. } => {
                let (instance, launched_at) = (instance.clone(), *launched_at);
                turn.apply(*machine, &Event::Found { instance, launched_at });
            }
            Outcome::Resolved { machine, found: None, asked_at } => {
                not_found(turn, *machine, *asked_at);
            }
            Outcome::Unsure { machine, why } | Outcome::NotDone { machine, why, .. } => {
                turn.findings.push(Finding::CallFailed { machine: *machine, why: why.clone() });
            }
        }
    }
}

fn refused(turn: &mut Turn<'_>, machine: MachineId, class: Failure, why: &str) {
    let Some(entry) = turn.entries.get(&machine) else { return };
    match entry.state {
        State::Intended | State::Requested { calls: 0 | 1 } => {}
        State::Requested { .. } if class == Failure::NeverSeen => {}
        State::Requested { .. } => {
            // An earlier call, perhaps of another process that stood still, may yet make it.
            turn.findings.push(Finding::CallFailed { machine, why: why.to_owned() });
            return;
        }
        // An earlier call of the same token made it, or it has failed already.
        State::Launched { .. }
        | State::Ready { .. }
        | State::Draining { .. }
        | State::Terminating { .. }
        | State::Gone { .. }
        | State::Failed { .. } => return,
    }
    if !turn.apply(machine, &Event::Refused { class, why: why.to_owned() }) {
        return;
    }
    turn.findings.push(Finding::LaunchFailed { machine, class, why: why.to_owned() });
    let Some(order) = turn.entries.get(&machine).map(|entry| entry.order.clone()) else { return };
    market(turn, (&order.pool, &order.offering), |market| market.refused += 1);
    let now = turn.now();
    pause::failed(&mut turn.account.pauses, class, &order, now);
}

/// Counts something of an offering.
pub(super) fn market(
    turn: &mut Turn<'_>,
    (pool, offering): (&PoolName, &OfferingName),
    count: impl FnOnce(&mut Market),
) {
    let pool = turn.account.markets.entry(pool.clone()).or_default();
    count(pool.entry(offering.clone()).or_default());
}

/// Nothing has the token so far: the call is repeated, or given up.
fn not_found(turn: &mut Turn<'_>, machine: MachineId, looked_at: Timestamp) {
    let rules = turn.situation.rules;
    let Some(Entry { state: State::Requested { calls }, times, .. }) = turn.entries.get(&machine)
    else {
        return;
    };
    // A look from before the last call says nothing about it.
    let Some(waited) = times.asked.map(|asked| looked_at.since(asked)) else { return };
    if waited >= rules.give_up_after {
        let why = "no machine with its token or tag has appeared".to_owned();
        refused(turn, machine, Failure::NeverSeen, &why);
    } else if waited >= rules.repeat_after
        && *calls < rules.most_calls
        && turn.situation.mode == Mode::Run
    {
        turn.apply(machine, &Event::Asked);
    }
}
