//! Taking machines out: by the switch, by the budget, and by the plan. A worker is drained before its machine ends.

use std::time::Duration;

use crate::fleet::caps::{Cap, rest_of_day_and_month};
use crate::fleet::ledger::{Event, Leave, Mode, State};
use crate::fleet::plan::Step;
use crate::fleet::report::RemoveReason;
use crate::fleet::spec::AtLimit;
use crate::ids::{InstanceName, MachineId};
use crate::money::{HourlyPrice, Money};
use crate::time::Timestamp;

use super::finding::Finding;
use super::turn::{Turn, Work};

/// What the switch asks for, whatever the plan says.
pub(super) fn obey_switch(turn: &mut Turn<'_>) {
    let mode = turn.situation.mode;
    let why = match mode {
        Mode::Run => return,
        Mode::Freeze => None,
        Mode::Drain => Some(Leave::DrainSwitch),
        Mode::Panic => Some(Leave::Panic),
    };
    for id in turn.open() {
        let Some(entry) = turn.entries.get(&id) else { continue };
        if entry.state == State::Intended {
            let why = format!("the switch is at {mode}");
            turn.apply(id, &Event::CalledOff { why });
        } else if let Some(why) = &why {
            if mode == Mode::Panic {
                if entry.state.instance().is_some() {
                    turn.apply(id, &Event::Terminate { why: why.clone() });
                }
            } else {
                let deadline = turn.now().after(turn.situation.rules.drain_within);
                leave(turn, id, deadline, why);
            }
        }
    }
}

/// Lets a machine go: a worker is drained; one that has none yet ends.
pub(super) fn leave(turn: &mut Turn<'_>, id: MachineId, deadline: Timestamp, why: &Leave) {
    let Some(entry) = turn.entries.get(&id) else { return };
    match &entry.state {
        State::Intended => {
            turn.apply(id, &Event::CalledOff { why: why.to_string() });
        }
        State::Launched { .. } => match turn.work(entry) {
            Work::Absent => {
                turn.terminate(id, why.clone());
            }
            Work::Unknown | Work::Present(_) => {}
        },
        State::Ready { .. } | State::Draining { .. } => {
            turn.apply(id, &Event::Drain { deadline, why: why.clone() });
        }
        // What may be there is waited for; what ends, ends.
        State::Requested { .. }
        | State::Terminating { .. }
        | State::Gone { .. }
        | State::Failed { .. } => {}
    }
}

/// Drains everything before a budget is exceeded, if it is to be kept so strictly.
pub(super) fn keep_budget(turn: &mut Turn<'_>) {
    let rules = turn.situation.rules;
    let budget = &turn.situation.policy.budget;
    if budget.at_limit != AtLimit::Drain || turn.situation.mode != Mode::Run {
        return;
    }
    let (_, per_hour) = turn.running();
    let (of_day, of_month) = rest_of_day_and_month(rules.budget_reserve, turn.now());
    let spend = &turn.account.spend;
    let over = |spent: Money, ahead: Duration, cap: Money| {
        per_hour > Money::ZERO && spent.plus(HourlyPrice::new(per_hour).of(ahead)) >= cap
    };
    let cap = if over(spend.day_spent, of_day, budget.per_day) {
        Cap::PerDay(budget.per_day)
    } else if over(spend.month_spent, of_month, budget.per_month) {
        Cap::PerMonth(budget.per_month)
    } else {
        return;
    };
    turn.findings.push(Finding::BudgetSpent { cap });
    // What is left of the reserve is for ending them.
    let deadline = turn.now().after(rules.budget_reserve / 2);
    for id in turn.open() {
        leave(turn, id, deadline, &Leave::OverBudget);
    }
}

/// The plan's drains and terminations.
pub(super) fn follow_plan(turn: &mut Turn<'_>) {
    let Some(proposal) = turn.situation.proposal else { return };
    let mode = turn.situation.mode;
    if mode != Mode::Run {
        let (mut launches, mut removals) = (0_u32, 0_u32);
        for step in &proposal.plan.steps {
            match step {
                Step::Launch { count, .. } => launches = launches.saturating_add(*count),
                Step::Drain { .. } | Step::Terminate { .. } => removals += 1,
            }
        }
        if launches > 0 || removals > 0 {
            turn.findings.push(Finding::Switched { mode, launches, removals });
        }
        return;
    }
    for step in &proposal.plan.steps {
        match step {
            Step::Launch { .. } => {}
            Step::Drain { instance, deadline, reason, .. } => {
                let Some(id) = find(turn, instance) else { continue };
                if let RemoveReason::Interrupted { lost_at } = reason {
                    if lost_at.is_some() {
                        turn.apply(id, &Event::Noticed);
                    }
                    interrupted(turn, id, *deadline);
                } else {
                    leave(turn, id, *deadline, &planned(reason));
                }
            }
            Step::Terminate { instance, reason, .. } => {
                let Some(id) = find(turn, instance) else { continue };
                terminate(turn, id, reason);
            }
        }
    }
}

fn planned(reason: &RemoveReason) -> Leave {
    Leave::Planned { why: reason.to_string() }
}

fn find(turn: &mut Turn<'_>, name: &InstanceName) -> Option<MachineId> {
    let id: Option<MachineId> = name.as_str().parse().ok();
    let found = id.filter(|id| turn.entries.contains_key(id));
    if found.is_none() {
        turn.findings.push(Finding::UnknownMachine { name: name.clone() });
    }
    found
}

/// The provider ends it; until then it takes no new work. One that boots may still be of use for a moment.
fn interrupted(turn: &mut Turn<'_>, id: MachineId, deadline: Timestamp) {
    let Some(entry) = turn.entries.get(&id) else { return };
    if matches!(entry.state, State::Ready { .. } | State::Draining { .. }) {
        turn.apply(id, &Event::Drain { deadline, why: Leave::Interrupted });
    }
}

/// The planner thinks that it does nothing, or is dead. Its list of workers may be older than the work.
fn terminate(turn: &mut Turn<'_>, id: MachineId, reason: &RemoveReason) {
    let Some(entry) = turn.entries.get(&id) else { return };
    let dead = matches!(reason, RemoveReason::Dead { .. });
    let deadline = turn.now().after(turn.situation.rules.drain_within);
    match (&entry.state, turn.work(entry)) {
        (State::Ready { .. } | State::Launched { .. }, Work::Absent) if dead => {
            turn.terminate(id, Leave::Dead { why: reason.to_string() });
        }
        // Its deadline is kept.
        (State::Draining { .. }, _) => {}
        (State::Ready { .. }, Work::Present(worker)) => {
            if worker.running > 0 {
                let running = worker.running;
                turn.findings.push(Finding::BusyDrained { machine: id, running });
            }
            leave(turn, id, deadline, &planned(reason));
        }
        _ => leave(turn, id, deadline, &planned(reason)),
    }
}
