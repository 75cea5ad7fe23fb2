//! Workers beyond what is wanted: launches that are not ready yet are called off, the latest first; then idle
//! workers go, the dearest first and of equals those whose models are warm elsewhere, once their minimum bill is
//! used up. When none is idle for long, a busy one is named that can go.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use crate::fleet::capacity::{Capacity, Need};
use crate::fleet::demand::Demand;
use crate::fleet::number::ceil;
use crate::fleet::report::{Note, RemoveReason};
use crate::fleet::roster::{Member, Roster};
use crate::fleet::sizing::{Census, Keep};
use crate::fleet::snapshot::InstanceState;
use crate::fleet::spec::DisruptionReason;
use crate::ids::ModelName;
use crate::time::Timestamp;

use super::budget::Budgets;

/// EC2 bills at least this much of an instance.
pub(crate) const LEAST_BILL: Duration = Duration::from_mins(1);

/// How much is there, how much of it is needed, and which sizes are to stay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Balance<'a> {
    pub(crate) need: Need,
    pub(crate) have: Capacity,
    pub(crate) keep: &'a Keep,
    /// What is known of run times.
    pub(crate) demand: &'a Demand,
}

/// What may go.
#[derive(Debug, Default)]
pub(crate) struct Removals {
    /// Positions to terminate, with reasons.
    pub(crate) terminate: Vec<(usize, RemoveReason)>,
    /// Position of the busy worker that is to go if there are too many for long.
    pub(crate) spare: Option<usize>,
    /// Ready workers that are left.
    pub(crate) have: f64,
    pub(crate) note: Option<Note>,
}

/// Looks at members that neither leave nor stand in `gone`.
pub(crate) fn removals(
    roster: &Roster<'_>,
    gone: &[usize],
    (balance, budgets): (Balance<'_>, &mut Budgets<'_>),
    now: Timestamp,
) -> Removals {
    let mut removed = called_off(roster, gone, balance);
    // Only what is ready can be given up for something that is ready.
    let booting = booting(roster, gone).map(|(_, member)| member.capacity()).sum();
    let ready = roster.staying(gone).filter(|(_, member)| member.instance.works());
    let mut rest = Rest {
        have: balance.have.minus(booting),
        need: balance.need,
        census: Census::new(balance.keep, ready.map(|(_, member)| member)),
        warmth: Warmth::of(roster, gone),
        demand: balance.demand,
        paid: 0,
    };
    let (mut idle, busy): (Vec<Place<'_>>, Vec<Place<'_>>) = roster
        .staying(gone)
        .filter(|(_, member)| member.instance.works())
        .partition(|(_, member)| member.idle_since().is_some());
    idle.sort_by(|(_, a), (_, b)| {
        let by_price = b.unit_price().total_cmp(&a.unit_price());
        by_price.then(a.idle_since().cmp(&b.idle_since()))
    });
    for alike in idle.chunk_by(|(_, a), (_, b)| a.unit_price().total_cmp(&b.unit_price()).is_eq()) {
        rest.give_up(alike, (&mut removed, budgets), now);
    }
    let surplus = rest.have.prompt - balance.need.prompt;
    let busy_ones = ceil(surplus - f64::from(rest.paid));
    let note = (surplus >= 1.0).then_some(Note::Surplus { busy: busy_ones, paid: rest.paid });
    // One that was just paid for will be idle or not wanted soon enough.
    let spare = if rest.paid == 0 { rest.spare(&busy, now) } else { None };
    Removals { terminate: removed, spare, have: rest.have.prompt, note }
}

/// What is left as one after the other is given up.
#[derive(Debug)]
struct Rest<'a> {
    have: Capacity,
    need: Need,
    census: Census<'a>,
    warmth: Warmth<'a>,
    demand: &'a Demand,
    /// Idle ones whose minimum bill is not used up.
    paid: u32,
}

impl Rest<'_> {
    fn does_without(&self, member: &Member<'_>) -> bool {
        self.have.minus(member.capacity()).covers(self.need)
            && self.census.spares(member.capacity().shape())
    }

    /// Gives up what it can of idle ones that cost the same. The last one that has a model in its memory stays the
    /// longest.
    fn give_up(
        &mut self,
        alike: &[Place<'_>],
        (removed, budgets): (&mut Vec<(usize, RemoveReason)>, &mut Budgets<'_>),
        now: Timestamp,
    ) {
        let mut last = Vec::new();
        for place in alike {
            let (_, member) = place;
            if !self.does_without(member) {
                continue;
            }
            if member.age(now) < LEAST_BILL {
                self.paid += 1;
            } else if self.warmth.is_last(member) {
                last.push(place);
            } else {
                removed.extend(self.remove(*place, budgets));
            }
        }
        for place in last {
            if self.does_without(place.1) {
                removed.extend(self.remove(*place, budgets));
            }
        }
    }

    /// Takes one out, if no budget leaves it alone. One that is left alone is superfluous all the same, so that no busy one
    /// goes in its place.
    fn remove(
        &mut self,
        (at, member): Place<'_>,
        budgets: &mut Budgets<'_>,
    ) -> Option<(usize, RemoveReason)> {
        let reason = RemoveReason::Empty { wanted: ceil(self.need.prompt), have: self.have.prompt };
        self.have = self.have.minus(member.capacity());
        self.census.remove(member.capacity().shape());
        self.warmth.remove(member);
        budgets.take(DisruptionReason::Empty).then_some((at, reason))
    }

    /// The busy worker whose loss costs least: the dearest, then the one with the least work to finish, then one whose
    /// models are warm elsewhere.
    fn spare(&self, busy: &[Place<'_>], now: Timestamp) -> Option<usize> {
        let fits =
            |(_, member): &&Place<'_>| self.does_without(member) && member.age(now) >= LEAST_BILL;
        let best = busy.iter().filter(fits).min_by(|(_, a), (_, b)| {
            let by_price = b.unit_price().total_cmp(&a.unit_price());
            let by_work = a.work_left(self.demand).total_cmp(&b.work_left(self.demand));
            by_price.then(by_work).then(self.warmth.is_last(a).cmp(&self.warmth.is_last(b)))
        });
        best.map(|(at, _)| *at)
    }
}

type Place<'a> = (usize, &'a Member<'a>);

/// How many ready workers have a model in their memory.
#[derive(Debug)]
struct Warmth<'a>(BTreeMap<&'a ModelName, usize>);

impl<'a> Warmth<'a> {
    fn of(roster: &'a Roster<'a>, gone: &[usize]) -> Self {
        let mut holders = BTreeMap::new();
        for (_, member) in roster.staying(gone).filter(|(_, member)| member.instance.works()) {
            for model in &member.instance.warm {
                *holders.entry(model).or_default() += 1;
            }
        }
        Self(holders)
    }

    /// Whether a model is in nobody else's memory.
    fn is_last(&self, member: &Member<'_>) -> bool {
        member.instance.warm.iter().any(|model| self.0.get(model).is_none_or(|count| *count <= 1))
    }

    fn remove(&mut self, member: &Member<'_>) {
        for model in &member.instance.warm {
            if let Some(holders) = self.0.get_mut(model) {
                *holders = holders.saturating_sub(1);
            }
        }
    }
}

fn booting<'a>(
    roster: &'a Roster<'a>,
    gone: &'a [usize],
) -> impl Iterator<Item = (usize, &'a Member<'a>)> {
    let boots = |(_, member): &(usize, &Member<'_>)| {
        matches!(member.instance.state, InstanceState::Booting)
    };
    roster.staying(gone).filter(boots)
}

/// Boots that are not wanted any more. One that is cheaper than a worker at hand is let be: it takes that one's
/// place when it is ready. Where there are several sizes, those that are to stay are let be instead.
fn called_off(
    roster: &Roster<'_>,
    gone: &[usize],
    balance: Balance<'_>,
) -> Vec<(usize, RemoveReason)> {
    let ready = roster.staying(gone).filter(|(_, member)| member.instance.works());
    let dearest = ready.map(|(_, member)| member.unit_price()).fold(0.0, f64::max);
    let sizes = balance.keep.tells();
    let mut boots: Vec<(usize, &Member<'_>)> =
        booting(roster, gone).filter(|(_, m)| sizes || m.unit_price() >= dearest).collect();
    boots.sort_by_key(|(_, member)| Reverse(member.instance.launched_at));
    let mut census = Census::new(balance.keep, roster.staying(gone).map(|(_, member)| member));
    let (mut removed, mut have) = (Vec::new(), balance.have);
    for (at, member) in boots {
        let without = have.minus(member.capacity());
        if without.covers(balance.need) && census.spares(member.capacity().shape()) {
            let wanted = ceil(balance.need.prompt);
            removed.push((at, RemoveReason::CalledOff { wanted, have: have.prompt }));
            have = without;
            census.remove(member.capacity().shape());
        }
    }
    removed
}
