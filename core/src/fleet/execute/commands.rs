//! The calls that follow from what the ledger will say. None is made for what it does not say.

use crate::fleet::ledger::{Entry, Mode, Presence, State};

use super::command::Command;
use super::listing::MachineState;
use super::turn::{Turn, Work};

pub(super) fn derive(turn: &mut Turn<'_>) {
    let commands =
        turn.open().iter().filter_map(|id| command(turn, turn.entries.get(id)?)).collect();
    turn.commands = commands;
}

fn command(turn: &Turn<'_>, entry: &Entry) -> Option<Command> {
    let (now, rules) = (turn.now(), turn.situation.rules);
    let machine = entry.id;
    let frozen = turn.situation.mode == Mode::Freeze;
    match &entry.state {
        State::Requested { .. } => {
            let asked = entry.times.asked?;
            if turn.asked.contains(&machine) {
                Some(Command::Launch { machine })
            } else {
                let due = now.since(asked) >= rules.resolve_after;
                due.then_some(Command::Resolve { machine })
            }
        }
        State::Draining { worker, deadline, why, .. } if !frozen || why.is_ordered() => {
            let told = match turn.work(entry) {
                Work::Present(seen) => seen.presence == Presence::Draining,
                Work::Unknown | Work::Absent => entry.times.draining != Some(now),
            };
            let (worker, deadline) = (*worker, *deadline);
            (!told).then_some(Command::Drain { machine, worker, deadline })
        }
        State::Terminating { instance, why } if !frozen || why.is_ordered() => {
            let region = entry.order.region.clone();
            let terminate = Command::Terminate { machine, region, instance: instance.clone() };
            is_told(turn, entry).is_none().then_some(terminate)
        }
        State::Terminating { .. }
        | State::Intended
        | State::Launched { .. }
        | State::Ready { .. }
        | State::Draining { .. }
        | State::Gone { .. }
        | State::Failed { .. } => None,
    }
}

/// Something if the provider is known to be ending the machine already.
fn is_told(turn: &Turn<'_>, entry: &Entry) -> Option<()> {
    let (_, listed) = turn.listing(&entry.order.region)?;
    let machine =
        listed.iter().find(|machine| Some(&machine.instance) == entry.state.instance())?;
    match machine.state {
        MachineState::Pending | MachineState::Running => None,
        MachineState::ShuttingDown | MachineState::Ended(_) => Some(()),
    }
}
