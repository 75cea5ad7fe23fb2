//! What listings show: machines that came, went, or are missing; and workers on them.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::fleet::ledger::{Ending, Entry, Event, Leave, Mode, Presence, State};
use crate::fleet::snapshot::{Notice, Reading};
use crate::ids::{InstanceName, MachineId};
use crate::time::Timestamp;

use super::breaker;
use super::finding::Finding;
use super::listing::{EndedBy, Machine, MachineState};
use super::outcomes::market;
use super::turn::{Turn, Work};

/// Compares entries with the listings of their regions.
pub(super) fn machines(turn: &mut Turn<'_>) {
    let mut by_region: BTreeMap<String, Vec<MachineId>> = BTreeMap::new();
    for entry in turn.entries.values().filter(|entry| entry.state.counts()) {
        by_region.entry(entry.order.region.clone()).or_default().push(entry.id);
    }
    for region in turn.situation.listings.keys() {
        by_region.entry(region.clone()).or_default();
    }
    for (region, entries) in by_region {
        if let Some((at, listed)) = turn.listing(&region) {
            compare(turn, (&region, at), listed, &entries);
            continue;
        }
        let finding = match turn.situation.listings.get(&region) {
            None => {
                let machines = u32::try_from(entries.len()).unwrap_or(u32::MAX);
                Finding::RegionLost { region, machines }
            }
            Some(Reading::Unknown { why }) => Finding::ListingUnknown { region, why: why.clone() },
            Some(Reading::Known { at, .. }) => {
                Finding::ListingUnknown { region, why: format!("the listing is of {at}") }
            }
        };
        turn.findings.push(finding);
    }
}

fn compare(
    turn: &mut Turn<'_>,
    (region, at): (&str, Timestamp),
    listed: &[Machine],
    entries: &[MachineId],
) {
    let by_instance: BTreeMap<&InstanceName, &Machine> =
        listed.iter().map(|machine| (&machine.instance, machine)).collect();
    let mut by_tag: BTreeMap<MachineId, &Machine> = BTreeMap::new();
    for machine in listed.iter().rev() {
        if let Some(tag) = machine.tag {
            by_tag.insert(tag, machine);
        }
    }
    let (mut expected, mut missing) = (0_u32, Vec::new());
    for id in entries {
        let Some(entry) = turn.entries.get(id) else { continue };
        let found = match entry.state.instance() {
            Some(instance) => by_instance.get(instance),
            None => by_tag.get(id),
        };
        match found {
            Some(machine) => {
                expected += 1;
                seen(turn, *id, machine);
            }
            None if must_be_visible(entry, at, turn.situation.rules.visible_after) => {
                expected += 1;
                missing.push(*id);
                turn.apply(*id, &Event::Missed);
            }
            None => {}
        }
    }
    judge(turn, (region, at), expected, &missing);
}

/// Whether a listing of this time would have the machine of an entry.
fn must_be_visible(entry: &Entry, at: Timestamp, visible_after: Duration) -> bool {
    let known = entry.state.instance().is_some();
    known && entry.times.launched.is_some_and(|launched| at.since(launched) >= visible_after)
}

fn seen(turn: &mut Turn<'_>, id: MachineId, machine: &Machine) {
    let Some(entry) = turn.entries.get(&id) else { return };
    if entry.state.instance().is_none() {
        let (instance, launched_at) = (machine.instance.clone(), machine.launched_at);
        turn.apply(id, &Event::Found { instance, launched_at });
    }
    match machine.state {
        MachineState::Pending | MachineState::Running | MachineState::ShuttingDown => {
            turn.apply(id, &Event::Listed);
        }
        MachineState::Ended(by) => ended(turn, id, Some(by)),
    }
}

/// Writes down that a machine is gone, and what that teaches.
fn ended(turn: &mut Turn<'_>, id: MachineId, by: Option<EndedBy>) {
    let Some(entry) = turn.entries.get(&id) else { return };
    let interrupted = by == Some(EndedBy::Interruption) || entry.times.noticed.is_some();
    let why = match &entry.state {
        _ if interrupted => Ending::Interrupted,
        State::Terminating { why, .. } | State::Draining { why, .. } => {
            Ending::Terminated(why.clone())
        }
        _ if by.is_none() => Ending::Vanished,
        State::Launched { .. }
        | State::Ready { .. }
        | State::Intended
        | State::Requested { .. }
        | State::Gone { .. }
        | State::Failed { .. } => Ending::Elsewhere,
    };
    let (order, booted) = (entry.order.clone(), entry.times.ready.is_some());
    if !turn.apply(id, &Event::Ended { why: why.clone() }) {
        return;
    }
    if interrupted {
        market(turn, (&order.pool, &order.offering), |market| market.interrupted += 1);
    } else if !booted && matches!(why, Ending::Elsewhere | Ending::Vanished) {
        boot_failed(turn, id, &order.template);
    }
}

/// Notes that a machine of a template did not become a worker.
pub(super) fn boot_failed(turn: &mut Turn<'_>, machine: MachineId, template: &str) {
    let (rules, now) = (turn.situation.rules, turn.now());
    let template = template.to_owned();
    breaker::failed(turn.account.breakers.entry(template.clone()).or_default(), rules, now);
    turn.findings.push(Finding::BootFailed { machine, template });
}

/// Decides on machines that a listing lacks. One whose worker was just heard is there, whatever the listing says.
fn judge(
    turn: &mut Turn<'_>,
    (region, at): (&str, Timestamp),
    expected: u32,
    missing: &[MachineId],
) {
    let rules = turn.situation.rules;
    let lacking = u32::try_from(missing.len()).unwrap_or(u32::MAX);
    let distrusted = lacking > rules.guard_least && lacking > expected / 2;
    if distrusted {
        let (region, missing) = (region.to_owned(), lacking);
        turn.findings.push(Finding::ListingDistrusted { region, missing, expected });
    }
    let patience = if distrusted { rules.distrusted_for } else { rules.absent_after };
    for id in missing {
        let Some(entry) = turn.entries.get(id) else { continue };
        let long = entry.times.missing.is_some_and(|since| at.since(since) >= patience);
        if long && turn.work(entry) == Work::Absent {
            ended(turn, *id, None);
        }
    }
}

/// Compares entries with the workers that the coordinator knows.
pub(super) fn workers(turn: &mut Turn<'_>) {
    if turn.workers().is_none() {
        let why = match turn.situation.workers {
            Reading::Unknown { why } => why.clone(),
            Reading::Known { at, .. } => format!("the list is of {at}"),
        };
        turn.findings.push(Finding::WorkersUnknown { why });
        return;
    }
    for id in turn.open() {
        let Some(entry) = turn.entries.get(&id) else { continue };
        let Work::Present(worker) = turn.work(entry) else { continue };
        let before = entry.state.worker();
        if let (State::Intended | State::Requested { .. }, Some(instance)) =
            (&entry.state, &worker.instance)
        {
            let (instance, launched_at) = (instance.clone(), turn.now());
            turn.apply(id, &Event::Found { instance, launched_at });
        }
        let Some(entry) = turn.entries.get(&id) else { continue };
        let takes = matches!(
            entry.state,
            State::Launched { .. } | State::Ready { .. } | State::Draining { .. }
        );
        if takes && before != Some(worker.id) {
            let template = entry.order.template.clone();
            turn.apply(id, &Event::Registered { worker: worker.id });
            if before.is_none() {
                turn.account.breakers.remove(&template);
            }
        }
        // A hint that it may be taken back is none that it was.
        if let Some(Notice::Interruption { .. }) = worker.notice {
            turn.apply(id, &Event::Noticed);
        }
        let is_ready =
            turn.entries.get(&id).is_some_and(|e| matches!(e.state, State::Ready { .. }));
        if is_ready && worker.presence == Presence::Draining && turn.situation.mode != Mode::Freeze
        {
            let deadline = turn.now().after(turn.situation.rules.drain_within);
            let why = Leave::Planned { why: "its worker drains already".to_owned() };
            turn.apply(id, &Event::Drain { deadline, why });
        }
    }
}
