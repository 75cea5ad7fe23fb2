//! Machines with our tag that the ledger does not know: after two listings they are taken into it, and ended if
//! the rules say so. Nothing is ended that stands in no entry.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::fleet::check::Offering;
use crate::fleet::ledger::{Entry, Event, Leave, Mode, Order};
use crate::fleet::spec::CapacityType;
use crate::ids::{InstanceName, MachineId, OfferingName, PoolName};
use crate::money::{HourlyPrice, Money};
use crate::time::Timestamp;

use super::finding::Finding;
use super::listing::{Machine, MachineState};
use super::rules::Orphans;
use super::turn::{Turn, Work};

/// What was seen once is remembered for so long, if listings do not have it any more.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(10);

/// A machine that claims to be older is charged for this long; nobody has missed it for longer.
const OWED_AT_MOST: Duration = Duration::from_hours(24);

pub(super) fn reap(turn: &mut Turn<'_>, fresh: &mut dyn FnMut() -> MachineId) {
    let known: BTreeSet<InstanceName> = turn
        .entries
        .values()
        .filter(|entry| entry.state.counts())
        .filter_map(|entry| entry.state.instance().cloned())
        .collect();
    let mut still: BTreeSet<InstanceName> = BTreeSet::new();
    let mut complete = true;
    for region in turn.situation.listings.keys() {
        let Some((at, listed)) = turn.listing(region) else {
            complete = false;
            continue;
        };
        let alive = |machine: &&Machine| {
            matches!(machine.state, MachineState::Pending | MachineState::Running)
        };
        for machine in listed.iter().filter(alive).filter(|m| !known.contains(&m.instance)) {
            still.insert(machine.instance.clone());
            judge(turn, (region, at), machine, fresh);
        }
    }
    // One that is not listed any more is gone, or known by now; but a listing may lack some for a moment.
    if complete {
        let now = turn.now();
        let lately = |since: &Timestamp| now.since(*since) < FORGOTTEN_AFTER;
        let keeps = |instance: &InstanceName, since: &Timestamp| {
            still.contains(instance) || (lately(since) && !known.contains(instance))
        };
        turn.account.orphans.retain(|instance, since| keeps(instance, since));
    }
}

fn judge(
    turn: &mut Turn<'_>,
    (region, at): (&str, Timestamp),
    machine: &Machine,
    fresh: &mut dyn FnMut() -> MachineId,
) {
    let since = *turn.account.orphans.entry(machine.instance.clone()).or_insert(at);
    let panic = turn.situation.mode == Mode::Panic;
    if !panic && at.since(since) < turn.situation.rules.reap_after {
        let instance = machine.instance.clone();
        turn.findings.push(Finding::OrphanSeen { instance, since });
        return;
    }
    turn.account.orphans.remove(&machine.instance);
    // Whatever its tag names has ended, perhaps so long ago that it was not read, or has another machine.
    let id = fresh();
    let order = order(turn, region, machine);
    let made = (machine.instance.clone(), machine.launched_at);
    // What it has cost so far was not charged for.
    let now = turn.now();
    let charged = turn.account.spend.charged_until.unwrap_or(now);
    turn.account.spend.owe(order.price.of(charged.since(machine.launched_at).min(OWED_AT_MOST)));
    let entry = Entry::adopted(id, turn.situation.epoch, order, made, now);
    turn.entries.insert(id, entry);
    turn.findings.push(Finding::Adopted { instance: machine.instance.clone(), machine: id });
    if turn.situation.rules.orphans == Orphans::End && turn.situation.mode == Mode::Run {
        end(turn, id);
    }
}

/// Ends a machine that was just taken in, unless its worker is at work.
fn end(turn: &mut Turn<'_>, id: MachineId) {
    let Some(entry) = turn.entries.get(&id) else { return };
    match turn.work(entry) {
        Work::Absent => {
            turn.terminate(id, Leave::Orphan);
        }
        Work::Present(worker) => {
            let (worker, deadline) =
                (worker.id, turn.now().after(turn.situation.rules.drain_within));
            turn.apply(id, &Event::Registered { worker });
            turn.apply(id, &Event::Drain { deadline, why: Leave::Orphan });
        }
        // It is in the ledger, and judged again by the registration deadline.
        Work::Unknown => {}
    }
}

/// What it would have been ordered as. What is not known is taken to be the dearest, but of the pool that its tag
/// names, even if that buys nothing any more, and of no template: its boot says nothing about ours.
fn order(turn: &Turn<'_>, region: &str, machine: &Machine) -> Order {
    let pools = &turn.situation.policy.pools;
    let known =
        machine.pool.as_ref().zip(machine.offering.as_ref()).and_then(|(pool, offering)| {
            let found = pools.get(pool)?.scaling.offerings.get(offering)?;
            Some((pool.clone(), offering.clone(), found))
        });
    let dearest = || {
        let all = pools.iter().flat_map(|(pool, policy)| {
            policy.scaling.offerings.iter().map(move |(name, offering)| (pool, name, offering))
        });
        let found = all.max_by_key(|(_, _, offering)| offering.price);
        found.map(|(pool, name, offering)| (pool.clone(), name.clone(), offering))
    };
    let reason = "it has the fleet's tag and stood in no entry".to_owned();
    let is_known = known.is_some();
    let Some((pool, offering, found)) = known.or_else(dearest) else {
        return nameless(region, machine, reason);
    };
    let site = turn.situation.sites.get(&pool).and_then(|sites| sites.get(&offering));
    let provider = site.map_or_else(String::new, |site| site.provider.clone());
    let template = site.filter(|_| is_known).map_or_else(String::new, |site| site.template.clone());
    let pool = machine.pool.clone().unwrap_or(pool);
    let Offering { instance_type, zone, capacity, price, .. } = found.clone();
    let region = region.to_owned();
    Order {
        pool,
        offering,
        provider,
        region,
        zone,
        instance_type,
        capacity,
        price,
        template,
        reason,
    }
}

/// A machine of a fleet that buys nothing any more.
fn nameless(region: &str, machine: &Machine, reason: String) -> Order {
    let unknown = "unknown";
    let pool = PoolName::new(unknown).expect("a word is a name");
    let offering = OfferingName::new(unknown).expect("a word is a name");
    Order {
        pool: machine.pool.clone().unwrap_or(pool),
        offering: machine.offering.clone().unwrap_or(offering),
        provider: String::new(),
        region: region.to_owned(),
        zone: String::new(),
        instance_type: String::new(),
        capacity: CapacityType::OnDemand,
        price: HourlyPrice::new(Money::ZERO),
        template: String::new(),
        reason,
    }
}
