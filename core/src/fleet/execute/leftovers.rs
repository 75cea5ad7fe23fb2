//! Machines that the fleet file does not speak of any more: nobody plans for them, and they cost.

use crate::fleet::ledger::{Leave, Mode};
use crate::ids::MachineId;

use super::removal::leave;
use super::turn::Turn;

/// Lets the machines of pools go that buy nothing any more, each once its work is done.
pub(super) fn leave_lost_pools(turn: &mut Turn<'_>) {
    if turn.situation.mode != Mode::Run {
        return;
    }
    let deadline = turn.now().after(turn.situation.rules.drain_within);
    let lost: Vec<(MachineId, Leave)> = turn
        .entries
        .values()
        .filter(|entry| entry.state.counts())
        .filter(|entry| !turn.situation.policy.pools.contains_key(&entry.order.pool))
        .map(|entry| {
            let why = format!("the fleet file offers nothing for its pool {}", entry.order.pool);
            (entry.id, Leave::Planned { why })
        })
        .collect();
    for (id, why) in lost {
        leave(turn, id, deadline, &why);
    }
}
