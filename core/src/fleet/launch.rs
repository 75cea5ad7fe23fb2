//! From a shortage to launches, within what may be bought.

use std::collections::BTreeMap;

use crate::ids::OfferingName;

use super::capacity::Capacity;
use super::caps::Allowance;
use super::check::Scaling;
use super::memory::PoolMemory;
use super::number::ceil;
use super::plan::Step;
use super::policy::PoolPolicy;
use super::pool::Context;
use super::provision::{self, Candidate, Mode, Spread};
use super::report::{LaunchReason, NoRoom, Note};
use super::roster::Roster;
use super::sizing::Order;
use super::snapshot::{Instance, Reading};
use super::spec::CapacityType;
use super::spot;
use super::want::Want;

/// What is wanted and what is there, in workers of speed 1.
#[derive(Debug)]
pub(crate) struct Shortage<'a> {
    pub(crate) want: &'a Want,
    /// Workers beyond that, against losses.
    pub(crate) spares: u32,
    /// Ready or booting, and not leaving.
    pub(crate) staying: f64,
    /// Of those, what is to be replaced.
    pub(crate) marked: f64,
    /// Instances that leave.
    pub(crate) leaving: usize,
    /// What else is to be launched, for jobs that may wait and in other sizes.
    pub(crate) orders: &'a [Order],
    /// Whether the promise is expected to be broken with what is there.
    pub(crate) broken: bool,
    pub(crate) waiting: u64,
}

/// Launches that meet the shortage, as far as the allowance and the pool's bound go.
pub(crate) fn steps(
    context: &Context<'_>,
    memory: &PoolMemory,
    (shortage, candidates): (&Shortage<'_>, &[Candidate<'_>]),
    allowance: &mut Allowance,
    notes: &mut Vec<Note>,
) -> Vec<Step> {
    let scaling = &context.policy.scaling;
    let instances: &[Instance] = match context.observed.map(|observed| &observed.instances) {
        Some(Reading::Known { value, .. }) => value,
        Some(Reading::Unknown { .. }) | None => &[],
    };
    let roster = Roster::new(instances, scaling);
    let mut spread = Spread::new(scaling, &memory.ties, roster.counts());
    let wanted = f64::from(shortage.want.prompt.saturating_add(shortage.spares));
    let missing = (wanted - shortage.staying).max(0.0);
    let refused = provision::refused_lately(scaling, &memory.risks, context.now);
    let bridging = shortage.broken && refused > 0;
    let on_demand: Vec<Candidate<'_>> =
        candidates.iter().filter(|candidate| !candidate.is_spot()).cloned().collect();
    let offered = if bridging && !on_demand.is_empty() { &on_demand[..] } else { candidates };
    let mut prompt = provision::cover(missing, Mode::Prompt, offered, &mut spread);
    // Successors can wait, so they are not bought where only a bridge is to be had.
    let successors = (wanted - missing - (shortage.staying - shortage.marked)).max(0.0);
    if !bridging {
        for (name, count) in provision::cover(successors, Mode::Prompt, candidates, &mut spread) {
            *prompt.entry(name).or_default() += count;
        }
    }
    let ordered: Vec<_> = shortage
        .orders
        .iter()
        .map(|order| {
            let fits = |one: &&Candidate<'_>| {
                order.shape.is_none_or(|shape| Capacity::of(one.offering).shape() == shape)
                    && one.job_price() <= order.limit
            };
            let offered: Vec<Candidate<'_>> = candidates.iter().filter(fits).cloned().collect();
            let launches = provision::cover(order.shortage, order.mode, &offered, &mut spread);
            (launches, order.reason.clone())
        })
        .collect();
    match missing {
        missing if missing <= 0.0 && ordered.iter().all(|(launches, _)| launches.is_empty()) => {
            notes.push(Note::Enough { wanted: shortage.want.prompt, have: shortage.staying });
        }
        missing if prompt.is_empty() && missing > 0.0 => {
            notes.push(Note::NothingAvailable { shortage: missing });
        }
        _ => {}
    }
    let reason = reason(shortage, bridging.then_some(refused));
    let mut room = scaling.max.saturating_sub(u32::try_from(instances.len()).unwrap_or(u32::MAX));
    let mut steps = Vec::new();
    for (launches, reason) in std::iter::once((prompt, reason)).chain(ordered) {
        for (offering, count) in within(launches, scaling, (&mut room, allowance), notes) {
            let (pool, reason) = (context.name.clone(), reason.clone());
            steps.push(Step::Launch { pool, offering, count, reason });
        }
    }
    steps
}

/// What of `launches` the pool's `room` and the allowance permit, one of each offering in turn, so that a bound
/// does not undo the spread.
fn within(
    mut launches: BTreeMap<OfferingName, u32>,
    scaling: &Scaling,
    (room, allowance): (&mut u32, &mut Allowance),
    notes: &mut Vec<Note>,
) -> BTreeMap<OfferingName, u32> {
    let wanted: u32 = launches.values().sum();
    let mut taken: BTreeMap<OfferingName, u32> = BTreeMap::new();
    let mut total = 0;
    while launches.values().any(|left| *left > 0) {
        for (offering, left) in launches.iter_mut().filter(|(_, left)| **left > 0) {
            if *room == 0 {
                notes.push(Note::NoRoom(NoRoom::Launches { wanted, allowed: total }));
                return taken;
            }
            if let (0, cap) = allowance.take(1, provision::price_of(scaling, offering)) {
                notes.extend(cap.map(|cap| Note::Capped { cap, wanted, allowed: total }));
                return taken;
            }
            *left -= 1;
            *room -= 1;
            total += 1;
            *taken.entry(offering.clone()).or_default() += 1;
        }
    }
    taken
}

fn reason(shortage: &Shortage<'_>, refused: Option<u32>) -> LaunchReason {
    let wanted = shortage.want.prompt;
    if let Some(refused) = refused {
        LaunchReason::Bridge { refused }
    } else if shortage.want.for_backlog {
        LaunchReason::Backlog { waiting: shortage.waiting, wanted }
    } else if f64::from(wanted) > shortage.staying && shortage.leaving == 0 {
        LaunchReason::Load { wanted, have: shortage.staying }
    } else if shortage.marked > 0.0 || shortage.leaving > 0 {
        let marked = ceil(shortage.marked);
        let leaving = u32::try_from(shortage.leaving).unwrap_or(u32::MAX);
        LaunchReason::Replacement { of: marked.saturating_add(leaving) }
    } else {
        LaunchReason::Load { wanted, have: shortage.staying }
    }
}

/// Workers beyond what is wanted, against the losses that are expected while a replacement boots.
pub(crate) fn spares(
    memory: &PoolMemory,
    counts: &BTreeMap<OfferingName, u32>,
    policy: &PoolPolicy,
) -> u32 {
    let boot = memory.boot.or(policy.scaling.boot).as_secs_f64() / 3600.0;
    let lost = |(name, count): (&OfferingName, &u32)| {
        let risk = memory.risks.get(name).copied().unwrap_or_default();
        let offering = policy.scaling.offerings.get(name);
        let spot = offering.is_some_and(|offering| offering.capacity == CapacityType::Spot);
        if spot { f64::from(*count) * risk.losses_per_hour() * boot } else { 0.0 }
    };
    spot::spares(counts.iter().map(lost).sum())
}
