//! Workers beyond what is wanted: launches that are not ready yet are called off, the latest first; then idle
//! workers go, the dearest first and of equals those whose models are warm elsewhere, once their minimum bill is
//! used up. When none is idle for long, a busy one is named that can go.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use crate::fleet::number::ceil;
use crate::fleet::report::{Note, RemoveReason};
use crate::fleet::roster::{Member, Roster};
use crate::fleet::snapshot::InstanceState;
use crate::ids::ModelName;
use crate::time::Timestamp;

/// EC2 bills at least this much of an instance.
const LEAST_BILL: Duration = Duration::from_mins(1);

/// How much is there, and how much of it is wanted, in workers of speed 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Balance {
    pub(crate) wanted: f64,
    pub(crate) have: f64,
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
    balance: Balance,
    now: Timestamp,
) -> Removals {
    let mut removed = called_off(roster, gone, balance);
    // Only what is ready can be given up for something that is ready.
    let booting: f64 = booting(roster, gone).map(|(_, member)| member.speed()).sum();
    let mut have = balance.have - booting;
    let mut warmth = Warmth::of(roster, gone);
    let (mut idle, busy): (Vec<Place<'_>>, Vec<Place<'_>>) = roster
        .staying(gone)
        .filter(|(_, member)| member.instance.works())
        .partition(|(_, member)| member.idle_since().is_some());
    idle.sort_by(|(_, a), (_, b)| {
        let by_price = b.unit_price().total_cmp(&a.unit_price());
        by_price.then(a.idle_since().cmp(&b.idle_since()))
    });
    let mut paid = 0;
    for alike in idle.chunk_by(|(_, a), (_, b)| a.unit_price().total_cmp(&b.unit_price()).is_eq()) {
        // Of equals, the last one that has a model in its memory stays the longest.
        let mut last = Vec::new();
        for place in alike {
            let (at, member) = place;
            if have - member.speed() < balance.wanted - 1e-9 {
                continue;
            }
            if member.age(now) < LEAST_BILL {
                paid += 1;
            } else if warmth.is_last(member) {
                last.push(place);
            } else {
                removed.push((*at, RemoveReason::Empty { wanted: ceil(balance.wanted), have }));
                have -= member.speed();
                warmth.remove(member);
            }
        }
        for (at, member) in last {
            if have - member.speed() >= balance.wanted - 1e-9 {
                removed.push((*at, RemoveReason::Empty { wanted: ceil(balance.wanted), have }));
                have -= member.speed();
                warmth.remove(member);
            }
        }
    }
    let surplus = have - balance.wanted;
    let busy_ones = ceil(surplus - f64::from(paid));
    let note = (surplus >= 1.0).then_some(Note::Surplus { busy: busy_ones, paid });
    // One that was just paid for will be idle or not wanted soon enough.
    let spare = if paid == 0 { spare(&busy, &warmth, surplus, now) } else { None };
    Removals { terminate: removed, spare, have, note }
}

type Place<'a> = (usize, &'a Member<'a>);

/// The busy worker whose loss costs least: the dearest, then the one with the fewest jobs to finish, then one
/// whose models are warm elsewhere.
fn spare(busy: &[Place<'_>], warmth: &Warmth<'_>, surplus: f64, now: Timestamp) -> Option<usize> {
    let fits = |(_, member): &&Place<'_>| {
        member.speed() <= surplus + 1e-9 && member.age(now) >= LEAST_BILL
    };
    let best = busy.iter().filter(fits).min_by(|(_, a), (_, b)| {
        let by_price = b.unit_price().total_cmp(&a.unit_price());
        let by_work = a.instance.running().cmp(&b.instance.running());
        by_price.then(by_work).then(warmth.is_last(a).cmp(&warmth.is_last(b)))
    });
    best.map(|(at, _)| *at)
}

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
/// place when it is ready.
fn called_off(roster: &Roster<'_>, gone: &[usize], balance: Balance) -> Vec<(usize, RemoveReason)> {
    let ready = roster.staying(gone).filter(|(_, member)| member.instance.works());
    let dearest = ready.map(|(_, member)| member.unit_price()).fold(0.0, f64::max);
    let mut boots: Vec<(usize, &Member<'_>)> =
        booting(roster, gone).filter(|(_, member)| member.unit_price() >= dearest).collect();
    boots.sort_by_key(|(_, member)| Reverse(member.instance.launched_at));
    let (mut removed, mut have) = (Vec::new(), balance.have);
    for (at, member) in boots {
        if have - member.speed() >= balance.wanted - 1e-9 {
            removed.push((at, RemoveReason::CalledOff { wanted: ceil(balance.wanted), have }));
            have -= member.speed();
        }
    }
    removed
}
